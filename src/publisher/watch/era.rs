//! What the watches of one epoch read without the lock.

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};

use crate::sync::{AtomicBool, AtomicU64};

/// The indexes of one epoch. Each epoch has its own `Era`, so that a watch of a former one never
/// takes a current index for its own.
pub(crate) struct Era {
    pub(crate) epoch: u64,
    /// The last index. All commits up to it are linked (invariant 2).
    published: AtomicU64,
    /// The index of the last mark of progress.
    marked: AtomicU64,
    /// Set when the last handle of the publisher is dropped.
    ended: AtomicBool,
}

impl Era {
    pub(crate) fn new(epoch: u64, published: u64) -> Arc<Self> {
        Arc::new(Self {
            epoch,
            published: AtomicU64::new(published),
            marked: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        })
    }

    /// Publishes an index, once all commits up to it are linked (invariant 2).
    #[inline]
    pub(crate) fn publish(&self, index: u64) {
        // Release: pairs with the Acquire in `published`.
        self.published.store(index, Release);
    }

    /// Returns the last index. If it is read before a chain, the chain has everything up to it.
    #[inline]
    pub(crate) fn published(&self) -> u64 {
        // Acquire: pairs with the Release in `publish`.
        self.published.load(Acquire)
    }

    /// Marks the progress up to an index that is published already.
    pub(crate) fn mark(&self, index: u64) {
        // AcqRel: the Release pairs with the Acquire in `marked`. A watch that sees the mark then
        // finds an index in `published` that is at least as great.
        self.marked.fetch_max(index, AcqRel);
    }

    pub(crate) fn marked(&self) -> u64 {
        // Acquire: pairs with the Release in `mark`.
        self.marked.load(Acquire)
    }

    /// Records that nothing more is published.
    pub(crate) fn end(&self) {
        // Release: pairs with the Acquire in `is_ended`. A watch that sees the end then finds all
        // that was published before it.
        self.ended.store(true, Release);
    }

    pub(crate) fn is_ended(&self) -> bool {
        // Acquire: pairs with the Release in `end`.
        self.ended.load(Acquire)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::Era;

    #[test]
    fn a_mark_of_progress_never_goes_back() {
        let era = Era::new(1, 0);
        era.mark(7);
        era.mark(5);
        assert_eq!(era.marked(), 7);
    }

    #[test]
    fn an_era_begins_at_its_start_and_keeps_its_epoch() {
        let era = Era::new(3, 6);
        assert_eq!((era.epoch, era.published(), era.marked()), (3, 6, 0));
        era.publish(8);
        assert_eq!(era.published(), 8);
        assert!(!era.is_ended());
        era.end();
        assert!(era.is_ended());
    }
}
