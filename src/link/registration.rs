//! A task's place among those that wait, as a value.

use std::future::poll_fn;
use std::task::{Poll, Waker};

use super::Event;
use super::waiters::{Ticket, Waiters};

/// Something that a task can wait for: a link, or a [`Signal`](super::Signal) and its condition.
pub(crate) trait Awaited {
    fn event(&self) -> &Event;
    fn waiters(&self) -> &Waiters;
    /// Sets the waiting bit, with a read-modify-write of the word that the writer changes with one, too.
    fn set_waiting_bit(&self);
    /// Whether there is nothing to wait for any more.
    fn has_happened(&self) -> bool;
}

/// How a [`Registration`] finds the waiters that it has joined.
pub(crate) trait Host {
    /// Calls `f` with the waiters, if they are still there.
    fn with(&self, f: impl FnOnce(&Waiters));
}

impl Host for &Waiters {
    fn with(&self, f: impl FnOnce(&Waiters)) {
        f(self);
    }
}

/// A task's place in a group. Dropping it leaves the group; the waker that is dropped with it is user code.
pub(crate) struct Registration<H: Host> {
    host: H,
    ticket: Ticket,
}

impl<H: Host> Registration<H> {
    /// Registers the task, or renews its registration. Check the condition again after this.
    pub(crate) fn register(
        registration: &mut Option<Self>,
        awaited: &impl Awaited,
        host: impl FnOnce() -> H,
        waker: &Waker,
    ) {
        let (waiters, event) = (awaited.waiters(), awaited.event());
        if let Some(known) = registration {
            if waiters.renew(event, known.ticket, waker) {
                return;
            }
            *registration = None;
        }
        let ticket = waiters.join(event, waker, || awaited.set_waiting_bit());
        let host = host();
        *registration = Some(Self { host, ticket });
    }

    /// Registers the task and looks again: `Ready` if there is nothing to wait for any more.
    pub(crate) fn poll(
        registration: &mut Option<Self>,
        awaited: &impl Awaited,
        host: impl FnOnce() -> H,
        waker: &Waker,
    ) -> Poll<()> {
        Self::register(registration, awaited, host, waker);
        if awaited.has_happened() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Ends it, and returns the waker; one that does nothing if the task has been woken.
    pub(crate) fn into_waker(self) -> Waker {
        let mut waker = None;
        self.host
            .with(|waiters| waker = Some(waiters.take_waker(self.ticket)));
        waker.unwrap_or_else(|| Waker::noop().clone())
    }
}

impl<H: Host> Drop for Registration<H> {
    #[inline]
    fn drop(&mut self) {
        self.host.with(|waiters| waiters.leave(self.ticket));
    }
}

/// Waits until it has happened. Cancel safe.
pub(crate) async fn wait_for(awaited: &impl Awaited) {
    let mut registration = None;
    poll_fn(|cx| {
        if awaited.has_happened() {
            return Poll::Ready(());
        }
        Registration::poll(&mut registration, awaited, || awaited.waiters(), cx.waker())
    })
    .await;
}
