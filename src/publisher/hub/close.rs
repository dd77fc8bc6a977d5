//! Closing and resetting watches, and the calls that void, forget or complete a key.

use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::Arc;

use super::after_lock::{AfterLock, WakeUp};
use super::history::Kind;
use super::sizes::STEP;
use super::state::{Hub, HubState};
use super::topic::Topic;
use crate::publisher::report::error::ResetReason;
use crate::publisher::report::error::{CloseReason, WatchError};
use crate::publisher::report::trace::{GivenUpBy, Note, UncachedBy};
use crate::publisher::watch::commit::Entry;
use crate::publisher::watch::control::{Control, Ordered};

/// Watches that are being closed, in steps between which the lock is released (invariant 7).
///
/// Dropping this wakes them: all of them are closed before any is woken.
struct Closing<K, T> {
    reason: CloseReason,
    watches: usize,
    after: AfterLock<K, T>,
}

impl<K, T> Closing<K, T> {
    fn new(reason: CloseReason) -> Self {
        Self {
            reason,
            watches: 0,
            after: AfterLock::new(),
        }
    }

    /// Orders watches to end, and removes them from the registry.
    fn close(&mut self, hub: &Hub<K, T>, meant: &[u64])
    where
        K: Hash + Eq,
    {
        for step in meant.chunks(STEP) {
            let mut locked = hub.lock();
            let (state, after) = locked.parts();
            let end = |control: &Arc<Control>| control.end(WatchError::Closed(self.reason));
            self.watches += state.order(step, end, after);
            for id in step {
                state.unregister(*id, after);
            }
            // Without the lock, since much may have come together by now.
            self.after.add(locked.unlock());
        }
    }

    /// Notes the number of watches that were closed.
    fn note(&mut self, epoch: u64) {
        let (reason, watches) = (self.reason, self.watches);
        let note = Note::Closed { reason, watches };
        self.after.notes.add(epoch, note);
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
        let (mut before, last, epoch) = {
            let state = self.lock();
            (0, state.next_id, state.era.epoch)
        };
        let mut closing = Closing::new(reason);
        while before < last {
            let step: Vec<_> = {
                let state = self.lock();
                let step = state.watches.step(before);
                step.map(|(id, watch)| (id, Arc::clone(&watch.tokens)))
                    .collect()
            };
            let Some((id, _)) = step.last() else { break };
            before = *id;
            // Called without the lock, since the predicate is user code (invariant 1).
            let meant = step.iter().filter(|(id, _)| *id <= last);
            let meant: Vec<u64> = { meant.filter(|(_, tokens)| is_meant(tokens)) }
                .map(|(id, _)| *id)
                .collect();
            closing.close(self, &meant);
        }
        closing.note(epoch);
    }

    pub(in super::super) fn close_token(&self, token: &str) {
        let (epoch, meant) = {
            let state = self.lock();
            (state.era.epoch, state.watches.of_token(token))
        };
        let mut closing = Closing::new(CloseReason::AccessChanged);
        closing.close(self, &meant);
        closing.note(epoch);
    }

