//! Panics on purpose, and wakers that have them.

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

/// The payload of a panic on purpose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Injected {
    pub(crate) fault: Fault,
    /// The event, for a fault of one.
    pub(crate) of: Option<Part>,
}

static RAISED: [AtomicU64; FAULTS.len()] = [const { AtomicU64::new(0) }; FAULTS.len()];

pub(crate) fn raised(fault: Fault) -> u64 {
    RAISED[fault as usize].load(Relaxed)
}

/// Panics, unless the thread does already: a second one would abort.
pub(crate) fn raise(fault: Fault, of: Option<Part>) {
    if !thread::panicking() {
        panic::panic_any(Injected { fault, of });
    }
}

/// Counts and hides panics on purpose; any other one is what we are looking for: it ends the process.
pub(crate) fn install_hook(where_we_are: impl Fn() -> String + Send + Sync + 'static) {
    panic::set_hook(Box::new(move |panic| {
        if let Some(injected) = panic.payload().downcast_ref::<Injected>() {
            RAISED[injected.fault as usize].fetch_add(1, Relaxed);
        } else {
            eprintln!("\nVIOLATION in {}: {panic}", where_we_are());
            process::exit(1);
        }
    }));
}

/// The edge that panics on purpose do not get beyond.
pub(crate) fn caught<R>(f: impl FnOnce() -> R) -> Result<R, Injected> {
    panic::catch_unwind(AssertUnwindSafe(f)).map_err(injected)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "as `catch_unwind` answers it"
)]
pub(crate) fn injected(panic: Box<dyn Any + Send>) -> Injected {
    *panic.downcast_ref().expect("the hook ends all others")
}

/// Wakers that exist; none may at a world's end.
pub(crate) static WAKERS: AtomicI64 = AtomicI64::new(0);

struct Faulty {
    inner: Waker,
    fault: Option<Fault>,
    /// Not a clone: that is what the library is given, and must not drop.
    original: bool,
}

/// A waker that does what `inner` does, and has the fault. Its clones panic after they have woken, or
/// when they are dropped; it panics itself when it is cloned.
pub(crate) fn faulty(inner: Waker, fault: Option<Fault>) -> Waker {
    let raw = Faulty::raw(inner, fault, true);
    // SAFETY: the functions of `VTABLE` keep the contract of a waker: each raw waker owns a box of its
    // own, `Waker` is `Send + Sync`, and so is `Option<Fault>`.
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
    /// The data of a raw waker, which is not used any more.
    unsafe fn take(data: *const ()) -> Self {
        WAKERS.fetch_sub(1, Relaxed);
        // SAFETY: made by `raw`, and the caller is the last to use it.
        *unsafe { Box::from_raw(data.cast_mut().cast::<Self>()) }
    }

    unsafe fn clone(data: *const ()) -> RawWaker {
        // SAFETY: made by `raw`, and alive as long as its waker is.
        let this = unsafe { &*data.cast::<Self>() };
        this.have(Fault::WakerClone, this.original);
        Self::raw(this.inner.clone(), this.fault, false)
    }

    unsafe fn wake(data: *const ()) {
        // SAFETY: `wake` consumes the waker.
        let this = unsafe { Self::take(data) };
        this.inner.wake_by_ref();
        this.have(Fault::Wake, true);
    }

    unsafe fn wake_by_ref(data: *const ()) {
        // SAFETY: as in `clone`.
        let this = unsafe { &*data.cast::<Self>() };
        this.inner.wake_by_ref();
        this.have(Fault::Wake, true);
    }

    unsafe fn drop(data: *const ()) {
        // SAFETY: `drop` consumes the waker.
        let this = unsafe { Self::take(data) };
        this.have(Fault::WakerDrop, !this.original);
    }

    fn have(&self, fault: Fault, here: bool) {
        if here && self.fault == Some(fault) {
            raise(fault, None);
        }
    }
}
