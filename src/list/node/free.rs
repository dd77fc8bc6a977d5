//! How nodes are freed.
//!
//! Freeing starts at a node without references and continues up to the next node that has one. If
//! the drop of events is user code, which may take its time or block, **all links are released
//! before the first event is dropped**. Otherwise the freed nodes would, while their events are
//! dropped, keep alive what is published meanwhile, although no reader needs it.
//!
//! ```text
//!   first             open     last
//!     │  ours           │        │  others'
//!   [ 0 ]─▶ … ─▶[ 15 ]─▶[ 16 ]─▶[ 17 ]─▶[ 18 ]─▶ …
//!     whole blocks:       a partial block: it is freed with its last node, by
//!     freed in place      others. So the payloads of 16 and 17 are copied
//!                         before the reference to 18 is released.
//! ```
//!
//! An event may own the last handle to a later item, so that its drop frees that item, whose event
//! may own one in turn. To keep this from recursing, what is freed *by the drop of an event*
//! releases each link only after dropping the event: the next item is then left to the loop.

use std::cell::Cell;
use std::mem::{self, MaybeUninit};
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};

use super::block::{self, Memory};
use super::{Node, NodeRef, Payload, REF, REFS, REQUESTS};
use crate::sync::thread_local;
use crate::unwind::even_if_it_panics;

thread_local! {
    #[allow(clippy::missing_const_for_thread_local, reason = "loom has none")]
    static DROPPING: Cell<bool> = Cell::new(false);
}

impl<T, S> NodeRef<T, S> {
    /// Moves on to the next node, and frees the one left behind.
    ///
    /// Returns `false`, and does nothing, if the node has other references or nothing follows it.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "a fifth of a read, measured")]
    pub(in crate::list) fn consume(&mut self) -> bool {
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
        unsafe { node::<T, S, true>(passed) };
        true
    }
}

impl<T, S> Drop for NodeRef<T, S> {
    #[inline]
    fn drop(&mut self) {
        if self.release() {
            // SAFETY: the last reference has been released, and it was ours.
            unsafe { chain(self.0) }
        }
    }
}

impl<T, S> NodeRef<T, S> {
    /// Releases the reference without freeing the node. Returns `true` if it was the last.
    #[inline]
    fn release(&self) -> bool {
        // An only reference needs no read-modify-write: by L4 the count cannot change. Otherwise,
        // Release: our reads come before the node is freed. Acquire: if we free it, so do those of
        // all others. (Both on the operation itself, since sanitizers do not follow fences.)
        self.is_unique() || self.node().state.fetch_sub(REF, AcqRel) & REFS == REF
    }
}

/// This thread is dropping events whose links have been released.
struct Dropping;

impl Dropping {
    fn begin() -> Self {
        DROPPING.with(|dropping| dropping.set(true));
        Self
    }
}

impl Drop for Dropping {
    fn drop(&mut self) {
        DROPPING.with(|dropping| dropping.set(false));
    }
}

/// Frees a node without references, and everything that only it kept alive.
///
/// Continues even if the drop of an event panics, and resumes the first panic at the end.
///
/// # Safety
///
/// The caller has released the last reference to `first`.
#[cold]
#[inline(never)]
pub(super) unsafe fn chain<T, S>(first: NonNull<Node<T, S>>) {
    // SAFETY: the caller's contract is theirs.
    unsafe {
        if !mem::needs_drop::<T>() {
            without_drops(first);
        } else if DROPPING.with(Cell::get) {
            in_order(first);
        } else {
            links_first(first);
        }
    }
}

/// Frees like [`chain`], if dropping an event runs no user code.
///
/// # Safety
///
/// As for [`chain`].
unsafe fn without_drops<T, S>(mut at: NonNull<Node<T, S>>) {
    loop {
        // A guard, so that it is released even if the drop of a buffer's error panics.
        // SAFETY: L4 (caller, or `release_link`).
        let next = unsafe { link(at) }.map(NodeRef);
        // SAFETY: L4; the link is ours by now. The next node, or this one, keeps the `Shared` (L5).
        unsafe { node::<T, S, true>(at) };
        match next.and_then(release_link) {
            Some(next) => at = next,
            None => return,
        }
    }
}

