//! An event by itself, for conditions that are not links.

use std::sync::atomic::Ordering::AcqRel;

use super::Event;
use super::registration::Awaited;
use super::waiters::Waiters;
use crate::sync::AtomicBool;

/// Wakes the tasks that wait for a condition. Unlike a link's event it can be notified again and again.
#[derive(Default)]
pub(crate) struct Signal {
    /// The waiting bit.
    awaited: AtomicBool,
    event: Event,
    waiters: Waiters,
}

impl Signal {
    /// Wakes the tasks that wait. The caller has made their condition true.
    ///
    /// One atomic instruction if no task waits. A task that is polled for another reason just then may be
    /// woken although nothing is new.
    #[inline]
    pub(crate) fn notify(&self) {
        // AcqRel: the Release half publishes the condition to a task that sets the bit after this; the Acquire
        // half pairs with its Release. See the module page.
        if self.awaited.swap(false, AcqRel) {
            self.waiters.notify(&self.event);
        }
    }

    pub(crate) fn event(&self) -> &Event {
        &self.event
    }

    pub(crate) fn waiters(&self) -> &Waiters {
        &self.waiters
    }

    /// Says that a task may be waiting.
    pub(crate) fn set_waiting_bit(&self) {
        // AcqRel: as in `notify`.
        self.awaited.swap(true, AcqRel);
    }

    /// The signal with the condition to wait for. Whoever makes it true calls [`notify`](Self::notify)
    /// afterwards.
    pub(crate) fn when<F: Fn() -> bool>(&self, has_happened: F) -> When<'_, F> {
        When {
            signal: self,
            has_happened,
        }
    }
}

pub(crate) struct When<'a, F> {
    signal: &'a Signal,
    has_happened: F,
}

impl<F: Fn() -> bool> Awaited for When<'_, F> {
    fn event(&self) -> &Event {
        self.signal.event()
    }

    fn waiters(&self) -> &Waiters {
        self.signal.waiters()
    }

    fn set_waiting_bit(&self) {
        self.signal.set_waiting_bit();
    }

    fn has_happened(&self) -> bool {
        (self.has_happened)()
    }
}
