//! All that a publisher knows of one key.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::entry::Entry;
use super::hub::CROWD;
use super::snapshot::{Onward, Snapshot};
use crate::buffer::{Deferred, EventBuffer};
use crate::item::BufferItem;
use crate::link::Closer;
use crate::replay::Replay;
use crate::subscription::Subscription;

pub(super) struct Topic<K, T> {
    pub(super) key: K,
    /// No other topic has or had it.
    pub(super) id: u64,
    /// The key's.
    pub(super) hash: u64,
    pub(super) live: EventBuffer<Entry<T>>,
    /// Commits so far: the number of the live buffer's next item.
    pub(super) count: u64,
    /// The index of the newest commit; to begin with, of the publisher's.
    newest: u64,
    pub(super) snapshot: Option<Snapshot<T>>,
    pub(super) watches: HashMap<u64, Registered>,
    commit: Commit<T>,
}

/// The events of the commit that is being put together: mostly one.
struct Commit<T> {
    first: Option<T>,
    more: Vec<T>,
}

/// A watch, as its topic knows it.
pub(super) struct Registered {
    pub(super) closer: Closer,
    pub(super) token: Option<Arc<str>>,
    pub(super) progress: Progress,
    /// The snapshot that it counts as a passenger of.
    pub(super) waits_for: Option<u64>,
}

/// The number, in the live buffer, of the item that a watch reads next.
#[derive(Clone, Default)]
pub(super) struct Progress(Arc<AtomicU64>);

