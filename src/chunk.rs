//! Everything that is ready, lent.

use std::fmt;
use std::iter::FusedIterator;
use std::slice;

use crate::raw::Walk;

/// The events of all items that were ready, lent by
/// [`Subscription::next_chunk`](crate::Subscription::next_chunk): an iterator of `&T`.
///
/// Cheap to clone. It never holds fewer than one event when it is handed out.
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
    walk: Walk<'a, T>,
}

impl<'a, T> Chunk<'a, T> {
    pub(crate) fn new(walk: Walk<'a, T>) -> Self {
        Self {
            item: [].iter(),
            walk,
        }
    }

    /// An iterator of the events that this one has not given yet.
    #[must_use]
    pub fn iter(&self) -> Self {
        self.clone()
    }
}

impl<'a, T> Iterator for Chunk<'a, T> {
    type Item = &'a T;

    #[inline]
    fn next(&mut self) -> Option<&'a T> {
        loop {
            match self.item.next() {
                Some(event) => return Some(event),
                None => self.item = self.walk.next()?.iter(),
            }
        }
    }

    #[inline]
    fn fold<B, F: FnMut(B, &'a T) -> B>(self, start: B, mut f: F) -> B {
        let start = self.item.fold(start, &mut f);
        self.walk
            .fold(start, |folded, item| item.iter().fold(folded, &mut f))
    }
}

impl<T> FusedIterator for Chunk<'_, T> {}

impl<'a, T> IntoIterator for &Chunk<'a, T> {
    type Item = &'a T;
    type IntoIter = Chunk<'a, T>;

    fn into_iter(self) -> Chunk<'a, T> {
        self.clone()
    }
}

impl<T> Clone for Chunk<'_, T> {
    fn clone(&self) -> Self {
        Self {
            item: self.item.clone(),
            walk: self.walk.clone(),
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Chunk<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