/// Frees like [`chain`], but drops each node before it releases its link.
///
/// # Safety
///
/// As for [`chain`].
unsafe fn in_order<T, S>(first: NonNull<Node<T, S>>) {
    let mut ours = Some(first);
    let mut next = None;
    even_if_it_panics(|| {
        while let Some(at) = ours.take().or_else(|| next.take().and_then(release_link)) {
            // SAFETY: L4 (caller, or `release_link`); the link is ours by now. The next node, or
            // this one, keeps the `Shared` (L5).
            unsafe {
                next = link(at).map(NodeRef);
                node::<T, S, true>(at);
            }
        }
    });
}

/// Frees like [`chain`], and drops all events after it has released the links.
///
/// # Safety
///
/// As for [`chain`].
unsafe fn links_first<T, S>(first: NonNull<Node<T, S>>) {
    let mut last = first;
    let mut open = Some(first);
    let mut copies = Vec::new();
    // Pass over all nodes that are ours. `end` is the first that is not freed in place.
    let end = loop {
        // SAFETY: L4 for `last` (caller, `is_unique` or `release_link`).
        let (next, closing) = unsafe { (link(last), closing(last)) };
        if closing != 0 {
            open = next;
            // SAFETY: `last` closes this block, and it or the node it links to keeps the `Shared`
            // (L5).
            unsafe { block::count_reclaimed(last, closing) };
        }
        // There is no next node at an end, whose slot is the last of its block.
        let Some(next) = next.map(NodeRef) else {
            break None;
        };
        if next.is_unique() {
            last = next.into_raw();
            continue;
        }
        // There is another reference to `next`. So release ours, and copy what is ours of a
        // partial block first. Mostly that is one node. (Both cases are out of line, because a
        // payload that is too large for blocks may be too large for the stack.)
        if block::is_of_many::<T, S>() && last == first && open == Some(first) {
            // SAFETY: L4 for `first`, and `next` is its link's reference.
            match unsafe { one_of_a_block(first, next) } {
                Some(next) => last = next,
                None => return,
            }
            continue;
        }
        if block::is_of_many::<T, S>() {
            // SAFETY: L4 for all from `open` to `last`. The copies are used only if the block is
            // released now, and its nodes then are not.
            unsafe { copy_all(open, next.0, &mut copies) };
        }
        match release_link(next) {
            // Ours was the last reference after all, so the block is still ours.
            Some(next) => last = next,
            None => break open,
        }
        copies.clear();
    };
    let mut at = Some(first);
    let mut copies = copies.iter_mut();
    let _dropping = Dropping::begin();
    even_if_it_panics(|| {
        while let Some(ours) = at.filter(|_| at != end) {
            // SAFETY: L4, and it is not freed yet. Its link is ours or released.
            unsafe {
                at = link(ours);
                node::<T, S, false>(ours);
            }
        }
        for payload in copies.by_ref() {
            // SAFETY: the node it was copied from is not used any more.
            unsafe { payload.assume_init_drop() };
        }
    });
}

/// Releases the link of one node in a partial block, then drops the node's payload.
///
/// Returns the next node if that had no other reference; then nothing is dropped.
///
/// # Safety
///
/// The caller has `node` to itself (L4), and `next` is the reference of its link.
#[inline(never)]
unsafe fn one_of_a_block<T, S>(
    node: NonNull<Node<T, S>>,
    next: NodeRef<T, S>,
) -> Option<NonNull<Node<T, S>>> {
    // SAFETY: L4 (caller). The copy is used only if the block is released now.
    let payload = unsafe { copy(node) };
    let next = release_link(next);
    if next.is_none() {
        let _dropping = Dropping::begin();
        // SAFETY: the node it was copied from is not used any more.
        drop(unsafe { payload.assume_init() });
    }
    next
}

/// Copies the payload of a node, and drops the rest of the node. Only one of the two may be used.
///
/// # Safety
///
/// The caller has `node` to itself (L4).
unsafe fn copy<T, S>(node: NonNull<Node<T, S>>) -> MaybeUninit<Payload<T, S>> {
    // SAFETY: L4 (caller), so it is allocated and no one writes to it.
    unsafe {
        // Leaves a new event in its place, which needs no drop.
        drop(mem::take(&mut (*node.as_ptr()).event));
        { node.as_ref() }
            .payload
            .with(|payload| payload.cast::<MaybeUninit<Payload<T, S>>>().read())
    }
}

