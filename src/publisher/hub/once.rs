//! Something that happens once, and that tasks wait for.

use std::sync::atomic::Ordering::{Acquire, Release};

use crate::link::{Signal, wait_for};
use crate::sync::AtomicBool;

#[derive(Default)]
pub(super) struct Once {
    signal: Signal,
    has_happened: AtomicBool,
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
