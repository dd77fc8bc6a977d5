//! What a watch delivers next: the snapshots of its keys, then their commits in the order of
//! indexes.
//!
//! # One key
//!
//! The watch reads the key's chain, and waits for the chain's next link.
//!
//! # Several keys
//!
//! Each key has its own chain, so the watch merges them by index. A heap has the index of the next
//! entry of each key, as far as that is known, and an [`Inbox`] says which chains have something
//! new.
//!
//! The watch first reads the last published index *p*, then its inbox, then the chains named there.
//! It delivers only commits with an index up to *p*. Everything that touches its keys up to *p* was
//! noted in the inbox before *p* was stored (invariant 2 of the hub), so no earlier commit is
//! missing, and no part of the same commit. An entry that is linked but not yet published has an
//! index greater than *p*. The watch then waits for the publisher's lock once, and the entry is
//! published.
//!
//! # The resume point after an update
//!
//! It has the index of the update. If nothing else is ready, it has *p* instead: everything that
//! touches the keys up to *p* has been delivered by then.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Waker};

use super::commit::{Entry, Part, limit_of_entries};
use super::control::Control;
use super::era::Era;
use super::events::Events;
use super::inbox::Inbox;
use super::registry::{Registry, WatchStart};
use super::request::Filter;
use super::track::{NextEntry, NoEntry, SnapshotRead, Track};
use super::update::Update;
use crate::error::{SharedError, TryRecvError};
use crate::lag_limit::LagLimit;
use crate::list::Skipped;
use crate::publisher::snapshot::parts::Piece;

/// How many snapshots of one watch are made at the same time.
const SNAPSHOTS_AT_A_TIME: usize = 16;

pub(crate) struct Following<K, T> {
    registry: Arc<dyn Registry<K, T>>,
    control: Arc<Control>,
    /// Wakes the task by way of `control`.
    waker: Waker,
    filter: Option<Filter<T>>,
    limit: Option<LagLimit<T>>,
    era: Arc<Era>,
    tracks: Vec<Track<K, T>>,
    /// The tracks whose snapshots have not been read to the end.
    unread: Vec<usize>,
    /// Set until the end of the snapshots is delivered.
    in_snapshot: bool,
    /// What was the last index when the watch resumed, until it has reached that.
    catches_up_to: Option<u64>,
    /// The tracks whose snapshots have marked the key as complete, until that is delivered.
    completing: Vec<usize>,
    /// From this index on, the states of all keys have the same index.
    whole_from: u64,
    /// The index that the watcher has reached.
    reached: u64,
    /// The next step, kept here while destructors run that may panic.
    ready: Option<Step<K, T>>,
    /// Set unless the watch has exactly one key.
    inbox: Option<Arc<Inbox>>,
    touched: Vec<u32>,
    heads: BinaryHeap<Reverse<Head>>,
}

/// A track in the heap: ordered by its next entry, with the end of a key after its commits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    entry: NextEntry,
    track: u32,
}

/// What a watch does next.
pub(crate) enum Step<K, T> {
    /// Delivers an update, and moves the resume point to the index, or takes it away.
    Deliver(Update<K, T>, Option<u64>),
    /// Delivers the completion of a key, and moves the resume point to the index, or lets it stay.
    Complete(Update<K, T>, Option<u64>),
    /// Looks for orders, then takes the next step.
    Again,
    Pending,
    /// The watch is over its limit: it has not received this many commits.
    Lagged(u64),
    Failed(Arc<K>, SharedError),
    End,
}

/// What comes of reading the snapshot of one key.
enum ReadOutcome<K, T> {
    /// All of it has been read.
    Done,
    /// It waits for the handler, and the task is registered.
    Waits,
    /// The watch takes this step first.
    Step(Step<K, T>),
}

impl<K, T> From<NoEntry> for Step<K, T> {
    fn from(none: NoEntry) -> Self {
        match none {
            NoEntry::Empty => Self::Pending,
            NoEntry::End => Self::End,
            NoEntry::Lagged(commits) => Self::Lagged(commits),
            NoEntry::Ordered => Self::Again,
        }
    }
}

