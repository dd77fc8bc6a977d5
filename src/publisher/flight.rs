//! A future that many wait for and any of them drives. It is dropped with the last of them.
//!
//! Not `futures::future::Shared`: that one clones, wakes and drops wakers under its own lock (tokio
//! issue 5429 again), and a waker that panics leaves it poisoned for all.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::task::{Context, Poll, Wake, Waker};

use futures::future::BoxFuture;

use crate::link::{Host, Registration, Signal, Waiters};
use crate::sync::{AtomicBool, Mutex, TrackedArc, TrackedWeak};
use crate::unwind::{both_even_if_one_panics, discard};

/// One of those who wait for the future.
pub(super) struct Flight {
    /// Before the flight, which may drop the future.
    registration: Option<Registration<Arc<Passengers>>>,
    shared: TrackedArc<Shared>,
}

/// The flight, as long as somebody waits for it.
pub(super) struct WeakFlight(TrackedWeak<Shared>);

struct Shared {
    /// Taken out while it is polled, and not put back when it is done.
    future: Mutex<Option<BoxFuture<'static, ()>>>,
    passengers: Arc<Passengers>,
    /// Wakes the passengers.
    waker: Waker,
}

/// What the future wakes. It does not own the future, which owns wakers of this.
#[derive(Default)]
struct Passengers {
    signal: Signal,
    /// The future was woken since the last poll of it began.
    woken: AtomicBool,
    done: AtomicBool,
}

impl Host for Arc<Passengers> {
    fn with(&self, f: impl FnOnce(&Waiters)) {
        f(self.signal.waiters());
    }
}

impl Wake for Passengers {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Release: pairs with the `swap`s in `take` and `put_back`.
        self.woken.store(true, Release);
        self.signal.notify();
    }
}

impl Flight {
    pub(super) fn new(future: BoxFuture<'static, ()>) -> Self {
        let passengers = Arc::<Passengers>::default();
        let waker = Waker::from(Arc::clone(&passengers));
        Self::on(TrackedArc::new(Shared {
            future: Mutex::new(Some(future)),
            passengers,
            waker,
        }))
    }

    fn on(shared: TrackedArc<Shared>) -> Self {
        let registration = None;
        Self {
            registration,
            shared,
        }
    }

    pub(super) fn downgrade(&self) -> WeakFlight {
        WeakFlight(TrackedArc::downgrade(&self.shared))
    }

    /// Drives the future, unless another passenger is doing so. A panic of it ends the flight.
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        let passengers = &self.shared.passengers;
        // First: whoever puts the future back or wakes it from now on wakes us.
        let done = passengers.signal.when(|| {
            // Acquire: pairs with the Release below.
            passengers.done.load(Acquire)
        });
        let host = || Arc::clone(passengers);
        let poll = Registration::poll(&mut self.registration, &done, host, cx.waker());
        let Some(mut flying) = self.shared.take() else {
            return poll;
        };
        let mut cx = Context::from_waker(&self.shared.waker);
        let poll = AssertUnwindSafe(|| flying.as_mut().poll(&mut cx));
        // The handler's own panics are caught within; this is for what it drops, and reported by that.
        let poll = catch_unwind(poll).unwrap_or_else(|panic| {
            discard(panic);
            Poll::Ready(())
        });
        if poll.is_pending() {
            if self.shared.put_back(flying) {
                passengers.signal.notify();
            }
            return Poll::Pending;
        }
        // Release: pairs with the Acquire above.
        passengers.done.store(true, Release);
        let registration = &mut self.registration;
        both_even_if_one_panics(
            || *registration = None,
            || {
                drop(flying);
                passengers.signal.notify();
            },
        );
        Poll::Ready(())
    }
}

impl Shared {
    /// Takes the future out, to be polled; `None` while another passenger has it, and when it is done.
    fn take(&self) -> Option<BoxFuture<'static, ()>> {
        let mut future = self.future.lock();
        let taken = future.take();
        if taken.is_some() {
            // AcqRel: pairs with the Release in `wake`.
            self.passengers.woken.swap(false, AcqRel);
        }
        taken
    }

    /// Puts the future back. Returns whether it was woken meanwhile: passengers that were woken then may have
    /// found it taken, so they are to be woken again.
    ///
    /// Both are one step, under the lock. Otherwise a passenger could take the future in between and have its
    /// own "woken" cleared here; the ones that found the future taken *then* would never hear of it.
    fn put_back(&self, flying: BoxFuture<'static, ()>) -> bool {
        let mut future = self.future.lock();
        *future = Some(flying);
        // AcqRel: pairs with the Release in `wake`.
        self.passengers.woken.swap(false, AcqRel)
    }
}

impl WeakFlight {
    pub(super) fn upgrade(&self) -> Option<Flight> {
        self.0.upgrade().map(Flight::on)
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

        /// Drives the future, unless another one is doing so.
        pub fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
            self.0.poll(cx)
        }
    }
}
