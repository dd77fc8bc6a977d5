//! The events that are ready, by reference.

use std::fmt;
use std::iter::FusedIterator;
use std::panic::{RefUnwindSafe, UnwindSafe};

use crate::list::Walk;

/// The events of all items that were ready, by reference: an iterator of `&T`.
///
/// Made by [`Subscription::next_chunk`](crate::Subscription::next_chunk). It has at least one event
/// then, and a [`Closer`](crate::Closer) does not stop it.
///
/// An event counts as received once it has been yielded, even if the loop's body panics. A loop
/// that stops early, between two items or in the middle of one, leaves the rest to the next
/// `next_chunk`, to [`cloned`](crate::Subscription::cloned) and
/// [`limited`](crate::Subscription::limited), and to a clone of the subscription. The `recv`
/// family, the `Stream` and [`position`](crate::Subscription::position) deal in whole items,
/// because a handle cannot hold half of one: after a loop that stopped in the middle of an item,
/// they return all of its events again.
///
/// # Cost
///
/// O(1) per event, without allocating. Takes a lock only to cross a splice. The events stay in
/// memory until the subscription is read again.
///
/// ```
/// # futures::executor::block_on(async {
/// use event_buffer::EventBuffer;
///
/// let mut buffer = EventBuffer::new();
/// let mut reader = buffer.subscribe();
/// buffer.push("a");
/// buffer.append(["b", "c"]);
/// buffer.push("d");
/// for event in reader.next_chunk().await? {
///     println!("{event}");
///     if *event == "b" { break }
/// }
/// assert!(reader.next_chunk().await?.eq(&["c", "d"]));
/// # Ok::<(), event_buffer::RecvError>(()) }).unwrap();
/// ```
pub struct Chunk<'a, T>(Walk<'a, T>);

impl<'a, T> Chunk<'a, T> {
    pub(crate) fn new(events: Walk<'a, T>) -> Self {
        Self(events)
    }
}

impl<'a, T> Iterator for Chunk<'a, T> {
    type Item = &'a T;

    #[inline]
    fn next(&mut self) -> Option<&'a T> {
        self.0.next()
    }
}

impl<T> FusedIterator for Chunk<'_, T> {}

impl<T> fmt::Debug for Chunk<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunk").finish_non_exhaustive()
    }
}

impl<T: RefUnwindSafe> UnwindSafe for Chunk<'_, T> {}
impl<T: RefUnwindSafe> RefUnwindSafe for Chunk<'_, T> {}
