//! Everything that is ready, lent.

use std::fmt;
use std::iter::FusedIterator;
use std::panic::{RefUnwindSafe, UnwindSafe};

use crate::list::Walk;

/// The events of all items that were ready, lent by
/// [`Subscription::next_chunk`](crate::Subscription::next_chunk): an iterator of `&T`.
///
/// An event counts as received once it has been given, even if the loop's body panics: a loop that stops, in the
/// midst of an item or between two, leaves the rest to the next `next_chunk`, and to
/// [`cloned`](crate::Subscription::cloned), [`limited`](crate::Subscription::limited) and a clone of the subscription.
/// [`recv`](crate::Subscription::recv), its relatives, the `Stream` and [`position`](crate::Subscription::position) give an
/// item whole, since a handle cannot hold half of one: after a loop that stopped in the midst of an item all of that
/// item's events come again.
/// Never empty when it is handed out. A [`Closer`](crate::Closer) does not stop a chunk that has been lent.
///
/// O(1) an event; takes no lock unless it goes over a splice, and does not allocate. All that was
/// lent stays in memory until the subscription is read again.
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
