//! Code that several test files share.
#![allow(dead_code, unused_imports, reason = "no file uses all of it")]

pub(crate) mod counted;
mod hooked_waker;
pub(crate) mod scripted_source;
mod watchdog;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Wake;

use event_buffer::{EventBuffer, Replay, Subscription};

pub(crate) use hooked_waker::{Hook, Use};
pub(crate) use watchdog::{patient_watchdog, time_limit, watchdog};

/// A buffer with this window for late readers.
pub(crate) fn retaining<T>(replay: Replay) -> EventBuffer<T> {
    EventBuffer::builder().replay(replay).build()
}

/// A buffer without a window.
pub(crate) fn unretained<T>() -> EventBuffer<T> {
    retaining(Replay::None)
}

/// All events that are ready, in order.
pub(crate) fn events<T: Clone>(reader: Subscription<T>) -> Vec<T> {
    let mut reader = reader.cloned();
    std::iter::from_fn(|| reader.try_recv().ok()).collect()
}

/// Runs a function that must panic; returns the panic's payload.
pub(crate) fn panics<R>(f: impl FnOnce() -> R) -> Box<dyn Any + Send> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(_) => panic!("it did not panic"),
        Err(payload) => payload,
    }
}

/// A waker that does nothing. The strong count of its `Arc` shows whether the library keeps it.
pub(crate) struct Task;

impl Wake for Task {
    fn wake(self: Arc<Self>) {}
}

/// A waker whose last clone panics when it is dropped, unless the thread is panicking already.
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
