//! The figures of a publisher, and of its watches.

use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::Arc;

use super::after_lock::AfterLock;
use super::state::{Hub, HubState};
use super::topic::Topic;
use crate::publisher::report::error::ResetReason;
use crate::publisher::report::stats::{Slowest, Stats};
use crate::publisher::report::trace::Note;

impl<K: Hash + Eq, T> Hub<K, T> {
    pub(in super::super) fn stats(&self) -> Stats {
        let mut locked = self.lock();
        let (state, after) = locked.parts();
        state.sweep(after);
        Stats {
            keys: state.topics.len(),
            subscriptions: state.watches.len(),
            retained_items: state.history.commits(),
            ..state.figures.clone()
        }
    }

    pub(in super::super) fn watchers<Q>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let state = self.lock();
        let slot = state.slots.get(key);
        slot.map_or(0, |slot| state.watchers(*slot))
    }

    /// Returns the watches that are furthest behind, visiting all in steps (invariant 7).
    pub(in super::super) fn slowest(&self, most: usize) -> Vec<Slowest<K>>
    where
        K: Clone,
    {
        let mut all = Vec::new();
        let mut after = 0;
        loop {
            let state = self.lock();
            let before = all.len();
            for (id, watch) in state.watches.step(after) {
                after = id;
                let lags = watch.slots.iter().map(|slot| state.lag(*slot, id));
                all.push((
                    lags.sum::<u64>(),
                    Arc::clone(&watch.keys),
                    Arc::clone(&watch.tokens),
                ));
            }
            if all.len() == before {
                break;
            }
            drop(state);
            all.sort_by_key(|(lag, ..)| std::cmp::Reverse(*lag));
            all.truncate(most);
        }
        let slowest = all.into_iter().map(|(lag, keys, tokens)| Slowest {
            keys: keys.iter().map(|key| K::clone(key)).collect(),
            tokens: tokens.to_vec(),
            lag,
        });
        slowest.collect()
    }
}

impl<K, T> HubState<K, T> {
    pub(super) fn watchers(&self, slot: usize) -> usize {
        let live = self.topics.get(slot).and_then(Topic::live);
        live.map_or(0, |live| live.watches.len())
    }

    pub(super) fn lag(&self, slot: usize, watch: u64) -> u64 {
        let live = self.topics.get(slot).and_then(Topic::live);
        let lag = live.and_then(|live| {
            let seat = live.watches.get(&watch)?;
            Some(live.count.saturating_sub(seat.progress.get()))
        });
        lag.unwrap_or(0)
    }

    /// Counts and reports the reset of a watch that had everything up to `index`.
    pub(super) fn count_reset(
        &mut self,
        reason: ResetReason,
        index: u64,
        after: &mut AfterLock<K, T>,
    ) {
        let published = self.indexes.last();
        let note = Note::Reset {
            reason,
            index,
            published,
        };
        after.notes.add(self.era.epoch, note);
        let resets = &mut self.figures.resets;
        *match reason {
            ResetReason::TooOld => &mut resets.too_old,
            ResetReason::Ahead => &mut resets.ahead,
            ResetReason::OtherEpoch => &mut resets.other_epoch,
            ResetReason::Lagged => &mut resets.lagged,
            ResetReason::Refreshed => &mut resets.refreshed,
        } += 1;
    }
}
