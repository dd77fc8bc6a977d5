//! Marks of progress, for watches that have nothing to receive.

use std::hash::Hash;
use std::iter;
use std::sync::Arc;

use super::state::Hub;
use crate::publisher::watch::control::Control;
use crate::unwind::for_each_even_if_one_panics;

impl<K, T> Hub<K, T>
where
    K: Hash + Eq,
{
    /// Wakes all watches that have not reached the current index, in steps (invariant 7).
    pub(in super::super) fn mark_progress(&self) {
        let (era, index) = {
            let state = self.lock();
            (Arc::clone(&state.era), state.indexes.last())
        };
        era.mark(index);
        let mut before = 0;
        let steps = iter::from_fn(|| {
            let state = self.lock();
            let mut step: Vec<Arc<Control>> = Vec::new();
            for (id, watch) in state.watches.step(before) {
                before = id;
                step.push(Arc::clone(&watch.control));
            }
            (!step.is_empty()).then_some(step)
        });
        for_each_even_if_one_panics(steps.flatten(), |control| control.wake_if_behind(index));
    }
}
