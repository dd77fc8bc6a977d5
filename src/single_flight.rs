//! Something that several tasks wait for, and any of them drives.
//!
//! A source that is shared, or the handler of a snapshot, belongs to no task: those who wait for it,
//! its *passengers*, poll it themselves, one at a time. No task and no runtime is needed.
//!
//! ```text
//!   passengers                     SingleFlight                       what is driven
//!  ┌───────────┐  drive      ┌───────────────────────┐   poll        ┌──────────────┐
//!  │ task A ───┼────────────▶│ stage: Idle, Polled,  │──────────────▶│ a Stream,    │
//!  │ task B    │             │        Over           │               │ or a Future  │
//!  │ task C    │◀────────┐   └───────────────────────┘               └──────┬───────┘
//!  └───────────┘  notify │      ┌─────────────────┐          wake           │
//!                        └──────│ Wakeups: woken  │◀────────────────────────┘
//!                               └─────────────────┘
//! ```
//!
//! * **Only if it was woken.** It is polled at the start, and after its waker was called, or after it was ready:
//!   not once for each passenger.
//! * **All are woken.** A wake-up reaches every passenger that waits, so a passenger that is dropped, or never
//!   polled again, stops nobody: the next one that is polled drives.
//! * **No wake-up is lost.** A passenger registers, looks whether what it waits for is there, and tries to
//!   drive, in this order. If another passenger is polling just then, that one notifies when it is done, if the
//!   thing was ready, has ended, or was woken meanwhile.
//! * **No lock is held** while it is polled or dropped, so it may poll a passenger of itself: that one finds it
//!   taken, and waits.
//! * **What it wakes owns no part of it**, so it may keep its waker.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::task::{Context, Wake, Waker};

use crate::link::{Awaited, Event, Registration, Signal, Waiters};
#[cfg(feature = "publisher")]
use crate::sync::TrackedWeak;
use crate::sync::{AtomicBool, Mutex, TrackedArc};
use crate::unwind::{Panic, both_even_if_one_panics, keep_first, resume};

/// A handle to something that is driven by those who have one. It is dropped with the last of them, or before:
/// when it is done, panics, or is [given up](Self::give_up).
pub(crate) struct SingleFlight<D>(TrackedArc<FlightState<D>>);

/// A handle that does not keep it.
#[cfg(feature = "publisher")]
pub(crate) struct WeakSingleFlight<D>(TrackedWeak<FlightState<D>>);

struct FlightState<D> {
    stage: Mutex<Stage<D>>,
    wakeups: Arc<Wakeups>,
    waker: Waker,
}

enum Stage<D> {
    Idle(D),
    /// A passenger has it, and polls it.
    Polled,
    /// It is done, or was given up: the passenger that polls it, if any, is to drop it.
    Over,
}

/// What is woken by what is driven, and wakes the passengers.
struct Wakeups {
    signal: Signal,
    /// It may be ready: it has not been polled since it was woken.
    woken: AtomicBool,
}

/// What polling it once has brought.
#[derive(Clone, Copy)]
pub(crate) enum FlightStep {
    /// Something, and there may be more.
    Ready,
    /// Nothing yet. It wakes the waker that it was polled with.
    Pending,
    /// It is done.
    Done,
}

/// What an attempt to drive has brought.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Driven {
    /// It was ready: look at what it has brought.
    Ready,
    /// There is nothing to do before a passenger is woken.
    Waiting,
    /// It is done, or was given up.
    Over,
}

/// A passenger's place among those that are woken. Dropping it leaves.
#[derive(Default)]
pub(crate) struct Passenger(Option<Registration<Passengers>>);

/// The tasks that are woken.
struct Passengers(Arc<Wakeups>);

impl Awaited for Passengers {
    fn event(&self) -> &Event {
        self.0.signal.event()
    }

    fn waiters(&self) -> &Waiters {
        self.0.signal.waiters()
    }

    fn set_waiting_bit(&self) {
        self.0.signal.set_waiting_bit();
    }

    /// The passenger looks for itself.
    fn has_happened(&self) -> bool {
        false
    }
}

impl Wake for Wakeups {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // A read-modify-write as in `take`, so that one of the two comes first. AcqRel: pairs with that.
        let was_woken = self.woken.swap(true, AcqRel);
        // Otherwise the passengers know, or are being told.
        if !was_woken {
            self.signal.notify();
        }
    }
}

impl<D> SingleFlight<D> {
    pub(crate) fn new(driven: D) -> Self {
        let wakeups = Arc::new(Wakeups {
            signal: Signal::default(),
            woken: AtomicBool::new(true),
        });
        Self(TrackedArc::new(FlightState {
            stage: Mutex::new(Stage::Idle(driven)),
            waker: Waker::from(Arc::clone(&wakeups)),
            wakeups,
        }))
    }

