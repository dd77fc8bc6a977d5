//! The parts of a snapshot, which its handler appends while watches read.

use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use crate::error::SharedError;
use crate::publisher::report::error::{BoxError, SnapshotOutdated, SnapshotOver};
use crate::read::position::Position;
use crate::read::subscription::Subscription;
use crate::sync::Mutex;
use crate::unwind::quietly;
use crate::write::buffer::EventBuffer;
use crate::write::replay::Replay;

/// An item of a snapshot's buffer.
pub(crate) enum Piece<T> {
    Part(Arc<Vec<T>>),
    End {
        index: u64,
        /// The key is complete: no more events will come.
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

/// The least index that a snapshot may have without its watches missing a commit.
#[derive(Clone, Copy)]
pub(crate) struct LeastIndex {
    least: u64,
    newest: u64,
}

impl LeastIndex {
    /// `left` is the index of the key's newest commit that is no longer retained, and `newest` that
    /// of its newest commit when the snapshot was begun. All later commits are kept for the
    /// snapshot, even if they have left the history since.
    pub(crate) fn new(left: u64, newest: u64) -> Self {
        let least = left.min(newest);
        Self { least, newest }
    }

    /// # Errors
    ///
    /// [`SnapshotOutdated`] if a commit after `index` is no longer retained.
    pub(crate) fn check(self, index: u64) -> Result<(), SnapshotOutdated> {
        let Self { least, newest } = self;
        if index < least {
            return Err(SnapshotOutdated { index, newest });
        }
        Ok(())
    }
}

/// The parts of a snapshot, while the handler appends and watches read.
pub(crate) struct Parts<T>(Mutex<PartsState<T>>);

struct PartsState<T> {
    /// Taken when the snapshot is over.
    buffer: Option<EventBuffer<Piece<T>>>,
    /// The position of the first part, for watches that join. Once it is taken, parts are freed
    /// when all watches have read them.
    start: Option<Position<Piece<T>>>,
    /// The start is kept until the snapshot is over, so that watches can join at any time.
    keeps: bool,
    count: u64,
    is_complete: bool,
    /// Set once the publisher has ended, and so can no longer check the index itself.
    least: Option<LeastIndex>,
}

impl<T> Parts<T> {
    pub(crate) fn new(keeps: bool) -> Arc<Self> {
        let buffer = EventBuffer::builder().replay(Replay::None).build();
        Arc::new(Self(Mutex::new(PartsState {
            start: Some(buffer.tail()),
            buffer: Some(buffer),
            keeps,
            count: 0,
            is_complete: false,
            least: None,
        })))
    }

    /// Returns a reader of all parts, unless the first ones may have been freed.
    pub(crate) fn join(&self) -> Option<Subscription<Piece<T>>> {
        self.0.lock().start.as_ref().map(Position::subscribe)
    }

    /// Stops further watches from joining. The returned position must not be dropped under a lock.
    pub(crate) fn shut(&self) -> Option<Position<Piece<T>>> {
        self.0.lock().start.take()
    }

    /// Takes over the check of the snapshot's index from the publisher, which ends.
    pub(crate) fn detach(&self, least: LeastIndex) {
        self.0.lock().least = Some(least);
    }

    /// Returns the position of the first part, and the number of parts.
    pub(crate) fn start(&self) -> Option<(Position<Piece<T>>, u64)> {
        let state = self.0.lock();
        state.start.clone().map(|start| (start, state.count))
    }

    fn append(&self, part: Vec<T>) -> Result<(), SnapshotOver> {
        let piece = Piece::Part(Arc::new(part));
        let mut state = self.0.lock();
        let Some(buffer) = state.buffer.as_mut() else {
            drop(state);
            drop(piece);
            return Err(SnapshotOver);
        };
        let deferred = buffer.push_deferred(piece);
        state.count += 1;
        let start = if state.keeps {
            None
        } else {
            state.start.take()
        };
        drop(state);
        // Here and below: panics must reach neither the handler nor the other waiting watches.
        quietly(|| drop(deferred));
        quietly(|| drop(start));
        Ok(())
    }

    fn complete(&self) -> Result<(), SnapshotOver> {
        let mut state = self.0.lock();
        if state.buffer.is_none() {
            return Err(SnapshotOver);
        }
        state.is_complete = true;
        Ok(())
    }

    /// Ends the snapshot as of an index, and returns its number of parts, or `None` if it had ended
    /// before. Wakes the waiting watches, which is user code.
    ///
    /// # Errors
    ///
    /// [`SnapshotOutdated`] if commits after `index` are no longer retained. The snapshot is not
    /// over yet.
    pub(super) fn finish(&self, index: u64) -> Result<Option<u64>, SnapshotOutdated> {
        let mut state = self.0.lock();
        if let Some(least) = state.least {
            least.check(index)?;
        }
        let (is_complete, parts) = (state.is_complete, state.count);
        let Some(mut buffer) = state.buffer.take() else {
            return Ok(None);
        };
        let start = state.start.take();
        drop(state);
        // The end and the close come before any task is woken: a waker may panic, and must not keep
        // readers from either.
        let deferred = buffer.push_deferred(Piece::End { index, is_complete });
        quietly(|| buffer.close());
        quietly(|| drop(deferred));
        quietly(|| drop(start));
        Ok(Some(parts))
    }

    /// Ends the snapshot with an error, and returns that error, or `None` if it had ended before.
    /// Wakes the waiting watches, which is user code.
    pub(crate) fn fail(&self, error: BoxError) -> Option<SharedError> {
        let mut state = self.0.lock();
        let (buffer, start) = (state.buffer.take(), state.start.take());
        drop(state);
        let failed = buffer.map(|buffer| {
            let error = SharedError::new(error);
            quietly(|| buffer.fail(error.clone()));
            error
        });
        quietly(|| drop(start));
        failed
    }
}

/// Receives the state from a snapshot handler.
///
/// The watches that wait for the snapshot read what is appended while the handler is still running.
///
/// Parts that all waiting watches have read are freed while the handler is running, unless the
/// snapshot will be [cached](crate::publisher::PublisherBuilder::snapshot_ttl), or is made for
/// watches that came too late for another one. There is no back-pressure: a handler may run ahead
/// of its readers.
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
/// let [_, Ok(Update::Snapshot(page)), Ok(end)] = &updates[..] else { panic!() };
/// assert!(page.iter().eq([&3, &4]) && matches!(end, Update::EndOfSnapshot { index: 7 }));
/// # });
/// ```
pub struct SnapshotAppender<T>(pub(super) Arc<Parts<T>>);

impl<T> SnapshotAppender<T> {
    /// Appends events as one part of the snapshot, delivered as one
    /// [`Update::Snapshot`](crate::publisher::Update::Snapshot).
    ///
    /// Appends nothing if there are no events.
    ///
    /// # Memory
    ///
    /// Parts stay in memory until every watch that waits for the snapshot has received them. The
    /// handler is polled when a watch has received all parts there are. A handler that yields after
    /// each part, for instance by `tokio::task::yield_now`, is thus at most one part ahead of the
    /// fastest watch. One that never yields has the whole snapshot in memory at once.
    ///
    /// # Errors
    ///
    /// [`SnapshotOver`] if the handler has returned, or if the snapshot was given up.
    ///
    /// # Cost
    ///
    /// O(events). Collects the events, then takes this snapshot's lock, and wakes the waiting tasks
    /// after that.
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
        // Collected before the lock is taken, since the iterator is user code.
        let part: Vec<T> = events.into_iter().collect();
        if part.is_empty() {
            return Ok(());
        }
        self.0.append(part)
    }

    /// Appends one event as a part of the snapshot: for state that is a single value.
    ///
    /// Many events should be [appended](Self::append) together, since each part is an update of its
    /// own.
    ///
    /// # Errors
    ///
    /// [`SnapshotOver`] if the handler has returned, or if the snapshot was given up.
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

    /// Marks the key as complete: no more events will come.
    ///
    /// After the end of this snapshot, its watches receive
    /// [`Update::Completed`](crate::publisher::Update::Completed).
    ///
    /// Needed for keys whose [completion](crate::publisher::Publisher::complete) the publisher has
    /// forgotten, or never saw. The mark is cached with the rest of the snapshot.
    ///
    /// # Errors
    ///
    /// [`SnapshotOver`] if the handler has returned, or if the snapshot was given up.
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

impl<T: RefUnwindSafe> UnwindSafe for SnapshotAppender<T> {}
impl<T: RefUnwindSafe> RefUnwindSafe for SnapshotAppender<T> {}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{LeastIndex, SnapshotOutdated};

    #[test]
    fn a_snapshot_must_contain_the_commits_that_have_left() {
        let least = LeastIndex::new(5, 9);
        assert_eq!(least.check(5), Ok(()));
        let outdated = SnapshotOutdated {
            index: 4,
            newest: 9,
        };
        assert_eq!(least.check(4), Err(outdated));
    }

    #[test]
    fn a_snapshot_need_not_contain_commits_since_it_was_begun() {
        // 9 has left the history, but it came after the snapshot was begun at 5.
        assert_eq!(LeastIndex::new(9, 5).check(5), Ok(()));
        assert!(LeastIndex::new(9, 5).check(4).is_err());
    }
}
