//! The writer.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::mem;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Sink;

use crate::error::BookmarkError;
use crate::error::{ResumeError, SharedError};
use crate::list::{Batch, Cursor, Later, Payload, Writer};
use crate::read::bookmark::Bookmark;
use crate::read::indexed::Indexed;
use crate::read::item::BufferItem;
use crate::read::position::Position;
use crate::read::subscription::Subscription;
use crate::write::recording::Recording;
use crate::write::replay::{Builder, Retained};

/// The single writer of an unlimited buffer that any number of [`Subscription`]s follow.
///
/// Everything that writes takes `&mut self`, so that writers must take turns is checked by the
/// compiler; [`SharedBuffer`](crate::SharedBuffer) is for several producers. Dropping the writer
/// [closes](Self::close) the buffer.
///
/// * **Nothing is lost:** an item stays until every reader that can still come to it has passed.
///   Memory is bounded by the slowest reader that has no [limit](crate::Limited), and by nothing else.
/// * **Nothing is kept:** beyond that, only what the [replay window](crate::Replay) says (the
///   newest item, if nothing else is set), and what follows a [`BufferItem`] or a [`Position`]
///   that somebody holds.
/// * **Cost:** publishing is O(1). Memory comes in blocks: a busy buffer of small items allocates
///   about once in 16. A lock is taken only where a reader waits, to wake it. With no reader and
///   nothing held, [`push`](Self::push) does neither, unless the window is of more than one item.
/// * **Large events** are moved on the stack a few times on their way in: one of 256 KiB fits on a stack of
///   2 MiB in an optimized build. Publish [`Box`]es or [`Arc`](std::sync::Arc)s of what is larger, or with stacks that are smaller.
/// * **Panics** in wakers and in the events' `drop` reach the caller that publishes. The events are published by
///   then, and every waiting task has been woken.
///
/// It is a [`Sink`] too: `stream.map(Ok).forward(&mut buffer)` publishes one item per element, each as it comes.
///
/// What ends the buffer is [`close`](Self::close), [`fail`](Self::fail), [`splice`](Self::splice), or dropping it.
/// Closing the sink (`SinkExt::close`, and `forward` does that at its end) ends nothing: a buffer that was lent
/// to `forward` can be written to afterwards, and one that was moved into it is dropped by it. With `SinkExt` in scope
/// `close` on a `&mut EventBuffer` is the sink's, which does nothing; on the buffer itself it is [`close`](Self::close).
///
/// ```
/// use event_buffer::EventBuffer;
///
/// let mut buffer = EventBuffer::new();
/// let mut reader = buffer.subscribe();
/// buffer.append(["one", "transaction"]);
/// buffer.push("another");
/// assert_eq!(reader.try_recv()?.events(), ["one", "transaction"]);
/// assert_eq!(reader.try_recv()?.events(), ["another"]);
/// # Ok::<(), event_buffer::TryRecvError>(())
/// ```
pub struct EventBuffer<T> {
    pub(crate) tail: Writer<T>,
}

impl<T> EventBuffer<T> {
    /// An empty buffer that retains the newest item.
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    ///
    /// let mut buffer = EventBuffer::new();
    /// buffer.extend(["older", "newest"]);
    /// assert_eq!(buffer.retained(), 1);
    /// ```
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Settings for a new buffer: what late readers can replay.
    ///
    /// ```
    /// use event_buffer::{EventBuffer, Replay};
    ///
    /// let mut buffer = EventBuffer::builder().replay(Replay::None).build();
    /// buffer.push("nobody sees this");
    /// assert!(buffer.latest().is_none());
    /// ```
    pub fn builder() -> Builder<T> {
        Builder::new()
    }

    pub(crate) fn with_tail(tail: Writer<T>) -> Self {
        Self { tail }
    }

