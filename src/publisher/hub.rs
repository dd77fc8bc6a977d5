//! The registry behind a publisher: its topics, their snapshots and watches, under one lock.
//!
//! Nothing foreign runs under the lock but `K`'s `Hash`, `Eq` and, now and then, `Clone`, and those
//! before anything has been changed, or where a panic of theirs is caught: what is to be woken or dropped
//! goes into a [`Leftover`], and that is dropped after it.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasher, Hash, RandomState};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;

use super::entry::Entry;
use super::error::{CloseReason, PublishError};
use super::flight::Flight;
use super::request::{Request, Resume};
use super::snapshot::{Handler, Making, Onward, Snapshot, Stage};
use super::stats::{Slowest, Stats};
use super::topic::{Continuation, Found, Progress, Registered, Search, Start, Topic};
use super::update::ResetReason;
use super::watch::{Following, Registration, Watch};
use crate::buffer::{Deferred, EventBuffer};
use crate::link::{Closed, Closer};
use crate::replay::Replay;
use crate::sync::{Instant, Mutex};
use crate::unwind::{Panic, both_even_if_one_panics, discard, for_each_even_if_one_panics};

pub(super) struct Hub<K, T> {
    state: Mutex<State<K, T>>,
    handler: Option<Handler<K, T>>,
    ttl: Duration,
    replay: Replay,
}

/// Clones of a key, to be used or not.
struct Keys<K> {
    /// Of the topic, and of the way to it.
    topic: Option<(K, K)>,
    handler: Option<K>,
}

struct State<K, T> {
    epoch: u64,
    /// The greatest index published.
    last: u64,
    /// The greatest index known: published, or of a snapshot.
    known: u64,
    /// The first index published: from there on nothing has been missed. What came before, in another
    /// process say, is not known.
    since: Option<u64>,
    /// Indexes before that which snapshots were as of, with the hash of their key: who has one of them may
    /// have it from here.
    given: BTreeSet<(u64, u64)>,
    /// Not that of `slots`, which may be given up before what is above.
    hasher: RandomState,
    topics: Slab<Topic<K, T>>,
    slots: HashMap<K, usize>,
    /// The topics of the commit that is being put together. Empty between commits.
    touched: Vec<usize>,
    /// Kept snapshots, in the order in which they expire.
    expiries: VecDeque<Expiry>,
    /// Commits since the last look at them.
    unswept: u32,
    next_id: u64,
    shut: bool,
}

/// So many indexes of snapshots before the first commit are remembered, the greatest.
const GIVEN: usize = 1_024;

/// A table with room for more is given up where few are left.
pub(super) const CROWD: usize = 64;

/// How often a publisher that only publishes looks whether snapshots have expired.
const COMMITS_A_SWEEP: u32 = 64;

/// An event of a commit of several.
pub(super) struct Pending<K, T> {
    key: K,
    /// Until it is published.
    event: Option<T>,
    /// Of the topic, if there is one.
    slot: Option<usize>,
}

impl<K, T> Pending<K, T> {
    pub(super) fn new((key, event): (K, T)) -> Self {
        Self {
            key,
            event: Some(event),
            slot: None,
        }
    }
}

struct Expiry {
    at: Instant,
    slot: usize,
    /// The snapshot's: another one may stand there by then.
    id: u64,
}

/// What is to be dropped, and with that woken, once the lock is released.
struct Leftover<K, T> {
    keys: EachDropped<Vec<K>>,
    topics: EachDropped<Vec<Topic<K, T>>>,
    snapshots: EachDropped<Vec<Snapshot<T>>>,
    watches: Vec<Registered>,
    /// Empty.
    tables: Option<Tables<K, T>>,
    /// Of keys that were asked under the lock. What they carry is foreign.
    panics: Vec<Panic>,
}

impl<K, T> Drop for Leftover<K, T> {
    fn drop(&mut self) {
        self.panics.drain(..).for_each(discard);
    }
}

