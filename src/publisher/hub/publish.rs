//! Publishing, and what leaves the history because of it.

use std::hash::Hash;
use std::sync::Arc;

use super::super::commit::{Commit, Entry, Part};
use super::super::control::Control;
use super::super::error::PublishError;
use super::super::trace::{GivenUpBy, Note};
use super::garbage::{EachDropped, Garbage};
use super::history::{Kind, Record};
use super::indexes::At;
use super::sizes::STEP;
use super::state::{Hub, HubState};
use super::topic::Topic;
use crate::sync::MutexGuard;
use crate::unwind::{both_even_if_one_panics, for_each_even_if_one_panics};
use crate::write::deferred::Deferred;

/// An event of a commit that has several.
pub(in super::super) struct Pending<K, T> {
    /// Taken when it is published.
    event: Option<(K, T)>,
    /// Its topic, once that is known.
    slot: Option<usize>,
    /// Clones of the key, for the topic and for the map, if the topic may have to be made.
    clones: Option<(K, K)>,
}

impl<K, T> Pending<K, T> {
    pub(in super::super) fn new(event: (K, T)) -> Self {
        Self {
            event: Some(event),
            slot: None,
            clones: None,
        }
    }
}

/// What a publish has to do after the lock.
struct Outcome<K, T> {
    /// Wakes the readers of the chains.
    deferred: EachDropped<Vec<Deferred<Entry<K, T>>>>,
    woken: Vec<Arc<Control>>,
    garbage: Garbage<K, T>,
}

impl<K, T> Outcome<K, T> {
    fn new() -> Self {
        Self {
            deferred: EachDropped(Vec::new()),
            woken: Vec::new(),
            garbage: Garbage::new(),
        }
    }
}

impl<K, T> Hub<K, T>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    T: Send + Sync + 'static,
{
    #[inline]
    pub(in super::super) fn publish_one(&self, at: At, event: (K, T)) -> Result<u64, PublishError> {
        // Declared before the guard, so that it is dropped after the lock, like `event` if no topic
        // keeps it.
        let _swept;
        let mut state = self.state.lock();
        // First, since it may remove the topic.
        _swept = state.sweep_seldom();
        // The key's `Hash` and `Eq` are user code. If they panic, nothing has been changed
        // (invariant 1).
        let slot = state.slots.get(&event.0).copied();
        let index = match state.check(at) {
            Ok(index) => index,
            Err(error) => {
                drop(state);
                return Err(error);
            }
        };
        match slot {
            Some(slot) => Ok(self.publish_to(state, index, slot, event)),
            None if state.history.limit() == 0 => {
                let mut garbage = Garbage::new();
                state.commit(index, 1);
                state.era.publish(index);
                state.leave_history(index, &mut garbage);
                drop(state);
                drop(garbage);
                drop(event);
                Ok(index)
            }
            None => {
                drop(state);
                self.publish_many(at, vec![Pending::new(event)])
            }
        }
    }

    /// Publishes one event of a topic that exists.
    #[inline]
    fn publish_to(
        &self,
        mut guard: MutexGuard<'_, HubState<K, T>>,
        index: u64,
        slot: usize,
        event: (K, T),
    ) -> u64 {
        let state = &mut *guard;
        let (mut woken, mut garbage) = (Vec::new(), Garbage::new());
        state.commit(index, 1);
        let entry = state.commit_of_one(index, event);
        let kind = Kind::LastOfCommit;
        let deferred = state.link((index, slot), entry, kind, &mut woken, &mut garbage);
        state.era.publish(index);
        state.leave_history(index, &mut garbage);
        let is_over = state.history.is_over();
        drop(guard);
        // All tasks are woken before events are dropped, since destructors may take long.
        if woken.is_empty() {
            drop(deferred);
        } else {
            both_even_if_one_panics(|| drop(deferred), || wake_controls(&woken));
        }
        drop(garbage);
        if is_over {
            self.leave_in_steps();
        }
        index
    }

