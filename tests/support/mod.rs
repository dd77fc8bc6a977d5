//! What several test files use.
#![allow(dead_code, unused_imports, reason = "no file uses all of it")]

mod hooked_waker;
mod watchdog;

use std::sync::Arc;
use std::task::Wake;

use event_buffer::Subscription;

pub(crate) use hooked_waker::{Hook, Use};
pub(crate) use watchdog::{patient_watchdog, time_limit, watchdog};

/// All events that are ready, in order.
pub(crate) fn events<T: Clone>(reader: Subscription<T>) -> Vec<T> {
    let mut reader = reader.cloned();
    std::iter::from_fn(|| reader.try_recv().ok()).collect()
}

/// A waker whose last clone panics when it is dropped, unless a panic goes on already.
pub(crate) struct PanicsWhenDropped;

impl Wake for PanicsWhenDropped {
    fn wake(self: Arc<Self>) {}
}

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "as planned");
    }
}

/// A waker that panics when it is woken.
pub(crate) struct PanicsWhenWoken;

impl Wake for PanicsWhenWoken {
    fn wake(self: Arc<Self>) {
        panic!("as planned");
    }
}
