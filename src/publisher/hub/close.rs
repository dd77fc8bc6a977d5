//! Closing and resetting watches, and the calls that void, forget or complete a key.

use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::Arc;

use super::super::commit::Entry;
use super::super::control::{Control, Ordered};
use super::super::error::{CloseReason, WatchError};
use super::super::trace::{GivenUpBy, Note, Notes, UncachedBy};
use super::super::update::ResetReason;
use super::garbage::{EachDropped, Garbage, finish};
use super::history::Kind;
use super::sizes::STEP;
use super::state::{Hub, HubState};
use super::topic::Topic;
use crate::unwind::{both_even_if_one_panics, for_each_even_if_one_panics};
use crate::write::deferred::Deferred;

/// What a call has to do after the lock. It grows by one step's share at a time, so that nothing
/// large is moved under the lock.
struct Closing<K, T> {
    ordered: Vec<Ordered>,
    garbage: EachDropped<Vec<Garbage<K, T>>>,
    /// The last field, so that nothing waits for a `tracing` subscriber.
    notes: Notes,
}

/// The end of a key, which is linked. After the lock, its watches have to be woken.
struct LinkedEnd<K, T> {
    deferred: Option<Deferred<Entry<K, T>>>,
    /// The watches of several keys.
    woken: Vec<Arc<Control>>,
}

impl<K, T> Closing<K, T> {
    fn new() -> Self {
        Self {
            ordered: Vec::new(),
            garbage: EachDropped(Vec::new()),
            notes: Notes::new(),
        }
    }

    fn add(&mut self, (ordered, garbage): (Vec<Ordered>, Garbage<K, T>)) {
        self.ordered.extend(ordered);
        self.garbage.0.push(garbage);
    }

    /// Notes the number of watches that were closed.
    fn note_closed(&mut self, epoch: u64, reason: CloseReason) {
        let watches = self.ordered.len();
        self.notes.add(epoch, Note::Closed { reason, watches });
    }

    fn finish(mut self) {
        let builds = self.garbage.0.iter_mut().flat_map(Garbage::take_builds);
        let builds = EachDropped(builds.collect());
        both_even_if_one_panics(|| finish(self.ordered, builds), || drop(self.garbage));
    }
}

