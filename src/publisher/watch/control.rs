//! Closing and resetting a watch from outside.
//!
//! A watch gets orders under a short lock of its own, in which no user code runs. The caller
//! records the order first. Then it closes the watch's readers, which frees what they kept. Then it
//! wakes the task. The watch looks for orders before it reads, so it never mistakes a closed reader
//! for the end of the publisher.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::task::{Wake, Waker};

use crate::error::SharedError;
use crate::link::{Closable, Closed, Closer};
use crate::publisher::report::error::ResetReason;
use crate::publisher::report::error::WatchError;
use crate::sync::{AtomicBool, AtomicU64, Mutex};

/// The part of a watch that it shares with the hub and with its closers.
pub(crate) struct Control {
    /// Set while there are orders that the watch has not carried out.
    ordered: AtomicBool,
    orders: Mutex<WatchOrders>,
    /// The watch's task, while it waits.
    waker: Mutex<Option<Waker>>,
    /// The index that the watch has reached, for marks of progress; `u64::MAX` while it has none.
    reached: AtomicU64,
}

#[derive(Default)]
struct WatchOrders {
    /// Why the watch ends. Once set, it stays.
    end: Option<WatchError>,
    /// Why the watch starts over.
    reset: Option<ResetReason>,
    /// Close the watch's readers.
    closers: Vec<Closer>,
}

/// Links, snapshots and closers wake the watch through this: its task is woken once, by the first.
impl Wake for Control {
    fn wake(self: Arc<Self>) {
        self.wake_task();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_task();
    }
}

/// What a watch is ordered to do.
pub(crate) enum Order {
    End(WatchError),
    Reset(ResetReason),
}

/// A watch that was given an order. Dropping this closes its readers and wakes its task, which runs
/// user code.
#[must_use]
pub(crate) struct Ordered {
    control: Arc<Control>,
    closers: Vec<Closer>,
    /// The readers that were closed, to be freed.
    closed: Vec<Closed>,
    /// The task, which is woken even if another task has polled the watch by then, or dropped it.
    waker: Option<Waker>,
}

/// The reason that readers are closed with. The watch takes the real one from its orders.
const SEE_ORDERS: &str = "the watch has orders";

