//! How nodes are freed.
//!
//! A chain goes from its head, as far as nobody else holds it. Where dropping events is foreign code, which
//! may take its time or block, **all references on what follows are given up before the first event
//! is dropped**. Otherwise that would keep alive whatever is published meanwhile, though
//! everybody is done with it.
//!
//! ```text
//!   first             open     last
//!     │  ours           │        │  others'
//!   [ 0 ]─▶ … ─▶[ 15 ]─▶[ 16 ]─▶[ 17 ]─▶[ 18 ]─▶ …
//!     whole blocks:       begun: who frees its last node frees all of it. So 16 and 17
//!     freed in place      are copied before the reference on 18 is given up.
//! ```
//!
//! An event may own the last handle to a later item, so that its drop frees that item, whose event may own
//! one in turn. So that this does not go deeper and deeper, what is freed *by the drop of an event* gives
//! up each link after its event is dropped: then the next item is left to the loop again.

use std::cell::Cell;
use std::mem::{self, MaybeUninit};
use std::ptr::NonNull;
use std::sync::atomic::Ordering::Relaxed;

use super::super::block::{self, Memory};
use super::{Node, NodeRef, Payload, REFS, REQUESTS};
use crate::sync::thread_local;
use crate::unwind::even_if_it_panics;

thread_local! {
    #[allow(clippy::missing_const_for_thread_local, reason = "loom has none")]
    static DROPPING: Cell<bool> = Cell::new(false);
}

/// Events are being dropped on this thread, by us, whose links have been given up.
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

/// Frees a node without references, and what only it kept alive. Goes on also where the drop of an
/// event panics; the first panic goes on after that.
///
/// # Safety
///
/// The caller gave up the last reference to `first`.
#[cold]
#[inline(never)]
pub(super) unsafe fn chain<T>(first: NonNull<Node<T>>) {
    // SAFETY: the caller's.
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

/// As [`chain`], where there is next to no foreign code.
///
/// # Safety
///
/// The same.
unsafe fn without_drops<T>(mut at: NonNull<Node<T>>) {
    loop {
        // Given up also where an error that a buffer has failed with panics when it is dropped.
        // SAFETY: nobody else has a reference (caller, or `let_go`).
        let next = unsafe { link(at) }.map(NodeRef);
        // SAFETY: as above, and what it links to is taken care of. That or the node keeps the record.
        unsafe { node::<T, true>(at) };
        match next.and_then(release_link) {
            Some(next) => at = next,
            None => return,
        }
    }
}

/// As [`chain`], each node before its link is given up.
///
/// # Safety
///
/// The same.
unsafe fn in_order<T>(first: NonNull<Node<T>>) {
    let mut ours = Some(first);
    let mut next = None;
    even_if_it_panics(|| {
        while let Some(at) = ours.take().or_else(|| next.take().and_then(release_link)) {
            // SAFETY: nobody else has a reference (caller, or `let_go`), and what it links to is
            // taken care of. That or the node keeps the record.
            unsafe {
                next = link(at).map(NodeRef);
                node::<T, true>(at);
            }
        }
    });
}

/// As [`chain`], all nodes after their links are given up.
///
/// # Safety
///
/// The same.
unsafe fn links_first<T>(first: NonNull<Node<T>>) {
    let mut last = first;
    let mut open = Some(first);
    let mut copies = Vec::new();
    // The first that is not freed in its place.
    let end = loop {
        // SAFETY: nobody else has a reference to `last` (caller, or the checks below).
        let (next, closing) = unsafe { (link(last), closing(last)) };
        if closing != 0 {
            open = next;
            // SAFETY: as above; the node, or what it links to, keeps the record until then.
            unsafe { block::count_reclaimed(last, closing) };
        }
        // A buffer's last slot closes its block.
        let Some(next) = next.map(NodeRef) else {
            break None;
        };
        if next.is_unique() {
            last = next.into_raw();
            continue;
        }
        // Mostly it is but one. (Out of line, both: a payload that is too large for blocks may be too
        // large for the stack, too.)
        if block::is_of_many::<T>() && last == first && open == Some(first) {
            // SAFETY: as above.
            match unsafe { one_of_a_block(first, next) } {
                Some(next) => last = next,
                None => return,
            }
            continue;
        }
        if block::is_of_many::<T>() {
            // SAFETY: all from `open` to `last` are ours. The copies are used if the block is given up now.
            unsafe { copy_all(open, next.0, &mut copies) };
        }
        match release_link(next) {
            // The block is ours still.
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
            // SAFETY: not freed yet, and what it links to is taken care of.
            unsafe {
                at = link(ours);
                node::<T, false>(ours);
            }
        }
        for payload in copies.by_ref() {
            // SAFETY: what it was copied from is not used any more.
            unsafe { payload.assume_init_drop() };
        }
    });
}