    pub(in super::super) fn publish_many(
        &self,
        at: At,
        events: Vec<Pending<K, T>>,
    ) -> Result<u64, PublishError> {
        let mut events = EachDropped(events);
        let mut outcome = Outcome::new();
        let _swept;
        let mut guard = self.state.lock();
        // First, since it may remove topics.
        _swept = guard.sweep_seldom();
        // The keys' `Hash` and `Eq` are user code. If they panic, nothing has been changed
        // (invariant 1).
        if guard.find_topics(&mut events.0) {
            // Keys are cloned without the lock (invariant 1). A topic may come or go meanwhile, so
            // look again.
            drop(guard);
            for Pending { event, clones, .. } in events.0.iter_mut().filter(|p| p.slot.is_none()) {
                *clones = event.as_ref().map(|(key, _)| (key.clone(), key.clone()));
            }
            guard = self.state.lock();
            guard.find_topics(&mut events.0);
        }
        let state = &mut *guard;
        let index = match state.check(at) {
            Ok(index) => index,
            Err(error) => {
                drop(guard);
                return Err(error);
            }
        };
        if state.history.limit() > 0 {
            state.make_topics(&mut events.0);
        }
        state.commit(index, events.0.len());
        state.link_all(index, &mut events.0, &mut outcome);
        state.era.publish(index);
        // A commit without events does not count in the history.
        if !events.0.is_empty() {
            state.leave_history(index, &mut outcome.garbage);
        }
        let is_over = state.history.is_over();
        drop(guard);
        // All tasks are woken before events are dropped, since destructors may take long.
        both_even_if_one_panics(
            || wake_all(&outcome.deferred),
            || wake_controls(&outcome.woken),
        );
        // With the events go their keys, and the events that no topic keeps.
        drop((outcome, events));
        if is_over {
            self.leave_in_steps();
        }
        Ok(index)
    }

    /// Removes what has left the history in steps, between which the lock is released (invariant
    /// 7).
    #[cold]
    pub(super) fn leave_in_steps(&self) {
        loop {
            let mut garbage = Garbage::new();
            let mut state = self.state.lock();
            if !state.history.is_over() {
                break;
            }
            state.evict(&mut garbage);
            drop(state);
            drop(garbage);
        }
    }
}

impl<K: Hash + Eq, T> HubState<K, T> {
    /// Returns the index of the next commit, if it may have it.
    #[inline]
    fn check(&self, at: At) -> Result<u64, PublishError> {
        if self.shut {
            return Err(PublishError::ShutDown);
        }
        self.indexes.check(at)
    }

    /// Returns the entry of a commit of one event.
    #[inline]
    fn commit_of_one(&mut self, index: u64, event: (K, T)) -> Entry<K, T> {
        let commit = Commit::one(index, self.size_of, event);
        Entry::Commit(Part::new(self.commits.alloc(commit), 0, 1))
    }

    /// Records the index and the figures of a commit.
    #[inline]
    fn commit(&mut self, index: u64, events: usize) {
        self.indexes.commit(index);
        self.figures.commits += 1;
        self.figures.events += events as u64;
    }

    /// Finds the topics of the events. Returns `true` if keys must be cloned before topics can be
    /// made.
    fn find_topics(&self, events: &mut [Pending<K, T>]) -> bool {
        let mut lacks = false;
        for Pending {
            event,
            slot,
            clones,
        } in events
        {
            *slot = { event.as_ref() }.and_then(|(key, _)| self.slots.get(key).copied());
            lacks |= slot.is_none() && clones.is_none();
        }
        lacks && self.history.limit() > 0
    }

    /// Makes the missing topics from the clones.
    fn make_topics(&mut self, events: &mut [Pending<K, T>]) {
        for pending in events.iter_mut().filter(|pending| pending.slot.is_none()) {
            let Some((own, in_map)) = pending.clones.take() else {
                continue;
            };
            // The key is looked up again, since it may occur in the commit twice.
            let (topics, left) = (&mut self.topics, self.indexes.left());
            let slot = { self.slots.entry(in_map) }
                .or_insert_with(|| topics.insert(Topic::new(own, left)));
            pending.slot = Some(*slot);
        }
    }

    /// Links a commit into all chains that it touches.
    fn link_all(&mut self, index: u64, events: &mut [Pending<K, T>], outcome: &mut Outcome<K, T>) {
        let Outcome {
            deferred,
            woken,
            garbage,
        } = outcome;
        // Events that no topic keeps stay in `events`, which the caller drops after the lock.
        let mut of_topics: Vec<(usize, u32)> = Vec::new();
        let mut content = Vec::new();
        for pending in events {
            if let Some((slot, event)) = pending
                .slot
                .zip(pending.event.take_if(|_| pending.slot.is_some()))
            {
                let position = u32::try_from(content.len()).unwrap_or(u32::MAX);
                of_topics.push((slot, position));
                content.push(event);
            }
        }
        if let [(slot, _)] = of_topics[..] {
            if let Some(event) = content.pop() {
                let entry = self.commit_of_one(index, event);
                let kind = Kind::LastOfCommit;
                deferred
                    .0
                    .extend(self.link((index, slot), entry, kind, woken, garbage));
            }
            return;
        }
        // The order of events within a topic is kept, since the positions break ties.
        of_topics.sort_unstable();
        let order = of_topics.iter().map(|(_, position)| *position).collect();
        let commit = Commit::many(index, self.size_of, content, order);
        let commit = self.commits.alloc(commit);
        let mut start = 0;
        for of_topic in of_topics.chunk_by(|(one, _), (other, _)| one == other) {
            let end = start + of_topic.len();
            let kind = if end == of_topics.len() {
                Kind::LastOfCommit
            } else {
                Kind::Commit
            };
            let entry = Entry::Commit(Part::new(commit.clone(), start, end));
            let place = (index, of_topic[0].0);
            deferred
                .0
                .extend(self.link(place, entry, kind, woken, garbage));
            start = end;
        }
    }