impl<K, T> Following<K, T> {
    pub(crate) fn new(
        start: WatchStart<K, T>,
        registry: Arc<dyn Registry<K, T>>,
        control: Arc<Control>,
        (filter, limit): (Option<Filter<T>>, Option<LagLimit<T>>),
    ) -> Self {
        let mut following = Self {
            registry,
            waker: Waker::from(Arc::clone(&control)),
            control,
            filter,
            limit,
            era: Arc::clone(&start.era),
            tracks: Vec::new(),
            unread: Vec::new(),
            in_snapshot: false,
            catches_up_to: None,
            completing: Vec::new(),
            whole_from: 0,
            reached: 0,
            ready: None,
            inbox: None,
            touched: Vec::new(),
            heads: BinaryHeap::new(),
        };
        drop(following.start_over(start));
        following
    }

    /// Starts over. Returns the former tracks, to be dropped by the caller.
    pub(crate) fn start_over(&mut self, start: WatchStart<K, T>) -> Vec<Track<K, T>> {
        let before = mem::replace(&mut self.tracks, start.tracks);
        let is_resumed = start.begin == super::update::Begin::Resumed;
        self.in_snapshot = !is_resumed;
        let unread = { self.tracks.iter().enumerate() }
            .filter(|(_, track)| track.reading.is_some())
            .map(|(number, _)| number);
        self.unread = unread.rev().collect();
        self.whole_from = 0;
        self.completing.clear();
        self.inbox = start.inbox;
        self.touched.clear();
        self.heads.clear();
        self.ready = None;
        self.reached = u64::MAX;
        if is_resumed {
            self.reached = self
                .tracks
                .iter()
                .map(|track| track.contained)
                .max()
                .unwrap_or(0);
        }
        let published = self.era.published();
        self.catches_up_to = Some(published).filter(|_| is_resumed && published > self.reached);
        self.control.set_reached(self.reached);
        before
    }

    /// Limits the readers of the chains. What was published before the watch started does not count
    /// until it has been read. Otherwise a client that was closed for its lag could never resume.
    pub(crate) fn keep_limit(&mut self) {
        let Some(limit) = self.limit else { return };
        let is_starting = self.in_snapshot || self.catches_up_to.is_some();
        for live in self.tracks.iter_mut().filter_map(Track::live_mut) {
            let mut limit = limit_of_entries(limit);
            if is_starting {
                limit.items = limit.items.saturating_add(live.lag());
                if let Some(bytes) = &mut limit.bytes {
                    let before = live.bytes_ahead(bytes.size_of);
                    bytes.limit = bytes.limit.saturating_add(before);
                }
            }
            live.set_limit(limit, Skipped::default());
        }
    }

    /// Makes all commits count for the limit, once those that were missed have been delivered.
    #[cold]
    fn catch_up(&mut self) {
        self.catches_up_to = None;
        self.keep_limit();
    }

    pub(crate) fn lag(&self) -> u64 {
        let end = self.in_snapshot && self.unread.is_empty();
        self.tracks.iter().map(Track::lag).sum::<u64>() + u64::from(end)
    }

    pub(crate) fn step(&mut self, task: Option<&Waker>) -> Step<K, T> {
        // Before anything is received, which a panic would lose.
        if self
            .catches_up_to
            .is_some_and(|index| index <= self.reached)
        {
            self.catch_up();
        }
        if let Some(ready) = self.ready.take() {
            ready
        } else if self.in_snapshot {
            self.step_in_snapshot(task)
        } else if let Some(number) = self.completing.pop() {
            self.complete(number)
        } else if self.inbox.is_none() {
            self.step_of_one(task)
        } else {
            self.step_of_several(task)
        }
    }

