//! A weak place.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

use crate::list::WeakPlace;

/// A weak place in a buffer, from which a reader can continue later.
///
/// It continues if the items from there on are still retained then. Made by the `bookmark` method
/// of a reader ([`Subscription`](crate::Subscription::bookmark),
/// [`Cloned`](crate::Cloned::bookmark), [`Limited`](crate::Limited::bookmark)) or of a
/// [`Position`](crate::Position::bookmark), to which it is what a [`Weak`](std::sync::Weak) is to
/// an [`Arc`](std::sync::Arc). The buffer [upgrades](crate::EventBuffer::upgrade) it to a
/// subscription, or reports how many items are lost.
///
/// # Cost
///
/// Cloning it is cheap (one reference count). It keeps no item in memory, only a few hundred bytes
/// about the buffer and each buffer that it was spliced to. These include the error that one of
/// them failed with, and the emptied list of tasks that waited there.
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
    pub(crate) place: WeakPlace<T>,
}

impl<T> Bookmark<T> {
    pub(crate) fn new(place: WeakPlace<T>) -> Self {
        Self { place }
    }
}

impl<T> Clone for Bookmark<T> {
    fn clone(&self) -> Self {
        Self::new(self.place.clone())
    }
}

impl<T> fmt::Debug for Bookmark<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bookmark").finish_non_exhaustive()
    }
}

impl<T: RefUnwindSafe> UnwindSafe for Bookmark<T> {}
impl<T: RefUnwindSafe> RefUnwindSafe for Bookmark<T> {}