    /// Registers a task: from now on it is woken. To be followed by a look at what it waits for, and by an attempt to
    /// [drive](Self::drive).
    pub(crate) fn register(&self, seat: &mut Passenger, waker: &Waker) {
        let passengers = || Passengers(Arc::clone(&self.0.wakeups));
        // Always pending: see `has_happened`.
        _ = Registration::poll(&mut seat.0, passengers, waker);
    }

    /// Polls it, if it may be ready and nobody else is doing so.
    ///
    /// # Panics
    ///
    /// If `poll` does: then it is over. If `poll` has caught a panic, that goes on once the passengers have been told.
    pub(crate) fn drive(
        &self,
        poll: impl FnOnce(&mut D, &mut Context<'_>) -> (FlightStep, Option<Panic>),
    ) -> Driven {
        let shared = &*self.0;
        let mut driven = match shared.take() {
            Ok(driven) => driven,
            Err(instead) => return instead,
        };
        let mut cx = Context::from_waker(&shared.waker);
        let polled = catch_unwind(AssertUnwindSafe(|| poll(&mut driven, &mut cx)));
        let (step, mut panic) = polled.unwrap_or_else(|panic| (FlightStep::Done, Some(panic)));
        let result = match step {
            FlightStep::Ready => Driven::Ready,
            FlightStep::Pending => Driven::Waiting,
            FlightStep::Done => Driven::Over,
        };
        let settle = AssertUnwindSafe(|| match step {
            FlightStep::Ready => shared.put_back(driven, true),
            FlightStep::Pending => shared.put_back(driven, false),
            FlightStep::Done => shared.end(driven),
        });
        if let Err(another) = catch_unwind(settle) {
            keep_first(&mut panic, another);
        }
        resume(panic);
        result
    }

    /// Ends it from outside: it is dropped, at once, or by the passenger that is polling it as soon as that
    /// returns. Nobody waits for that. Wakes the passengers.
    #[cfg(feature = "publisher")]
    pub(crate) fn give_up(&self) {
        let given_up = std::mem::replace(&mut *self.0.stage.lock(), Stage::Over);
        both_even_if_one_panics(|| self.0.wakeups.signal.notify(), || drop(given_up));
    }

    #[cfg(feature = "publisher")]
    pub(crate) fn downgrade(&self) -> WeakSingleFlight<D> {
        WeakSingleFlight(TrackedArc::downgrade(&self.0))
    }
}

impl<D> Clone for SingleFlight<D> {
    fn clone(&self) -> Self {
        Self(TrackedArc::clone(&self.0))
    }
}

#[cfg(feature = "publisher")]
impl<D> WeakSingleFlight<D> {
    pub(crate) fn upgrade(&self) -> Option<SingleFlight<D>> {
        self.0.upgrade().map(SingleFlight)
    }
}

impl<D> FlightState<D> {
    /// Takes it, to be polled; or says why not.
    fn take(&self) -> Result<D, Driven> {
        let mut stage = self.stage.lock();
        match &*stage {
            Stage::Polled => return Err(Driven::Waiting),
            Stage::Over => return Err(Driven::Over),
            // AcqRel: pairs with the `swap`s in `wake_by_ref` and in `put_back`.
            Stage::Idle(_) if !self.wakeups.woken.swap(false, AcqRel) => {
                return Err(Driven::Waiting);
            }
            Stage::Idle(_) => {}
        }
        match std::mem::replace(&mut *stage, Stage::Polled) {
            Stage::Idle(driven) => Ok(driven),
            Stage::Polled | Stage::Over => Err(Driven::Waiting),
        }
    }

    /// Puts it back, or drops it if it was given up meanwhile. Notifies the passengers if there is something to look at
    /// for them: it was ready, or it was woken meanwhile, when they may have found it taken.
    fn put_back(&self, driven: D, was_ready: bool) {
        if was_ready {
            // AcqRel: as in `wake_by_ref`.
            self.wakeups.woken.swap(true, AcqRel);
        }
        let mut stage = self.stage.lock();
        let given_up = match &*stage {
            Stage::Polled => {
                *stage = Stage::Idle(driven);
                None
            }
            Stage::Idle(_) | Stage::Over => Some(driven),
        };
        drop(stage);
        if given_up.is_some() {
            // Those who wait were told by the one who gave it up.
            return drop(given_up);
        }
        // After it was put back: a passenger that is woken from now on finds it there. Acquire: pairs with
        // `wake_by_ref`.
        if was_ready || self.wakeups.woken.load(Acquire) {
            self.wakeups.signal.notify();
        }
    }

    /// Notifies the passengers, and drops it, which is over. In this order: the drop may take its time.
    fn end(&self, driven: D) {
        *self.stage.lock() = Stage::Over;
        both_even_if_one_panics(|| self.wakeups.signal.notify(), || drop(driven));
    }
}
