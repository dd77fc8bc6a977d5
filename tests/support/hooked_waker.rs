//! A waker that runs a function of the test while the library clones, wakes or drops it.

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

    /// A waker that runs this hook's function, as every clone of it does.
    pub(crate) fn waker(self: &Arc<Self>) -> Waker {
        // SAFETY: the pointer comes from an `Arc<Self>`, as `TABLE` expects, and `Self` is `Send`
        // and `Sync`.
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

/// The functions of wakers whose data is an `Arc<Hook>`.
const TABLE: RawWakerVTable = RawWakerVTable::new(
    |data| {
        // SAFETY: `data` comes from an `Arc<Hook>` that the waker keeps.
        let hook = ManuallyDrop::new(unsafe { Arc::from_raw(data.cast::<Hook>()) });
        hook.used(Use::Clone);
        RawWaker::new(Arc::into_raw(Arc::clone(&hook)).cast(), &TABLE)
    },
    |data| {
        // SAFETY: `data` comes from an `Arc<Hook>`, which the waker gives up.
        unsafe { Arc::from_raw(data.cast::<Hook>()) }.used(Use::Wake);
    },
    |data| {
        // SAFETY: `data` comes from an `Arc<Hook>` that the waker keeps.
        unsafe { &*data.cast::<Hook>() }.used(Use::Wake);
    },
    |data| {
        // SAFETY: `data` comes from an `Arc<Hook>`, which the waker gives up.
        unsafe { Arc::from_raw(data.cast::<Hook>()) }.used(Use::Drop);
    },
);
