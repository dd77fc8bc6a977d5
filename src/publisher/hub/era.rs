//! What the watches of one epoch read without the lock.

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};

use crate::sync::{AtomicBool, AtomicU64};

/// The indexes of one epoch. Each epoch has its own `Era`, so that a watch of a former one never
/// takes a current index for its own.
pub(in super::super) struct Era {
    pub(in super::super) epoch: u64,
    /// The last index. All commits up to it are linked (invariant 2).
    published: AtomicU64,
    /// The index of the last mark of progress.
    marked: AtomicU64,
    /// Set when the last handle of the publisher is dropped.
    ended: AtomicBool,
}

impl Era {
    pub(super) fn new(epoch: u64, published: u64) -> Arc<Self> {
        Arc::new(Self {
            epoch,
            published: AtomicU64::new(published),
            marked: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        })
    }

    /// Publishes an index, once all commits up to it are linked (invariant 2).
    #[inline]
    pub(super) fn publish(&self, index: u64) {
        // Release: pairs with the Acquire in `published`.
        self.published.store(index, Release);
    }

    /// Returns the last index. If it is read before a chain, the chain has everything up to it.
    #[inline]
    pub(in super::super) fn published(&self) -> u64 {
        // Acquire: pairs with the Release in `publish`.
        self.published.load(Acquire)
    }

    pub(super) fn mark(&self, index: u64) {
        self.marked.fetch_max(index, AcqRel);
    }

    pub(in super::super) fn marked(&self) -> u64 {
        self.marked.load(Acquire)
    }

    pub(super) fn end(&self) {
        self.ended.store(true, Release);
    }

    pub(in super::super) fn is_ended(&self) -> bool {
        self.ended.load(Acquire)
    }
}
