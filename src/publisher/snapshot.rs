//! Making snapshots: the parts that a handler appends, and the future that drives it.
//!
//! ```text
//!   parts:   [part]─▶[part]─▶[end of snapshot, index 7]
//!      the handler appends while watches read
//!
//!   chain:   …─▶[commit 5]─▶[commit 7]─▶ … ─▶[commit 9]─▶[commit 12]─▶ …
//!                   ▲ each watch's place, taken           ▲ the first one that is delivered:
//!                     before the handler began              its index is greater than 7
//! ```

use std::future::Future;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::error::{BoxError, SnapshotGivenUp, SnapshotOutdated, SnapshotOver, SnapshotPanicked};
use super::flight::Flight;
use super::trace::Run;
use crate::error::SharedError;
use crate::read::position::Position;
use crate::read::subscription::Subscription;
use crate::sync::Mutex;
use crate::unwind::discard;
use crate::write::buffer::EventBuffer;
use crate::write::replay::Replay;

pub(super) type Handler<K, T> =
    Arc<dyn Fn(K, SnapshotAppender<T>) -> BoxFuture<'static, Result<u64, BoxError>> + Send + Sync>;

/// An item of a snapshot.
pub(super) enum Piece<T> {
    Part(Arc<Vec<T>>),
    End {
        index: u64,
        /// Nothing more comes of the key.
        is_complete: bool,
    },
}

impl<T> Clone for Piece<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Part(part) => Self::Part(Arc::clone(part)),
            Self::End { index, is_complete } => Self::End {
                index: *index,
                is_complete: *is_complete,
            },
        }
    }
}

/// The parts of a snapshot, while it is made.
pub(super) struct Parts<T>(Mutex<Making<T>>);

struct Making<T> {
    /// Gone when the snapshot is over.
    buffer: Option<EventBuffer<Piece<T>>>,
    /// The first part, for watches that come later. Without it the parts that all have read are freed.
    start: Option<Position<Piece<T>>>,
    /// The start is kept to the end.
    keeps: bool,
    count: u64,
    is_complete: bool,
    /// The least index that it may be as of, and that of the newest commit when it was begun: since the publisher has
    /// ended, which knew.
    least: Option<(u64, u64)>,
}

impl<T> Parts<T> {
    pub(super) fn new(keeps: bool) -> Arc<Self> {
        let buffer = EventBuffer::builder().replay(Replay::None).build();
        Arc::new(Self(Mutex::new(Making {
            start: Some(buffer.tail()),
            buffer: Some(buffer),
            keeps,
            count: 0,
            is_complete: false,
            least: None,
        })))
    }

    /// Reads all parts from the first one on, unless some may have been freed.
    pub(super) fn join(&self) -> Option<Subscription<Piece<T>>> {
        self.0.lock().start.as_ref().map(Position::subscribe)
    }

    /// Lets no further watch join. The returned place is not to be dropped under a lock.
    pub(super) fn shut(&self) -> Option<Position<Piece<T>>> {
        self.0.lock().start.take()
    }

    /// The publisher ends, and no longer checks of which index the snapshot is.
    pub(super) fn detach(&self, least: u64, newest: u64) {
        self.0.lock().least = Some((least, newest));
    }

    /// The first part, and how many there are.
    pub(super) fn start(&self) -> Option<(Position<Piece<T>>, u64)> {
        let making = self.0.lock();
        making.start.clone().map(|start| (start, making.count))
    }

    fn append(&self, part: Vec<T>) -> Result<(), SnapshotOver> {
        let piece = Piece::Part(Arc::new(part));
        let mut making = self.0.lock();
        let Some(buffer) = making.buffer.as_mut() else {
            drop(making);
            drop(piece);
            return Err(SnapshotOver);
        };
        let deferred = buffer.push_deferred(piece);
        making.count += 1;
        let start = if making.keeps {
            None
        } else {
            making.start.take()
        };
        drop(making);
        wake(|| drop(deferred));
        wake(|| drop(start));
        Ok(())
    }

    fn complete(&self) -> Result<(), SnapshotOver> {
        let mut making = self.0.lock();
        if making.buffer.is_none() {
            return Err(SnapshotOver);
        }
        making.is_complete = true;
        Ok(())
    }

    /// Ends the snapshot, as of an index. Wakes who waits, which is user code. Returns how many
    /// parts it has, unless it has ended before.
    ///
    /// # Errors
    ///
    /// The snapshot lacks commits that are not retained, and goes on.
    fn finish(&self, index: u64) -> Result<Option<u64>, SnapshotOutdated> {
        let mut making = self.0.lock();
        if let Some((_, newest)) = making.least.filter(|(least, _)| *least > index) {
            return Err(SnapshotOutdated { index, newest });
        }
        let (is_complete, parts) = (making.is_complete, making.count);
        let Some(mut buffer) = making.buffer.take() else {
            return Ok(None);
        };
        let start = making.start.take();
        drop(making);
        // Both are there before any task is woken, whose waker might panic.
        let deferred = buffer.push_deferred(Piece::End { index, is_complete });
        wake(|| buffer.close());
        wake(|| drop(deferred));
        wake(|| drop(start));
        Ok(Some(parts))
    }

