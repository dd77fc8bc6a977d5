//! A place in a buffer.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

use crate::list::PlaceRef;
use crate::read::bookmark::Bookmark;

/// A place in a buffer, from which any number of readers can start, now or later.
///
/// It keeps everything published from there on in memory, as a cache must; a [`Bookmark`] keeps no
/// item. It does not count as an observer. Cloning it is cheap (one reference count).
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
pub struct Position<T>(pub(crate) PlaceRef<T>);

impl<T> Position<T> {
    /// Returns a weak place, which keeps no item in memory. O(1).
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
        Bookmark::new(self.0.downgrade())
    }

    /// Returns the number of items published from here on, including those behind splices.
    ///
    /// # Cost
    ///
    /// O(1), or O(splices ahead), each of which takes a lock for a moment.
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

impl<T: RefUnwindSafe> UnwindSafe for Position<T> {}
impl<T: RefUnwindSafe> RefUnwindSafe for Position<T> {}
