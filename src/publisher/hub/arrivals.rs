//! The tasks that wait until a key has a watch.

use std::collections::HashMap;
use std::hash::Hash;

use super::once::{Awaited, Once};
use crate::sync::TrackedArc;

/// What tasks wait for, by key. An entry is removed when its key gets a watch, or with the last
/// task that waits for it.
pub(super) struct Arrivals<K>(pub(super) HashMap<K, Awaited>);

impl<K> Arrivals<K> {
    pub(super) fn new() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Hash + Eq> Arrivals<K> {
    /// Removes what tasks wait for, since the key has a watch now. After the lock the result must
    /// be announced, and its key dropped (invariant 1).
    #[inline]
    pub(super) fn take(&mut self, key: &K) -> Option<(K, TrackedArc<Once>)> {
        if self.0.is_empty() {
            return None;
        }
        let (key, arrival) = self.0.remove_entry(key)?;
        Some((key, arrival.into_once()))
    }
}