/// The topics, and the way to them.
type Tables<K, T> = (
    EachDropped<Slab<Topic<K, T>>>,
    EachDropped<HashMap<K, usize>>,
);

/// What is in it is dropped one by one, also where the drop of another one panics, or a panic goes on
/// already.
struct EachDropped<I: Default + IntoIterator>(I);

impl<I: Default + IntoIterator> Drop for EachDropped<I> {
    fn drop(&mut self) {
        for_each_even_if_one_panics(mem::take(&mut self.0).into_iter(), drop);
    }
}

/// What the parts of a watch or of a snapshot tell the registry.
pub(super) trait Registry<T>: Send + Sync {
    fn unregister(&self, slot: usize, watch: u64);
    /// The snapshot is complete as of `index`, and this is where it leads. `tell` is called when that is
    /// noted, and before events are dropped, which may take its time or panic.
    fn snapshot_done(
        &self,
        slot: usize,
        snapshot: u64,
        index: u64,
        onward: Onward<T>,
        tell: &mut dyn FnMut(),
    );
    /// The snapshot failed, or nobody waits for it any more. `tell` as above.
    fn forget_snapshot(&self, slot: usize, snapshot: u64, tell: &mut dyn FnMut());
}

impl<K, T> Hub<K, T> {
    pub(super) fn new(
        handler: Option<Handler<K, T>>,
        ttl: Duration,
        replay: Replay,
        epoch: u64,
    ) -> Self {
        let state = State {
            epoch,
            last: 0,
            known: 0,
            since: None,
            given: BTreeSet::new(),
            hasher: RandomState::new(),
            topics: Slab::new(),
            slots: HashMap::new(),
            touched: Vec::new(),
            expiries: VecDeque::new(),
            unswept: 0,
            next_id: 0,
            shut: false,
        };
        Self {
            state: Mutex::new(state),
            handler,
            ttl,
            replay,
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.state.lock().epoch
    }

    /// Closes all buffers, and with that all watches, cleanly.
    pub(super) fn end(&self) {
        let (mut topics, _slots) = {
            let mut state = self.state.lock();
            state.shut = true;
            state.clear()
        };
        // All are told before events are dropped, which may take its time.
        for_each_even_if_one_panics(topics.0.iter_mut(), |(_, topic)| topic.live.end());
    }

    /// Goes on in another epoch: what is known of the state is void.
    pub(super) fn reset(&self, epoch: u64) {
        self.close_everything(CloseReason::StateReset { epoch }, |state| {
            state.epoch = epoch;
            state.last = 0;
            state.known = 0;
            state.since = None;
            state.given.clear();
        });
    }

    pub(super) fn shutdown(&self) {
        self.close_everything(CloseReason::ShutDown, |state| state.shut = true);
    }

    /// Closes all watches and forgets all topics, in one step with the change.
    fn close_everything(&self, reason: CloseReason, change: impl FnOnce(&mut State<K, T>)) {
        let (mut topics, _slots) = {
            let mut state = self.state.lock();
            change(&mut state);
            state.clear()
        };
        let watches = { topics.0.iter_mut() }.flat_map(|(_, topic)| topic.watches.drain());
        let closers = watches.map(|(_, watch)| watch.closer).collect();
        close(closers, reason);
    }
}

impl<K, T> State<K, T> {
    fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Forgets all topics. The answer is to be dropped after the lock.
    fn clear(&mut self) -> Tables<K, T> {
        self.expiries.clear();
        self.take_tables()
    }

