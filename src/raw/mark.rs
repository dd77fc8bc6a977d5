//! A place that is not counted: a number, and the record of the buffer that it is in.

use std::sync::Arc;

use super::record::Record;
use super::slot::Slot;
use crate::bookmark::BookmarkError;

#[derive(Clone)]
pub(crate) struct Mark {
    record: Arc<Record>,
    seq: u64,
}

impl Mark {
    pub(super) fn new(record: Arc<Record>, seq: u64) -> Self {
        Self { record, seq }
    }

    /// The marked place, for who comes to it by way of `oldest`, the first of its buffer that is
    /// still there. The buffer has a writer, so that it leads nowhere else.
    pub(super) fn reach<T>(&self, oldest: &Slot<T>) -> Result<Slot<T>, BookmarkError> {
        let Self {
            mut record,
            mut seq,
        } = self.clone();
        let mut lost = 0;
        while !oldest.is_in(&record) {
            let (next, at) = record.onward().ok_or(BookmarkError::OtherBuffer)?;
            lost += record.behind(seq);
            (record, seq) = (next, at);
        }
        lost += oldest.seq().saturating_sub(seq);
        if lost > 0 {
            return Err(BookmarkError::Lost(lost));
        }
        Ok(oldest.ahead(seq - oldest.seq()).0)
    }
}
