//! Finishing the work in hand although user code panics.
//!
//! Wakers, drops, clones and handlers may panic in the middle of waking all readers or freeing a
//! list of items. The rest is still done, since readers would otherwise sleep for ever or memory
//! leak, and then the first panic continues.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::{mem, thread};

pub(crate) type Panic = Box<dyn Any + Send>;

/// Resumes a caught panic, unless the thread is panicking already.
pub(crate) fn resume(panicked: Option<Panic>) {
    match panicked {
        None => {}
        // A second panic would abort the process.
        Some(panic) if thread::panicking() => discard(panic),
        Some(panic) => resume_unwind(panic),
    }
}

/// Steps that are all taken, even if some of them panic.
#[must_use]
pub(crate) struct Steps(Option<Panic>);

impl Steps {
    pub(crate) fn new() -> Self {
        Self(None)
    }

    /// Takes a step. Returns `None` if it panics.
    pub(crate) fn take<R>(&mut self, step: impl FnOnce() -> R) -> Option<R> {
        match catch_unwind(AssertUnwindSafe(step)) {
            Ok(result) => Some(result),
            Err(panic) => {
                self.keep(panic);
                None
            }
        }
    }

    /// Keeps the panic of a step that was caught elsewhere, if it is the first.
    pub(crate) fn keep(&mut self, panic: Panic) {
        match self.0 {
            None => self.0 = Some(panic),
            Some(_) => discard(panic),
        }
    }

    /// Resumes the first panic, if there was one.
    pub(crate) fn finish(self) {
        resume(self.0);
    }
}

/// Calls `f`, and discards its panic. Returns `None` if it panics.
pub(crate) fn quietly<R>(f: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(f)).map_err(discard).ok()
}

/// Drops the payload of a panic. If that panics in turn, the second payload is leaked.
pub(crate) fn discard(panic: Panic) {
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        mem::forget(another);
    }
}

/// Calls `f` until it returns, and then resumes the first panic.
///
/// Each call must continue after the step at which the one before panicked.
#[inline]
pub(crate) fn even_if_it_panics(mut f: impl FnMut()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(&mut f)) {
        finish_after(panic, f);
    }
}

#[cold]
fn finish_after(first: Panic, mut f: impl FnMut()) {
    while let Err(panic) = catch_unwind(AssertUnwindSafe(&mut f)) {
        discard(panic);
    }
    resume(Some(first));
}

/// Calls `f` with each item, even if it panics with some, and then resumes the first panic.
pub(crate) fn for_each_even_if_one_panics<I>(
    mut items: impl Iterator<Item = I>,
    mut f: impl FnMut(I),
) {
    even_if_it_panics(|| items.by_ref().for_each(&mut f));
}
