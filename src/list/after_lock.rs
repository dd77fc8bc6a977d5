//! What is to be done after publishing: user code, which must not run under a lock.

use std::sync::Arc;

use super::registry::{NodeRef, PlaceRef, Shared};
use crate::unwind::Steps;

/// What is to be done after publishing or ending, once no lock is held.
///
/// Dropping it does that, in this order, and each even if what comes before panics:
///
/// 1. It wakes the tasks that wait.
/// 2. It asks the events for their sizes, if lag is limited in bytes.
/// 3. It drops the events that are not retained any more.
/// 4. It enforces the limits that are due, which drops events, too.
#[must_use]
pub(crate) struct Later<T> {
    /// `None` if there was no splice, no reader has made [requests](NodeRef::take_requests) at the
    /// first of the slots just written, and others have references to that.
    pub(super) written: Option<Written<T>>,
    /// The oldest item that has left the window, which keeps those after it.
    pub(super) trimmed: Option<NodeRef<T>>,
}

/// The first of some slots just written.
pub(super) struct Written<T> {
    pub(super) place: PlaceRef<T>,
    /// How many items were written.
    pub(super) items: u64,
    /// In a box, so that moving the usual case costs little.
    pub(super) splice: Option<Box<Splice<T>>>,
}

/// How a buffer has ended that was to be spliced.
pub(super) enum Splice<T> {
    Done {
        to: Arc<Shared<T>>,
        /// How many observers too many were handed on, because they left meanwhile.
        excess: isize,
        /// The buffer had limited readers, which are `to`'s now.
        limits: bool,
    },
    /// The target led back to the buffer.
    Refused(#[expect(dead_code, reason = "it is only dropped")] PlaceRef<T>),
}

impl<T> Later<T> {
    pub(super) const NOTHING: Self = Self {
        written: None,
        trimmed: None,
    };

    /// Wakes the readers now, ahead of the rest.
    #[cfg(feature = "publisher")]
    pub(crate) fn wake(&self) {
        if let Some(Written { place, .. }) = &self.written {
            if place.node_ref().take_waiting_bit() {
                place.link().notify();
            }
        }
    }
}

impl<T> Drop for Later<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(written) = self.written.take() {
            written.fulfil(self.trimmed.take());
        }
    }
}

impl<T> Written<T> {
    /// Does what is to be done, and drops `trimmed`. Out of line: publishing without requests is a
    /// few instructions.
    #[cold]
    #[inline(never)]
    pub(super) fn fulfil(self, trimmed: Option<NodeRef<T>>) {
        let requests = self.place.node_ref().take_requests();
        if requests.enforce_limits || self.splice.is_some() {
            return self.fulfil_all(trimmed, requests.wake);
        }
        // Dropped in reverse order, even if a waker panics. The slot comes first, because it would
        // keep all later items alive while events are dropped.
        let (_trimmed, written) = (trimmed, self);
        if requests.wake {
            written.place.link().notify();
        }
    }

    #[cold]
    fn fulfil_all(self, trimmed: Option<NodeRef<T>>, wake: bool) {
        let Self {
            place,
            items,
            splice,
        } = self;
        let mut steps = Steps::new();
        if wake {
            steps.take(|| place.link().notify());
        }
        let mut due = None;
        if let Some(Splice::Done { to, excess, limits }) = splice.as_deref() {
            steps.take(|| to.add_observers(-excess));
            steps.take(|| place.shared().notify_observed());
            if *limits {
                place.meter_again(&mut steps);
                due = Some(Arc::clone(to));
            }
        } else if place.measure(items, &mut steps) {
            due = Some(place.owner());
        }
        // The place would keep all later items alive while events are dropped, and all of these
        // would keep what the limits are to free.
        steps.take(|| drop((place, trimmed, splice)));
        if let Some(shared) = due {
            steps.take(|| shared.enforce_limits());
        }
        steps.finish();
    }
}
