//! A link as something to wait for.

use super::node::NodeRef;
use super::shared::Shared;
use crate::link::{Awaited, Event, Waiters};

/// A node, and the `Shared` of its buffer, which has the tasks that wait for the node.
pub(super) struct Link<'a, T, L> {
    pub(super) node: &'a NodeRef<T, Shared<L>>,
    pub(super) shared: &'a Shared<L>,
}

impl<T, L> Link<'_, T, L> {
    /// Wakes the tasks that wait for this link. It is written, and its waiting bit was found set.
    pub(super) fn notify(&self) {
        self.shared.waiters().notify(self.node.node().event());
    }
}

impl<T, L> Awaited for Link<'_, T, L> {
    fn event(&self) -> &Event {
        self.node.node().event()
    }

    fn waiters(&self) -> &Waiters {
        self.shared.waiters()
    }

    fn set_waiting_bit(&self) {
        self.node.node().set_waiting_bit();
    }

    fn has_happened(&self) -> bool {
        self.node.node().is_written()
    }
}
