//! Places in the list: plain ones, and ones with a counted reference.

use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::node;
use super::node_link::Link;
use super::shared::{Ending, Shared};
use super::weak_place::WeakPlace;
use crate::error::{BookmarkError, RecvError};
use crate::link::{Awaited, wait_for};

/// A counted reference to a node of a list: see [`node::NodeRef`].
pub(super) type NodeRef<T, L> = node::NodeRef<T, Shared<L>>;
/// A plain pointer to a node of a list: see [`node::NodePtr`].
pub(super) type NodePtr<T, L> = node::NodePtr<T, Shared<L>>;
/// What a reader finds in a slot of a list: see [`node::NodeState`].
pub(super) type NodeState<'a, T, L> = node::NodeState<'a, T, Shared<L>>;

/// A pointer to the [`Shared`] of a buffer, valid while a node of that buffer is alive (L5).
struct SharedPtr<L>(NonNull<Shared<L>>);

// SAFETY: all access goes through unsafe methods, and what they give is `&Shared<L>` or
// `Arc<Shared<L>>`, both of which are `Send` and `Sync` under these bounds.
unsafe impl<L: Send + Sync> Send for SharedPtr<L> {}
// SAFETY: the same argument.
unsafe impl<L: Send + Sync> Sync for SharedPtr<L> {}

impl<L> Clone for SharedPtr<L> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<L> Copy for SharedPtr<L> {}

impl<L> SharedPtr<L> {
    /// Points to what the `Arc` owns, in a way that allows [`to_arc`](Self::to_arc).
    #[inline]
    fn new(shared: &Arc<Shared<L>>) -> Self {
        // SAFETY: no `Arc` points to null.
        Self(unsafe { NonNull::new_unchecked(Arc::as_ptr(shared).cast_mut()) })
    }

    /// # Safety
    ///
    /// A node of the buffer is alive for `'a`.
    #[inline]
    unsafe fn get<'a>(self) -> &'a Shared<L> {
        // SAFETY: L5, by the node that the caller keeps alive.
        unsafe { self.0.as_ref() }
    }

    /// # Safety
    ///
    /// A node of the buffer is alive throughout the call.
    unsafe fn to_arc(self) -> Arc<Shared<L>> {
        let shared = self.0.as_ptr();
        // SAFETY: L5, by the node that the caller keeps alive. The pointer comes from an `Arc`
        // (`new`).
        unsafe {
            Arc::increment_strong_count(shared);
            Arc::from_raw(shared)
        }
    }
}

/// A place: a node, the sequence number of its slot, and the buffer's [`Shared`].
///
/// It keeps nothing alive. Whatever holds it also holds a reference to this node or to one before.
pub(super) struct Place<T, L> {
    pub(super) node: NodePtr<T, L>,
    pub(super) seq: u64,
    shared: SharedPtr<L>,
}

impl<T, L> Clone for Place<T, L> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, L> Copy for Place<T, L> {}

/// What a reader finds at a place.
pub(crate) enum Read {
    Empty,
    Item,
    /// [`RecvError::Closed`] or [`RecvError::Failed`].
    End(RecvError),
}

/// What follows a buffer's last slot.
pub(super) enum Continuation<T, L> {
    /// The buffer continues at this place of another one.
    Splice(Place<T, L>),
    End(RecvError),
}

impl<T, L> Place<T, L> {
    pub(super) fn new(node: NodePtr<T, L>, seq: u64, shared: &Arc<Shared<L>>) -> Self {
        let shared = SharedPtr::new(shared);
        Self { node, seq, shared }
    }

    /// # Safety
    ///
    /// The place is alive for `'a`: a reference to its node, or to one before it, exists.
    #[inline]
    pub(super) unsafe fn shared<'a>(self) -> &'a Shared<L> {
        // SAFETY: the node is alive (caller).
        unsafe { self.shared.get() }
    }

    /// Returns the place that this buffer's writer has noted last, if it is further on.
    ///
    /// # Safety
    ///
    /// As for [`shared`](Self::shared).
    pub(super) unsafe fn recent(self) -> Option<Self> {
        // SAFETY: alive (caller).
        let (seq, node) = unsafe { self.shared() }.recent().get()?;
        // A noted place that is not further on may have been freed. One that is further on is
        // alive, by L8. (An item that is replaced in place or skipped leaves the number too small
        // for its node. But then no reader was before it, and every later reader is at that number
        // or beyond.)
        if seq <= self.seq {
            return None;
        }
        let node = NodePtr::from_erased(node)?;
        Some(Self { node, seq, ..self })
    }