    /// Adds an entry to a topic, and notes it in the inboxes of watches of several keys.
    #[inline]
    fn link(
        &mut self,
        (index, slot): (u64, usize),
        entry: Entry<K, T>,
        kind: Kind,
        woken: &mut Vec<Arc<Control>>,
        garbage: &mut Garbage<K, T>,
    ) -> Option<Deferred<Entry<K, T>>> {
        let retain = self.history.limit() > 0 || kind == Kind::Rider;
        if self.topics[slot].is_completed() && kind != Kind::Rider {
            self.void_completed(slot, index, garbage);
        }
        let topic = &mut self.topics[slot];
        let deferred = topic.push(entry, retain);
        if retain {
            self.history.push(index, slot, kind);
        } else {
            topic.left = index;
            topic.own_left = index;
        }
        if let Some(live) = topic.live_mut() {
            for (_, inbox, key) in &live.inboxes {
                woken.extend(inbox.note(*key));
            }
            let has_kept = live.kept.is_some();
            if live.due < live.count {
                let left = live.leave_lagging();
                self.give_up(left, GivenUpBy::Lagged, garbage);
            }
            if has_kept {
                self.give_up_large_kept(slot, garbage);
            }
        }
        deferred
    }

    /// Voids a completed key that is published to again.
    #[cold]
    fn void_completed(&mut self, slot: usize, index: u64, garbage: &mut Garbage<K, T>) {
        self.void(slot, index.saturating_sub(1), garbage);
    }

    /// Removes what has to leave the history after a commit, at most one step of it.
    #[inline]
    fn leave_history(&mut self, index: u64, garbage: &mut Garbage<K, T>) {
        if self.history.limit() == 0 {
            self.forget_all_before(index, garbage);
        } else if self.history.is_over() {
            self.evict(garbage);
        }
    }

    /// Without a history, a commit leaves at once, together with any riders.
    #[inline]
    fn forget_all_before(&mut self, index: u64, garbage: &mut Garbage<K, T>) {
        self.indexes.leave(index);
        self.figures.evictions += 1;
        if !self.history.is_empty() {
            while let Some(record) = self.history.pop() {
                self.drop_entry(record, garbage);
            }
        }
    }

    /// Removes one step of entries from the history (invariant 7).
    fn evict(&mut self, garbage: &mut Garbage<K, T>) {
        let before = self.figures.evictions;
        for _ in 0..STEP {
            if !self.history.is_over() {
                break;
            }
            let Some(record) = self.history.pop() else {
                break;
            };
            if record.kind != Kind::Rider {
                self.indexes.leave(record.index);
            }
            self.figures.evictions += u64::from(record.kind == Kind::LastOfCommit);
            self.drop_entry(record, garbage);
        }
        let commits = self.figures.evictions - before;
        if commits > 0 {
            let index = self.indexes.left();
            let note = Note::Evicted { commits, index };
            garbage.notes.add(self.era.epoch, note);
        }
    }

    fn drop_entry(&mut self, record: Record, garbage: &mut Garbage<K, T>) {
        let slot = record.slot as usize;
        let Some(topic) = self.topics.get_mut(slot) else {
            return;
        };
        if let Some(own) = topic.pop(record) {
            garbage.add_entry(own);
        }
        if topic.live().is_none_or(|live| live.watches.is_empty()) {
            self.remove_if_idle(slot, garbage);
        }
    }
}

fn wake_controls(woken: &[Arc<Control>]) {
    for_each_even_if_one_panics(woken.iter(), |control| control.wake_task());
}

/// Wakes all readers before anything is dropped, even if a waker panics.
fn wake_all<K, T>(deferred: &EachDropped<Vec<Deferred<Entry<K, T>>>>) {
    for_each_even_if_one_panics(deferred.0.iter(), Deferred::wake);
}
