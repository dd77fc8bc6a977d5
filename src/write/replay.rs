//! The replay window, and the builder that sets it.

use std::fmt;
use std::marker::PhantomData;

use crate::error::ResumeError;
use crate::list::{PlaceRef, Writer};
use crate::read::indexed::Indexed;

/// The items that a buffer retains for late readers, as long as its writer lives.
///
/// Whatever this is, items stay in memory until all readers have received them.
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
    /// Nothing: without a reader, an item is dropped as soon as it is published.
    None,
    /// The newest `n` items, however many events each has. Zero is the same as
    /// [`None`](Self::None).
    Last(usize),
    /// Everything. The buffer grows for as long as the writer lives.
    All,
}

impl Default for Replay {
    /// The newest item, which [`EventBuffer::latest`](crate::EventBuffer::latest) returns.
    fn default() -> Self {
        Self::Last(1)
    }
}

/// The settings of a new [`EventBuffer`](crate::EventBuffer).
///
/// Made by [`EventBuffer::builder`](crate::EventBuffer::builder). A clone builds another buffer
/// with the same settings.
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

    /// Sets what to retain for late readers. The default is [`Replay::Last(1)`](Replay::Last).
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
    /// Returns the number of items to retain.
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

/// The replay window of a buffer at one time, to be searched without the buffer's lock.
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
    /// Returns the place of the first item that contains an event with a greater index.
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
