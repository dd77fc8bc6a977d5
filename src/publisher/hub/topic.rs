//! Everything that a publisher knows of one key.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::Arc;

use super::history::{Kind, Record};
use super::sizes::CROWD;
use crate::publisher::report::error::ResetReason;
use crate::publisher::snapshot::flight::WeakFlight;
use crate::publisher::snapshot::parts::{LeastIndex, Parts, Piece};
use crate::publisher::watch::commit::Entry;
use crate::publisher::watch::inbox::Inbox;
use crate::publisher::watch::progress::Progress;
use crate::publisher::watch::track::Early;
use crate::read::position::Position;
use crate::sync::Instant;
use crate::write::buffer::EventBuffer;
use crate::write::deferred::Deferred;
use crate::write::replay::Replay;

/// A topic with more entries than this keeps its chain even if nothing reads it. A topic without a
/// chain gets one when it has twice as many. The gap keeps it from changing back and forth.
const LOOSE: usize = 8;

pub(super) struct Topic<K, T> {
    pub(super) key: K,
    /// A watcher that has everything up to an index may resume if the index is not less than this,
    /// since everything after it is still here (invariant 5).
    pub(super) left: u64,
    /// The newest commit of this topic that has left the history while the topic existed, or 0.
    pub(super) own_left: u64,
    /// The number of records of void entries, which come before those of `entries` (invariant 3).
    void: usize,
    entries: Entries<K, T>,
    /// The last entry is the end of the key.
    is_completed: bool,
    /// What only a topic with a watch, a snapshot or many entries needs.
    live: Option<Box<Live<K, T>>>,
}

/// The entries of a topic, the oldest first. One is by far the most frequent number.
enum Entries<K, T> {
    One(Retained<K, T>),
    Many(VecDeque<Retained<K, T>>),
}

/// An entry of a topic, linked if the topic has a chain (invariant 4).
pub(super) enum Retained<K, T> {
    /// A mark: clients that resume from this index or an earlier one are reset.
    Mark(u64),
    Loose(Entry<K, T>),
    Linked(Position<Entry<K, T>>),
}

pub(super) struct Live<K, T> {
    chain: EventBuffer<Entry<K, T>>,
    /// The number of items ever linked, which is the number of the next one.
    pub(super) count: u64,
    pub(super) watches: HashMap<u64, Seat>,
    /// The watches of several keys: each one's number, its inbox, and this key's number in the
    /// watch.
    pub(super) inboxes: Vec<(u64, Arc<Inbox>, u32)>,
    pub(super) kept: Option<Kept<K, T>>,
    /// The unfinished snapshots: usually one, and one more for the watches that came too late for
    /// it.
    pub(super) builds: Vec<Build<K, T>>,
    /// Once `count` is greater than this, a watch that waits for a snapshot is over its limit.
    pub(super) due: u64,
}

/// A watch as its topic sees it.
pub(super) struct Seat {
    pub(super) progress: Progress,
    /// The number of the build that the watch waits for.
    pub(super) waits_for: Option<u64>,
    /// Once the topic's `count` is greater than this, the watch is over its limit, unless it has
    /// received something.
    pub(super) due: u64,
}

/// A position in a topic's chain, and the number of the item there.
pub(super) struct ChainPlace<K, T> {
    pub(super) at: Position<Entry<K, T>>,
    pub(super) number: u64,
}

impl<K, T> Clone for ChainPlace<K, T> {
    fn clone(&self) -> Self {
        Self {
            at: self.at.clone(),
            number: self.number,
        }
    }
}

/// A finished snapshot, cached for later watches.
pub(super) struct Kept<K, T> {
    /// The number of the snapshot, never used twice.
    pub(super) id: u64,
    pub(super) index: u64,
    /// The first commit since the snapshot was begun that it does not contain.
    pub(super) onward: ChainPlace<K, T>,
    pub(super) early: Early<K, T>,
    pub(super) start: Position<Piece<T>>,
    pub(super) parts: u64,
}

