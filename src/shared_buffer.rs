//! A writer for several producers.

use std::convert::Infallible;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::bookmark::{Bookmark, BookmarkError};
use crate::buffer::EventBuffer;
use crate::item::BufferItem;
use crate::position::Position;
use crate::raw::{Batch, Payload};
use crate::subscription::Subscription;
use crate::sync::Mutex;
use futures::Sink;

/// A cloneable writer for several producers: one [`EventBuffer`] behind a mutex.
///
/// Most of its methods, by `&self`; `subscribe_after`, `unobserved`, `fail` and `splice` are reached through
/// [`into_inner`](Self::into_inner). A handle keeps what the replay window says, no more.
///
/// What ends the buffer is dropping the last handle, which closes it; the last handle can end it otherwise through
/// [`into_inner`](Self::into_inner). Closing its [`Sink`] (`SinkExt::close`, and `forward` does that at its end) ends
/// nothing: other handles may still publish. With `SinkExt` in scope, `close` on a `SharedBuffer` is the sink's.
///
/// Every method takes the lock for a moment. Readers do not take it, and writers do not wait for
/// readers.
///
/// No user code runs under the lock: events are collected before, and readers woken and
/// items freed after it, so that an iterator, a waker or a `T`'s drop may use the buffer itself.
///
/// ```
/// use event_buffer::{EventBuffer, SharedBuffer};
///
/// let producer = SharedBuffer::from(EventBuffer::new());
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
    /// An empty buffer that retains the newest item. For other settings make it
    /// [`from`](From::from) an [`EventBuffer`].
    ///
    /// ```
    /// use event_buffer::{EventBuffer, Replay, SharedBuffer};
    ///
    /// let plain = SharedBuffer::new();
    /// plain.push(1);
    /// let keeps_all = SharedBuffer::from(EventBuffer::builder().replay(Replay::All).build());
    /// keeps_all.extend([1, 2]);
    /// assert_eq!((plain.len(), keeps_all.len()), (1, 2));
    /// ```
    pub fn new() -> Self {
        EventBuffer::new().into()
    }

    /// Publishes the events as one item: see [`EventBuffer::append`]. The iterator runs before the
    /// lock is taken.
    ///
    /// ```
    /// use event_buffer::SharedBuffer;
    ///
    /// let producer = SharedBuffer::new();
    /// producer.append([1, 2]);
    /// assert_eq!(producer.head().unwrap().events(), [1, 2]);
    /// ```
    pub fn append(&self, events: impl IntoIterator<Item = T>) {
        if let Some(item) = Payload::collect(events) {
            self.publish(Batch::one(item));
        }
    }

    /// Publishes an item of one event: see [`EventBuffer::push`].
    ///
    /// ```
    /// use event_buffer::SharedBuffer;
    ///
    /// let producer = SharedBuffer::new();
    /// let mut reader = producer.subscribe();
    /// producer.clone().push("by a clone");
    /// assert_eq!(reader.try_recv()?.events(), ["by a clone"]);
    /// # Ok::<(), event_buffer::TryRecvError>(())
    /// ```
    pub fn push(&self, event: T) {
        let later = self.buffer.lock().tail.push_later(event);
        // The lock is released: what is foreign runs now.
        drop(later);
    }

    /// Publishes an item per event, all at once and next to each other, with one wake-up. The
    /// iterator runs before the lock is taken; if it panics nothing is published.
    ///
    /// ```
    /// use event_buffer::SharedBuffer;
    ///
    /// let producer = SharedBuffer::new();
    /// let reader = producer.subscribe();
    /// producer.extend(1..=3);
    /// assert_eq!(reader.lag(), 3);
    /// ```
    pub fn extend(&self, events: impl IntoIterator<Item = T>) {
        let batch: Batch<T> = events.into_iter().collect();
        if !batch.is_empty() {
            self.publish(batch);
        }
    }

    fn publish(&self, batch: Batch<T>) {
        let later = self.buffer.lock().tail.publish_later(batch);
        // The lock is released: what is foreign runs now.
        drop(later);
    }

    /// The newest retained item: see [`EventBuffer::head`].
    ///
    /// ```
    /// use event_buffer::SharedBuffer;
    ///
    /// let producer = SharedBuffer::new();
    /// assert!(producer.head().is_none());
    /// producer.push(1);
    /// assert_eq!(producer.head().unwrap().events(), [1]);
    /// ```
    pub fn head(&self) -> Option<BufferItem<T>> {
        self.buffer.lock().head()
    }

    /// Follows the buffer from now on: see [`EventBuffer::subscribe`].
    ///
    /// ```
    /// use event_buffer::{SharedBuffer, TryRecvError};
    ///
    /// let producer = SharedBuffer::new();
    /// producer.push(1);
    /// assert_eq!(producer.subscribe().try_recv(), Err(TryRecvError::Empty));
    /// ```
    pub fn subscribe(&self) -> Subscription<T> {
        self.buffer.lock().subscribe()
    }

    /// Replays what the buffer retains, then follows it: see
    /// [`EventBuffer::subscribe_from_start`].
    ///
    /// ```
    /// use event_buffer::SharedBuffer;
    ///
    /// let producer = SharedBuffer::new();
    /// producer.push(1);
    /// assert_eq!(producer.subscribe_from_start().try_recv()?.events(), [1]);
    /// # Ok::<(), event_buffer::TryRecvError>(())
    /// ```
    pub fn subscribe_from_start(&self) -> Subscription<T> {
        self.buffer.lock().subscribe_from_start()
    }

    /// Goes on at a [`Bookmark`]: see [`EventBuffer::upgrade`].
    ///
    /// # Errors
    ///
    /// As for [`EventBuffer::upgrade`].
    ///
    /// ```
    /// use event_buffer::SharedBuffer;
    ///
    /// let producer = SharedBuffer::new();
    /// let bookmark = producer.subscribe().bookmark();
    /// producer.push(1);
    /// let mut reader = producer.upgrade(&bookmark)?;
    /// assert_eq!(reader.try_recv().unwrap().events(), [1]);
    /// # Ok::<(), event_buffer::BookmarkError>(())
    /// ```
    pub fn upgrade(&self, bookmark: &Bookmark<T>) -> Result<Subscription<T>, BookmarkError> {
        self.buffer.lock().upgrade(bookmark)
    }

    /// The place after the newest item: see [`EventBuffer::tail`].
    ///
    /// ```
    /// use event_buffer::{EventBuffer, SharedBuffer};
    ///
    /// let live = SharedBuffer::new();
    /// let snapshot = EventBuffer::new();
    /// let mut reader = snapshot.subscribe();
    /// snapshot.splice(live.tail());
    /// live.push("event");
    /// assert_eq!(reader.try_recv()?.events(), ["event"]);
    /// # Ok::<(), event_buffer::TryRecvError>(())
    /// ```
    pub fn tail(&self) -> Position<T> {
        self.buffer.lock().tail()
    }

    /// Whether anybody follows: see [`EventBuffer::is_observed`].
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

    /// How many items the buffer retains for late readers: see [`EventBuffer::len`].
    ///
    /// ```
    /// use event_buffer::SharedBuffer;
    ///
    /// let producer = SharedBuffer::new();
    /// producer.extend([1, 2, 3]);
    /// assert_eq!(producer.len(), 1); // the newest, as nothing else is set
    /// ```
    pub fn len(&self) -> usize {
        self.buffer.lock().len()
    }

    /// Whether the buffer retains nothing for late readers.
    ///
    /// ```
    /// use event_buffer::SharedBuffer;
    ///
    /// let producer = SharedBuffer::<u8>::new();
    /// assert!(producer.is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The buffer, if this is the last handle. Where several threads ask at once, one of
    /// them gets it.
    ///
    /// The handle is gone either way.
    ///
    /// ```
    /// use event_buffer::{RecvError, SharedBuffer};
    ///
    /// let producer = SharedBuffer::<u8>::new();
    /// let mut reader = producer.subscribe();
    /// let other = producer.clone();
    /// assert!(producer.into_inner().is_none());
    /// other.into_inner().unwrap().fail("out of luck");
    /// assert!(matches!(reader.recv_blocking(), Err(RecvError::Failed(_))));
    /// ```
    pub fn into_inner(self) -> Option<EventBuffer<T>> {
        Arc::into_inner(self.buffer).map(Mutex::into_inner)
    }
}

/// Publishes an item per event, at once. Flushing does nothing, and closing the sink does not end the buffer.
impl<T> Sink<T> for SharedBuffer<T> {
    type Error = Infallible;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, event: T) -> Result<(), Infallible> {
        self.push(event);
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
