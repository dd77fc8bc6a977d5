//! Nodes, their reference counts, and the state word.
//!
//! # The state word
//!
//! ```text
//!   63                    11 10     8 7        2   1   0
//!  ┌────────────────────────┬────────┬──────────┬───┬───┐
//!  │ references             │ size   │ closes   │ L │ W │
//!  └────────────────────────┴────────┴──────────┴───┴───┘
//! ```
//!
//! **W**, the waiting bit, tells the writer that a task may be waiting for the slot, so it has to
//! notify the node's event once the slot is written. The writer reads it in the same atomic
//! operation with which it releases its reference to the slot it has just written. If it has seen
//! the bit already, it reads it in the operation with which it clears it. [`link`](crate::link)
//! argues why no wake-up is lost.
//!
//! **L**, the limits bit, asks the writer to enforce lag limits once the slot is written. It is set
//! and read like the waiting bit, and the same argument holds, but no event is notified for it.
//!
//! **closes** and **size**, the closing numbers, are set in the last node of a
//! [block]: the block's memory is freed with that node.

pub(super) mod block;
pub(super) mod fill;
mod free;

use std::mem;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::link::Event;
use crate::sync::{AtomicPtr, AtomicU64, UnsafeCell};

const WAITING: u64 = 1;
const LIMITS: u64 = 2;
/// What a reader may ask the writer to do once it has written a slot.
const REQUESTS: u64 = WAITING | LIMITS;
/// The position of the closing numbers, which stand in the last node of a [`block`].
const CLOSING: u32 = 2;
/// The width of the first closing number, which is how many nodes of the block are used.
const USED_BITS: u32 = 6;
/// The width of the second, which is the binary logarithm of the block's size.
const SIZE_BITS: u32 = 3;
/// One reference.
const REF: u64 = 1 << (CLOSING + USED_BITS + SIZE_BITS);
/// The bits that count references.
const REFS: u64 = !(REF - 1);
/// With more references than this, the process is aborted, as [`Arc`] does.
const MAX_STATE: u64 = i64::MAX as u64;

/// What a slot contains.
pub(crate) enum Payload<T, S> {
    /// An item of one event, stored in place.
    One(T),
    /// An item of several events.
    Many(Box<[T]>),
    /// What the readers of a buffer share. This is the buffer's last slot: still empty, or ended as
    /// that says.
    Last(Arc<S>),
}

impl<T, S> Payload<T, S> {
    /// Makes one item of the events. Returns `None` if there are none.
    pub(crate) fn collect(events: impl IntoIterator<Item = T>) -> Option<Self> {
        let mut events = events.into_iter();
        let first = events.next()?;
        Some(match events.next() {
            None => Self::One(first),
            Some(second) => {
                let mut all = Vec::with_capacity(events.size_hint().0.saturating_add(2));
                all.extend([first, second]);
                all.extend(events);
                Self::Many(all.into_boxed_slice())
            }
        })
    }

    fn move_to(self, events: &mut Vec<T>) {
        match self {
            Self::One(event) => events.push(event),
            Self::Many(several) => events.extend(several),
            Self::Last(_) => {}
        }
    }
}

/// A slot of the list: an item, or nothing yet.
pub(super) struct Node<T, S> {
    /// The next node; null while the slot is empty. At an end, the node itself.
    next: AtomicPtr<Node<T, S>>,
    /// 64 bits on every target, so that 32-bit machines do not run out of references.
    state: AtomicU64,
    /// Notified when the slot has been written. Allocated only when the first task waits for that.
    event: Event,
    payload: UnsafeCell<Payload<T, S>>,
}

impl<T, S> Node<T, S> {
    /// Creates a node; `state` has all of its state word but the references.
    pub(super) fn new(payload: Payload<T, S>, references: u64, state: u64) -> Self {
        Self {
            next: AtomicPtr::new(ptr::null_mut()),
            state: AtomicU64::new((references * REF) | state),
            event: Event::new(),
            payload: UnsafeCell::new(payload),
        }
    }

    #[inline]
    pub(super) fn event(&self) -> &Event {
        &self.event
    }

    #[inline]
    pub(super) fn is_written(&self) -> bool {
        // Acquire: pairs with the Release store in `fill` and `end`.
        !self.next.load(Acquire).is_null()
    }

    /// Tells the writer that a task waits for this slot. See the [module page](self).
    pub(super) fn set_waiting_bit(&self) {
        self.request(WAITING);
    }

    /// Asks the writer to enforce lag limits when it has written this slot.
    ///
    /// The caller then checks whether the slot has been written, because the writer may have missed
    /// the request.
    pub(super) fn request_limits(&self) {
        self.request(LIMITS);
    }

    /// Returns `true` if the writer, which has written this slot, is asked to enforce lag limits.
    pub(super) fn are_limits_requested(&self) -> bool {
        // Acquire: pairs with the Release in `request`, so the writer sees what the request is for.
        self.state.load(Acquire) & LIMITS != 0
    }