    /// Publishes the events as one item: readers get all of them at once. Nothing is published
    /// where there are none.
    ///
    /// O(events). A single event stands in the item itself; several get a slice of their own, which
    /// is allocated. If the iterator panics nothing is published.
    ///
    /// ```
    /// use event_buffer::{EventBuffer, TryRecvError};
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe();
    /// buffer.append([1, 2]);
    /// buffer.append(None);
    /// assert_eq!(reader.try_recv()?.events(), [1, 2]);
    /// assert_eq!(reader.try_recv(), Err(TryRecvError::Empty));
    /// # Ok::<(), TryRecvError>(())
    /// ```
    pub fn append(&mut self, events: impl IntoIterator<Item = T>) {
        if let Some(item) = Payload::collect(events) {
            self.publish(Batch::one(item));
        }
    }

    /// As [`append`](Self::append), but leaves waking the readers to the answer: for a buffer that
    /// is itself behind a lock.
    ///
    /// What is woken is foreign code, and so is what is dropped where the events leave the replay
    /// window or nobody follows. Under a lock neither should run. The events can be read at once;
    /// the answer is only what is left to do.
    ///
    /// The iterator does run here: give it events that are made already. Costs as
    /// [`append`](Self::append).
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    /// use std::sync::Mutex;
    ///
    /// let buffer = Mutex::new(EventBuffer::new());
    /// let mut reader = buffer.lock().unwrap().subscribe();
    /// let deferred = buffer.lock().unwrap().append_deferred([1, 2]);
    /// drop(deferred); // The lock is released: now the readers are woken.
    /// assert_eq!(reader.try_recv()?.events(), [1, 2]);
    /// # Ok::<(), event_buffer::TryRecvError>(())
    /// ```
    pub fn append_deferred(&mut self, events: impl IntoIterator<Item = T>) -> Deferred<T> {
        match Payload::collect(events) {
            Some(item) => self.publish_deferred(Batch::one(item)),
            None => Deferred {
                later: None,
                _unseen: None,
            },
        }
    }

    /// As [`push`](Self::push), but leaves waking the readers to the answer, as
    /// [`append_deferred`](Self::append_deferred) does. O(1). An event that nobody will see, or whose place this
    /// one takes, is boxed, to be dropped with the answer.
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    /// use std::sync::Mutex;
    ///
    /// let buffer = Mutex::new(EventBuffer::new());
    /// let mut reader = buffer.lock().unwrap().subscribe().cloned();
    /// let deferred = buffer.lock().unwrap().push_deferred(1);
    /// drop(deferred);
    /// assert_eq!(reader.try_recv(), Ok(1));
    /// ```
    #[inline]
    pub fn push_deferred(&mut self, event: T) -> Deferred<T> {
        match self.tail.push_later(event) {
            Ok(later) => Deferred {
                later: Some(later),
                _unseen: None,
            },
            Err(leftover) => Deferred {
                later: None,
                // What needs no drop has none that could be user code.
                _unseen: leftover
                    .filter(|_| mem::needs_drop::<T>())
                    .map(|leftover| Box::new(Batch::one(leftover))),
            },
        }
    }

    /// Like [`push_deferred`](Self::push_deferred), but returns the place of the item, too. Only for a buffer that
    /// retains nothing for late readers.
    #[cfg(feature = "publisher")]
    #[inline]
    pub(crate) fn push_and_locate(&mut self, event: T) -> (Position<T>, Deferred<T>) {
        let (place, later) = self.tail.push_and_locate(event);
        let deferred = Deferred {
            later: Some(later),
            _unseen: None,
        };
        (Position(place), deferred)
    }

    fn publish_deferred(&mut self, batch: Batch<T>) -> Deferred<T> {
        let (later, unseen) = match self.tail.publish_later(batch) {
            Ok(later) => (Some(later), None),
            Err(unseen) => (None, Some(Box::new(unseen))),
        };
        Deferred {
            later,
            _unseen: unseen,
        }
    }

    /// Publishes an item of one event.
    ///
    /// O(1). Allocates a block of places for items now and then, and takes no lock unless a reader
    /// waits.
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe();
    /// buffer.push("one");
    /// buffer.push("two");
    /// assert_eq!(reader.try_recv()?.events(), ["one"]);
    /// assert_eq!(reader.try_recv()?.events(), ["two"]);
    /// # Ok::<(), event_buffer::TryRecvError>(())
    /// ```
    #[inline]
    #[doc(alias = "send")]
    pub fn push(&mut self, event: T) {
        if !self.tail.skip_unobserved(1) {
            let wake = self.tail.publish_one(event);
            self.tail.conclude(wake);
        }
    }