impl Control {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            ordered: AtomicBool::new(false),
            orders: Mutex::default(),
            waker: Mutex::default(),
            reached: AtomicU64::new(u64::MAX),
        })
    }

    /// Orders the watch to end, unless it was ordered before. Runs no user code.
    pub(crate) fn end(self: &Arc<Self>, error: WatchError) -> Option<Ordered> {
        let mut orders = self.orders.lock();
        if orders.end.is_some() {
            return None;
        }
        orders.end = Some(error);
        Some(self.order(&mut orders))
    }

    /// Orders the watch to start over. Runs no user code.
    pub(crate) fn reset(self: &Arc<Self>, reason: ResetReason) -> Ordered {
        let mut orders = self.orders.lock();
        orders.reset = Some(reason);
        self.order(&mut orders)
    }

    fn order(self: &Arc<Self>, orders: &mut WatchOrders) -> Ordered {
        // Release: pairs with the Acquire in `take_order` and `has_orders`.
        self.ordered.store(true, Release);
        Ordered {
            control: Arc::clone(self),
            closers: mem::take(&mut orders.closers),
            closed: Vec::new(),
            waker: None,
        }
    }

    /// Returns what the watch has to do. An order to end stays, and is returned each time.
    #[inline]
    pub(crate) fn take_order(&self) -> Option<Order> {
        // Acquire: pairs with the Release in `order`.
        if !self.ordered.load(Acquire) {
            return None;
        }
        self.find_order()
    }

    /// Returns `true` if there are orders that the watch has not carried out.
    pub(crate) fn has_orders(&self) -> bool {
        // Acquire: pairs with the Release in `order`.
        self.ordered.load(Acquire)
    }

    #[cold]
    fn find_order(&self) -> Option<Order> {
        let mut orders = self.orders.lock();
        if let Some(error) = &orders.end {
            return Some(Order::End(error.clone()));
        }
        // Relaxed: `order` writes it under the same lock, so that no order is overlooked.
        self.ordered.store(false, Relaxed);
        orders.reset.take().map(Order::Reset)
    }

    /// Registers the watch's present readers, to be closed with the next order. Returns `false` if
    /// the watch is ordered to end, and so must not have any.
    pub(crate) fn follow(&self, closers: Vec<Closer>) -> bool {
        let mut orders = self.orders.lock();
        let before = mem::replace(&mut orders.closers, closers);
        let is_open = orders.end.is_none();
        if is_open {
            // An order to start over was meant for the former readers.
            orders.reset = None;
            self.ordered.store(false, Relaxed);
        }
        drop(orders);
        drop(before);
        is_open
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.orders.lock().end.is_some()
    }

    /// Registers the task that waits. Must be called before anything that wakes the watch is
    /// registered. The waker is cloned and dropped without the lock. Without a task, the one that
    /// waits already stays.
    pub(crate) fn wait(&self, task: Option<&Waker>) {
        let Some(waker) = task else { return };
        let is_known = |known: &Option<Waker>| known.as_ref().is_some_and(|w| w.will_wake(waker));
        if is_known(&self.waker.lock()) {
            return;
        }
        let new = Some(waker.clone());
        let before = mem::replace(&mut *self.waker.lock(), new);
        drop(before);
    }

    /// Forgets the task, which no longer waits. The waker must not be dropped under a lock.
    pub(crate) fn stop_waiting(&self) -> Option<Waker> {
        self.waker.lock().take()
    }

    /// Wakes the task, unless it has been woken since it began to wait. Runs user code.
    pub(crate) fn wake_task(&self) {
        let waker = self.waker.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Wakes the task if the watch has not reached `index`. Runs user code.
    pub(crate) fn wake_if_behind(&self, index: u64) {
        // Checked under the waker's lock, after the mark was made: a watch that registers its task
        // later sees the mark when it looks again.
        let waker = {
            let mut waker = self.waker.lock();
            let is_behind = self.reached.load(Relaxed) < index;
            waker.take_if(|_| is_behind)
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn set_reached(&self, index: u64) {
        // Relaxed: `wait` takes the waker's lock after this, and `wake_if_behind` reads it under
        // that lock.
        self.reached.store(index, Relaxed);
    }
}

impl Ordered {
    /// Closes the watch's readers. Runs no user code.
    pub(crate) fn close_readers(&mut self) {
        let closers = mem::take(&mut self.closers);
        let close = |closer: &Closer| closer.close_deferred(SEE_ORDERS);
        self.closed.extend(closers.iter().filter_map(close));
        self.waker = self
            .waker
            .take()
            .or_else(|| self.control.waker.lock().take());
    }

    /// Wakes the task, once its readers are closed. Runs user code.
    pub(crate) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Drop for Ordered {
    fn drop(&mut self) {
        self.close_readers();
        // If this panics, `closed` is still dropped, as a field.
        self.wake();
    }
}

/// Closes a single watch, for [`Watch::closer`](crate::publisher::Watch::closer).
impl Closable for Control {
    fn close(self: Arc<Self>, reason: SharedError) -> Option<Closed> {
        let mut ordered = self.end(WatchError::ForceClosed(reason))?;
        ordered.close_readers();
        Some(Closed(Some(Box::new(ordered))))
    }

    fn is_closed(&self) -> bool {
        self.is_ended()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::Relaxed;
    use std::task::{Wake, Waker};

    use super::{Control, Order};
    use crate::publisher::report::error::ResetReason;
    use crate::publisher::report::error::{CloseReason, WatchError};

    const ENDED: WatchError = WatchError::Closed(CloseReason::KeyClosed);

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn an_order_to_end_stays_and_is_given_once() {
        let control = Control::new();
        assert!(control.take_order().is_none());
        assert!(control.end(ENDED).is_some());
        assert!(control.end(ENDED).is_none());
        for _ in 0..2 {
            assert!(matches!(control.take_order(), Some(Order::End(_))));
        }
        assert!(!control.follow(Vec::new()), "it must not have readers");
    }

    #[test]
    fn an_order_to_start_over_is_taken_once_and_ends_with_its_readers() {
        let control = Control::new();
        drop(control.reset(ResetReason::Refreshed));
        assert!(matches!(control.take_order(), Some(Order::Reset(_))));
        assert!(!control.has_orders());
        drop(control.reset(ResetReason::Refreshed));
        assert!(control.follow(Vec::new()));
        assert!(control.take_order().is_none());
    }

    #[test]
    fn an_order_to_end_comes_before_one_to_start_over() {
        let control = Control::new();
        drop((control.reset(ResetReason::Refreshed), control.end(ENDED)));
        assert!(matches!(control.take_order(), Some(Order::End(_))));
    }

    #[test]
    fn a_task_is_woken_once_for_each_time_it_waits() {
        let (control, woken) = (Control::new(), Arc::new(Woken::default()));
        let task = Waker::from(Arc::clone(&woken));
        control.wait(Some(&task));
        control.wake_task();
        control.wake_task();
        assert_eq!(woken.0.load(Relaxed), 1);
        control.wait(Some(&task));
        drop(control.reset(ResetReason::Refreshed));
        assert_eq!(woken.0.load(Relaxed), 2);
        control.wait(Some(&task));
        drop(control.stop_waiting());
        control.wake_task();
        assert_eq!(woken.0.load(Relaxed), 2);
    }

    #[test]
    fn a_mark_of_progress_wakes_only_a_watch_that_is_behind() {
        let (control, woken) = (Control::new(), Arc::new(Woken::default()));
        control.wait(Some(&Waker::from(Arc::clone(&woken))));
        control.wake_if_behind(7);
        control.set_reached(7);
        control.wake_if_behind(7);
        assert_eq!(woken.0.load(Relaxed), 0);
        control.wake_if_behind(8);
        assert_eq!(woken.0.load(Relaxed), 1);
    }
}
