//! Injected panics, and wakers that panic.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::process;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::task::{RawWaker, RawWakerVTable, Waker};
use std::thread;

use crate::key::Part;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Consumer,
    Clone,
    Drop,
    Wake,
    WakerClone,
    WakerDrop,
    Iterator,
    Handler,
    Filter,
}

pub(crate) const FAULTS: [Fault; 9] = [
    Fault::Consumer,
    Fault::Clone,
    Fault::Drop,
    Fault::Wake,
    Fault::WakerClone,
    Fault::WakerDrop,
    Fault::Iterator,
    Fault::Handler,
    Fault::Filter,
];

/// The payload of an injected panic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Injected {
    pub(crate) fault: Fault,
    /// The event, if an event panicked.
    pub(crate) of: Option<Part>,
}

static RAISED: [AtomicU64; FAULTS.len()] = [const { AtomicU64::new(0) }; FAULTS.len()];

pub(crate) fn raised(fault: Fault) -> u64 {
    RAISED[fault as usize].load(Relaxed)
}

/// Panics, unless the thread is panicking already: a second panic would abort.
pub(crate) fn raise(fault: Fault, of: Option<Part>) {
    if !thread::panicking() {
        panic::panic_any(Injected { fault, of });
    }
}

/// Counts and hides injected panics. Any other panic is a violation, and ends the process.
pub(crate) fn install_hook(location: impl Fn() -> String + Send + Sync + 'static) {
    panic::set_hook(Box::new(move |panic| {
        if let Some(injected) = panic.payload().downcast_ref::<Injected>() {
            RAISED[injected.fault as usize].fetch_add(1, Relaxed);
        } else {
            eprintln!("\nVIOLATION in {}: {panic}", location());
            process::exit(1);
        }
    }));
}

/// Runs a function, and catches an injected panic.
pub(crate) fn caught<R>(f: impl FnOnce() -> R) -> Result<R, Injected> {
    panic::catch_unwind(AssertUnwindSafe(f)).map_err(injected)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the type that `catch_unwind` returns"
)]
pub(crate) fn injected(panic: Box<dyn Any + Send>) -> Injected {
    *panic
        .downcast_ref()
        .expect("the hook exits at other panics")
}

/// The number of wakers that exist; it must be 0 at a world's end.
pub(crate) static WAKERS: AtomicI64 = AtomicI64::new(0);

struct Faulty {
    inner: Waker,
    fault: Option<Fault>,
    /// Whether this is the waker passed to the library, which must not drop it, and not a clone.
    original: bool,
}

/// A waker that does what `inner` does, and has a fault: it panics when it is cloned, after it has
/// woken its task, or when one of its clones is dropped.
pub(crate) fn faulty(inner: Waker, fault: Option<Fault>) -> Waker {
    let raw = Faulty::raw(inner, fault, true);
    // SAFETY: the functions of `VTABLE` fulfil the contract of a waker: each raw waker owns a box
    // of its own, `Waker` is `Send + Sync`, and so is `Option<Fault>`.
    unsafe { Waker::from_raw(raw) }
}

impl Faulty {
    const VTABLE: RawWakerVTable =
        RawWakerVTable::new(Self::clone, Self::wake, Self::wake_by_ref, Self::drop);

    fn raw(inner: Waker, fault: Option<Fault>, original: bool) -> RawWaker {
        WAKERS.fetch_add(1, Relaxed);
        let faulty = Box::new(Self {
            inner,
            fault,
            original,
        });
        RawWaker::new(Box::into_raw(faulty).cast_const().cast(), &Self::VTABLE)
    }

    /// # Safety
    ///
    /// `data` must be that of a raw waker, which must not be used afterwards.
    unsafe fn take(data: *const ()) -> Self {
        WAKERS.fetch_sub(1, Relaxed);
        // SAFETY: `raw` made the pointer, and the caller is the last to use it.
        *unsafe { Box::from_raw(data.cast_mut().cast::<Self>()) }
    }

    unsafe fn clone(data: *const ()) -> RawWaker {
        // SAFETY: `raw` made the pointer, which is valid as long as its waker.
        let this = unsafe { &*data.cast::<Self>() };
        this.raise_if(Fault::WakerClone, this.original);
        Self::raw(this.inner.clone(), this.fault, false)
    }

    unsafe fn wake(data: *const ()) {
        // SAFETY: `wake` consumes the waker.
        let this = unsafe { Self::take(data) };
        this.inner.wake_by_ref();
        this.raise_if(Fault::Wake, true);
    }

    unsafe fn wake_by_ref(data: *const ()) {
        // SAFETY: `raw` made the pointer, which is valid as long as its waker.
        let this = unsafe { &*data.cast::<Self>() };
        this.inner.wake_by_ref();
        this.raise_if(Fault::Wake, true);
    }

    unsafe fn drop(data: *const ()) {
        // SAFETY: `drop` consumes the waker.
        let this = unsafe { Self::take(data) };
        this.raise_if(Fault::WakerDrop, !this.original);
    }

    fn raise_if(&self, fault: Fault, here: bool) {
        if here && self.fault == Some(fault) {
            raise(fault, None);
        }
    }
}
