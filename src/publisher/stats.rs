//! Figures about a publisher.

use std::sync::Arc;

/// Figures about a [`Publisher`](super::Publisher), told by [`stats`](super::Publisher::stats).
///
/// All of one moment, but for what watches have received, which they go on doing.
///
/// ```
/// use event_buffer::{Replay, publisher::{Publisher, Request}};
///
/// let publisher = Publisher::builder().replay(Replay::All).build();
/// let watches = ["a", "a", "b"].map(|key| publisher.subscribe(Request::new(key)));
/// publisher.publish(1, [("a", 1), ("b", 2)])?;
/// let stats = publisher.stats();
/// assert_eq!((stats.keys, stats.subscriptions, stats.retained_items), (2, 3, 2));
/// # drop(watches);
/// # Ok::<(), event_buffer::publisher::PublishError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats<K> {
    /// Keys that have a buffer: those watched, cached, or kept by a replay window.
    pub keys: usize,
    /// Watches that have not been dropped, closed or ended.
    pub subscriptions: usize,
    /// Commits retained for who resumes, by windows or snapshots, of all keys together.
    pub retained_items: usize,
    /// The watch that is furthest behind, also where it is not behind at all. `None` where there is
    /// no watch.
    pub slowest: Option<Slowest<K>>,
    /// Finished snapshots that are kept.
    pub cached_snapshots: usize,
    /// Snapshots that are being made.
    pub snapshots_in_flight: usize,
}

/// The watch that is furthest behind: of the watches of its key, the one that holds the most
/// commits.
///
/// ```
/// use event_buffer::publisher::{Publisher, Request};
///
/// let publisher = Publisher::builder().build();
/// let watch = publisher.subscribe(Request::new("key").token("alice"));
/// for index in 1..=1_000 {
///     publisher.publish(index, [("key", "event")])?;
/// }
/// if let Some(slowest) = publisher.stats().slowest.filter(|slowest| slowest.lag > 100) {
///     slowest.token.iter().for_each(|token| publisher.close_token(token));
/// }
/// assert_eq!(publisher.stats().subscriptions, 0);
/// # drop(watch);
/// # Ok::<(), event_buffer::publisher::PublishError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Slowest<K> {
    /// What it watches.
    pub key: K,
    /// Who watches.
    pub token: Option<Arc<str>>,
    /// How many commits to the key it has not received. Parts of a snapshot do not count.
    pub lag: u64,
}