/// A snapshot that is being made.
pub(super) struct Build<K, T> {
    /// The number of the snapshot, never used twice.
    pub(super) id: u64,
    pub(super) flight: WeakFlight,
    pub(super) parts: Arc<Parts<T>>,
    /// The tail of the chain when the snapshot was begun. Everything after it is in the chain.
    pub(super) start: ChainPlace<K, T>,
    pub(super) early: Early<K, T>,
    /// The index of the newest commit at that time, or 0 if none is known.
    pub(super) newest: u64,
    /// The number of watches that wait for it.
    pub(super) waiting: usize,
    pub(super) deadline: Option<Instant>,
}

impl<K, T> Topic<K, T> {
    pub(super) fn new(key: K, left: u64) -> Self {
        Self {
            key,
            left,
            own_left: 0,
            void: 0,
            entries: Entries::Many(VecDeque::new()),
            is_completed: false,
            live: None,
        }
    }

    pub(super) fn live(&self) -> Option<&Live<K, T>> {
        self.live.as_deref()
    }

    pub(super) fn live_mut(&mut self) -> Option<&mut Live<K, T>> {
        self.live.as_deref_mut()
    }

    /// Returns the part with the chain, which is made if there is none.
    pub(super) fn linked(&mut self) -> &mut Live<K, T> {
        let entries = &mut self.entries;
        self.live.get_or_insert_with(|| {
            let mut live = Box::new(Live::new());
            entries.link(&mut live);
            live
        })
    }

    /// Adds an entry to the chain, if there is one, and to the history if `retain` is set.
    #[inline]
    pub(super) fn push(
        &mut self,
        entry: Entry<K, T>,
        retain: bool,
    ) -> Option<Deferred<Entry<K, T>>> {
        if matches!(entry, Entry::Completed(_)) {
            self.is_completed = true;
        }
        if retain && self.live.is_none() && self.entries.len() >= 2 * LOOSE {
            self.linked();
        }
        let Some(live) = &mut self.live else {
            if retain {
                self.entries.push(Retained::Loose(entry));
            }
            return None;
        };
        live.count += 1;
        if !retain {
            return Some(live.chain.push_deferred(entry));
        }
        let (place, deferred) = live.chain.push_and_locate(entry);
        self.entries.push(Retained::Linked(place));
        Some(deferred)
    }

    /// Voids all entries and leaves a mark: clients that resume from `index` or before are reset.
    pub(super) fn void(&mut self, index: u64) -> VecDeque<Retained<K, T>> {
        self.is_completed = false;
        let before = self.entries.take();
        self.void += before.len();
        let newest = before.iter().filter_map(Retained::commit_index).max();
        self.own_left = self.own_left.max(newest.unwrap_or(0));
        self.entries.push(Retained::Mark(index));
        before
    }

    /// Returns `true` if the newest entry is a mark of that index, so that voiding would change
    /// nothing.
    pub(super) fn is_void(&self, index: u64) -> bool {
        matches!(self.entries.last(), Some(Retained::Mark(mark)) if *mark == index)
    }

    /// Removes the oldest entry, or counts that the record of a void one has left.
    #[inline]
    pub(super) fn pop(&mut self, record: Record) -> Option<Retained<K, T>> {
        if self.void > 0 {
            self.void -= 1;
            return None;
        }
        let own = self.entries.pop()?;
        if record.kind == Kind::Rider {
            // One more than the index: a watcher at just this index has not seen the rider.
            self.left = self.left.max(record.index.saturating_add(1));
            self.is_completed &= !own.is_end();
        } else {
            self.left = self.left.max(record.index);
            self.own_left = self.own_left.max(record.index);
        }
        Some(own)
    }

    /// Checks that a watcher which has everything up to `index` may resume (invariant 5).
    pub(super) fn check_resume(&self, index: u64) -> Result<(), ResetReason> {
        if matches!(self.entries.first(), Some(Retained::Mark(mark)) if index <= *mark) {
            return Err(ResetReason::Refreshed);
        }
        if index < self.left {
            return Err(ResetReason::TooOld);
        }
        Ok(())
    }

    pub(super) fn is_completed(&self) -> bool {
        self.is_completed
    }

    /// Returns the position of the first entry after an index. O(log n).
    ///
    /// The end of the key comes after every index.
    pub(super) fn after(&mut self, index: u64) -> ChainPlace<K, T> {
        self.linked();
        let from = self.entries.first_after(index);
        self.place(from)
    }

    /// Returns the position of the oldest entry, or the tail.
    pub(super) fn oldest(&mut self) -> ChainPlace<K, T> {
        self.linked();
        self.place(0)
    }

