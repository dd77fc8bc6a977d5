//! A waker that runs a function of the test's in the midst of what the library does with it.

use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{RawWaker, RawWakerVTable, Waker};

/// What the library does with a waker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Use {
    Clone,
    Wake,
    Drop,
}

/// Counts wake-ups, and runs a function once at the next use of that kind.
#[derive(Default)]
pub(crate) struct Hook {
    woken: AtomicUsize,
    next: Mutex<Option<(Use, Function)>>,
}

type Function = Box<dyn FnOnce() + Send>;

impl Hook {
    /// A waker without a function yet.
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A waker of this hook, which runs the hook's function like every clone of it.
    pub(crate) fn waker(self: &Arc<Self>) -> Waker {
        // SAFETY: the pointer is of an `Arc<Self>`, as `TABLE` expects, and `Self` is `Send` and `Sync`.
        unsafe { Waker::new(Arc::into_raw(Arc::clone(self)).cast(), &TABLE) }
    }

    pub(crate) fn run_at(&self, next: Use, function: impl FnOnce() + Send + 'static) {
        *self.next.lock().unwrap() = Some((next, Box::new(function)));
    }

    pub(crate) fn has_run(&self) -> bool {
        self.next.lock().unwrap().is_none()
    }

    pub(crate) fn woken(&self) -> usize {
        self.woken.load(SeqCst)
    }

    fn used(&self, now: Use) {
        if now == Use::Wake {
            self.woken.fetch_add(1, SeqCst);
        }
        let next = self.next.lock().unwrap().take_if(|(at, _)| *at == now);
        if let Some((_, function)) = next {
            function();
        }
    }
}

/// Of wakers whose data is an `Arc<Hook>`.
const TABLE: RawWakerVTable = RawWakerVTable::new(
    |data| {
        // SAFETY: `data` is of an `Arc<Hook>` that the waker keeps.
        let hook = ManuallyDrop::new(unsafe { Arc::from_raw(data.cast::<Hook>()) });
        hook.used(Use::Clone);
        RawWaker::new(Arc::into_raw(Arc::clone(&hook)).cast(), &TABLE)
    },
    |data| {
        // SAFETY: `data` is of an `Arc<Hook>`, which the waker gives away.
        unsafe { Arc::from_raw(data.cast::<Hook>()) }.used(Use::Wake);
    },
    |data| {
        // SAFETY: `data` is of an `Arc<Hook>` that the waker keeps.
        unsafe { &*data.cast::<Hook>() }.used(Use::Wake);
    },
    |data| {
        // SAFETY: `data` is of an `Arc<Hook>`, which the waker gives away.
        unsafe { Arc::from_raw(data.cast::<Hook>()) }.used(Use::Drop);
    },
);
