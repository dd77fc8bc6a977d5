//! A writer for several producers.

use std::error::Error;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{Arc, Weak};

use crate::error::BookmarkError;
use crate::error::{Ended, ResumeError, SharedError};
use crate::list::{Batch, Later, Payload, Writer};
use crate::read::bookmark::Bookmark;
use crate::read::indexed::Indexed;
use crate::read::item::BufferItem;
use crate::read::position::Position;
use crate::read::subscription::Subscription;
use crate::sync::Mutex;
use crate::write::buffer::EventBuffer;
use crate::write::recording::Recording;
use crate::write::replay::Retained;

/// A cloneable writer for several producers: one [`EventBuffer`] behind a mutex.
///
/// It has the methods of the single writer, by `&self`. Any handle may end the buffer; publishing
/// then returns the events in an error, [`Ended`]. A handle keeps the replay window in memory, and
/// no more; a [`WeakBuffer`] keeps nothing.
///
/// # Ending
///
/// The inherent [`close`](Self::close) ends the buffer for all handles, as do
/// [`fail`](Self::fail), [`splice`](Self::splice), [`finish`](Self::finish), and dropping the last
/// handle. The first of them takes effect; later ones do nothing.
///
/// Closing the [`Sink`](futures::Sink) does not end the buffer, since other handles may still
/// publish. `forward` closes the sink when its source ends. Mind which of the two you call:
/// `shared.close()` is the inherent method, even with `SinkExt` in scope. `SinkExt::close(&mut
/// shared)`, or `.close()` on a `&mut SharedBuffer<T>` in generic code over a
/// [`Sink`](futures::Sink), is the sink's.
///
/// # Cost
///
/// Every method takes the lock for a moment. Readers do not take it, and writers do not wait for
/// readers.
///
/// No user code runs under the lock: events are collected before it is taken, and readers are woken
/// and items freed after it is released. An iterator, a waker or a `T`'s drop may therefore use the
/// buffer itself.
///
/// ```
/// use event_buffer::SharedBuffer;
///
/// let producer = SharedBuffer::new();
/// let mut reader = producer.subscribe().cloned();
/// std::thread::scope(|scope| {
///     for n in 0..2 {
///         let producer = producer.clone();
///         scope.spawn(move || producer.push(n));
///     }
/// });
/// assert_eq!(reader.recv_blocking()? + reader.recv_blocking()?, 1);
/// # Ok::<(), event_buffer::RecvError>(())
/// ```
pub struct SharedBuffer<T> {
    buffer: Arc<Mutex<EventBuffer<T>>>,
}

impl<T> SharedBuffer<T> {
    /// Creates an empty buffer that retains the newest item.
    ///
    /// For other settings, convert an [`EventBuffer`] with [`from`](From::from).
    ///
    /// ```
    /// use event_buffer::{EventBuffer, Replay, SharedBuffer};
    ///
    /// let plain = SharedBuffer::new();
    /// plain.push(1).unwrap();
    /// let keeps_all = SharedBuffer::from(EventBuffer::builder().replay(Replay::All).build());
    /// keeps_all.extend([1, 2]).unwrap();
    /// assert_eq!((plain.retained(), keeps_all.retained()), (1, 2));
    /// ```
    pub fn new() -> Self {
        EventBuffer::new().into()
    }

    /// Publishes the events as one item: see [`EventBuffer::append`].
    ///
    /// The iterator runs before the lock is taken.
    ///
    /// # Errors
    ///
    /// [`Ended`] with the events if the buffer has ended.
    ///
    /// ```
    /// use event_buffer::SharedBuffer;
    ///
    /// let producer = SharedBuffer::new();
    /// producer.append([1, 2])?;
    /// assert_eq!(producer.latest().unwrap().events(), [1, 2]);
    /// # Ok::<(), event_buffer::Ended<i32>>(())
    /// ```
    pub fn append(&self, events: impl IntoIterator<Item = T>) -> Result<(), Ended<T>> {
        match Payload::collect(events) {
            Some(item) => self.publish(Batch::one(item)),
            None => Ok(()),
        }
    }

