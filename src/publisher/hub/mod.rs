//! The hub of a publisher: its topics, their history, snapshots and watches, under one lock.
//!
//! ```text
//!   records:  [5 a][6 b][6 a][7 c]              which topic's oldest entry leaves next
//!                │    │    │    │
//!      topic a:  5 ◀──┼── 6     │               its own entries, each a place in its chain
//!      topic b:       6         │
//!      topic c:                 7  (loose)      no watch, few entries: no chain
//!
//!   chain of a: ─▶[5]─▶[6]─▶[ ]                 followed by the watches of a, without the lock
//! ```
//!
//! The lock protects the indexes, the records, the topics and the registered watches. What watches read without it
//! is their topics' chains, and an [`Era`]: the index up to which all is linked.
//!
//! # Invariants
//!
//! 1. No user code runs under the lock but the keys' `Hash` and `Eq`, and those before anything has
//!    been changed, or with a panic of theirs caught. What is to be woken, dropped or reported goes
//!    into a [`Garbage`], which is dropped after the lock. Keys are cloned before the lock is
//!    taken.
//! 2. `Era::published` is stored last, under the lock: all commits up to it are linked in all chains that they touch,
//!    and noted in the inboxes of the watches of several keys.
//! 3. Each entry of a topic has one record, in the same order. Entries that were voided have theirs, too: they
//!    are counted by the topic, and come first. So the topic of a record is there.
//! 4. A topic's entries are linked in its chain if it has one, and loose otherwise. Loose ones are few.
//! 5. `left` of the state is the newest index of a commit that has left the history, or that a former process
//!    published. `left` of a topic begins as that, and moves only with entries of its own. So a watcher that has all up
//!    to an index may continue exactly if the index is not less than its topic's `left`, and no mark forbids it.
//! 6. A topic is there as long as it has a watch, a snapshot or a record.
//! 7. Under the lock no loop is longer than [`STEP`] turns, besides those over what the call itself brings, and over the
//!    watches of a key that is voided.
//!
//! Locks are taken in this order: the hub's, then that of a snapshot's parts, of a watch's orders, or of an inbox.

mod arrivals;
mod builds;
mod close;
mod era;
mod garbage;
mod history;
mod publish;
mod subscribe;
mod topic;
mod watches;

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;

use super::commit::{Commits, Entry};
use super::error::CloseReason;
use super::snapshot::Handler;
use super::stats::Stats;
use super::trace::{GivenUpBy, Note, Notes};
use super::update::ResetReason;
use crate::lag_limit::SizeOf;
use crate::sync::{Instant, Mutex};
use crate::unwind::for_each_even_if_one_panics;
use crate::write::buffer::Deferred;
use arrivals::Arrivals;
use garbage::{EachDropped, Garbage, GivenUp, Tables};
use history::History;
use topic::Topic;
use watches::Watches;

pub(super) use era::Era;
pub(super) use publish::{At, Pending};
pub(super) use subscribe::{Registry, Start};
pub(super) use topic::{Early, Progress};

/// A table with room for more is given up when few are left.
const CROWD: usize = 64;

/// How often a publisher that only publishes looks whether snapshots have expired.
const COMMITS_A_SWEEP: u32 = 64;

/// How many entries leave, or watches are looked at, before the lock is released for a moment.
const STEP: usize = 512;

pub(super) struct Hub<K, T> {
    state: Mutex<HubState<K, T>>,
    settings: Settings<K, T>,
}

/// What the builder sets.
pub(super) struct Settings<K, T> {
    pub(super) handler: Option<Handler<K, T>>,
    pub(super) ttl: Duration,
    pub(super) timeout: Option<Duration>,
    pub(super) history: usize,
    pub(super) epoch: u64,
    pub(super) start_at: u64,
}