    pub(in super::super) fn close_key<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let mut locked = self.lock();
        let (state, after) = locked.parts();
        let epoch = state.era.epoch;
        let mut meant = Vec::new();
        if let Some(slot) = state.slots.get(key).copied() {
            state.give_up_builds(slot, GivenUpBy::KeyClosed, after);
            meant = state.watches_of(slot);
        }
        let mut closing = Closing::new(CloseReason::KeyClosed);
        closing.after = locked.unlock();
        closing.close(self, &meant);
        closing.note(epoch);
    }

    /// Calls `f` with the topic of a key, which is made if there is none. Returns the result of
    /// `f`, or `None` if the publisher is shut down, and what is to be done after the lock.
    fn with_topic<Q, R>(
        &self,
        key: &Q,
        f: impl FnOnce(&mut HubState<K, T>, usize, &mut AfterLock<K, T>) -> R,
    ) -> (Option<R>, AfterLock<K, T>)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let mut clones = None;
        let mut locked = self.lock();
        if !locked.slots.contains_key(key) {
            // Cloned without the lock (invariant 1).
            drop(locked);
            clones = Some((key.to_owned(), key.to_owned()));
            locked = self.lock();
        }
        let (state, after) = locked.parts();
        let mut result = None;
        if !state.shut {
            let slot = match state.slots.get(key) {
                Some(slot) => Some(*slot),
                // Without clones, the topic was removed while the lock was released, and with it
                // everything that `f` would void.
                None => { clones.take() }.map(|clones| state.make_topic(clones, after)),
            };
            if let Some(slot) = slot {
                result = Some(f(state, slot, after));
                state.remove_if_idle(slot, after);
            }
        }
        (result, locked.unlock())
    }

    pub(in super::super) fn refresh<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        drop(self.with_topic(key, |state, slot, after| {
            state.void_at_last(slot, GivenUpBy::Refreshed, after);
            let (index, watches) = (state.indexes.last(), state.watchers(slot));
            let note = Note::Refreshed { index, watches };
            after.notes.add(state.era.epoch, note);
            let reset = |control: &Arc<Control>| Some(control.reset(ResetReason::Refreshed));
            state.order(&state.watches_of(slot), reset, after);
        }));
    }

    pub(in super::super) fn forget<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let mut closing = Closing::new(CloseReason::KeyForgotten);
        let reason = closing.reason;
        let (forgotten, after) = self.with_topic(key, |state, slot, after| {
            state.void_at_last(slot, GivenUpBy::KeyForgotten, after);
            let epoch = state.era.epoch;
            let index = state.indexes.last();
            after.notes.add(epoch, Note::Forgotten { index });
            let meant = state.watches_of(slot);
            let end = |control: &Arc<Control>| control.end(WatchError::Closed(reason));
            let watches = state.order(&meant, end, after);
            (epoch, meant, watches)
        });
        closing.after = after;
        if let Some((epoch, meant, watches)) = forgotten {
            closing.watches = watches;
            closing.close(self, &meant);
            closing.note(epoch);
        }
    }

    pub(in super::super) fn complete<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        drop(self.with_topic(key, |state, slot, after| {
            if !state.topics[slot].is_completed() {
                let (index, watches) = (state.indexes.last(), state.watchers(slot));
                let note = Note::Completed { index, watches };
                after.notes.add(state.era.epoch, note);
                state.link_end(slot, after);
            }
        }));
    }
}

impl<K, T> HubState<K, T> {
    fn watches_of(&self, slot: usize) -> Vec<u64> {
        let live = self.topics.get(slot).and_then(Topic::live);
        live.into_iter()
            .flat_map(|live| live.watches.keys().copied())
            .collect()
    }

    /// Gives an order to watches of a topic that has just been voided, and returns the number of
    /// those that got it. This happens under the same lock as voiding, so that none of them can
    /// receive a later commit, and with it a resume point that skips the void.
    fn order(
        &self,
        watches: &[u64],
        order: impl Fn(&Arc<Control>) -> Option<Ordered>,
        after: &mut AfterLock<K, T>,
    ) -> usize {
        let before = after.wakeups.len();
        let watches = watches.iter().filter_map(|id| self.watches.get(*id));
        let ordered = watches.filter_map(|watch| order(&watch.control));
        after.wakeups.extend(ordered.map(WakeUp::Ordered));
        after.wakeups.len() - before
    }
}

impl<K: Hash + Eq, T> HubState<K, T> {
    /// Voids what is known of a topic: clients that resume from the last index or before are reset.
    fn void_at_last(&mut self, slot: usize, reason: GivenUpBy, after: &mut AfterLock<K, T>) {
        self.give_up_builds(slot, reason, after);
        let last = self.indexes.last();
        if self.topics[slot].is_void(last) {
            self.remove_kept(slot, None, UncachedBy::Void, after);
        } else {
            self.void(slot, last, after);
        }
    }

    /// Adds the end of a topic to its entries and its chain.
    fn link_end(&mut self, slot: usize, after: &mut AfterLock<K, T>) {
        let last = self.indexes.last();
        let topic = &mut self.topics[slot];
        if let Some(deferred) = topic.push(Entry::Completed(last), true) {
            after.wake_chain(deferred);
        }
        self.history.push(last, slot, Kind::Rider);
        let inboxes = topic.live().into_iter().flat_map(|live| &live.inboxes);
        let woken = inboxes.filter_map(|(_, inbox, key)| inbox.note(*key));
        after.wakeups.extend(woken.map(WakeUp::Watch));
    }
}
