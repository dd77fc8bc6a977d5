//! What others do to a watch: they close it, or have it begin anew.
//!
//! A watch's orders are given under one short lock of its own, in which no user code runs. Whoever gives
//! them first notes the order, then takes the places of the watch's readers, which frees what these kept, then
//! wakes the task. The watch looks for orders before it reads, so it never takes the end of a reader for
//! something else.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::task::{Wake, Waker};

use super::error::WatchError;
use super::update::ResetReason;
use crate::error::SharedError;
use crate::link::{Closable, Closed, Closer};
use crate::sync::{AtomicBool, AtomicU64, Mutex};
use crate::unwind::{both_even_if_one_panics, even_if_it_panics};

/// The part of a watch that the hub and closers share with it.
pub(super) struct Control {
    /// There are orders that the watch has not obeyed.
    ordered: AtomicBool,
    orders: Mutex<WatchOrders>,
    /// The watch's task, while it waits.
    waker: Mutex<Option<Waker>>,
    /// The index that the watch has come to, for marks of progress. The greatest number while it has none.
    given: AtomicU64,
}

#[derive(Default)]
struct WatchOrders {
    /// Why the watch ends. The first reason sticks.
    end: Option<WatchError>,
    /// Why the watch begins anew.
    reset: Option<ResetReason>,
    /// Of the watch's readers.
    closers: Vec<Closer>,
}

/// What the watch's links, snapshots and closers wake: its task, once, whoever comes first.
impl Wake for Control {
    fn wake(self: Arc<Self>) {
        self.wake_task();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_task();
    }
}

/// What a watch is to do.
pub(super) enum Order {
    End(WatchError),
    Reset(ResetReason),
}

/// A watch that was given an order. Dropping this takes its readers' places and wakes its task, which
/// runs user code.
#[must_use]
pub(super) struct Ordered {
    control: Arc<Control>,
    closers: Vec<Closer>,
    /// The places that were taken.
    closed: Vec<Closed>,
    /// The task, which is woken even if another one has polled the watch by then, or dropped it.
    waker: Option<Waker>,
}

/// Why the readers of a watch are closed: its orders say.
const SEE_ORDERS: &str = "the watch has orders";

impl Control {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            ordered: AtomicBool::new(false),
            orders: Mutex::default(),
            waker: Mutex::default(),
            given: AtomicU64::new(u64::MAX),
        })
    }

    /// WatchOrders the watch to end, unless it was before. Runs no user code.
    pub(super) fn end(self: &Arc<Self>, error: WatchError) -> Option<Ordered> {
        let mut orders = self.orders.lock();
        if orders.end.is_some() {
            return None;
        }
        orders.end = Some(error);
        Some(self.order(&mut orders))
    }

    /// WatchOrders the watch to begin anew. Runs no user code.
    pub(super) fn reset(self: &Arc<Self>, reason: ResetReason) -> Ordered {
        let mut orders = self.orders.lock();
        orders.reset = Some(reason);
        self.order(&mut orders)
    }

    fn order(self: &Arc<Self>, orders: &mut WatchOrders) -> Ordered {
        // Release: pairs with the Acquire in `take_order`.
        self.ordered.store(true, Release);
        Ordered {
            control: Arc::clone(self),
            closers: mem::take(&mut orders.closers),
            closed: Vec::new(),
            waker: None,
        }
    }

    /// For the watch: what it is to do. The end is not taken, but found again each time.
    #[inline]
    pub(super) fn take_order(&self) -> Option<Order> {
        // Acquire: pairs with the Release in `order`.
        if !self.ordered.load(Acquire) {
            return None;
        }
        self.find_order()
    }

    /// Returns `true` if there are orders that the watch has not obeyed.
    pub(super) fn has_orders(&self) -> bool {
        // Acquire: as in `take_order`.
        self.ordered.load(Acquire)
    }

    #[cold]
    fn find_order(&self) -> Option<Order> {
        let mut orders = self.orders.lock();
        if let Some(error) = &orders.end {
            return Some(Order::End(error.clone()));
        }
        // Relaxed: written under the lock.
        self.ordered.store(false, Relaxed);
        orders.reset.take().map(Order::Reset)
    }

    /// Notes the readers that the watch has from now on. Returns `false` if the watch is closed: it is not to
    /// have any.
    pub(super) fn follow(&self, closers: Vec<Closer>) -> bool {
        let mut orders = self.orders.lock();
        let before = mem::replace(&mut orders.closers, closers);
        let is_open = orders.end.is_none();
        if is_open {
            // It is of the readers before.
            orders.reset = None;
            self.ordered.store(false, Relaxed);
        }
        drop(orders);
        drop(before);
        is_open
    }

    pub(super) fn is_ended(&self) -> bool {
        self.orders.lock().end.is_some()
    }

    /// Notes the task that waits, before anything is registered that wakes it. Its waker is cloned and dropped under no
    /// lock. Without a task the one that waits stays the same.
    pub(super) fn wait(&self, task: Option<&Waker>) {
        let Some(waker) = task else { return };
        let is_known = |known: &Option<Waker>| known.as_ref().is_some_and(|w| w.will_wake(waker));
        if is_known(&self.waker.lock()) {
            return;
        }
        let new = Some(waker.clone());
        let before = mem::replace(&mut *self.waker.lock(), new);
        drop(before);
    }

    /// The task no longer waits.
    pub(super) fn stop_waiting(&self) {
        let mut before = self.waker.lock().take();
        // This is a drop itself: a second panic would abort.
        even_if_it_panics(|| drop(before.take()));
    }

    /// Wakes the task, unless it was woken since it waits. Runs user code.
    pub(super) fn wake_task(&self) {
        let waker = self.waker.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Wakes the task if the watch has not come to that index. Runs user code.
    pub(super) fn wake_if_behind(&self, index: u64) {
        // Looked at under the lock, after the mark was made: a watch that notes its task after this sees the mark.
        let waker = {
            let mut waker = self.waker.lock();
            let is_behind = self.given.load(Relaxed) < index;
            waker.take_if(|_| is_behind)
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn give(&self, index: u64) {
        // Relaxed: read under the lock that `wait` takes after this.
        self.given.store(index, Relaxed);
    }
}

impl Ordered {
    /// Takes the places of the watch's readers. Runs no user code.
    pub(super) fn take_places(&mut self) {
        let closers = mem::take(&mut self.closers);
        let close = |closer: &Closer| closer.close_deferred(SEE_ORDERS);
        self.closed.extend(closers.iter().filter_map(close));
        self.waker = self
            .waker
            .take()
            .or_else(|| self.control.waker.lock().take());
    }
}

impl Drop for Ordered {
    fn drop(&mut self) {
        self.take_places();
        let mut closed = mem::take(&mut self.closed).into_iter();
        let waker = self.waker.take();
        both_even_if_one_panics(
            || waker.into_iter().for_each(Waker::wake),
            || crate::unwind::for_each_even_if_one_panics(closed.by_ref(), drop),
        );
    }
}

/// Closes one watch, for [`Watch::closer`](super::Watch::closer).
impl Closable for Control {
    fn close(self: Arc<Self>, reason: SharedError) -> Option<Closed> {
        let mut ordered = self.end(WatchError::ForceClosed(reason))?;
        ordered.take_places();
        Some(Closed(Some(Box::new(ordered))))
    }

    fn is_closed(&self) -> bool {
        self.is_ended()
    }
}
