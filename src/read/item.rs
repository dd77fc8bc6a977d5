//! A published item.

use std::fmt;
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};

use crate::error::{RecvError, TryRecvError};
use crate::list::{PlaceRef, Read};
use crate::read::indexed::Indexed;
use crate::read::position::Position;

/// A handle to one published item: the events that were appended together, as a slice.
///
/// Items are never empty and never change. A handle does not count as an observer.
///
/// **A handle keeps its item and everything published after it in memory.** A cache makes use of
/// that; otherwise, drop the handle as soon as you can.
///
/// # Cost
///
/// Cloning a handle is cheap (one reference count), and `T` need not be [`Clone`]. Dropping the
/// last handle that kept a chain of items frees them all: O(items freed).
///
/// ```
/// use event_buffer::EventBuffer;
///
/// let mut buffer = EventBuffer::new();
/// let mut reader = buffer.subscribe();
/// buffer.append(["a", "b"]);
/// let item = reader.try_recv()?;
/// assert_eq!(item.events(), ["a", "b"]);
/// assert_eq!(item.len(), 2); // `Deref<Target = [T]>`
/// # Ok::<(), event_buffer::TryRecvError>(())
/// ```
pub struct BufferItem<T>(PlaceRef<T>);

impl<T> BufferItem<T> {
    /// Wraps the place of an item; it must have been published.
    pub(crate) fn new(place: PlaceRef<T>) -> Self {
        Self(place)
    }

    /// Returns the item's events, at least one. O(1), takes no lock.
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    ///
    /// let mut buffer = EventBuffer::new();
    /// buffer.append(["a", "b"]);
    /// let item = buffer.latest().unwrap();
    /// let [first, .., last] = item.events() else { panic!() };
    /// assert_eq!((*first, *last), ("a", "b"));
    /// ```
    #[inline]
    pub fn events(&self) -> &[T] {
        self.0.events()
    }

    /// Returns the item after this one if it has been published. Never waits.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] if nothing has been published since,
    /// [`Closed`](TryRecvError::Closed) or [`Failed`](TryRecvError::Failed) if the buffer ended
    /// after this item. Each call returns the failure, unlike those of a subscription, which
    /// reports it once.
    ///
    /// # Cost
    ///
    /// O(1), or O(splices) to cross some. Does not allocate.
    ///
    /// ```
    /// use event_buffer::{EventBuffer, TryRecvError};
    ///
    /// let mut buffer = EventBuffer::new();
    /// buffer.push(1);
    /// let first = buffer.latest().unwrap();
    /// assert_eq!(first.try_next().unwrap_err(), TryRecvError::Empty);
    /// buffer.push(2);
    /// assert_eq!(first.try_next()?.events(), [2]);
    /// # Ok::<(), TryRecvError>(())
    /// ```
    pub fn try_next(&self) -> Result<Self, TryRecvError> {
        Self::try_at(&mut self.0.after())
    }

    fn try_at(place: &mut PlaceRef<T>) -> Result<Self, TryRecvError> {
        match place.read() {
            Read::Item => Ok(Self(place.clone())),
            Read::Empty => Err(TryRecvError::Empty),
            Read::End(error) => Err(error.into()),
        }
    }

    /// Waits for the item after this one.
    ///
    /// To follow a buffer, prefer [`subscribe`](Self::subscribe): a task that waits here is no
    /// observer, and cannot be closed from outside.
    ///
    /// # Errors
    ///
    /// [`RecvError::Closed`] or [`RecvError::Failed`] if the buffer ended after this item.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: each call returns the same item.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::EventBuffer;
    ///
    /// let mut buffer = EventBuffer::new();
    /// buffer.push(1);
    /// let first = buffer.latest().unwrap();
    /// buffer.push(2);
    /// assert_eq!(first.next().await?.events(), [2]);
    /// # Ok::<(), event_buffer::RecvError>(()) }).unwrap();
    /// ```
    pub async fn next(&self) -> Result<Self, RecvError> {
        let mut place = self.0.after();
        loop {
            match Self::try_at(&mut place).map_err(TryRecvError::into_end) {
                Ok(item) => return Ok(item),
                Err(Some(end)) => return Err(end),
                Err(None) => place.written().await,
            }
        }
    }

    /// Returns the place of this item: reading from there starts with it. O(1).
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    ///
    /// let mut buffer = EventBuffer::new();
    /// buffer.push(1);
    /// let here = buffer.latest().unwrap().position();
    /// assert_eq!(here.lag(), 1);
    /// assert_eq!(here.subscribe().try_recv()?.events(), [1]);
    /// # Ok::<(), event_buffer::TryRecvError>(())
    /// ```
    pub fn position(&self) -> Position<T> {
        Position(self.0.clone())
    }

    /// Returns the place after this item: reading from there starts with the next one. O(1).
    ///
    /// The place does not keep this item in memory.
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    ///
    /// let mut buffer = EventBuffer::new();
    /// buffer.push(1);
    /// let after = buffer.latest().unwrap().after();
    /// buffer.push(2);
    /// assert_eq!(after.subscribe().try_recv()?.events(), [2]);
    /// # Ok::<(), event_buffer::TryRecvError>(())
    /// ```
    pub fn after(&self) -> Position<T> {
        Position(self.0.after())
    }
}

impl<T: Indexed> BufferItem<T> {
    /// Returns `true` if the item's first event has this [index](Indexed::index).
    ///
    /// ```
    /// # use event_buffer::{EventBuffer, Indexed};
    /// # struct Revision(u64);
    /// # impl Indexed for Revision {
    /// #     fn index(&self) -> u64 { self.0 }
    /// # }
    /// let mut buffer = EventBuffer::new();
    /// buffer.append([Revision(7), Revision(8)]);
    /// let item = buffer.latest().unwrap();
    /// assert!(item.has_index(7) && !item.has_index(8));
    /// ```
    pub fn has_index(&self, index: u64) -> bool {
        self.events()
            .first()
            .is_some_and(|event| event.index() == index)
    }
}

impl<T> Deref for BufferItem<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        self.events()
    }
}

impl<T> Clone for BufferItem<T> {
    #[inline]
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: fmt::Debug> fmt::Debug for BufferItem<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BufferItem").field(&self.events()).finish()
    }
}

impl<T: PartialEq> PartialEq for BufferItem<T> {
    fn eq(&self, other: &Self) -> bool {
        self.events() == other.events()
    }
}

impl<T: Eq> Eq for BufferItem<T> {}

impl<T> From<BufferItem<T>> for Position<T> {
    fn from(item: BufferItem<T>) -> Self {
        Self(item.0)
    }
}

impl<T> From<&BufferItem<T>> for Position<T> {
    fn from(item: &BufferItem<T>) -> Self {
        item.position()
    }
}

impl<T> From<&Position<T>> for Position<T> {
    fn from(position: &Position<T>) -> Self {
        position.clone()
    }
}

impl<T: RefUnwindSafe> UnwindSafe for BufferItem<T> {}
impl<T: RefUnwindSafe> RefUnwindSafe for BufferItem<T> {}