    /// Ends the snapshot with an error, unless it has ended. Wakes who waits, which is user code.
    /// Returns the error if it is what the snapshot has ended with.
    pub(super) fn fail(&self, error: BoxError) -> Option<SharedError> {
        let mut making = self.0.lock();
        let (buffer, start) = (making.buffer.take(), making.start.take());
        drop(making);
        let failed = buffer.map(|buffer| {
            let error = SharedError::new(error);
            wake(|| buffer.fail(error.clone()));
            error
        });
        wake(|| drop(start));
        failed
    }
}

/// Where a snapshot handler puts the state: what it appends is read by all who wait for the snapshot, while the
/// handler runs.
///
/// Parts that all waiting watches have read are freed while the snapshot goes on, unless it is to be
/// [cached](super::PublisherBuilder::snapshot_ttl), or is made for those who came too late for another one. There
/// is no back-pressure: a handler that is faster than its readers is not held up.
///
/// ```
/// # futures::executor::block_on(async {
/// use event_buffer::publisher::{Publisher, Request, Update};
/// use futures::StreamExt;
///
/// let publisher = Publisher::builder()
///     .snapshot(|_key: &str, snapshot| async move {
///         for page in [[1, 2], [3, 4]] {
///             snapshot.append(page)?; // One `Update::Snapshot`; the watch may read it now.
///         }
///         Ok(7)
///     })
///     .build();
/// let watch = publisher.subscribe(Request::new("key"));
/// let updates: Vec<_> = watch.skip(1).take(3).collect().await;
/// let [Ok(Update::Snapshot(_)), Ok(Update::Snapshot(page)), Ok(end)] = &updates[..] else { panic!() };
/// assert!(page.iter().eq([&3, &4]) && matches!(end, Update::EndOfSnapshot { index: 7 }));
/// # });
/// ```
pub struct SnapshotAppender<T>(Arc<Parts<T>>);

impl<T> SnapshotAppender<T> {
    /// Appends events as one part of the snapshot: one [`Update::Snapshot`](super::Update::Snapshot). Appends
    /// nothing if there are none.
    ///
    /// # Errors
    ///
    /// [`SnapshotOver`] if the handler has returned, or the snapshot was given up.
    ///
    /// # Cost
    ///
    /// O(events). Collects them first, then takes the lock of this snapshot, and wakes the waiting tasks after it.
    ///
    /// ```
    /// use event_buffer::publisher::Publisher;
    ///
    /// let publisher = Publisher::builder()
    ///     .snapshot(|key: &str, snapshot| async move {
    ///         snapshot.append(key.chars())?;
    ///         Ok(7)
    ///     })
    ///     .build();
    /// # futures::executor::block_on(async {
    /// # use event_buffer::publisher::{Request, Update};
    /// # use futures::StreamExt;
    /// # let mut watch = publisher.subscribe(Request::new("key"));
    /// # watch.next().await;
    /// # let Some(Ok(Update::Snapshot(part))) = watch.next().await else { panic!() };
    /// # assert!(part.iter().eq(&['k', 'e', 'y']));
    /// # });
    /// ```
    pub fn append(&self, events: impl IntoIterator<Item = T>) -> Result<(), SnapshotOver> {
        // Before the lock: the iterator is user code.
        let part: Vec<T> = events.into_iter().collect();
        if part.is_empty() {
            return Ok(());
        }
        self.0.append(part)
    }

    /// Appends one event as a part of the snapshot: for a state that is one value. Many should be
    /// [appended](Self::append) together, as each part is an update of its own.
    ///
    /// # Errors
    ///
    /// As for [`append`](Self::append).
    ///
    /// ```
    /// use event_buffer::publisher::Publisher;
    ///
    /// let publisher = Publisher::builder()
    ///     .snapshot(|key: &str, snapshot| async move {
    ///         snapshot.push(key.len())?;
    ///         Ok(7)
    ///     })
    ///     .build();
    /// # futures::executor::block_on(async {
    /// # use event_buffer::publisher::{Request, Update};
    /// # use futures::StreamExt;
    /// # let mut watch = publisher.subscribe(Request::new("key"));
    /// # watch.next().await;
    /// # let Some(Ok(Update::Snapshot(part))) = watch.next().await else { panic!() };
    /// # assert!(part.iter().eq(&[3]));
    /// # });
    /// ```
    pub fn push(&self, event: T) -> Result<(), SnapshotOver> {
        self.append([event])
    }

