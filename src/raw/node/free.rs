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

use std::mem::{self, MaybeUninit};
use std::ptr::NonNull;
use std::sync::atomic::Ordering::Relaxed;

use super::super::block::Memory;
use super::{Hold, Node, Payload, REFS, WAITING};
use crate::unwind::even_if_it_panics;

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
        if mem::needs_drop::<T>() {
            links_first(first);
        } else {
            in_order(first);
        }
    }
}

/// As [`chain`], each node before its link is given up.
///
/// # Safety
///
/// The same.
unsafe fn in_order<T>(mut at: NonNull<Node<T>>) {
    loop {
        // SAFETY: nobody else has a reference (caller, or the check below).
        let next = unsafe { link(at) }.map(Hold);
        // SAFETY: as above, and what it links to is taken care of.
        unsafe { node(at) };
        match next {
            Some(next) if next.give_up() => at = next.into_raw(),
            other => return mem::forget(other),
        }
    }
}

/// As [`chain`], all nodes after their links are given up.
///
/// # Safety
///
/// The same.
unsafe fn links_first<T>(first: NonNull<Node<T>>) {
    let mut last = first;
    let mut open = Some(first);
    // Mostly there is but one.
    let (mut one, mut more) = (None, Vec::new());
    // The first that is not freed in its place.
    let end = loop {
        // SAFETY: nobody else has a reference to `last` (caller, or the checks below).
        let (next, closing) = unsafe { (link(last), closing(last)) };
        if closing != 0 {
            open = next;
        }
        // A buffer's last slot closes its block.
        let Some(next) = next.map(Hold) else {
            break None;
        };
        if !next.is_unique() {
            let mut at = open;
            while let Some(node) = at.filter(|at| *at != next.0) {
                // SAFETY: all from `open` to `last` are ours. Of a payload and its copy but one is used:
                // the copy, if the block is given up now.
                unsafe {
                    let payload = node
                        .as_ref()
                        .payload
                        .with(|payload| payload.cast::<MaybeUninit<Payload<T>>>().read());
                    match one {
                        None => one = Some(payload),
                        Some(_) => more.push(payload),
                    }
                    at = link(node);
                }
            }
            if !next.give_up() {
                mem::forget(next);
                break open;
            }
            // It was the last reference after all, so the block is ours still.
            (one, more) = (None, Vec::new());
        }
        last = next.into_raw();
    };
    let mut at = Some(first);
    let mut copies = one.into_iter().chain(more);
    even_if_it_panics(|| {
        while let Some(ours) = at.filter(|_| at != end) {
            // SAFETY: not freed yet, and what it links to is taken care of.
            unsafe {
                at = link(ours);
                node(ours);
            }
        }
        for payload in copies.by_ref() {
            // SAFETY: what it was copied from is not used any more.
            drop(unsafe { payload.assume_init() });
        }
    });
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
unsafe fn closing<T>(node: NonNull<Node<T>>) -> usize {
    // Relaxed: as above.
    // SAFETY: the caller's.
    unsafe { node.as_ref() }.state.load(Relaxed) & !REFS & !WAITING
}

/// Frees one node: drops its payload, and where it closes a block gives back the memory.
///
/// # Safety
///
/// The node is the caller's, and so is its reference on the next.
#[inline]
pub(super) unsafe fn node<T>(node: NonNull<Node<T>>) {
    // SAFETY: the caller's.
    let closing = unsafe { closing(node) };
    // Dropped after the payload, also where that panics.
    // SAFETY: nodes are freed in the order of the chain, so with the node that closes its block
    // all others in it are.
    let _memory = (closing != 0).then(|| unsafe { Memory::of(node, closing) });
    // SAFETY: as above.
    unsafe { std::ptr::drop_in_place(node.as_ptr()) };
}
