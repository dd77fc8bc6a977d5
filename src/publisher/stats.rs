//! Figures about a publisher.

use std::sync::Arc;

/// Figures about a [`Publisher`](super::Publisher), told by [`stats`](super::Publisher::stats).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats<K> {
    /// Keys that have a buffer: those watched, cached, or kept by a replay window.
    pub keys: usize,
    /// Watches that have not been dropped, closed or ended.
    pub subscriptions: usize,
    /// Commits retained for who resumes, of all keys together.
    pub retained_items: usize,
    /// The watch that is furthest behind.
    pub slowest: Option<Slowest<K>>,
    /// Finished snapshots that are kept.
    pub cached_snapshots: usize,
    /// Snapshots that are being made.
    pub snapshots_in_flight: usize,
}

/// The watch that is furthest behind, which is the one that holds the most memory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Slowest<K> {
    /// What it watches.
    pub key: K,
    /// Who watches.
    pub token: Option<Arc<str>>,
    /// How many commits to the key it has not received.
    pub lag: u64,
}
