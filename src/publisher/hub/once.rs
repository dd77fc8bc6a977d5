//! Something that happens once, and that tasks wait for.

use std::sync::atomic::Ordering::{Acquire, Release};

use crate::link::{Signal, wait_for};
use crate::sync::{AtomicBool, TrackedArc};

#[derive(Default)]
pub(super) struct Once {
    signal: Signal,
    has_happened: AtomicBool,
}

/// How a map under the lock has it: with the number of tasks that wait.
///
/// The references do not tell that number, since a task drops its own one after the lock.
#[derive(Default)]
pub(super) struct Awaited {
    once: TrackedArc<Once>,
    tasks: usize,
}

impl Once {
    /// Wakes all tasks that wait for it, which is user code.
    pub(super) fn announce(&self) {
        // Release: pairs with the Acquire in `wait`.
        self.has_happened.store(true, Release);
        self.signal.notify();
    }

    pub(super) async fn wait(&self) {
        // Acquire: pairs with the Release in `announce`.
        wait_for(&self.signal.when(|| self.has_happened.load(Acquire))).await;
    }
}

impl Awaited {
    /// Adds a task that waits.
    pub(super) fn join(&mut self) -> TrackedArc<Once> {
        self.tasks += 1;
        TrackedArc::clone(&self.once)
    }

    /// Removes a task that waits for `once`. Returns `true` if it was the last that waits for this.
    pub(super) fn leave(&mut self, once: &TrackedArc<Once>) -> bool {
        let is_ours = TrackedArc::ptr_eq(&self.once, once);
        self.tasks -= usize::from(is_ours);
        is_ours && self.tasks == 0
    }

    pub(super) fn into_once(self) -> TrackedArc<Once> {
        self.once
    }
}