    fn publish(&mut self, mut batch: Batch<T>) {
        if !self.tail.skip_unobserved(batch.len()) {
            let wake = self.tail.publish(&mut batch);
            self.tail.conclude(wake);
        }
    }

    /// Ends the buffer as [`close`](Self::close) does, but keeps what it retains until it is dropped.
    #[cfg(feature = "publisher")]
    pub(crate) fn end(&mut self) {
        drop(self.tail.close());
    }

    /// The newest retained item. O(1).
    ///
    /// `None` where nothing was published, or nothing is retained
    /// ([`Replay::None`](crate::Replay::None)). As long as it is held, it keeps all that is
    /// published after it.
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    ///
    /// let mut buffer = EventBuffer::new();
    /// buffer.push(1);
    /// buffer.push(2);
    /// assert_eq!(buffer.latest().unwrap().events(), [2]);
    /// ```
    #[doc(alias = "head")]
    pub fn latest(&self) -> Option<BufferItem<T>> {
        self.tail.newest().map(BufferItem::new)
    }

    /// Follows the buffer from now on. O(1), allocates nothing.
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    ///
    /// let mut buffer = EventBuffer::new();
    /// buffer.push("before");
    /// let mut reader = buffer.subscribe();
    /// buffer.push("after");
    /// assert_eq!(reader.try_recv()?.events(), ["after"]);
    /// # Ok::<(), event_buffer::TryRecvError>(())
    /// ```
    pub fn subscribe(&self) -> Subscription<T> {
        self.tail().subscribe()
    }

    /// Replays what the buffer retains, then follows it. O(1), allocates nothing.
    ///
    /// ```
    /// use event_buffer::{EventBuffer, Replay};
    ///
    /// let mut buffer = EventBuffer::builder().replay(Replay::All).build();
    /// buffer.push(1);
    /// let mut late = buffer.subscribe_from_start();
    /// buffer.push(2);
    /// assert_eq!(late.try_recv()?.events(), [1]);
    /// assert_eq!(late.try_recv()?.events(), [2]);
    /// # Ok::<(), event_buffer::TryRecvError>(())
    /// ```
    pub fn subscribe_from_start(&self) -> Subscription<T> {
        Subscription::new(Cursor::new(self.tail.oldest()))
    }

    /// Follows the buffer from the first item that contains an event with a greater index, if it retains everything
    /// that came after the index.
    ///
    /// That item is delivered whole, so it may begin with events that were seen before. Indexes must grow from event
    /// to event. O([`len`](Self::len)), allocates nothing.
    ///
    /// # Errors
    ///
    /// [`ResumeError::TooOld`] if events after the index may have left the replay window: items have been dropped, and
    /// the oldest retained one begins after the index, or none is retained at all.
    /// [`ResumeError::Ahead`] if the index is greater than that of the newest retained event: a subscription would
    /// miss everything up to it in silence. While nothing has been published every index is ahead, 0 too:
    /// [`subscribe`](Self::subscribe) then.
    ///
    /// ```
    /// use event_buffer::{EventBuffer, Indexed, Replay, ResumeError};
    ///
    /// #[derive(Clone, Debug, PartialEq)]
    /// struct Revision(u64);
    /// impl Indexed for Revision {
    ///     fn index(&self) -> u64 { self.0 }
    /// }
    ///
    /// let mut buffer = EventBuffer::builder().replay(Replay::Last(2)).build();
    /// buffer.extend([Revision(1), Revision(2), Revision(3)]);
    /// let mut resumed = buffer.subscribe_after(2)?.cloned();
    /// assert_eq!(resumed.try_recv(), Ok(Revision(3)));
    /// assert!(matches!(buffer.subscribe_after(1), Err(ResumeError::TooOld { .. })));
    /// assert!(matches!(buffer.subscribe_after(4), Err(ResumeError::Ahead { .. })));
    /// # Ok::<(), ResumeError>(())
    /// ```
    pub fn subscribe_after(&self, index: u64) -> Result<Subscription<T>, ResumeError>
    where
        T: Indexed,
    {
        let place = Retained::of(&self.tail).after(index)?;
        Ok(Subscription::new(Cursor::new(place)))
    }

