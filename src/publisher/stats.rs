//! Figures about a publisher.

use std::sync::Arc;

/// Figures about a [`Publisher`](super::Publisher), returned by [`stats`](super::Publisher::stats).
///
/// All of one moment. Those of what is there now come first; the others count since the publisher was made.
///
/// ```
/// use event_buffer::publisher::{Publisher, Request};
///
/// let publisher = Publisher::builder().history(10).build();
/// let watches = ["a", "a", "b"].map(|key| publisher.subscribe(Request::new(key)));
/// publisher.publish(1, [("a", 1), ("b", 2)])?;
/// let stats = publisher.stats();
/// assert_eq!((stats.keys, stats.subscriptions, stats.retained_items), (2, 3, 1));
/// assert_eq!((stats.commits, stats.events), (1, 2));
/// # drop(watches);
/// # Ok::<(), event_buffer::publisher::PublishError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Keys of which anything is kept: those watched, cached, or in the history.
    pub keys: usize,
    /// Watches that have not been dropped or closed, and have not reported their end.
    pub subscriptions: usize,
    /// Commits that the history retains.
    pub retained_items: usize,
    /// Finished snapshots that are kept.
    pub cached_snapshots: usize,
    /// Snapshots that are being made.
    pub snapshots_in_flight: usize,
    /// Commits that were published, those without events included.
    pub commits: u64,
    /// Events that were published.
    pub events: u64,
    /// Commits that have left the history.
    pub evictions: u64,
    /// Watches that began anew, by reason.
    pub resets: Resets,
    /// Snapshots that were begun. Each of them is finished, failed, given up, or in flight.
    pub snapshots_begun: u64,
    /// Snapshots that were finished.
    pub snapshots_finished: u64,
    /// Snapshots whose handler failed or panicked, or that were outdated.
    pub snapshots_failed: u64,
    /// Snapshots that were given up: by time limit, or as no watch waited any more.
    pub snapshots_given_up: u64,
}

/// How many watches began anew, by [reason](super::ResetReason).
///
/// ```
/// use event_buffer::publisher::{Publisher, Request, Resume};
///
/// let publisher = Publisher::<&str, u32>::builder().epoch(1).build();
/// let watch = publisher.subscribe(Request::new("key").after(Resume { epoch: 0, index: 7 }));
/// assert_eq!(publisher.stats().resets.other_epoch, 1);
/// # drop(watch);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resets {
    /// [`ResetReason::TooOld`](super::ResetReason::TooOld).
    pub too_old: u64,
    /// [`ResetReason::Ahead`](super::ResetReason::Ahead).
    pub ahead: u64,
    /// [`ResetReason::OtherEpoch`](super::ResetReason::OtherEpoch).
    pub other_epoch: u64,
    /// [`ResetReason::Lagged`](super::ResetReason::Lagged).
    pub lagged: u64,
    /// [`ResetReason::Refreshed`](super::ResetReason::Refreshed).
    pub refreshed: u64,
}

/// A watch that is far behind, returned by [`Publisher::slowest`](super::Publisher::slowest).
///
/// ```
/// use event_buffer::publisher::{Publisher, Request};
///
/// let publisher = Publisher::builder().build();
/// let watch = publisher.subscribe(Request::new("key").token("alice"));
/// for index in 1..=1_000 {
///     publisher.publish(index, [("key", "event")])?;
/// }
/// for slow in publisher.slowest(10).iter().filter(|slow| slow.lag > 100) {
///     slow.tokens.iter().for_each(|token| publisher.close_token(token));
/// }
/// assert_eq!(publisher.stats().subscriptions, 0);
/// # drop(watch);
/// # Ok::<(), event_buffer::publisher::PublishError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Slowest<K> {
    /// The keys that it watches.
    pub keys: Vec<K>,
    /// The tokens that it carries.
    pub tokens: Vec<Arc<str>>,
    /// How many commits to its keys it has not received, one that touches several of them counted for each. Parts of
    /// a snapshot do not count.
    pub lag: u64,
}
