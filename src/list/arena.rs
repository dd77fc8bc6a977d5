//! Shared ownership of values that are allocated a page at a time.
//!
//! ```text
//!   Arena ──────────────────────────────┐ next slot
//!                                       ▼
//!            ┌──────────┬─────────┬─────────┬─────────┐
//!     Page   │ busy: 3  │ refs: 2 │         │         │
//!            │          │ value   │         │         │
//!            └──────────┴────▲────┴─────────┴─────────┘
//!                            └── ArenaArc, ArenaArc
//! ```
//!
//! A value is dropped with its last [`ArenaArc`], on the thread that drops that, as with an
//! [`Arc`](std::sync::Arc). Only memory is freed a page at a time, with the last slot of the page.
//! So an allocation costs that of a page divided by its slots. A drop costs one atomic operation
//! less than that of an `Arc`, which has a weak count.
//!
//! # Invariants
//!
//! * **A1, handed out once.** A slot is handed out once, by the arena that owns the page's
//!   remaining slots. From then on its value is initialized, until its count of references falls to
//!   0. Kept by `Arena::alloc` and by `ArenaArc`'s `Clone` and `Drop`.
//! * **A2, busy pages live.** `busy` counts the slots that are yet to be handed out, and those
//!   whose value is yet to be dropped. While it is not 0, the page is allocated. Kept by
//!   `give_back`.

use std::mem::{self, MaybeUninit};
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use crate::sync::{AtomicUsize, UnsafeCell};

/// The greatest size of a page in bytes, unless one value alone is larger.
const PAGE: usize = 1024;

/// Allocates values for shared ownership.
pub(crate) struct Arena<T> {
    /// The page with slots to hand out, and the number of the first of them.
    open: Option<(NonNull<Page<T>>, usize)>,
    /// The slots of the next page. They grow by doubling, so a quiet arena holds a value or two.
    slots: usize,
}

struct Page<T> {
    busy: AtomicUsize,
    slots: Box<[UnsafeCell<MaybeUninit<ArenaSlot<T>>>]>,
}

struct ArenaSlot<T> {
    refs: AtomicUsize,
    page: NonNull<Page<T>>,
    value: T,
}

/// Like an [`Arc`](std::sync::Arc), but allocated in an [`Arena`].
pub(crate) struct ArenaArc<T>(NonNull<ArenaSlot<T>>);

// SAFETY: an arena cannot reach the values it has handed out (A1); it allocates and frees pages.
unsafe impl<T: Send + Sync> Send for Arena<T> {}
// SAFETY: as with `Arc`, it gives `&T` on any thread, and the last one drops the `T` on its thread.
unsafe impl<T: Send + Sync> Send for ArenaArc<T> {}
// SAFETY: as with `Arc`, a shared one can be cloned, so it gives no more than an owned one.
unsafe impl<T: Send + Sync> Sync for ArenaArc<T> {}

impl<T> Arena<T> {
    pub(crate) fn new() -> Self {
        Self {
            open: None,
            slots: 1,
        }
    }

    /// The greatest number of slots in a page.
    const MAX_SLOTS: usize = {
        let slots = PAGE / mem::size_of::<ArenaSlot<T>>();
        if slots == 0 || cfg!(event_buffer_no_blocks) {
            1
        } else {
            slots
        }
    };

    #[inline]
    pub(crate) fn alloc(&mut self, value: T) -> ArenaArc<T> {
        let (page, number) = self.open.take().unwrap_or_else(|| self.next_page());
        // SAFETY: A2: a slot of the page is yet to be handed out.
        let slots = unsafe { &page.as_ref().slots };
        let slot = slots[number].with_mut(|slot| {
            let refs = AtomicUsize::new(1);
            // SAFETY: A1: no one else reaches a slot that is yet to be handed out.
            NonNull::from(unsafe { &mut *slot }.write(ArenaSlot { refs, page, value }))
        });
        if number + 1 < slots.len() {
            self.open = Some((page, number + 1));
        }
        ArenaArc(slot)
    }

