//! A future that many wait for and any of them drives. When the last of them goes, it goes.
//!
//! Not `futures::future::Shared`: that one clones, wakes and drops wakers under its own lock (tokio
//! issue 5429 again), and a waker that panics leaves it poisoned for all.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};

use futures::future::BoxFuture;

use crate::sync::Mutex;
use crate::unwind::discard;
use crate::waiters::{Ticket, Waiters};

/// One who waits for it.
pub(super) struct Flight {
    shared: Arc<Shared>,
    ticket: Option<Ticket>,
}

/// The flight, as long as somebody waits for it.
pub(super) struct WeakFlight(Weak<Shared>);

struct Shared {
    /// Taken out by the one who polls it, and not put back when it is done.
    future: Mutex<Option<BoxFuture<'static, ()>>>,
    passengers: Arc<Passengers>,
}

/// What the future wakes. It does not own the future, which owns wakers of this.
#[derive(Default)]
struct Passengers {
    waiting: Waiters,
    /// Since the future was polled last.
    woken: AtomicBool,
    done: AtomicBool,
}

impl Wake for Passengers {
    fn wake(self: Arc<Self>) {
        // Release: pairs with the `swap` in `poll`.
        self.woken.store(true, Release);
        self.waiting.wake_all();
    }
}

impl Flight {
    pub(super) fn new(future: BoxFuture<'static, ()>) -> Self {
        Self::on(Arc::new(Shared {
            future: Mutex::new(Some(future)),
            passengers: Arc::default(),
        }))
    }

    fn on(shared: Arc<Shared>) -> Self {
        let ticket = None;
        Self { shared, ticket }
    }

    pub(super) fn downgrade(&self) -> WeakFlight {
        WeakFlight(Arc::downgrade(&self.shared))
    }

    /// Drives it, unless somebody else does so just now. It is over where it panics.
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        let Shared { future, passengers } = &*self.shared;
        // First: who wakes from now on wakes us.
        passengers.waiting.wait(&mut self.ticket, cx.waker());
        let taken = future.lock().take();
        if let Some(mut flying) = taken {
            let waker = Waker::from(Arc::clone(passengers));
            // AcqRel: pairs with the `store` in `wake`.
            passengers.woken.swap(false, AcqRel);
            let mut cx = Context::from_waker(&waker);
            let poll = AssertUnwindSafe(|| flying.as_mut().poll(&mut cx));
            // What panics is not the handler, and it is told to all by what it drops.
            let poll = catch_unwind(poll).unwrap_or_else(|panic| {
                discard(panic);
                Poll::Ready(())
            });
            if poll.is_pending() {
                *future.lock() = Some(flying);
                // Others who were woken meanwhile found it taken.
                if passengers.woken.swap(false, AcqRel) {
                    passengers.waiting.wake_all();
                }
                return Poll::Pending;
            }
            // Release: pairs with the Acquire below.
            passengers.done.store(true, Release);
            passengers.waiting.leave(&mut self.ticket);
            drop(flying);
            passengers.waiting.wake_all();
            return Poll::Ready(());
        }
        // Acquire: pairs with the Release above.
        if passengers.done.load(Acquire) {
            passengers.waiting.leave(&mut self.ticket);
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.shared.passengers.waiting.leave(&mut self.ticket);
    }
}

impl WeakFlight {
    pub(super) fn upgrade(&self) -> Option<Flight> {
        self.0.upgrade().map(Flight::on)
    }
}
