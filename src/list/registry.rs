//! The types by which a buffer and its limited readers know each other.
//!
//! What the readers of a buffer share has the readers whose lag is limited, a limited reader has a
//! cursor, and a cursor leads to what the readers share. So these types are recursive:
//!
//! ```text
//!   Shared ──▶ Limits ──▶ LimitRegistry ──▶ Deadlines ──▶ Limited
//!     ▲                                                      │
//!     └── Node ◀── Cursor ◀── Custody ◀── Inside ◀── Leash ◀─┘
//! ```
//!
//! The list itself does not depend on that. Its nodes, places and cursors have a type parameter `L`
//! for what a buffer knows of its limited readers, and never look at it. This file puts in
//! [`Limits`], and names the types of the list that this makes.

use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::{Arc, OnceLock};

use super::cursor;
use super::deadlines::{Deadlines, Id, NEVER};
use super::leash::{self, Leashable};
use super::node::{self, block, fill};
use super::place;
use super::shared;
use super::sums::Sums;
use super::trail;
use super::walk;
use super::weak_place;
use crate::lag_limit::{LagLimit, SizeOf};
use crate::sync::{AtomicBool, AtomicU64, Mutex, MutexGuard};

pub(crate) type Cursor<T> = cursor::Cursor<T, Limits<T>>;
pub(crate) type Walk<'a, T> = walk::Walk<'a, T, Limits<T>>;
pub(crate) type PlaceRef<T> = place::PlaceRef<T, Limits<T>>;
pub(crate) type WeakPlace<T> = weak_place::WeakPlace<Limits<T>>;
pub(crate) type Payload<T> = node::Payload<T, Shared<T>>;
pub(crate) type Batch<T> = fill::Batch<T, Shared<T>>;
pub(super) type Chain<T> = fill::Chain<T, Shared<T>>;
pub(super) type BlockAllocator<T> = block::BlockAllocator<T, Shared<T>>;
pub(super) type Ending<T> = shared::Ending<Limits<T>>;
pub(super) type Shared<T> = shared::Shared<Limits<T>>;
pub(super) type NodeRef<T> = place::NodeRef<T, Limits<T>>;
pub(super) type NodePtr<T> = place::NodePtr<T, Limits<T>>;
pub(super) type Place<T> = place::Place<T, Limits<T>>;
pub(super) type Trail<T> = trail::Trail<T, Limits<T>>;
pub(super) type Parked<T> = trail::Parked<T, Limits<T>>;
pub(super) type Leash<T> = leash::Leash<Inside<T>>;

/// What a buffer knows of its limited readers, which is little if there was never one.
pub(crate) struct Limits<T> {
    /// The number of published items at which the nearest is due. Written under the registry's
    /// lock.
    pub(super) due_at: AtomicU64,
    /// Tells the writer to ask each event for its size.
    pub(super) is_metered: AtomicBool,
    pub(super) registry: Mutex<LimitRegistry<T>>,
    /// Set when the first reader is limited in bytes.
    pub(super) meter: OnceLock<Box<Meter<T>>>,
}

// SAFETY: the events in it are those of the cursors and places in the registry. That has entries
// only if readers of these `T`s were limited, for which `Subscription::limited` and
// `Publisher::subscribe` ask for `T: Send + Sync`.
unsafe impl<T> Send for Limits<T> {}
// SAFETY: the same argument.
unsafe impl<T> Sync for Limits<T> {}

pub(super) struct LimitRegistry<T> {
    /// In a box, since most buffers have none.
    pub(super) book: Option<Box<Deadlines<Limited<T>>>>,
    /// The buffer is spliced, and its entries are in the next buffer's registry, as all later ones
    /// will be.
    pub(super) is_handed_on: bool,
}

/// What has a deadline.
pub(super) enum Limited<T> {
    Reader(Arc<Leash<T>>),
    Trail(Arc<Trail<T>>),
}

/// How many bytes readers are behind: see [`super::meter`].
pub(super) struct Meter<T> {
    pub(super) size_of: SizeOf<T>,
    pub(super) sums: Mutex<Sums>,
}

/// A reader whose cursor others can take away.
pub(super) struct Inside<T> {
    pub(super) custody: Custody<T>,
    pub(super) limit: Option<LagLimit<T>>,
    /// The number of items skipped that is yet to be reported.
    pub(super) skipped: u64,
    /// How many of these were skipped by an earlier limit. They are no lag under the current one.
    pub(super) settled: u64,
}

/// What has become of the reader's cursor.
pub(super) enum Custody<T> {
    Reader(Cursor<T>),
    /// The reader fell behind its limit, and shares a trail.
    Trail(Parked<T>),
    /// The reader was closed at this place, or dropped.
    Gone(Option<WeakPlace<T>>),
}

impl<T> Inside<T> {
    pub(super) fn new(custody: Custody<T>) -> Self {
        Self {
            custody,
            limit: None,
            skipped: 0,
            settled: 0,
        }
    }
}

impl<T> Leashable for Inside<T> {
    fn has_cursor(&self) -> bool {
        matches!(self.custody, Custody::Reader(_))
    }
}

impl<T> Default for Limits<T> {
    fn default() -> Self {
        let registry = LimitRegistry {
            book: None,
            is_handed_on: false,
        };
        Self {
            due_at: AtomicU64::new(NEVER),
            is_metered: AtomicBool::new(false),
            registry: Mutex::new(registry),
            meter: OnceLock::new(),
        }
    }
}

impl<T> Limits<T> {
    /// Returns `true` if a limit is due once `published` items are published.
    #[inline]
    pub(super) fn are_due(&self, published: u64) -> bool {
        // Relaxed: a hint; the deadlines themselves are under the lock.
        self.due_at.load(Relaxed) <= published
    }

    /// Returns `true` if the writer has to call [`Shared::measure`] with each item.
    pub(super) fn is_metered(&self) -> bool {
        // Acquire: pairs with the Release in `begin_sums`.
        self.is_metered.load(Acquire)
    }

    pub(super) fn are_due_in_bytes(&self) -> bool {
        self.sums()
            .is_some_and(|sums| sums.has_begun() && sums.total() >= sums.due_at)
    }

    pub(super) fn sums(&self) -> Option<MutexGuard<'_, Sums>> {
        self.meter.get().map(|meter| meter.sums.lock())
    }

    pub(super) fn total(&self) -> u64 {
        self.sums().map_or(0, |sums| sums.total())
    }

    /// Notes when the nearest is due, under the lock of the registry.
    pub(super) fn note_due(&self, registry: &LimitRegistry<T>) {
        let Some(book) = &registry.book else {
            return;
        };
        let due = book.next_due();
        // Relaxed: a hint, see `are_due`.
        self.due_at.store(due.items, Relaxed);
        if let Some(mut sums) = self.sums() {
            sums.due_at = due.bytes;
        }
    }
}

/// Names a reader in its registry.
pub(super) fn id_of<T>(leash: &Leash<T>) -> Id {
    Id::Reader(ptr::from_ref(leash) as usize)
}
