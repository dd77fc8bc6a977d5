//! What is to be done after publishing: user code, which must not run under a lock.
//!
//! The order is always the same: wake the tasks that wait, enforce the limits that are due, then drop
//! events. Each step is taken even if an earlier one panics.

use std::mem;
use std::sync::Arc;

use super::registry::{NodeRef, OwnedNode, PlaceRef, Shared};
use crate::unwind::{both_even_if_one_panics, resume};

/// What is to be done after publishing: wake the readers that wait, enforce limits that are due.
///
/// It is `None` if no reader has made [requests](NodeRef::take_requests) at the first of the slots
/// just written. Dropping it does the work, which runs user code, so it must not be dropped under a
/// lock.
#[must_use]
pub(crate) struct Wake<T>(pub(super) Option<Written<T>>);

/// The first of some items just published, and how many they are.
pub(super) struct Written<T> {
    pub(super) owned: OwnedNode<T>,
    pub(super) seq: u64,
    pub(super) items: u64,
}

impl<T> Drop for Wake<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(written) = self.0.take() {
            fulfil(written, None);
        }
    }
}

/// What is to be done after publishing under a lock, once that is released.
///
/// Dropping it wakes the readers that wait, drops the items that have left the window, and enforces
/// the limits that are due.
#[must_use]
pub(crate) struct Later<T> {
    pub(super) wake: Wake<T>,
    pub(super) trimmed: Option<NodeRef<T>>,
}

impl<T> Later<T> {
    /// Wakes the readers now, ahead of the rest.
    #[cfg(feature = "publisher")]
    pub(crate) fn wake(&self) {
        if let Some(Written { owned, .. }) = &self.wake.0 {
            if owned.node_ref().take_waiting_bit() {
                owned.link().notify();
            }
        }
    }
}

impl<T> Drop for Later<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(written) = self.wake.0.take() {
            fulfil(written, self.trimmed.take());
        }
    }
}

/// Does what was requested, then drops `trimmed`. Out of line: publishing without requests is a few
/// instructions.
#[cold]
#[inline(never)]
fn fulfil<T>(written: Written<T>, trimmed: Option<NodeRef<T>>) {
    let requests = written.owned.node_ref().take_requests();
    // These are dropped in reverse order, each even if another one panics: the written slot first,
    // because it would keep all later items alive while events are dropped; then the trimmed items;
    // and the limits are enforced last.
    let mut limits = EnforceLimits(None);
    let (_trimmed, written) = (trimmed, written);
    let notify = || {
        if requests.wake {
            written.owned.link().notify();
        }
    };
    if requests.enforce_limits {
        both_even_if_one_panics(notify, || measure(&written, &mut limits));
    } else {
        notify();
    }
}

/// Adds the sizes of what was published to the sums, if a reader is limited in bytes.
fn measure<T>(written: &Written<T>, limits: &mut EnforceLimits<T>) {
    let Written { owned, seq, items } = written;
    let shared = owned.shared();
    let mut panicked = None;
    let mut is_due = shared.limits().are_due(shared.published_since(0));
    if shared.limits().is_metered() {
        let node = owned.node_ref().as_ptr();
        // SAFETY: L3, by the reference in `owned`.
        let (due, panic) = unsafe { shared.measure(node, *seq, *items) };
        is_due |= due;
        panicked = panic;
    }
    if is_due {
        limits.0 = Some(owned.owner());
    }
    resume(panicked);
}

/// What is to be done after a splice.
///
/// Dropping it wakes the readers, and enforces the limits of the readers that continue in another
/// buffer. This runs user code, so it must not be dropped under a lock.
#[must_use]
pub(crate) struct Spliced<T> {
    // Dropped in this order, each even if another one panics: see `fulfil`.
    pub(super) wake: Wake<T>,
    pub(super) observers: HandedOn<T>,
    pub(super) meter: MeterAgain<T>,
    pub(super) _limits: EnforceLimits<T>,
    /// The target, if it led back to this buffer.
    pub(super) _refused: Option<PlaceRef<T>>,
}

impl<T> Spliced<T> {
    /// Wakes everything that waits, and measures what follows the splice, before events are
    /// dropped.
    pub(crate) fn wake(&mut self) {
        let wake = mem::replace(&mut self.wake, Wake(None));
        let observers = mem::replace(&mut self.observers, HandedOn(None));
        let meter = mem::replace(&mut self.meter, MeterAgain(None));
        drop((wake, observers, meter));
    }
}

/// Corrects the observers handed on by a splice, and notifies the tasks that wait for their count.
///
/// Dropping it takes off the observers that left meanwhile, and then wakes the tasks that wait for
/// observers of this buffer, or for none.
pub(super) struct HandedOn<T>(pub(super) Option<Counts<T>>);

/// The two buffers of a splice, and how many observers too many were handed on.
pub(super) struct Counts<T> {
    pub(super) from: Arc<Shared<T>>,
    pub(super) to: Arc<Shared<T>>,
    pub(super) excess: isize,
}

impl<T> Drop for HandedOn<T> {
    fn drop(&mut self) {
        if let Some(Counts { from, to, excess }) = &self.0 {
            both_even_if_one_panics(|| to.add_observers(-excess), || from.notify_observed());
        }
    }
}

/// Dropping it asks the events from this place on for their sizes.
pub(super) struct MeterAgain<T>(pub(super) Option<PlaceRef<T>>);

impl<T> Drop for MeterAgain<T> {
    fn drop(&mut self) {
        if let Some(place) = &self.0 {
            place.meter_again();
        }
    }
}

/// Dropping it enforces the limits that are due.
pub(super) struct EnforceLimits<T>(pub(super) Option<Arc<Shared<T>>>);

impl<T> Drop for EnforceLimits<T> {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            shared.enforce_limits();
        }
    }
}
