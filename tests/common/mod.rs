//! What several test files use.

use event_buffer::Subscription;

/// All events that are ready, in order.
pub(crate) fn events<T: Clone>(reader: Subscription<T>) -> Vec<T> {
    let mut reader = reader.cloned();
    std::iter::from_fn(|| reader.try_recv().ok()).collect()
}