    /// Returns the resume point after an update, if there is one: the states of all keys have the
    /// same index, and no key is complete whose completion is still to be delivered. (A watch that
    /// resumes from later than the end of a key has received that.)
    fn place(&self, next: Option<NextEntry>) -> Option<u64> {
        let misses_end = next.is_some_and(|next| next.is_end && next.index < self.reached);
        let is_whole = self.reached >= self.whole_from && self.completing.is_empty();
        (is_whole && !misses_end).then_some(self.reached)
    }

    /// Ends a track, and delivers the completion of its key.
    fn complete(&mut self, number: usize) -> Step<K, T> {
        // If it was the snapshot that marked the key as complete, the end in the chain may be
        // queued.
        self.heads
            .retain(|Reverse(head)| head.track as usize != number);
        let Some(key) = self.tracks[number].complete() else {
            return Step::Again;
        };
        let next = self.heads.peek().map(|Reverse(head)| head.entry);
        Step::Complete(Update::Completed(key), self.place(next))
    }

    /// Delivers an update as of `index`. `published` was read before the chains were; `next` is the
    /// next entry that is ready.
    fn deliver(
        &mut self,
        update: Update<K, T>,
        index: u64,
        published: u64,
        next: Option<NextEntry>,
    ) -> Step<K, T> {
        let is_last = next.is_none_or(|next| next.index > published);
        self.reached = if is_last { index.max(published) } else { index };
        self.control.set_reached(self.reached);
        Step::Deliver(update, self.place(next))
    }

    fn step_in_snapshot(&mut self, task: Option<&Waker>) -> Step<K, T> {
        let mut at = 0;
        while at < self.unread.len().min(SNAPSHOTS_AT_A_TIME) {
            let number = self.unread[self.unread.len() - 1 - at];
            match self.read_snapshot(number, task) {
                ReadOutcome::Done => {
                    let done = self.unread.len() - 1 - at;
                    self.unread.remove(done);
                }
                ReadOutcome::Waits => at += 1,
                ReadOutcome::Step(step) => return step,
            }
        }
        if self.unread.is_empty() {
            return self.end_snapshots();
        }
        if self.control.has_orders() {
            return Step::Again;
        }
        Step::Pending
    }

    /// Reads the snapshot of a key until something can be delivered.
    fn read_snapshot(&mut self, number: usize, task: Option<&Waker>) -> ReadOutcome<K, T> {
        let mut has_polled = false;
        loop {
            let track = &mut self.tracks[number];
            // The limit also counts commits that come while the snapshot is read.
            if let Err(none) = track.check() {
                return ReadOutcome::Step(none.into());
            }
            let Some(reading) = &mut track.reading else {
                return ReadOutcome::Done;
            };
            match reading.fill() {
                SnapshotRead::Piece => {}
                SnapshotRead::Failed(error) => {
                    let key = Arc::clone(&track.key);
                    return ReadOutcome::Step(Step::Failed(key, error));
                }
                SnapshotRead::Ordered => return ReadOutcome::Step(Step::Again),
                // Polls the handler, then looks once more, since it may have appended something.
                SnapshotRead::Empty if !has_polled => {
                    has_polled = true;
                    self.control.wait(task);
                    self.registry.give_up_late(reading.slot);
                    reading.poll_handler(&Context::from_waker(&self.waker));
                    continue;
                }
                SnapshotRead::Empty if reading.wait(&Context::from_waker(&self.waker)) => {
                    return ReadOutcome::Waits;
                }
                SnapshotRead::Empty => continue,
            }
            match &reading.head {
                Some(Piece::Part(part)) => {
                    let (key, part) = (Arc::clone(&track.key), Arc::clone(part));
                    let events = Events::of_snapshot(key, part, self.filter.as_ref());
                    // Stays the head until the filter has been called, which may panic.
                    let is_visible = events.is_visible();
                    reading.head = None;
                    if is_visible {
                        let update = Update::Snapshot(events);
                        return ReadOutcome::Step(Step::Deliver(update, None));
                    }
                }
                Some(Piece::End { index, is_complete }) => {
                    let (index, is_complete) = (*index, *is_complete);
                    track.end_snapshot(index);
                    if is_complete {
                        self.completing.push(number);
                    }
                    return ReadOutcome::Done;
                }
                None => {}
            }
        }
    }

