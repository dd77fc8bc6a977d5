//! The registered watches, by number and by token.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use super::sizes::STEP;
use crate::publisher::report::error::{CloseReason, WatchError};
use crate::publisher::watch::control::{Control, Ordered};

pub(super) struct Watches<K> {
    /// In the order of registration, so that all of them can be visited in steps (invariant 7).
    by_id: BTreeMap<u64, Registered<K>>,
    by_token: HashMap<Arc<str>, HashSet<u64>>,
}

pub(super) struct Registered<K> {
    pub(super) control: Arc<Control>,
    pub(super) keys: Arc<[Arc<K>]>,
    /// The topics in which the watch has a seat.
    pub(super) slots: Box<[usize]>,
    pub(super) tokens: Arc<[Arc<str>]>,
}

impl<K> Watches<K> {
    pub(super) fn new() -> Self {
        Self {
            by_id: BTreeMap::new(),
            by_token: HashMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn get(&self, id: u64) -> Option<&Registered<K>> {
        self.by_id.get(&id)
    }

    pub(super) fn insert(&mut self, id: u64, watch: Registered<K>) {
        for token in &*watch.tokens {
            let of_token = self.by_token.entry(Arc::clone(token)).or_default();
            of_token.insert(id);
        }
        self.by_id.insert(id, watch);
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Registered<K>> {
        let watch = self.by_id.remove(&id)?;
        for token in &*watch.tokens {
            if let Some(of_token) = self.by_token.get_mut(token) {
                of_token.remove(&id);
                if of_token.is_empty() {
                    self.by_token.remove(token);
                }
            }
        }
        Some(watch)
    }

    /// Returns the watches that carry a token. O(their number).
    pub(super) fn of_token(&self, token: &str) -> Vec<u64> {
        let of_token = self.by_token.get(token);
        of_token.into_iter().flatten().copied().collect()
    }

    /// Returns the watches after that number, as many as are visited in one step.
    pub(super) fn step(&self, after: u64) -> impl Iterator<Item = (u64, &Registered<K>)> {
        let next = self.by_id.range((Excluded(after), Unbounded));
        next.take(STEP).map(|(id, watch)| (*id, watch))
    }

    pub(super) fn controls(&self) -> impl Iterator<Item = &Arc<Control>> {
        self.by_id.values().map(|watch| &watch.control)
    }

    /// Orders all watches to end. Runs no user code.
    pub(super) fn end_all(self, reason: CloseReason) -> Vec<Ordered> {
        let end = |control: &Arc<Control>| control.end(WatchError::Closed(reason));
        self.controls().filter_map(end).collect()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{CloseReason, Control, Registered, STEP, WatchError, Watches};

    fn watch(tokens: &[&str]) -> Registered<u8> {
        Registered {
            control: Control::new(),
            keys: [].into(),
            slots: [].into(),
            tokens: tokens.iter().map(|token| (*token).into()).collect(),
        }
    }

    #[test]
    fn watches_are_found_by_each_of_their_tokens_until_they_are_removed() {
        let mut watches = Watches::new();
        watches.insert(1, watch(&["alice", "admin"]));
        watches.insert(2, watch(&["admin", "admin"]));
        let mut admins = watches.of_token("admin");
        admins.sort_unstable();
        assert_eq!(admins, [1, 2]);
        assert!(watches.remove(2).is_some() && watches.remove(2).is_none());
        assert_eq!(watches.of_token("admin"), [1]);
        watches.remove(1);
        assert!(watches.by_token.is_empty(), "a token is kept for nothing");
    }

    #[test]
    fn steps_visit_each_watch_once_in_the_order_of_registration() {
        let mut watches = Watches::new();
        let last = STEP as u64 + 3;
        (1..=last).for_each(|id| watches.insert(id, watch(&[])));
        let step = |after| watches.step(after).map(|(id, _)| id).collect::<Vec<_>>();
        let (first, second) = (step(0), step(STEP as u64));
        assert_eq!((first.len(), second.len()), (STEP, 3));
        assert!(first.into_iter().chain(second).eq(1..=last));
    }

    #[test]
    fn a_watch_that_was_closed_is_not_ordered_to_end_again() {
        let mut watches = Watches::new();
        (1..=3).for_each(|id| watches.insert(id, watch(&[])));
        let end = WatchError::Closed(CloseReason::KeyClosed);
        let closed = watches.get(2).unwrap().control.end(end);
        assert_eq!(watches.end_all(CloseReason::AllClosed).len(), 2);
        drop(closed);
    }
}
