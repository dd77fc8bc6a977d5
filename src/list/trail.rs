//! A place shared by readers that lag.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use super::place::PlaceRef;
use super::shared::Shared;
use super::weak_place::WeakPlace;
use crate::sync::{Mutex, MutexGuard};

/// How much a reader that has given up its place may receive when it comes back.
#[derive(Clone, Copy)]
pub(super) struct Allowance {
    pub(super) items: u64,
    pub(super) bytes: Option<u64>,
}

/// A class of allowances that share a trail: they differ by less than a factor of two.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Class {
    items: u32,
    bytes: Option<u32>,
}

impl Allowance {
    pub(super) fn class(self) -> Class {
        Class {
            items: self.items.max(1).ilog2(),
            bytes: self.bytes.map(|bytes| bytes.max(1).ilog2()),
        }
    }
}

/// Names a trail of a buffer: the buffer it is in by now, and its class.
pub(super) type Key = (usize, Class);

/// A place that trails the newest item by the greatest allowance of the readers that share it.
///
/// The writer moves it, under the lock of the registry that it is in.
pub(super) struct Trail<T, L>(Mutex<TrailState<T, L>>);

pub(super) struct TrailState<T, L> {
    class: Class,
    /// `None` once no reader shares it, or it was merged into another one.
    pub(super) place: Option<PlaceRef<T, L>>,
    /// The place as a number that grows with each item it passes. Each reader that shares the trail
    /// knows its own place as such a number.
    number: i64,
    /// The readers' allowances, each with the number of readers that have it.
    items: BTreeMap<u64, usize>,
    bytes: BTreeMap<u64, usize>,
    /// The trail that this one has become part of, and how much greater that one's numbers are. Two
    /// trails merge if splices lead them to the same buffer.
    merged_into: Option<(Arc<Trail<T, L>>, i64)>,
}

/// A reader's share of a trail. The reader still counts as an observer.
pub(super) struct Parked<T, L> {
    pub(super) trail: Arc<Trail<T, L>>,
    pub(super) allowance: Allowance,
    /// The number of the first item that the reader has not received.
    pub(super) number: i64,
}

impl<T, L> Parked<T, L> {
    /// Returns the trail that it is now, and the reader's place in its numbers.
    pub(super) fn find(&self) -> (Arc<Trail<T, L>>, i64) {
        let (mut trail, mut number) = (Arc::clone(&self.trail), self.number);
        loop {
            let next = trail.lock().merged_into.clone();
            let Some((next, offset)) = next else {
                return (trail, number);
            };
            (trail, number) = (next, number + offset);
        }
    }

    /// Returns the buffer that the trail is in.
    pub(super) fn shared(&self) -> Option<Arc<Shared<L>>> {
        self.find().0.lock().place.as_ref().map(PlaceRef::owner)
    }

    /// Returns the place of the trail, at or before the first item that the reader may receive.
    ///
    /// It takes no reference to the node: the trail may move on meanwhile, and dropping that then
    /// runs user code.
    pub(super) fn weak_place(&self) -> Option<WeakPlace<L>> {
        self.find().0.lock().place.as_ref().map(PlaceRef::downgrade)
    }
}

fn greatest(allowances: &BTreeMap<u64, usize>) -> Option<u64> {
    allowances.last_key_value().map(|(most, _)| *most)
}

fn add_all(to: &mut BTreeMap<u64, usize>, from: BTreeMap<u64, usize>) {
    for (allowance, readers) in from {
        *to.entry(allowance).or_default() += readers;
    }
}

fn take_one(from: &mut BTreeMap<u64, usize>, allowance: u64) {
    if let Some(readers) = from.get_mut(&allowance) {
        *readers -= 1;
        if *readers == 0 {
            from.remove(&allowance);
        }
    }
}

impl<T, L> Trail<T, L> {
    pub(super) fn new(place: PlaceRef<T, L>, class: Class) -> Arc<Self> {
        Arc::new(Self(Mutex::new(TrailState {
            class,
            place: Some(place),
            number: 0,
            items: BTreeMap::new(),
            bytes: BTreeMap::new(),
            merged_into: None,
        })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, TrailState<T, L>> {
        self.0.lock()
    }

    /// Merges two trails at the place that is further back. Returns the other place.
    pub(super) fn merge_into(&self, other: &Arc<Self>, last: &Shared<L>) -> Option<PlaceRef<T, L>> {
        let mut state = self.lock();
        let mut other_state = other.lock();
        let number = other_state.number_of(state.place.as_ref()?, last);
        state.merged_into = Some((Arc::clone(other), number - state.number));
        add_all(&mut other_state.items, mem::take(&mut state.items));
        add_all(&mut other_state.bytes, mem::take(&mut state.bytes));
        let place = state.place.take()?;
        if number < other_state.number {
            other_state.move_to(place, number)
        } else {
            Some(place)
        }
    }
}

impl<T, L> TrailState<T, L> {
    pub(super) fn key(&self) -> Option<Key> {
        self.place
            .as_ref()
            .map(|place| (place.region(), self.class))
    }

    /// Returns the number that `place` has in this trail. Both lead to the buffer `last`.
    pub(super) fn number_of(&self, place: &PlaceRef<T, L>, last: &Shared<L>) -> i64 {
        let own = self.place.as_ref().map_or(0, |own| own.number_in(last));
        self.number + (place.number_in(last) - own)
    }

    pub(super) fn number(&self) -> i64 {
        self.number
    }

    /// Returns the greatest allowance of the readers that share it.
    pub(super) fn allowance(&self) -> Allowance {
        Allowance {
            items: greatest(&self.items).unwrap_or(0),
            bytes: greatest(&self.bytes),
        }
    }

    pub(super) fn add_reader(&mut self, allowance: Allowance) {
        *self.items.entry(allowance.items).or_default() += 1;
        if let Some(bytes) = allowance.bytes {
            *self.bytes.entry(bytes).or_default() += 1;
        }
    }

    /// Removes a reader. Returns the place, perhaps with its last reference, and whether the trail
    /// is still shared.
    pub(super) fn remove_reader(&mut self, allowance: Allowance) -> (Option<PlaceRef<T, L>>, bool) {
        take_one(&mut self.items, allowance.items);
        if let Some(bytes) = allowance.bytes {
            take_one(&mut self.bytes, bytes);
        }
        if self.items.is_empty() {
            (self.place.take(), false)
        } else {
            (self.place.clone(), true)
        }
    }

    /// Moves the trail, and returns its old place.
    pub(super) fn move_to(&mut self, place: PlaceRef<T, L>, number: i64) -> Option<PlaceRef<T, L>> {
        self.number = number;
        self.place.replace(place)
    }
}
