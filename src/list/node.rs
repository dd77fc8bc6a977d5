//! Nodes, their reference counts and the waiting bit.
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
//! **W**, the waiting bit, says that a task may be waiting for the slot to be written, so the writer has to
//! notify the node's event. The writer reads it in the same atomic operation with which it gives up its
//! reference to the slot that it has just written, or, if it has seen the bit already, in the one with which it
//! clears it. [`link`](crate::link) argues why no wake-up is lost.
//!
//! **L**, the limits bit, asks the writer to enforce lag limits once it has written the slot. It is set and
//! read like the waiting bit, by the same argument, but nothing is notified for it.
//!
//! **closes** and **size** are set in the last node of a [block](super::block): with that node the
//! block's memory goes.

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
/// What the writer has to do, besides, when it has written a slot.
const REQUESTS: u64 = WAITING | LIMITS;
/// Where the two numbers of [`block`] stand, in the last node of a block.
pub(super) const CLOSING: u32 = 2;
/// One reference.
const REF: u64 = 1 << (CLOSING + block::BITS);
/// All references.
const REFS: u64 = !(REF - 1);
/// Beyond this the process is aborted, as [`Arc`] does.
const MAX_STATE: u64 = i64::MAX as u64;

/// What a slot contains.
pub(crate) enum Payload<T> {
    /// An item of one event, stored in place.
    One(T),
    /// An item of several events.
    Many(Box<[T]>),
    /// The last slot of a buffer: still empty, or ended in the way its record says.
    Last(Arc<Shared<T>>),
}

impl<T> Payload<T> {
    /// The events as one item; `None` where there are none.
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

pub(super) struct Node<T> {
    next: AtomicPtr<Node<T>>,
    /// Of 64 bits on every target, so that 32-bit machines do not run out of references.
    state: AtomicU64,
    /// Notified when the slot has been written. Null until the first task waits for that.
    event: Event,
    payload: UnsafeCell<Payload<T>>,
}

impl<T> Node<T> {
    /// An empty or a private node; `state` has all but its references.
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

    /// Tells the writer that a task waits for this slot. See the module's docs.
    pub(super) fn set_waiting_bit(&self) {
        self.request(WAITING);
    }

    /// Asks the writer to enforce lag limits when it has written this slot. To be followed by a look whether it
    /// has been written.
    pub(super) fn request_limits(&self) {
        self.request(LIMITS);
    }

    /// For the writer, which has written the slot and seen a request.
    pub(super) fn are_limits_requested(&self) -> bool {
        // Acquire: pairs with the Release in `request`: what the request is for is seen.
        self.state.load(Acquire) & LIMITS != 0
    }

    #[inline]
    fn request(&self, bit: u64) {
        // Acquire: pairs with the Release in `release_unless_awaited`, `has_requests` and `take`: if the writer's operation came first,
        // the slot is found written. Release: pairs with the Acquire in `take`: if ours came first, the writer
        // sees what we did before.
        self.state.fetch_or(bit, AcqRel);
    }

    /// Makes this the last node of its block after all. Its memory must not be given up at the
    /// same time: the caller holds a reference, or has it to itself.
    pub(super) fn close_block(&self, closing: u64) {
        // Relaxed: whoever frees the node has seen all changes of this one word before.
        self.state.fetch_or(closing, Relaxed);
    }
}

/// One counted reference to a node.
pub(super) struct NodeRef<T>(NonNull<Node<T>>);

// SAFETY: a hold gives `&T` on any thread (hence `Sync`) and the last one drops the `T`s,
// wherever that happens (hence `Send`). All else in a node is atomic.
unsafe impl<T: Send + Sync> Send for NodeRef<T> {}
// SAFETY: as above; a shared hold gives no more than an owned one, since it can be cloned.
unsafe impl<T: Send + Sync> Sync for NodeRef<T> {}

impl<T> NodeRef<T> {
    /// The first slot of a new buffer: empty, owning `record`.
    pub(super) fn first(shared: Arc<Shared<T>>, allocator: &mut BlockAllocator<T>) -> Self {
        Self(allocator.vacancy().fill(Payload::Last(shared), 1))
    }

    #[inline]
    pub(super) fn node(&self) -> &Node<T> {
        // SAFETY: the reference counted for this hold keeps the node allocated.
        unsafe { self.0.as_ref() }
    }

