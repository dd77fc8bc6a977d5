//! Snapshots: which one a watch gets, and how each of them ends.

use std::hash::Hash;
use std::sync::Arc;

use super::after_lock::AfterLock;
use super::state::{Expiry, Hub, HubState};
use super::topic::{Build, ChainPlace, Kept, Live};
use crate::publisher::report::error::SnapshotOutdated;
use crate::publisher::report::trace::{GivenUpBy, Run, UncachedBy};
use crate::publisher::snapshot::build::{Builds, Handler, SnapshotBuild};
use crate::publisher::snapshot::flight::Flight;
use crate::publisher::snapshot::parts::{LeastIndex, Parts, Piece};
use crate::publisher::watch::commit::Entry;
use crate::publisher::watch::track::Early;
use crate::read::subscription::Subscription;
use crate::sync::Instant;

/// Which snapshot a watch can use.
pub(super) struct Wanted {
    /// The number of the watch.
    pub(super) watch: u64,
    /// The index that the watcher has: a snapshot must not be older.
    pub(super) had: u64,
    /// How many commits the watch may fall behind: a snapshot must not be followed by more.
    pub(super) limit: u64,
}

/// The snapshot that a watch reads.
pub(super) struct ChosenSnapshot<K, T> {
    pub(super) parts: Subscription<Piece<T>>,
    /// Set while the snapshot is being made: the watch helps to poll it.
    pub(super) flight: Option<Flight>,
    /// Where the watch continues in the chain. Nothing before it is missed, except for what is in
    /// `early`.
    pub(super) onward: ChainPlace<K, T>,
    pub(super) early: Early<K, T>,
}

/// Returns the position of the first commit after an index. O(commits skipped), takes no lock.
fn first_after<K, T>(place: ChainPlace<K, T>, index: u64) -> ChainPlace<K, T> {
    let ChainPlace { at, mut number } = place;
    let mut reader = at.subscribe();
    let is_contained = |entry: &Entry<K, T>| match entry {
        Entry::Commit(part) => part.commit.index <= index,
        Entry::Completed(_) => false,
    };
    while reader.peek(is_contained) == Ok(true) && reader.skip_event() {
        number += 1;
    }
    ChainPlace {
        at: reader.position(),
        number,
    }
}

impl<K, T> Hub<K, T>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    T: Send + Sync + 'static,
{
    /// Returns a snapshot for a watch: the kept one, one that is being made, or a new one. Returns
    /// `None` without a handler.
    ///
    /// The snapshot is not older than what the watcher has, and is not followed by more commits
    /// than the watch may fall behind.
    pub(super) fn snapshot(
        self: &Arc<Self>,
        state: &mut HubState<K, T>,
        slot: usize,
        key: &mut Option<K>,
        (wanted, after): (&Wanted, &mut AfterLock<K, T>),
    ) -> Option<ChosenSnapshot<K, T>> {
        let handler = self.settings.handler.as_ref()?;
        state.give_up_late(slot, after);
        let live = state.topics[slot].linked();
        if let Some(kept) = live.kept_for(wanted) {
            return Some(kept);
        }
        if let Some(joined) = live.join_build(wanted.watch) {
            return Some(joined);
        }
        self.begin_build(state, slot, (handler, key.take()?), wanted.watch)
    }

    /// Begins a new snapshot, for which a watch waits.
    fn begin_build(
        self: &Arc<Self>,
        state: &mut HubState<K, T>,
        slot: usize,
        (handler, key): (&Handler<K, T>, K),
        watch: u64,
    ) -> Option<ChosenSnapshot<K, T>> {
        let id = state.next_id();
        let topic = &mut state.topics[slot];
        // A second build serves all watches that come too late for the first, so they must be able
        // to join it: it keeps its first part.
        let keeps = !self.settings.ttl.is_zero() || !topic.linked().builds.is_empty();
        let parts = Parts::new(keeps);
        let reader = parts.join()?;
        // Taken before the handler can run: no later commit is missed.
        let (newest, onward, early) = (topic.newest(), topic.tail(), Early::default());
        let registry: Arc<dyn Builds> = Arc::<Self>::clone(self);
        let build = SnapshotBuild {
            registry,
            slot,
            id,
            parts: Arc::clone(&parts),
            run: Run::new(state.era.epoch, id, state.indexes.last()),
        };
        let flight = build.into_flight(Arc::clone(handler), key);
        let timeout = self.settings.timeout;
        let build = Build {
            id,
            flight: flight.downgrade(),
            parts,
            start: onward.clone(),
            early: Arc::clone(&early),
            newest,
            waiting: 1,
            deadline: timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
        };
        let live = state.topics[slot].linked();
        live.builds.push(build);
        live.watches.get_mut(&watch)?.waits_for = Some(id);
        state.figures.snapshots_begun += 1;
        state.figures.snapshots_in_flight += 1;
        Some(ChosenSnapshot {
            parts: reader,
            flight: Some(flight),
            onward,
            early,
        })
    }