    fn take_tables(&mut self) -> Tables<K, T> {
        let topics = EachDropped(mem::take(&mut self.topics));
        (topics, EachDropped(mem::take(&mut self.slots)))
    }
}

impl<K, T> Hub<K, T>
where
    K: Hash + Eq + Clone + Send + 'static,
    T: Send + Sync + 'static,
{
    #[inline]
    pub(super) fn publish_one(&self, index: u64, key: &K, event: T) -> Result<(), PublishError> {
        // Dropped after the lock, as `event` is where nobody follows.
        let _swept;
        let mut state = self.state.lock();
        // First: it may remove the topic.
        _swept = state.sweep_seldom();
        // The key is foreign code: where that panics nothing has been done yet.
        let slot = state.slots.get(key).copied();
        if let Err(error) = state.commit(index) {
            drop(state);
            return Err(error);
        }
        if let Some(slot) = slot {
            let deferred = state.topics[slot].push(index, event);
            drop(state);
            drop(deferred);
        } else {
            drop(state);
            drop(event);
        }
        Ok(())
    }

    pub(super) fn publish_many(
        &self,
        index: u64,
        events: Vec<Pending<K, T>>,
    ) -> Result<(), PublishError> {
        let mut events = EachDropped(events);
        let mut deferred = EachDropped(Vec::new());
        let _swept;
        let mut guard = self.state.lock();
        let state = &mut *guard;
        // First: it may remove topics.
        _swept = state.sweep_seldom();
        // The keys are foreign code: where that panics nothing has been done yet.
        for Pending { key, slot, .. } in &mut events.0 {
            *slot = state.slots.get(key).copied();
        }
        if let Err(error) = state.commit(index) {
            drop(guard);
            return Err(error);
        }
        for Pending { event, slot, .. } in &mut events.0 {
            let Some(slot) = *slot else { continue };
            let added = event.take().map(|event| state.topics[slot].add(event));
            if added == Some(true) {
                state.touched.push(slot);
            }
        }
        deferred.0.reserve(state.touched.len());
        for slot in state.touched.drain(..) {
            deferred.0.push(state.topics[slot].append_added(index));
        }
        drop(guard);
        // All are told before events are dropped, which may take its time.
        for_each_even_if_one_panics(deferred.0.iter(), Deferred::wake);
        // And with them the keys, and the events that nobody follows.
        drop((deferred, events));
        Ok(())
    }

    pub(super) fn subscribe(self: &Arc<Self>, request: Request<K, T>) -> Watch<K, T> {
        // Its key is cloned before the lock and dropped after it, as all that is foreign.
        let mut request = request;
        let mut keys = Keys {
            topic: Some((request.key.clone(), request.key.clone())),
            handler: self.handler.as_ref().map(|_| request.key.clone()),
        };
        let mut found = None;
        let watch = loop {
            match self.try_subscribe(&mut request, &mut keys, &mut found) {
                Ok(watch) => break watch,
                // Without the lock: there may be many.
                Err(search) => found = Some(search.run()),
            }
        };
        // By hand: what panics when a function has its answer leaks that (rust-lang/rust#47949).
        drop((found, keys, request));
        watch
    }

    /// Takes the request's parts where it answers a watch.
    fn try_subscribe(
        self: &Arc<Self>,
        request: &mut Request<K, T>,
        keys: &mut Keys<K>,
        found: &mut Option<Found<T>>,
    ) -> Result<Watch<K, T>, Search<T>> {
        let mut leftover = Leftover::new();
        let swept;
        let mut guard = self.state.lock();
        let state = &mut *guard;
        swept = state.sweep();
        if state.shut {
            let epoch = state.epoch;
            drop(guard);
            drop(swept);
            let after = request.after.filter(|after| after.epoch == epoch);
            let index = after.map(|after| after.index);
            return Ok(self.closed_watch(CloseReason::ShutDown, epoch, index));
        }
        let slot = self.topic(state, &request.key, &mut keys.topic);
        let place = match request.after.map(|resume| state.place(resume, slot, found)) {
            None => Err(None),
            Some(Err(search)) => {
                drop(guard);
                drop((leftover, swept));
                return Err(search);
            }
            Some(Ok(place)) => place.map_err(Some),
        };
        let (index, contained, start, flight, reset) = match place {
            Ok((index, start)) => {
                // What a snapshot was ahead of may still be published.
                let contained = (index > state.last).then_some(index);
                (Some(index), contained, start, None, None)
            }
            Err(reset) => {
                // What is of another epoch, or not known yet, is no measure.
                let had = request.after.filter(|_| reset == Some(ResetReason::TooOld));
                let had = had.map_or(0, |had| had.index);
                let (start, flight) =
                    self.snapshot(state, slot, had, &mut keys.handler, &mut leftover);
                (None, None, start, flight, reset)
            }
        };
        let in_snapshot = index.is_none();
        let id = state.next_id();
        let progress = Progress::default();
        progress.set(start.number);
        let closer = start.reader.closer();
        let registered = Registered {
            closer: closer.clone(),
            token: request.token.take(),
            progress: progress.clone(),
            waits_for: None,
        };
        state.topics[slot].add_watch(id, registered, flight.is_some());
        let registry: Arc<dyn Registry<T>> = Arc::<Self>::clone(self);
        let following = Following {
            reader: start.reader,
            closer,
            flight,
            reset,
            filter: request.filter.take(),
            unfinished: None,
            update: None,
            in_snapshot,
            contained,
            progress,
            _registration: Registration { registry, slot, id },
        };
        let epoch = state.epoch;
        drop(guard);
        drop((leftover, swept));
        Ok(Watch::new(following, epoch, index))
    }

    /// A watch of a publisher that is closed already. It is in no registry.
    fn closed_watch(
        self: &Arc<Self>,
        reason: CloseReason,
        epoch: u64,
        index: Option<u64>,
    ) -> Watch<K, T> {
        let reader = EventBuffer::new().subscribe();
        let closer = reader.closer();
        closer.close(reason);
        let registry: Arc<dyn Registry<T>> = Arc::<Self>::clone(self);
        let following = Following {
            reader,
            closer,
            flight: None,
            reset: None,
            filter: None,
            unfinished: None,
            update: None,
            in_snapshot: false,
            contained: None,
            progress: Progress::default(),
            _registration: Registration {
                registry,
                slot: usize::MAX,
                id: 0,
            },
        };
        Watch::new(following, epoch, index)
    }

    /// The topic of a key, made of the clones given if there is none. (They are gone where a topic that
    /// was made of them has been swept away since.)
    fn topic(&self, state: &mut State<K, T>, key: &K, clones: &mut Option<(K, K)>) -> usize {
        if let Some(&slot) = state.slots.get(key) {
            return slot;
        }
        let hash = state.hasher.hash_one(key);
        let (own, in_map) = clones.take().unwrap_or_else(|| (key.clone(), key.clone()));
        let id = state.next_id();
        let topic = Topic::new(own, (id, hash), self.replay, state.last);
        // All that is foreign is done with: the entry has made room.
        let entry = state.slots.entry(in_map);
        *entry.or_insert_with(|| state.topics.insert(topic))
    }

    /// The start of a snapshot: of the one that is kept or being made, or of a new one.
    fn snapshot(
        self: &Arc<Self>,
        state: &mut State<K, T>,
        slot: usize,
        had: u64,
        key: &mut Option<K>,
        leftover: &mut Leftover<K, T>,
    ) -> (Start<T>, Option<Flight>) {
        if let Some(snapshot) = &state.topics[slot].snapshot {
            let reader = snapshot.start.subscribe();
            match &snapshot.stage {
                Stage::Kept(index) if *index >= had => {
                    let number = snapshot.onward.number;
                    return (Start { reader, number }, None);
                }
                // Older than what the watcher has.
                Stage::Kept(_) => {}
                Stage::InFlight(flight) => {
                    if let Some(flight) = flight.upgrade() {
                        let number = state.topics[slot].count;
                        return (Start { reader, number }, Some(flight));
                    }
                    // Abandoned: it is about to say so, but will find another one in its place.
                }
            }
        }
        let id = state.next_id();
        let last = state.last;
        let topic = &mut state.topics[slot];
        let Some((handler, key)) = self.handler.as_ref().zip(key.take()) else {
            let start = Self::empty_snapshot(topic, last);
            state.gives(slot, last);
            return (start, None);
        };
        let registry: Arc<dyn Registry<T>> = Arc::<Self>::clone(self);
        let (making, start) = Making::new(registry, (slot, id), topic.oldest(), topic.newest());
        let flight = making.fly(Arc::clone(handler), key, last);
        let reader = start.subscribe();
        let number = topic.count;
        let void = topic.snapshot.replace(Snapshot {
            id,
            start,
            onward: topic.oldest(),
            stage: Stage::InFlight(flight.downgrade()),
            passengers: 0,
        });
        if let Some(void) = void {
            state.expiries.retain(|expiry| expiry.id != void.id);
            leftover.snapshots.0.push(void);
        }
        (Start { reader, number }, Some(flight))
    }

    /// Without a handler the state is empty, as of the last commit.
    fn empty_snapshot(topic: &Topic<K, T>, index: u64) -> Start<T> {
        let mut buffer = EventBuffer::builder().replay(Replay::None).build();
        let reader = buffer.subscribe();
        let number = topic.count;
        buffer.push(Entry::EndOfSnapshot {
            index,
            onward: number,
        });
        buffer.splice(topic.live.tail());
        Start { reader, number }
    }

    pub(super) fn close_where(
        &self,
        reason: CloseReason,
        key: Option<&K>,
        mut is_meant: impl FnMut(&Registered) -> bool,
    ) {
        let mut meant = Vec::new();
        let mut closers = Vec::new();
        let mut leftover = Leftover::<K, T>::new();
        {
            let mut state = self.state.lock();
            let slots: Vec<usize> = match key {
                Some(key) => state.slots.get(key).copied().into_iter().collect(),
                None => state.topics.iter().map(|(slot, _)| slot).collect(),
            };
            for slot in slots {
                let topic = &mut state.topics[slot];
                let first = meant.len();
                let watches = topic.watches.iter();
                for (id, watch) in watches.filter(|(_, watch)| is_meant(watch)) {
                    meant.push((slot, *id));
                    closers.push(watch.closer.clone());
                }
                // Now: one that is woken may come again at once.
                for (_, id) in &meant[first..] {
                    leftover.snapshots.0.extend(topic.leave_flight(*id));
                }
            }
        }
        // They leave the registry only when they are closed: nobody else may find their topic unneeded
        // before, whose end would be what they are told.
        both_even_if_one_panics(|| close(closers, reason), || self.unregister_all(meant));
    }

    pub(super) fn stats(&self) -> Stats<K> {
        let swept;
        let mut state = self.state.lock();
        swept = state.sweep();
        let mut figures = Stats {
            keys: state.topics.len(),
            subscriptions: 0,
            retained_items: 0,
            slowest: None,
            cached_snapshots: 0,
            snapshots_in_flight: 0,
        };
        let mut slowest: Option<(&Topic<K, T>, &Registered, u64)> = None;
        for (_, topic) in &state.topics {
            figures.subscriptions += topic.watches.len();
            figures.retained_items += topic.retained();
            match topic.snapshot.as_ref().map(|snapshot| &snapshot.stage) {
                Some(Stage::Kept(_)) => figures.cached_snapshots += 1,
                Some(Stage::InFlight(_)) => figures.snapshots_in_flight += 1,
                None => {}
            }
            for watch in topic.watches.values() {
                let lag = topic.count.saturating_sub(watch.progress.get());
                if slowest.is_none_or(|(_, _, most)| lag > most) {
                    slowest = Some((topic, watch, lag));
                }
            }
        }
        figures.slowest = slowest.map(|(topic, watch, lag)| Slowest {
            key: topic.key.clone(),
            token: watch.token.clone(),
            lag,
        });
        drop(state);
        drop(swept);
        figures
    }
}

impl<K: Hash + Eq, T> State<K, T> {
    /// Notes the index of a snapshot. That may be less than what the state has come to, or of its key
    /// alone: so it says nothing of other keys, nor of any index but itself.
    fn gives(&mut self, slot: usize, index: u64) {
        self.known = self.known.max(index);
        if !self.is_since_first(index) {
            self.given.insert((index, self.topics[slot].hash));
            if self.given.len() > GIVEN {
                self.given.pop_first();
            }
        }
    }

