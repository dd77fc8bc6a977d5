//! The future of a `recv`, for readers that own their task's registration.

use std::future::poll_fn;
use std::task::{Context, Poll};

/// Polls the reader until it is ready.
///
/// If the future is dropped before that, `stop_waiting` ends the task's registration. Otherwise the
/// registration would keep the task's memory alive, and wake a task that waits for something else
/// by then. A future that was never polled leaves the registration of the reader's stream alone.
pub(crate) async fn receive<T, R>(
    reader: &mut T,
    mut poll: impl FnMut(&mut T, &Context<'_>) -> Poll<R>,
    stop_waiting: fn(&mut T),
) -> R {
    let mut receiving = PendingRecv {
        reader,
        stop_waiting,
        is_pending: false,
    };
    poll_fn(|cx| {
        let polled = poll(receiving.reader, cx);
        receiving.is_pending = polled.is_pending();
        polled
    })
    .await
}

struct PendingRecv<'a, T> {
    reader: &'a mut T,
    stop_waiting: fn(&mut T),
    is_pending: bool,
}

impl<T> Drop for PendingRecv<'_, T> {
    fn drop(&mut self) {
        // Not if it is ready: the drop of the waker may panic, and what was received would be lost.
        if self.is_pending {
            (self.stop_waiting)(self.reader);
        }
    }
}
