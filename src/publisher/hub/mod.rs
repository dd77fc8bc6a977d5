//! The hub of a publisher: its topics, their history, snapshots and watches, under one lock.
//!
//! ```text
//!   records:  [5 a][6 b][6 a][7 c]              whose oldest entry leaves the history next
//!                │    │    │    │
//!      topic a:  5 ◀──┼── 6     │               each entry of a topic is a position in its chain
//!      topic b:       6         │
//!      topic c:                 7  (loose)      no watch and few entries: no chain
//!
//!   chain of a: ─▶[5]─▶[6]─▶[ ]                 the watches of a follow it without the lock
//! ```
//!
//! # The parts
//!
//! * A **topic** is everything that the publisher knows of one key. Its **entries** are what the
//!   history retains of the key: commits, the end of the key, and the mark of a refresh. A topic
//!   with a watch also has a **chain**, an event buffer that its watches read.
//! * A **record** says which topic has an entry, and as of which index. The records of all topics
//!   form one queue, the **history**. The oldest record names the entry that leaves next.
//! * A watch is **registered** once, with its tokens, and has a **seat** in each of its topics: how
//!   far it has read, and which snapshot it waits for.
//! * A **build** is a snapshot that is being made. It is polled by the watches that wait for it,
//!   and reports its outcome to the hub. A **kept** snapshot is a finished one that is cached.
//! * An **[`Era`]** is what watches read without the lock: the index up to which everything is
//!   linked, and whether the publisher has ended. Each epoch has its own.
//! * **[`Garbage`]** is what a call has removed under the lock and drops after it.
//!
//! # The way of a commit
//!
//! A publish hashes the keys and finds their topics. Only then does it change anything. It
//! allocates the commit once and links its parts into the chains of the topics that it touches. It
//! adds a record for each, and notes the keys in the inboxes of watches of several keys. Then it
//! stores the index in the era, removes what has to leave the history, and releases the lock. After
//! the lock come the wakers, then the destructors, then the reports by `tracing`, so that no task
//! waits for a destructor and none for a subscriber.
//!
//! A watch reads the index of the era first and its chains afterwards. By invariant 2 it then finds
//! every commit up to that index, and can take the index itself for its resume point as soon as
//! nothing is left to read.
//!
//! # Invariants
//!
//! 1. **No user code under the lock**, except the keys' `Hash` and `Eq`. Those run before anything
//!    is changed, or with their panics caught. What has to be woken, dropped or reported goes into
//!    [`Garbage`] or a similar local, which is dropped after the lock. Keys are cloned before the
//!    lock is taken.
//! 2. **The index is stored last.** `Era::published` is written under the lock, when all commits up
//!    to it are linked in all the chains that they touch, and noted in the inboxes of the watches
//!    of several keys.
//! 3. **One record for each entry of a topic**, in the same order. Void entries keep their records,
//!    which come first; the topic counts them. So a record always finds its topic.
//! 4. **Entries are linked or loose.** If a topic has a chain, all its entries are linked into it,
//!    except for a mark, which is the first entry. Without a chain they are loose, and few.
//! 5. **What may have been missed.** `left` of the hub is the newest index that has left the
//!    history, or that a former process published. A new topic starts with that as its own `left`,
//!    which then advances only with its own entries. So a watcher that has everything up to an
//!    index may resume exactly if the index is not less than `left` of its topic, and no mark
//!    forbids it.
//! 6. **A topic exists as long as it has a watch, a snapshot or a record.**
//! 7. **The lock is held briefly.** A loop over the history or over all watches takes at most
//!    [`STEP`] turns before the lock is released. Loops over what the call itself brings, over the
//!    watches and entries of one key or token, and over expired snapshots may be longer. The drop
//!    of the last handle visits all topics if snapshots are in flight.
//!
//! # Order of locks
//!
//! The hub's lock comes first. Under it at most one of these is taken: the lock of a snapshot's
//! parts, of a watch's orders, or of an inbox.

mod arrivals;
mod builds;
mod close;
mod era;
mod garbage;
mod history;
mod indexes;
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
use crate::write::deferred::Deferred;
use arrivals::Arrivals;
use garbage::{EachDropped, Garbage, GivenUp, Tables};
use history::History;
use indexes::Indexes;
use topic::Topic;
use watches::Watches;

