//! The order in which entries leave the history.

use std::collections::VecDeque;

/// The records of all entries that topics retain, the oldest first (invariant 3 of the hub).
///
/// A commit has one record for each topic that it touches, but counts once. What is not a commit
/// (the mark of a refresh, or the end of a key) is a *rider*: it does not count, and leaves
/// together with the next commit. While a rider is retained, a client that has not seen it receives
/// it when it resumes; afterwards the `left` of its topic keeps such a client from resuming.
pub(super) struct History {
    limit: usize,
    records: VecDeque<Record>,
    commits: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) index: u64,
    /// The topic that has the entry.
    pub(super) slot: u32,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An entry of a commit, but not its last one.
    Commit,
    /// The last entry of a commit.
    LastOfCommit,
    /// An entry that is not a commit.
    Rider,
}

impl History {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            records: VecDeque::new(),
            commits: 0,
        }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Returns the number of retained commits.
    pub(super) fn commits(&self) -> usize {
        self.commits
    }

    #[inline]
    pub(super) fn push(&mut self, index: u64, slot: usize, kind: Kind) {
        // A table of more topics than that does not fit into memory.
        let slot = u32::try_from(slot).unwrap_or(u32::MAX);
        self.records.push_back(Record { index, slot, kind });
        self.commits += usize::from(kind == Kind::LastOfCommit);
    }

    /// Returns `true` if the oldest record has to leave.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        self.commits > self.limit
    }

    /// Returns `true` if there is no record.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Removes the oldest record.
    pub(super) fn pop(&mut self) -> Option<Record> {
        let record = self.records.pop_front()?;
        self.commits -= usize::from(record.kind == Kind::LastOfCommit);
        if self.records.capacity() > 1_024 && self.records.len() < self.records.capacity() / 8 {
            self.records.shrink_to(2 * self.records.len());
        }
        Some(record)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{History, Kind};

    fn popped(history: &mut History) -> Vec<(u64, u32)> {
        let mut popped = Vec::new();
        while history.is_over() {
            popped.extend(history.pop().map(|record| (record.index, record.slot)));
        }
        popped
    }

    #[test]
    fn a_commit_takes_one_place_however_many_topics_it_touches() {
        let mut history = History::new(1);
        history.push(1, 0, Kind::Commit);
        history.push(1, 1, Kind::LastOfCommit);
        assert!(!history.is_over());
        history.push(2, 0, Kind::LastOfCommit);
        assert_eq!(popped(&mut history), [(1, 0), (1, 1)]);
    }

    #[test]
    fn a_rider_leaves_with_the_commit_after_it() {
        let mut history = History::new(1);
        history.push(1, 0, Kind::LastOfCommit);
        history.push(1, 5, Kind::Rider);
        history.push(2, 0, Kind::LastOfCommit);
        assert_eq!(popped(&mut history), [(1, 0)]);
        history.push(3, 0, Kind::LastOfCommit);
        assert_eq!(popped(&mut history), [(1, 5), (2, 0)]);
    }

    #[test]
    fn riders_do_not_count() {
        let mut history = History::new(1);
        history.push(1, 0, Kind::Rider);
        history.push(1, 1, Kind::Rider);
        assert_eq!(history.commits(), 0);
        assert!(!history.is_over() && !history.is_empty());
    }

    #[test]
    fn memory_is_given_back_when_few_records_are_left() {
        let mut history = History::new(usize::MAX);
        (0..10_000).for_each(|index| history.push(index, 0, Kind::LastOfCommit));
        while history.commits() > 10 {
            history.pop();
        }
        assert!(history.records.capacity() < 2_048);
    }
}
