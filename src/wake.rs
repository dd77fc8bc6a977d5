//! Waking without a lock held.
//!
//! `event-listener` clones, replaces and wakes wakers under its own lock. A waker's `wake` or
//! `drop` is foreign code: it may poll or drop a subscription right there, or panic (tokio issue
//! 5429 is such a deadlock). So what listens is never a task's waker but a [`Relay`] around it.
//! Under the lock a relay only notes itself down; once the lock is released [`notify`] wakes the
//! tasks behind the relays, each of them even if one panics.

use std::cell::RefCell;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::task::{Wake, Waker};

use event_listener::{Event, IntoNotification};

use crate::sync::thread_local;

thread_local! {
    /// The relays woken by the `notify` that runs on this thread, while it runs.
    // loom's macro knows no `const` initialisers.
    #[allow(clippy::missing_const_for_thread_local)]
    static WOKEN: RefCell<Option<Vec<Arc<Relay>>>> = RefCell::new(None);
}

/// Stands for a task's waker in an event's list. Immutable: used again as long as the task
/// stays the same.
struct Relay(Waker);

impl Wake for Relay {
    fn wake(self: Arc<Self>) {
        let relay = WOKEN.with(|woken| match &mut *woken.borrow_mut() {
            Some(woken) => {
                woken.push(self);
                None
            }
            None => Some(self),
        });
        if let Some(relay) = relay {
            relay.0.wake_by_ref();
        }
    }
}

/// The relay of a reader, made when it first waits.
#[derive(Default)]
pub(crate) struct RelaySlot(Option<(Arc<Relay>, Waker)>);

impl RelaySlot {
    /// Makes the relay stand for `waker`. The answer, where it stood for another so far, is the
    /// old one: to be dropped after the listener has let go of it, since the last one to go
    /// drops a task's waker.
    pub(crate) fn aim(&mut self, waker: &Waker) -> Result<(), Self> {
        match &self.0 {
            Some((relay, _)) if relay.0.will_wake(waker) => Ok(()),
            _ => {
                let relay = Arc::new(Relay(waker.clone()));
                let as_waker = Waker::from(Arc::clone(&relay));
                Err(Self(self.0.replace((relay, as_waker))))
            }
        }
    }

    pub(crate) fn waker(&self) -> &Waker {
        self.0.as_ref().map_or(Waker::noop(), |(_, waker)| waker)
    }
}

/// Wakes everybody who listens to the event. No lock is held while a task's waker runs.
#[cold]
pub(crate) fn notify(event: &Event) {
    let outer = WOKEN.with(|woken| woken.replace(Some(Vec::new())));
    // Relaxed: the callers order what they publish by an RMW of their own, or by the lock inside.
    event.notify(usize::MAX.relaxed());
    let woken = WOKEN.with(|woken| mem::replace(&mut *woken.borrow_mut(), outer));
    let mut panicked = None;
    for relay in woken.into_iter().flatten() {
        let waking = catch_unwind(AssertUnwindSafe(|| {
            relay.0.wake_by_ref();
            drop(relay);
        }));
        if let Err(panic) = waking {
            panicked.get_or_insert(panic);
        }
    }
    if let Some(panic) = panicked {
        // Do not turn a panic while panicking into an abort.
        if !std::thread::panicking() {
            resume_unwind(panic);
        }
    }
}