    #[inline]
    fn request(&self, bit: u64) {
        // Acquire: pairs with the Release in `release_unless_awaited`, `has_requests` and `take`.
        // If the writer's operation comes first, we find the slot written. Release: pairs with the
        // Acquire in `take`. If ours comes first, the writer sees what we did before it.
        self.state.fetch_or(bit, AcqRel);
    }

    /// Makes this the last node of its block, although slots are left after it.
    ///
    /// The caller holds a reference or has the node to itself, so that the block is not freed
    /// meanwhile.
    pub(super) fn close_block(&self, closing: u64) {
        // Relaxed: the thread that frees the node has seen all earlier changes of this one word.
        self.state.fetch_or(closing, Relaxed);
    }
}

/// One counted reference to a node, and by L2 to all nodes after it.
pub(super) struct NodeRef<T, S>(NonNull<Node<T, S>>);

// SAFETY: a reference gives `&T` on any thread, hence `T: Sync`; the last one drops the `T`s on the
// thread that it is on, hence `T: Send`. All else in a node is atomic.
unsafe impl<T: Send + Sync, S: Send + Sync> Send for NodeRef<T, S> {}
// SAFETY: a shared reference gives no more than an owned one, since it can be cloned.
unsafe impl<T: Send + Sync, S: Send + Sync> Sync for NodeRef<T, S> {}

impl<T, S> NodeRef<T, S> {
    #[inline]
    pub(super) fn node(&self) -> &Node<T, S> {
        // SAFETY: L3, by our reference.
        unsafe { self.0.as_ref() }
    }

    #[inline]
    pub(super) fn as_ptr(&self) -> NodePtr<T, S> {
        NodePtr(self.0)
    }

    /// Returns `true` if this is the only reference, so that the caller has the node to itself
    /// (L4).
    #[inline]
    pub(super) fn is_unique(&self) -> bool {
        // Acquire: pairs with the Release half of the `fetch_sub` in `release` and of the
        // `compare_exchange` in `release_unless_awaited`, so that the reads of past owners come
        // before our writes.
        self.node().state.load(Acquire) & REFS == REF
    }

    /// Releases the writer's reference to a slot it has just filled.
    ///
    /// Returns it instead if there is more to do: a reader has made
    /// [requests](Self::take_requests), or it is the last reference.
    #[inline]
    pub(super) fn release_unless_awaited(self) -> Option<Self> {
        let state = &self.node().state;
        // Relaxed: a guess, which the `compare_exchange` confirms.
        let mut seen = state.load(Relaxed);
        loop {
            // Releasing the last reference frees the node, and so drops events. That is user code,
            // and the caller may hold a lock.
            if seen & REQUESTS != 0 || seen & REFS == REF {
                return Some(self);
            }
            // Release: pairs with the Acquire in `request` (see the module page) and in
            // `is_unique`. No Acquire: others still hold references, so we do not free the node.
            match state.compare_exchange_weak(seen, seen - REF, Release, Relaxed) {
                Ok(_) => {
                    mem::forget(self);
                    return None;
                }
                Err(now) => seen = now,
            }
        }
    }

    /// Returns `true` if there are requests for a slot that the writer has just filled.
    ///
    /// A task that makes one later finds the slot written.
    #[inline]
    pub(super) fn has_requests(&self) -> bool {
        let state = &self.node().state;
        // Relaxed: a guess, which the `compare_exchange` confirms.
        let mut seen = state.load(Relaxed);
        while seen & REQUESTS == 0 {
            // This stores the value it has read. The write itself matters: it orders us and
            // `request` (see the module page). Release: pairs with the Acquire in `request`.
            match state.compare_exchange_weak(seen, seen, Release, Relaxed) {
                Ok(_) => return false,
                Err(now) => seen = now,
            }
        }
        true
    }

    /// Takes the requests off a slot that the writer has filled and found some on.
    #[inline]
    pub(super) fn take_requests(&self) -> Requests {
        self.take(REQUESTS)
    }

    /// Takes the waiting bit off the slot, and returns whether it was set.
    #[cfg(feature = "publisher")]
    #[inline]
    pub(super) fn take_waiting_bit(&self) -> bool {
        self.take(WAITING).wake
    }

    #[inline]
    fn take(&self, requests: u64) -> Requests {
        // A read-modify-write, since `release_unless_awaited` and `has_requests` make none if they
        // see a request. AcqRel: both halves pair with those of `request`.
        let state = self.node().state.fetch_and(!requests, AcqRel);
        Requests {
            wake: state & WAITING != 0,
            enforce_limits: state & LIMITS != 0,
        }
    }

    /// Returns `true` if only the writer and the predecessor's link have references to this slot.
    #[inline]
    pub(super) fn is_known_to_its_link_only(&self) -> bool {
        // Acquire: as in `is_unique`.
        self.node().state.load(Acquire) & REFS == 2 * REF
    }

