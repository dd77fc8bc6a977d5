//! The settings of a publisher.

use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::handle::Publisher;
use super::hub::{Hub, Settings};
use super::report::error::BoxError;
use super::snapshot::build::{Handler, handler};
use super::snapshot::parts::SnapshotAppender;
use crate::sync::{Instant, SystemTime};

/// The settings of a new [`Publisher`], made by [`Publisher::builder`].
///
/// ```
/// use event_buffer::publisher::Publisher;
/// use std::time::Duration;
///
/// let publisher = Publisher::builder()
///     .snapshot(|_key: u64, snapshot| async move {
///         snapshot.push("state")?;
///         Ok(0)
///     })
///     .snapshot_ttl(Duration::from_secs(10))
///     .snapshot_timeout(Duration::from_secs(30))
///     .history(1_000)
///     .build();
/// # let _ = publisher.epoch();
/// ```
pub struct PublisherBuilder<K, T> {
    handler: Option<Handler<K, T>>,
    ttl: Duration,
    timeout: Option<Duration>,
    history: usize,
    epoch: u64,
    start_at: u64,
}

impl<K, T> Publisher<K, T> {
    /// Returns a builder with the settings of a new publisher.
    ///
    /// ```
    /// use event_buffer::publisher::Publisher;
    ///
    /// let publisher = Publisher::builder().history(100).build();
    /// publisher.publish(1, [("key", "event")])?;
    /// # Ok::<(), event_buffer::publisher::PublishError>(())
    /// ```
    pub fn builder() -> PublisherBuilder<K, T> {
        PublisherBuilder::new()
    }
}

impl<K, T> PublisherBuilder<K, T> {
    pub(super) fn new() -> Self {
        Self {
            handler: None,
            ttl: Duration::ZERO,
            timeout: None,
            history: 0,
            // Random, so that a client of a former process does not resume into this one.
            epoch: random_epoch(),
            start_at: 0,
        }
    }

