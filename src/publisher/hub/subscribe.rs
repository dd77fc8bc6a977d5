//! Subscribing and starting over: which positions and snapshots a watch gets.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use super::after_lock::{AfterLock, WakeUp};
use super::builds::Wanted;
use super::state::{Hub, HubState};
use super::topic::{ChainPlace, Seat};
use super::watches::Registered;
use crate::lag_limit::LagLimit;
use crate::publisher::report::error::ResetReason;
use crate::publisher::report::error::{CloseReason, WatchError};
use crate::publisher::watch::control::Control;
use crate::publisher::watch::inbox::Inbox;
use crate::publisher::watch::progress::Progress;
use crate::publisher::watch::registry::{Registry, WatchStart};
use crate::publisher::watch::request::{OverLimit, Request};
use crate::publisher::watch::resume::Resume;
use crate::publisher::watch::stream::Watch;
use crate::publisher::watch::track::{Reading, Track};
use crate::publisher::watch::update::Begin;

/// A key of a watch, with the clones that may be needed under the lock (invariant 1).
struct Prepared<K> {
    key: Arc<K>,
    own: Option<K>,
    topic: Option<(K, K)>,
    handler: Option<K>,
}

/// A watch that is to be registered.
struct Newcomer<'a, T> {
    id: u64,
    control: &'a Arc<Control>,
    after: Option<Resume>,
    tokens: Vec<Arc<str>>,
    limit: Option<(LagLimit<T>, OverLimit)>,
}

/// Which watch gets its seats, and how.
struct Seating<'a> {
    control: &'a Arc<Control>,
    begin: Begin,
    /// A watch that resumes does so after the index that it had.
    wanted: Wanted,
}

impl<K, T> Hub<K, T>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    T: Send + Sync + 'static,
{
    pub(in super::super) fn subscribe(self: &Arc<Self>, request: Request<K, T>) -> Watch<K, T> {
        let Request {
            keys,
            after,
            tokens,
            filter,
            limit,
        } = request;
        let control = Control::new();
        let mut prepared = self.prepare(keys.into_iter().map(Arc::new));
        let mut locked = self.lock();
        let (state, after_lock) = locked.parts();
        // First, since it may remove topics.
        state.sweep(after_lock);
        let id = state.next_id();
        let of_epoch = after.filter(|after| after.epoch == state.era.epoch);
        let start = if state.shut {
            drop(control.end(WatchError::Closed(CloseReason::ShutDown)));
            None
        } else {
            let newcomer = Newcomer {
                id,
                control: &control,
                after,
                tokens,
                limit,
            };
            Some(self.admit(state, newcomer, &mut prepared, after_lock))
        };
        let epoch = state.era.epoch;
        let after_lock = locked.unlock();
        let registry: Arc<dyn Registry<K, T>> = Arc::<Self>::clone(self);
        let resumed = { start.as_ref() }.is_none_or(|start| start.begin == Begin::Resumed);
        let place = of_epoch.filter(|_| resumed);
        let watch = Watch::new(
            control,
            (registry, id),
            start,
            (filter, limit),
            place,
            epoch,
        );
        // Dropped by hand, once the watch exists, which is dropped if this panics. If a destructor
        // of a local panics when a function already has its result, the result is leaked
        // (rust-lang/rust#47949).
        drop((after_lock, prepared));
        watch
    }

