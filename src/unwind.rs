//! Foreign code that may panic.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Calls `f` with each, and goes on where it panics; the first panic goes on after that.
pub(crate) fn for_each_even_if_one_panics<I>(
    mut items: impl Iterator<Item = I>,
    mut f: impl FnMut(I),
) {
    let mut panicked = None;
    while let Err(panic) = catch_unwind(AssertUnwindSafe(|| items.by_ref().for_each(&mut f))) {
        panicked.get_or_insert(panic);
    }
    if let Some(panic) = panicked {
        // Do not turn a panic while panicking into an abort.
        if !std::thread::panicking() {
            resume_unwind(panic);
        }
    }
}
