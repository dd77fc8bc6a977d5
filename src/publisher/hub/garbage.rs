//! What is dropped after the lock (invariant 1), waking and reporting on the way.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

use slab::Slab;

use super::super::control::Ordered;
use super::super::snapshot::Piece;
use super::arrivals::Arrival;
use super::topic::{Build, Kept, Live, Retained, Topic};
use super::watches::Registered;
use crate::publisher::error::SnapshotGivenUp;
use crate::publisher::trace::Notes;
use crate::read::position::Position;
use crate::unwind::{Panic, both_even_if_one_panics, discard, for_each_even_if_one_panics};

/// Collected under the lock and dropped after it. Usually there is nothing, or one entry.
pub(super) struct Garbage<K, T> {
    pub(super) entry: Option<Retained<K, T>>,
    pile: Option<Box<Pile<K, T>>>,
    /// The last field, so that nothing waits for a `tracing` subscriber.
    pub(super) notes: Notes,
}

/// The garbage that is rare, boxed so that the usual case stays small.
pub(super) struct Pile<K, T> {
    pub(super) keys: EachDropped<Vec<K>>,
    pub(super) topics: EachDropped<Vec<Topic<K, T>>>,
    pub(super) lives: EachDropped<Vec<Live<K, T>>>,
    pub(super) entries: EachDropped<Vec<Retained<K, T>>>,
    pub(super) kept: EachDropped<Vec<Kept<K, T>>>,
    /// Dropping the pile announces these.
    pub(super) arrivals: EachDropped<Vec<(K, Arc<Arrival>)>>,
    /// The first parts of snapshots that can no longer be joined.
    pub(super) starts: EachDropped<Vec<Position<Piece<T>>>>,
    pub(super) registered: Vec<Registered<K>>,
    /// Snapshots that are given up.
    pub(super) builds: EachDropped<Vec<GivenUp<K, T>>>,
    /// The tables of the topics, if they are empty but large.
    pub(super) tables: Option<Tables<K, T>>,
    /// Panics of keys that were hashed or compared under the lock. Their payloads are user code.
    pub(super) panics: Vec<Panic>,
}

/// All topics, and the map that finds them by key.
pub(super) struct Tables<K, T> {
    pub(super) topics: EachDropped<Slab<Topic<K, T>>>,
    /// Only dropped: its keys are user code.
    pub(super) _slots: EachDropped<HashMap<K, usize>>,
}

/// Drops its items one by one, even if one of them panics, or if a panic is unwinding already.
pub(super) struct EachDropped<I: Default + IntoIterator>(pub(super) I);

/// A snapshot that is given up. Dropping it drops the handler's future, unless that is being
/// polled, and ends the waiting watches with an error.
pub(super) struct GivenUp<K, T>(pub(super) Build<K, T>);

impl<I: Default + IntoIterator> Drop for EachDropped<I> {
    fn drop(&mut self) {
        let items = mem::take(&mut self.0).into_iter();
        if items.size_hint().1 != Some(0) {
            for_each_even_if_one_panics(items, drop);
        }
    }
}

impl<K, T> Drop for GivenUp<K, T> {
    fn drop(&mut self) {
        self.0.parts.fail(SnapshotGivenUp.into());
        self.0.flight.give_up();
    }
}

impl<K, T> Drop for Pile<K, T> {
    fn drop(&mut self) {
        self.panics.drain(..).for_each(discard);
        for_each_even_if_one_panics(self.arrivals.0.iter(), |(_, arrival)| arrival.announce());
    }
}

impl<K, T> Garbage<K, T> {
    #[inline]
    pub(super) fn new() -> Self {
        Self {
            entry: None,
            pile: None,
            notes: Notes::new(),
        }
    }

    pub(super) fn pile(&mut self) -> &mut Pile<K, T> {
        self.pile.get_or_insert_with(|| Box::new(Pile::new()))
    }

    #[inline]
    pub(super) fn add_entry(&mut self, own: Retained<K, T>) {
        match &self.entry {
            None => self.entry = Some(own),
            Some(_) => self.pile().entries.0.push(own),
        }
    }

    pub(super) fn take_builds(&mut self) -> Vec<GivenUp<K, T>> {
        let builds = self.pile.as_mut().map(|pile| mem::take(&mut pile.builds.0));
        builds.unwrap_or_default()
    }
}

impl<K, T> Pile<K, T> {
    fn new() -> Self {
        Self {
            keys: EachDropped(Vec::new()),
            topics: EachDropped(Vec::new()),
            lives: EachDropped(Vec::new()),
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
}

/// Closes the readers of all watches first. Then wakes each watch and frees what it kept, even if
/// that panics for another one.
pub(super) fn finish<K, T>(mut ordered: Vec<Ordered>, builds: EachDropped<Vec<GivenUp<K, T>>>) {
    ordered.iter_mut().for_each(Ordered::close_readers);
    both_even_if_one_panics(
        || for_each_even_if_one_panics(ordered.drain(..), drop),
        || drop(builds),
    );
}