    /// Sets the handler that makes snapshots.
    ///
    /// The handler appends the current state of a key, in any number of parts, and returns the
    /// index of that state. The state must contain the effects of all commits up to that index, and
    /// of none after it.
    ///
    /// Change the state first, and publish afterwards. The returned index may be greater than the
    /// last one published. It may also be less, if the handler reads from a replica that is behind:
    /// the watch then continues with the later commits of the key from the
    /// [history](Self::history). If one of these has left the history, the snapshot fails with
    /// [`SnapshotOutdated`](super::SnapshotOutdated), so that no commit is missed. The publisher
    /// knows only the commits that were published while the key had a watch, a snapshot or an entry
    /// in the history. The state must contain all earlier ones, and those of other processes.
    ///
    /// # Who polls the handler
    ///
    /// The watches that wait for the snapshot poll its handler, on their own tasks and under no
    /// lock. The handler may publish, subscribe, refresh its own key, or take its time. It must not
    /// hold a lock that the consumer needs before it polls its watch again:
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::publisher::{Publisher, Request, Update};
    /// use futures::StreamExt;
    /// use std::sync::{Arc, Mutex};
    ///
    /// let rows = Arc::new(Mutex::new(vec![1, 2]));
    /// let state = Arc::clone(&rows);
    /// let publisher = Publisher::builder()
    ///     .snapshot(move |_key: &str, snapshot| {
    ///         let state = Arc::clone(&state);
    ///         async move {
    ///             // Not held while the parts are read: the consumer below takes it, too.
    ///             let rows = state.lock().unwrap().clone();
    ///             snapshot.append(rows)?;
    ///             Ok(7)
    ///         }
    ///     })
    ///     .build();
    /// let mut watch = publisher.subscribe(Request::new("key"));
    /// while let Some(Ok(update)) = watch.next().await {
    ///     rows.lock().unwrap().push(3);
    ///     if let Update::EndOfSnapshot { .. } = update {
    ///         break;
    ///     }
    /// }
    /// # });
    /// ```
    ///
    /// The task that polls the watch may belong to any runtime, or to none. A handler that needs
    /// one, for timers or connections, captures a handle of it and spawns there:
    ///
    /// ```
    /// use event_buffer::publisher::{Publisher, Request, Update};
    /// use futures::StreamExt;
    /// use std::time::Duration;
    ///
    /// let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().unwrap();
    /// let handle = runtime.handle().clone();
    /// let publisher = Publisher::builder()
    ///     .snapshot(move |_key: &str, snapshot| {
    ///         let query = handle.spawn(async {
    ///             tokio::time::sleep(Duration::from_millis(1)).await;
    ///             ["row"]
    ///         });
    ///         async move {
    ///             snapshot.append(query.await?)?;
    ///             Ok(7)
    ///         }
    ///     })
    ///     .build();
    /// let mut watch = publisher.subscribe(Request::new("key"));
    /// let updates = watch.by_ref().skip(1).take(2).collect::<Vec<_>>();
    /// let updates = futures::executor::block_on(updates); // outside of the runtime
    /// assert!(matches!(updates[1], Ok(Update::EndOfSnapshot { index: 7 })));
    /// ```
    ///
    /// # Failure and cancellation
    ///
    /// If the handler fails or panics, the waiting watches end with
    /// [`WatchError::Snapshot`](super::WatchError::Snapshot), and the next watch calls it again.
    /// Its future is dropped before it completes if all waiting watches are dropped, if its key is
    /// closed or refreshed, or after a [time limit](Self::snapshot_timeout).
    ///
    /// The handler must not wait for a watch of its own key, since that watch waits for the
    /// handler. It should not own a handle of its own publisher, which would then never be dropped;
    /// use a [weak handle](Publisher::downgrade).
    ///
    /// Without a handler, the state of every key is empty.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::publisher::{Publisher, Request, Update};
    /// use futures::StreamExt;
    ///
    /// let publisher = Publisher::builder()
    ///     .snapshot(|key: &str, snapshot| async move {
    ///         snapshot.append([key.to_uppercase()])?;
    ///         Ok(7)
    ///     })
    ///     .build();
    /// let mut watch = publisher.subscribe(Request::new("key"));
    /// watch.next().await; // how it begins
    /// let Some(Ok(Update::Snapshot(part))) = watch.next().await else { panic!() };
    /// assert_eq!(part.iter().next().unwrap(), "KEY");
    /// # });
    /// ```
    #[must_use]
    pub fn snapshot<H, F>(self, handle: H) -> Self
    where
        H: Fn(K, SnapshotAppender<T>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<u64, BoxError>> + Send + 'static,
    {
        let handler = Some(handler(handle));
        Self { handler, ..self }
    }

    /// Sets how long a finished snapshot is cached, for watches that subscribe later.
    ///
    /// The default is zero: no caching.
    ///
    /// The cache keeps the snapshot and all later commits of its key in memory. A snapshot is
    /// dropped early if it is followed by more commits of its key than the [history](Self::history)
    /// retains, or, without a history, by more than it has parts. There is no timer: an expired
    /// snapshot is no longer used, and is dropped at the next subscribe or
    /// [`stats`](Publisher::stats), or some commits later. A duration too long to be added to the
    /// current time means for ever.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::publisher::{Publisher, Request};
    /// use futures::StreamExt;
    /// use std::time::Duration;
    ///
    /// let publisher = Publisher::<_, u32>::builder()
    ///     .snapshot(|_key: &str, _snapshot| async { Ok(7) })
    ///     .snapshot_ttl(Duration::from_secs(3_600))
    ///     .build();
    /// let mut watch = publisher.subscribe(Request::new("key"));
    /// watch.next().await; // how it begins
    /// watch.next().await; // the end of the snapshot
    /// drop(watch);
    /// assert_eq!(publisher.stats().cached_snapshots, 1);
    /// # });
    /// ```
    #[must_use]
    pub fn snapshot_ttl(self, ttl: Duration) -> Self {
        Self { ttl, ..self }
    }

    /// Limits how long a snapshot may take. Unlimited by default.
    ///
    /// There is no timer: a late snapshot is given up when a waiting watch is polled, or when
    /// another watch subscribes. The waiting watches end with
    /// [`SnapshotGivenUp`](super::SnapshotGivenUp), and the next watch calls the handler again.
    ///
    /// ```
    /// use event_buffer::publisher::Publisher;
    /// use std::time::Duration;
    ///
    /// let publisher = Publisher::<&str, u32>::builder()
    ///     .snapshot_timeout(Duration::from_secs(30))
    ///     .build();
    /// # let _ = publisher.epoch();
    /// ```
    #[must_use]
    pub fn snapshot_timeout(self, timeout: Duration) -> Self {
        let timeout = Some(timeout);
        Self { timeout, ..self }
    }

    /// Retains the last `n` commits over all keys, for [resuming](super::Request::after). The
    /// default is 0.
    ///
    /// A client resumes exactly if no commit of its keys after its resume point has left the
    /// history, even if the keys were quiet or had no watch in the meantime. A commit counts once,
    /// however many keys it touches; a commit without events does not count. A key that has no
    /// watch, no snapshot and no commit in the history costs nothing.
    ///
    /// To fill the history when a process starts, [publish](Publisher::publish) the changes of a
    /// log or a table before serving watches, and set [`start_at`](Self::start_at) to the index
    /// before the first of them.
    ///
    /// ```
    /// use event_buffer::publisher::Publisher;
    ///
    /// let publisher = Publisher::builder().history(2).build();
    /// for index in 1..=5 {
    ///     publisher.publish(index, [("key", "event")])?;
    /// }
    /// assert_eq!(publisher.stats().retained_items, 2);
    /// # Ok::<(), event_buffer::publisher::PublishError>(())
    /// ```
    #[must_use]
    pub fn history(self, n: usize) -> Self {
        let history = n;
        Self { history, ..self }
    }

    /// Sets the last index of former processes in this [epoch](Self::epoch).
    ///
    /// The default is 0. Indexes continue after it. A client that resumes from an earlier index is
    /// reset, since the commits in between are not known. A publisher whose epoch outlives its
    /// process must set this: otherwise it accepts the resume points of a former process as its
    /// own, and their clients miss commits.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::publisher::{Begin, Publisher, Request, ResetReason, Resume, Update};
    /// use futures::StreamExt;
    ///
    /// // A table of changes, of which the last three are still there after a restart.
    /// let changes = [(7, "seven"), (8, "eight"), (9, "nine")];
    /// let publisher = Publisher::builder().epoch(1).start_at(6).history(100).build();
    /// for (index, change) in changes {
    ///     publisher.publish(index, [("key", change)])?;
    /// }
    ///
    /// // A client of the former process continues.
    /// let place = Resume { epoch: 1, index: 7 };
    /// let mut watch = publisher.subscribe(Request::new("key").after(place));
    /// assert!(matches!(watch.next().await, Some(Ok(Update::Begin(Begin::Resumed)))));
    /// let Some(Ok(Update::Events(commit))) = watch.next().await else { panic!() };
    /// assert!(commit.iter().eq([&"eight"]));
    ///
    /// let too_old = Resume { epoch: 1, index: 5 };
    /// let mut watch = publisher.subscribe(Request::new("key").after(too_old));
    /// let Some(Ok(Update::Begin(begin))) = watch.next().await else { panic!() };
    /// assert_eq!(begin, Begin::Reset(ResetReason::TooOld));
    /// # Ok::<(), event_buffer::publisher::PublishError>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn start_at(self, start_at: u64) -> Self {
        Self { start_at, ..self }
    }