    fn is_since_first(&self, index: u64) -> bool {
        self.since.is_some_and(|since| index >= since)
    }

    /// Checks and notes a commit's index.
    #[inline]
    fn commit(&mut self, index: u64) -> Result<(), PublishError> {
        if self.shut {
            return Err(PublishError::ShutDown);
        }
        if index <= self.last {
            let last = self.last;
            return Err(PublishError::IndexBackwards { index, last });
        }
        self.last = index;
        self.known = self.known.max(index);
        self.since.get_or_insert(index);
        Ok(())
    }

    /// Where a watch goes on; for what reason it can't; or what must be looked at to tell.
    #[expect(clippy::type_complexity, reason = "three answers")]
    fn place(
        &self,
        resume: Resume,
        slot: usize,
        found: &mut Option<Found<T>>,
    ) -> Result<Result<(u64, Start<T>), ResetReason>, Search<T>> {
        if resume.epoch != self.epoch {
            return Ok(Err(ResetReason::OtherEpoch));
        }
        let index = resume.index;
        if index > self.known {
            return Ok(Err(ResetReason::Ahead));
        }
        let topic = &self.topics[slot];
        if !self.is_since_first(index) && !self.given.contains(&(index, topic.hash)) {
            return Ok(Err(ResetReason::TooOld));
        }
        if let Some(found) = found.take_if(|found| found.topic == topic.id) {
            let start = found.start.ok_or(ResetReason::TooOld);
            return Ok(start.map(|start| (index, start)));
        }
        match topic.after(index) {
            Continuation::At(start) => Ok(Ok((index, start))),
            Continuation::Search(search) => Err(search),
        }
    }

