//! A place by its number, which keeps no item alive.

use std::sync::Arc;

use super::place::PlaceRef;
use super::shared::Shared;
use crate::error::BookmarkError;

/// The number of a place, and the record of the buffer that it is in.
pub(crate) struct WeakPlace<T> {
    shared: Arc<Shared<T>>,
    seq: u64,
}

// SAFETY: it uses numbers and the way that the buffer ended, none of which is a `T`. With the last owner
// of the record its list of limits is dropped, which has entries only if readers of these `T`s were
// limited, and that takes `T: Send + Sync`.
unsafe impl<T> Send for WeakPlace<T> {}
// SAFETY: likewise.
unsafe impl<T> Sync for WeakPlace<T> {}

impl<T> WeakPlace<T> {
    pub(super) fn new(shared: Arc<Shared<T>>, seq: u64) -> Self {
        Self { shared, seq }
    }

    /// A place in no buffer.
    /// The place one item before, which is in the same buffer.
    pub(super) fn before(self) -> Self {
        Self::new(self.shared, self.seq.saturating_sub(1))
    }

    pub(super) fn nowhere() -> Self {
        Self::new(Shared::new(), 0)
    }

    /// The marked place, found by way of `oldest`, the oldest retained place of a buffer that still has its
    /// writer.
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
