//! Waiting until an index has been published.

use super::once::Once;
use super::state::Hub;
use crate::publisher::watch::resume::Resume;
use crate::sync::TrackedArc;

/// A task that waits. Dropping it removes the entry of its index, if no other task waits for it.
struct Waiting<'a, K, T> {
    hub: &'a Hub<K, T>,
    index: u64,
    milestone: TrackedArc<Once>,
}

impl<K, T> Drop for Waiting<'_, K, T> {
    fn drop(&mut self) {
        let mut locked = self.hub.lock();
        let (state, _) = locked.parts();
        state.milestones.leave(self.index, &self.milestone);
    }
}

impl<K, T> Hub<K, T> {
    /// Returns a future that completes when everything up to `place` has been published, or when
    /// that cannot happen any more. Returns `None` if that is the case already.
    pub(in super::super) fn reached(&self, place: Resume) -> Option<impl Future<Output = ()>> {
        let Resume { epoch, index } = place;
        let mut locked = self.lock();
        let (state, _) = locked.parts();
        if state.shut || state.era.epoch != epoch || state.indexes.last() >= index {
            return None;
        }
        let waiting = Waiting {
            hub: self,
            index,
            milestone: state.milestones.at(index),
        };
        drop(locked);
        Some(async move { waiting.milestone.wait().await })
    }
}