    #[inline]
    pub(super) fn as_ptr(&self) -> NodePtr<T> {
        NodePtr(self.0)
    }

    /// Whether this is the only reference. Then nobody can gain another: that takes a reference
    /// of one's own, or a predecessor, whose link would be counted here.
    #[inline]
    pub(super) fn is_unique(&self) -> bool {
        // Acquire: pairs with the Release half of the `fetch_sub` in `Drop` and of the
        // `compare_exchange` in `release_unless_awaited`, so that the past owners' reads come before our writes.
        self.node().state.load(Acquire) & REFS == REF
    }

    /// Fills this empty slot and the private ones after it, visible all at once by one store,
    /// and moves this hold to the new empty slot. The answer is the hold on the filled slot, of
    /// which it is yet to be asked whether it [has requests](Self::has_requests).
    ///
    /// # Safety
    ///
    /// `self` is the writer's hold on the buffer's last slot, the slot is empty, and the caller
    /// has exclusive use of the writer. `first` does not panic.
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
        // SAFETY: the slot is empty (caller), so `next` is null and no reader looks at the
        // payload; only the writer writes to it, and the caller is the only user of the writer.
        // What was in it is moved out first.
        let shared = node.payload.with_mut(|payload| unsafe {
            let Payload::Last(shared) = &*payload else {
                unreachable_unchecked()
            };
            let shared = ptr::read(shared);
            ptr::write(payload, first());
            shared
        });
        // Two references: ours and the link's.
        let empty = vacancy.fill(Payload::Last(shared), 2);
        let link = match rest {
            None => empty,
            Some(Chain { first, last }) => {
                // Relaxed: still private; published by the Release store below.
                // SAFETY: `Chain` owns a chain from `first` to `last`, which nobody else sees.
                unsafe { last.as_ref() }.next.store(empty.as_ptr(), Relaxed);
                first
            }
        };
        // Release: publishes the payloads and the nodes behind; pairs with every Acquire load
        // of `next` by a reader.
        node.next.store(link.as_ptr(), Release);
        mem::replace(self, Self(empty))
    }

    /// Ends the chain in this empty slot: `next` leads to `onward`, or to the slot itself.
    ///
    /// # Safety
    ///
    /// As for [`fill`](Self::fill); the record's ending is set, and says `Spliced` exactly
    /// if there is an `onward`.
    pub(super) unsafe fn end(&self, target: Option<Self>) {
        let next = match target {
            Some(target) => target.into_raw(),
            None => self.0,
        };
        // Release: publishes the record's ending; pairs as in `fill`.
        self.node().next.store(next.as_ptr(), Release);
    }

    /// Gives up the writer's reference to a slot just written. Returns it instead if there is something left
    /// to do: there are [requests](Self::take_requests), or it is the last reference.
    #[inline]
    pub(super) fn release_unless_awaited(self) -> Option<Self> {
        let state = &self.node().state;
        // Relaxed: only a guess, which the `compare_exchange` confirms.
        let mut seen = state.load(Relaxed);
        loop {
            // Dropping the last reference frees the node, which drops events: that is user code, and the caller may
            // hold a lock.
            if seen & REQUESTS != 0 || seen & REFS == REF {
                return Some(self);
            }
            // Release: pairs with the Acquire in `request` (see the module's docs) and
            // in `is_unique`. Acquire is not needed: others still hold the node.
            match state.compare_exchange_weak(seen, seen - REF, Release, Relaxed) {
                Ok(_) => {
                    mem::forget(self);
                    return None;
                }
                Err(now) => seen = now,
            }
        }
    }

    /// Whether there are requests for a slot just written. A task that makes one later finds it written.
    #[inline]
    pub(super) fn has_requests(&self) -> bool {
        let state = &self.node().state;
        // Relaxed: as in `release_unless_awaited`.
        let mut seen = state.load(Relaxed);
        while seen & REQUESTS == 0 {
            // The value stays the same; only the write matters: see the module's docs. Release: as in `release_unless_awaited`.
            match state.compare_exchange_weak(seen, seen, Release, Relaxed) {
                Ok(_) => return false,
                Err(now) => seen = now,
            }
        }
        true
    }

    /// Takes what is requested of the writer, which has written the slot and seen that something is.
    #[inline]
    pub(super) fn take_requests(&self) -> Requests {
        self.take(REQUESTS)
    }

