//! The state of a hub, which is under its lock.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;

use super::super::commit::Commits;
use super::super::snapshot::Handler;
use super::super::stats::Stats;
use super::arrivals::Arrivals;
use super::era::Era;
use super::garbage::{EachDropped, Tables};
use super::history::History;
use super::indexes::Indexes;
use super::topic::Topic;
use super::watches::Watches;
use crate::lag_limit::SizeOf;
use crate::sync::{Instant, Mutex};

pub(in super::super) struct Hub<K, T> {
    pub(super) state: Mutex<HubState<K, T>>,
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

    pub(in super::super) fn epoch(&self) -> u64 {
        self.state.lock().era.epoch
    }

    pub(in super::super) fn index(&self) -> u64 {
        self.state.lock().indexes.last()
    }
}

impl<K, T> HubState<K, T> {
    pub(super) fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(super) fn take_tables(&mut self) -> Tables<K, T> {
        Tables {
            topics: EachDropped(mem::take(&mut self.topics)),
            _slots: EachDropped(mem::take(&mut self.slots)),
        }
    }
}