    /// Returns what follows this place, the last of its buffer, which leads to `next`.
    ///
    /// # Safety
    ///
    /// As for [`shared`](Self::shared).
    #[cold]
    pub(super) unsafe fn continuation(self, next: NodePtr<T, L>) -> Continuation<T, L> {
        // SAFETY: alive (caller).
        match unsafe { self.shared() }.ending() {
            Some(Ending::Spliced { to, seq }) => Continuation::Splice(Self::new(next, seq, &to)),
            Some(Ending::Failed(error)) => Continuation::End(RecvError::Failed(error)),
            Some(Ending::Closed) | None => Continuation::End(RecvError::Closed),
        }
    }
}

/// A place with a counted reference, which keeps it and everything after it alive.
pub(crate) struct PlaceRef<T, L> {
    node: NodeRef<T, L>,
    seq: u64,
    shared: SharedPtr<L>,
}

impl<T, L> PlaceRef<T, L> {
    /// # Safety
    ///
    /// The place is alive throughout the call.
    #[inline]
    pub(super) unsafe fn new(place: Place<T, L>) -> Self {
        // SAFETY: alive (caller).
        Self::from_node_ref(unsafe { place.node.acquire() }, place)
    }

    /// Makes a place of `node`, a reference to the node at `place`.
    #[inline]
    pub(super) fn from_node_ref(node: NodeRef<T, L>, place: Place<T, L>) -> Self {
        debug_assert!(node.as_ptr() == place.node);
        Self {
            node,
            seq: place.seq,
            shared: place.shared,
        }
    }

    #[inline]
    pub(super) fn place(&self) -> Place<T, L> {
        Place {
            node: self.node.as_ptr(),
            seq: self.seq,
            shared: self.shared,
        }
    }

    #[inline]
    fn look(&self) -> Ahead<'_, T, L> {
        Ahead {
            at: self.place(),
            _from: PhantomData,
        }
    }

    #[inline]
    pub(super) fn node_ref(&self) -> &NodeRef<T, L> {
        &self.node
    }

    pub(super) fn into_node_ref(self) -> NodeRef<T, L> {
        self.node
    }

    #[inline]
    pub(super) fn shared(&self) -> &Shared<L> {
        // SAFETY: L5, by our reference.
        unsafe { self.shared.get() }
    }

    /// Returns shared ownership of the `Shared`.
    pub(crate) fn owner(&self) -> Arc<Shared<L>> {
        // SAFETY: L5, by our reference.
        unsafe { self.shared.to_arc() }
    }

    /// The link to wait for.
    #[inline]
    pub(super) fn link(&self) -> Link<'_, T, L> {
        Link {
            node: &self.node,
            shared: self.shared(),
        }
    }

    /// Returns what there is to read. Follows splices, which moves the place.
    pub(crate) fn read(&mut self) -> Read {
        loop {
            let mut at = self.look();
            match at.read() {
                NodeState::Nothing => return Read::Empty,
                NodeState::Item(..) => return Read::Item,
                NodeState::Last(next) => match at.follow(next) {
                    Continuation::End(error) => return Read::End(error),
                    Continuation::Splice(_) => *self = at.to_ref(),
                },
            }
        }
    }

    /// Returns the events of a slot that is known to hold an item; none for any other slot.
    #[inline]
    pub(crate) fn events(&self) -> &[T] {
        match self.look().read() {
            NodeState::Item(events, _) => events,
            NodeState::Nothing | NodeState::Last(_) => &[],
        }
    }

    /// Returns the place after an item, or this place again if it holds none.
    pub(crate) fn after(&self) -> Self {
        let mut at = self.look();
        if let NodeState::Item(_, next) = at.read() {
            at.step(next);
        }
        at.to_ref()
    }

    /// Returns the place `items` further on, or the last one before that, and its distance.
    pub(crate) fn ahead(&self, items: u64) -> (Self, u64) {
        let mut left = items;
        let to = self.walk(|_| {
            let keep_going = left > 0;
            left -= u64::from(keep_going);
            keep_going
        });
        (to, items - left)
    }

    /// Walks from this slot on, over the items for which `keep_going` returns `true`.
    ///
    /// Returns the place of the first item for which it does not, or else of the last slot. Follows
    /// splices.
    pub(crate) fn walk(&self, mut keep_going: impl FnMut(&[T]) -> bool) -> Self {
        let mut at = self.look();
        loop {
            match at.read() {
                NodeState::Item(events, next) if keep_going(events) => at.step(next),
                NodeState::Last(next) => {
                    if let Continuation::End(_) = at.follow(next) {
                        break;
                    }
                }
                NodeState::Item(..) | NodeState::Nothing => break,
            }
        }
        at.to_ref()
    }

    /// Waits until this slot is written. Cancel safe.
    pub(crate) async fn written(&self) {
        wait_for(&self.link()).await;
    }

    /// Asks the writer of the next item to enforce lag limits. Follows splices.
    ///
    /// Returns `true` if there is an item already: then its writer may have missed the request.
    pub(crate) fn request_limits(&mut self) -> bool {
        loop {
            let link = self.link();
            link.node.node().request_limits();
            // The slot may have been written before its writer could see the request.
            if !link.has_happened() {
                return false;
            }
            match self.read() {
                Read::Item => return true,
                Read::End(_) => return false,
                // `read` has followed a splice to an empty slot: ask that one's writer.
                Read::Empty => {}
            }
        }
    }

    /// Returns the last slot of this buffer, as far as it is linked.
    pub(super) fn end_of_region(&self) -> Self {
        let mut at = self.look();
        at.jump_to_recent();
        while let NodeState::Item(_, next) = at.read() {
            at.step(next);
        }
        at.to_ref()
    }

    /// Returns the place in the next buffer that this one leads to, if it is spliced.
    pub(super) fn next_region(&self) -> Option<Self> {
        let end = self.end_of_region();
        let mut at = end.look();
        let NodeState::Last(next) = at.read() else {
            return None;
        };
        match at.follow(next) {
            Continuation::Splice(_) => Some(at.to_ref()),
            Continuation::End(_) => None,
        }
    }

    /// Asks the writer of the next item to enforce lag limits.
    ///
    /// Returns `true` if that will be the item at this slot, or this buffer has ended here.
    pub(super) fn is_last_after_request(&self) -> bool {
        self.node.node().request_limits();
        !matches!(self.look().read(), NodeState::Item(..))
    }

    pub(super) fn seq(&self) -> u64 {
        self.seq
    }

    pub(super) fn is_in(&self, shared: &Shared<L>) -> bool {
        ptr::eq(self.shared(), shared)
    }

    /// Returns the same place by its number, which keeps nothing alive.
    pub(crate) fn downgrade(&self) -> WeakPlace<L> {
        WeakPlace::new(self.owner(), self.seq)
    }

    /// Returns the place of `weak` with a reference. This place is the oldest that is retained.
    ///
    /// # Errors
    ///
    /// If an item from there on is no longer retained, or `weak` does not lead to this buffer.
    pub(super) fn find(&self, weak: &WeakPlace<L>) -> Result<Self, BookmarkError> {
        let WeakPlace {
            mut shared,
            mut seq,
        } = weak.clone();
        let mut lost = 0;
        while !self.is_in(&shared) {
            let (next, at) = shared.successor().ok_or(BookmarkError::OtherBuffer)?;
            lost += shared.published_since(seq);
            (shared, seq) = (next, at);
        }
        lost += self.seq.saturating_sub(seq);
        if lost > 0 {
            return Err(BookmarkError::Lost(lost));
        }
        Ok(self.ahead(seq - self.seq).0)
    }

    pub(crate) fn lag(&self) -> u64 {
        self.shared().lag(self.seq)
    }
}

