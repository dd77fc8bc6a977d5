//! An event by itself, for conditions that are not links.

use std::sync::atomic::Ordering::AcqRel;

use event_listener::Event;

use super::registration::Awaited;
use super::waiters::Waiters;
use crate::sync::AtomicBool;

/// Wakes the tasks that wait for a condition. Unlike a link's event, it can be notified repeatedly.
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
    /// A task that is being polled for another reason may be woken although nothing is new.
    ///
    /// # Cost
    ///
    /// One atomic instruction if no task waits.
    #[inline]
    pub(crate) fn notify(&self) {
        // AcqRel: the Release half publishes the condition to a task that sets the bit after this;
        // the Acquire half pairs with the Release of one that has set it before. See the module
        // page.
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

    /// Tells the notifier that a task may be waiting.
    pub(crate) fn set_waiting_bit(&self) {
        // AcqRel: pairs with the `swap` in `notify`.
        self.awaited.swap(true, AcqRel);
    }

    /// Returns the signal with the condition to wait for.
    ///
    /// Code that makes the condition true calls [`notify`](Self::notify) afterwards.
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
