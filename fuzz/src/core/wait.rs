//! Somebody who waits.

use std::sync::Arc;

use super::model::{Model, Place};
use crate::task::Task;

pub(super) struct Waiting {
    pub(super) task: Arc<Task>,
    /// For an item here.
    at: Place,
    /// What its buffer's count was.
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

    /// What must hold whether or not it may go on. Wake-ups of what stands at some places are put off.
    pub(super) fn check(&self, may_go_on: bool, model: &Model, put_off: impl Fn(Place) -> bool) {
        assert!(self.task.wakes() <= 1, "woken twice");
        if may_go_on {
            assert!(self.task.is_woken() || put_off(self.at), "not woken");
        } else if self.task.is_woken() {
            let nothing_happened = model.buffers[self.at.0].wakings == self.wakings;
            assert!(!nothing_happened, "woken for nothing");
        }
    }
}
