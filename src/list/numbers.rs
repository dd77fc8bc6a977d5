//! Numbers of places across splices.

use std::ptr;
use std::sync::Arc;

use super::place::PlaceRef;
use super::shared::Shared;

impl<T, L> PlaceRef<T, L> {
    /// Returns the number that this place has in the buffer `last`, to which it leads by splices.
    ///
    /// It is negative if more items lie between than come before the splice in `last`.
    pub(super) fn number_in(&self, last: &Shared<L>) -> i64 {
        self.shared().number_in(self.seq(), last)
    }

    /// Identifies the buffer that the place is in.
    pub(super) fn region(&self) -> usize {
        ptr::from_ref(self.shared()) as usize
    }
}

impl<L> Shared<L> {
    /// Returns the number that a place here has in `last`, to which this buffer leads by splices.
    fn number_in(&self, seq: u64, last: &Self) -> i64 {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        if ptr::eq(self, last) {
            return signed(seq);
        }
        let way = self.distance_to(seq, last);
        way.map_or(i64::MAX, |(number, items)| signed(number) - signed(items))
    }

    /// Returns the number at which this buffer leads to `other` by splices, and how many items
    /// there are before that, from `seq` on.
    fn distance_to(&self, seq: u64, other: &Self) -> Option<(u64, u64)> {
        let mut successor = self.successor();
        let mut items = self.published_since(seq);
        loop {
            let (shared, seq) = successor?;
            if ptr::eq(Arc::as_ptr(&shared), other) {
                return Some((seq, items));
            }
            items += shared.published_since(seq);
            successor = shared.successor();
        }
    }
}
