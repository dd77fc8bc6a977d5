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
//! [block](super::block): the block's memory is freed with that node.

mod free;

use std::hint::unreachable_unchecked;
use std::mem;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::block::{self, BlockAllocator, Vacancy};
use super::shared::Shared;
use crate::link::Event;
use crate::sync::{AtomicPtr, AtomicU64, UnsafeCell};
use crate::unwind::both_even_if_one_panics;

const WAITING: u64 = 1;
pub(super) const LIMITS: u64 = 2;
/// What a reader may ask the writer to do once it has written a slot.
const REQUESTS: u64 = WAITING | LIMITS;
/// The position of the closing numbers, which stand in the last node of a [`block`].
pub(super) const CLOSING: u32 = 2;
/// One reference.
const REF: u64 = 1 << (CLOSING + block::BITS);
/// The bits that count references.
const REFS: u64 = !(REF - 1);
/// With more references than this, the process is aborted, as [`Arc`] does.
const MAX_STATE: u64 = i64::MAX as u64;

/// What a slot contains.
pub(crate) enum Payload<T> {
    /// An item of one event, stored in place.
    One(T),
    /// An item of several events.
    Many(Box<[T]>),
    /// The `Shared` of a buffer whose last slot this is: still empty, or ended as the `Shared`
    /// says.
    Last(Arc<Shared<T>>),
}

