//! The tasks that wait until a key has a watch.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release};

use crate::link::{Signal, wait_for};
use crate::sync::AtomicBool;

/// What tasks wait for, by key. An entry is removed when its key gets a watch, or with the last
/// task that waits for it.
pub(super) struct Arrivals<K>(pub(super) HashMap<K, Arc<Arrival>>);

#[derive(Default)]
pub(super) struct Arrival {
    signal: Signal,
    has_come: AtomicBool,
}

impl Arrival {
    /// Wakes all tasks that wait for the key, which is user code.
    pub(super) fn announce(&self) {
        // Release: pairs with the Acquire in `wait`.
        self.has_come.store(true, Release);
        self.signal.notify();
    }

    pub(super) async fn wait(&self) {
        // Acquire: pairs with the Release in `announce`.
        wait_for(&self.signal.when(|| self.has_come.load(Acquire))).await;
    }
}

impl<K> Arrivals<K> {
    pub(super) fn new() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Hash + Eq> Arrivals<K> {
    /// Removes what tasks wait for, since the key has a watch now. After the lock the result must
    /// be announced, and its key dropped (invariant 1).
    #[inline]
    pub(super) fn take(&mut self, key: &K) -> Option<(K, Arc<Arrival>)> {
        if self.0.is_empty() {
            return None;
        }
        self.0.remove_entry(key)
    }
}
