//! The future of a snapshot's handler, which those who wait for the snapshot drive together.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll};

use futures::future::BoxFuture;

use crate::single_flight::{Driven, FlightStep, Passenger, SingleFlight, WeakSingleFlight};
use crate::unwind::discard;

/// One of those who wait for the future. It is dropped with the last of them.
pub(super) struct Flight {
    /// Before the flight, which may drop the future.
    seat: Passenger,
    shared: SingleFlight<BoxFuture<'static, ()>>,
}

/// The flight, as long as somebody waits for it.
pub(super) struct WeakFlight(WeakSingleFlight<BoxFuture<'static, ()>>);

impl Flight {
    pub(super) fn new(future: BoxFuture<'static, ()>) -> Self {
        Self::on(SingleFlight::new(future))
    }

    fn on(shared: SingleFlight<BoxFuture<'static, ()>>) -> Self {
        let seat = Passenger::default();
        Self { seat, shared }
    }

    pub(super) fn downgrade(&self) -> WeakFlight {
        WeakFlight(self.shared.downgrade())
    }

    /// Drives the future, unless another passenger is doing so. A panic of it ends the flight.
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.shared.register(&mut self.seat, cx.waker());
        let driven = self.shared.drive(|future, cx| {
            // The handler's own panics are caught within; this is for what it drops, and reported by that.
            let poll = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
            match poll {
                Ok(Poll::Pending) => (FlightStep::Pending, None),
                Ok(Poll::Ready(())) => (FlightStep::Done, None),
                Err(panic) => {
                    discard(panic);
                    (FlightStep::Done, None)
                }
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
    pub(super) fn upgrade(&self) -> Option<Flight> {
        self.0.upgrade().map(Flight::on)
    }

    /// Ends it from outside, without waiting for one who polls it: the future is dropped at once, or by the passenger
    /// that is polling it, on return. Runs user code.
    pub(super) fn give_up(&self) {
        if let Some(flight) = self.0.upgrade() {
            flight.give_up();
        }
    }
}

/// For models of the flight by itself.
#[cfg(loom)]
pub mod models {
    use super::{BoxFuture, Context, Poll};

    /// One of those who wait for a future.
    #[allow(missing_debug_implementations)]
    pub struct Flight(super::Flight);

    impl Flight {
        /// The first one.
        pub fn new(future: BoxFuture<'static, ()>) -> Self {
            Self(super::Flight::new(future))
        }

        /// Another one.
        pub fn join(&self) -> Option<Self> {
            self.0.downgrade().upgrade().map(Self)
        }

        /// Ends it from outside.
        pub fn give_up(&self) {
            self.0.shared.give_up();
        }

        /// Drives the future, unless another one is doing so.
        pub fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
            self.0.poll(cx)
        }
    }
}
