//! What the readers of one buffer share besides its chain: counts, waiters, limits, and the ending.

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::error::SharedError;
use crate::link::{Signal, Waiters, wait_for};
use crate::sync::{AtomicIsize, AtomicPtr, AtomicU64, Mutex};

/// Set in `observers` once a splice has handed the count on. Observers are counted above it.
const SPLICED: isize = 1;
const ONE: isize = 2;

/// The state of a buffer that its nodes lead to, whatever the type of the events.
///
/// `L` is what the buffer knows of its [limited readers](super::registry).
pub(crate) struct Shared<L> {
    /// The number of items published, which is the sequence number of the last slot. It may be too
    /// small while no reader could see the newest items, but not once the buffer has ended.
    published: AtomicU64,
    /// The number of nodes in blocks that have been freed.
    reclaimed: AtomicU64,
    /// A slot that was the last one recently, for readers that skip their backlog.
    recent: Recent,
    /// The subscriptions that will come to this buffer's end: those in it, and those in buffers
    /// that are spliced to it. After a splice, only the next buffer's count matters: a reader that
    /// follows the splice is not taken off here.
    observers: AtomicIsize,
    /// Notified when the first observer is added, and when the last one is removed.
    observed: Signal,
    /// The tasks that wait for a slot of this buffer.
    waiters: Waiters,
    /// The readers whose lag is limited.
    limits: L,
    /// Read by readers that have seen the last slot written, or the `SPLICED` bit.
    ending: Mutex<Option<Ending<L>>>,
}

pub(crate) enum Ending<L> {
    Closed,
    Failed(SharedError),
    /// Continues in another buffer, at its slot number `seq`.
    Spliced {
        to: Arc<Shared<L>>,
        seq: u64,
    },
}

impl<L> Clone for Ending<L> {
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

impl<L: Default> Shared<L> {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            published: AtomicU64::new(0),
            reclaimed: AtomicU64::new(0),
            recent: Recent::new(),
            observers: AtomicIsize::new(0),
            observed: Signal::default(),
            waiters: Waiters::default(),
            limits: L::default(),
            ending: Mutex::default(),
        })
    }
}

impl<L> Shared<L> {
    #[inline]
    pub(super) fn publish(&self, seq: u64) {
        // Release: a plain store on the machines we know. Pairs with the Acquire in
        // `published_since`.
        self.published.store(seq, Release);
    }

    pub(super) fn ending(&self) -> Option<Ending<L>> {
        self.ending.lock().clone()
    }