pub(super) use era::Era;
pub(super) use indexes::At;
pub(super) use publish::Pending;
pub(super) use subscribe::{Registry, WatchStart};
pub(super) use topic::{Early, Progress};

/// A table with more capacity than this is shrunk or freed when few items are left.
const CROWD: usize = 64;

/// The number of commits between two looks for expired snapshots, if nothing else happens.
const COMMITS_A_SWEEP: u32 = 64;

/// The number of entries or watches that are handled before the lock is released (invariant 7).
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
    indexes: Indexes,
    commits: Commits<K, T>,
    history: History,
    topics: Slab<Topic<K, T>>,
    slots: HashMap<K, usize>,
    watches: Watches<K>,
    arrivals: Arrivals<K>,
    /// Kept snapshots, in the order in which they expire.
    expiries: VecDeque<Expiry>,
    /// Commits since the last look for expired snapshots.
    unswept: u32,
    next_id: u64,
    /// How to measure events, once a watch has been limited in bytes.
    size_of: Option<SizeOf<T>>,
    /// The totals. The current figures are added when they are asked for.
    figures: Stats,
    shut: bool,
}

struct Expiry {
    at: Instant,
    slot: usize,
    /// The snapshot's number: by then another one may be kept at `slot`.
    id: u64,
}

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
    pub(super) fn new(settings: Settings<K, T>) -> Self {
        let start = settings.start_at;
        let state = HubState {
            era: Era::new(settings.epoch, start),
            indexes: Indexes::new(start),
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
        self.state.lock().indexes.last()
    }

    /// Ends all chains, and with them all watches, cleanly.
    pub(super) fn end(&self) {
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
    pub(super) fn reset(&self, epoch: u64) {
        let reason = CloseReason::StateReset { epoch };
        self.close_everything((reason, GivenUpBy::StateReset), |state, notes| {
            let former = state.era.epoch;
            notes.add(epoch, Note::Epoch { former });
            state.era = Era::new(epoch, 0);
            state.indexes = Indexes::new(0);
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

    fn take_tables(&mut self) -> Tables<K, T> {
        Tables {
            topics: EachDropped(mem::take(&mut self.topics)),
            _slots: EachDropped(mem::take(&mut self.slots)),
        }
    }

    /// Counts the snapshots of all topics as given up or gone, since all topics are removed.
    fn count_given_up(&mut self) {
        self.figures.snapshots_given_up += self.figures.snapshots_in_flight as u64;
        self.figures.snapshots_in_flight = 0;
        self.figures.cached_snapshots = 0;
    }

    /// Counts and reports the reset of a watch that had everything up to `index`.
    fn count_reset(&mut self, reason: ResetReason, index: u64, garbage: &mut Garbage<K, T>) {
        let published = self.indexes.last();
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
    /// Calls [`sweep`](Self::sweep) now and then: reading the clock may cost more than a whole
    /// publish.
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

    /// Removes expired snapshots. The result must be dropped after the lock (invariant 1).
    fn sweep(&mut self) -> Option<Box<Garbage<K, T>>> {
        let first = self.expiries.front();
        let any = first.is_some_and(|first| first.at <= Instant::now());
        any.then(|| Box::new(self.sweep_now()))
    }
}

impl<K, T> HubState<K, T> {
    /// Removes the topic, or at least its chain, if nothing needs it (invariant 6).
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
        // The key is user code. If it panics the topic stays, and the panic is dropped after the
        // lock: this may be running in a destructor, and the rest of the garbage must not be
        // dropped under the lock.
        let key = AssertUnwindSafe(|| self.slots.remove_entry(&self.topics[slot].key));
        match catch_unwind(key) {
            Ok(key) => {
                let pile = garbage.pile();
                pile.keys.0.extend(key.map(|(key, _)| key));
                pile.topics.0.push(self.topics.remove(slot));
                // The table of many former topics must not keep its memory for ever.
                if self.topics.is_empty() && self.topics.capacity() > CROWD {
                    pile.tables = Some(self.take_tables());
                }
            }
            Err(panic) => garbage.pile().panics.push(panic),
        }
    }
}

/// Wakes all readers before anything is dropped, even if a waker panics.
fn wake_all<K, T>(deferred: &EachDropped<Vec<Deferred<Entry<K, T>>>>) {
    for_each_even_if_one_panics(deferred.0.iter(), Deferred::wake);
}
