//! What the readers of one buffer share besides its chain: counts, and how it ended.

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::limits::Limits;
use crate::error::SharedError;
use crate::link::{Signal, Waiters, wait_for};
use crate::sync::{AtomicIsize, AtomicPtr, AtomicU64, Mutex};

/// Set in `observers` once a splice has handed the count on.
const SPLICED: isize = 1;
const ONE: isize = 2;

pub(crate) struct Shared<T> {
    /// Items published so far: the sequence number of the last slot. May be less where nobody could
    /// see the newest, but not at the end.
    published: AtomicU64,
    /// Nodes in the blocks of memory that were given back.
    reclaimed: AtomicU64,
    /// A slot that was the last one not long ago, for readers that skip their backlog.
    recent: Recent,
    /// Subscriptions that will come to this buffer's end: those in it, and those in buffers that
    /// are spliced to it. After a splice only the number behind it counts: who goes over it is not
    /// taken off here.
    observers: AtomicIsize,
    /// Notified when the first observer joins, and when the last one leaves.
    observed: Signal,
    /// The tasks that wait for a link of this buffer to be written.
    waiters: Waiters,
    /// The readers whose lag is limited.
    limits: Limits<T>,
    /// Looked at by those who have seen the last slot written, or the `SPLICED` bit.
    ending: Mutex<Option<Ending<T>>>,
}

pub(crate) enum Ending<T> {
    Closed,
    Failed(SharedError),
    /// Goes on in another buffer, at its slot number `seq`.
    Spliced {
        to: Arc<Shared<T>>,
        seq: u64,
    },
}

impl<T> Clone for Ending<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Closed => Self::Closed,
            Self::Failed(error) => Self::Failed(error.clone()),
            Self::Spliced { to, seq } => Self::Spliced {
                to: Arc::clone(to),
                seq: *seq,
            },
        }
    }
}

