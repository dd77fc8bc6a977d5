//! What late readers can still read, and the builder that is told.

use std::fmt;
use std::marker::PhantomData;

use crate::error::ResumeError;
use crate::list::{PlaceRef, Writer};
use crate::read::indexed::Indexed;

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
    /// The newest item, which [`EventBuffer::head`](crate::EventBuffer::latest) answers.
    fn default() -> Self {
        Self::Last(1)
    }
}

/// Settings of a new [`EventBuffer`](crate::EventBuffer), made by
/// [`EventBuffer::builder`](crate::EventBuffer::builder). A clone makes another
/// buffer with the same ones.
///
/// ```
/// use event_buffer::{EventBuffer, Replay};
///
/// let settings = EventBuffer::builder().replay(Replay::All);
/// let mut buffers = [settings.clone().build(), settings.build()];
/// buffers[0].push(1);
/// assert_eq!((buffers[0].retained(), buffers[1].retained()), (1, 0));
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
    /// assert_eq!(buffer.retained(), 100);
    /// ```
    #[must_use]
    pub fn replay(self, replay: Replay) -> Self {
        Self { replay, ..self }
    }
}

impl<T> Builder<T> {
    /// How many items are to be retained.
    pub(crate) fn retained(&self) -> usize {
        match self.replay {
            Replay::None => 0,
            Replay::Last(n) => n,
            Replay::All => usize::MAX,
        }
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

/// What a buffer retained at some time.
pub(crate) struct Retained<T> {
    oldest: PlaceRef<T>,
    newest: Option<PlaceRef<T>>,
    has_trimmed: bool,
}

impl<T> Retained<T> {
    pub(crate) fn of(tail: &Writer<T>) -> Self {
        Self {
            oldest: tail.oldest(),
            newest: tail.newest(),
            has_trimmed: tail.has_trimmed(),
        }
    }
}

impl<T: Indexed> Retained<T> {
    /// The place of the first item that contains an event with a greater index.
    pub(crate) fn after(&self, index: u64) -> Result<PlaceRef<T>, ResumeError> {
        let oldest = self.oldest.events().first().map(Indexed::index);
        let newest = self.newest.as_ref();
        let newest = newest.and_then(|newest| newest.events().last().map(Indexed::index));
        if self.has_trimmed && oldest.is_none_or(|oldest| oldest > index) {
            return Err(ResumeError::TooOld { index, oldest });
        }
        if newest.is_none_or(|newest| newest < index) {
            return Err(ResumeError::Ahead { index, newest });
        }
        let is_contained = |events: &[T]| events.last().is_some_and(|last| last.index() <= index);
        Ok(self.oldest.walk(is_contained))
    }
}
