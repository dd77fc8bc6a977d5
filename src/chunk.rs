//! Everything that is ready, lent.

use std::fmt;
use std::iter::FusedIterator;
use std::slice;

use crate::raw::Walk;

/// The events of all items that were ready, lent by
/// [`Subscription::next_chunk`](crate::Subscription::next_chunk): an iterator of `&T`.
///
/// An item counts as received once its first event has been given; the items that a loop did not
/// come to are given again by the next read. Never empty when it is handed out.
///
/// ```
/// # futures::executor::block_on(async {
/// use event_buffer::EventBuffer;
///
/// let mut buffer = EventBuffer::new();
/// let mut reader = buffer.subscribe();
/// buffer.append(["a", "b"]);
/// buffer.push("c");
/// for event in reader.next_chunk().await? {
///     println!("{event}");
/// }
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