struct HubState<K, T> {
    era: Arc<Era>,
    /// The last index.
    last: u64,
    /// The greatest index known: published, or of a snapshot.
    known: u64,
    /// See invariant 5.
    left: u64,
    commits: Commits<K, T>,
    history: History,
    topics: Slab<Topic<K, T>>,
    slots: HashMap<K, usize>,
    watches: Watches<K>,
    arrivals: Arrivals<K>,
    /// Kept snapshots, in the order in which they expire.
    expiries: VecDeque<Expiry>,
    /// Commits since the last look at them.
    unswept: u32,
    next_id: u64,
    /// How events are asked for their size, since a watch was limited in bytes.
    size_of: Option<SizeOf<T>>,
    /// Those that count since the publisher was made.
    figures: Stats,
    shut: bool,
}

struct Expiry {
    at: Instant,
    slot: usize,
    /// The snapshot's: another one may stand there by then.
    id: u64,
}

impl<K, T> Hub<K, T> {
    pub(super) fn new(settings: Settings<K, T>) -> Self {
        let start = settings.start_at;
        let state = HubState {
            era: Era::new(settings.epoch, start),
            last: start,
            known: start,
            left: start,
            commits: Commits::new(),
            history: History::new(settings.history),
            topics: Slab::new(),
            slots: HashMap::new(),
            watches: Watches::new(),
            arrivals: Arrivals::new(),
            expiries: VecDeque::new(),
            unswept: 0,
            next_id: 0,
            size_of: None,
            figures: Stats::default(),
            shut: false,
        };
        Self {
            state: Mutex::new(state),
            settings,
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.state.lock().era.epoch
    }

    pub(super) fn index(&self) -> u64 {
        self.state.lock().last
    }

    /// Closes all chains, and with that all watches, cleanly.
    pub(super) fn end(&self) {
        let (mut tables, watches, expiries, arrivals) = {
            let mut state = self.state.lock();
            state.shut = true;
            let era = Arc::clone(&state.era);
            era.end();
            if state.figures.snapshots_in_flight > 0 {
                // They go on without the publisher.
                let topics = state.topics.iter();
                topics.for_each(|(_, topic)| topic.detach_builds());
            }
            let watches = mem::replace(&mut state.watches, Watches::new());
            let expiries = mem::take(&mut state.expiries);
            let arrivals = mem::replace(&mut state.arrivals, Arrivals::new());
            (state.take_tables(), watches, expiries, arrivals)
        };
        drop(expiries);
        let topics = &mut tables.0.0;
        // All are told before events are dropped, which may take its time.
        for_each_even_if_one_panics(topics.iter_mut(), |(_, topic)| topic.end());
        for_each_even_if_one_panics(watches.controls(), |control| control.wake_task());
        drop(arrivals);
    }

    /// Goes on in another epoch: what is known of the state is void.
    pub(super) fn reset(&self, epoch: u64) {
        let reason = CloseReason::StateReset { epoch };
        self.close_everything((reason, GivenUpBy::StateReset), |state, notes| {
            let former = state.era.epoch;
            notes.add(epoch, Note::Epoch { former });
            state.era = Era::new(epoch, 0);
            state.last = 0;
            state.known = 0;
            state.left = 0;
        });
    }

    pub(super) fn shutdown(&self) {
        let reason = CloseReason::ShutDown;
        self.close_everything((reason, GivenUpBy::ShutDown), |state, notes| {
            if !mem::replace(&mut state.shut, true) {
                notes.add(state.era.epoch, Note::ShutDown);
            }
        });
    }

    /// Closes all watches and forgets all topics, in one step with the change.
    fn close_everything(
        &self,
        (reason, given_up_by): (CloseReason, GivenUpBy),
        change: impl FnOnce(&mut HubState<K, T>, &mut Notes),
    ) {
        let mut notes = Notes::new();
        let (mut tables, watches, expiries, history, epoch) = {
            let mut state = self.state.lock();
            change(&mut state, &mut notes);
            let watches = mem::replace(&mut state.watches, Watches::new());
            let arrivals = state
                .shut
                .then(|| mem::replace(&mut state.arrivals, Arrivals::new()));
            let limit = state.history.limit();
            let history = mem::replace(&mut state.history, History::new(limit));
            let expiries = mem::take(&mut state.expiries);
            let tables = state.take_tables();
            state.count_given_up();
            let epoch = state.era.epoch;
            (tables, watches, expiries, (history, arrivals), epoch)
        };
        drop((expiries, history));
        let builds: Vec<_> = { tables.0.0.iter_mut() }
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
        close::finish(ordered, EachDropped(builds));
    }
}

impl<K: Hash + Eq, T> Hub<K, T> {
    pub(super) fn stats(&self) -> Stats {
        let swept;
        let mut state = self.state.lock();
        swept = state.sweep();
        let mut figures = state.figures.clone();
        figures.keys = state.topics.len();
        figures.subscriptions = state.watches.len();
        figures.retained_items = state.history.commits();
        drop(state);
        drop(swept);
        figures
    }
}

impl<K, T> HubState<K, T> {
    fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn take_tables(&mut self) -> Tables<K, T> {
        let topics = EachDropped(mem::take(&mut self.topics));
        (topics, EachDropped(mem::take(&mut self.slots)))
    }