    #[cold]
    #[inline(never)]
    fn next_page(&mut self) -> (NonNull<Page<T>>, usize) {
        let slots = self.slots.min(Self::MAX_SLOTS);
        self.slots = 2 * slots;
        let vacant = || UnsafeCell::new(MaybeUninit::uninit());
        let page = Box::new(Page {
            busy: AtomicUsize::new(slots),
            slots: (0..slots).map(|_| vacant()).collect(),
        });
        (NonNull::from(Box::leak(page)), 0)
    }
}

impl<T> Drop for Arena<T> {
    fn drop(&mut self) {
        if let Some((page, number)) = self.open.take() {
            // SAFETY: the slots from `number` on were counted as busy (A2), and are never handed
            // out.
            unsafe { give_back(page, page.as_ref().slots.len() - number) };
        }
    }
}

/// Gives back slots of a page, and frees the page with the last of them.
///
/// # Safety
///
/// The caller gives back that many busy slots, at least one.
#[inline]
unsafe fn give_back<T>(page: NonNull<Page<T>>, slots: usize) {
    // SAFETY: A2, by the caller's slots.
    let busy = &unsafe { page.as_ref() }.busy;
    // Release: our use of the slots comes before the page is freed. Acquire: if we free it, so does
    // that of all others.
    if busy.fetch_sub(slots, AcqRel) == slots {
        // SAFETY: A2: no slot is in use. The page was made from a `Box`.
        drop(unsafe { Box::from_raw(page.as_ptr()) });
    }
}

impl<T> ArenaArc<T> {
    #[inline]
    fn slot(&self) -> &ArenaSlot<T> {
        // SAFETY: A1 and A2, by our reference.
        unsafe { self.0.as_ref() }
    }
}

impl<T> Deref for ArenaArc<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.slot().value
    }
}

impl<T> Clone for ArenaArc<T> {
    #[inline]
    fn clone(&self) -> Self {
        // Relaxed: as in `Arc`, a new reference comes from an existing one.
        if self.slot().refs.fetch_add(1, Relaxed) > isize::MAX as usize {
            std::process::abort();
        }
        Self(self.0)
    }
}

impl<T> Drop for ArenaArc<T> {
    #[inline]
    fn drop(&mut self) {
        /// Gives the slot back even if the drop of the value panics.
        struct GiveBack<T>(NonNull<Page<T>>);

        impl<T> Drop for GiveBack<T> {
            #[inline]
            fn drop(&mut self) {
                // SAFETY: A2: the slot was handed out, and its value is dropped.
                unsafe { give_back(self.0, 1) }
            }
        }

        let ArenaSlot { refs, page, .. } = self.slot();
        // An only reference needs no read-modify-write, since there is no other to clone. Acquire:
        // the reads of past owners come before the drop. Release: so do ours, if another owner
        // drops it.
        if refs.load(Acquire) == 1 || refs.fetch_sub(1, AcqRel) == 1 {
            let _slot = GiveBack(*page);
            // SAFETY: A1: the last reference is released, and it was ours.
            unsafe { std::ptr::drop_in_place(&raw mut (*self.0.as_ptr()).value) };
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::Arena;
    use std::sync::Arc;
    use std::thread;

    #[test]
    fn a_value_is_dropped_with_its_last_reference() {
        let counted = Arc::new(());
        let mut arena = Arena::new();
        let values: Vec<_> = (0..100)
            .map(|_| arena.alloc(Arc::clone(&counted)))
            .collect();
        let clones = values.clone();
        drop(values);
        assert_eq!(Arc::strong_count(&counted), 101);
        drop(arena);
        for (number, clone) in (1..).zip(clones) {
            drop(clone);
            assert_eq!(Arc::strong_count(&counted), 101 - number);
        }
    }

    #[test]
    fn values_outlive_the_arena_on_other_threads() {
        let mut arena = Arena::new();
        let values: Vec<_> = (0..100).map(|number| arena.alloc(vec![number])).collect();
        let (even, odd): (Vec<_>, Vec<_>) = values.into_iter().partition(|v| v[0] % 2 == 0);
        let sum = |values: Vec<super::ArenaArc<Vec<u32>>>| values.iter().map(|v| v[0]).sum::<u32>();
        let other = thread::spawn(move || sum(odd));
        drop(arena);
        assert_eq!(sum(even), 2_450);
        assert!(matches!(other.join(), Ok(2_500)));
    }
}