    /// Goes on at a [`Bookmark`], if all that was published after it is retained.
    ///
    /// O([`len`](Self::len)), allocates nothing.
    ///
    /// # Errors
    ///
    /// [`BookmarkError::Lost`] with the number of items that are not retained any more;
    /// [`BookmarkError::OtherBuffer`] where the bookmark is in another buffer than this one and
    /// those that were spliced to it.
    ///
    /// ```
    /// use event_buffer::{BookmarkError, EventBuffer};
    ///
    /// let mut buffer = EventBuffer::new(); // retains one item
    /// let bookmark = buffer.subscribe().bookmark();
    /// buffer.push(1);
    /// assert_eq!(buffer.upgrade(&bookmark)?.try_recv().unwrap().events(), [1]);
    /// buffer.push(2);
    /// assert_eq!(buffer.upgrade(&bookmark).unwrap_err(), BookmarkError::Lost(1));
    /// # Ok::<(), BookmarkError>(())
    /// ```
    pub fn upgrade(&self, bookmark: &Bookmark<T>) -> Result<Subscription<T>, BookmarkError> {
        let slot = self.tail.upgrade(&bookmark.mark)?;
        Ok(Subscription::new(Cursor::new(slot)))
    }

    /// The place after the newest item: where the next one will be. O(1).
    ///
    /// As long as it is held, it keeps all that is published from now on.
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    ///
    /// let mut buffer = EventBuffer::new();
    /// buffer.push("before");
    /// let here = buffer.tail();
    /// buffer.push("after");
    /// assert_eq!(here.subscribe().try_recv()?.events(), ["after"]);
    /// # Ok::<(), event_buffer::TryRecvError>(())
    /// ```
    pub fn tail(&self) -> Position<T> {
        Position(self.tail.tail())
    }

    /// Ends this buffer by continuing it in another: after its last item, readers go on with what
    /// stands at the given place, or with what will be published there.
    ///
    /// Readers notice nothing. If the other buffer ends, they end with it, and if it has ended
    /// already they drain it and end. Consuming the writer makes sure that nobody appends past the
    /// splice.
    ///
    /// O(1), or O(splices ahead of the place), and what limited readers have to give up; copies nothing.
    /// Takes a lock that all splices of the
    /// process share, for as long as that. A reader or a place in this buffer keeps the other
    /// one's items from that place on.
    ///
    /// A splice that leads back to this buffer is refused: its readers get
    /// [`RecvError::Failed`](crate::RecvError::Failed) with
    /// [`SpliceCycle`](crate::SpliceCycle) instead of going round for ever.
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    ///
    /// let mut live = EventBuffer::new();
    /// let tail = live.tail(); // first the place,
    /// let mut snapshot = EventBuffer::new();
    /// let mut reader = snapshot.subscribe().cloned();
    /// snapshot.append(["state 1", "state 2"]); // then the state,
    /// live.push("event"); // while events go on.
    /// snapshot.splice(tail);
    ///
    /// assert_eq!(reader.try_recv(), Ok("state 1"));
    /// assert_eq!(reader.try_recv(), Ok("state 2"));
    /// assert_eq!(reader.try_recv(), Ok("event"));
    /// ```
    pub fn splice(mut self, onward: impl Into<Position<T>>) {
        let mut spliced = self.tail.splice(onward.into().0);
        // All are told before events are dropped, which may take its time.
        spliced.wake();
        // First: what it keeps would keep what follows while limits have events dropped.
        drop(self);
        drop(spliced);
    }

