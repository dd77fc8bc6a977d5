//! What is removed: idle topics, watches, snapshots, and entries that are void.

use std::hash::Hash;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::after_lock::{AfterLock, Removed};
use super::history::Kind;
use super::sizes::CROWD;
use super::state::{Expiry, HubState};
use super::topic::{Build, Kept, Topic};
use crate::publisher::report::trace::{GivenUpBy, Note, UncachedBy};
use crate::sync::Instant;

/// The number of commits between two looks for expired snapshots, if nothing else happens.
const COMMITS_A_SWEEP: u32 = 64;

impl<K, T> HubState<K, T> {
    pub(super) fn give_up_late(&mut self, slot: usize, after: &mut AfterLock<K, T>) {
        let Some(live) = self.topics.get_mut(slot).and_then(|topic| topic.live_mut()) else {
            return;
        };
        if live.builds.iter().all(|build| build.deadline.is_none()) {
            return;
        }
        let now = Instant::now();
        let is_late = |build: &Build<K, T>| build.deadline.is_some_and(|deadline| deadline <= now);
        let mut late = Vec::new();
        while let Some(at) = live.builds.iter().position(is_late) {
            late.push(live.builds.remove(at));
        }
        self.give_up(late, GivenUpBy::TimeLimit, after);
    }

    /// Gives up all unfinished snapshots of a topic.
    pub(super) fn give_up_builds(
        &mut self,
        slot: usize,
        reason: GivenUpBy,
        after: &mut AfterLock<K, T>,
    ) {
        if let Some(live) = self.topics[slot].live_mut() {
            let builds = mem::take(&mut live.builds);
            self.give_up(builds, reason, after);
        }
    }

    /// Gives up snapshots that were already removed from their topic.
    pub(super) fn give_up(
        &mut self,
        builds: impl IntoIterator<Item = Build<K, T>>,
        reason: GivenUpBy,
        after: &mut AfterLock<K, T>,
    ) {
        for build in builds {
            self.figures.snapshots_in_flight -= 1;
            self.figures.snapshots_given_up += 1;
            let snapshot = build.id;
            let note = Note::GivenUp { snapshot, reason };
            after.notes.add(self.era.epoch, note);
            after.give_up(build);
        }
    }

    /// Notes that a watch no longer waits for its snapshot.
    fn leave_build(&mut self, slot: usize, watch: u64, after: &mut AfterLock<K, T>) {
        let live = self.topics.get_mut(slot).and_then(|topic| topic.live_mut());
        let left = live.and_then(|live| live.leave_build(watch));
        self.give_up(left, GivenUpBy::NoWatch, after);
    }

    /// Removes a watch from a topic, which may be idle after that.
    pub(super) fn unseat(&mut self, slot: usize, watch: u64, after: &mut AfterLock<K, T>) {
        self.leave_build(slot, watch, after);
        if let Some(live) = self.topics.get_mut(slot).and_then(Topic::live_mut) {
            live.remove_watch(watch);
        }
    }

    /// Removes the kept snapshot, if it is the given one or none is given. The topic may be idle
    /// after that.
    pub(super) fn remove_kept(
        &mut self,
        slot: usize,
        id: Option<u64>,
        reason: UncachedBy,
        after: &mut AfterLock<K, T>,
    ) {
        let live = self.topics.get_mut(slot).and_then(|topic| topic.live_mut());
        let is_meant = |kept: &mut Kept<K, T>| id.is_none_or(|id| id == kept.id);
        if let Some(kept) = live.and_then(|live| live.kept.take_if(is_meant)) {
            self.figures.cached_snapshots -= 1;
            let snapshot = kept.id;
            let note = Note::Uncached { snapshot, reason };
            after.notes.add(self.era.epoch, note);
            after.removed.push(Removed::Kept(kept));
        }
    }

    /// Drops the kept snapshot if it retains more commits of its key than the history may.
    #[inline]
    pub(super) fn give_up_large_kept(&mut self, slot: usize, after: &mut AfterLock<K, T>) {
        let limit = self.history.limit() as u64;
        let Some(live) = self.topics[slot].live_mut() else {
            return;
        };
        let is_large = live.kept.as_ref().is_some_and(|kept| {
            let allowed = if limit > 0 { limit } else { kept.parts };
            live.count - kept.onward.number > allowed
        });
        if is_large {
            self.remove_kept(slot, None, UncachedBy::TooLarge, after);
        }
    }

    /// Voids what is retained of a topic: clients that resume from `index` or before are reset.
    pub(super) fn void(&mut self, slot: usize, index: u64, after: &mut AfterLock<K, T>) {
        self.remove_kept(slot, None, UncachedBy::Void, after);
        let topic = &mut self.topics[slot];
        for own in topic.void(index) {
            after.drop_entry(own);
        }
        self.history.push(index, slot, Kind::Rider);
        // Watches that wait for a snapshot still receive it. Later watches cannot join it, and get
        // a new one.
        if let Some(live) = topic.live() {
            for build in &live.builds {
                after.removed.extend(build.parts.shut().map(Removed::Start));
            }
        }
    }
}

impl<K: Hash + Eq, T> HubState<K, T> {
    /// Removes a watch from the registry and from its topics.
    pub(super) fn unregister(&mut self, id: u64, after: &mut AfterLock<K, T>) {
        if let Some(watch) = self.watches.remove(id) {
            for slot in &watch.slots {
                self.unseat(*slot, id, after);
                self.remove_if_idle(*slot, after);
            }
            after.removed.push(Removed::Watch(watch));
        }
    }

    /// Calls [`sweep`](Self::sweep) now and then: reading the clock may cost more than a whole
    /// publish.
    #[inline]
    pub(super) fn sweep_seldom(&mut self, after: &mut AfterLock<K, T>) {
        if self.expiries.is_empty() {
            return;
        }
        self.unswept += 1;
        if self.unswept >= COMMITS_A_SWEEP {
            self.unswept = 0;
            self.sweep(after);
        }
    }

    /// Removes expired snapshots.
    pub(super) fn sweep(&mut self, after: &mut AfterLock<K, T>) {
        if self.expiries.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some(&Expiry { at, slot, id }) = self.expiries.front() {
            if at > now {
                break;
            }
            self.expiries.pop_front();
            self.remove_kept(slot, Some(id), UncachedBy::Expired, after);
            self.remove_if_idle(slot, after);
        }
    }

    /// Removes the topic, or at least its chain, if nothing needs it (invariant 6).
    pub(super) fn remove_if_idle(&mut self, slot: usize, after: &mut AfterLock<K, T>) {
        let Some(topic) = self.topics.get_mut(slot) else {
            return;
        };
        if let Some(live) = topic.unlink() {
            after.removed.push(Removed::Live(live));
        }
        if !topic.is_idle() {
            return;
        }
        // The key is user code. If it panics, the topic stays, and the rest of the work is done:
        // this may be the drop of a watch, which has to leave all its topics.
        let key = AssertUnwindSafe(|| self.slots.remove_entry(&self.topics[slot].key));
        match catch_unwind(key) {
            Ok(key) => {
                after.removed.extend(key.map(|(key, _)| Removed::Key(key)));
                after.removed.push(Removed::Topic(self.topics.remove(slot)));
                // The table of many former topics must not keep its memory for ever.
                if self.topics.is_empty() && self.topics.capacity() > CROWD {
                    after
                        .removed
                        .push(Removed::Topics(mem::take(&mut self.topics)));
                    after
                        .removed
                        .push(Removed::Slots(mem::take(&mut self.slots)));
                }
            }
            Err(panic) => after.removed.push(Removed::Panic(panic)),
        }
    }
}