    /// Publishes an item of one event: see [`EventBuffer::push`].
    ///
    /// # Errors
    ///
    /// [`Ended`] with the event if the buffer has ended.
    ///
    /// ```
    /// use event_buffer::SharedBuffer;
    ///
    /// let producer = SharedBuffer::new();
    /// let mut reader = producer.subscribe().cloned();
    /// producer.clone().push("by a clone").unwrap();
    /// assert_eq!(reader.try_recv()?, "by a clone");
    /// producer.close();
    /// assert_eq!(producer.push("too late").unwrap_err().events(), ["too late"]);
    /// # Ok::<(), event_buffer::TryRecvError>(())
    /// ```
    #[doc(alias = "send")]
    #[inline]
    pub fn push(&self, event: T) -> Result<(), Ended<T>> {
        let mut buffer = self.buffer.lock();
        if buffer.tail.has_ended() {
            drop(buffer);
            return Err(Ended::new(vec![event]));
        }
        if buffer.tail.skip_unobserved(1) {
            drop(buffer);
            // User code: dropped after the lock is released.
            drop(event);
            return Ok(());
        }
        let later = buffer.tail.push_later(event);
        drop(buffer);
        // User code: wakers and drops run after the lock is released.
        drop(later);
        Ok(())
    }

    /// Like [`push`](Self::push), but returns the wake-ups and drops, which run user code.
    pub(crate) fn push_later(&self, event: T) -> impl Sized + use<T> {
        let mut buffer = self.buffer.lock();
        if buffer.tail.has_ended() {
            return Err(Some(event));
        }
        let later = buffer.tail.push_later(event);
        drop(buffer);
        Ok(later)
    }

    /// Publishes each event as an item, all at once and next to each other, with one wake-up.
    ///
    /// The iterator runs before the lock is taken; if it panics, nothing is published.
    ///
    /// # Errors
    ///
    /// [`Ended`] with the events if the buffer has ended.
    ///
    /// ```
    /// use event_buffer::SharedBuffer;
    ///
    /// let producer = SharedBuffer::new();
    /// let reader = producer.subscribe();
    /// producer.extend(1..=3)?;
    /// assert_eq!(reader.lag(), 3);
    /// # Ok::<(), event_buffer::Ended<i32>>(())
    /// ```
    pub fn extend(&self, events: impl IntoIterator<Item = T>) -> Result<(), Ended<T>> {
        let batch: Batch<T> = events.into_iter().collect();
        if batch.is_empty() {
            return Ok(());
        }
        self.publish(batch)
    }

    fn publish(&self, batch: Batch<T>) -> Result<(), Ended<T>> {
        let mut buffer = self.buffer.lock();
        if buffer.tail.has_ended() {
            drop(buffer);
            return Err(Ended::new(batch.into_events()));
        }
        let later = buffer.tail.publish_later(batch);
        drop(buffer);
        // User code: wakers and drops run after the lock is released.
        drop(later);
        Ok(())
    }

    /// Returns the newest retained item: see [`EventBuffer::latest`].
    ///
    /// ```
    /// use event_buffer::SharedBuffer;
    ///
    /// let producer = SharedBuffer::new();
    /// assert!(producer.latest().is_none());
    /// producer.push(1).unwrap();
    /// assert_eq!(producer.latest().unwrap().events(), [1]);
    /// ```
    #[doc(alias = "head")]
    pub fn latest(&self) -> Option<BufferItem<T>> {
        self.buffer.lock().latest()
    }

    /// Returns a reader of what is published from now on: see [`EventBuffer::subscribe`].
    ///
    /// ```
    /// use event_buffer::{SharedBuffer, TryRecvError};
    ///
    /// let producer = SharedBuffer::new();
    /// producer.push(1).unwrap();
    /// assert_eq!(producer.subscribe().try_recv(), Err(TryRecvError::Empty));
    /// ```
    pub fn subscribe(&self) -> Subscription<T> {
        self.tail().subscribe()
    }

