//! The hub as a watch sees it.

use std::sync::Arc;

use super::era::Era;
use super::inbox::Inbox;
use super::track::Track;
use super::update::Begin;
use crate::publisher::report::error::ResetReason;

/// What a watch starts with, or starts over with.
pub(crate) struct WatchStart<K, T> {
    pub(crate) begin: Begin,
    pub(crate) tracks: Vec<Track<K, T>>,
    pub(crate) era: Arc<Era>,
    /// Set unless the watch has exactly one key.
    pub(crate) inbox: Option<Arc<Inbox>>,
}

/// The hub as a watch sees it, without the bounds of its type parameters.
pub(crate) trait Registry<K, T>: Send + Sync {
    /// Removes a watch that was dropped or has ended.
    fn unregister(&self, id: u64);

    /// Starts a watch over, with snapshots that are not older than index `had` and not followed by
    /// more than `limit` commits. Returns `None` if the watch is closed, or if the publisher has
    /// ended.
    fn restart(
        self: Arc<Self>,
        id: u64,
        had: u64,
        limit: u64,
        reason: ResetReason,
    ) -> Option<WatchStart<K, T>>;

    /// Waits until the commit that is being published now has been published.
    fn settle(&self);

    /// Gives up the snapshots of a topic that are past their time limit.
    fn give_up_late(&self, slot: usize);
}
