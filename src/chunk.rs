//! Everything that is ready, lent.

use std::fmt;
use std::iter::FusedIterator;
use std::slice;

use crate::raw::Walk;

/// The events of all items that were ready, lent by
/// [`Subscription::next_chunk`](crate::Subscription::next_chunk): an iterator of `&T`.
///
/// An item counts as received once its first event has been given: a loop that stops in the midst
/// of an item does not see the rest of it. The items that it did not come to are given again by
/// the next read. Never empty when it is handed out. A [`Closer`](crate::Closer) does not stop a
/// chunk that has been lent.
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
/// buffer.append(["a", "b"]);
/// buffer.extend(["c", "d"]);
/// for event in reader.next_chunk().await? {
///     println!("{event}");
///     if *event == "c" { break }
/// }
/// assert_eq!(reader.recv().await?.events(), ["d"]);
/// # Ok::<(), event_buffer::RecvError>(()) }).unwrap();
/// ```
pub struct Chunk<'a, T> {
    item: slice::Iter<'a, T>,
    items: Walk<'a, T>,
}

impl<'a, T> Chunk<'a, T> {
    pub(crate) fn new(items: Walk<'a, T>) -> Self {
        Self {
            item: [].iter(),
            items,
        }
    }
}

impl<'a, T> Iterator for Chunk<'a, T> {
    type Item = &'a T;

    #[inline]
    fn next(&mut self) -> Option<&'a T> {
        loop {
            match self.item.next() {
                Some(event) => return Some(event),
                None => self.item = self.items.next()?.iter(),
            }
        }
    }

    #[inline]
    fn fold<B, F: FnMut(B, &'a T) -> B>(self, start: B, mut f: F) -> B {
        let start = self.item.fold(start, &mut f);
        self.items
            .fold(start, |folded, item| item.iter().fold(folded, &mut f))
    }
}

impl<T> FusedIterator for Chunk<'_, T> {}

impl<T> fmt::Debug for Chunk<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunk").finish_non_exhaustive()
    }
}