    /// Ends the buffer with an error: every reader gets it once, after all items before it, and
    /// then ends. A later subscriber of a place that somebody held gets it too. O(1).
    ///
    /// ```
    /// use event_buffer::{EventBuffer, RecvError};
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe();
    /// buffer.push(1);
    /// buffer.fail("out of luck");
    /// assert_eq!(reader.recv_blocking()?.events(), [1]);
    /// assert!(matches!(reader.recv_blocking(), Err(RecvError::Failed(_))));
    /// assert_eq!(reader.recv_blocking(), Err(RecvError::Closed));
    /// # Ok::<(), RecvError>(())
    /// ```
    pub fn fail(mut self, error: impl Into<Box<dyn Error + Send + Sync>>) {
        drop(self.tail.fail(SharedError::new(error.into())));
    }

    /// Ends the buffer cleanly: readers drain what is there, then end. The same as dropping it.
    /// The replay window goes.
    ///
    /// ```
    /// use event_buffer::{EventBuffer, TryRecvError};
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe();
    /// buffer.push("last words");
    /// buffer.close();
    /// assert_eq!(reader.try_recv()?.events(), ["last words"]);
    /// assert_eq!(reader.try_recv(), Err(TryRecvError::Closed));
    /// # Ok::<(), TryRecvError>(())
    /// ```
    pub fn close(self) {
        drop(self);
    }

    /// Ends the buffer like [`close`](Self::close), but keeps what it retains for readers that
    /// come later.
    ///
    /// Running readers drain what is there, then end.
    ///
    /// # Cost
    ///
    /// O(1), and waking the readers that wait.
    ///
    /// ```
    /// use event_buffer::{EventBuffer, Replay};
    ///
    /// let mut log = EventBuffer::builder().replay(Replay::All).build();
    /// log.extend(["compiling", "done"]);
    /// let recording = log.finish();
    /// let lines: Vec<_> = recording.subscribe().cloned().iter().collect::<Result<_, _>>()?;
    /// assert_eq!(lines, ["compiling", "done"]);
    /// # Ok::<(), event_buffer::RecvError>(())
    /// ```
    pub fn finish(mut self) -> Recording<T> {
        let recording = Recording::of(&self.tail);
        drop(self.tail.close());
        recording
    }

    /// Forgets what the buffer retains for late readers, as if it had left the replay window.
    ///
    /// Readers lose nothing, and the window fills again with what is published from now on. A
    /// place that has left the window cannot be resumed any more:
    /// [`subscribe_after`](Self::subscribe_after) and [`upgrade`](Self::upgrade) say so.
    ///
    /// # Cost
    ///
    /// O(1), and the drop of the items that no reader is still to receive.
    ///
    /// ```
    /// use event_buffer::{EventBuffer, Replay, TryRecvError};
    ///
    /// let mut buffer = EventBuffer::builder().replay(Replay::All).build();
    /// let mut reader = buffer.subscribe().cloned();
    /// buffer.extend([1, 2]);
    /// buffer.clear_window();
    /// assert_eq!(buffer.retained(), 0);
    /// assert_eq!(reader.try_recv(), Ok(1));
    /// assert_eq!(buffer.subscribe_from_start().try_recv(), Err(TryRecvError::Empty));
    /// ```
    #[doc(alias = "clear")]
    pub fn clear_window(&mut self) {
        drop(self.tail.clear_window());
    }

    /// Whether anybody follows: a subscription of this buffer, or of one that is spliced to it,
    /// that has not gone beyond it. Items and positions do not count. O(1), takes no lock.
    ///
    /// A subscription that was closed from outside, or for its lag, does not count any more.
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    ///
    /// let buffer = EventBuffer::<u8>::new();
    /// let place = buffer.tail();
    /// assert!(!buffer.is_observed());
    /// let reader = place.subscribe();
    /// assert!(buffer.is_observed());
    /// # drop(reader);
    /// ```
    pub fn is_observed(&self) -> bool {
        self.tail.is_observed()
    }

    /// Waits until nobody follows (see [`is_observed`](Self::is_observed)), for instance to stop
    /// producing.
    ///
    /// Ready at once where nobody does. It says how it was at that moment: somebody may subscribe
    /// again right after.
    ///
    /// Cancel safe: nothing is taken. Waiting takes a lock for a moment.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::EventBuffer;
    ///
    /// let buffer = EventBuffer::<u8>::new();
    /// let reader = buffer.subscribe();
    /// assert!(buffer.is_observed());
    /// drop(reader);
    /// buffer.unobserved().await;
    /// # });
    /// ```
    #[doc(alias = "closed")]
    pub async fn unobserved(&self) {
        self.tail.shared().until_unobserved().await;
    }

