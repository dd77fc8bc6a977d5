//! An allocator that counts on request.
//!
//! Outside of [`count`] it costs one load, so that the timed rows are not distorted.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static COUNTS: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicI64 = AtomicI64::new(0);
static LIVE_BYTES: AtomicI64 = AtomicI64::new(0);

/// What a piece of code has requested from the allocator.
pub struct Usage {
    pub allocations: f64,
    /// Bytes allocated and not freed, without the allocator's own overhead.
    pub live_bytes: f64,
}

/// Runs `code` and counts its allocations.
pub fn count<R>(code: impl FnOnce() -> R) -> (R, Usage) {
    let before = (ALLOCATIONS.load(Relaxed), LIVE_BYTES.load(Relaxed));
    COUNTS.store(true, Relaxed);
    let result = code();
    COUNTS.store(false, Relaxed);
    let usage = Usage {
        allocations: (ALLOCATIONS.load(Relaxed) - before.0) as f64,
        live_bytes: (LIVE_BYTES.load(Relaxed) - before.1) as f64,
    };
    (result, usage)
}

#[inline]
fn note(allocations: i64, bytes: i64) {
    if COUNTS.load(Relaxed) {
        ALLOCATIONS.fetch_add(allocations, Relaxed);
        LIVE_BYTES.fetch_add(bytes, Relaxed);
    }
}

// SAFETY: every call is passed on unchanged to the system allocator.
unsafe impl GlobalAlloc for Counting {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size() as i64);
        // SAFETY: the caller guarantees the same.
        unsafe { System.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size() as i64);
        // SAFETY: the caller guarantees the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(0, -(layout.size() as i64));
        // SAFETY: the caller guarantees the same.
        unsafe { System.dealloc(pointer, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(1, size as i64 - layout.size() as i64);
        // SAFETY: the caller guarantees the same.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