    /// Returns a reader that replays what the buffer retains, then continues.
    ///
    /// See [`EventBuffer::subscribe_from_start`].
    ///
    /// ```
    /// use event_buffer::SharedBuffer;
    ///
    /// let producer = SharedBuffer::new();
    /// producer.push(1).unwrap();
    /// assert_eq!(producer.subscribe_from_start().try_recv()?.events(), [1]);
    /// # Ok::<(), event_buffer::TryRecvError>(())
    /// ```
    pub fn subscribe_from_start(&self) -> Subscription<T> {
        let oldest = self.buffer.lock().tail.oldest();
        // After the lock is released, because the first reader wakes tasks that wait for one.
        Position(oldest).subscribe()
    }

    /// Returns a reader that starts after an index, if everything after it is retained.
    ///
    /// See [`EventBuffer::subscribe_after`].
    ///
    /// # Errors
    ///
    /// The same as those of [`EventBuffer::subscribe_after`].
    ///
    /// # Cost
    ///
    /// O([`retained`](Self::retained)), after the lock is released. Does not allocate.
    ///
    /// ```
    /// use event_buffer::{Indexed, SharedBuffer};
    ///
    /// #[derive(Clone, Debug, PartialEq)]
    /// struct Revision(u64);
    /// impl Indexed for Revision {
    ///     fn index(&self) -> u64 { self.0 }
    /// }
    ///
    /// let producer = SharedBuffer::new();
    /// producer.push(Revision(7)).unwrap();
    /// let mut resumed = producer.subscribe_after(7)?.cloned();
    /// producer.push(Revision(8)).unwrap();
    /// assert_eq!(resumed.try_recv(), Ok(Revision(8)));
    /// # Ok::<(), event_buffer::ResumeError>(())
    /// ```
    pub fn subscribe_after(&self, index: u64) -> Result<Subscription<T>, ResumeError>
    where
        T: Indexed,
    {
        let retained = Retained::of(&self.buffer.lock().tail);
        // User code: `Indexed::index` runs after the lock is released.
        let place = retained.after(index)?;
        Ok(Position(place).subscribe())
    }

    /// Returns a reader that starts at a [`Bookmark`]: see [`EventBuffer::upgrade`].
    ///
    /// # Errors
    ///
    /// The same as those of [`EventBuffer::upgrade`].
    ///
    /// ```
    /// use event_buffer::SharedBuffer;
    ///
    /// let producer = SharedBuffer::new();
    /// let bookmark = producer.subscribe().bookmark();
    /// producer.push(1).unwrap();
    /// let mut reader = producer.upgrade(&bookmark)?;
    /// assert_eq!(reader.try_recv().unwrap().events(), [1]);
    /// # Ok::<(), event_buffer::BookmarkError>(())
    /// ```
    pub fn upgrade(&self, bookmark: &Bookmark<T>) -> Result<Subscription<T>, BookmarkError> {
        let place = self.buffer.lock().tail.upgrade(&bookmark.place)?;
        Ok(Position(place).subscribe())
    }

    /// Returns the place after the newest item: see [`EventBuffer::tail`].
    ///
    /// ```
    /// use event_buffer::{EventBuffer, SharedBuffer};
    ///
    /// let live = SharedBuffer::new();
    /// let snapshot = EventBuffer::new();
    /// let mut reader = snapshot.subscribe();
    /// snapshot.splice(live.tail());
    /// live.push("event").unwrap();
    /// assert_eq!(reader.try_recv()?.events(), ["event"]);
    /// # Ok::<(), event_buffer::TryRecvError>(())
    /// ```
    pub fn tail(&self) -> Position<T> {
        self.buffer.lock().tail()
    }

    /// Returns `true` while a subscription can still reach the end of this buffer.
    ///
    /// See [`EventBuffer::is_observed`].
    ///
    /// ```
    /// use event_buffer::SharedBuffer;
    ///
    /// let producer = SharedBuffer::<u8>::new();
    /// let reader = producer.subscribe();
    /// assert!(producer.is_observed());
    /// drop(reader);
    /// assert!(!producer.is_observed());
    /// ```
    pub fn is_observed(&self) -> bool {
        self.buffer.lock().is_observed()
    }