    fn end_snapshots(&mut self) -> Step<K, T> {
        let published = self.era.published();
        let contained = self.tracks.iter().map(|track| track.contained);
        let index = contained.clone().min().unwrap_or(published);
        let whole_from = contained.max().unwrap_or(published);
        let next = if self.inbox.is_none() {
            self.next_of_one()
        } else {
            self.next_of_several()
        };
        let next = match next {
            Ok(next) => next,
            Err(none) => return none.into(),
        };
        self.in_snapshot = false;
        self.whole_from = whole_from;
        self.keep_limit();
        let update = Update::EndOfSnapshot { index };
        self.deliver(update, index, published, next)
    }

    /// Returns the next entry that is ready.
    fn next_of_one(&mut self) -> Result<Option<NextEntry>, NoEntry> {
        match self.tracks[0].next_entry() {
            Ok(entry) => Ok(Some(entry)),
            Err(NoEntry::Empty | NoEntry::End) => Ok(None),
            Err(none) => Err(none),
        }
    }

    fn step_of_one(&mut self, task: Option<&Waker>) -> Step<K, T> {
        loop {
            let published = self.era.published();
            let track = &mut self.tracks[0];
            match track.fill() {
                Ok(()) => {}
                Err(NoEntry::Empty) => match self.idle(published, task) {
                    Some(step) => return step,
                    None => continue,
                },
                Err(none) => return none.into(),
            }
            let (update, index) = match &track.head {
                Some(Entry::Commit(part)) if part.commit.index <= track.contained => {
                    track.head = None;
                    continue;
                }
                Some(Entry::Commit(part)) => {
                    let events = Events::of_part(part.clone(), self.filter.as_ref());
                    (Self::visible(events, part.commit.index), part.commit.index)
                }
                Some(Entry::Completed(_)) => return self.complete(0),
                None => continue,
            };
            let delivered = track.head.take();
            self.hold(update, index);
            let next = if index < published {
                self.next_of_one().unwrap_or(Some(NextEntry::at(index)))
            } else {
                None
            };
            return self.release((index, published), next, delivered);
        }
    }

    /// Shows a commit, or only its index if all its events are hidden. The filter is user code.
    fn visible(events: Events<K, T>, index: u64) -> Update<K, T> {
        if events.is_visible() {
            Update::Events(events)
        } else {
            Update::Progress { index }
        }
    }

    /// Waits, since nothing is ready. Returns the next step, or `None` if something may be ready by
    /// now.
    fn idle(&mut self, published: u64, task: Option<&Waker>) -> Option<Step<K, T>> {
        if self.is_marked() && published > self.reached {
            let update = Update::Progress { index: published };
            return Some(self.deliver(update, published, published, None));
        }
        self.control.wait(task);
        let waits = match &self.inbox {
            Some(inbox) => inbox.wait(),
            None => { self.tracks[0].live_mut() }.is_none_or(|live| {
                let cx = Context::from_waker(&self.waker);
                { live.end_or_poll_link(&cx, TryRecvError::Empty) }.is_some()
            }),
        };
        if !waits || self.is_marked() {
            return None;
        }
        if self.control.has_orders() {
            return Some(Step::Again);
        }
        Some(Step::Pending)
    }

    fn is_marked(&self) -> bool {
        self.era.marked() > self.reached
    }

    /// Looks at the keys named in the inbox. Returns the next entry that is ready.
    fn next_of_several(&mut self) -> Result<Option<NextEntry>, NoEntry> {
        if let Some(inbox) = &self.inbox {
            inbox.take(&mut self.touched);
        }
        while let Some(number) = self.touched.last().copied() {
            let track = &mut self.tracks[number as usize];
            if !track.is_queued && !track.is_complete() {
                match track.next_entry() {
                    Ok(entry) => {
                        track.is_queued = true;
                        let track = number;
                        self.heads.push(Reverse(Head { entry, track }));
                    }
                    Err(NoEntry::Empty | NoEntry::End) => {}
                    Err(none) => return Err(none),
                }
            }
            self.touched.pop();
        }
        Ok(self.heads.peek().map(|Reverse(head)| head.entry))
    }

