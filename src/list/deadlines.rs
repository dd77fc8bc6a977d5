//! When the limited readers and trails of a buffer are due.

use std::collections::{BTreeMap, BTreeSet};

use super::trail::Key;

pub(super) const NEVER: u64 = u64::MAX;

pub(super) struct Deadlines<E> {
    entries: BTreeMap<Id, Deadline<E>>,
    by_items: BTreeSet<(u64, Id)>,
    by_bytes: BTreeSet<(u64, Id)>,
    /// How many readers are limited in bytes.
    pub(super) metered: usize,
}

/// Names a reader, by the address of its leash, or a trail.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Id {
    Reader(usize),
    Trail(Key),
}

pub(super) struct Deadline<E> {
    pub(super) limited: E,
    due: Due,
}

/// When to look: at this number of published items, or at this total of bytes.
#[derive(Clone, Copy)]
pub(super) struct Due {
    pub(super) items: u64,
    pub(super) bytes: u64,
}

pub(super) const AT_ONCE: Due = Due { items: 0, bytes: 0 };

impl<E> Deadlines<E> {
    pub(super) fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
            by_items: BTreeSet::new(),
            by_bytes: BTreeSet::new(),
            metered: 0,
        }
    }

    pub(super) fn insert(&mut self, id: Id, limited: E, due: Due) -> Option<Deadline<E>> {
        let before = self.remove(id);
        if due.items < NEVER {
            self.by_items.insert((due.items, id));
        }
        if due.bytes < NEVER {
            self.by_bytes.insert((due.bytes, id));
        }
        self.entries.insert(id, Deadline { limited, due });
        before
    }

    pub(super) fn remove(&mut self, id: Id) -> Option<Deadline<E>> {
        let entry = self.entries.remove(&id)?;
        self.by_items.remove(&(entry.due.items, id));
        self.by_bytes.remove(&(entry.due.bytes, id));
        Some(entry)
    }

    pub(super) fn get(&self, id: Id) -> Option<&E> {
        self.entries.get(&id).map(|entry| &entry.limited)
    }

    pub(super) fn into_entries(self) -> impl Iterator<Item = (Id, E)> {
        { self.entries.into_iter() }.map(|(id, entry)| (id, entry.limited))
    }

    /// Returns when the nearest is due.
    pub(super) fn next_due(&self) -> Due {
        let first = |queue: &BTreeSet<(u64, Id)>| queue.first().map_or(NEVER, |(due, _)| *due);
        Due {
            items: first(&self.by_items),
            bytes: first(&self.by_bytes),
        }
    }

    /// Returns the readers and trails that are due.
    pub(super) fn due(&self, published: u64, total: u64) -> Vec<Id> {
        let by_items = { self.by_items.iter() }.take_while(|(due, _)| *due <= published);
        let by_bytes = { self.by_bytes.iter() }.take_while(|(due, _)| *due <= total);
        by_items.chain(by_bytes).map(|(_, id)| *id).collect()
    }
}
