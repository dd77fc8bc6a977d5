//! What late readers can still read, and the builder that is told.

use std::fmt;
use std::marker::PhantomData;

use crate::buffer::EventBuffer;
use crate::raw::Tail;

/// What a buffer retains for late readers, as long as its writer lives. Readers retain what they
/// have not read in any case.
///
/// ```
/// use event_buffer::{EventBuffer, Replay};
///
/// let mut buffer = EventBuffer::builder().replay(Replay::Last(2)).build();
/// buffer.extend([1, 2, 3]);
/// let mut late = buffer.subscribe_from_start().cloned();
/// assert_eq!(late.try_recv(), Ok(2));
/// assert_eq!(late.try_recv(), Ok(3));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// Nothing: with no reader a published item is gone at once.
    None,
    /// The newest `n` items, of however many events each. Zero is the same as [`None`](Self::None).
    Last(usize),
    /// Everything. The buffer grows for as long as the writer lives.
    All,
}

impl Default for Replay {
    /// The newest item, which [`EventBuffer::head`] answers.
    fn default() -> Self {
        Self::Last(1)
    }
}

/// Settings of a new [`EventBuffer`], made by [`EventBuffer::builder`]. A clone makes another
/// buffer with the same ones.
///
/// ```
/// use event_buffer::{EventBuffer, Replay};
///
/// let settings = EventBuffer::builder().replay(Replay::All);
/// let mut buffers = [settings.clone().build(), settings.build()];
/// buffers[0].push(1);
/// assert_eq!((buffers[0].len(), buffers[1].len()), (1, 0));
/// ```
pub struct Builder<T> {
    replay: Replay,
    _events: PhantomData<fn(T)>,
}

impl<T> Builder<T> {
    pub(crate) fn new() -> Self {
        Self {
            replay: Replay::default(),
            _events: PhantomData,
        }
    }

    /// What to retain for late readers. [`Replay::Last(1)`](Replay::Last) if not set.
    ///
    /// ```
    /// use event_buffer::{EventBuffer, Replay};
    ///
    /// let mut buffer = EventBuffer::builder().replay(Replay::All).build();
    /// buffer.extend(0..100);
    /// assert_eq!(buffer.len(), 100);
    /// ```
    #[must_use]
    pub fn replay(self, replay: Replay) -> Self {
        Self { replay, ..self }
    }

    /// Makes the buffer. Allocates two small pieces of memory.
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    ///
    /// let buffer = EventBuffer::<u8>::builder().build();
    /// assert!(buffer.is_empty());
    /// ```
    pub fn build(self) -> EventBuffer<T> {
        EventBuffer::with_tail(Tail::new(match self.replay {
            Replay::None => 0,
            Replay::Last(n) => n,
            Replay::All => usize::MAX,
        }))
    }
}

impl<T> Clone for Builder<T> {
    fn clone(&self) -> Self {
        Self {
            replay: self.replay,
            ..Self::new()
        }
    }
}

impl<T> fmt::Debug for Builder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("replay", &self.replay)
            .finish()
    }
}
