//! A future or a stream that several tasks wait for, and any of them drives.
//!
//! A shared source or the handler of a snapshot has no task of its own. The tasks that wait for it,
//! its *passengers*, poll it themselves, one at a time. This needs neither a spawned task nor a
//! runtime.
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
//! * **It is polled only after it was woken**, or was ready, or has just been created: not once for
//!   each passenger.
//! * **All passengers are woken.** A passenger that is dropped, or never polled again, does not
//!   hold up the others: the next one that is polled drives.
//! * **No wake-up is lost.** A passenger registers, looks for what it waits for, and tries to
//!   drive, in this order. If another passenger is polling just then, that one notifies all
//!   passengers after its poll, if that was ready, was the last, or was interrupted by a wake-up.
//! * **No lock is held** while it is polled or dropped. It may therefore poll one of its own
//!   passengers, which finds it taken and waits.
//! * **Its waker owns no part of it**, so keeping the waker makes no cycle.

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::task::{Context, Wake, Waker};

use crate::link::{Awaited, Event, Registration, Signal, Waiters};
#[cfg(feature = "publisher")]
use crate::sync::TrackedWeak;
use crate::sync::{AtomicBool, Mutex, TrackedArc};
use crate::unwind::Steps;

/// A handle to a `D` that the owners of the handles drive.
///
/// The `D` is dropped when it is done, panics or is [given up](Self::give_up), and at the latest
/// with the last handle.
pub(crate) struct SingleFlight<D>(TrackedArc<FlightState<D>>);

/// A handle that does not keep the `D`.
#[cfg(feature = "publisher")]
pub(crate) struct WeakSingleFlight<D>(TrackedWeak<FlightState<D>>);

struct FlightState<D> {
    stage: Mutex<Stage<D>>,
    wakeups: Arc<Wakeups>,
    waker: Waker,
}

enum Stage<D> {
    Idle(D),
    /// A passenger has taken it, and polls it.
    Polled,
    /// It is done, or was given up. A passenger that is polling it drops it afterwards.
    Over,
}

/// The target of the waker that `D` is polled with. It wakes the passengers.
struct Wakeups {
    signal: Signal,
    /// Set if `D` may be ready, because it has not been polled since it was woken.
    woken: AtomicBool,
}

/// The result of one poll.
#[derive(Clone, Copy)]
pub(crate) enum FlightStep {
    /// It was ready, and may be so again.
    Ready,
    /// It was not ready, and wakes the waker that it was polled with.
    Pending,
    /// It is done.
    Done,
}

/// The result of an attempt to drive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Driven {
    /// It was ready: the passenger must look at the outcome.
    Ready,
    /// There is nothing to do until the passenger is woken.
    Waiting,
    /// It is done, or was given up.
    Over,
}

/// The registration of a passenger's task. Dropping it ends the registration.
#[derive(Default)]
pub(crate) struct Passenger(Option<Registration<Passengers>>);

/// The event that passengers wait for.
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

    /// Always false, because only the passenger can look for what it waits for.
    fn has_happened(&self) -> bool {
        false
    }
}

impl Wake for Wakeups {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // AcqRel: pairs with the `swap` in `take`. Both are read-modify-writes, so one comes first:
        // either `take` sees this wake-up, or this sees that the flag was taken.
        let was_woken = self.woken.swap(true, AcqRel);
        // If the flag was set, the passengers have been notified, or are about to be.
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

    /// Registers a task to be woken.
    ///
    /// After this the passenger must look for what it waits for, and try to [drive](Self::drive).
    /// Otherwise it may miss a wake-up that came before the registration.
    pub(crate) fn register(&self, passenger: &mut Passenger, waker: &Waker) {
        let passengers = || Passengers(Arc::clone(&self.0.wakeups));
        // Always pending: see `has_happened`.
        _ = Registration::poll(&mut passenger.0, passengers, waker);
    }

    /// Polls it if it may be ready and no other passenger is polling it.
    ///
    /// # Panics
    ///
    /// If `poll` does; it is over then, and the passengers are notified first.
    pub(crate) fn drive(
        &self,
        poll: impl FnOnce(&mut D, &mut Context<'_>) -> FlightStep,
    ) -> Driven {
        let shared = &*self.0;
        let mut driven = match shared.take() {
            Ok(driven) => driven,
            Err(instead) => return instead,
        };
        let mut cx = Context::from_waker(&shared.waker);
        let mut steps = Steps::new();
        let polled = steps.take(|| poll(&mut driven, &mut cx));
        let step = polled.unwrap_or(FlightStep::Done);
        let result = match step {
            FlightStep::Ready => Driven::Ready,
            FlightStep::Pending => Driven::Waiting,
            FlightStep::Done => Driven::Over,
        };
        steps.take(|| match step {
            FlightStep::Ready => shared.put_back(driven, true),
            FlightStep::Pending => shared.put_back(driven, false),
            FlightStep::Done => shared.end(driven),
        });
        steps.finish();
        result
    }

    /// Ends it from outside, and wakes the passengers.
    ///
    /// It is dropped at once; if a passenger is polling it, that one drops it after the poll. This
    /// does not wait for that.
    #[cfg(feature = "publisher")]
    pub(crate) fn give_up(&self) {
        // Dropped after the passengers are notified, even if one of their wakers panics.
        let _given_up = std::mem::replace(&mut *self.0.stage.lock(), Stage::Over);
        self.0.wakeups.signal.notify();
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
    /// Takes it to be polled. If it cannot be taken, returns the result of the attempt to drive.
    fn take(&self) -> Result<D, Driven> {
        let mut stage = self.stage.lock();
        match &*stage {
            Stage::Polled => return Err(Driven::Waiting),
            Stage::Over => return Err(Driven::Over),
            // AcqRel: pairs with the `swap`s in `wake_by_ref` and in `put_back`. Only now, before
            // the poll: a wake-up that comes during the poll sets the flag again.
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

    /// Puts it back, or drops it if it was given up meanwhile.
    ///
    /// Notifies the passengers if it was ready, or if it was woken during the poll: they may have
    /// found it taken then, and wait.
    fn put_back(&self, driven: D, was_ready: bool) {
        if was_ready {
            // It may be ready again. AcqRel: pairs with the `swap` in `take`, like `wake_by_ref`.
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
            // The call that gave it up has notified the passengers.
            return drop(given_up);
        }
        // Only now that it was put back, so that a passenger that is woken finds it there. Acquire:
        // pairs with the `swap` in `wake_by_ref`.
        if was_ready || self.wakeups.woken.load(Acquire) {
            self.wakeups.signal.notify();
        }
    }

    /// Marks it as over, notifies the passengers and then drops it, since the drop may take long.
    fn end(&self, driven: D) {
        *self.stage.lock() = Stage::Over;
        // Dropped even if a waker panics.
        let _driven = driven;
        self.wakeups.signal.notify();
    }
}
