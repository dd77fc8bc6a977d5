//! A waiting task.

use std::sync::Arc;

use super::model::{Model, Place};
use crate::task::Task;

pub(super) struct Waiting {
    pub(super) task: Arc<Task>,
    /// The place of the item that it waits for.
    at: Place,
    /// The buffer's count of wake-ups when it began to wait.
    wakings: usize,
}

impl Waiting {
    pub(super) fn new(task: Arc<Task>, at: Place, model: &Model) -> Self {
        Self {
            task,
            at,
            wakings: model.buffers[at.0].wakings,
        }
    }

    /// Checks that the task has been woken once if it is ready, unless the wake-up is deferred.
    pub(super) fn check(&self, is_ready: bool, model: &Model, is_deferred: impl Fn(Place) -> bool) {
        assert!(self.task.wakes() <= 1, "woken twice");
        if is_ready {
            assert!(self.task.is_woken() || is_deferred(self.at), "not woken");
        } else if self.task.is_woken() {
            let nothing_happened = model.buffers[self.at.0].wakings == self.wakings;
            assert!(!nothing_happened, "woken without a reason");
        }
    }
}