    /// Takes the request to wake the tasks that wait; returns whether there was one.
    #[cfg(feature = "publisher")]
    #[inline]
    pub(super) fn take_waiting_bit(&self) -> bool {
        self.take(WAITING).wake
    }

    #[inline]
    fn take(&self, requests: u64) -> Requests {
        // A read-modify-write, since `release_unless_awaited` and `has_requests` make none if they see a request. AcqRel: pairs with
        // `request`.
        let state = self.node().state.fetch_and(!requests, AcqRel);
        Requests {
            wake: state & WAITING != 0,
            enforce_limits: state & LIMITS != 0,
        }
    }

    /// Whether this and one link are the only references: the slot is known to the writer and its
    /// predecessor alone.
    #[inline]
    pub(super) fn is_known_to_its_link_only(&self) -> bool {
        // Acquire: as in `is_unique`.
        self.node().state.load(Acquire) & REFS == 2 * REF
    }

    /// Puts something else in a filled slot, and answers what was there.
    ///
    /// # Safety
    ///
    /// The hold [is unique](Self::is_unique), and the slot holds an item.
    #[inline]
    pub(super) unsafe fn replace(&mut self, payload: Payload<T>) -> Payload<T> {
        // SAFETY: unique, so nobody else can look (caller).
        self.node()
            .payload
            .with_mut(|old| unsafe { ptr::replace(old, payload) })
    }

    /// Moves on to the next of a chain that nobody else can reach, and frees the slot left
    /// behind; false, and nothing done, where others can reach it or nothing follows.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "a fifth of a read, measured")]
    pub(super) fn consume(&mut self) -> bool {
        if !self.is_unique() {
            return false;
        }
        // Relaxed: unique, so nobody else writes it any more.
        let next = self.node().next.load(Relaxed);
        let Some(next) = NonNull::new(next).filter(|next| *next != self.0) else {
            return false;
        };
        // The link's reference becomes ours.
        let passed = mem::replace(self, Self(next)).into_raw();
        // SAFETY: unique, and the only reference was ours. What follows keeps the record.
        unsafe { free::node::<T, true>(passed) };
        true
    }

    /// The node `n` filled slots further on (or the last one before that).
    pub(super) fn nth(&self, n: usize) -> Self {
        let mut at = self.as_ptr();
        for _ in 0..n {
            // SAFETY: our hold keeps what follows alive.
            match unsafe { at.read() } {
                NodeState::Item(_, next) => at = next,
                NodeState::Nothing | NodeState::Last(_) => break,
            }
        }
        // SAFETY: as above.
        unsafe { at.acquire() }
    }

    #[inline]
    fn into_raw(self) -> NonNull<Node<T>> {
        let node = self.0;
        mem::forget(self);
        node
    }
}

/// What there is to do when a slot has been written.
pub(super) struct Requests {
    pub(super) wake: bool,
    pub(super) enforce_limits: bool,
}

impl<T> Clone for NodeRef<T> {
    #[inline]
    fn clone(&self) -> Self {
        // SAFETY: this hold keeps the node alive.
        unsafe { self.as_ptr().acquire() }
    }
}

impl<T> Drop for NodeRef<T> {
    #[inline]
    fn drop(&mut self) {
        if self.release() {
            // SAFETY: the last reference is gone, and it was ours.
            unsafe { free::chain(self.0) }
        }
    }
}

impl<T> NodeRef<T> {
    /// Gives up the reference; whether it was the last.
    #[inline]
    fn release(&self) -> bool {
        // A reference that is the only one needs no read-modify-write to give up.
        // Release: our reads come before the node is freed. Acquire: where we free it, they all
        // did. (Both on the operation itself: sanitizers do not follow fences.)
        self.is_unique() || self.node().state.fetch_sub(REF, AcqRel) & REFS == REF
    }
}

