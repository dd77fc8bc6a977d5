//! A place that keeps nothing.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

use crate::list::WeakPlace;

/// A place in a buffer that keeps no item alive: to go on there later, if what follows is still
/// retained then.
///
/// Made by the `bookmark` of a [`Subscription`](crate::Subscription::bookmark), a
/// [`Cloned`](crate::Cloned::bookmark) or a [`Position`](crate::Position::bookmark): it is to that what a
/// [`Weak`](std::sync::Weak) is to an [`Arc`](std::sync::Arc). The buffer
/// [upgrades](crate::EventBuffer::upgrade) it to a subscription, or tells how many items are lost.
///
/// Cheap to clone (one reference count). In memory it keeps a few hundred bytes about the buffer, and
/// those of buffers that this one was spliced to; with that the error that one of them failed with, and the
/// emptied list of a crowd that waited there.
///
/// ```
/// use event_buffer::{BookmarkError, EventBuffer, Replay};
///
/// let mut buffer = EventBuffer::builder().replay(Replay::Last(2)).build();
/// let bookmark = buffer.tail().bookmark();
/// buffer.extend([1, 2]);
/// assert_eq!(buffer.upgrade(&bookmark)?.try_recv().unwrap().events(), [1]);
///
/// buffer.extend([3, 4, 5]);
/// assert_eq!(buffer.upgrade(&bookmark).unwrap_err(), BookmarkError::Lost(3));
/// # Ok::<(), BookmarkError>(())
/// ```
pub struct Bookmark<T> {
    pub(crate) mark: WeakPlace<T>,
}

impl<T> Bookmark<T> {
    pub(crate) fn new(mark: WeakPlace<T>) -> Self {
        Self { mark }
    }
}

impl<T> Clone for Bookmark<T> {
    fn clone(&self) -> Self {
        Self::new(self.mark.clone())
    }
}

impl<T> fmt::Debug for Bookmark<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bookmark").finish_non_exhaustive()
    }
}

impl<T: RefUnwindSafe> UnwindSafe for Bookmark<T> {}
impl<T: RefUnwindSafe> RefUnwindSafe for Bookmark<T> {}
