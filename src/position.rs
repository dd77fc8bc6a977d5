//! A place in a buffer.

use std::error::Error;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

use crate::bookmark::Bookmark;
use crate::raw::{Cursor, Slot};
use crate::subscription::Subscription;

/// A place in a buffer, from which reading can start, now or later.
///
/// Cheap to clone (one reference count). It keeps everything published after it alive, which is
/// what a cache wants; a [`Bookmark`] keeps nothing. It does not count as an observer.
///
/// ```
/// use event_buffer::EventBuffer;
///
/// let mut buffer = EventBuffer::new();
/// let here = buffer.tail();
/// buffer.push(1);
/// buffer.push(2);
/// let mut reader = here.subscribe().cloned();
/// assert_eq!(reader.try_recv(), Ok(1));
/// assert_eq!(reader.try_recv(), Ok(2));
/// ```
pub struct Position<T>(pub(crate) Slot<T>);

impl<T> Position<T> {
    /// Starts reading here. O(1), or O(splices ahead); allocates nothing.
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    ///
    /// let mut buffer = EventBuffer::new();
    /// let here = buffer.tail();
    /// buffer.push("event");
    /// for _ in 0..2 {
    ///     assert_eq!(here.subscribe().try_recv()?.events(), ["event"]);
    /// }
    /// # Ok::<(), event_buffer::TryRecvError>(())
    /// ```
    pub fn subscribe(&self) -> Subscription<T> {
        Subscription::new(Cursor::new(self.0.clone()))
    }

    /// The same place, but one that keeps nothing alive. O(1).
    ///
    /// ```
    /// use event_buffer::{BookmarkError, EventBuffer};
    ///
    /// let mut buffer = EventBuffer::new(); // retains one item
    /// let bookmark = buffer.tail().bookmark();
    /// buffer.extend([1, 2]);
    /// assert_eq!(buffer.upgrade(&bookmark).unwrap_err(), BookmarkError::Lost(1));
    /// ```
    pub fn bookmark(&self) -> Bookmark<T> {
        Bookmark::new(self.0.mark())
    }

    /// How many items have been published from here on, those behind splices included. O(1), or
    /// O(splices ahead).
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    ///
    /// let mut buffer = EventBuffer::new();
    /// let here = buffer.tail();
    /// buffer.append([1, 2]); // one item of two events
    /// buffer.push(3);
    /// assert_eq!(here.lag(), 2);
    /// ```
    pub fn lag(&self) -> u64 {
        self.0.lag()
    }
}

impl<T> Clone for Position<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> fmt::Debug for Position<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Position").finish_non_exhaustive()
    }
}

/// What the readers of a buffer get ([`RecvError::Failed`](crate::RecvError::Failed)) where it
/// was [spliced](crate::EventBuffer::splice) to a place that leads back to itself. They would
/// have gone round for ever.
///
/// ```
/// use event_buffer::{EventBuffer, SpliceCycle, TryRecvError};
///
/// let buffer = EventBuffer::<u8>::new();
/// let mut reader = buffer.subscribe();
/// let itself = buffer.tail();
/// buffer.splice(itself);
/// let Err(TryRecvError::Failed(error)) = reader.try_recv() else { panic!() };
/// assert!(error.downcast_ref::<SpliceCycle>().is_some());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpliceCycle;

impl fmt::Display for SpliceCycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the buffer was spliced to a place that leads back to it")
    }
}

impl Error for SpliceCycle {}

impl<T: RefUnwindSafe> UnwindSafe for Position<T> {}
impl<T: RefUnwindSafe> RefUnwindSafe for Position<T> {}
