//! A place by its number, which keeps no item alive.

use std::sync::Arc;

use super::shared::Shared;

/// The number of a place, and the [`Shared`] of the buffer that it is in.
pub(crate) struct WeakPlace<L> {
    pub(super) shared: Arc<Shared<L>>,
    pub(super) seq: u64,
}

impl<L> WeakPlace<L> {
    pub(super) fn new(shared: Arc<Shared<L>>, seq: u64) -> Self {
        Self { shared, seq }
    }

    /// Returns the place one item before, in the same buffer.
    pub(super) fn before(self) -> Self {
        Self::new(self.shared, self.seq.saturating_sub(1))
    }
}

impl<L> Clone for WeakPlace<L> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.shared), self.seq)
    }
}

impl<L: Default> WeakPlace<L> {
    /// Returns a place in an empty buffer of its own.
    pub(super) fn nowhere() -> Self {
        Self::new(Shared::new(), 0)
    }
}