impl<T> Payload<T> {
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
pub(super) struct Node<T> {
    /// The next node; null while the slot is empty. At an end, the node itself.
    next: AtomicPtr<Node<T>>,
    /// 64 bits on every target, so that 32-bit machines do not run out of references.
    state: AtomicU64,
    /// Notified when the slot has been written. Allocated only when the first task waits for that.
    event: Event,
    payload: UnsafeCell<Payload<T>>,
}

impl<T> Node<T> {
    /// Creates a node; `state` has all of its state word but the references.
    pub(super) fn new(payload: Payload<T>, references: u64, state: u64) -> Self {
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
pub(super) struct NodeRef<T>(NonNull<Node<T>>);

// SAFETY: a reference gives `&T` on any thread, hence `T: Sync`; the last one drops the `T`s on the
// thread that it is on, hence `T: Send`. All else in a node is atomic.
unsafe impl<T: Send + Sync> Send for NodeRef<T> {}
// SAFETY: a shared reference gives no more than an owned one, since it can be cloned.
unsafe impl<T: Send + Sync> Sync for NodeRef<T> {}

impl<T> NodeRef<T> {
    /// Creates the first slot of a new buffer, which is empty and owns `shared`.
    pub(super) fn first(shared: Arc<Shared<T>>, allocator: &mut BlockAllocator<T>) -> Self {
        Self(allocator.vacancy().fill(Payload::Last(shared), 1))
    }

    #[inline]
    pub(super) fn node(&self) -> &Node<T> {
        // SAFETY: L3, by our reference.
        unsafe { self.0.as_ref() }
    }

    #[inline]
    pub(super) fn as_ptr(&self) -> NodePtr<T> {
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

    /// Fills this empty slot and the private ones after it, and moves on to the new empty slot.
    ///
    /// One store makes all of them visible. Returns the reference to the slot just filled; the
    /// caller then asks it for [requests](Self::has_requests).
    ///
    /// # Safety
    ///
    /// `self` is the writer's reference to the buffer's last slot, that slot is empty, and the
    /// caller has exclusive use of the writer (L6). `first` does not panic.
    #[inline]
    #[allow(
        clippy::needless_pass_by_value,
        reason = "the chain takes over the references of `rest`"
    )]
    pub(super) unsafe fn fill(
        &mut self,
        first: impl FnOnce() -> Payload<T>,
        rest: Option<Chain<T>>,
        vacancy: Vacancy<T>,
    ) -> Self {
        let node = self.node();
        // SAFETY: L1 and L6: `next` is null, so no reader looks at the payload, and no one else
        // writes it. The old payload is moved out before it is overwritten.
        let shared = node.payload.with_mut(|payload| unsafe {
            let Payload::Last(shared) = &*payload else {
                unreachable_unchecked()
            };
            let shared = ptr::read(shared);
            ptr::write(payload, first());
            shared
        });
        // Two references: the writer's and the link's (L2).
        let empty = vacancy.fill(Payload::Last(shared), 2);
        let link = match rest {
            None => empty,
            Some(Chain { first, last }) => {
                // Relaxed: the chain is still private; the Release store below publishes it.
                // SAFETY: L11.
                unsafe { last.0.as_ref() }
                    .next
                    .store(empty.as_ptr(), Relaxed);
                first.0
            }
        };
        // Release: publishes the payloads and the nodes behind them. Pairs with every Acquire load
        // of `next` by a reader (L1).
        node.next.store(link.as_ptr(), Release);
        mem::replace(self, Self(empty))
    }

    /// Ends the chain in this empty slot: `next` leads to `target`, or to the slot itself.
    ///
    /// # Safety
    ///
    /// As for [`fill`](Self::fill). The ending in the buffer's `Shared` is set, and it is `Spliced`
    /// exactly if there is a `target`.
    pub(super) unsafe fn end(&self, target: Option<Self>) {
        let next = match target {
            Some(target) => target.into_raw(),
            None => self.0,
        };
        // Release: publishes the ending. Pairs with every Acquire load of `next` by a reader (L1).
        self.node().next.store(next.as_ptr(), Release);
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
    pub(super) unsafe fn replace(&mut self, payload: Payload<T>) -> Payload<T> {
        // SAFETY: L4 (caller), so no one else looks at the payload.
        self.node()
            .payload
            .with_mut(|old| unsafe { ptr::replace(old, payload) })
    }

    /// Moves on to the next node, and frees the one left behind.
    ///
    /// Returns `false`, and does nothing, if the node has other references or nothing follows it.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "a fifth of a read, measured")]
    pub(super) fn consume(&mut self) -> bool {
        if !self.is_unique() {
            return false;
        }
        // Relaxed: by L4 no one else writes it any more.
        let next = self.node().next.load(Relaxed);
        let Some(next) = NonNull::new(next).filter(|next| *next != self.0) else {
            return false;
        };
        // The link's reference becomes ours (L2).
        let passed = mem::replace(self, Self(next)).into_raw();
        // SAFETY: L4, and the only reference was ours. The next node keeps the `Shared` (L5).
        unsafe { free::node::<T, true>(passed) };
        true
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
    fn into_raw(self) -> NonNull<Node<T>> {
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

impl<T> Clone for NodeRef<T> {
    #[inline]
    fn clone(&self) -> Self {
        // SAFETY: L3, by our reference.
        unsafe { self.as_ptr().acquire() }
    }
}

impl<T> Drop for NodeRef<T> {
    #[inline]
    fn drop(&mut self) {
        if self.release() {
            // SAFETY: the last reference has been released, and it was ours.
            unsafe { free::chain(self.0) }
        }
    }
}

impl<T> NodeRef<T> {
    /// Releases the reference without freeing the node. Returns `true` if it was the last.
    #[inline]
    fn release(&self) -> bool {
        // An only reference needs no read-modify-write: by L4 the count cannot change. Otherwise,
        // Release: our reads come before the node is freed. Acquire: if we free it, so do those of
        // all others. (Both on the operation itself, since sanitizers do not follow fences.)
        self.is_unique() || self.node().state.fetch_sub(REF, AcqRel) & REFS == REF
    }
}

/// A plain pointer to a node, which something else keeps alive.
pub(super) struct NodePtr<T>(NonNull<Node<T>>);

// SAFETY: all access goes through unsafe methods, whose callers keep the node alive with a
// `NodeRef`, which is `Send` under these bounds.
unsafe impl<T: Send + Sync> Send for NodePtr<T> {}
// SAFETY: the same argument; a `NodeRef` is `Sync` under these bounds.
unsafe impl<T: Send + Sync> Sync for NodePtr<T> {}

impl<T> Clone for NodePtr<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for NodePtr<T> {}

impl<T> PartialEq for NodePtr<T> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> NodePtr<T> {
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
    pub(super) unsafe fn acquire(self) -> NodeRef<T> {
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
    pub(super) unsafe fn read<'a>(self) -> NodeState<'a, T> {
        // SAFETY: alive (caller).
        let node: &'a Node<T> = unsafe { self.0.as_ref() };
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
pub(super) enum NodeState<'a, T> {
    /// The slot is still empty.
    Nothing,
    Item(&'a [T], NodePtr<T>),
    /// The buffer has ended here, as its `Shared` says.
    Last(NodePtr<T>),
}

/// A private chain of filled nodes (L11).
pub(super) struct Chain<T> {
    first: NodePtr<T>,
    last: NodePtr<T>,
}

impl<T> Chain<T> {
    pub(super) fn newest(&self) -> NodePtr<T> {
        self.last
    }
}

/// Items to be published: filled and linked already, but not visible to readers.
pub(crate) struct Batch<T> {
    first: Option<Payload<T>>,
    rest: Option<Chain<T>>,
    len: u64,
    /// The block that the nodes of `rest` are in, with its free slots.
    allocator: BlockAllocator<T>,
}

impl<T> Batch<T> {
    /// Makes a batch of one item.
    pub(crate) fn one(item: Payload<T>) -> Self {
        Self {
            first: Some(item),
            rest: None,
            len: 1,
            allocator: BlockAllocator::new(),
        }
    }

    /// Adds an item of one event.
    #[inline]
    fn push(&mut self, event: T) {
        self.len += 1;
        if self.first.is_none() {
            self.first = Some(Payload::One(event));
            return;
        }
        // The vacancy first: see `BlockAllocator::vacancy`.
        let vacancy = self.allocator.vacancy();
        let node = NodePtr(vacancy.fill(Payload::One(event), 1));
        match &mut self.rest {
            None => {
                self.rest = Some(Chain {
                    first: node,
                    last: node,
                });
            }
            Some(rest) => {
                // Relaxed: private until `fill`.
                // SAFETY: L11.
                unsafe { rest.last.0.as_ref() }
                    .next
                    .store(node.0.as_ptr(), Relaxed);
                rest.last = node;
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Takes the items apart again.
    pub(crate) fn into_events(mut self) -> Vec<T> {
        let mut events = Vec::new();
        let Some((first, rest)) = self.take() else {
            return events;
        };
        first.move_to(&mut events);
        if let Some((rest, mut allocator)) = rest {
            allocator.count_by(ptr::null());
            // SAFETY: L11; the chain is ours now.
            allocator.leave(unsafe { rest.last.0.as_ref() });
            let mut at = NodeRef(rest.first.0);
            loop {
                // SAFETY: L11: no one else knows the node, so its one reference is unique, and it
                // has an item.
                let item = unsafe { at.replace(Payload::Many(Box::default())) };
                item.move_to(&mut events);
                if !at.consume() {
                    break;
                }
            }
        }
        events
    }

    /// Returns the first item, and the chain of the others with the allocator that their nodes are
    /// in.
    #[expect(clippy::type_complexity, reason = "taken apart at once, by one caller")]
    pub(super) fn take(&mut self) -> Option<(Payload<T>, Option<(Chain<T>, BlockAllocator<T>)>)> {
        self.len = 0;
        let rest = self.rest.take();
        let allocator = mem::replace(&mut self.allocator, BlockAllocator::new());
        Some((self.first.take()?, rest.map(|rest| (rest, allocator))))
    }
}

impl<T> FromIterator<T> for Batch<T> {
    fn from_iter<I: IntoIterator<Item = T>>(events: I) -> Self {
        let events = events.into_iter();
        let mut batch = Self {
            first: None,
            rest: None,
            len: 0,
            // All events but the first get a node here, and so does the new last slot.
            allocator: BlockAllocator::for_at_least(events.size_hint().0),
        };
        for event in events {
            batch.push(event);
        }
        batch
    }
}

impl<T> Drop for Batch<T> {
    fn drop(&mut self) {
        if let Some(rest) = self.rest.take() {
            self.allocator.count_by(ptr::null());
            // SAFETY: L11.
            self.allocator.leave(unsafe { rest.last.0.as_ref() });
            // The first node's one reference was meant for the link, which is not made now.
            let (first, rest) = (self.first.take(), NodeRef(rest.first.0));
            both_even_if_one_panics(|| drop(first), || drop(rest));
        }
    }
}