impl<K, T> Hub<K, T>
where
    K: Hash + Eq,
{
    /// Closes the watches whose tokens match, in steps (invariant 7).
    pub(in super::super) fn close_where(
        &self,
        reason: CloseReason,
        mut is_meant: impl FnMut(&[Arc<str>]) -> bool,
    ) {
        let mut closing = Closing::new();
        let (mut after, last, epoch) = {
            let state = self.state.lock();
            (0, state.next_id, state.era.epoch)
        };
        while after < last {
            let step: Vec<_> = {
                let state = self.state.lock();
                let step = state.watches.step(after);
                step.map(|(id, watch)| (id, Arc::clone(&watch.tokens)))
                    .collect()
            };
            let Some((id, _)) = step.last() else { break };
            after = *id;
            // Called without the lock, since the predicate is user code (invariant 1).
            let meant = step.iter().filter(|(id, _)| *id <= last);
            let meant: Vec<u64> = { meant.filter(|(_, tokens)| is_meant(tokens)) }
                .map(|(id, _)| *id)
                .collect();
            self.close_in_steps(&meant, reason, &mut closing);
        }
        closing.note_closed(epoch, reason);
        closing.finish();
    }

    /// Closes watches in steps, between which the lock is released (invariant 7).
    fn close_in_steps(&self, meant: &[u64], reason: CloseReason, closing: &mut Closing<K, T>) {
        for step in meant.chunks(STEP) {
            let closed = self.state.lock().close(step, reason);
            closing.add(closed);
        }
    }

    pub(in super::super) fn close_token(&self, token: &str) {
        let mut closing = Closing::new();
        let (epoch, meant) = {
            let state = self.state.lock();
            (state.era.epoch, state.watches.of_token(token))
        };
        self.close_in_steps(&meant, CloseReason::AccessChanged, &mut closing);
        closing.note_closed(epoch, CloseReason::AccessChanged);
        closing.finish();
    }

    pub(in super::super) fn close_key<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let mut garbage = Garbage::new();
        let mut meant = Vec::new();
        let epoch = {
            let mut state = self.state.lock();
            if let Some(slot) = state.slots.get(key).copied() {
                state.give_up_builds(slot, GivenUpBy::KeyClosed, &mut garbage);
                meant = state.watches_of(slot);
            }
            state.era.epoch
        };
        let mut closing = Closing::new();
        closing.add((Vec::new(), garbage));
        self.close_in_steps(&meant, CloseReason::KeyClosed, &mut closing);
        closing.note_closed(epoch, CloseReason::KeyClosed);
        closing.finish();
    }

    /// Calls `f` with the topic of a key, which is made if there is none. Returns the result of
    /// `f`, or `None` if the publisher is shut down.
    fn with_topic<Q, R>(
        &self,
        key: &Q,
        closing: &mut Closing<K, T>,
        f: impl FnOnce(&mut HubState<K, T>, usize, &mut Garbage<K, T>) -> R,
    ) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let mut garbage = Garbage::new();
        let mut result = None;
        let mut state = self.state.lock();
        let mut clones = None;
        if !state.slots.contains_key(key) {
            // Cloned without the lock (invariant 1).
            drop(state);
            clones = Some((key.to_owned(), key.to_owned()));
            state = self.state.lock();
        }
        if !state.shut {
            let slot = match (state.slots.get(key).copied(), clones.take()) {
                (Some(slot), _) => Some(slot),
                (None, Some((own, in_map))) => {
                    let HubState {
                        slots,
                        topics,
                        indexes,
                        ..
                    } = &mut *state;
                    let made = || topics.insert(Topic::new(own, indexes.left()));
                    Some(*slots.entry(in_map).or_insert_with(made))
                }
                // The topic was removed while the lock was released, and with it everything that
                // `f` would void.
                (None, None) => None,
            };
            if let Some(slot) = slot {
                result = Some(f(&mut state, slot, &mut garbage));
                state.remove_if_idle(slot, &mut garbage);
            }
        }
        drop(state);
        closing.add((Vec::new(), garbage));
        drop(clones);
        result
    }

    pub(in super::super) fn refresh<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let mut closing = Closing::new();
        let ordered = self.with_topic(key, &mut closing, |state, slot, garbage| {
            state.void_at_last(slot, GivenUpBy::Refreshed, garbage);
            let (index, watches) = (state.indexes.last(), state.watchers(slot));
            let note = Note::Refreshed { index, watches };
            garbage.notes.add(state.era.epoch, note);
            let reset = |control: &Arc<Control>| Some(control.reset(ResetReason::Refreshed));
            state.order(&state.watches_of(slot), reset)
        });
        closing.ordered = ordered.unwrap_or_default();
        closing.finish();
    }

    pub(in super::super) fn forget<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let reason = CloseReason::KeyForgotten;
        let mut closing = Closing::new();
        let ordered = self.with_topic(key, &mut closing, |state, slot, garbage| {
            state.void_at_last(slot, GivenUpBy::KeyForgotten, garbage);
            let epoch = state.era.epoch;
            let note = Note::Forgotten {
                index: state.indexes.last(),
            };
            garbage.notes.add(epoch, note);
            let meant = state.watches_of(slot);
            let end = |control: &Arc<Control>| control.end(WatchError::Closed(reason));
            let ordered = state.order(&meant, end);
            (epoch, meant, ordered)
        });
        if let Some((epoch, meant, ordered)) = ordered {
            closing.ordered = ordered;
            self.close_in_steps(&meant, reason, &mut closing);
            closing.note_closed(epoch, reason);
        }
        closing.finish();
    }

    pub(in super::super) fn complete<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let mut closing = Closing::new();
        let ended = self.with_topic(key, &mut closing, |state, slot, garbage| {
            if state.topics[slot].is_completed() {
                return None;
            }
            let (index, watches) = (state.indexes.last(), state.watchers(slot));
            let note = Note::Completed { index, watches };
            garbage.notes.add(state.era.epoch, note);
            Some(state.link_end(slot))
        });
        if let Some(LinkedEnd { deferred, woken }) = ended.flatten() {
            both_even_if_one_panics(
                || drop(deferred),
                || for_each_even_if_one_panics(woken.iter(), |control| control.wake_task()),
            );
        }
        closing.finish();
    }

    /// Wakes all watches that have not reached the current index, in steps (invariant 7).
    pub(in super::super) fn mark_progress(&self) {
        let (era, index) = {
            let state = self.state.lock();
            (Arc::clone(&state.era), state.indexes.last())
        };
        era.mark(index);
        let mut after = 0;
        loop {
            let mut step: Vec<Arc<Control>> = Vec::new();
            {
                let state = self.state.lock();
                let ids = state.watches.step(after).map(|(id, watch)| {
                    step.push(Arc::clone(&watch.control));
                    id
                });
                let Some(last) = ids.last() else { break };
                after = last;
            }
            for_each_even_if_one_panics(step.iter(), |control| control.wake_if_behind(index));
        }
    }
}

