//! The future of a snapshot's handler, which the waiting watches poll together.

use std::task::{Context, Poll};

use futures::future::BoxFuture;

use crate::single_flight::{Driven, FlightStep, Passenger, SingleFlight, WeakSingleFlight};
use crate::unwind::quietly;

/// A share in the future. The future is dropped with the last share.
pub(crate) struct Flight {
    /// Declared before `shared`, whose drop may run the future's destructor.
    seat: Passenger,
    shared: SingleFlight<BoxFuture<'static, ()>>,
}

/// A weak share, which becomes a full one as long as another exists.
pub(crate) struct WeakFlight(WeakSingleFlight<BoxFuture<'static, ()>>);

impl Flight {
    pub(crate) fn new(future: BoxFuture<'static, ()>) -> Self {
        Self::on(SingleFlight::new(future))
    }

    fn on(shared: SingleFlight<BoxFuture<'static, ()>>) -> Self {
        let seat = Passenger::default();
        Self { seat, shared }
    }

    pub(crate) fn downgrade(&self) -> WeakFlight {
        WeakFlight(self.shared.downgrade())
    }

    /// Polls the future, unless another passenger is polling it. If it panics, the flight ends.
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.shared.register(&mut self.seat, cx.waker());
        let driven = self.shared.drive(|future, cx| {
            // The handler's own panics are caught inside the future. This catches those of its
            // destructors, which the future has reported by then.
            match quietly(|| future.as_mut().poll(cx)) {
                Some(Poll::Pending) => FlightStep::Pending,
                Some(Poll::Ready(())) | None => FlightStep::Done,
            }
        });
        if driven == Driven::Over {
            self.seat = Passenger::default();
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl WeakFlight {
    pub(crate) fn upgrade(&self) -> Option<Flight> {
        self.0.upgrade().map(Flight::on)
    }

    /// Ends the flight without waiting for a passenger that is polling: the future is dropped now,
    /// or by that passenger when its poll returns. Runs user code.
    pub(crate) fn give_up(&self) {
        if let Some(flight) = self.0.upgrade() {
            flight.give_up();
        }
    }
}

/// Lets loom models use a flight by itself.
#[cfg(loom)]
pub mod models {
    use super::{BoxFuture, Context, Poll};

    /// A share in a future.
    #[allow(missing_debug_implementations)]
    pub struct Flight(super::Flight);

    impl Flight {
        /// Returns the first share.
        pub fn new(future: BoxFuture<'static, ()>) -> Self {
            Self(super::Flight::new(future))
        }

        /// Returns another share.
        pub fn join(&self) -> Option<Self> {
            self.0.downgrade().upgrade().map(Self)
        }

        /// Ends the flight.
        pub fn give_up(&self) {
            self.0.shared.give_up();
        }

        /// Polls the future, unless another share is polling it.
        pub fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
            self.0.poll(cx)
        }
    }
}