    /// Says that the key is complete: after the end of this snapshot watches get
    /// [`Update::Completed`](super::Update::Completed), and nothing more of the key.
    ///
    /// For ends that the publisher does not know any more, or never knew. It is cached like the rest of the snapshot.
    ///
    /// # Errors
    ///
    /// As for [`append`](Self::append).
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::publisher::{Publisher, Request, Update};
    /// use futures::StreamExt;
    ///
    /// let publisher = Publisher::builder()
    ///     .snapshot(|_job: &str, snapshot| async move {
    ///         snapshot.push("output of a job that has ended")?;
    ///         snapshot.complete()?;
    ///         Ok(7)
    ///     })
    ///     .build();
    /// let watch = publisher.subscribe(Request::new("job"));
    /// let updates: Vec<_> = watch.collect().await;
    /// assert!(matches!(updates.last(), Some(Ok(Update::Completed("job")))));
    /// # });
    /// ```
    pub fn complete(&self) -> Result<(), SnapshotOver> {
        self.0.complete()
    }
}

impl<T> std::fmt::Debug for SnapshotAppender<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotAppender").finish_non_exhaustive()
    }
}

/// What is told of a snapshot that is over.
pub(super) trait Builds: Send + Sync {
    /// The snapshot is complete as of `index`. `tell` is called when that is noted, and before events are dropped,
    /// which may take its time or panic.
    ///
    /// # Errors
    ///
    /// The snapshot lacks commits that are not retained. It has not been noted, and nothing was told.
    fn finished(
        &self,
        slot: usize,
        build: u64,
        index: u64,
        tell: &mut dyn FnMut(),
    ) -> Result<(), SnapshotOutdated>;

    /// The snapshot failed. `tell` as above.
    fn failed(&self, slot: usize, build: u64, tell: &mut dyn FnMut());

    /// No watch waits for the snapshot any more.
    fn abandoned(&self, slot: usize, build: u64);
}

/// What the future that makes a snapshot needs, from beginning to end.
pub(super) struct SnapshotBuild<T> {
    pub(super) registry: Arc<dyn Builds>,
    pub(super) slot: usize,
    pub(super) id: u64,
    pub(super) parts: Arc<Parts<T>>,
    pub(super) run: Run,
}

impl<T: Send + Sync + 'static> SnapshotBuild<T> {
    /// The future that makes it. The handler is not called before that is polled.
    pub(super) fn fly<K: Send + 'static>(mut self, handler: Handler<K, T>, key: K) -> Flight {
        let appender = SnapshotAppender(Arc::clone(&self.parts));
        let flight = async move {
            let making = async { handler(key, appender).await };
            let making = AssertUnwindSafe(making).catch_unwind();
            let outcome = self.run.within(making).await;
            match outcome.unwrap_or_else(|_| Err(SnapshotPanicked.into())) {
                Ok(index) => self.finish(index),
                Err(error) => self.fail(error),
            }
        };
        Flight::new(flight.boxed())
    }
}

impl<T> SnapshotBuild<T> {
    fn finish(&mut self, index: u64) {
        let Self { parts, run, .. } = self;
        let mut told = Ok(());
        let mut tell = || {
            told = parts.finish(index).map(|parts| {
                if let Some(parts) = parts {
                    run.finished(index, parts);
                }
            });
        };
        let finished = self.registry.finished(self.slot, self.id, index, &mut tell);
        if let Err(outdated) = finished.and(told) {
            self.fail(outdated.into());
        }
    }

    fn fail(&mut self, error: BoxError) {
        let Self { parts, run, .. } = self;
        let mut error = Some(error);
        let mut tell = || {
            if let Some(failed) = error.take().and_then(|error| parts.fail(error)) {
                run.failed(&failed);
            }
        };
        self.registry.failed(self.slot, self.id, &mut tell);
    }
}

impl<T> Drop for SnapshotBuild<T> {
    /// If it was neither finished nor failed, the last watch that waited for it has gone, or the
    /// handler's future has panicked when it was dropped.
    fn drop(&mut self) {
        if thread::panicking() {
            return self.fail(SnapshotPanicked.into());
        }
        self.registry.abandoned(self.slot, self.id);
        // A handler may have kept the appender.
        self.parts.fail(SnapshotGivenUp.into());
    }
}

/// Wakes readers, or drops what they have read. A panic of theirs is no fault of the handler, nor of the others
/// who wait.
fn wake(woken: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(woken)) {
        discard(panic);
    }
}

/// Makes a [`Handler`] of a user's function.
pub(super) fn handler<K, T, H, F>(handler: H) -> Handler<K, T>
where
    H: Fn(K, SnapshotAppender<T>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<u64, BoxError>> + Send + 'static,
{
    Arc::new(move |key, appender| handler(key, appender).boxed())
}

impl<T: RefUnwindSafe> UnwindSafe for SnapshotAppender<T> {}
impl<T: RefUnwindSafe> RefUnwindSafe for SnapshotAppender<T> {}