impl<T, L> Clone for PlaceRef<T, L> {
    #[inline]
    fn clone(&self) -> Self {
        Self::from_node_ref(self.node.clone(), self.place())
    }
}

/// A place at or after a [`PlaceRef`], which is borrowed for `'a` and keeps it alive (L2).
struct Ahead<'a, T, L> {
    at: Place<T, L>,
    _from: PhantomData<&'a PlaceRef<T, L>>,
}

impl<'a, T, L> Ahead<'a, T, L> {
    #[inline]
    fn read(&self) -> NodeState<'a, T, L> {
        // SAFETY: L2, by the borrowed reference.
        unsafe { self.at.node.read() }
    }

    /// Moves to `next`, which is what [`read`](Self::read) has returned for the item here.
    #[inline]
    fn step(&mut self, next: NodePtr<T, L>) {
        self.at.node = next;
        self.at.seq += 1;
    }

    /// Follows the splice here, if the buffer has not ended otherwise.
    fn follow(&mut self, next: NodePtr<T, L>) -> Continuation<T, L> {
        // SAFETY: L2, by the borrowed reference.
        let continuation = unsafe { self.at.continuation(next) };
        if let Continuation::Splice(place) = &continuation {
            self.at = *place;
        }
        continuation
    }

    fn jump_to_recent(&mut self) {
        // SAFETY: L2, by the borrowed reference.
        if let Some(recent) = unsafe { self.at.recent() } {
            self.at = recent;
        }
    }

    fn to_ref(&self) -> PlaceRef<T, L> {
        // SAFETY: L2, by the borrowed reference.
        unsafe { PlaceRef::new(self.at) }
    }
}
