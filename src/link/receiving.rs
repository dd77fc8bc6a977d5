//! The future of a `recv`.

use std::pin::Pin;
use std::task::{Context, Poll};

/// Polls a reader until it is ready.
///
/// If it is dropped before that, `stop_waiting` ends the task's registration. Otherwise the
/// registration would keep the task's memory alive, and wake a task that waits for something else
/// by then. A future that was never polled leaves the registration of the reader's stream alone.
///
/// It is no `async fn`, because that would copy the result, which measured a third of receiving
/// what is ready.
pub(crate) struct Receiving<'a, T, P, S: FnMut(&mut T)> {
    reader: &'a mut T,
    poll: P,
    stop_waiting: S,
    is_pending: bool,
}

impl<'a, T, P, S: FnMut(&mut T)> Receiving<'a, T, P, S> {
    pub(crate) fn new<R>(reader: &'a mut T, poll: P, stop_waiting: S) -> Self
    where
        P: FnMut(&mut T, &Context<'_>) -> Poll<R>,
    {
        Self {
            reader,
            poll,
            stop_waiting,
            is_pending: false,
        }
    }
}

// Nothing is pinned.
impl<T, P, S: FnMut(&mut T)> Unpin for Receiving<'_, T, P, S> {}

impl<T, P, R, S: FnMut(&mut T)> Future for Receiving<'_, T, P, S>
where
    P: FnMut(&mut T, &Context<'_>) -> Poll<R>,
{
    type Output = R;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<R> {
        let Self {
            reader,
            poll,
            is_pending,
            ..
        } = &mut *self;
        let polled = poll(reader, cx);
        *is_pending = polled.is_pending();
        polled
    }
}

impl<T, P, S: FnMut(&mut T)> Drop for Receiving<'_, T, P, S> {
    #[inline]
    fn drop(&mut self) {
        // Not if it is ready: the drop of the waker may panic, and what was received would be lost.
        if self.is_pending {
            (self.stop_waiting)(self.reader);
        }
    }
}
