//! What is left of a buffer that has ended.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

use crate::list::{Cursor, PlaceRef, Writer};
use crate::read::subscription::Subscription;

/// The items of an ended buffer, for readers that come after its end.
///
/// Made by [`EventBuffer::finish`](crate::EventBuffer::finish) and
/// [`SharedBuffer::finish`](crate::SharedBuffer::finish) from the items of the replay window at
/// that time: a build log, the output of a job, a finished answer. Nothing can be added. It does
/// not count as an observer of the buffer.
///
/// A clone is another handle to the same items. They are freed once all handles are gone and all
/// readers have passed them.
///
/// ```
/// use event_buffer::{EventBuffer, Replay, TryRecvError};
///
/// let mut log = EventBuffer::builder().replay(Replay::All).build();
/// log.extend(["compiling", "testing", "done"]);
/// let recording = log.finish();
///
/// assert_eq!(recording.len(), 3);
/// let mut late = recording.subscribe().cloned();
/// assert_eq!(late.try_recv(), Ok("compiling"));
/// assert_eq!(late.try_recv(), Ok("testing"));
/// assert_eq!(late.try_recv(), Ok("done"));
/// assert_eq!(late.try_recv(), Err(TryRecvError::Closed));
/// ```
pub struct Recording<T> {
    /// The oldest item, or the end if there is none.
    oldest: PlaceRef<T>,
    len: usize,
}

impl<T> Recording<T> {
    /// Creates a recording of what the writer retains now.
    pub(crate) fn of(tail: &Writer<T>) -> Self {
        Self {
            oldest: tail.oldest(),
            len: tail.retained(),
        }
    }

    /// Returns a reader that replays all items, then ends as the buffer ended.
    ///
    /// # Cost
    ///
    /// O(1). Takes no lock and allocates nothing.
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    ///
    /// let mut buffer = EventBuffer::new();
    /// buffer.push("the newest item is retained unless set otherwise");
    /// let recording = buffer.finish();
    /// assert_eq!(recording.subscribe().iter().count(), 1);
    /// assert_eq!(recording.subscribe().iter().count(), 1);
    /// ```
    pub fn subscribe(&self) -> Subscription<T> {
        Subscription::new(Cursor::new(self.oldest.clone()))
    }

    /// Returns the number of items, however many events each has. O(1).
    ///
    /// ```
    /// use event_buffer::{EventBuffer, Replay};
    ///
    /// let mut buffer = EventBuffer::builder().replay(Replay::All).build();
    /// buffer.append(["two", "events"]);
    /// assert_eq!(buffer.finish().len(), 1);
    /// ```
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns `true` if there are no items. O(1).
    ///
    /// ```
    /// assert!(event_buffer::EventBuffer::<u8>::new().finish().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<T> Clone for Recording<T> {
    fn clone(&self) -> Self {
        Self {
            oldest: self.oldest.clone(),
            len: self.len,
        }
    }
}

impl<T> fmt::Debug for Recording<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

impl<T: RefUnwindSafe> UnwindSafe for Recording<T> {}
impl<T: RefUnwindSafe> RefUnwindSafe for Recording<T> {}
