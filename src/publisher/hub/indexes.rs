//! The indexes of a publisher in its present epoch.

use crate::publisher::report::error::PublishError;

/// The index of a commit that is to be published.
#[derive(Clone, Copy)]
pub(in super::super) enum At {
    Index(u64),
    Next,
}

/// How far the publisher is, and what it no longer has.
pub(super) struct Indexes {
    /// The index of the newest commit.
    last: u64,
    /// The greatest index that is known, published or of a snapshot.
    known: u64,
    /// The newest index that has left the history (invariant 5).
    left: u64,
}

impl Indexes {
    /// Returns the indexes of a publisher whose commits up to `start` are not in the history.
    pub(super) fn new(start: u64) -> Self {
        Self {
            last: start,
            known: start,
            left: start,
        }
    }

    pub(super) fn last(&self) -> u64 {
        self.last
    }

    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// Returns `true` if no client can have seen the index yet.
    pub(super) fn is_ahead(&self, index: u64) -> bool {
        index > self.known
    }

    /// Returns the index of the next commit, if it may have it.
    #[inline]
    pub(super) fn check(&self, at: At) -> Result<u64, PublishError> {
        let last = self.last;
        match at {
            At::Index(index) if index <= last => Err(PublishError::IndexNotGreater { index, last }),
            At::Index(index) => Ok(index),
            At::Next => last.checked_add(1).ok_or(PublishError::IndexesExhausted),
        }
    }

    /// Records a commit at an index that was checked.
    #[inline]
    pub(super) fn commit(&mut self, index: u64) {
        self.last = index;
        self.see(index);
    }

    /// Records the index of a snapshot, which may be ahead of the last commit.
    #[inline]
    pub(super) fn see(&mut self, index: u64) {
        self.known = self.known.max(index);
    }

    /// Records that a commit has left the history, or was never in it.
    #[inline]
    pub(super) fn leave(&mut self, index: u64) {
        self.left = self.left.max(index);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{At, Indexes, PublishError};

    #[test]
    fn an_index_must_be_greater_than_the_last_one() {
        let mut indexes = Indexes::new(0);
        let refused = PublishError::IndexNotGreater { index: 0, last: 0 };
        assert_eq!(indexes.check(At::Index(0)), Err(refused));
        indexes.commit(7);
        let refused = PublishError::IndexNotGreater { index: 7, last: 7 };
        assert_eq!(indexes.check(At::Index(7)), Err(refused));
        assert_eq!(indexes.check(At::Index(9)), Ok(9));
        assert_eq!(indexes.last(), 7);
    }

    #[test]
    fn the_next_index_follows_the_last_one_until_none_is_left() {
        assert_eq!(Indexes::new(7).check(At::Next), Ok(8));
        let exhausted = Err(PublishError::IndexesExhausted);
        assert_eq!(Indexes::new(u64::MAX).check(At::Next), exhausted);
    }

    #[test]
    fn an_index_is_ahead_until_a_commit_or_a_snapshot_has_it() {
        let mut indexes = Indexes::new(3);
        assert!(!indexes.is_ahead(3));
        assert!(indexes.is_ahead(5));
        indexes.see(5);
        assert!(!indexes.is_ahead(5));
        // A commit behind the snapshot takes nothing back.
        indexes.commit(4);
        assert!(!indexes.is_ahead(5));
    }

    #[test]
    fn what_former_processes_published_has_left() {
        let mut indexes = Indexes::new(6);
        assert_eq!(indexes.left(), 6);
        indexes.leave(8);
        assert_eq!(indexes.left(), 8);
    }
}