    /// Sets the epoch, which names the state that the indexes belong to.
    ///
    /// It must change whenever indexes start again. Otherwise clients resume into the wrong state.
    /// The default is a random number of 53 bits, so that no client resumes across a restart.
    ///
    /// ```
    /// use event_buffer::publisher::Publisher;
    ///
    /// let publisher = Publisher::<&str, u32>::builder().epoch(3).build();
    /// assert_eq!(publisher.epoch(), 3);
    /// ```
    #[must_use]
    pub fn epoch(self, epoch: u64) -> Self {
        Self { epoch, ..self }
    }

    /// Builds the publisher. Starts no task and no thread.
    ///
    /// ```
    /// use event_buffer::publisher::Publisher;
    ///
    /// let publisher = Publisher::<&str, u32>::builder().build();
    /// assert_eq!(publisher.stats().keys, 0);
    /// ```
    pub fn build(self) -> Publisher<K, T> {
        let hub = Hub::new(Settings {
            handler: self.handler,
            ttl: self.ttl,
            timeout: self.timeout,
            history: self.history,
            epoch: self.epoch,
            start_at: self.start_at,
        });
        Publisher::of(hub)
    }
}

/// Returns an epoch that differs from that of every other publisher, in this process or another.
fn random_epoch() -> u64 {
    /// Tells publishers apart that are made at the same time.
    static COUNT: AtomicU64 = AtomicU64::new(0);

    // Relaxed: only the number matters, and it orders nothing.
    let count = COUNT.fetch_add(1, Relaxed);
    // In a browser `RandomState` is the same in every run, so the time has to tell runs apart. It
    // is not needed elsewhere.
    let made = cfg!(target_family = "wasm").then(|| (SystemTime::now(), Instant::now()));
    // 53 bits: JSON readers corrupt larger numbers.
    RandomState::new().hash_one((count, made)) >> 11
}

impl<K, T> fmt::Debug for PublisherBuilder<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublisherBuilder")
            .field("handles_snapshots", &self.handler.is_some())
            .field("snapshot_ttl", &self.ttl)
            .field("snapshot_timeout", &self.timeout)
            .field("history", &self.history)
            .field("epoch", &self.epoch)
            .field("start_at", &self.start_at)
            .finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::random_epoch;

    #[test]
    fn a_random_epoch_fits_into_json_and_is_not_repeated() {
        let epochs: std::collections::HashSet<u64> = (0..1_000).map(|_| random_epoch()).collect();
        assert_eq!(epochs.len(), 1_000);
        assert!(epochs.iter().all(|epoch| *epoch < 1 << 53));
    }
}