    /// All topics go: those of their snapshots that are kept or in flight count no more.
    fn count_given_up(&mut self) {
        self.figures.snapshots_given_up += self.figures.snapshots_in_flight as u64;
        self.figures.snapshots_in_flight = 0;
        self.figures.cached_snapshots = 0;
    }

    /// A watch that had all up to `index` begins anew.
    fn count_reset(&mut self, reason: ResetReason, index: u64, garbage: &mut Garbage<K, T>) {
        let published = self.last;
        let note = Note::Reset {
            reason,
            index,
            published,
        };
        garbage.notes.add(self.era.epoch, note);
        let resets = &mut self.figures.resets;
        *match reason {
            ResetReason::TooOld => &mut resets.too_old,
            ResetReason::Ahead => &mut resets.ahead,
            ResetReason::OtherEpoch => &mut resets.other_epoch,
            ResetReason::Lagged => &mut resets.lagged,
            ResetReason::Refreshed => &mut resets.refreshed,
        } += 1;
    }
}

impl<K: Hash + Eq, T> HubState<K, T> {
    /// As [`sweep`](Self::sweep), every so many commits: to ask for the time may cost more than all
    /// the rest.
    #[inline]
    fn sweep_seldom(&mut self) -> Option<Box<Garbage<K, T>>> {
        if self.expiries.is_empty() {
            return None;
        }
        self.unswept += 1;
        if self.unswept < COMMITS_A_SWEEP {
            return None;
        }
        self.unswept = 0;
        self.sweep()
    }

    /// Forgets the snapshots whose time is over. The result is to be dropped after the lock.
    fn sweep(&mut self) -> Option<Box<Garbage<K, T>>> {
        let first = self.expiries.front();
        let any = first.is_some_and(|first| first.at <= Instant::now());
        any.then(|| Box::new(self.sweep_now()))
    }
}

impl<K, T> HubState<K, T> {
    /// Removes the topic if nothing needs it.
    fn remove_if_idle(&mut self, slot: usize, garbage: &mut Garbage<K, T>)
    where
        K: Hash + Eq,
    {
        let Some(topic) = self.topics.get_mut(slot) else {
            return;
        };
        if let Some(live) = topic.unlink() {
            garbage.pile().lives.0.push(live);
        }
        if !topic.is_idle() {
            return;
        }
        // The key is user code. If it panics the topic stays: this may be a drop, and what is left over must not be
        // dropped here.
        let key = AssertUnwindSafe(|| self.slots.remove_entry(&self.topics[slot].key));
        match catch_unwind(key) {
            Ok(key) => {
                let pile = garbage.pile();
                pile.keys.0.extend(key.map(|(key, _)| key));
                pile.topics.0.push(self.topics.remove(slot));
                // Many that were there once do not keep their memory for ever.
                if self.topics.is_empty() && self.topics.capacity() > CROWD {
                    pile.tables = Some(self.take_tables());
                }
            }
            Err(panic) => garbage.pile().panics.push(panic),
        }
    }
}

/// Wakes all, even if a waker panics, before anything is dropped.
fn wake_all<K, T>(deferred: &EachDropped<Vec<Deferred<Entry<K, T>>>>) {
    for_each_even_if_one_panics(deferred.0.iter(), Deferred::wake);
}