    /// Gives up the snapshots of a topic that are past their time limit.
    pub(super) fn give_up_late_of(&self, slot: usize) {
        let mut locked = self.lock();
        let (state, after) = locked.parts();
        state.give_up_late(slot, after);
    }
}

impl<K, T> Live<K, T> {
    /// Returns the kept snapshot, if it is recent enough for the watch.
    fn kept_for(&self, wanted: &Wanted) -> Option<ChosenSnapshot<K, T>> {
        let kept = self.kept.as_ref()?;
        let followed = self.count - kept.onward.number;
        if kept.index < wanted.had || followed > wanted.limit {
            return None;
        }
        Some(ChosenSnapshot {
            parts: kept.start.subscribe(),
            flight: None,
            onward: kept.onward.clone(),
            early: Arc::clone(&kept.early),
        })
    }

    /// Lets a watch wait for a snapshot that is being made, if one can still be joined.
    fn join_build(&mut self, watch: u64) -> Option<ChosenSnapshot<K, T>> {
        let seat = self.watches.get_mut(&watch)?;
        self.builds.iter_mut().find_map(|build| {
            // A build whose last watch is just being dropped cannot be joined any more.
            let (parts, flight) = build.parts.join().zip(build.flight.upgrade())?;
            build.waiting += 1;
            seat.waits_for = Some(build.id);
            Some(ChosenSnapshot {
                parts,
                flight: Some(flight),
                onward: build.start.clone(),
                early: Arc::clone(&build.early),
            })
        })
    }
}

impl<K, T> HubState<K, T> {
    /// Removes a build that is over.
    fn take_build(&mut self, slot: usize, id: u64) -> Option<Build<K, T>> {
        let live = self.topics.get_mut(slot)?.live_mut()?;
        let at = live.builds.iter().position(|build| build.id == id)?;
        for seat in live.watches.values_mut() {
            if seat.waits_for == Some(id) {
                seat.waits_for = None;
            }
        }
        Some(live.builds.remove(at))
    }
}

impl<K, T> Builds for Hub<K, T>
where
    K: Hash + Eq + Send + Sync,
    T: Send + Sync,
{
    fn finished(
        &self,
        slot: usize,
        id: u64,
        index: u64,
        announce: &mut dyn FnMut(),
    ) -> Result<(), SnapshotOutdated> {
        let start = {
            let state = self.lock();
            let topic = state.topics.get(slot);
            let builds = { topic.and_then(|topic| topic.live()) }.map(|live| &live.builds);
            let build = builds.and_then(|builds| builds.iter().find(|build| build.id == id));
            let Some((topic, build)) = topic.zip(build) else {
                // The snapshot was given up, and has ended with an error, or the publisher has
                // ended.
                drop(state);
                announce();
                return Ok(());
            };
            LeastIndex::new(topic.own_left, build.newest).check(index)?;
            build.start.clone()
        };
        let is_kept = !self.settings.ttl.is_zero();
        let onward = if is_kept {
            first_after(start, index)
        } else {
            start
        };
        let mut locked = self.lock();
        let (state, after) = locked.parts();
        let Some(build) = state.take_build(slot, id) else {
            // Given up while the lock was released, or the publisher has ended.
            drop(locked);
            announce();
            return Ok(());
        };
        let early = state.topics[slot].early(index, build.start.number);
        // Set once: only this call, which has removed the build, does so.
        let _ = build.early.set(early);
        state.indexes.see(index);
        state.figures.snapshots_in_flight -= 1;
        state.figures.snapshots_finished += 1;
        let kept = { build.parts.start() }.filter(|_| is_kept);
        if let Some((start, parts)) = kept {
            state.remove_kept(slot, None, UncachedBy::Replaced, after);
            let kept = Kept {
                id,
                index,
                onward,
                early: Arc::clone(&build.early),
                start,
                parts,
            };
            if let Some(live) = state.topics[slot].live_mut() {
                live.kept = Some(kept);
                state.figures.cached_snapshots += 1;
            }
            if let Some(at) = Instant::now().checked_add(self.settings.ttl) {
                state.expiries.push_back(Expiry { at, slot, id });
            }
            state.give_up_large_kept(slot, after);
        }
        state.remove_if_idle(slot, after);
        let after = locked.unlock();
        announce();
        drop((after, build));
        Ok(())
    }

    fn failed(&self, slot: usize, id: u64, announce: &mut dyn FnMut()) {
        let mut locked = self.lock();
        let (state, after) = locked.parts();
        let build = state.take_build(slot, id);
        if build.is_some() {
            state.figures.snapshots_in_flight -= 1;
            state.figures.snapshots_failed += 1;
            state.remove_if_idle(slot, after);
        }
        let after = locked.unlock();
        announce();
        drop((after, build));
    }

    fn abandoned(&self, slot: usize, id: u64) {
        let mut locked = self.lock();
        let (state, after) = locked.parts();
        if let Some(build) = state.take_build(slot, id) {
            state.give_up([build], GivenUpBy::NoWatch, after);
            state.remove_if_idle(slot, after);
        }
    }
}