impl Progress {
    pub(super) fn set(&self, number: u64) {
        // Relaxed: a figure for statistics.
        self.0.store(number, Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A place in a topic's live buffer, and its number there.
pub(super) struct Start<T> {
    pub(super) reader: Subscription<Entry<T>>,
    pub(super) number: u64,
}

/// Whether a watch can go on after an index.
pub(super) enum Continuation<T> {
    At(Start<T>),
    /// That stands in the retained commits, of which there may be many: to be looked for without
    /// a lock.
    Search(Search<T>),
}

pub(super) struct Search<T> {
    pub(super) topic: u64,
    start: Start<T>,
    index: u64,
}

impl<K, T> Topic<K, T> {
    /// `last` is the index of the publisher's newest commit.
    pub(super) fn new(key: K, (id, hash): (u64, u64), replay: Replay, last: u64) -> Self {
        Self {
            key,
            id,
            hash,
            live: EventBuffer::builder().replay(replay).build(),
            count: 0,
            newest: last,
            snapshot: None,
            watches: HashMap::new(),
            commit: Commit {
                first: None,
                more: Vec::new(),
            },
        }
    }

    /// Publishes a commit of one event. The answer wakes the readers, once no lock is held.
    #[inline]
    pub(super) fn push(&mut self, index: u64, event: T) -> Deferred<Entry<T>> {
        let from = self.advance(index);
        self.live.push_deferred(Entry::Event { index, from, event })
    }

    /// Adds an event to the commit that is being put together; whether it is the first.
    pub(super) fn add(&mut self, event: T) -> bool {
        let Commit { first, more } = &mut self.commit;
        let is_first = first.is_none();
        if is_first {
            *first = Some(event);
        } else {
            more.push(event);
        }
        is_first
    }

    /// Publishes what has been added as one commit.
    pub(super) fn append_added(&mut self, index: u64) -> Deferred<Entry<T>> {
        match self.commit.first.take() {
            Some(event) if self.commit.more.is_empty() => self.push(index, event),
            first => {
                let from = self.advance(index);
                let entry = |event| Entry::Event { index, from, event };
                let events = first.into_iter().chain(self.commit.more.drain(..));
                self.live.append_deferred(events.map(entry))
            }
        }
    }

    /// Notes a commit. Returns the index of the one before: the least from which a watcher may go on with it.
    #[inline]
    fn advance(&mut self, index: u64) -> u64 {
        self.count += 1;
        mem::replace(&mut self.newest, index)
    }

    pub(super) fn tail(&self) -> Start<T> {
        Start {
            reader: self.live.subscribe(),
            number: self.count,
        }
    }

    /// The oldest commit that is retained, or the tail.
    pub(super) fn oldest(&self) -> Onward<T> {
        Onward {
            place: self.live.subscribe_from_start().position(),
            number: self.count - self.live.len() as u64,
        }
    }

    /// The index of the newest commit, if there was one since there is this topic.
    pub(super) fn newest(&self) -> Option<u64> {
        (self.count > 0).then_some(self.newest)
    }

    /// Going on strictly after the index.
    pub(super) fn after(&self, index: u64) -> Continuation<T> {
        if index >= self.newest {
            return Continuation::At(self.tail());
        }
        // What the window retains, or a snapshot, whichever reaches further back. It reaches back
        // to the snapshot's own index at least, so who is told to start anew is not given one that
        // is older than what it has.
        let window = self.oldest();
        let start = match &self.snapshot {
            Some(Snapshot { onward, .. }) if onward.number < window.number => onward,
            _ => &window,
        };
        Continuation::Search(Search {
            topic: self.id,
            start: Start {
                reader: start.place.subscribe(),
                number: start.number,
            },
            index,
        })
    }

    pub(super) fn remove_watch(&mut self, id: u64) -> Option<Registered> {
        let watch = self.watches.remove(&id);
        let (few, room) = (self.watches.len(), self.watches.capacity());
        if room > CROWD && few < room / 8 {
            self.watches.shrink_to(2 * few);
        }
        watch
    }

    /// Registers a watch, which may wait for the snapshot that is being made.
    pub(super) fn add_watch(&mut self, id: u64, mut watch: Registered, waits: bool) {
        let snapshot = self.snapshot.as_mut().filter(|_| waits);
        watch.waits_for = snapshot.map(|snapshot| {
            snapshot.passengers += 1;
            snapshot.id
        });
        self.watches.insert(id, watch);
    }

    /// A watch no longer waits for its snapshot. If none is left that does, the snapshot is given up and returned:
    /// watches that have been closed may still hold it, unpolled, but whoever comes now gets a new one, even if the
    /// handler hangs.
    pub(super) fn leave_flight(&mut self, watch: u64) -> Option<Snapshot<T>> {
        let id = self.watches.get_mut(&watch)?.waits_for.take()?;
        let is_in_flight =
            |snapshot: &&mut Snapshot<T>| snapshot.id == id && snapshot.is_in_flight();
        let snapshot = self.snapshot.as_mut().filter(is_in_flight)?;
        snapshot.passengers -= 1;
        self.snapshot.take_if(|snapshot| snapshot.passengers == 0)
    }

    /// Commits that the window retains, or a snapshot, whichever reaches further back.
    pub(super) fn retained(&self) -> usize {
        let kept = { self.snapshot.as_ref() }.map_or(0, |kept| self.count - kept.onward.number);
        self.live.len().max(kept.try_into().unwrap_or(usize::MAX))
    }

    /// Whether neither a watch nor a cache needs it. A replay window is a cache.
    pub(super) fn is_unneeded(&self) -> bool {
        self.watches.is_empty() && self.snapshot.is_none() && self.live.is_empty()
    }
}

impl<T> Search<T> {
    /// Goes over the retained commits up to the index. O(their number).
    pub(super) fn run(self) -> Found<T> {
        let Start {
            mut reader,
            mut number,
        } = self.start;
        let mut start = None;
        while let Ok(item) = reader.try_recv() {
            if let Some((index, from)) = commit_of(&item) {
                if index > self.index {
                    start = (from <= self.index).then(|| Start {
                        reader: item.subscribe(),
                        number,
                    });
                    break;
                }
            }
            number += 1;
        }
        // Not on return, where a panic would leak the answer (rust-lang/rust#47949).
        drop(reader);
        Found {
            topic: self.topic,
            start,
        }
    }
}

/// What a [`Search`] came to; no start where something is missing.
pub(super) struct Found<T> {
    pub(super) topic: u64,
    pub(super) start: Option<Start<T>>,
}

/// The index of a commit, and the least one from which a watcher may go on with it.
pub(super) fn commit_of<T>(item: &BufferItem<Entry<T>>) -> Option<(u64, u64)> {
    match item.first()? {
        Entry::Event { index, from, .. } => Some((*index, *from)),
        Entry::EndOfSnapshot { .. } => None,
    }
}
