//! A reader's place as others can take it away.
//!
//! A reader without a closer and without a limit is the only one who knows where it stands. Otherwise its
//! cursor is behind a *leash*, which is shared with those who may take it: closers, and the writer.
//!
//! ```text
//!   the reader                         Leash                    those who may take the cursor
//!  ┌───────────┐  enter, leave   ┌────────────────┐   bar      ┌──────────┐ ┌───────────────────┐
//!  │ Leashed ──┼────────────────▶│ state: E B     │◀───────────┼─ Closer  │ │ Registry (writer) │
//!  └───────────┘                 │ inside: cursor │            └──────────┘ └───────────────────┘
//!                                │ orders (lock)  │
//!                                └────────────────┘
//! ```
//!
//! `state` has two bits. The reader sets **E** while it is inside: in the midst of a read, in a `clone` of
//! the user, or as long as it has lent a chunk. Others set **B**, which bars it, under the lock of the
//! orders.
//!
//! * **B finds no E.** Whoever set it has the cursor to itself as long as it holds the lock. It takes the
//!   cursor away, or takes B back. The reader finds B when it wants to enter, and asks for orders under the
//!   lock.
//! * **B finds E.** The other leaves an order and goes: nobody waits for a reader. The reader finds B when
//!   it leaves, and obeys.
//!
//! Both are changes of one word, so there is no third case. Entering and leaving take one atomic
//! read-modify-write each, and no lock unless the reader is barred.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::cursor::Cursor;
use super::trail::Parked;
use super::weak_place::WeakPlace;
use crate::error::SharedError;
use crate::lag_limit::LagLimit;
use crate::sync::{AtomicUsize, Mutex, MutexGuard, UnsafeCell};

const FREE: usize = 0;
/// The reader is inside.
const ENTERED: usize = 1;
/// The reader is to ask for orders.
const BARRED: usize = 2;

pub(super) struct Leash<T> {
    state: AtomicUsize,
    orders: Mutex<Orders>,
    inside: UnsafeCell<Inside<T>>,
}

// SAFETY: whoever is inside has a `Cursor<T>` to itself, and may drop it on any thread.
unsafe impl<T: Send + Sync> Send for Leash<T> {}
// SAFETY: as above: the protocol of `state` lets one in at a time.
unsafe impl<T: Send + Sync> Sync for Leash<T> {}

/// What the reader is told when it is barred.
#[derive(Default)]
pub(super) struct Orders {
    /// Why it was closed from outside. The first reason sticks.
    pub(super) closed: Option<SharedError>,
    /// Why it was closed for its lag.
    pub(super) lagged: Option<SharedError>,
    /// It is to see to its limit itself.
    pub(super) look: bool,
}

impl Orders {
    pub(super) fn end(&self) -> Option<&SharedError> {
        self.closed.as_ref().or(self.lagged.as_ref())
    }
}

pub(super) struct Inside<T> {
    pub(super) custody: Custody<T>,
    pub(super) limit: Option<LagLimit<T>>,
    /// Items that were skipped, which has not been reported yet.
    pub(super) skipped: u64,
    /// So many of these were skipped by a limit that has been replaced: they are no lag by this one.
    pub(super) settled: u64,
}

/// Who keeps the reader's place.
pub(super) enum Custody<T> {
    Reader(Cursor<T>),
    /// It fell behind its limit.
    Trail(Parked<T>),
    /// It was closed, there, or dropped.
    Nobody(Option<WeakPlace<T>>),
}

impl<T> Leash<T> {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: AtomicUsize::new(FREE),
            orders: Mutex::default(),
            inside: UnsafeCell::new(Inside {
                custody: Custody::Nobody(None),
                limit: None,
                skipped: 0,
                settled: 0,
            }),
        })
    }

    /// Lets the reader in; `None` if it is barred. If it is inside already, since it has lent a chunk, it
    /// stays.
    #[inline]
    pub(super) fn enter(&self) -> Option<NonNull<Inside<T>>> {
        // Acquire: pairs with the Release in `leave` and in `Barred::drop`.
        let entered = self.state.compare_exchange(FREE, ENTERED, Acquire, Relaxed);
        match entered {
            Ok(_) | Err(ENTERED) => Some(self.inside()),
            Err(_) => None,
        }
    }

    /// Lets the reader out; `false` if it is barred, and is to [obey](Self::obey).
    #[inline]
    pub(super) fn leave(&self) -> bool {
        // Release: pairs with the Acquire in `enter` and `bar`.
        let left = self.state.compare_exchange(ENTERED, FREE, Release, Relaxed);
        left.is_ok()
    }

    /// For the reader, which is barred: asks for orders. No other has the cursor as long as this is held.
    pub(super) fn obey(&self) -> Obeying<'_, T> {
        Obeying {
            orders: self.orders.lock(),
            leash: self,
        }
    }

    /// For others: bars the reader. If it is inside, it gets these orders, and the answer is `None`.
    pub(super) fn bar(&self, order: impl FnOnce(&mut Orders)) -> Option<Barred<'_, T>> {
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

    /// Why a closer has closed the reader, if one has.
    pub(super) fn closed_from_outside(&self) -> Option<SharedError> {
        self.orders.lock().closed.clone()
    }

    fn inside(&self) -> NonNull<Inside<T>> {
        let inside = self.inside.with_mut(NonNull::new);
        // Never null.
        inside.unwrap_or(NonNull::dangling())
    }
}

/// The reader, asking for orders.
pub(super) struct Obeying<'a, T> {
    pub(super) orders: MutexGuard<'a, Orders>,
    leash: &'a Leash<T>,
}

impl<T> Obeying<'_, T> {
    pub(super) fn inside(&mut self) -> &mut Inside<T> {
        // SAFETY: others come to it under the lock that we hold, and the reader is the caller.
        unsafe { self.leash.inside().as_mut() }
    }

    /// The reader is inside, or it stays there. If it has orders yet, it finds itself barred when it leaves.
    pub(super) fn enter(self) -> NonNull<Inside<T>> {
        let state = if self.orders.look {
            ENTERED | BARRED
        } else {
            ENTERED
        };
        // Relaxed: others change it under the lock.
        self.leash.state.store(state, Relaxed);
        self.leash.inside()
    }

    /// The reader is outside, and barred if it was closed or has no cursor.
    pub(super) fn leave(mut self) {
        let has_cursor = matches!(self.inside().custody, Custody::Reader(_));
        let is_free = has_cursor && self.orders.end().is_none();
        let state = if is_free { FREE } else { BARRED };
        // Release: as in `Leash::leave`.
        self.leash.state.store(state, Release);
    }
}

/// Another than the reader, which has its place to itself.
pub(super) struct Barred<'a, T> {
    pub(super) orders: MutexGuard<'a, Orders>,
    leash: &'a Leash<T>,
}

impl<T> Barred<'_, T> {
    pub(super) fn parts(&mut self) -> (&mut Inside<T>, &mut Orders) {
        // SAFETY: the reader is outside and barred, and others hold the lock that we hold.
        let inside = unsafe { self.leash.inside().as_mut() };
        (inside, &mut self.orders)
    }
}

impl<T> Drop for Barred<'_, T> {
    /// The reader may enter again if its cursor is still there.
    fn drop(&mut self) {
        let (inside, orders) = self.parts();
        if matches!(inside.custody, Custody::Reader(_)) && orders.end().is_none() {
            // Release: pairs with the Acquire in `enter`.
            self.leash.state.store(FREE, Release);
        }
    }
}
