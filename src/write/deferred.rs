//! Publishing under a lock, and what is to be done after it.

use std::fmt;
use std::mem;
use std::panic::{RefUnwindSafe, UnwindSafe};

use crate::list::{Batch, Later, Payload};
#[cfg(feature = "publisher")]
use crate::read::position::Position;
use crate::write::buffer::EventBuffer;

/// The wake-ups and drops that [`EventBuffer::append_deferred`] has deferred.
///
/// Dropping it wakes the readers that wait, and drops the events that no reader will receive. Do
/// that after releasing your own locks. Until then it keeps the items in question, and everything
/// after them, in memory. If it is leaked, readers that wait may sleep for ever.
///
/// ```
/// use event_buffer::EventBuffer;
/// use std::sync::Mutex;
///
/// let buffer = Mutex::new(EventBuffer::new());
/// let publish = |event| {
///     let deferred = buffer.lock().unwrap().append_deferred([event]);
///     // The guard was a temporary, so user code that runs now may lock the buffer.
///     drop(deferred);
/// };
/// publish("one");
/// publish("two");
/// assert_eq!(buffer.lock().unwrap().latest().unwrap().events(), ["two"]);
/// ```
#[must_use = "dropping it wakes the readers, which should not be under a lock"]
pub struct Deferred<T> {
    #[cfg_attr(
        not(feature = "publisher"),
        expect(dead_code, reason = "it is only dropped")
    )]
    /// The wake-ups, and the events that left the replay window.
    later: Option<Later<T>>,
    /// The events that were not published, for want of a reader. Boxed, because that is rare.
    _unseen: Option<Box<Batch<T>>>,
}

impl<T> Deferred<T> {
    /// Wakes the readers now, before events are dropped.
    #[cfg(feature = "publisher")]
    pub(crate) fn wake(&self) {
        if let Some(later) = &self.later {
            later.wake();
        }
    }
}

impl<T> fmt::Debug for Deferred<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deferred").finish_non_exhaustive()
    }
}

impl<T> EventBuffer<T> {
    /// Like [`append`](Self::append), but returns a [`Deferred`] that wakes the readers when
    /// dropped.
    ///
    /// It is meant for a buffer that is itself behind a lock. Wakers are user code, and so are the
    /// `drop`s of events that leave the replay window or have no reader; neither should run under a
    /// lock. The events can be read at once: only the wake-ups and drops are deferred.
    ///
    /// The iterator runs here, under your lock: pass events that have been made already.
    ///
    /// # Cost
    ///
    /// The same as that of [`append`](Self::append).
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    /// use std::sync::Mutex;
    ///
    /// let buffer = Mutex::new(EventBuffer::new());
    /// let mut reader = buffer.lock().unwrap().subscribe();
    /// let deferred = buffer.lock().unwrap().append_deferred([1, 2]);
    /// drop(deferred); // The lock is released: now the readers are woken.
    /// assert_eq!(reader.try_recv()?.events(), [1, 2]);
    /// # Ok::<(), event_buffer::TryRecvError>(())
    /// ```
    pub fn append_deferred(&mut self, events: impl IntoIterator<Item = T>) -> Deferred<T> {
        match Payload::collect(events) {
            Some(item) => self.publish_deferred(Batch::one(item)),
            None => Deferred {
                later: None,
                _unseen: None,
            },
        }
    }

    /// Like [`push`](Self::push), but returns a [`Deferred`] that wakes the readers when dropped.
    ///
    /// See [`append_deferred`](Self::append_deferred).
    ///
    /// # Cost
    ///
    /// O(1). An event that no reader will receive, or that this one replaces, is boxed and dropped
    /// with the [`Deferred`].
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    /// use std::sync::Mutex;
    ///
    /// let buffer = Mutex::new(EventBuffer::new());
    /// let mut reader = buffer.lock().unwrap().subscribe().cloned();
    /// let deferred = buffer.lock().unwrap().push_deferred(1);
    /// drop(deferred);
    /// assert_eq!(reader.try_recv(), Ok(1));
    /// ```
    #[inline]
    pub fn push_deferred(&mut self, event: T) -> Deferred<T> {
        match self.tail.push_later(event) {
            Ok(later) => Deferred {
                later: Some(later),
                _unseen: None,
            },
            Err(leftover) => Deferred {
                later: None,
                // The `drop` of an event may be user code, so it is deferred; without one, no need.
                _unseen: leftover
                    .filter(|_| mem::needs_drop::<T>())
                    .map(|leftover| Box::new(Batch::one(leftover))),
            },
        }
    }

    /// Like [`push_deferred`](Self::push_deferred), but also returns the place of the item.
    ///
    /// The buffer must not retain anything for late readers.
    #[cfg(feature = "publisher")]
    #[inline]
    pub(crate) fn push_and_locate(&mut self, event: T) -> (Position<T>, Deferred<T>) {
        let (place, later) = self.tail.push_and_locate(event);
        let deferred = Deferred {
            later: Some(later),
            _unseen: None,
        };
        (Position(place), deferred)
    }

    fn publish_deferred(&mut self, batch: Batch<T>) -> Deferred<T> {
        let (later, unseen) = match self.tail.publish_later(batch) {
            Ok(later) => (Some(later), None),
            Err(unseen) => (None, Some(Box::new(unseen))),
        };
        Deferred {
            later,
            _unseen: unseen,
        }
    }
}

impl<T: RefUnwindSafe> UnwindSafe for Deferred<T> {}
impl<T: RefUnwindSafe> RefUnwindSafe for Deferred<T> {}
