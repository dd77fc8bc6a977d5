//! Foreign code that may panic.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::{mem, thread};

pub(crate) type Panic = Box<dyn Any + Send>;

/// Lets a panic that was caught go on, unless there is another one already.
pub(crate) fn resume(panicked: Option<Panic>) {
    match panicked {
        None => {}
        // Do not turn a panic while panicking into an abort.
        Some(panic) if thread::panicking() => discard(panic),
        Some(panic) => resume_unwind(panic),
    }
}

/// Of several panics the first one goes on.
pub(crate) fn keep_first(first: &mut Option<Panic>, panic: Panic) {
    match first {
        None => *first = Some(panic),
        Some(_) => discard(panic),
    }
}

/// What a panic carries may panic when it is dropped, and what that one carries too.
pub(crate) fn discard(mut panic: Panic) {
    for _ in 0..100 {
        match catch_unwind(AssertUnwindSafe(|| drop(panic))) {
            Ok(()) => return,
            Err(again) => panic = again,
        }
    }
    // There may be no end to it.
    mem::forget(panic);
}

/// Calls `f` until it returns, as each call goes on where the one before panicked; the first panic goes
/// on after that.
#[inline]
pub(crate) fn even_if_it_panics(mut f: impl FnMut()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(&mut f)) {
        go_on_after(panic, f);
    }
}

#[cold]
fn go_on_after(first: Panic, mut f: impl FnMut()) {
    while let Err(panic) = catch_unwind(AssertUnwindSafe(&mut f)) {
        discard(panic);
    }
    resume(Some(first));
}

/// Calls one and then the other, also where the one panics; the first panic goes on after that.
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

/// Calls `f` with each, and goes on where it panics; the first panic goes on after that.
pub(crate) fn for_each_even_if_one_panics<I>(
    mut items: impl Iterator<Item = I>,
    mut f: impl FnMut(I),
) {
    even_if_it_panics(|| items.by_ref().for_each(&mut f));
}