    /// Returns the index of the newest commit, or 0 if none is known.
    pub(super) fn newest(&self) -> u64 {
        let newest = (0..self.entries.len())
            .rev()
            .find_map(|at| self.entries.get(at)?.commit_index());
        newest.unwrap_or(self.own_left)
    }

    /// Returns the entries after an index that were linked before the item of that number.
    pub(super) fn early(&self, index: u64, number: u64) -> Vec<Entry<K, T>> {
        let since = self.live.as_ref().map_or(0, |live| live.count - number);
        let end = self
            .entries
            .len()
            .saturating_sub(usize::try_from(since).unwrap_or(usize::MAX));
        let entries =
            (self.entries.first_after(index)..end).filter_map(|at| self.entries.get(at)?.entry());
        entries.cloned().collect()
    }

    pub(super) fn tail(&mut self) -> ChainPlace<K, T> {
        self.linked();
        self.place(self.entries.len())
    }

    fn place(&mut self, from: usize) -> ChainPlace<K, T> {
        let entries = self.entries.len();
        let linked = (from..entries).find_map(|at| match self.entries.get(at) {
            // Only a mark is not linked, and it is the first entry (invariant 4).
            Some(Retained::Linked(place)) => Some((place.clone(), entries - at)),
            _ => None,
        });
        let live = self.linked();
        match linked {
            Some((at, later)) => ChainPlace {
                at,
                number: live.count - later as u64,
            },
            None => ChainPlace {
                at: live.chain.tail(),
                number: live.count,
            },
        }
    }

    /// Removes the chain if nothing needs it, so that a topic that is only in the history stays
    /// small.
    pub(super) fn unlink(&mut self) -> Option<Box<Live<K, T>>> {
        if self.entries.len() > LOOSE || !self.live.as_ref()?.is_idle() {
            return None;
        }
        self.entries.unlink();
        self.live.take()
    }

    /// Returns `true` if nothing needs the topic (invariant 6).
    pub(super) fn is_idle(&self) -> bool {
        self.void == 0 && self.entries.len() == 0 && self.live.as_ref().is_none_or(|l| l.is_idle())
    }

    /// Gives the unfinished snapshots what they need to end without the publisher.
    pub(super) fn detach_builds(&self) {
        for build in self.live().iter().flat_map(|live| &live.builds) {
            // All retained entries: their watches skip what the snapshot contains.
            let _ = build.early.set(self.early(0, build.start.number));
            let least = LeastIndex::new(self.own_left, build.newest);
            build.parts.detach(least);
        }
    }

    /// Ends the chain, if there is one.
    pub(super) fn end(&mut self) {
        if let Some(live) = &mut self.live {
            live.chain.end();
        }
    }
}

impl<K, T> Live<K, T> {
    fn new() -> Self {
        Self {
            chain: EventBuffer::builder().replay(Replay::None).build(),
            count: 0,
            watches: HashMap::new(),
            inboxes: Vec::new(),
            kept: None,
            builds: Vec::new(),
            due: u64::MAX,
        }
    }

    fn is_idle(&self) -> bool {
        self.watches.is_empty() && self.kept.is_none() && self.builds.is_empty()
    }

    pub(super) fn remove_watch(&mut self, id: u64) -> Option<Seat> {
        let seat = self.watches.remove(&id);
        let (few, room) = (self.watches.len(), self.watches.capacity());
        if room > CROWD && few < room / 8 {
            self.watches.shrink_to(2 * few);
        }
        if let Some(at) = self.inboxes.iter().position(|(of, ..)| *of == id) {
            self.inboxes.swap_remove(at);
        }
        seat
    }

    /// Notes that a watch no longer waits for its snapshot, which is removed and returned with the
    /// last.
    pub(super) fn leave_build(&mut self, watch: u64) -> Option<Build<K, T>> {
        let id = self.watches.get_mut(&watch)?.waits_for.take()?;
        let at = self.builds.iter().position(|build| build.id == id)?;
        self.builds[at].waiting -= 1;
        (self.builds[at].waiting == 0).then(|| self.builds.remove(at))
    }

