//! The end of everything at once: of the publisher, of its epoch, or of all watches.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use super::super::error::CloseReason;
use super::super::trace::{GivenUpBy, Note, Notes};
use super::arrivals::Arrivals;
use super::era::Era;
use super::garbage::{EachDropped, GivenUp, Tables, finish};
use super::history::History;
use super::indexes::Indexes;
use super::state::{Expiry, Hub, HubState};
use super::watches::Watches;
use crate::unwind::for_each_even_if_one_panics;

/// What the hub has. Its fields are dropped in this order: tasks are woken before events are
/// dropped.
struct Contents<K, T> {
    /// Set if no watch will come any more. Dropping it wakes the tasks that wait for one.
    arrivals: Option<Arrivals<K>>,
    _expiries: VecDeque<Expiry>,
    _history: History,
    watches: Watches<K>,
    tables: Tables<K, T>,
}

impl<K, T> Hub<K, T> {
    /// Ends all chains, and with them all watches, cleanly.
    pub(in super::super) fn end(&self) {
        let mut contents = {
            let mut state = self.state.lock();
            state.shut = true;
            let era = Arc::clone(&state.era);
            era.end();
            if state.figures.snapshots_in_flight > 0 {
                // Their waiting watches keep them running without the publisher.
                let topics = state.topics.iter();
                topics.for_each(|(_, topic)| topic.detach_builds());
            }
            state.take_contents()
        };
        let topics = contents.tables.topics.0.iter_mut();
        // All watches are woken before any event is dropped, since destructors may take long.
        for_each_even_if_one_panics(topics, |(_, topic)| topic.end());
        for_each_even_if_one_panics(contents.watches.controls(), |control| control.wake_task());
        drop(contents);
    }

    /// Starts another epoch, which voids all that is known of the state.
    pub(in super::super) fn reset(&self, epoch: u64) {
        let reason = CloseReason::StateReset { epoch };
        self.close_everything((reason, GivenUpBy::StateReset), |state, notes| {
            let former = state.era.epoch;
            notes.add(epoch, Note::Epoch { former });
            state.era = Era::new(epoch, 0);
            state.indexes = Indexes::new(0);
        });
    }

    pub(in super::super) fn shutdown(&self) {
        let reason = CloseReason::ShutDown;
        self.close_everything((reason, GivenUpBy::ShutDown), |state, notes| {
            if !mem::replace(&mut state.shut, true) {
                notes.add(state.era.epoch, Note::ShutDown);
            }
        });
    }

    /// Closes all watches and removes all topics, in one step with `change`.
    fn close_everything(
        &self,
        (reason, given_up_by): (CloseReason, GivenUpBy),
        change: impl FnOnce(&mut HubState<K, T>, &mut Notes),
    ) {
        let mut notes = Notes::new();
        let (contents, epoch) = {
            let mut state = self.state.lock();
            change(&mut state, &mut notes);
            let contents = state.take_contents();
            state.count_given_up();
            (contents, state.era.epoch)
        };
        let Contents {
            arrivals,
            watches,
            mut tables,
            ..
        } = contents;
        drop(arrivals);
        let builds: Vec<_> = { tables.topics.0.iter_mut() }
            .filter_map(|(_, topic)| topic.live_mut())
            .flat_map(|live| live.builds.drain(..))
            .map(|build| {
                let (snapshot, reason) = (build.id, given_up_by);
                notes.add(epoch, Note::GivenUp { snapshot, reason });
                GivenUp(build)
            })
            .collect();
        let ordered = watches.end_all(reason);
        let watches = ordered.len();
        notes.add(epoch, Note::Closed { reason, watches });
        finish(ordered, EachDropped(builds));
    }
}

impl<K, T> HubState<K, T> {
    /// Takes out everything but the indexes and the figures. The result must be dropped after the
    /// lock (invariant 1).
    fn take_contents(&mut self) -> Contents<K, T> {
        let history = History::new(self.history.limit());
        let arrivals = { self.shut }.then(|| mem::replace(&mut self.arrivals, Arrivals::new()));
        Contents {
            arrivals,
            _expiries: mem::take(&mut self.expiries),
            _history: mem::replace(&mut self.history, history),
            watches: mem::replace(&mut self.watches, Watches::new()),
            tables: self.take_tables(),
        }
    }

    /// Counts the snapshots of all topics as given up or gone, since all topics are removed.
    fn count_given_up(&mut self) {
        self.figures.snapshots_given_up += self.figures.snapshots_in_flight as u64;
        self.figures.snapshots_in_flight = 0;
        self.figures.cached_snapshots = 0;
    }
}