    /// Sets how the buffer ends. Its writer calls this once.
    ///
    /// A splice hands the count of observers on *before* it is visible, so that a reader that
    /// follows it is counted throughout. Returns how many too many were handed on because they left
    /// meanwhile. The caller takes these off the next buffer, before it calls
    /// [`notify_observed`](Self::notify_observed).
    #[must_use]
    pub(super) fn end(&self, ending: Ending<L>) -> isize {
        let successor = match &ending {
            Ending::Spliced { to, .. } => Some(Arc::clone(to)),
            Ending::Closed | Ending::Failed(_) => None,
        };
        let fresh = self.ending.lock().replace(ending).is_none();
        debug_assert!(fresh, "a buffer ends once");
        let Some(next) = successor else { return 0 };
        // Acquire, here and on failure: pairs with the read-modify-write in `add_observers_here`.
        let mut seen = self.observers.load(Acquire);
        let mut handed = 0;
        loop {
            if seen > handed {
                next.count_observers(seen - handed, false);
                handed = seen;
            }
            // AcqRel: a thread that sees the bit from here on sees the ending too, and hands its
            // own change on by itself.
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

    /// Returns the buffer that this one is spliced to, and the number of the place in it.
    pub(super) fn successor(&self) -> Option<(Arc<Self>, u64)> {
        // Acquire: pairs with the `compare_exchange` in `end`, so the ending is seen.
        if self.observers.load(Acquire) & SPLICED == 0 {
            return None;
        }
        match self.ending()? {
            Ending::Spliced { to, seq } => Some((to, seq)),
            Ending::Closed | Ending::Failed(_) => None,
        }
    }

    /// Returns how many items of this buffer were published from `seq` on.
    pub(super) fn published_since(&self, seq: u64) -> u64 {
        // Acquire: pairs with the Release in `publish`.
        self.published.load(Acquire).saturating_sub(seq)
    }

    pub(super) fn reclaimed(&self) -> &AtomicU64 {
        &self.reclaimed
    }

    pub(super) fn recent(&self) -> &Recent {
        &self.recent
    }

    /// Returns how many items were published from `seq` on, those after splices included.
    pub(super) fn lag(&self, seq: u64) -> u64 {
        // The successor first: once a buffer has ended, its own count is final.
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

    /// Adds `count` observers, here and in the buffers that this one leads to.
    ///
    /// Wakes the tasks that wait for the first observer, or for the last one to leave.
    pub(super) fn add_observers(&self, count: isize) {
        self.count_observers(count, true);
    }

    /// Adds `count` observers. Unless it `notifies`, the caller calls
    /// [`notify_observed`](Self::notify_observed) later.
    #[inline]
    fn count_observers(&self, count: isize, notifies: bool) {
        let mut successor = self.add_observers_here(count, notifies);
        while let Some(shared) = successor {
            successor = shared.add_observers_here(count, notifies);
        }
    }

    /// Returns the next buffer, whose count is to be changed, too.
    fn add_observers_here(&self, count: isize, notifies: bool) -> Option<Arc<Self>> {
        // AcqRel: pairs with the `compare_exchange` in `end`, and with the load in `is_observed`.
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

    /// Wakes the tasks that wait for observers, or for none, here and in the buffers ahead.
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
        // Acquire: pairs with the read-modify-write in `add_observers_here`.
        self.observers.load(Acquire) & !SPLICED > 0
    }

    /// Returns the number of observers.
    pub(super) fn observers(&self) -> usize {
        // Acquire: pairs with the read-modify-write in `add_observers_here`.
        let observers = self.observers.load(Acquire) / ONE;
        usize::try_from(observers).unwrap_or(0)
    }

    /// Returns `true` if the buffer continues in another. Its own count of observers means nothing
    /// then.
    fn is_spliced(&self) -> bool {
        // Acquire: pairs with the `compare_exchange` in `end`.
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

    /// Returns `true` if nothing more will be published, here or in the buffers ahead.
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
    pub(super) fn limits(&self) -> &L {
        &self.limits
    }
}

/// A node and its sequence number, written by the one writer and read as a pair (L8).
pub(super) struct Recent {
    /// The node's number; `NONE` while the pair is being changed.
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
        // Relaxed: the Release of the next store orders it before the node.
        self.seq.store(Self::NONE, Relaxed);
        // Release: a reader that sees this node sees that the old number is gone.
        self.node.store(node, Release);
        // Release: a reader that sees this number sees this node, or a later one.
        self.seq.store(seq, Release);
    }

    pub(super) fn get(&self) -> Option<(u64, *mut ())> {
        // Acquire, both: pair with the Releases in `set`.
        let seq = self.seq.load(Acquire);
        let node = self.node.load(Acquire);
        // Relaxed: the Acquire of the node orders it after that. If the node belongs to a later
        // number, the numbers differ.
        let again = self.seq.load(Relaxed);
        (seq == again && seq != Self::NONE).then_some((seq, node))
    }
}

impl<L> Drop for Shared<L> {
    /// A loop, not a recursion: each buffer in a long chain of splices owns the next.
    fn drop(&mut self) {
        let mut successor = self.ending.lock().take();
        while let Some(Ending::Spliced { to, .. }) = successor {
            successor = Arc::into_inner(to).and_then(|shared| shared.ending.lock().take());
        }
    }
}
