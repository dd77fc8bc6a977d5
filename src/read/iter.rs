//! Reading as an iterator.

use futures::stream::{Stream, StreamExt};

use crate::link::block_on;

/// A blocking iterator over what a reader receives, made by
/// [`Subscription::iter`](crate::Subscription::iter), [`Cloned::iter`](crate::Cloned::iter) and
/// [`Limited::iter`](crate::Limited::iter).
///
/// Yields what the reader yields as a [`Stream`], and ends when that does: with `None` when the
/// buffer is closed, or after an error that is final. Each step blocks the thread until there is
/// something; it is not for use in async code. Dropping the iterator leaves the reader where it is.
///
/// ```
/// use event_buffer::EventBuffer;
///
/// let mut buffer = EventBuffer::new();
/// let mut reader = buffer.subscribe().cloned();
/// let writer = std::thread::spawn(move || buffer.extend(1..=3));
/// let sum: u32 = reader.iter().sum::<Result<_, _>>()?;
/// assert_eq!(sum, 6);
/// # writer.join().unwrap();
/// # Ok::<(), event_buffer::RecvError>(())
/// ```
#[derive(Debug)]
pub struct Iter<'a, R>(&'a mut R);

impl<'a, R> Iter<'a, R> {
    pub(crate) fn new(reader: &'a mut R) -> Self {
        Self(reader)
    }
}

impl<R: Stream + Unpin> Iterator for Iter<'_, R> {
    type Item = R::Item;

    /// # Panics
    ///
    /// On `wasm32-unknown-unknown`, which has no threads, if nothing is ready: it would block
    /// forever.
    fn next(&mut self) -> Option<R::Item> {
        // Without a deadline it always completes.
        block_on(self.0.next(), None).flatten()
    }
}