    /// Waits until a reader follows (see [`is_observed`](Self::is_observed)), for instance to
    /// start producing.
    ///
    /// Returns at once if one does. The reader may be gone again when this returns.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is taken.
    ///
    /// # Cost
    ///
    /// Waiting takes a lock for a moment.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::EventBuffer;
    ///
    /// let buffer = EventBuffer::<u8>::new();
    /// let place = buffer.tail();
    /// let (_, reader) = futures::join!(buffer.observed(), async { place.subscribe() });
    /// assert!(buffer.is_observed());
    /// # drop(reader);
    /// # });
    /// ```
    pub async fn observed(&self) {
        self.tail.shared().until_observed().await;
    }

    /// Returns how many subscriptions can still reach the end of this buffer: its own, and those
    /// of buffers that were spliced to it. Items and positions do not count, nor do subscriptions
    /// that were closed from outside or for their lag.
    ///
    /// # Cost
    ///
    /// O(1). Takes no lock.
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    ///
    /// let buffer = EventBuffer::<u8>::new();
    /// let readers = [buffer.subscribe(), buffer.subscribe()];
    /// assert_eq!(buffer.subscriber_count(), 2);
    /// drop(readers);
    /// assert_eq!(buffer.subscriber_count(), 0);
    /// ```
    #[doc(alias = "receiver_count")]
    pub fn subscriber_count(&self) -> usize {
        self.tail.subscriber_count()
    }

    /// Returns how many items of this buffer are in memory: those of the replay window, and those
    /// that a reader, a [`BufferItem`] or a [`Position`] still keeps.
    ///
    /// This is the figure to watch on an unlimited buffer: it grows while the slowest reader falls
    /// behind. It is exact to the items of a block of memory, which are at most 64, and fewer the
    /// larger they are: some that were freed already may be counted. It is exact if only the writer
    /// is left. Items of a buffer that was spliced to this one are not counted here.
    ///
    /// # Cost
    ///
    /// O(1). Takes no lock, and looks at no reader.
    ///
    /// ```
    /// use event_buffer::{EventBuffer, Replay};
    ///
    /// let mut buffer = EventBuffer::builder().replay(Replay::None).build();
    /// buffer.extend(0..1_000);
    /// assert_eq!(buffer.backlog(), 0);
    /// let stuck = buffer.subscribe();
    /// buffer.extend(0..1_000);
    /// assert!((1_000..1_064).contains(&buffer.backlog()));
    /// drop(stuck);
    /// assert_eq!(buffer.backlog(), 0);
    /// ```
    pub fn backlog(&self) -> u64 {
        self.tail.backlog()
    }

    /// Returns how many items the buffer retains for late readers. O(1).
    ///
    /// Items that are in memory only because a reader has not reached them do not count: see
    /// [`Subscription::lag`] and [`backlog`](Self::backlog).
    ///
    /// ```
    /// use event_buffer::{EventBuffer, Replay};
    ///
    /// let mut buffer = EventBuffer::builder().replay(Replay::Last(2)).build();
    /// buffer.push(1);
    /// assert_eq!(buffer.retained(), 1);
    /// buffer.extend([2, 3, 4]);
    /// assert_eq!(buffer.retained(), 2);
    /// ```
    #[doc(alias = "len")]
    #[doc(alias = "is_empty")]
    pub fn retained(&self) -> usize {
        self.tail.retained()
    }
}

impl<T> Builder<T> {
    /// Makes the buffer. Allocates two small pieces of memory.
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    ///
    /// let buffer = EventBuffer::<u8>::builder().build();
    /// assert_eq!(buffer.retained(), 0);
    /// ```
    pub fn build(self) -> EventBuffer<T> {
        EventBuffer::with_tail(Writer::new(self.retained()))
    }
}

