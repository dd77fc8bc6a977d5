//! Waiting until a key has a watch.

use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::Arc;

use super::arrivals::Arrival;
use super::state::Hub;

/// A task that waits. Dropping it removes the entry of its key, if no other task waits for it.
struct Waiting<'a, K: Hash + Eq, T> {
    hub: &'a Hub<K, T>,
    key: K,
    arrival: Arc<Arrival>,
}

impl<K: Hash + Eq, T> Drop for Waiting<'_, K, T> {
    fn drop(&mut self) {
        let mut state = self.hub.state.lock();
        let is_ours = |known: &Arc<Arrival>| Arc::ptr_eq(known, &self.arrival);
        // The map holds one reference, and each waiting task another.
        let is_last = Arc::strong_count(&self.arrival) == 2;
        let removed = if is_last && state.arrivals.0.get(&self.key).is_some_and(is_ours) {
            state.arrivals.0.remove_entry(&self.key)
        } else {
            None
        };
        drop(state);
        drop(removed);
    }
}

impl<K, T> Hub<K, T>
where
    K: Hash + Eq,
{
    /// Returns a future that completes when the key has a watch, or when no watch can come any
    /// more. Returns `None` if that is the case already.
    pub(in super::super) fn watched<Q>(&self, key: &Q) -> Option<impl Future<Output = ()>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        if self.watchers(key) > 0 {
            return None;
        }
        // Cloned before the lock is taken (invariant 1).
        let (own, in_map) = (key.to_owned(), key.to_owned());
        let mut state = self.state.lock();
        let slot = state.slots.get(key).copied();
        let live = slot.and_then(|slot| state.topics[slot].live());
        if state.shut || live.is_some_and(|live| !live.watches.is_empty()) {
            drop(state);
            return None;
        }
        let known = state.arrivals.0.get(key).map(Arc::clone);
        let (arrival, unused) = match known {
            Some(known) => (known, Some(in_map)),
            None => (
                Arc::clone(state.arrivals.0.entry(in_map).or_default()),
                None,
            ),
        };
        let waiting = Waiting {
            hub: self,
            key: own,
            arrival,
        };
        drop(state);
        drop(unused);
        Some(async move { waiting.arrival.wait().await })
    }
}