    /// Waits until no reader is left: see [`EventBuffer::unobserved`].
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::SharedBuffer;
    ///
    /// let producer = SharedBuffer::<u8>::new();
    /// let reader = producer.subscribe();
    /// drop(reader);
    /// producer.unobserved().await;
    /// # });
    /// ```
    #[doc(alias = "closed")]
    pub async fn unobserved(&self) {
        let shared = Arc::clone(self.buffer.lock().tail.shared());
        shared.until_unobserved().await;
    }

    /// Waits for a reader: see [`EventBuffer::observed`].
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::SharedBuffer;
    ///
    /// let producer = SharedBuffer::<u8>::new();
    /// let reader = producer.subscribe();
    /// producer.observed().await;
    /// # drop(reader);
    /// # });
    /// ```
    pub async fn observed(&self) {
        let shared = Arc::clone(self.buffer.lock().tail.shared());
        shared.until_observed().await;
    }

    /// Returns the number of subscriptions that can still reach the end of this buffer.
    ///
    /// See [`EventBuffer::subscriber_count`].
    ///
    /// ```
    /// use event_buffer::SharedBuffer;
    ///
    /// let producer = SharedBuffer::<u8>::new();
    /// let reader = producer.subscribe();
    /// assert_eq!(producer.subscriber_count(), 1);
    /// # drop(reader);
    /// ```
    #[doc(alias = "receiver_count")]
    pub fn subscriber_count(&self) -> usize {
        self.buffer.lock().subscriber_count()
    }

    /// Returns the number of items of this buffer that are in memory.
    ///
    /// See [`EventBuffer::backlog`].
    ///
    /// ```
    /// use event_buffer::SharedBuffer;
    ///
    /// let producer = SharedBuffer::new();
    /// producer.extend([1, 2, 3]).unwrap();
    /// producer.clear_window();
    /// producer.push(4).unwrap();
    /// assert!(producer.backlog() >= 1);
    /// ```
    pub fn backlog(&self) -> u64 {
        self.buffer.lock().backlog()
    }

    /// Clears the replay window: see [`EventBuffer::clear_window`].
    ///
    /// ```
    /// use event_buffer::SharedBuffer;
    ///
    /// let producer = SharedBuffer::new();
    /// producer.push(1).unwrap();
    /// producer.clear_window();
    /// assert_eq!(producer.retained(), 0);
    /// ```
    #[doc(alias = "clear")]
    pub fn clear_window(&self) {
        let cleared = self.buffer.lock().tail.clear_window();
        // User code: events are dropped after the lock is released.
        drop(cleared);
    }

    /// Returns the number of items in the replay window: see [`EventBuffer::retained`].
    ///
    /// ```
    /// use event_buffer::SharedBuffer;
    ///
    /// let producer = SharedBuffer::new();
    /// producer.extend([1, 2, 3]).unwrap();
    /// assert_eq!(producer.retained(), 1); // the newest, as nothing else is set
    /// ```
    #[doc(alias = "len")]
    #[doc(alias = "is_empty")]
    pub fn retained(&self) -> usize {
        self.buffer.lock().retained()
    }

    /// Ends the buffer cleanly, for all handles: readers drain it, then end.
    ///
    /// The replay window is dropped; [`finish`](Self::finish) keeps it. Has no effect if the buffer
    /// has ended already. The [`Sink`](futures::Sink) has another `close`: see the [type's
    /// page](Self#ending).
    ///
    /// ```
    /// use event_buffer::{SharedBuffer, TryRecvError};
    ///
    /// let producer = SharedBuffer::new();
    /// let mut reader = producer.subscribe().cloned();
    /// producer.push("last words").unwrap();
    /// producer.clone().close();
    /// assert!(producer.push("too late").is_err());
    /// assert_eq!(reader.try_recv(), Ok("last words"));
    /// assert_eq!(reader.try_recv(), Err(TryRecvError::Closed));
    /// ```
    pub fn close(&self) {
        self.end_with(Writer::close);
    }