    /// Registers a new watch, and gives it its seats.
    fn admit(
        self: &Arc<Self>,
        state: &mut HubState<K, T>,
        newcomer: Newcomer<'_, T>,
        prepared: &mut [Prepared<K>],
        after_lock: &mut AfterLock<K, T>,
    ) -> WatchStart<K, T> {
        let Newcomer {
            id,
            control,
            after,
            tokens,
            limit,
        } = newcomer;
        // First, since it hashes the keys (invariant 1).
        let slots = state.topics_of(prepared, after_lock);
        let prepared = &mut prepared[..slots.len()];
        let begin = match after.map(|after| state.check_resume(after, &slots)) {
            None => Begin::Fresh,
            Some(Ok(())) => Begin::Resumed,
            Some(Err(reason)) => {
                let index = after.map_or(0, |after| after.index);
                state.count_reset(reason, index, after_lock);
                Begin::Reset(reason)
            }
        };
        // An index of another epoch, or one not known yet, says nothing about how old the snapshot
        // may be.
        let is_measure = matches!(begin, Begin::Resumed | Begin::Reset(ResetReason::TooOld));
        let of_epoch = after.filter(|after| is_measure && after.epoch == state.era.epoch);
        let bytes = limit.and_then(|(limit, _)| limit.bytes);
        state.size_of = state.size_of.or(bytes.map(|bytes| bytes.size_of));
        let keys = prepared.iter().map(|prepared| Arc::clone(&prepared.key));
        let watch = Registered {
            control: Arc::clone(control),
            keys: keys.collect(),
            slots: slots.clone().into(),
            tokens: tokens.into(),
        };
        state.watches.insert(id, watch);
        let seating = Seating {
            control,
            begin,
            wanted: Wanted {
                watch: id,
                had: of_epoch.map_or(0, |had| had.index),
                limit: limit.map_or(u64::MAX, |(limit, _)| limit.items),
            },
        };
        self.seat(state, &seating, &slots, prepared, after_lock)
    }

    /// Clones keys as often as they may be needed under the lock (invariant 1).
    fn prepare(&self, keys: impl Iterator<Item = Arc<K>>) -> Vec<Prepared<K>> {
        let has_handler = self.settings.handler.is_some();
        keys.map(|key| Prepared {
            own: Some(K::clone(&key)),
            topic: Some((K::clone(&key), K::clone(&key))),
            handler: has_handler.then(|| K::clone(&key)),
            key,
        })
        .collect()
    }

    /// Gives a watch its seats in its topics.
    fn seat(
        self: &Arc<Self>,
        state: &mut HubState<K, T>,
        seating: &Seating<'_>,
        slots: &[usize],
        prepared: &mut [Prepared<K>],
        after_lock: &mut AfterLock<K, T>,
    ) -> WatchStart<K, T> {
        let count = u32::try_from(slots.len()).unwrap_or(u32::MAX);
        let inbox = (slots.len() != 1).then(|| Inbox::new(seating.control, count));
        let mut tracks = Vec::with_capacity(slots.len());
        for ((number, slot), prepared) in (0..).zip(slots).zip(prepared) {
            if state.topics[*slot]
                .live()
                .is_none_or(|live| live.watches.is_empty())
            {
                if let Some((key, arrival)) = state.arrivals.take(&prepared.key) {
                    after_lock.wakeups.push(WakeUp::Arrival(key, arrival));
                }
            }
            let live = state.topics[*slot].linked();
            let seat = Seat {
                progress: Progress::new(0),
                waits_for: None,
                due: u64::MAX,
            };
            live.watches.insert(seating.wanted.watch, seat);
            if let Some(inbox) = &inbox {
                let inbox = (seating.wanted.watch, Arc::clone(inbox), number);
                live.inboxes.push(inbox);
            }
            tracks.extend(self.track(state, seating, *slot, prepared, after_lock));
        }
        seating
            .control
            .follow(tracks.iter().flat_map(Track::closers).collect());
        WatchStart {
            begin: seating.begin,
            tracks,
            era: Arc::clone(&state.era),
            inbox,
        }
    }

    fn track(
        self: &Arc<Self>,
        state: &mut HubState<K, T>,
        seating: &Seating<'_>,
        slot: usize,
        prepared: &mut Prepared<K>,
        after_lock: &mut AfterLock<K, T>,
    ) -> Option<Track<K, T>> {
        let (place, contained, reading) = if seating.begin == Begin::Resumed {
            // A snapshot may be ahead of the publisher, so commits up to `had` may still come. They
            // are skipped.
            (
                state.topics[slot].after(seating.wanted.had),
                seating.wanted.had,
                None,
            )
        } else {
            let (key, wanted) = (&mut prepared.handler, &seating.wanted);
            let given = self.snapshot(state, slot, key, (wanted, &mut *after_lock));
            if let Some(given) = given {
                let reading = Reading::new(given.parts, given.flight, given.early, slot);
                (given.onward, 0, Some(reading))
            } else {
                let (place, contained) = state.without_snapshot(slot);
                (place, contained, None)
            }
        };
        let progress = Progress::new(place.number);
        let live = state.topics[slot].linked();
        if let Some(seat) = live.watches.get_mut(&seating.wanted.watch) {
            seat.progress = progress.clone();
            // The commits before this point do not count against the limit while the snapshot is
            // read.
            seat.due = live.count.saturating_add(seating.wanted.limit);
            if seat.waits_for.is_some() {
                live.due = live.due.min(seat.due);
            }
        }
        let reader = place.at.subscribe();
        let key = (Arc::clone(&prepared.key), prepared.own.take()?);
        Some(Track::new(key, reader, progress, contained, reading))
    }
}

