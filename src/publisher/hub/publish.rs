//! Publishing, and what leaves the history because of it.

use std::hash::Hash;

use super::after_lock::{AfterLock, WakeUp};
use super::history::{Kind, Record};
use super::indexes::At;
use super::sizes::STEP;
use super::state::{Hub, HubState};
use crate::publisher::report::error::PublishError;
use crate::publisher::report::trace::{GivenUpBy, Note};
use crate::publisher::watch::commit::{Commit, Entry, Part};

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

impl<K, T> Hub<K, T>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    T: Send + Sync + 'static,
{
    #[inline]
    pub(in super::super) fn publish_one(&self, at: At, event: (K, T)) -> Result<u64, PublishError> {
        let (index, is_over) = {
            let mut locked = self.lock();
            let (state, after) = locked.parts();
            // First, since it may remove the topic.
            state.sweep_seldom(after);
            // The key's `Hash` and `Eq` are user code. If they panic, nothing has been changed
            // (invariant 1).
            let slot = state.slots.get(&event.0).copied();
            let index = state.check(at)?;
            if slot.is_none() && state.history.limit() > 0 {
                drop(locked);
                return self.publish_many(at, vec![Pending::new(event)]);
            }
            state.commit(index, 1);
            // Without a topic, the event is dropped after the lock, as a parameter.
            if let Some(slot) = slot {
                let entry = state.commit_of_one(index, event);
                state.link((index, slot), entry, Kind::LastOfCommit, after);
            }
            state.publish(index, after);
            state.leave_history(index, after);
            (index, state.history.is_over())
        };
        if is_over {
            self.leave_in_steps();
        }
        Ok(index)
    }

    pub(in super::super) fn publish_many(
        &self,
        at: At,
        mut events: Vec<Pending<K, T>>,
    ) -> Result<u64, PublishError> {
        let mut locked = self.lock();
        let (state, after) = locked.parts();
        // First, since it may remove topics.
        state.sweep_seldom(after);
        // The keys' `Hash` and `Eq` are user code. If they panic, nothing has been changed
        // (invariant 1).
        if state.find_topics(&mut events) {
            // Keys are cloned without the lock (invariant 1). A topic may come or go meanwhile, so
            // look again.
            drop(locked);
            for Pending { event, clones, .. } in events.iter_mut().filter(|p| p.slot.is_none()) {
                *clones = event.as_ref().map(|(key, _)| (key.clone(), key.clone()));
            }
            locked = self.lock();
            locked.find_topics(&mut events);
        }
        let (state, after) = locked.parts();
        let index = state.check(at)?;
        if state.history.limit() > 0 {
            state.make_topics(&mut events, after);
        }
        state.commit(index, events.len());
        state.link_all(index, &mut events, after);
        state.publish(index, after);
        // A commit without events does not count in the history.
        if !events.is_empty() {
            state.leave_history(index, after);
        }
        let is_over = state.history.is_over();
        drop(locked);
        // With the events go their keys, and the events that no topic keeps.
        drop(events);
        if is_over {
            self.leave_in_steps();
        }
        Ok(index)
    }

    /// Removes what has left the history in steps, between which the lock is released (invariant
    /// 7).
    #[cold]
    fn leave_in_steps(&self) {
        loop {
            let mut locked = self.lock();
            let (state, after) = locked.parts();
            if !state.history.is_over() {
                break;
            }
            state.evict(after);
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

    /// Publishes an index, whose commit is linked into all chains that it touches (invariant 2).
    #[inline]
    fn publish(&mut self, index: u64, after: &mut AfterLock<K, T>) {
        self.era.publish(index);
        if self.milestones.are_due(index) {
            let passed = self.milestones.take(index);
            after.wakeups.extend(passed.map(WakeUp::Milestone));
        }
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

    /// Makes the missing topics from the clones. A key may occur in the commit twice.
    fn make_topics(&mut self, events: &mut [Pending<K, T>], after: &mut AfterLock<K, T>) {
        for pending in events.iter_mut().filter(|pending| pending.slot.is_none()) {
            pending.slot = { pending.clones.take() }.map(|clones| self.make_topic(clones, after));
        }
    }

    /// Links a commit into all chains that it touches.
    fn link_all(&mut self, index: u64, events: &mut [Pending<K, T>], after: &mut AfterLock<K, T>) {
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
                self.link((index, slot), entry, Kind::LastOfCommit, after);
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
            self.link((index, of_topic[0].0), entry, kind, after);
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
        after: &mut AfterLock<K, T>,
    ) {
        let retain = self.history.limit() > 0 || kind == Kind::Rider;
        if self.topics[slot].is_completed() && kind != Kind::Rider {
            self.void_completed(slot, index, after);
        }
        let topic = &mut self.topics[slot];
        if let Some(deferred) = topic.push(entry, retain) {
            after.wake_chain(deferred);
        }
        if retain {
            self.history.push(index, slot, kind);
        } else {
            topic.left = index;
            topic.own_left = index;
        }
        if let Some(live) = topic.live_mut() {
            for (_, inbox, key) in &live.inboxes {
                if let Some(control) = inbox.note(*key) {
                    after.wakeups.push(WakeUp::Watch(control));
                }
            }
            let has_kept = live.kept.is_some();
            if live.due < live.count {
                let left = live.leave_lagging();
                self.give_up(left, GivenUpBy::Lagged, after);
            }
            if has_kept {
                self.give_up_large_kept(slot, after);
            }
        }
    }

    /// Voids a completed key that is published to again.
    #[cold]
    fn void_completed(&mut self, slot: usize, index: u64, after: &mut AfterLock<K, T>) {
        self.void(slot, index.saturating_sub(1), after);
    }

    /// Removes what has to leave the history after a commit, at most one step of it.
    #[inline]
    fn leave_history(&mut self, index: u64, after: &mut AfterLock<K, T>) {
        if self.history.limit() == 0 {
            self.forget_all_before(index, after);
        } else if self.history.is_over() {
            self.evict(after);
        }
    }

    /// Without a history, a commit leaves at once, together with any riders.
    #[inline]
    fn forget_all_before(&mut self, index: u64, after: &mut AfterLock<K, T>) {
        self.indexes.leave(index);
        self.figures.evictions += 1;
        if !self.history.is_empty() {
            while let Some(record) = self.history.pop() {
                self.drop_entry(record, after);
            }
        }
    }

    /// Removes one step of entries from the history (invariant 7).
    fn evict(&mut self, after: &mut AfterLock<K, T>) {
        let before = self.figures.evictions;
        for _ in 0..STEP {
            if !self.history.is_over() {
                break;
            }
            let Some(record) = self.history.pop() else {
                break;
            };
            // One more than the index of a rider: a watcher at just this index has not seen it.
            let is_rider = record.kind == Kind::Rider;
            self.indexes.leave(record.index + u64::from(is_rider));
            self.figures.evictions += u64::from(record.kind == Kind::LastOfCommit);
            self.drop_entry(record, after);
        }
        let commits = self.figures.evictions - before;
        if commits > 0 {
            let index = self.indexes.left();
            let note = Note::Evicted { commits, index };
            after.notes.add(self.era.epoch, note);
        }
    }

    fn drop_entry(&mut self, record: Record, after: &mut AfterLock<K, T>) {
        let slot = record.slot as usize;
        let Some(topic) = self.topics.get_mut(slot) else {
            return;
        };
        if let Some(own) = topic.pop(record) {
            after.drop_entry(own);
        }
        if topic.live().is_none_or(|live| live.watches.is_empty()) {
            self.remove_if_idle(slot, after);
        }
    }
}
