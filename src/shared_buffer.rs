//! A writer for several producers.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::buffer::EventBuffer;
use crate::item::BufferItem;
use crate::position::Position;
use crate::raw::{Batch, Payload};
use crate::subscription::Subscription;
use crate::sync::Mutex;
use futures::Sink;

/// A cloneable writer for several producers: one [`EventBuffer`] behind a mutex.
///
/// The same as its methods, by `&self`. The buffer is closed when the last handle is dropped;
/// the last handle can end it otherwise through [`into_inner`](Self::into_inner).
///
/// Under the lock nothing foreign runs: events are collected before, and readers woken and
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
    /// What this handle's sink was given and has not flushed.
    unflushed: Vec<T>,
}

impl<T> SharedBuffer<T> {
    /// An empty buffer that retains the newest item. For other settings make it
    /// [`from`](From::from) an [`EventBuffer`].
    pub fn new() -> Self {
        EventBuffer::new().into()
    }

    /// See [`EventBuffer::append`].
    pub fn append(&self, events: impl IntoIterator<Item = T>) {
        if let Some(item) = Payload::collect(events) {
            self.publish(Batch::one(item));
        }
    }

    /// See [`EventBuffer::push`].
    pub fn push(&self, event: T) {
        self.publish(Batch::one(Payload::One(event)));
    }

    /// Publishes an item per event, all at once and next to each other, with one wake-up.
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

    /// See [`EventBuffer::head`].
    pub fn head(&self) -> Option<BufferItem<T>> {
        self.buffer.lock().head()
    }

    /// See [`EventBuffer::subscribe`].
    pub fn subscribe(&self) -> Subscription<T> {
        self.buffer.lock().subscribe()
    }

    /// See [`EventBuffer::subscribe_from_start`].
    pub fn subscribe_from_start(&self) -> Subscription<T> {
        self.buffer.lock().subscribe_from_start()
    }

    /// See [`EventBuffer::tail`].
    pub fn tail(&self) -> Position<T> {
        self.buffer.lock().tail()
    }

    /// See [`EventBuffer::is_observed`].
    pub fn is_observed(&self) -> bool {
        self.buffer.lock().is_observed()
    }

    /// See [`EventBuffer::len`].
    pub fn len(&self) -> usize {
        self.buffer.lock().len()
    }

    /// See [`EventBuffer::is_empty`].
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The buffer, if this is the last handle. Where several threads ask at once, one of
    /// them gets it.
    pub fn into_inner(mut self) -> Option<EventBuffer<T>> {
        self.flush();
        // `self` has a `Drop`, so its field cannot be moved out; `clone` shares it, and the drop
        // leaves the clone as the one that counts.
        let buffer = Arc::clone(&self.buffer);
        drop(self);
        Arc::into_inner(buffer).map(Mutex::into_inner)
    }

    fn flush(&mut self) {
        if !self.unflushed.is_empty() {
            let batch = self.unflushed.drain(..).collect();
            self.publish(batch);
        }
    }
}

/// Publishes an item per event; what was sent before a flush becomes visible with one wake-up.
impl<T> Sink<T> for SharedBuffer<T> {
    type Error = Infallible;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, event: T) -> Result<(), Infallible> {
        self.get_mut().unflushed.push(event);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.get_mut().flush();
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.poll_flush(cx)
    }
}

// Nothing in it is ever pinned.
impl<T> Unpin for SharedBuffer<T> {}

impl<T> From<EventBuffer<T>> for SharedBuffer<T> {
    fn from(mut buffer: EventBuffer<T>) -> Self {
        // Now, rather than later under the lock.
        buffer.flush();
        Self {
            buffer: Arc::new(Mutex::new(buffer)),
            unflushed: Vec::new(),
        }
    }
}

impl<T> Default for SharedBuffer<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// A clone shares the buffer, not what this handle's sink has yet to flush.
impl<T> Clone for SharedBuffer<T> {
    fn clone(&self) -> Self {
        Self {
            buffer: Arc::clone(&self.buffer),
            unflushed: Vec::new(),
        }
    }
}

impl<T> Drop for SharedBuffer<T> {
    fn drop(&mut self) {
        self.flush();
    }
}

impl<T> fmt::Debug for SharedBuffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBuffer").finish_non_exhaustive()
    }
}