impl<K, T> HubState<K, T> {
    /// Checks that a watcher may resume from its point.
    fn check_resume(&self, after: Resume, slots: &[usize]) -> Result<(), ResetReason> {
        if after.epoch != self.era.epoch {
            return Err(ResetReason::OtherEpoch);
        }
        if self.indexes.is_ahead(after.index) {
            return Err(ResetReason::Ahead);
        }
        slots
            .iter()
            .try_for_each(|slot| self.topics[*slot].check_resume(after.index))
    }

    /// Returns where a watch starts without a handler, and the index of its state.
    ///
    /// The state is empty as of the last commit. If the key is complete, it is everything the
    /// history has, provided that nothing of the key can have left it.
    fn without_snapshot(&mut self, slot: usize) -> (ChainPlace<K, T>, u64) {
        let last = self.indexes.last();
        let topic = &mut self.topics[slot];
        if !topic.is_completed() {
            (topic.tail(), last)
        } else if topic.left == 0 {
            (topic.oldest(), 0)
        } else {
            // The end of the key comes after every index.
            (topic.after(u64::MAX), last)
        }
    }
}

impl<K: Hash + Eq, T> HubState<K, T> {
    /// Returns the topics of the keys, each once, and makes the missing ones from the clones. Moves
    /// the keys that occur again behind the others.
    fn topics_of(
        &mut self,
        prepared: &mut [Prepared<K>],
        after_lock: &mut AfterLock<K, T>,
    ) -> Vec<usize> {
        let mut known = HashSet::new();
        let mut slots = Vec::with_capacity(prepared.len());
        for at in 0..prepared.len() {
            let Prepared { key, topic, .. } = &mut prepared[at];
            let slot = match self.slots.get(&**key) {
                Some(slot) => Some(*slot),
                None => { topic.take() }.map(|clones| self.make_topic(clones, after_lock)),
            };
            if let Some(slot) = slot.filter(|slot| known.insert(*slot)) {
                prepared.swap(slots.len(), at);
                slots.push(slot);
            }
        }
        slots
    }
}

impl<K, T> Registry<K, T> for Hub<K, T>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    T: Send + Sync + 'static,
{
    fn unregister(&self, id: u64) {
        let mut locked = self.lock();
        let (state, after_lock) = locked.parts();
        state.unregister(id, after_lock);
    }

    fn restart(
        self: Arc<Self>,
        id: u64,
        had: u64,
        limit: u64,
        reason: ResetReason,
    ) -> Option<WatchStart<K, T>> {
        let (keys, control) = {
            let state = self.lock();
            let watch = state.watches.get(id)?;
            (Arc::clone(&watch.keys), Arc::clone(&watch.control))
        };
        let mut prepared = self.prepare(keys.iter().map(Arc::clone));
        let mut locked = self.lock();
        let (state, after_lock) = locked.parts();
        let slots = state.watches.get(id)?.slots.clone();
        for slot in &slots {
            state.unseat(*slot, id, after_lock);
        }
        state.count_reset(reason, had, after_lock);
        let seating = Seating {
            control: &control,
            begin: Begin::Reset(reason),
            wanted: Wanted {
                watch: id,
                had,
                limit,
            },
        };
        let start = self.seat(state, &seating, &slots, &mut prepared, after_lock);
        drop((locked, prepared));
        Some(start)
    }

    fn settle(&self) {
        drop(self.lock());
    }

    fn give_up_late(&self, slot: usize) {
        self.give_up_late_of(slot);
    }
}
