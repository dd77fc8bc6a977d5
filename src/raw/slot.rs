//! A counted place in a chain.

use std::ptr::NonNull;
use std::sync::Arc;

use event_listener::Event;

use super::node::{Hold, NodePtr, Payload};
use super::record::{Ending, Record};
use crate::error::RecvError;

/// A place: the node, its number within its buffer, and the buffer's record.
pub(super) struct Place<T> {
    pub(super) node: NodePtr<T>,
    pub(super) seq: u64,
    record: NonNull<Record>,
}

impl<T> Clone for Place<T> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Place<T> {}

/// What a reader finds at a place.
pub(crate) enum Read<'a, T> {
    Empty,
    Item(&'a [T]),
    /// [`RecvError::Closed`] or [`RecvError::Failed`].
    End(RecvError),
}

/// One step of reading.
pub(super) enum Step<'a, T> {
    Empty,
    Item(&'a [T], Place<T>),
    /// The chain goes on in another buffer.
    Splice(Place<T>),
    End(RecvError),
}

impl<T> Place<T> {
    pub(super) fn new(node: NodePtr<T>, seq: u64, record: &Arc<Record>) -> Self {
        let record = NonNull::from(&**record);
        Self { node, seq, record }
    }

    /// # Safety
    ///
    /// The place is alive for `'a`: a hold on its node or on one before it exists.
    #[inline]
    pub(super) unsafe fn record<'a>(self) -> &'a Record {
        // SAFETY: the node is alive (caller), so all nodes after it are, up to the last slot of
        // its buffer, which owns the record.
        unsafe { self.record.as_ref() }
    }

    /// # Safety
    ///
    /// As for [`record`](Self::record).
    #[inline]
    pub(super) unsafe fn read<'a>(self) -> Step<'a, T> {
        // SAFETY: alive (caller).
        let Some((payload, next)) = (unsafe { self.node.read() }) else {
            return Step::Empty;
        };
        let events = match payload {
            Payload::One(event) => std::slice::from_ref(event),
            Payload::Many(events) => events,
            Payload::Last(_) => {
                // SAFETY: alive (caller).
                return unsafe { self.read_ending(next) };
            }
        };
        let next = Self {
            node: next,
            seq: self.seq + 1,
            record: self.record,
        };
        Step::Item(events, next)
    }

    /// # Safety
    ///
    /// As for [`record`](Self::record).
    #[cold]
    unsafe fn read_ending<'a>(self, next: NodePtr<T>) -> Step<'a, T> {
        // SAFETY: alive (caller).
        match unsafe { self.record() }.ending() {
            Some(Ending::Spliced { to, seq }) => Step::Splice(Self::new(next, *seq, to)),
            Some(Ending::Failed(error)) => Step::End(RecvError::Failed(error.clone())),
            Some(Ending::Closed) | None => Step::End(RecvError::Closed),
        }
    }
}

/// A place with a counted reference: it keeps itself and all that follows alive.
pub(crate) struct Slot<T> {
    hold: Hold<T>,
    place: Place<T>,
}

// SAFETY: a `Hold` and a pointer to a `Record`, which is `Send + Sync`.
unsafe impl<T: Send + Sync> Send for Slot<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Slot<T> {}

impl<T> Slot<T> {
    /// # Safety
    ///
    /// The place is alive throughout the call.
    #[inline]
    pub(super) unsafe fn new(place: Place<T>) -> Self {
        // SAFETY: alive (caller).
        let hold = unsafe { place.node.hold() };
        Self { hold, place }
    }

    #[inline]
    pub(super) fn place(&self) -> Place<T> {
        self.place
    }

    pub(super) fn into_hold(self) -> Hold<T> {
        self.hold
    }

    pub(super) fn record(&self) -> &Record {
        // SAFETY: our hold keeps the place alive.
        unsafe { self.place.record() }
    }

    /// Shared ownership of the record; always there, since the slot keeps it alive.
    pub(super) fn owner(&self) -> Option<Arc<Record>> {
        self.record().owner()
    }

    /// What stands here. Goes over splices, which moves the slot on.
    pub(crate) fn read(&mut self) -> Read<'_, T> {
        loop {
            // SAFETY: our hold keeps the place alive.
            match unsafe { self.place.read() } {
                Step::Empty => return Read::Empty,
                Step::Item(events, _) => return Read::Item(events),
                Step::End(error) => return Read::End(error),
                // SAFETY: our hold keeps what follows alive.
                Step::Splice(place) => *self = unsafe { Self::new(place) },
            }
        }
    }

    /// The events of a slot that is known to hold an item; none for any other.
    #[inline]
    pub(crate) fn events(&self) -> &[T] {
        // SAFETY: our hold keeps the place alive.
        match unsafe { self.place.read() } {
            Step::Item(events, _) => events,
            Step::Empty | Step::Splice(_) | Step::End(_) => &[],
        }
    }

    /// The slot after one that is known to hold an item; any other slot itself.
    pub(crate) fn after(&self) -> Self {
        // SAFETY: our hold keeps the place alive.
        match unsafe { self.place.read() } {
            // SAFETY: our hold keeps what follows alive.
            Step::Item(_, next) => unsafe { Self::new(next) },
            Step::Empty | Step::Splice(_) | Step::End(_) => self.clone(),
        }
    }

    #[inline]
    pub(crate) fn is_written(&self) -> bool {
        self.hold.is_written()
    }

    /// The event to listen to. After listening look at [`is_written`](Self::is_written) again.
    #[inline]
    pub(crate) fn announce_waiter(&self) -> &Event {
        self.hold.announce_waiter();
        self.hold.event()
    }

    pub(crate) fn lag(&self) -> u64 {
        self.record().lag(self.place.seq)
    }
}

impl<T> Clone for Slot<T> {
    #[inline]
    fn clone(&self) -> Self {
        Self {
            hold: self.hold.clone(),
            place: self.place,
        }
    }
}
