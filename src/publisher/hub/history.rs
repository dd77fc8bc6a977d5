//! The order in which entries leave the history.

use std::collections::VecDeque;

/// The records of all entries that topics retain, the oldest first.
///
/// A commit has a record for each topic that it touches, and takes one place, however many these are. What is no
/// commit (the mark of a refresh, the end of a key) rides along: it takes no place, and leaves with the commit after
/// it. Until that has left, no one that must know of the rider can be at a place that resumes without it.
pub(super) struct History {
    limit: usize,
    records: VecDeque<Record>,
    commits: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) index: u64,
    /// Of the topic.
    pub(super) slot: u32,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An entry of a commit that has more of them.
    Commit,
    /// The last entry of a commit.
    LastOfCommit,
    /// Not a commit.
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

    /// How many commits are retained.
    pub(super) fn commits(&self) -> usize {
        self.commits
    }

    #[inline]
    pub(super) fn push(&mut self, index: u64, slot: usize, kind: Kind) {
        // More topics than that do not fit into memory.
        let slot = u32::try_from(slot).unwrap_or(u32::MAX);
        self.records.push_back(Record { index, slot, kind });
        self.commits += usize::from(kind == Kind::LastOfCommit);
    }

    /// Returns `true` if there is a record that has to leave.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        self.commits > self.limit
    }

    /// Returns `true` if nothing is in it.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Takes the oldest record out.
    pub(super) fn pop(&mut self) -> Option<Record> {
        let record = self.records.pop_front()?;
        self.commits -= usize::from(record.kind == Kind::LastOfCommit);
        if self.records.capacity() > 1_024 && self.records.len() < self.records.capacity() / 8 {
            self.records.shrink_to(2 * self.records.len());
        }
        Some(record)
    }
}

#[cfg(test)]
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
}