    /// Replaces the payload of a filled slot, and returns the old one.
    ///
    /// # Safety
    ///
    /// The reference [is unique](Self::is_unique), and the slot holds an item.
    #[inline]
    pub(super) unsafe fn replace(&mut self, payload: Payload<T, S>) -> Payload<T, S> {
        // SAFETY: L4 (caller), so no one else looks at the payload.
        self.node()
            .payload
            .with_mut(|old| unsafe { ptr::replace(old, payload) })
    }

    /// Returns the node `n` filled slots further on, or the last one before that.
    pub(super) fn nth(&self, n: usize) -> Self {
        let mut at = self.as_ptr();
        for _ in 0..n {
            // SAFETY: L2, by our reference.
            match unsafe { at.read() } {
                NodeState::Item(_, next) => at = next,
                NodeState::Nothing | NodeState::Last(_) => break,
            }
        }
        // SAFETY: L2, by our reference.
        unsafe { at.acquire() }
    }

    #[inline]
    fn into_raw(self) -> NonNull<Node<T, S>> {
        let node = self.0;
        mem::forget(self);
        node
    }
}

/// What readers have asked the writer to do, now that it has written a slot.
pub(super) struct Requests {
    pub(super) wake: bool,
    pub(super) enforce_limits: bool,
}

impl<T, S> Clone for NodeRef<T, S> {
    #[inline]
    fn clone(&self) -> Self {
        // SAFETY: L3, by our reference.
        unsafe { self.as_ptr().acquire() }
    }
}

/// A plain pointer to a node, which something else keeps alive.
pub(super) struct NodePtr<T, S>(NonNull<Node<T, S>>);

// SAFETY: all access goes through unsafe methods, whose callers keep the node alive with a
// `NodeRef`, which is `Send` under these bounds.
unsafe impl<T: Send + Sync, S: Send + Sync> Send for NodePtr<T, S> {}
// SAFETY: the same argument; a `NodeRef` is `Sync` under these bounds.
unsafe impl<T: Send + Sync, S: Send + Sync> Sync for NodePtr<T, S> {}

impl<T, S> Clone for NodePtr<T, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, S> Copy for NodePtr<T, S> {}

impl<T, S> PartialEq for NodePtr<T, S> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T, S> NodePtr<T, S> {
    pub(super) fn erase(self) -> *mut () {
        self.0.as_ptr().cast()
    }

    /// Restores a pointer that [`erase`](Self::erase) has made for the same `T`.
    pub(super) fn from_erased(erased: *mut ()) -> Option<Self> {
        NonNull::new(erased.cast()).map(Self)
    }

    /// Returns a counted reference to the node.
    ///
    /// # Safety
    ///
    /// The node is alive: a reference to it, or to one before it, exists throughout the call.
    #[inline]
    pub(super) unsafe fn acquire(self) -> NodeRef<T, S> {
        // Relaxed: as in `Arc`, a new reference comes from an existing one.
        // SAFETY: alive (caller).
        let before = unsafe { self.0.as_ref() }.state.fetch_add(REF, Relaxed);
        if before > MAX_STATE {
            std::process::abort();
        }
        NodeRef(self.0)
    }

    /// Returns `true` if the slot is filled, or its buffer has ended here.
    ///
    /// # Safety
    ///
    /// As for [`acquire`](Self::acquire).
    #[inline]
    pub(super) unsafe fn is_written(self) -> bool {
        // SAFETY: alive (caller).
        unsafe { self.0.as_ref() }.is_written()
    }

    /// Returns what the slot holds, and the slot it leads to.
    ///
    /// A buffer's last slot leads to where its splice goes, or to itself.
    ///
    /// # Safety
    ///
    /// The node is alive for `'a`: a reference to it, or to one before it, exists.
    #[inline]
    pub(super) unsafe fn read<'a>(self) -> NodeState<'a, T, S> {
        // SAFETY: alive (caller).
        let node: &'a Node<T, S> = unsafe { self.0.as_ref() };
        // Acquire: pairs with the Release store in `fill` and `end` (L1).
        let Some(next) = NonNull::new(node.next.load(Acquire)) else {
            return NodeState::Nothing;
        };
        // SAFETY: L1: `next` is set, so the payload is written and does not change.
        match node.payload.with(|payload| unsafe { &*payload }) {
            Payload::One(event) => NodeState::Item(slice::from_ref(event), Self(next)),
            Payload::Many(events) => NodeState::Item(events, Self(next)),
            Payload::Last(_) => NodeState::Last(Self(next)),
        }
    }
}

/// What a reader finds in a slot.
pub(super) enum NodeState<'a, T, S: 'a> {
    /// The slot is still empty.
    Nothing,
    Item(&'a [T], NodePtr<T, S>),
    /// The buffer has ended here, as its `Shared` says.
    Last(NodePtr<T, S>),
}