impl<T> Shared<T> {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            published: AtomicU64::new(0),
            reclaimed: AtomicU64::new(0),
            recent: Recent::new(),
            observers: AtomicIsize::new(0),
            observed: Signal::default(),
            waiters: Waiters::default(),
            limits: Limits::new(),
            ending: Mutex::default(),
        })
    }

    #[inline]
    pub(super) fn publish(&self, seq: u64) {
        // Release: a plain store on the machines we know; pairs with the Acquire in `behind`.
        self.published.store(seq, Release);
    }

    pub(super) fn ending(&self) -> Option<Ending<T>> {
        self.ending.lock().clone()
    }

    /// Sets how the buffer ends. Its writer calls this once.
    ///
    /// A splice hands the count of observers on *before* it is visible, so that whoever follows all
    /// the time is counted all the time. The answer is by how many that was too many since some
    /// left meanwhile: to be taken off the other record, before its [`notify_observed`](Self::notify_observed).
    #[must_use]
    pub(super) fn end(&self, ending: Ending<T>) -> isize {
        let successor = match &ending {
            Ending::Spliced { to, .. } => Some(Arc::clone(to)),
            Ending::Closed | Ending::Failed(_) => None,
        };
        let fresh = self.ending.lock().replace(ending).is_none();
        debug_assert!(fresh, "a buffer ends once");
        let Some(next) = successor else { return 0 };
        // Acquire, here and on failure: pairs with the RMW in `add_observers_here`.
        let mut seen = self.observers.load(Acquire);
        let mut handed = 0;
        loop {
            if seen > handed {
                next.count_observers(seen - handed, false);
                handed = seen;
            }
            // AcqRel: whoever sees the bit from here on sees the ending too, and hands on itself.
            let marked = seen | SPLICED;
            match self
                .observers
                .compare_exchange(seen, marked, AcqRel, Acquire)
            {
                Ok(_) => return handed - seen,
                Err(now) => seen = now,
            }
        }
    }

    /// The record of the buffer that this one was spliced to, and the place in it.
    pub(super) fn successor(&self) -> Option<(Arc<Self>, u64)> {
        // Acquire: pairs with the RMW in `end`.
        if self.observers.load(Acquire) & SPLICED == 0 {
            return None;
        }
        match self.ending()? {
            Ending::Spliced { to, seq } => Some((to, seq)),
            Ending::Closed | Ending::Failed(_) => None,
        }
    }

    /// Items of this buffer published from `seq` on.
    pub(super) fn published_since(&self, seq: u64) -> u64 {
        // Acquire: see `publish`.
        self.published.load(Acquire).saturating_sub(seq)
    }

    pub(super) fn reclaimed(&self) -> &AtomicU64 {
        &self.reclaimed
    }

    pub(super) fn recent(&self) -> &Recent {
        &self.recent
    }

    /// Items published from `seq` on, those behind splices included.
    pub(super) fn lag(&self, seq: u64) -> u64 {
        // The ending first: behind an ending nothing more is published.
        let mut successor = self.successor();
        let mut lag = self.published_since(seq);
        while let Some((shared, seq)) = successor {
            successor = shared.successor();
            lag += shared.published_since(seq);
        }
        lag
    }

    pub(super) fn add_observer(&self) {
        self.add_observers(ONE);
    }

    pub(super) fn remove_observer(&self) {
        self.add_observers(-ONE);
    }

    /// Adds to the count, here and in the buffers that this one leads to. Wakes the tasks that wait for the first
    /// observer, or for the last one to leave.
    pub(super) fn add_observers(&self, count: isize) {
        self.count_observers(count, true);
    }

    /// Adds to the count. If that is not to notify, [`notify_observed`](Self::notify_observed) is to follow.
    #[inline]
    fn count_observers(&self, count: isize, notifies: bool) {
        let mut successor = self.add_observers_here(count, notifies);
        while let Some(shared) = successor {
            successor = shared.add_observers_here(count, notifies);
        }
    }

    /// Returns the next record to be told.
    fn add_observers_here(&self, count: isize, notifies: bool) -> Option<Arc<Self>> {
        // AcqRel: pairs with the `fetch_or` in `end`, and with `is_observed`.
        let before = self.observers.fetch_add(count, AcqRel);
        let was_observed = before & !SPLICED > 0;
        let is_observed = (before & !SPLICED) + count > 0;
        if notifies && was_observed != is_observed {
            self.observed.notify();
        }
        if before & SPLICED == 0 {
            return None;
        }
        self.successor().map(|(next, _)| next)
    }

    /// Wakes the tasks that wait for observers, or for none, here and in the buffers that this one leads to.
    pub(super) fn notify_observed(&self) {
        self.observed.notify();
        let mut successor = self.successor();
        while let Some((shared, _)) = successor {
            shared.observed.notify();
            successor = shared.successor();
        }
    }

    #[inline]
    pub(crate) fn is_observed(&self) -> bool {
        // Acquire: pairs with the RMW in `add_observers`.
        self.observers.load(Acquire) & !SPLICED > 0
    }

    /// How many there are.
    pub(super) fn observers(&self) -> usize {
        // Acquire: as above.
        let observers = self.observers.load(Acquire) / ONE;
        usize::try_from(observers).unwrap_or(0)
    }

    /// Returns `true` if it continues in another buffer. Its own count of observers means nothing then.
    fn is_spliced(&self) -> bool {
        // Acquire: as above.
        self.observers.load(Acquire) & SPLICED != 0
    }

    /// Waits until there is an observer, or the buffer continues in another.
    pub(crate) async fn until_observed(&self) {
        let is_done = || self.is_observed() || self.is_spliced();
        wait_for(&self.observed.when(is_done)).await;
    }

    /// Waits until there is no observer, or the buffer continues in another.
    pub(crate) async fn until_unobserved(&self) {
        let is_done = || !self.is_observed() || self.is_spliced();
        wait_for(&self.observed.when(is_done)).await;
    }

    /// Whether nothing more will be published here, nor in the buffers that this one leads to.
    pub(super) fn has_ended(&self) -> bool {
        let mut ending = self.ending();
        while let Some(Ending::Spliced { to, .. }) = ending {
            ending = to.ending();
        }
        ending.is_some()
    }

    pub(super) fn waiters(&self) -> &Waiters {
        &self.waiters
    }

    #[inline]
    pub(super) fn limits(&self) -> &Limits<T> {
        &self.limits
    }
}

/// A node and its sequence number, written by the one writer and read together.
pub(super) struct Recent {
    /// `NONE` while the node is being written.
    seq: AtomicU64,
    node: AtomicPtr<()>,
}

impl Recent {
    const NONE: u64 = u64::MAX;

    fn new() -> Self {
        Self {
            seq: AtomicU64::new(Self::NONE),
            node: AtomicPtr::new(ptr::null_mut()),
        }
    }

    #[inline]
    pub(super) fn set(&self, seq: u64, node: *mut ()) {
        // Relaxed: ordered before the node by the Release below.
        self.seq.store(Self::NONE, Relaxed);
        // Release: a reader that sees this node sees that its number is gone, or a later one.
        self.node.store(node, Release);
        // Release: a reader that sees this number sees this node, or a later one.
        self.seq.store(seq, Release);
    }

    pub(super) fn get(&self) -> Option<(u64, *mut ())> {
        // Acquire, both: pair with the Releases in `set`.
        let seq = self.seq.load(Acquire);
        let node = self.node.load(Acquire);
        // Relaxed: ordered after the node by its Acquire. If the node belongs to a later number, this differs.
        let again = self.seq.load(Relaxed);
        (seq == again && seq != Self::NONE).then_some((seq, node))
    }
}

impl<T> Drop for Shared<T> {
    /// A loop, since each record of a long chain of splices owns the next.
    fn drop(&mut self) {
        let mut successor = self.ending.lock().take();
        while let Some(Ending::Spliced { to, .. }) = successor {
            successor = Arc::into_inner(to).and_then(|shared| shared.ending.lock().take());
        }
    }
}