/// What [`EventBuffer::append_deferred`] left to do: waking the readers that wait, and dropping
/// what nobody will see. Dropping it does that, outside of any lock of yours.
///
/// Until then it keeps the items in question, and what follows them. If it is leaked, readers that
/// wait may sleep for ever.
///
/// ```
/// use event_buffer::EventBuffer;
/// use std::sync::Mutex;
///
/// let buffer = Mutex::new(EventBuffer::new());
/// let publish = |event| {
///     let deferred = buffer.lock().unwrap().append_deferred([event]);
///     // The guard was a temporary: what is woken or dropped now may lock the buffer.
///     drop(deferred);
/// };
/// publish("one");
/// publish("two");
/// assert_eq!(buffer.lock().unwrap().latest().unwrap().events(), ["two"]);
/// ```
#[must_use = "dropping it wakes the readers, which should not be under a lock"]
pub struct Deferred<T> {
    #[cfg_attr(
        not(feature = "publisher"),
        expect(dead_code, reason = "it is only dropped")
    )]
    later: Option<Later<T>>,
    /// In a box: it is the exception.
    _unseen: Option<Box<Batch<T>>>,
}

impl<T> Deferred<T> {
    /// Wakes the readers already.
    #[cfg(feature = "publisher")]
    pub(crate) fn wake(&self) {
        if let Some(later) = &self.later {
            later.wake();
        }
    }
}

impl<T> fmt::Debug for Deferred<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deferred").finish_non_exhaustive()
    }
}

/// Publishes an item per event, all at once, with one wake-up for all.
///
/// The events become visible together, after the last; if the iterator panics none does. Two or
/// more get blocks of memory of their own.
///
/// ```
/// use event_buffer::EventBuffer;
///
/// let mut buffer = EventBuffer::new();
/// let reader = buffer.subscribe();
/// buffer.extend(1..=3);
/// assert_eq!(reader.lag(), 3);
/// ```
impl<T> Extend<T> for EventBuffer<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, events: I) {
        self.publish(events.into_iter().collect());
    }
}

/// Publishes an item per event, at once: the buffer never waits, so there is nothing to hold back, and nothing is
/// lost if the source fails or is cancelled.
///
/// It is always ready and never fails. Flushing does nothing, and closing the sink does not end the buffer.
///
/// A source that can fail is forwarded to the sink with the source's type of error. Lend the buffer, so that a failure
/// is passed on: readers of a buffer that is dropped see a clean end.
///
/// ```
/// # futures::executor::block_on(async {
/// use event_buffer::{EventBuffer, RecvError};
/// use futures::{SinkExt, StreamExt, stream};
///
/// let mut buffer = EventBuffer::new();
/// let mut reader = buffer.subscribe().cloned();
/// stream::iter([1, 2]).map(Ok).forward(&mut buffer).await?;
///
/// let source = stream::iter([Ok(3), Err("broke")]);
/// let sink = (&mut buffer).sink_map_err(|never| match never {});
/// if let Err(error) = source.forward(sink).await {
///     buffer.fail(error);
/// }
/// for n in 1..=3 {
///     assert_eq!(reader.recv().await, Ok(n));
/// }
/// assert!(matches!(reader.recv().await, Err(RecvError::Failed(_))));
/// # Ok::<(), std::convert::Infallible>(()) }).unwrap();
/// ```
impl<T> Sink<T> for EventBuffer<T> {
    type Error = Infallible;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, event: T) -> Result<(), Infallible> {
        self.get_mut().push(event);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
}

// Nothing in it is ever pinned.
impl<T> Unpin for EventBuffer<T> {}

impl<T> Default for EventBuffer<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for EventBuffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventBuffer")
            .field("retained", &self.retained())
            .field("is_observed", &self.is_observed())
            .finish_non_exhaustive()
    }
}

impl<T: RefUnwindSafe> UnwindSafe for EventBuffer<T> {}
impl<T: RefUnwindSafe> RefUnwindSafe for EventBuffer<T> {}

impl<T: RefUnwindSafe> UnwindSafe for Deferred<T> {}
impl<T: RefUnwindSafe> RefUnwindSafe for Deferred<T> {}
