//! What is dropped, and with that woken, once the lock is released.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

use slab::Slab;

use super::super::snapshot::Piece;
use super::arrivals::Arrival;
use super::topic::{Build, Kept, Live, Own, Topic};
use super::watches::Registered;
use crate::position::Position;
use crate::publisher::error::SnapshotGivenUp;
use crate::unwind::{Panic, discard, for_each_even_if_one_panics};

/// Collected under the lock, dropped after it. Collecting allocates only if there is something.
pub(super) struct Garbage<K, T> {
    pub(super) keys: EachDropped<Vec<K>>,
    pub(super) topics: EachDropped<Vec<Topic<K, T>>>,
    pub(super) lives: EachDropped<Vec<Live<K, T>>>,
    /// Mostly there is one.
    pub(super) entry: Option<Own<K, T>>,
    pub(super) entries: EachDropped<Vec<Own<K, T>>>,
    pub(super) kept: EachDropped<Vec<Kept<K, T>>>,
    /// To be told, too.
    pub(super) arrivals: EachDropped<Vec<(K, Arc<Arrival>)>>,
    /// First parts of snapshots.
    pub(super) starts: EachDropped<Vec<Position<Piece<T>>>>,
    pub(super) registered: Vec<Registered<K>>,
    /// Given up.
    pub(super) builds: EachDropped<Vec<GivenUp<K, T>>>,
    /// Empty.
    pub(super) tables: Option<Tables<K, T>>,
    /// Of keys that were asked under the lock. What they carry is user code.
    pub(super) panics: Vec<Panic>,
}

/// The topics, and the way to them.
pub(super) type Tables<K, T> = (
    EachDropped<Slab<Topic<K, T>>>,
    EachDropped<HashMap<K, usize>>,
);

/// Drops what is in it one by one, even if the drop of one panics, or a panic goes on already.
pub(super) struct EachDropped<I: Default + IntoIterator>(pub(super) I);

/// A snapshot that is given up. Dropping it drops the handler, unless it is being polled, and tells those who wait.
pub(super) struct GivenUp<K, T>(pub(super) Build<K, T>);

impl<I: Default + IntoIterator> Drop for EachDropped<I> {
    fn drop(&mut self) {
        for_each_even_if_one_panics(mem::take(&mut self.0).into_iter(), drop);
    }
}

impl<K, T> Drop for GivenUp<K, T> {
    fn drop(&mut self) {
        self.0.parts.fail(SnapshotGivenUp.into());
        self.0.flight.give_up();
    }
}

impl<K, T> Drop for Garbage<K, T> {
    fn drop(&mut self) {
        self.panics.drain(..).for_each(discard);
        for_each_even_if_one_panics(self.arrivals.0.iter(), |(_, arrival)| arrival.tell());
    }
}

impl<K, T> Garbage<K, T> {
    /// Allocates nothing.
    pub(super) fn new() -> Self {
        Self {
            keys: EachDropped(Vec::new()),
            topics: EachDropped(Vec::new()),
            lives: EachDropped(Vec::new()),
            entry: None,
            entries: EachDropped(Vec::new()),
            kept: EachDropped(Vec::new()),
            arrivals: EachDropped(Vec::new()),
            starts: EachDropped(Vec::new()),
            registered: Vec::new(),
            builds: EachDropped(Vec::new()),
            tables: None,
            panics: Vec::new(),
        }
    }

    pub(super) fn add_entry(&mut self, own: Own<K, T>) {
        match &self.entry {
            None => self.entry = Some(own),
            Some(_) => self.entries.0.push(own),
        }
    }
}
