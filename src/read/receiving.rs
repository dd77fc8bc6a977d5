//! The future of a `recv`.

use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::error::{RecvError, TryRecvError};
use crate::read::subscription::{Subscription, Waits};

/// The future that waits until `next` finds something.
pub(crate) struct Receiving<'a, T, F> {
    reader: &'a mut Subscription<T>,
    next: F,
}

impl<T, R, F> Future for Receiving<'_, T, F>
where
    F: FnMut(&mut Subscription<T>) -> Result<R, TryRecvError> + Unpin,
{
    type Output = Result<R, RecvError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { reader, next } = self.get_mut();
        reader.poll_with(cx, next, Waits::InRecv)
    }
}

impl<T, F> Drop for Receiving<'_, T, F> {
    /// Ends the registration of the task, if a poll of this future made it.
    #[inline]
    fn drop(&mut self) {
        if mem::take(&mut self.reader.waits) == Waits::InRecv {
            self.reader.reader.stop_waiting();
        }
    }
}

impl<T> Subscription<T> {
    /// Waits until `next` returns anything but [`TryRecvError::Empty`].
    pub(crate) fn next_with<R, F>(&mut self, next: F) -> Receiving<'_, T, F>
    where
        F: FnMut(&mut Self) -> Result<R, TryRecvError>,
    {
        Receiving { reader: self, next }
    }
}
