//! Tasks that count their wake-ups.

use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{RawWaker, RawWakerVTable, Waker};

use crate::user_code::{Spot, trip};

#[derive(Default)]
pub(crate) struct Task {
    /// The number of wake-ups since it ran.
    wakes: AtomicUsize,
    wakers: AtomicUsize,
}

impl Task {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn is_woken(&self) -> bool {
        self.wakes() > 0
    }

    pub(crate) fn wakes(&self) -> usize {
        self.wakes.load(Relaxed)
    }

    /// Runs the task: from now on it must be woken again.
    pub(crate) fn runs(&self) {
        self.wakes.store(0, Relaxed);
    }

    /// Whether a waker of this task still exists.
    pub(crate) fn has_wakers(&self) -> bool {
        self.wakers.load(Relaxed) > 0
    }

    fn raw(self: &Arc<Self>) -> *const () {
        self.wakers.fetch_add(1, Relaxed);
        Arc::into_raw(Arc::clone(self)).cast()
    }

    /// Does not use `std::task::Wake`, which cannot run user code when a waker is cloned or
    /// dropped.
    pub(crate) fn waker(self: &Arc<Self>) -> Waker {
        // SAFETY: the vtable's functions treat the pointer as an `Arc<Task>`.
        unsafe { Waker::new(self.raw(), &VTABLE) }
    }
}

static VTABLE: RawWakerVTable = RawWakerVTable::new(
    |task| {
        let task = ManuallyDrop::new(unsafe { arc(task) });
        trip(Spot::WakerClone);
        RawWaker::new(task.raw(), &VTABLE)
    },
    |task| {
        let task = unsafe { arc(task) };
        task.wakes.fetch_add(1, Relaxed);
        task.wakers.fetch_sub(1, Relaxed);
        drop(task);
        trip(Spot::Wake);
    },
    |task| {
        let task = ManuallyDrop::new(unsafe { arc(task) });
        task.wakes.fetch_add(1, Relaxed);
        trip(Spot::Wake);
    },
    |task| {
        let task = unsafe { arc(task) };
        task.wakers.fetch_sub(1, Relaxed);
        drop(task);
        trip(Spot::WakerDrop);
    },
);

/// # Safety
///
/// `task` must be the data of a waker with this vtable.
unsafe fn arc(task: *const ()) -> Arc<Task> {
    // SAFETY: the pointer came from `Arc::into_raw`.
    unsafe { Arc::from_raw(task.cast()) }
}