/// Gives up the link of one node in a block that has been begun, then drops its payload. The answer is
/// the next node if that had no other reference: then nothing was dropped.
///
/// # Safety
///
/// Nobody else has a reference to `node`, and `next` is its link's.
#[inline(never)]
unsafe fn one_of_a_block<T>(node: NonNull<Node<T>>, next: NodeRef<T>) -> Option<NonNull<Node<T>>> {
    // SAFETY: the caller's; it is used if the block is given up now.
    let payload = unsafe { copy(node) };
    let next = release_link(next);
    if next.is_none() {
        let _dropping = Dropping::begin();
        // SAFETY: what it was copied from is not used any more.
        drop(unsafe { payload.assume_init() });
    }
    next
}

/// The payload of a node, of which there are two then: one is to be used. The rest of the node is dropped.
///
/// # Safety
///
/// Nobody else has a reference to `node`.
unsafe fn copy<T>(node: NonNull<Node<T>>) -> MaybeUninit<Payload<T>> {
    // SAFETY: exclusive (caller), hence allocated and not written to.
    unsafe {
        // A new event in its place needs no drop.
        drop(mem::take(&mut (*node.as_ptr()).event));
        { node.as_ref() }
            .payload
            .with(|payload| payload.cast::<MaybeUninit<Payload<T>>>().read())
    }
}

/// Those of the nodes from `at` on, up to `end`.
///
/// # Safety
///
/// Nobody else has a reference to any of them.
#[inline(never)]
unsafe fn copy_all<T>(
    mut at: Option<NonNull<Node<T>>>,
    end: NonNull<Node<T>>,
    copies: &mut Vec<MaybeUninit<Payload<T>>>,
) {
    while let Some(node) = at.filter(|at| *at != end) {
        // SAFETY: the caller's.
        unsafe {
            copies.push(copy(node));
            at = link(node);
        }
    }
}

/// Gives up a link's reference; answers the node if it was the last.
fn release_link<T>(next: NodeRef<T>) -> Option<NonNull<Node<T>>> {
    let was_last = next.release();
    let next = next.into_raw();
    was_last.then_some(next)
}

/// What a node links to; `None` at an end.
///
/// # Safety
///
/// The node is the caller's: nobody else has a reference to it.
#[inline]
unsafe fn link<T>(node: NonNull<Node<T>>) -> Option<NonNull<Node<T>>> {
    // Relaxed: exclusive since the Acquire that found the count at its end.
    // SAFETY: the caller's.
    let next = unsafe { node.as_ref() }.next.load(Relaxed);
    NonNull::new(next).filter(|next| *next != node)
}

/// The [closing numbers](super::super::block) of a node; 0 where it is not the last of its block.
///
/// # Safety
///
/// As for [`link`].
#[inline]
unsafe fn closing<T>(node: NonNull<Node<T>>) -> u64 {
    // Relaxed: as above.
    // SAFETY: the caller's.
    unsafe { node.as_ref() }.state.load(Relaxed) & !REFS & !REQUESTS
}

/// Frees one node: drops its payload and its event, and gives back the memory of the block that it closes, if it does.
/// Counts that block as reclaimed if `COUNT` is set.
///
/// # Safety
///
/// The node is the caller's, and so is its reference on the next. If `COUNT` is set, the record is still there.
#[inline(always)]
#[allow(clippy::inline_always, reason = "a tenth of a read, counted")]
pub(super) unsafe fn node<T, const COUNT: bool>(node: NonNull<Node<T>>) {
    // SAFETY: the caller's.
    let closing = unsafe { closing(node) };
    // SAFETY: as above.
    let payload = &unsafe { node.as_ref() }.payload;
    // SAFETY: as above.
    let is_one = payload.with(|payload| matches!(unsafe { &*payload }, Payload::One(_)));
    if closing == 0 && is_one && !mem::needs_drop::<T>() {
        // Inline, since it is so usual: nothing but the event may need a drop.
        // SAFETY: as above.
        unsafe { std::ptr::drop_in_place(&raw mut (*node.as_ptr()).event) };
    } else {
        // SAFETY: as above.
        unsafe { whole_node::<T, COUNT>(node, closing) }
    }
}

/// As [`node`](self::node), for any node.
///
/// # Safety
///
/// The same; `closing` are its closing numbers.
#[cold]
#[inline(never)]
unsafe fn whole_node<T, const COUNT: bool>(node: NonNull<Node<T>>, closing: u64) {
    if COUNT && closing != 0 {
        // First: with the node, the record may go.
        // SAFETY: the caller's.
        unsafe { block::count_reclaimed(node, closing) };
    }
    // Dropped after the payload, also where that panics.
    // SAFETY: nodes die in the order of the chain, freed or copied from, so with the node that closes its
    // block all others in it are dead.
    let _memory = (closing != 0).then(|| unsafe { Memory::of(node, closing) });
    // SAFETY: the caller's.
    unsafe { std::ptr::drop_in_place(node.as_ptr()) };
}
