//! Settings of a publisher.

use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::error::BoxError;
use super::handle::Publisher;
use super::hub::{Hub, Settings};
use super::snapshot::{Handler, SnapshotAppender, handler};
use crate::sync::{Instant, SystemTime};

/// Settings of a new [`Publisher`], made by [`Publisher::builder`].
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

impl<K, T> PublisherBuilder<K, T> {
    pub(super) fn new() -> Self {
        Self {
            handler: None,
            ttl: Duration::ZERO,
            timeout: None,
            history: 0,
            // Another one each time, so that no one resumes from a place that a former process gave.
            epoch: random_epoch(),
            start_at: 0,
        }
    }

    /// Sets the handler that makes snapshots: a function that appends the present state of a key, in as many parts as
    /// it likes, and returns the index as of which that is the state. The state must contain the effects of all commits
    /// up to that index, and of none after it.
    ///
    /// Change the state first and publish then. A greater index than was published so far is fine. If it is less, as
    /// that of a replica that is behind, the watch goes on with the commits of the key that came after it, from the
    /// [history](Self::history). If one of those has left that, the snapshot fails with
    /// [`SnapshotOutdated`](super::SnapshotOutdated), so that no commit is missed. The publisher knows of commits that
    /// were published while the key had a watch, a snapshot or a place in the history: the state must contain those
    /// of before, and of other processes.
    ///
    /// # Who drives it
    ///
    /// The watches that wait for the snapshot poll the handler, on their tasks, under no lock: it may publish,
    /// subscribe, refresh its own key, or take its time. So what it holds must not be what a consumer waits for before
    /// it polls its watch again:
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
    /// A handler that needs a runtime, for its timers or connections, spawns there through a handle that it has
    /// captured: the task that polls the watch may be in another one.
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
    /// # Failing, and giving up
    ///
    /// If it fails or panics the watches that waited get [`WatchError::Snapshot`](super::WatchError::Snapshot), and the
    /// next one tries again. It is dropped half-way, as a cancelled future is, if all watches that wait for it go, if its
    /// key is closed or refreshed, or after a [time limit](Self::snapshot_timeout).
    ///
    /// It must not wait for a watch of its own key, which waits for it. It should not own a handle of
    /// its own publisher, which would then never be dropped: a [weak one](Publisher::downgrade) is
    /// for that.
    ///
    /// Without a handler the state of every key is empty.
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

    /// Sets for how long a finished snapshot is given to those who come later, with all that followed it. Zero, the
    /// default, is not at all.
    ///
    /// It keeps both in memory. A snapshot is given up earlier if more commits of its key than the
    /// [history](Self::history) retains have followed it; without a history, more than it has parts. There is no timer:
    /// what has expired is given to nobody, and forgotten at the next subscribe or [`stats`](Publisher::stats), or some
    /// commits later. A time too long to be added to the present is for ever.
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

    /// Limits how long a snapshot may take. Not limited if not set.
    ///
    /// There is no timer: a snapshot that has taken longer is given up when a watch that waits for it is polled, or
    /// another one comes. Those who waited get [`SnapshotGivenUp`](super::SnapshotGivenUp), and the next one a new call
    /// of the handler.
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

    /// Retains the last `n` commits over all keys, for those who [resume](super::Request::after). 0 if not set.
    ///
    /// Whoever resumes continues exactly, if nothing of its keys after its place has left the history, even if its
    /// keys were quiet or unwatched meanwhile. A commit takes one place, however many keys it touches; one without events
    /// takes none. A key that has no watch, no snapshot and no commit in the history costs nothing.
    ///
    /// To fill the history at the start of a process, [publish](Publisher::publish) what a log or a table of changes
    /// has, before watchers are served; [`start_at`](Self::start_at) is then the index before the first of these.
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

    /// Says up to which index former processes have published in this [epoch](Self::epoch): 0 if not set.
    ///
    /// Indexes continue after it. Whoever resumes from an earlier place begins anew, since what came between is not
    /// known. A publisher whose epoch outlives its process must be told this, or it takes places that a former process
    /// gave for its own.
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

    /// Names the state that the indexes are of. It must change whenever indexes start again, or
    /// watchers that resume could be told the wrong thing. A random one of 53 bits if not set: then no one
    /// resumes over a restart.
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

    /// Makes the publisher. It starts no task and no thread.
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

/// An epoch that differs from that of every other publisher, those of other processes included.
fn random_epoch() -> u64 {
    /// Tells those apart that are made at the same time.
    static COUNT: AtomicU64 = AtomicU64::new(0);

    // Relaxed: only a number.
    let count = COUNT.fetch_add(1, Relaxed);
    // On the web `RandomState` is the same in every run, so the time has to tell runs apart. Elsewhere it need not.
    let made = cfg!(target_family = "wasm").then(|| (SystemTime::now(), Instant::now()));
    // JSON readers corrupt numbers of more bits.
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
