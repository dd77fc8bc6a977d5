//! A place kept alive by a counted reference to it, or to a node before it.

use std::mem;

use super::node_link::Link;
use super::place::{Continuation, NodePtr, NodeRef, NodeState, Place, PlaceRef};
use super::shared::Shared;
use crate::unwind::even_if_it_panics;

/// A place that can move ahead of the counted reference that keeps it alive.
///
/// Taking and releasing a reference costs two atomic operations, too much for every item. So the
/// place moves by plain pointers, and the *anchor* follows now and then.
///
/// Its invariant is L7 of the [module page](super). The fields are private to this file. The
/// methods keep the invariant, given that callers step only to the node that [`read`](Self::read)
/// has returned; debug builds check that.
#[repr(C)]
pub(super) struct Anchored<T, L> {
    anchor: NodeRef<T, L>,
    at: Place<T, L>,
}

impl<T, L> Anchored<T, L> {
    pub(super) fn new(place: PlaceRef<T, L>) -> Self {
        Self {
            at: place.place(),
            anchor: place.into_node_ref(),
        }
    }

    #[inline]
    pub(super) fn node(&self) -> NodePtr<T, L> {
        self.at.node
    }

    #[inline]
    pub(super) fn seq(&self) -> u64 {
        self.at.seq
    }

    #[inline]
    pub(super) fn shared(&self) -> &Shared<L> {
        // SAFETY: L7.
        unsafe { self.at.shared() }
    }

    /// Returns the place with a reference of its own.
    pub(super) fn place_ref(&self) -> PlaceRef<T, L> {
        // SAFETY: L7.
        unsafe { PlaceRef::new(self.at) }
    }

    /// Returns what the slot holds.
    #[inline]
    pub(super) fn read(&self) -> NodeState<'_, T, L> {
        // SAFETY: L7, and the anchor cannot move while `self` is borrowed.
        unsafe { self.read_for() }
    }

    /// Returns what the slot holds, for a lifetime that the caller chooses.
    ///
    /// # Safety
    ///
    /// For `'a` the anchor does not move beyond this slot.
    #[inline]
    pub(super) unsafe fn read_for<'a>(&self) -> NodeState<'a, T, L> {
        // SAFETY: L7 now, and for `'a` since the anchor stays (caller).
        unsafe { self.at.node.read() }
    }

    /// Returns `true` if the slot at `next`, to which this one leads, has been written.
    #[inline]
    pub(super) fn is_written(&self, next: NodePtr<T, L>) -> bool {
        debug_assert!(self.leads_to(next));
        // SAFETY: L7 and L2: this slot's link keeps the next node alive.
        unsafe { next.is_written() }
    }

    /// Moves to the next slot. `next` is what [`read`](Self::read) has returned for this one.
    #[inline]
    pub(super) fn step(&mut self, next: NodePtr<T, L>) {
        debug_assert!(self.leads_to(next));
        self.at.node = next;
        self.at.seq += 1;
    }

    /// Moves to the next slot like [`step`](Self::step), with the anchor, and returns the slot left
    /// behind: the anchor becomes its reference, which saves two operations on the count.
    ///
    /// The anchor is [here](Self::anchor_here).
    #[inline]
    pub(super) fn split_off(&mut self, next: NodePtr<T, L>) -> PlaceRef<T, L> {
        debug_assert!(self.is_anchored_here() && self.leads_to(next));
        // SAFETY: L7 and L2: this slot's link keeps the next node alive.
        let anchor = unsafe { next.acquire() };
        let left = PlaceRef::from_node_ref(mem::replace(&mut self.anchor, anchor), self.at);
        self.step(next);
        left
    }

    /// Follows the splice in this slot, the last of its buffer, which leads to `next`.
    ///
    /// If the buffer has ended otherwise, the place stays.
    pub(super) fn follow(&mut self, next: NodePtr<T, L>) -> Continuation<T, L> {
        debug_assert!(self.leads_to(next));
        // SAFETY: L7.
        let continuation = unsafe { self.at.continuation(next) };
        if let Continuation::Splice(place) = &continuation {
            // The splice is a link like any other: L2 keeps the new place alive.
            self.at = *place;
        }
        continuation
    }

    /// Moves to the place that the writer has noted last, if that is further on in this buffer.
    pub(super) fn jump_to_recent(&mut self) {
        // SAFETY: L7.
        if let Some(recent) = unsafe { self.at.recent() } {
            self.at = recent;
        }
    }

    /// Moves to `to`, with the anchor. Returns the anchor left behind, which is what kept the old
    /// place: dropping it runs user code.
    pub(super) fn jump(&mut self, to: PlaceRef<T, L>) -> NodeRef<T, L> {
        self.at = to.place();
        mem::replace(&mut self.anchor, to.into_node_ref())
    }

    /// Returns `true` if the buffer has ended here and continues in another.
    pub(super) fn is_at_a_splice(&self) -> bool {
        // An end links to itself.
        matches!(self.read(), NodeState::Last(next) if next != self.at.node)
    }

    /// Returns `true` if `next` is the node after this one: what L7 asks of callers.
    fn leads_to(&self, next: NodePtr<T, L>) -> bool {
        match self.read() {
            NodeState::Item(_, node) | NodeState::Last(node) => node == next,
            NodeState::Nothing => false,
        }
    }

    #[inline]
    pub(super) fn is_anchored_here(&self) -> bool {
        self.anchor.as_ptr() == self.at.node
    }

    /// The link to wait for. The anchor is [here](Self::anchor_here).
    pub(super) fn link(&self) -> Link<'_, T, L> {
        debug_assert!(self.is_anchored_here());
        Link {
            node: &self.anchor,
            shared: self.shared(),
        }
    }

    /// Moves the anchor to the place, which frees what only it kept alive. Runs user code, after
    /// which the anchor is at the place even if that panics.
    #[inline]
    pub(super) fn anchor_here(&mut self) {
        if mem::needs_drop::<T>() {
            // Each step frees one node. If its payload panics, the anchor is past it already.
            even_if_it_panics(|| self.catch_up());
        } else {
            self.catch_up();
        }
    }

    #[inline]
    fn catch_up(&mut self) {
        // If no other reader is on the way, take over the links' references one by one.
        while !self.is_anchored_here() && self.anchor.consume() {}
        // Otherwise take a reference of our own, and leave the nodes in between to the others.
        if !self.is_anchored_here() {
            // SAFETY: L7.
            let anchor = unsafe { self.at.node.acquire() };
            drop(mem::replace(&mut self.anchor, anchor));
        }
    }
}
