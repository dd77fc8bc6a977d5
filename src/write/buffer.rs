//! The writer.

use std::error::Error;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

use crate::error::BookmarkError;
use crate::error::{ResumeError, SharedError};
use crate::list::{Batch, Cursor, Payload, Writer};
use crate::read::bookmark::Bookmark;
use crate::read::indexed::Indexed;
use crate::read::item::BufferItem;
use crate::read::position::Position;
use crate::read::subscription::Subscription;
use crate::write::recording::Recording;
use crate::write::replay::{Builder, Retained};

/// The single writer of an unlimited buffer that any number of [`Subscription`]s follow.
///
/// Whatever writes takes `&mut self`, so the compiler checks that there is one writer at a time;
/// [`SharedBuffer`](crate::SharedBuffer) is for several producers.
///
/// It is a [`Sink`](futures::Sink), too: `stream.map(Ok).forward(&mut buffer)` publishes each
/// element as an item.
///
/// # Memory
///
/// An item stays in memory until every reader that can still reach it has passed it. The slowest
/// reader without a [limit](crate::Limited) determines how much that is. Besides that, the buffer
/// keeps only the [replay window](crate::Replay) (the newest item by default); a [`BufferItem`] or
/// a [`Position`] keeps everything from its place on.
///
/// # Ending
///
/// [`close`](Self::close), [`fail`](Self::fail), [`splice`](Self::splice) and
/// [`finish`](Self::finish) end the buffer, and dropping it closes it.
///
/// Closing the [`Sink`](futures::Sink) does not end it (`SinkExt::close`; `forward` does that when
/// its source ends). A buffer that `forward` has borrowed can be written to afterwards; one that
/// was moved into it is dropped by it. With `SinkExt` in scope, `close` on a `&mut EventBuffer` is
/// the sink's, which does nothing; on the buffer itself it is [`close`](Self::close).
///
/// # Panics
///
/// A panic of a waker or of an event's `drop` reaches the caller that publishes, after the events
/// have been published and every waiting task has been woken.
///
/// # Cost
///
/// Publishing is O(1). Memory comes in blocks: a busy buffer of small items allocates about once in
/// 16 items. A lock is taken only to wake readers that wait. Without readers, items and positions,
/// [`push`](Self::push) does neither, unless the window has room for more than one item.
///
/// A large event is moved on the stack a few times: one of 256 KiB fits on a stack of 2 MiB in an
/// optimized build. For larger events or smaller stacks, publish [`Box`]es or
/// [`Arc`](std::sync::Arc)s.
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
    /// Creates an empty buffer that retains the newest item.
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

    /// Returns a builder, which sets what late readers can replay.
    ///
    /// ```
    /// use event_buffer::{EventBuffer, Replay};
    ///
    /// let mut buffer = EventBuffer::builder().replay(Replay::None).build();
    /// buffer.push("no reader sees this");
    /// assert!(buffer.latest().is_none());
    /// ```
    pub fn builder() -> Builder<T> {
        Builder::new()
    }

    pub(crate) fn with_tail(tail: Writer<T>) -> Self {
        Self { tail }
    }

    /// Publishes the events as one item: readers receive all of them at once.
    ///
    /// Without events, nothing is published.
    ///
    /// # Panics
    ///
    /// If the iterator does. Nothing is published then.
    ///
    /// # Cost
    ///
    /// O(events). A single event is stored in the item itself; several are stored in a slice that
    /// is allocated.
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
            self.tail.publish(Batch::one(item));
        }
    }

    /// Publishes an item of one event.
    ///
    /// # Cost
    ///
    /// O(1). Allocates a block for several items now and then. Takes a lock only if a reader waits.
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
        self.tail.push(event);
    }

    /// Ends the buffer like [`close`](Self::close), but keeps the replay window until it is
    /// dropped.
    #[cfg(feature = "publisher")]
    pub(crate) fn end(&mut self) {
        drop(self.tail.close());
    }

    /// Returns the newest retained item. O(1).
    ///
    /// Returns `None` if nothing was published, or if nothing is retained
    /// ([`Replay::None`](crate::Replay::None)). The item keeps everything published after it in
    /// memory.
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

    /// Returns a reader of what is published from now on. O(1), does not allocate.
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

    /// Returns a reader that replays what the buffer retains, then continues.
    ///
    /// O(1), does not allocate.
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

    /// Returns a reader that starts after an index, if everything after it is retained.
    ///
    /// It starts with the first item that contains an event with a greater index. That item is
    /// delivered whole, so it may begin with events that were seen before. Indexes must grow from
    /// event to event.
    ///
    /// # Errors
    ///
    /// * [`ResumeError::TooOld`] if events after the index may have left the replay window: items
    ///   have been dropped, and the oldest retained one begins after the index, or none is
    ///   retained.
    /// * [`ResumeError::Ahead`] if the index is greater than that of the newest retained event: a
    ///   reader would silently miss everything up to it. While nothing has been published, every
    ///   index is ahead, even 0: [`subscribe`](Self::subscribe) instead.
    ///
    /// # Cost
    ///
    /// O([`retained`](Self::retained)), without allocating.
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

    /// Returns a reader that starts at a [`Bookmark`], if everything after it is retained.
    ///
    /// # Errors
    ///
    /// * [`BookmarkError::Lost`] with the number of items that are not retained any more;
    /// * [`BookmarkError::OtherBuffer`] if the bookmark is neither in this buffer nor in one that
    ///   was spliced to it.
    ///
    /// # Cost
    ///
    /// O([`retained`](Self::retained)), without allocating.
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
        let place = self.tail.upgrade(&bookmark.place)?;
        Ok(Subscription::new(Cursor::new(place)))
    }

    /// Returns the place after the newest item, where the next one will be. O(1).
    ///
    /// The position keeps everything published from now on in memory.
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

    /// Ends this buffer by continuing it in another, at the given place.
    ///
    /// After the last item, readers receive what follows that place, or will be published there.
    /// They notice nothing. They end when the other buffer ends; if it has ended already, they
    /// drain it first. The splice consumes the writer, so nothing can be appended after it.
    ///
    /// A reader or a place in this buffer keeps the other buffer's items from that place on.
    ///
    /// A splice that leads back to this buffer would never end. It is refused: readers receive
    /// [`RecvError::Failed`](crate::RecvError::Failed) with [`SpliceCycle`](crate::SpliceCycle).
    ///
    /// # Cost
    ///
    /// O(1), or O(splices ahead of the place), and dropping what limited readers may no longer
    /// keep. Copies nothing. Meanwhile it holds a lock that all splices of the process share.
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
        let later = self.tail.splice(onward.into().0);
        // It would keep the other buffer's items while events are dropped.
        drop(self);
        drop(later);
    }

    /// Ends the buffer with an error, which each reader receives once, after all items. O(1).
    ///
    /// A reader that subscribes later, at an item or a position that still exists, receives it,
    /// too.
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

    /// Ends the buffer cleanly, the same as dropping it: readers drain it, then end.
    ///
    /// The replay window is dropped; [`finish`](Self::finish) keeps it.
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

    /// Ends the buffer like [`close`](Self::close), but keeps the replay window for later readers.
    ///
    /// The readers that exist drain the buffer, then end.
    ///
    /// # Cost
    ///
    /// O(1), and a wake-up of each task that waits.
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

    /// Clears the replay window.
    ///
    /// Readers lose nothing, and the window fills again with what is published from now on.
    /// [`subscribe_after`](Self::subscribe_after) and [`upgrade`](Self::upgrade) return an error
    /// for a place that has left the window.
    ///
    /// # Cost
    ///
    /// O(1), and the drop of items that no reader has yet to receive.
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

    /// Returns `true` while a subscription can still reach the end of this buffer.
    ///
    /// O(1), takes no lock.
    ///
    /// Subscriptions of buffers that were spliced to this one count, too. Items and positions do
    /// not, nor do subscriptions that were closed from outside or for their lag.
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

    /// Waits until no reader is left (see [`is_observed`](Self::is_observed)), to stop producing.
    ///
    /// Returns at once if there is none. A reader may have subscribed again by the time this
    /// returns.
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

    /// Waits for a reader (see [`is_observed`](Self::is_observed)), to start producing.
    ///
    /// Returns at once if there is one. It may be gone again by the time this returns.
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

    /// Returns the number of subscriptions that can still reach the end of this buffer.
    ///
    /// Those of buffers that were spliced to this one count, too. Items and positions do not, nor
    /// do subscriptions that were closed from outside or for their lag.
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

    /// Returns the number of items of this buffer that are in memory.
    ///
    /// These are the items of the replay window and those that a reader, a [`BufferItem`] or a
    /// [`Position`] still keeps, but not those of buffers that were spliced to this one. Watch this
    /// figure on an unlimited buffer: it grows while the slowest reader falls behind.
    ///
    /// It may count items that were freed already, up to a block of memory of them: at most 64, and
    /// fewer if they are large. It is exact if only the writer is left.
    ///
    /// # Cost
    ///
    /// O(1), however many readers there are. Takes no lock.
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

    /// Returns the number of items in the replay window. O(1).
    ///
    /// Items that are in memory only because a reader has not received them do not count: see
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
    /// Creates the buffer, which takes two small allocations.
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

/// Publishes each event as an item, all at once, with one wake-up for all.
///
/// The items become visible together, after the last event; if the iterator panics, none does. Two
/// or more are stored in blocks of memory of their own.
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
        self.tail.publish(events.into_iter().collect());
    }
}

// No field is ever pinned.
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