    /// Ends the buffer with an error, for all handles: see [`EventBuffer::fail`].
    ///
    /// Has no effect if the buffer has ended already.
    ///
    /// ```
    /// use event_buffer::{RecvError, SharedBuffer};
    ///
    /// let producer = SharedBuffer::<u8>::new();
    /// let mut reader = producer.subscribe();
    /// producer.fail("out of luck");
    /// assert!(matches!(reader.recv_blocking(), Err(RecvError::Failed(_))));
    /// ```
    pub fn fail(&self, error: impl Into<Box<dyn Error + Send + Sync>>) {
        let error = SharedError::new(error.into());
        self.end_with(|tail| tail.fail(error.clone()));
    }

    /// Ends the buffer for all handles by continuing it in another.
    ///
    /// See [`EventBuffer::splice`]. The readers continue in the other buffer; the handles do not.
    /// They keep nothing of it, and a reader that subscribes through one of them from now on finds
    /// a closed buffer. Waiting calls of [`observed`](Self::observed) and
    /// [`unobserved`](Self::unobserved) return. Has no effect if the buffer has ended already.
    ///
    /// ```
    /// use event_buffer::{EventBuffer, SharedBuffer};
    ///
    /// let mut live = EventBuffer::new();
    /// let snapshot = SharedBuffer::new();
    /// let mut reader = snapshot.subscribe().cloned();
    /// snapshot.push("state").unwrap();
    /// snapshot.splice(live.tail());
    /// live.push("event");
    /// assert_eq!(reader.try_recv(), Ok("state"));
    /// assert_eq!(reader.try_recv(), Ok("event"));
    /// ```
    pub fn splice(&self, onward: impl Into<Position<T>>) {
        let onward = onward.into();
        let mut buffer = self.buffer.lock();
        if buffer.tail.has_ended() {
            return drop(buffer);
        }
        let later = buffer.tail.splice(onward.0);
        // The handles live on, and with this tail they would keep the other buffer's items.
        buffer.tail = Writer::closed();
        // User code runs after the lock is released.
        drop(buffer);
        drop(later);
    }

    /// Ends the buffer like [`close`](Self::close), but keeps the replay window for later readers.
    ///
    /// The handles of the buffer keep the window, too. If the buffer has ended already, the
    /// recording has what it still retains, which is nothing after [`close`](Self::close), and ends
    /// the same way. See [`EventBuffer::finish`].
    ///
    /// ```
    /// use event_buffer::SharedBuffer;
    ///
    /// let producer = SharedBuffer::new();
    /// producer.push("the answer").unwrap();
    /// let recording = producer.finish();
    /// assert!(producer.push("too late").is_err());
    /// assert_eq!(recording.subscribe().try_recv()?.events(), ["the answer"]);
    /// # Ok::<(), event_buffer::TryRecvError>(())
    /// ```
    pub fn finish(&self) -> Recording<T> {
        let (recording, later) = self.finish_later();
        // User code: wakers run after the lock is released.
        drop(later);
        recording
    }

    /// Like [`finish`](Self::finish), but returns the wake-ups, which run user code.
    pub(crate) fn finish_later(&self) -> (Recording<T>, Later<T>) {
        let mut buffer = self.buffer.lock();
        let recording = Recording::of(&buffer.tail);
        let later = buffer.tail.close();
        (recording, later)
    }

    fn end_with(&self, end: impl FnOnce(&mut Writer<T>) -> Later<T>) {
        let mut buffer = self.buffer.lock();
        let later = end(&mut buffer.tail);
        let window = buffer.tail.clear_window();
        drop(buffer);
        // User code: wakers and drops run after the lock is released.
        drop(later);
        drop(window);
    }

    /// Returns a handle that does not keep the buffer open.
    ///
    /// ```
    /// use event_buffer::SharedBuffer;
    ///
    /// let producer = SharedBuffer::<u8>::new();
    /// let weak = producer.downgrade();
    /// assert!(weak.upgrade().is_some());
    /// drop(producer);
    /// assert!(weak.upgrade().is_none());
    /// ```
    pub fn downgrade(&self) -> WeakBuffer<T> {
        WeakBuffer {
            buffer: Arc::downgrade(&self.buffer),
        }
    }

