//! A place by its number, which keeps no item alive.

use std::sync::Arc;

use super::place::PlaceRef;
use super::shared::Shared;
use crate::error::BookmarkError;

/// The number of a place, and the [`Shared`] of the buffer that it is in.
pub(crate) struct WeakPlace<T> {
    shared: Arc<Shared<T>>,
    seq: u64,
}

// SAFETY: it gives access to numbers and to how the buffer ended, none of which is a `T`. With the
// last owner of the `Shared` its registry of limits is dropped. That has entries only if readers of
// these `T`s were limited, which takes `T: Send + Sync`.
unsafe impl<T> Send for WeakPlace<T> {}
// SAFETY: the same argument.
unsafe impl<T> Sync for WeakPlace<T> {}

impl<T> WeakPlace<T> {
    pub(super) fn new(shared: Arc<Shared<T>>, seq: u64) -> Self {
        Self { shared, seq }
    }

    /// Returns the place one item before, in the same buffer.
    pub(super) fn before(self) -> Self {
        Self::new(self.shared, self.seq.saturating_sub(1))
    }

    /// Returns a place in an empty buffer of its own.
    pub(super) fn nowhere() -> Self {
        Self::new(Shared::new(), 0)
    }

    /// Returns the place with a reference, found from `oldest`, the oldest retained place of a
    /// buffer.
    ///
    /// # Errors
    ///
    /// If an item from there on is no longer retained, or the place does not lead to that buffer.
    pub(super) fn reach(&self, oldest: &PlaceRef<T>) -> Result<PlaceRef<T>, BookmarkError> {
        let Self {
            mut shared,
            mut seq,
        } = self.clone();
        let mut lost = 0;
        while !oldest.is_in(&shared) {
            let (next, at) = shared.successor().ok_or(BookmarkError::OtherBuffer)?;
            lost += shared.published_since(seq);
            (shared, seq) = (next, at);
        }
        lost += oldest.seq().saturating_sub(seq);
        if lost > 0 {
            return Err(BookmarkError::Lost(lost));
        }
        Ok(oldest.ahead(seq - oldest.seq()).0)
    }
}

impl<T> Clone for WeakPlace<T> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.shared), self.seq)
    }
}
