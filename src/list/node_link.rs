//! A link as something to wait for.

use super::node::NodeRef;
use super::shared::Shared;
use crate::link::{Awaited, Event, Waiters};

/// A node, and the record of its buffer, which has the group of tasks that wait for it.
pub(super) struct Link<'a, T> {
    pub(super) hold: &'a NodeRef<T>,
    pub(super) record: &'a Shared<T>,
}

impl<T> Link<'_, T> {
    /// Wakes the tasks that wait for this link, which has been written. Called once the waiting bit was seen.
    pub(super) fn notify(&self) {
        self.record.waiters().notify(self.hold.node().event());
    }
}

impl<T> Awaited for Link<'_, T> {
    fn event(&self) -> &Event {
        self.hold.node().event()
    }

    fn waiters(&self) -> &Waiters {
        self.record.waiters()
    }

    fn set_waiting_bit(&self) {
        self.hold.node().set_waiting_bit();
    }

    fn has_happened(&self) -> bool {
        self.hold.node().is_written()
    }
}
