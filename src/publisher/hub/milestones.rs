//! The tasks that wait until an index has been published.

use std::collections::BTreeMap;

use super::once::{Awaited, Once};
use crate::sync::TrackedArc;

/// What tasks wait for, by index. An entry is removed when its index is published, or with the last
/// task that waits for it.
pub(super) struct Milestones {
    by_index: BTreeMap<u64, Awaited>,
    /// The least of the indexes, so that a commit compares only this.
    next: u64,
}

impl Milestones {
    pub(super) fn new() -> Self {
        Self {
            by_index: BTreeMap::new(),
            next: u64::MAX,
        }
    }

    /// Returns what happens when `index` is published, which lies ahead.
    pub(super) fn at(&mut self, index: u64) -> TrackedArc<Once> {
        self.next = self.next.min(index);
        self.by_index.entry(index).or_default().join()
    }

    /// Returns `true` if tasks wait for `index`, or for an earlier one.
    #[inline]
    pub(super) fn are_due(&self, index: u64) -> bool {
        index >= self.next
    }

    /// Removes what has happened when `index` is published. After the lock the result must be
    /// announced (invariant 1).
    pub(super) fn take(&mut self, index: u64) -> impl Iterator<Item = TrackedArc<Once>> {
        let later = match index.checked_add(1) {
            Some(later) => self.by_index.split_off(&later),
            None => BTreeMap::new(),
        };
        let due = std::mem::replace(&mut self.by_index, later);
        self.note_next();
        due.into_values().map(Awaited::into_once)
    }

    /// Removes the entry of a task that waits no more, unless others wait for the same.
    pub(super) fn leave(&mut self, index: u64, milestone: &TrackedArc<Once>) {
        let known = self.by_index.get_mut(&index);
        if known.is_some_and(|known| known.leave(milestone)) {
            self.by_index.remove(&index);
            self.note_next();
        }
    }

    fn note_next(&mut self) {
        let first = self.by_index.first_key_value();
        self.next = first.map_or(u64::MAX, |(index, _)| *index);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::Milestones;

    #[test]
    fn milestones_are_due_from_their_index_on() {
        let mut milestones = Milestones::new();
        assert!(!milestones.are_due(u64::MAX - 1));
        let (five, seven) = (milestones.at(5), milestones.at(7));
        assert!(!milestones.are_due(4));
        assert!(milestones.are_due(5));
        assert_eq!(milestones.take(6).count(), 1);
        assert!(!milestones.are_due(6));
        milestones.leave(5, &five);
        assert!(milestones.are_due(7));
        milestones.leave(7, &seven);
        assert!(!milestones.are_due(7));
    }

    #[test]
    fn a_milestone_stays_while_another_task_waits_for_it() {
        let mut milestones = Milestones::new();
        let (one, other) = (milestones.at(5), milestones.at(5));
        milestones.leave(5, &one);
        assert!(milestones.are_due(5));
        // The first task may still have its reference: it is dropped after the lock.
        milestones.leave(5, &other);
        assert!(!milestones.are_due(5));
    }

    #[test]
    fn the_greatest_index_is_due_at_the_end() {
        let mut milestones = Milestones::new();
        _ = milestones.at(u64::MAX);
        assert_eq!(milestones.take(u64::MAX).count(), 1);
    }
}