/// A node that something else keeps alive: a step of a walk, not a reference.
pub(super) struct NodePtr<T>(NonNull<Node<T>>);

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

    /// The node of a pointer that was made by [`erase`](Self::erase) for the same `T`.
    pub(super) fn from_erased(erased: *mut ()) -> Option<Self> {
        NonNull::new(erased.cast()).map(Self)
    }

    /// A counted reference to the node.
    ///
    /// # Safety
    ///
    /// The node is alive: a hold on it or on one before it exists throughout the call.
    #[inline]
    pub(super) unsafe fn acquire(self) -> NodeRef<T> {
        // Relaxed: as for `Arc`, a new reference comes from an existing one.
        // SAFETY: the node is alive (caller).
        let before = unsafe { self.0.as_ref() }.state.fetch_add(REF, Relaxed);
        if before > MAX_STATE {
            std::process::abort();
        }
        NodeRef(self.0)
    }

    /// Whether the slot is filled, or its buffer has ended here.
    ///
    /// # Safety
    ///
    /// As for [`hold`](Self::hold).
    #[inline]
    pub(super) unsafe fn is_written(self) -> bool {
        // SAFETY: alive (caller).
        unsafe { self.0.as_ref() }.is_written()
    }

    /// What stands in the slot, and the slot after it. For a buffer's last slot that is where a
    /// splice leads, or the slot itself.
    ///
    /// # Safety
    ///
    /// The node is alive for `'a`: a hold on it or on one before it exists.
    #[inline]
    pub(super) unsafe fn read<'a>(self) -> NodeState<'a, T> {
        // SAFETY: alive (caller).
        let node: &'a Node<T> = unsafe { self.0.as_ref() };
        // Acquire: pairs with the Release store in `fill` and `end`.
        let Some(next) = NonNull::new(node.next.load(Acquire)) else {
            return NodeState::Nothing;
        };
        // SAFETY: `next` is set, so the payload is written and will not change any more.
        match node.payload.with(|payload| unsafe { &*payload }) {
            Payload::One(event) => NodeState::Item(slice::from_ref(event), Self(next)),
            Payload::Many(events) => NodeState::Item(events, Self(next)),
            Payload::Last(_) => NodeState::Last(Self(next)),
        }
    }
}

/// What a reader finds in a slot.
pub(super) enum NodeState<'a, T> {
    /// Nothing yet.
    Nothing,
    Item(&'a [T], NodePtr<T>),
    /// The end of the buffer, as its record says.
    Last(NodePtr<T>),
}

/// A private chain of filled nodes, none of which anybody else sees.
pub(super) struct Chain<T> {
    first: NonNull<Node<T>>,
    last: NonNull<Node<T>>,
}

impl<T> Chain<T> {
    pub(super) fn newest(&self) -> NodePtr<T> {
        NodePtr(self.last)
    }
}

/// Items on their way: filled and linked already, visible to nobody yet.
pub(crate) struct Batch<T> {
    first: Option<Payload<T>>,
    rest: Option<Chain<T>>,
    len: u64,
    /// Where the nodes of `rest` are, and what is left there.
    allocator: BlockAllocator<T>,
}

// SAFETY: nobody else sees the nodes of a batch, and what they hold may go to any thread.
unsafe impl<T: Send + Sync> Send for Batch<T> {}

impl<T> Batch<T> {
    /// One item.
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
        // In this order: see `BlockAllocator::vacancy`.
        let vacancy = self.allocator.vacancy();
        let node = vacancy.fill(Payload::One(event), 1);
        match &mut self.rest {
            None => {
                self.rest = Some(Chain {
                    first: node,
                    last: node,
                });
            }
            Some(rest) => {
                // Relaxed: private until `fill`.
                // SAFETY: the batch owns the chain.
                unsafe { rest.last.as_ref() }
                    .next
                    .store(node.as_ptr(), Relaxed);
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
            // SAFETY: the batch owned the chain, which is ours now.
            allocator.leave(unsafe { rest.last.as_ref() });
            let mut at = NodeRef(rest.first);
            loop {
                // SAFETY: nobody else sees the chain, and each of its slots has an item.
                let item = unsafe { at.replace(Payload::Many(Box::default())) };
                item.move_to(&mut events);
                if !at.consume() {
                    break;
                }
            }
        }
        events
    }

    /// The first item, and the others with the room their nodes are in.
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
            // All but the first get a node here, and so does the slot after them.
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
            // SAFETY: the batch owns the chain.
            self.allocator.leave(unsafe { rest.last.as_ref() });
            // The first node's one reference, kept for the link that now is never made.
            let (first, rest) = (self.first.take(), NodeRef(rest.first));
            both_even_if_one_panics(|| drop(first), || drop(rest));
        }
    }
}