    /// Takes the watches that are over their limits out of the snapshots that they wait for.
    #[cold]
    pub(super) fn leave_lagging(&mut self) -> Vec<Build<K, T>> {
        let count = self.count;
        let waits = |(_, seat): &(&u64, &Seat)| seat.waits_for.is_some();
        let over: Vec<u64> = { self.watches.iter() }
            .filter(waits)
            .filter(|(_, seat)| seat.due < count)
            .map(|(id, _)| *id)
            .collect();
        let left = over.iter().filter_map(|id| self.leave_build(*id)).collect();
        let dues = self.watches.iter().filter(waits).map(|(_, seat)| seat.due);
        self.due = dues.min().unwrap_or(u64::MAX);
        left
    }
}

impl<K, T> Retained<K, T> {
    fn entry(&self) -> Option<&Entry<K, T>> {
        match self {
            Self::Mark(_) => None,
            Self::Loose(entry) => Some(entry),
            Self::Linked(place) => place.0.events().first(),
        }
    }

    fn is_end(&self) -> bool {
        matches!(self.entry(), Some(Entry::Completed(_)))
    }

    fn commit_index(&self) -> Option<u64> {
        match self.entry()? {
            Entry::Commit(part) => Some(part.commit.index),
            Entry::Completed(_) => None,
        }
    }
}

impl<K, T> Entries<K, T> {
    fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many(many) => many.len(),
        }
    }

    fn get(&self, at: usize) -> Option<&Retained<K, T>> {
        match self {
            Self::One(own) => (at == 0).then_some(own),
            Self::Many(many) => many.get(at),
        }
    }

    fn first(&self) -> Option<&Retained<K, T>> {
        self.get(0)
    }

    fn last(&self) -> Option<&Retained<K, T>> {
        self.get(self.len().checked_sub(1)?)
    }

    #[inline]
    fn push(&mut self, own: Retained<K, T>) {
        match self {
            Self::Many(many) if many.capacity() > 0 => many.push_back(own),
            _ => self.push_slowly(own),
        }
    }

    /// Adds an entry to none, or to a single one, which is stored without a queue.
    fn push_slowly(&mut self, own: Retained<K, T>) {
        *self = match self.take() {
            none if none.is_empty() => Self::One(own),
            mut some => {
                some.push_back(own);
                Self::Many(some)
            }
        };
    }

    fn pop(&mut self) -> Option<Retained<K, T>> {
        match self {
            Self::Many(many) => {
                let own = many.pop_front();
                if many.capacity() > CROWD && many.len() < many.capacity() / 8 {
                    many.shrink_to(2 * many.len());
                }
                own
            }
            Self::One(_) => self.take().pop_front(),
        }
    }

    fn take(&mut self) -> VecDeque<Retained<K, T>> {
        match mem::replace(self, Self::Many(VecDeque::new())) {
            Self::One(own) => VecDeque::from([own]),
            Self::Many(many) => many,
        }
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Retained<K, T>> {
        let (one, many) = match self {
            Self::One(own) => (Some(own), None),
            Self::Many(many) => (None, Some(many.iter_mut())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    fn first_after(&self, index: u64) -> usize {
        let is_before = |own: &Retained<K, T>| match own.commit_index() {
            Some(commit) => commit <= index,
            None => !own.is_end(),
        };
        match self {
            Self::One(own) => usize::from(is_before(own)),
            Self::Many(many) => many.partition_point(is_before),
        }
    }

    /// Links all entries into the chain of `live`. There are at most twice [`LOOSE`].
    fn link(&mut self, live: &mut Live<K, T>) {
        for own in self.iter_mut() {
            if let Retained::Loose(entry) = own {
                let place = live.chain.tail();
                live.count += 1;
                // Dropped under the lock, which is safe: the chain is new, so no reader waits for
                // it.
                drop(live.chain.push_deferred(entry.clone()));
                *own = Retained::Linked(place);
            }
        }
    }

    /// Takes all entries out of their chain. There are at most [`LOOSE`].
    fn unlink(&mut self) {
        for own in self.iter_mut() {
            let entry = match own {
                Retained::Linked(_) => own.entry().cloned(),
                Retained::Mark(_) | Retained::Loose(_) => None,
            };
            if let Some(entry) = entry {
                *own = Retained::Loose(entry);
            }
        }
        if self.len() == 1 {
            if let Some(own) = self.take().pop_front() {
                *self = Self::One(own);
            }
        }
    }
}
