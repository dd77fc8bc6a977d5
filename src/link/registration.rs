//! A task's registration with an event.

use std::future::poll_fn;
use std::task::{Poll, Waker};

use event_listener::Event;

use super::waiters::{Ticket, Waiters};

/// Something that a task can wait for: a link, or a [`Signal`](super::Signal) and its condition.
pub(crate) trait Awaited {
    fn event(&self) -> &Event;
    fn waiters(&self) -> &Waiters;
    /// Sets the waiting bit, with a read-modify-write of the word that the writer changes with one,
    /// too.
    fn set_waiting_bit(&self);
    /// Returns `true` if there is nothing left to wait for.
    fn has_happened(&self) -> bool;
}

impl Ticket {
    /// Registers a task, or renews its registration, and checks the condition again.
    ///
    /// Returns `Ready` if there is nothing left to wait for. The owner of the ticket has to
    /// [leave](Waiters::leave) with it.
    pub(crate) fn poll(
        ticket: &mut Option<Self>,
        awaited: &impl Awaited,
        waker: &Waker,
    ) -> Poll<()> {
        let (waiters, event) = (awaited.waiters(), awaited.event());
        let is_renewed = ticket.is_some_and(|known| waiters.renew(event, known, waker));
        if !is_renewed {
            if let Some(known) = ticket.take() {
                waiters.leave(known);
            }
            *ticket = Some(waiters.join(event, waker, || awaited.set_waiting_bit()));
        }
        if awaited.has_happened() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl<A: Awaited> Awaited for &A {
    fn event(&self) -> &Event {
        A::event(self)
    }

    fn waiters(&self) -> &Waiters {
        A::waiters(self)
    }

    fn set_waiting_bit(&self) {
        A::set_waiting_bit(self);
    }

    fn has_happened(&self) -> bool {
        A::has_happened(self)
    }
}

/// A task's registration, which ends when this is dropped. That drops a waker, which is user code.
pub(crate) struct Registration<A: Awaited> {
    awaited: A,
    ticket: Option<Ticket>,
}

impl<A: Awaited> Registration<A> {
    /// Registers the task, or renews its registration, and checks the condition again.
    ///
    /// Returns `Ready` if there is nothing left to wait for.
    pub(crate) fn poll(
        registration: &mut Option<Self>,
        awaited: impl FnOnce() -> A,
        waker: &Waker,
    ) -> Poll<()> {
        let Self { awaited, ticket } = registration.get_or_insert_with(|| Self {
            awaited: awaited(),
            ticket: None,
        });
        Ticket::poll(ticket, awaited, waker)
    }
}

impl<A: Awaited> Drop for Registration<A> {
    #[inline]
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.awaited.waiters().leave(ticket);
        }
    }
}

/// Waits until it has happened. Cancel safe.
pub(crate) async fn wait_for(awaited: &impl Awaited) {
    let mut registration = None;
    poll_fn(|cx| {
        if awaited.has_happened() {
            return Poll::Ready(());
        }
        Registration::poll(&mut registration, || awaited, cx.waker())
    })
    .await;
}
