//! Waiting until a key has a watch.

use std::borrow::Borrow;
use std::hash::Hash;

use super::after_lock::Removed;
use super::once::Once;
use super::state::Hub;
use crate::sync::TrackedArc;

/// A task that waits. Dropping it removes the entry of its key, if no other task waits for it.
struct Waiting<'a, K: Hash + Eq, T> {
    hub: &'a Hub<K, T>,
    key: K,
    arrival: TrackedArc<Once>,
}

impl<K: Hash + Eq, T> Drop for Waiting<'_, K, T> {
    fn drop(&mut self) {
        let mut locked = self.hub.lock();
        let (state, after) = locked.parts();
        let known = state.arrivals.0.get_mut(&self.key);
        if known.is_some_and(|known| known.leave(&self.arrival)) {
            let removed = state.arrivals.0.remove_entry(&self.key);
            after
                .removed
                .extend(removed.map(|(key, _)| Removed::Key(key)));
        }
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
        let mut locked = self.lock();
        let (state, after) = locked.parts();
        let slot = state.slots.get(key).copied();
        if state.shut || slot.is_some_and(|slot| state.watchers(slot) > 0) {
            return None;
        }
        let arrival = match state.arrivals.0.get_mut(key) {
            Some(known) => {
                after.removed.push(Removed::Key(in_map));
                known.join()
            }
            None => { state.arrivals.0.entry(in_map) }.or_default().join(),
        };
        let waiting = Waiting {
            hub: self,
            key: own,
            arrival,
        };
        drop(locked);
        Some(async move { waiting.arrival.wait().await })
    }
}
