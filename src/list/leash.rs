//! A cursor that others can take away from its reader.
//!
//! A reader without a closer and without a limit is the only one that knows its place. Otherwise
//! its cursor is behind a *leash*, which it shares with what may take the cursor: closers,
//! and the writer.
//!
//! ```text
//!   the reader                         Leash                    others, which may take the cursor
//!  ┌───────────┐  enter, leave   ┌────────────────┐   bar      ┌──────────┐ ┌───────────────────┐
//!  │ Leashed ──┼────────────────▶│ state: E B     │◀───────────┼─ Closer  │ │ Registry (writer) │
//!  └───────────┘                 │ inside: cursor │            └──────────┘ └───────────────────┘
//!                                │ orders (lock)  │
//!                                └────────────────┘
//! ```
//!
//! `state` has two bits. The reader sets **E** while it is inside: during a read, during a `clone`
//! of the user's, or as long as it has lent a chunk. Others set **B**, under the lock of the
//! orders, to bar the reader.
//!
//! * **If B finds no E**, the thread that has set it has the cursor to itself while it holds the
//!   lock. It takes the cursor away, or takes B back. The reader finds B when it tries to enter,
//!   and reads its orders under the lock.
//! * **If B finds E**, that thread leaves an order and returns: it never waits for a
//!   reader. The reader finds B when it leaves, and obeys.
//!
//! Both are changes of one word, so there is no third case. This is invariant L12 of the [module
//! page](super). Entering and leaving cost one atomic read-modify-write each, and no lock unless
//! the reader is barred.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::error::SharedError;
use crate::sync::{AtomicUsize, Mutex, MutexGuard, UnsafeCell};

const FREE: usize = 0;
/// The reader is inside.
const ENTERED: usize = 1;
/// The reader must read its orders.
const BARRED: usize = 2;

/// What is inside a leash.
pub(super) trait Leashable {
    /// Returns `true` if the cursor has not been taken away.
    fn has_cursor(&self) -> bool;
}

pub(super) struct Leash<I> {
    state: AtomicUsize,
    orders: Mutex<Orders>,
    inside: UnsafeCell<I>,
}

// SAFETY: L12 gives one thread at a time `&mut I`, which may drop its `Cursor<T>` there.
unsafe impl<I: Send> Send for Leash<I> {}
// SAFETY: the same argument.
unsafe impl<I: Send> Sync for Leash<I> {}

/// What a barred reader must do.
#[derive(Default)]
pub(super) struct Orders {
    /// Why a closer has closed the reader. The first reason sticks.
    pub(super) closed: Option<SharedError>,
    /// Why the reader was closed for its lag.
    pub(super) lagged: Option<SharedError>,
    /// The reader must check its limit by itself.
    pub(super) look: bool,
}

impl Orders {
    pub(super) fn end(&self) -> Option<&SharedError> {
        self.closed.as_ref().or(self.lagged.as_ref())
    }
}

impl<I: Leashable> Leash<I> {
    pub(super) fn new(inside: I) -> Arc<Self> {
        Arc::new(Self {
            state: AtomicUsize::new(FREE),
            orders: Mutex::default(),
            inside: UnsafeCell::new(inside),
        })
    }

    /// Lets the reader in; `None` if it is barred.
    ///
    /// A reader that has lent a chunk is inside already, and stays.
    #[inline]
    pub(super) fn enter(&self) -> Option<NonNull<I>> {
        // Acquire: pairs with the Release in `leave` and in `Barred::drop`.
        let entered = self.state.compare_exchange(FREE, ENTERED, Acquire, Relaxed);
        match entered {
            Ok(_) | Err(ENTERED) => Some(self.inside()),
            Err(_) => None,
        }
    }

    /// Lets the reader out. Returns `false` if it is barred, and has to [obey](Self::obey).
    #[inline]
    pub(super) fn leave(&self) -> bool {
        // Release: pairs with the Acquire in `enter` and `bar`.
        let left = self.state.compare_exchange(ENTERED, FREE, Release, Relaxed);
        left.is_ok()
    }

    /// Reads the reader's orders, for the reader. No one else has the cursor while this is held.
    pub(super) fn obey(&self) -> Obeying<'_, I> {
        Obeying {
            orders: self.orders.lock(),
            leash: self,
        }
    }

    /// Bars the reader, for another thread.
    ///
    /// If the reader is inside, it is left this order, and `None` is returned.
    pub(super) fn bar(&self, order: impl FnOnce(&mut Orders)) -> Option<Barred<'_, I>> {
        let mut orders = self.orders.lock();
        // Acquire: pairs with the Release in `leave`.
        let before = self.state.fetch_or(BARRED, AcqRel);
        if before & ENTERED != 0 {
            order(&mut orders);
            return None;
        }
        Some(Barred {
            orders,
            leash: self,
        })
    }

    /// Returns why a closer has closed the reader, if one has.
    pub(super) fn closed_from_outside(&self) -> Option<SharedError> {
        self.orders.lock().closed.clone()
    }

    fn inside(&self) -> NonNull<I> {
        let inside = self.inside.with_mut(NonNull::new);
        // The cell's address is never null.
        inside.unwrap_or(NonNull::dangling())
    }
}

/// The reader, which holds the lock of its orders.
pub(super) struct Obeying<'a, I: Leashable> {
    pub(super) orders: MutexGuard<'a, Orders>,
    leash: &'a Leash<I>,
}

impl<I: Leashable> Obeying<'_, I> {
    pub(super) fn inside(&mut self) -> &mut I {
        // SAFETY: L12: the caller is the reader, and others come in only under the lock, which we
        // hold.
        unsafe { self.leash.inside().as_mut() }
    }

    /// Lets the reader in, or keeps it there. It has no order left.
    pub(super) fn enter(self) -> NonNull<I> {
        // A limited reader, which alone is to look, lends no chunks, so it has obeyed on leaving.
        debug_assert!(!self.orders.look);
        // Relaxed: others change it under the lock only.
        self.leash.state.store(ENTERED, Relaxed);
        self.leash.inside()
    }

    /// Lets the reader out, barred if it was closed or has no cursor.
    pub(super) fn leave(mut self) {
        let has_cursor = self.inside().has_cursor();
        let is_free = has_cursor && self.orders.end().is_none();
        let state = if is_free { FREE } else { BARRED };
        // Release: pairs with the Acquire in `enter` and `bar`.
        self.leash.state.store(state, Release);
    }
}

/// Another thread than the reader's, which has the cursor to itself.
pub(super) struct Barred<'a, I: Leashable> {
    pub(super) orders: MutexGuard<'a, Orders>,
    leash: &'a Leash<I>,
}

impl<I: Leashable> Barred<'_, I> {
    pub(super) fn parts(&mut self) -> (&mut I, &mut Orders) {
        // SAFETY: L12: the reader is outside and barred, and others come in only under the lock,
        // which we hold.
        let inside = unsafe { self.leash.inside().as_mut() };
        (inside, &mut self.orders)
    }
}

impl<I: Leashable> Drop for Barred<'_, I> {
    /// Lets the reader enter again if its cursor is still there.
    fn drop(&mut self) {
        let (inside, orders) = self.parts();
        if inside.has_cursor() && orders.end().is_none() {
            // Release: pairs with the Acquire in `enter`.
            self.leash.state.store(FREE, Release);
        }
    }
}
