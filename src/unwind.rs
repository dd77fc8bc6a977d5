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

/// Keeps the first of several panics, and discards the others.
pub(crate) fn keep_first(first: &mut Option<Panic>, panic: Panic) {
    match first {
        None => *first = Some(panic),
        Some(_) => discard(panic),
    }
}

/// Drops the payload of a panic. The drop may panic with another payload, and so on.
pub(crate) fn discard(mut panic: Panic) {
    for _ in 0..100 {
        match catch_unwind(AssertUnwindSafe(|| drop(panic))) {
            Ok(()) => return,
            Err(again) => panic = again,
        }
    }
    // Each payload may make another one for ever, so we leak this one.
    mem::forget(panic);
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

/// Calls one and then the other, even if the one panics, and then resumes the first panic.
pub(crate) fn both_even_if_one_panics(one: impl FnOnce(), other: impl FnOnce()) {
    let (mut one, mut other) = (Some(one), Some(other));
    even_if_it_panics(|| {
        if let Some(one) = one.take() {
            one();
        }
        if let Some(other) = other.take() {
            other();
        }
    });
}

/// Calls `f` with each item, even if it panics with some, and then resumes the first panic.
pub(crate) fn for_each_even_if_one_panics<I>(
    mut items: impl Iterator<Item = I>,
    mut f: impl FnMut(I),
) {
    even_if_it_panics(|| items.by_ref().for_each(&mut f));
}