    /// Returns `true` if both are handles of one buffer.
    ///
    /// ```
    /// use event_buffer::SharedBuffer;
    ///
    /// let producer = SharedBuffer::<u8>::new();
    /// assert!(producer.same_buffer(&producer.clone()));
    /// assert!(!producer.same_buffer(&SharedBuffer::new()));
    /// ```
    #[doc(alias = "same_channel")]
    pub fn same_buffer(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.buffer, &other.buffer)
    }

    /// Returns the buffer if this is the last handle and the buffer has not ended.
    ///
    /// The handle is consumed either way. If several threads call this at once with the last
    /// handles, exactly one of them gets the buffer.
    ///
    /// ```
    /// use event_buffer::SharedBuffer;
    ///
    /// let producer = SharedBuffer::new();
    /// let other = producer.clone();
    /// assert!(producer.into_inner().is_none());
    /// let mut buffer = other.into_inner().unwrap();
    /// buffer.push("by the one that is left");
    /// ```
    pub fn into_inner(self) -> Option<EventBuffer<T>> {
        let buffer = Arc::into_inner(self.buffer).map(Mutex::into_inner);
        buffer.filter(|buffer| !buffer.tail.has_ended())
    }
}

/// A handle of a [`SharedBuffer`] that does not keep it open.
///
/// Made by [`SharedBuffer::downgrade`]. It keeps no item in memory.
///
/// ```
/// use event_buffer::{SharedBuffer, TryRecvError};
///
/// let producer = SharedBuffer::new();
/// let mut reader = producer.subscribe().cloned();
/// let weak = producer.downgrade();
/// weak.upgrade().unwrap().push(1).unwrap();
/// drop(producer);
/// assert_eq!(reader.try_recv(), Ok(1));
/// assert_eq!(reader.try_recv(), Err(TryRecvError::Closed));
/// ```
pub struct WeakBuffer<T> {
    buffer: Weak<Mutex<EventBuffer<T>>>,
}

impl<T> WeakBuffer<T> {
    /// Returns a handle that publishes, unless all of them are gone.
    ///
    /// A buffer that has ended is returned, too, while one of its handles exists: publishing to it
    /// is an error.
    ///
    /// ```
    /// use event_buffer::SharedBuffer;
    ///
    /// let producer = SharedBuffer::new();
    /// let weak = producer.downgrade();
    /// producer.close();
    /// assert!(weak.upgrade().unwrap().push(1).is_err());
    /// ```
    pub fn upgrade(&self) -> Option<SharedBuffer<T>> {
        let buffer = self.buffer.upgrade()?;
        Some(SharedBuffer { buffer })
    }
}

impl<T> Clone for WeakBuffer<T> {
    fn clone(&self) -> Self {
        Self {
            buffer: Weak::clone(&self.buffer),
        }
    }
}

impl<T> fmt::Debug for WeakBuffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakBuffer").finish_non_exhaustive()
    }
}

impl<T: RefUnwindSafe> UnwindSafe for WeakBuffer<T> {}
impl<T: RefUnwindSafe> RefUnwindSafe for WeakBuffer<T> {}

// No field is ever pinned.
impl<T> Unpin for SharedBuffer<T> {}

impl<T> From<EventBuffer<T>> for SharedBuffer<T> {
    fn from(buffer: EventBuffer<T>) -> Self {
        Self {
            buffer: Arc::new(Mutex::new(buffer)),
        }
    }
}

impl<T> Default for SharedBuffer<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for SharedBuffer<T> {
    fn clone(&self) -> Self {
        Self {
            buffer: Arc::clone(&self.buffer),
        }
    }
}

impl<T> fmt::Debug for SharedBuffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBuffer").finish_non_exhaustive()
    }
}

impl<T: RefUnwindSafe> UnwindSafe for SharedBuffer<T> {}
impl<T: RefUnwindSafe> RefUnwindSafe for SharedBuffer<T> {}
