//! Figures about a publisher.

use std::sync::Arc;

/// Figures about a [`Publisher`](crate::publisher::Publisher), returned by
/// [`stats`](crate::publisher::Publisher::stats).
///
/// The figures are consistent with each other. The first five describe the present; the others are
/// totals since the publisher was made.
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
    /// Keys with a watch, a cached or unfinished snapshot, or an entry in the history.
    pub keys: usize,
    /// Watches that have not been dropped or closed, and have not delivered their end.
    pub subscriptions: usize,
    /// Commits that the history retains.
    pub retained_items: usize,
    /// Finished snapshots in the cache.
    pub cached_snapshots: usize,
    /// Snapshots whose handlers are running.
    pub snapshots_in_flight: usize,
    /// Commits published, including commits without events.
    pub commits: u64,
    /// Events published.
    pub events: u64,
    /// Commits that have left the history.
    pub evictions: u64,
    /// Watches that were reset, by reason.
    pub resets: Resets,
    /// Snapshots started. Each has been finished, has failed, was given up, or is in flight.
    pub snapshots_begun: u64,
    /// Snapshots finished.
    pub snapshots_finished: u64,
    /// Snapshots that failed: the handler failed or panicked, or the snapshot was outdated.
    pub snapshots_failed: u64,
    /// Snapshots given up: after a time limit, because no watch waited any more, or because the key
    /// or the publisher was closed or reset.
    pub snapshots_given_up: u64,
}

/// How many watches were reset, by [reason](crate::publisher::ResetReason).
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
    /// The number of [`ResetReason::TooOld`](crate::publisher::ResetReason::TooOld).
    pub too_old: u64,
    /// The number of [`ResetReason::Ahead`](crate::publisher::ResetReason::Ahead).
    pub ahead: u64,
    /// The number of [`ResetReason::OtherEpoch`](crate::publisher::ResetReason::OtherEpoch).
    pub other_epoch: u64,
    /// The number of [`ResetReason::Lagged`](crate::publisher::ResetReason::Lagged).
    pub lagged: u64,
    /// The number of [`ResetReason::Refreshed`](crate::publisher::ResetReason::Refreshed).
    pub refreshed: u64,
}

/// A watch that is far behind, returned by
/// [`Publisher::slowest`](crate::publisher::Publisher::slowest).
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
    /// The keys of the watch.
    pub keys: Vec<K>,
    /// The tokens of the watch.
    pub tokens: Vec<Arc<str>>,
    /// The number of commits that the watch has not received. A commit that touches several of its
    /// keys counts once for each; parts of a snapshot do not count.
    pub lag: u64,
}
