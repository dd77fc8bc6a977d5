//! The end of everything at once: of the publisher, of its epoch, or of all watches.

use std::collections::HashMap;
use std::mem;

use slab::Slab;

use super::after_lock::{AfterLock, Removed, WakeUp};
use super::arrivals::Arrivals;
use super::history::History;
use super::indexes::Indexes;
use super::milestones::Milestones;
use super::state::{Hub, HubState};
use super::topic::Topic;
use super::watches::Watches;
use crate::publisher::report::error::CloseReason;
use crate::publisher::report::trace::{GivenUpBy, Note};
use crate::publisher::watch::era::Era;

/// What the hub has of its topics and watches.
struct Contents<K, T> {
    topics: Slab<Topic<K, T>>,
    slots: HashMap<K, usize>,
    watches: Watches<K>,
    /// The tasks that wait for a watch, if none will come any more.
    arrivals: Arrivals<K>,
    /// The tasks that wait for an index, which will not be published any more.
    milestones: Milestones,
}

impl<K, T> Hub<K, T> {
    /// Ends all chains, and with them all watches, cleanly.
    pub(in super::super) fn end(&self) {
        let mut locked = self.lock();
        let (state, _) = locked.parts();
        state.shut = true;
        state.era.end();
        if state.figures.snapshots_in_flight > 0 {
            // Their waiting watches keep them running without the publisher.
            let topics = state.topics.iter();
            topics.for_each(|(_, topic)| topic.detach_builds());
        }
        let contents = state.take_contents();
        let mut after = locked.unlock();
        let (topics, watches) = contents.remove_rest(&mut after);
        after.wakeups.push(WakeUp::Topics(topics));
        after.wakeups.push(WakeUp::Watches(watches));
    }

    /// Starts another epoch, which voids all that is known of the state.
    pub(in super::super) fn reset(&self, epoch: u64) {
        let reason = CloseReason::StateReset { epoch };
        self.close_everything((reason, GivenUpBy::StateReset), |state, after| {
            let former = state.era.epoch;
            after.notes.add(epoch, Note::Epoch { former });
            state.era = Era::new(epoch, 0);
            state.indexes = Indexes::new(0);
        });
    }

    pub(in super::super) fn shutdown(&self) {
        let reason = CloseReason::ShutDown;
        self.close_everything((reason, GivenUpBy::ShutDown), |state, after| {
            if !mem::replace(&mut state.shut, true) {
                after.notes.add(state.era.epoch, Note::ShutDown);
            }
        });
    }

    /// Closes all watches and removes all topics, in one step with `change`.
    fn close_everything(
        &self,
        (reason, given_up_by): (CloseReason, GivenUpBy),
        change: impl FnOnce(&mut HubState<K, T>, &mut AfterLock<K, T>),
    ) {
        let mut locked = self.lock();
        let (state, after) = locked.parts();
        change(state, after);
        let contents = state.take_contents();
        state.count_given_up();
        let epoch = state.era.epoch;
        let mut after = locked.unlock();
        let (mut topics, watches) = contents.remove_rest(&mut after);
        for live in topics.iter_mut().filter_map(|(_, topic)| topic.live_mut()) {
            for build in live.builds.drain(..) {
                let (snapshot, reason) = (build.id, given_up_by);
                after.notes.add(epoch, Note::GivenUp { snapshot, reason });
                after.give_up(build);
            }
        }
        let ordered = watches.end_all(reason);
        let watches = ordered.len();
        after.notes.add(epoch, Note::Closed { reason, watches });
        after
            .wakeups
            .extend(ordered.into_iter().map(WakeUp::Ordered));
        after.removed.push(Removed::Topics(topics));
    }
}

impl<K, T> HubState<K, T> {
    /// Takes out everything but the indexes and the figures. The result must be dropped after the
    /// lock (invariant 1).
    fn take_contents(&mut self) -> Contents<K, T> {
        self.history = History::new(self.history.limit());
        self.expiries.clear();
        let arrivals = { self.shut }.then(|| mem::replace(&mut self.arrivals, Arrivals::new()));
        Contents {
            topics: mem::take(&mut self.topics),
            slots: mem::take(&mut self.slots),
            watches: mem::replace(&mut self.watches, Watches::new()),
            arrivals: arrivals.unwrap_or_else(Arrivals::new),
            milestones: mem::replace(&mut self.milestones, Milestones::new()),
        }
    }

    /// Counts the snapshots of all topics as given up or gone, since all topics are removed.
    fn count_given_up(&mut self) {
        self.figures.snapshots_given_up += self.figures.snapshots_in_flight as u64;
        self.figures.snapshots_in_flight = 0;
        self.figures.cached_snapshots = 0;
    }
}

impl<K, T> Contents<K, T> {
    /// Moves everything but the topics and the watches to what is to be done now that the lock is
    /// released.
    fn remove_rest(mut self, after: &mut AfterLock<K, T>) -> (Slab<Topic<K, T>>, Watches<K>) {
        // In vectors: a map leaks its other keys if the destructor of one panics.
        let keys = self.slots.into_keys().collect();
        after.removed.push(Removed::Keys(keys));
        let arrivals = self.arrivals.0.into_iter();
        let wakeups = arrivals.map(|(key, arrival)| WakeUp::Arrival(key, arrival.into_once()));
        after.wakeups.extend(wakeups);
        let milestones = self.milestones.take(u64::MAX);
        after.wakeups.extend(milestones.map(WakeUp::Milestone));
        (self.topics, self.watches)
    }
}