impl<K, T> HubState<K, T> {
    fn watches_of(&self, slot: usize) -> Vec<u64> {
        let live = self.topics.get(slot).and_then(Topic::live);
        live.into_iter()
            .flat_map(|live| live.watches.keys().copied())
            .collect()
    }

    /// Gives an order to watches of a topic that has just been voided. This happens under the same
    /// lock as voiding, so that none of them can receive a later commit, and with it a resume point
    /// that skips the void.
    fn order(
        &self,
        watches: &[u64],
        order: impl Fn(&Arc<Control>) -> Option<Ordered>,
    ) -> Vec<Ordered> {
        let watches = watches.iter().filter_map(|id| self.watches.get(*id));
        watches.filter_map(|watch| order(&watch.control)).collect()
    }
}

impl<K: Hash + Eq, T> HubState<K, T> {
    /// Orders watches to end, and removes them from the registry.
    fn close(&mut self, meant: &[u64], reason: CloseReason) -> (Vec<Ordered>, Garbage<K, T>) {
        let (mut ordered, mut garbage) = (Vec::new(), Garbage::new());
        for id in meant {
            if let Some(watch) = self.watches.get(*id) {
                ordered.extend(watch.control.end(WatchError::Closed(reason)));
                self.unregister(*id, &mut garbage);
            }
        }
        (ordered, garbage)
    }

    /// Voids what is known of a topic: clients that resume from the last index or before are reset.
    fn void_at_last(&mut self, slot: usize, reason: GivenUpBy, garbage: &mut Garbage<K, T>) {
        self.give_up_builds(slot, reason, garbage);
        let last = self.indexes.last();
        if self.topics[slot].is_void(last) {
            self.remove_kept(slot, None, UncachedBy::Void, garbage);
        } else {
            self.void(slot, last, garbage);
        }
    }

    /// Adds the end of a topic to its entries and its chain.
    fn link_end(&mut self, slot: usize) -> LinkedEnd<K, T> {
        let last = self.indexes.last();
        let topic = &mut self.topics[slot];
        let deferred = topic.push(Entry::Completed(last), true);
        self.history.push(last, slot, Kind::Rider);
        let inboxes = topic.live().into_iter().flat_map(|live| &live.inboxes);
        let woken = inboxes.filter_map(|(_, inbox, key)| inbox.note(*key));
        LinkedEnd {
            deferred,
            woken: woken.collect(),
        }
    }
}
