//! The state of a hub, which is under its lock.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;

use super::after_lock::{AfterLock, Removed};
use super::arrivals::Arrivals;
use super::history::History;
use super::indexes::Indexes;
use super::milestones::Milestones;
use super::topic::Topic;
use super::watches::Watches;
use crate::lag_limit::SizeOf;
use crate::publisher::report::stats::Stats;
use crate::publisher::snapshot::build::Handler;
use crate::publisher::watch::commit::Commits;
use crate::publisher::watch::era::Era;
use crate::sync::{Instant, Mutex, MutexGuard};

pub(in super::super) struct Hub<K, T> {
    state: Mutex<HubState<K, T>>,
    pub(super) settings: Settings<K, T>,
}

/// What the builder sets.
pub(in super::super) struct Settings<K, T> {
    pub(in super::super) handler: Option<Handler<K, T>>,
    pub(in super::super) ttl: Duration,
    pub(in super::super) timeout: Option<Duration>,
    pub(in super::super) history: usize,
    pub(in super::super) epoch: u64,
    pub(in super::super) start_at: u64,
}

pub(super) struct HubState<K, T> {
    pub(super) era: Arc<Era>,
    pub(super) indexes: Indexes,
    pub(super) commits: Commits<K, T>,
    pub(super) history: History,
    pub(super) topics: Slab<Topic<K, T>>,
    pub(super) slots: HashMap<K, usize>,
    pub(super) watches: Watches<K>,
    pub(super) arrivals: Arrivals<K>,
    pub(super) milestones: Milestones,
    /// Kept snapshots, in the order in which they expire.
    pub(super) expiries: VecDeque<Expiry>,
    /// Commits since the last look for expired snapshots.
    pub(super) unswept: u32,
    pub(super) next_id: u64,
    /// How to measure events, once a watch has been limited in bytes.
    pub(super) size_of: Option<SizeOf<T>>,
    /// The totals. The current figures are added when they are asked for.
    pub(super) figures: Stats,
    pub(super) shut: bool,
}

/// The state while it is locked, and what is to be done after that.
///
/// Dropping this releases the lock first. So nothing that was removed is dropped under the lock
/// (invariant 1), even if the call returns early or a key panics.
pub(super) struct Locked<'a, K, T> {
    // Dropped in this order.
    state: MutexGuard<'a, HubState<K, T>>,
    after: AfterLock<K, T>,
}

pub(super) struct Expiry {
    pub(super) at: Instant,
    pub(super) slot: usize,
    /// The snapshot's number: by then another one may be kept at `slot`.
    pub(super) id: u64,
}

impl<K, T> Hub<K, T> {
    pub(in super::super) fn new(settings: Settings<K, T>) -> Self {
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
            milestones: Milestones::new(),
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

    /// Takes the lock.
    #[inline]
    pub(super) fn lock(&self) -> Locked<'_, K, T> {
        Locked {
            state: self.state.lock(),
            after: AfterLock::new(),
        }
    }

    pub(in super::super) fn epoch(&self) -> u64 {
        self.lock().era.epoch
    }

    pub(in super::super) fn index(&self) -> u64 {
        self.lock().indexes.last()
    }
}

impl<K, T> HubState<K, T> {
    pub(super) fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Returns the topic of a key that has none, and makes it from clones of the key. Without user
    /// code, since a key's `Hash` and `Eq` come first.
    pub(super) fn make_topic(&mut self, (own, in_map): (K, K), after: &mut AfterLock<K, T>) -> usize
    where
        K: Hash + Eq,
    {
        if let Some(slot) = self.slots.get(&in_map) {
            after.removed.extend([own, in_map].map(Removed::Key));
            return *slot;
        }
        let (topics, left) = (&mut self.topics, self.indexes.left());
        // Nothing can fail any more once the entry has hashed its key: it has room.
        *{ self.slots.entry(in_map) }.or_insert_with(|| topics.insert(Topic::new(own, left)))
    }
}

impl<K, T> Deref for Locked<'_, K, T> {
    type Target = HubState<K, T>;

    #[inline]
    fn deref(&self) -> &HubState<K, T> {
        &self.state
    }
}

impl<K, T> Locked<'_, K, T> {
    #[inline]
    pub(super) fn parts(&mut self) -> (&mut HubState<K, T>, &mut AfterLock<K, T>) {
        (&mut self.state, &mut self.after)
    }

    /// Releases the lock, and returns what is to be done then.
    #[inline]
    pub(super) fn unlock(self) -> AfterLock<K, T> {
        let Self { state, after } = self;
        drop(state);
        after
    }
}
