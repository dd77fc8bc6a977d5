//! Settings of a publisher.

use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::error::BoxError;
use super::hub::Hub;
use super::snapshot::{Handler, SnapshotAppender, handler};
use super::{Owner, Publisher};
use crate::replay::Replay;
use crate::sync::{Instant, SystemTime};

/// Settings of a new [`Publisher`], made by [`Publisher::builder`].
///
/// ```
/// use event_buffer::{Replay, publisher::Publisher};
/// use std::time::Duration;
///
/// let publisher = Publisher::builder()
///     .snapshot(|_key: u64, snapshot| async move {
///         snapshot.push("state")?;
///         Ok(0)
///     })
///     .snapshot_ttl(Duration::from_secs(10))
///     .replay(Replay::Last(1_000))
///     .epoch(1)
///     .build();
/// # let _ = publisher.epoch();
/// ```
pub struct Builder<K, T> {
    handler: Option<Handler<K, T>>,
    ttl: Duration,
    replay: Replay,
    epoch: u64,
}

impl<K, T> Builder<K, T> {
    pub(super) fn new() -> Self {
        Self {
            handler: None,
            ttl: Duration::ZERO,
            replay: Replay::None,
            // Another one each time, so that nobody resumes from what a former process said.
            epoch: random_epoch(),
        }
    }

    /// Who makes snapshots: a function that appends the present state of a key, in as many parts as
    /// it likes, and answers the index as of which that is the state. It must contain the
    /// effects of all commits up to that index, and of none after it.
    ///
    /// Change the state first and publish then. A greater index than was published so far is fine. A
    /// lesser one, as of a replica that is behind, is made up for by the commits that the [replay
    /// window](Self::replay) retains; where those do not reach back that far the snapshot fails, with
    /// [`SnapshotOutdated`](super::SnapshotOutdated), rather than that a commit is missed. That goes for
    /// commits since the key was watched, as long as anything is kept of it: of those before, and of those
    /// of another process, the publisher knows nothing, so the state must contain them.
    ///
    /// Each part is read while the next one is made. The handler is driven by the watches that
    /// wait for it, on their tasks, under no lock: it may publish, subscribe, or take its time.
    /// Where it fails or panics the watches that waited get
    /// [`WatchError::Snapshot`](super::WatchError::Snapshot), and the next one tries again. It is
    /// dropped half-way if all watches that wait for it go, as a cancelled future is.
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

    /// How long a finished snapshot is given to those who come later, with all that followed. It
    /// keeps both in memory. Zero, and if not set: not at all.
    ///
    /// There is no timer: what has expired is given to nobody, and forgotten at the next subscribe or
    /// [`stats`](Publisher::stats), or some commits later. A time too long to be told is for ever.
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
    /// watch.next().await; // the end of the snapshot
    /// drop(watch);
    /// assert_eq!(publisher.stats().cached_snapshots, 1);
    /// # });
    /// ```
    #[must_use]
    pub fn snapshot_ttl(self, ttl: Duration) -> Self {
        Self { ttl, ..self }
    }

    /// How many commits of a key are kept for those who [resume](super::Request::after), once
    /// the key has been watched, and as long as the publisher lives.
    /// [`Replay::None`] if not set: a watch can resume where nothing came since, or where a
    /// snapshot that is kept reaches back to.
    ///
    /// There is no limit to the number of keys: each that was watched and published keeps its
    /// window until a [`reset`](Publisher::reset) or the end.
    ///
    /// ```
    /// use event_buffer::{Replay, publisher::{Publisher, Request}};
    ///
    /// let publisher = Publisher::builder().replay(Replay::Last(2)).build();
    /// let watch = publisher.subscribe(Request::new("key"));
    /// for index in 1..=5 {
    ///     publisher.publish(index, [("key", "event")])?;
    /// }
    /// assert_eq!(publisher.stats().retained_items, 2);
    /// # drop(watch);
    /// # Ok::<(), event_buffer::publisher::PublishError>(())
    /// ```
    #[must_use]
    pub fn replay(self, replay: Replay) -> Self {
        Self { replay, ..self }
    }

    /// Names the state that the indexes are of. It must change whenever indexes start again, or
    /// watchers that resume could be told the wrong thing. A random one if not set: then nobody
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
        let hub = Hub::new(self.handler, self.ttl, self.replay, self.epoch);
        Publisher(Arc::new(Owner(Arc::new(hub))))
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
    RandomState::new().hash_one((count, made))
}

impl<K, T> fmt::Debug for Builder<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("handles_snapshots", &self.handler.is_some())
            .field("snapshot_ttl", &self.ttl)
            .field("replay", &self.replay)
            .field("epoch", &self.epoch)
            .finish()
    }
}