    fn step_of_several(&mut self, task: Option<&Waker>) -> Step<K, T> {
        loop {
            // Read before the inbox, which then has everything that was published before the end.
            let is_ended = self.era.is_ended();
            let published = self.era.published();
            let next = match self.next_of_several() {
                Ok(next) => next,
                Err(none) => return none.into(),
            };
            match next {
                None if is_ended || self.is_over() => return Step::End,
                None => {
                    if let Some(step) = self.idle(published, task) {
                        return step;
                    }
                }
                // The entry is linked, but its index is not published yet.
                Some(next) if next.index > published => self.registry.settle(),
                Some(next) => return self.merge(next.index, published),
            }
        }
    }

    /// Returns `true` if all keys are complete.
    fn is_over(&self) -> bool {
        !self.tracks.is_empty() && self.tracks.iter().all(Track::is_complete)
    }

    /// Delivers the first entry of the heap: a commit, joined from all tracks that have a part of
    /// it, or the end of a key.
    fn merge(&mut self, index: u64, published: u64) -> Step<K, T> {
        let mut parts = Vec::new();
        let mut numbers = Vec::new();
        while let Some(Reverse(Head { entry, track })) = self.heads.peek().copied() {
            if entry.index != index || (entry.is_end && !numbers.is_empty()) {
                break;
            }
            self.heads.pop();
            // First, since what follows may panic: the track is then looked at again.
            self.touched.push(track);
            self.tracks[track as usize].is_queued = false;
            numbers.push(track);
            if entry.is_end {
                break;
            }
        }
        for number in &numbers {
            let track = &mut self.tracks[*number as usize];
            if let Err(none) = track.fill() {
                return none.into();
            }
            match &track.head {
                Some(Entry::Commit(part)) => parts.push(part.clone()),
                Some(Entry::Completed(_)) => return self.complete(*number as usize),
                None => {}
            }
        }
        let Some(events) = self.join(parts) else {
            return Step::Again;
        };
        let update = Self::visible(events, index);
        let heads = numbers
            .into_iter()
            .map(|number| self.tracks[number as usize].head.take());
        let delivered: Vec<_> = heads.collect();
        self.hold(update, index);
        let next = self.next_of_several().unwrap_or(Some(NextEntry::at(index)));
        self.release((index, published), next, delivered)
    }

    /// Keeps an update that was taken from its tracks while user code runs, which may panic. If it
    /// does, the update is delivered next, with its own index as the resume point.
    fn hold(&mut self, update: Update<K, T>, index: u64) {
        let step = self.deliver(update, index, index, None);
        self.ready = Some(step);
    }

    /// Delivers the update that is kept, once what it was made from is dropped.
    fn release(
        &mut self,
        (index, published): (u64, u64),
        next: Option<NextEntry>,
        delivered: impl Sized,
    ) -> Step<K, T> {
        drop(delivered);
        match self.ready.take() {
            Some(Step::Deliver(update, _)) => self.deliver(update, index, published, next),
            _ => Step::Again,
        }
    }

    /// Joins the parts of one commit: their events in the order in which they were published.
    fn join(&self, mut parts: Vec<Part<K, T>>) -> Option<Events<K, T>> {
        let filter = self.filter.as_ref();
        let part = parts.pop()?;
        if parts.is_empty() {
            return Some(Events::of_part(part, filter));
        }
        let others = parts.iter().flat_map(Part::positions);
        let mut positions: Vec<u32> = others.chain(part.positions()).copied().collect();
        positions.sort_unstable();
        Some(Events::of_commit(part.commit, positions.into(), filter))
    }
}