    /// As [`sweep`](Self::sweep), every so many commits: to ask for the time may cost more than all
    /// the rest.
    #[inline]
    fn sweep_seldom(&mut self) -> Option<Box<Leftover<K, T>>> {
        if self.expiries.is_empty() {
            return None;
        }
        self.unswept += 1;
        if self.unswept < COMMITS_A_SWEEP {
            return None;
        }
        self.unswept = 0;
        self.sweep()
    }

    /// Forgets the snapshots whose time is over. The answer is to be dropped after the lock.
    fn sweep(&mut self) -> Option<Box<Leftover<K, T>>> {
        let first = self.expiries.front();
        let any = first.is_some_and(|first| first.at <= Instant::now());
        any.then(|| Box::new(self.sweep_now()))
    }

    #[cold]
    fn sweep_now(&mut self) -> Leftover<K, T> {
        let mut leftover = Leftover::new();
        let now = Instant::now();
        while let Some(&Expiry { slot, id, .. }) =
            self.expiries.front().filter(|expiry| expiry.at <= now)
        {
            self.expiries.pop_front();
            self.remove_snapshot(slot, id, &mut leftover);
        }
        leftover
    }

    /// Removes that very snapshot, if it is there.
    fn remove_snapshot(&mut self, slot: usize, id: u64, leftover: &mut Leftover<K, T>) {
        let Some(topic) = self.topics.get_mut(slot) else {
            return;
        };
        let snapshot = topic.snapshot.take_if(|snapshot| snapshot.id == id);
        leftover.snapshots.0.extend(snapshot);
        self.remove_if_unneeded(slot, leftover);
    }

