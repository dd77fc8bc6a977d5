//! Reading as an iterator.

use futures::stream::{Stream, StreamExt};

use crate::link::block_on;

/// A blocking iterator over what a reader receives.
///
/// Made by the `iter` method of a reader: [`Subscription`](crate::Subscription::iter),
/// [`Cloned`](crate::Cloned::iter), [`Limited`](crate::Limited::iter) or a publisher's `Watch`.
///
/// It yields what the reader yields as a [`Stream`] and ends with it: with `None` when the buffer
/// is closed, or after a final error. Each step blocks the thread until something is ready, so it
/// is not for use in async code. Dropping the iterator leaves the reader at its place.
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
        // `None` stands for a missed deadline, and there is no deadline.
        block_on(self.0.next(), None).flatten()
    }
}