/// Copies the payloads of the nodes from `at` up to `end`.
///
/// # Safety
///
/// The caller has all of them to itself (L4).
#[inline(never)]
unsafe fn copy_all<T, S>(
    mut at: Option<NonNull<Node<T, S>>>,
    end: NonNull<Node<T, S>>,
    copies: &mut Vec<MaybeUninit<Payload<T, S>>>,
) {
    while let Some(node) = at.filter(|at| *at != end) {
        // SAFETY: L4 (caller).
        unsafe {
            copies.push(copy(node));
            at = link(node);
        }
    }
}

/// Releases the reference of a link. Returns the node if that was the last.
fn release_link<T, S>(next: NodeRef<T, S>) -> Option<NonNull<Node<T, S>>> {
    let was_last = next.release();
    let next = next.into_raw();
    was_last.then_some(next)
}

/// Returns the node that this one links to; `None` at an end.
///
/// # Safety
///
/// The caller has the node to itself (L4).
#[inline]
unsafe fn link<T, S>(node: NonNull<Node<T, S>>) -> Option<NonNull<Node<T, S>>> {
    // Relaxed: no one has written it since the Acquire that found the last reference released.
    // SAFETY: L4 (caller).
    let next = unsafe { node.as_ref() }.next.load(Relaxed);
    NonNull::new(next).filter(|next| *next != node)
}

/// Returns the [closing numbers](super::block) of a node, 0 if it does not close its block.
///
/// # Safety
///
/// As for [`link`].
#[inline]
unsafe fn closing<T, S>(node: NonNull<Node<T, S>>) -> u64 {
    // Relaxed: no one has written it since the Acquire that found the last reference released.
    // SAFETY: L4 (caller).
    unsafe { node.as_ref() }.state.load(Relaxed) & !REFS & !REQUESTS
}

/// Frees one node: drops its payload and event, and frees the block that it closes, if it does.
///
/// Counts that block as reclaimed if `COUNT` is set.
///
/// # Safety
///
/// The caller has the node to itself (L4), and owns the reference of its link. If `COUNT` is set,
/// the `Shared` is still alive.
#[inline(always)]
#[allow(clippy::inline_always, reason = "a tenth of a read, counted")]
pub(super) unsafe fn node<T, S, const COUNT: bool>(node: NonNull<Node<T, S>>) {
    // SAFETY: L4 (caller).
    let closing = unsafe { closing(node) };
    // SAFETY: L4 (caller).
    let payload = &unsafe { node.as_ref() }.payload;
    // SAFETY: L4 (caller).
    let is_one = payload.with(|payload| matches!(unsafe { &*payload }, Payload::One(_)));
    if closing == 0 && is_one && !mem::needs_drop::<T>() {
        // Inline, since this is the usual case: only the event may need a drop.
        // SAFETY: L4 (caller).
        unsafe { std::ptr::drop_in_place(&raw mut (*node.as_ptr()).event) };
    } else {
        // SAFETY: the caller's contract is its contract.
        unsafe { whole_node::<T, S, COUNT>(node, closing) }
    }
}

/// Frees like [`node`](self::node), for every kind of node.
///
/// # Safety
///
/// As for [`node`](self::node); `closing` are the node's closing numbers.
#[cold]
#[inline(never)]
unsafe fn whole_node<T, S, const COUNT: bool>(node: NonNull<Node<T, S>>, closing: u64) {
    if COUNT && closing != 0 {
        // Before the node is dropped, with which the `Shared` may go.
        // SAFETY: the node closes this block, and the `Shared` is alive (caller).
        unsafe { block::count_reclaimed(node, closing) };
    }
    // A guard: the memory is freed after the payload is dropped, even if that panics.
    // SAFETY: L10: the other nodes of this block have been freed or copied from.
    let _memory = (closing != 0).then(|| unsafe { Memory::of(node, closing) });
    // SAFETY: L4 (caller).
    unsafe { std::ptr::drop_in_place(node.as_ptr()) };
}