    fn remove_if_unneeded(&mut self, slot: usize, leftover: &mut Leftover<K, T>) {
        if self.topics.get(slot).is_some_and(Topic::is_unneeded) {
            // The key is foreign code. Where it panics the topic stays: this may be a drop, and what is
            // left over must not be dropped here.
            let key = AssertUnwindSafe(|| self.slots.remove_entry(&self.topics[slot].key));
            match catch_unwind(key) {
                Ok(key) => {
                    leftover.keys.0.extend(key.map(|(key, _)| key));
                    leftover.topics.0.push(self.topics.remove(slot));
                    // Many that were there once do not keep their memory for ever.
                    if self.topics.is_empty() && self.topics.capacity() > CROWD {
                        leftover.tables = Some(self.take_tables());
                    }
                }
                Err(panic) => leftover.panics.push(panic),
            }
        }
    }
}

impl<K: Hash + Eq, T> Hub<K, T> {
    fn unregister_all(&self, watches: impl IntoIterator<Item = (usize, u64)>) {
        let mut leftover = Leftover::new();
        let mut state = self.state.lock();
        for (slot, watch) in watches {
            // Ids are never used again, so where it is not found it was closed, or its topic is gone.
            let Some(topic) = state.topics.get_mut(slot) else {
                continue;
            };
            leftover.snapshots.0.extend(topic.leave_flight(watch));
            if let Some(watch) = topic.remove_watch(watch) {
                leftover.watches.push(watch);
                state.remove_if_unneeded(slot, &mut leftover);
            }
        }
        drop(state);
        drop(leftover);
    }
}

impl<K, T> Registry<T> for Hub<K, T>
where
    K: Hash + Eq + Send,
    T: Send + Sync,
{
    fn unregister(&self, slot: usize, watch: u64) {
        self.unregister_all([(slot, watch)]);
    }

    fn snapshot_done(
        &self,
        slot: usize,
        id: u64,
        index: u64,
        mut onward: Onward<T>,
        tell: &mut dyn FnMut(),
    ) {
        let mut leftover = Leftover::new();
        let mut state = self.state.lock();
        let topic = state.topics.get_mut(slot);
        let snapshot = topic.and_then(|topic| topic.snapshot.as_mut());
        if let Some(snapshot) = snapshot.filter(|snapshot| snapshot.id == id) {
            // What that was goes after the lock.
            mem::swap(&mut snapshot.onward, &mut onward);
            snapshot.stage = Stage::Kept(index);
            state.gives(slot, index);
            // No clock is asked unless there is a time limit.
            if self.ttl.is_zero() {
                state.remove_snapshot(slot, id, &mut leftover);
            } else if let Some(at) = Instant::now().checked_add(self.ttl) {
                state.expiries.push_back(Expiry { at, slot, id });
            }
        }
        drop(state);
        tell();
        drop(leftover);
    }

    fn forget_snapshot(&self, slot: usize, id: u64, tell: &mut dyn FnMut()) {
        let mut leftover = Leftover::new();
        let mut state = self.state.lock();
        state.remove_snapshot(slot, id, &mut leftover);
        drop(state);
        tell();
        drop(leftover);
    }
}

impl<K, T> Leftover<K, T> {
    /// Allocates nothing.
    fn new() -> Self {
        Self {
            keys: EachDropped(Vec::new()),
            topics: EachDropped(Vec::new()),
            snapshots: EachDropped(Vec::new()),
            watches: Vec::new(),
            tables: None,
            panics: Vec::new(),
        }
    }
}

/// Closes all, then wakes each and frees what it kept, even if that panics for another one.
fn close(closers: Vec<Closer>, reason: CloseReason) {
    let close = |closer: &Closer| closer.close_deferred(reason);
    let closed: Vec<Closed> = closers.iter().filter_map(close).collect();
    drop(closers);
    for_each_even_if_one_panics(closed.into_iter(), drop);
}
