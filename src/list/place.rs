//! A counted place in a chain.

use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::node::{NodePtr, NodeRef, NodeState};
use super::node_link::Link;
use super::shared::{Ending, Shared};
use super::weak_place::WeakPlace;
use crate::error::RecvError;
use crate::link::{Awaited, wait_for};

/// A place: the node, its number within its buffer, and the buffer's record.
pub(super) struct Place<T> {
    pub(super) node: NodePtr<T>,
    pub(super) seq: u64,
    shared: NonNull<Shared<T>>,
}

impl<T> Clone for Place<T> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Place<T> {}

/// What a reader finds at a place.
pub(crate) enum Read {
    Empty,
    Item,
    /// [`RecvError::Closed`] or [`RecvError::Failed`].
    End(RecvError),
}

/// Where a buffer's last slot leads.
pub(super) enum Continuation<T> {
    /// On, in another buffer.
    Splice(Place<T>),
    End(RecvError),
}

impl<T> Place<T> {
    pub(super) fn new(node: NodePtr<T>, seq: u64, shared: &Arc<Shared<T>>) -> Self {
        // By way of the `Arc`, so that it can be made one again (`PlaceRef::owner`).
        // SAFETY: no `Arc` points to null.
        let shared = unsafe { NonNull::new_unchecked(Arc::as_ptr(shared).cast_mut()) };
        Self { node, seq, shared }
    }

    /// # Safety
    ///
    /// The place is alive for `'a`: a hold on its node or on one before it exists.
    #[inline]
    pub(super) unsafe fn shared<'a>(self) -> &'a Shared<T> {
        // SAFETY: the node is alive (caller), so all nodes after it are, up to the last slot of
        // its buffer, which owns the record.
        unsafe { self.shared.as_ref() }
    }

    /// The place after this one, which holds an item.
    #[inline]
    pub(super) fn followed_by(self, next: NodePtr<T>) -> Self {
        Self {
            node: next,
            seq: self.seq + 1,
            shared: self.shared,
        }
    }

    /// A place further on in this buffer, as far as its writer has noted; the last one not long ago.
    ///
    /// # Safety
    ///
    /// As for [`record`](Self::record).
    pub(super) unsafe fn recent(self) -> Option<Self> {
        // SAFETY: alive (caller).
        let (seq, node) = unsafe { self.shared() }.recent().get()?;
        // One that is not further on may have been freed. One that is further on is alive, since what comes after a
        // living node is. (Items that are replaced in place or passed over leave the number too small for its node,
        // but then nobody was at a place before it, and everyone who comes later is at that number or beyond.)
        if seq <= self.seq {
            return None;
        }
        let node = NodePtr::from_erased(node)?;
        Some(Self { node, seq, ..self })
    }

    /// How it goes on at this place, which is the last of its buffer and leads to `next`.
    ///
    /// # Safety
    ///
    /// As for [`record`](Self::record).
    #[cold]
    pub(super) unsafe fn continuation(self, next: NodePtr<T>) -> Continuation<T> {
        // SAFETY: alive (caller).
        match unsafe { self.shared() }.ending() {
            Some(Ending::Spliced { to, seq }) => Continuation::Splice(Self::new(next, seq, &to)),
            Some(Ending::Failed(error)) => Continuation::End(RecvError::Failed(error)),
            Some(Ending::Closed) | None => Continuation::End(RecvError::Closed),
        }
    }
}

/// A node that is kept alive, and its buffer's record. Two words, which are passed in registers: by way
/// of memory that was written just before, a publish to one who waits takes a tenth longer.
pub(super) struct OwnedNode<T> {
    node: NodeRef<T>,
    shared: NonNull<Shared<T>>,
}

// SAFETY: a `NodeRef` and a pointer to a `Shared`, which is `Send + Sync`.
unsafe impl<T: Send + Sync> Send for OwnedNode<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for OwnedNode<T> {}

impl<T> OwnedNode<T> {
    /// The node at `place`, which is the one that `hold` is a reference to.
    #[inline]
    pub(super) fn new(node: NodeRef<T>, place: Place<T>) -> Self {
        debug_assert!(node.as_ptr() == place.node);
        Self {
            node,
            shared: place.shared,
        }
    }

    #[inline]
    pub(super) fn link(&self) -> Link<'_, T> {
        Link {
            node: &self.node,
            shared: self.shared(),
        }
    }

    #[inline]
    pub(super) fn node_ref(&self) -> &NodeRef<T> {
        &self.node
    }

    #[inline]
    pub(super) fn shared(&self) -> &Shared<T> {
        // SAFETY: our hold keeps the node alive, so all nodes after it are, up to the last slot of its
        // buffer, which owns the record.
        unsafe { self.shared.as_ref() }
    }

    /// Shared ownership of the record.
    pub(super) fn owner(&self) -> Arc<Shared<T>> {
        let shared = self.shared.as_ptr();
        // SAFETY: it comes from an `Arc` (`Place::new`), and our hold keeps the slot that owns one.
        unsafe {
            Arc::increment_strong_count(shared);
            Arc::from_raw(shared)
        }
    }
}

/// A place with a counted reference: it keeps itself and all that follows alive.
pub(crate) struct PlaceRef<T> {
    owned: OwnedNode<T>,
    seq: u64,
}

impl<T> PlaceRef<T> {
    /// # Safety
    ///
    /// The place is alive throughout the call.
    #[inline]
    pub(super) unsafe fn new(place: Place<T>) -> Self {
        // SAFETY: alive (caller).
        Self::from_node_ref(unsafe { place.node.acquire() }, place)
    }

    /// The slot at `place`, whose node is the one that `hold` is a reference to.
    #[inline]
    pub(super) fn from_node_ref(node: NodeRef<T>, place: Place<T>) -> Self {
        Self {
            owned: OwnedNode::new(node, place),
            seq: place.seq,
        }
    }

    #[inline]
    pub(super) fn place(&self) -> Place<T> {
        Place {
            node: self.owned.node.as_ptr(),
            seq: self.seq,
            shared: self.owned.shared,
        }
    }

    pub(super) fn into_node_ref(self) -> NodeRef<T> {
        self.owned.node
    }

    pub(super) fn shared(&self) -> &Shared<T> {
        self.owned.shared()
    }

    /// Shared ownership of the record.
    pub(crate) fn owner(&self) -> Arc<Shared<T>> {
        self.owned.owner()
    }

    /// What stands here. Goes over splices, which moves the slot on.
    pub(crate) fn read(&mut self) -> Read {
        loop {
            // SAFETY: our hold keeps the place alive.
            match unsafe { self.owned.node.as_ptr().read() } {
                NodeState::Nothing => return Read::Empty,
                NodeState::Item(..) => return Read::Item,
                // SAFETY: as above.
                NodeState::Last(next) => match unsafe { self.place().continuation(next) } {
                    Continuation::End(error) => return Read::End(error),
                    // SAFETY: our hold keeps what follows alive.
                    Continuation::Splice(place) => *self = unsafe { Self::new(place) },
                },
            }
        }
    }

    /// The events of a slot that is known to hold an item; none for any other.
    #[inline]
    pub(crate) fn events(&self) -> &[T] {
        // SAFETY: our hold keeps the place alive.
        match unsafe { self.owned.node.as_ptr().read() } {
            NodeState::Item(events, _) => events,
            NodeState::Nothing | NodeState::Last(_) => &[],
        }
    }

    /// The slot after one that is known to hold an item; any other slot itself.
    pub(crate) fn after(&self) -> Self {
        // SAFETY: our hold keeps the place alive.
        match unsafe { self.owned.node.as_ptr().read() } {
            // SAFETY: our hold keeps what follows alive.
            NodeState::Item(_, next) => unsafe { Self::new(self.place().followed_by(next)) },
            NodeState::Nothing | NodeState::Last(_) => self.clone(),
        }
    }

    /// The place so many items further on, or the last one before that, and how many that is.
    pub(crate) fn ahead(&self, items: u64) -> (Self, u64) {
        let mut left = items;
        let to = self.walk(|_| {
            let keep_going = left > 0;
            left -= u64::from(keep_going);
            keep_going
        });
        (to, items - left)
    }

    /// Goes over the items that are there, from this slot on, as long as `go_on` answers true; the
    /// answer is the place come to.
    pub(crate) fn walk(&self, mut keep_going: impl FnMut(&[T]) -> bool) -> Self {
        let mut at = self.place();
        loop {
            // SAFETY: our hold keeps what follows alive.
            at = match unsafe { at.node.read() } {
                NodeState::Item(events, next) if keep_going(events) => at.followed_by(next),
                // SAFETY: as above.
                NodeState::Last(next) => match unsafe { at.continuation(next) } {
                    Continuation::Splice(place) => place,
                    Continuation::End(_) => break,
                },
                NodeState::Item(..) | NodeState::Nothing => break,
            };
        }
        // SAFETY: as above.
        unsafe { Self::new(at) }
    }

    /// Waits until this slot is written. Cancel safe.
    pub(crate) async fn written(&self) {
        wait_for(&self.owned.link()).await;
    }

    /// Asks the writer of the next item to enforce lag limits; returns whether there is one already. Follows
    /// splices.
    pub(crate) fn request_limits(&mut self) -> bool {
        loop {
            let link = self.owned.link();
            link.node.node().request_limits();
            // Again: it may have been written before the writer could see the request.
            if !link.has_happened() {
                return false;
            }
            match self.read() {
                Read::Item => return true,
                Read::End(_) => return false,
                // It followed a splice.
                Read::Empty => {}
            }
        }
    }

    /// The last slot of this buffer, as far as it is there.
    pub(super) fn end_of_region(&self) -> Self {
        let mut at = self.place();
        // SAFETY: our hold keeps what follows alive.
        if let Some(recent) = unsafe { at.recent() } {
            at = recent;
        }
        // SAFETY: as above.
        while let NodeState::Item(_, next) = unsafe { at.node.read() } {
            at = at.followed_by(next);
        }
        // SAFETY: as above.
        unsafe { Self::new(at) }
    }

    /// The place in the next buffer that this one leads to, if it was spliced.
    pub(super) fn next_region(&self) -> Option<Self> {
        let end = self.end_of_region();
        // SAFETY: our hold keeps what follows alive.
        unsafe {
            let NodeState::Last(next) = end.place().node.read() else {
                return None;
            };
            match end.place().continuation(next) {
                Continuation::Splice(place) => Some(Self::new(place)),
                Continuation::End(_) => None,
            }
        }
    }

    /// Asks the writer of the next item for the limits; returns whether that is the next item, or there will be
    /// none in this buffer.
    pub(super) fn is_last_after_request(&self) -> bool {
        self.owned.node.node().request_limits();
        // SAFETY: our hold keeps the place alive.
        !matches!(
            unsafe { self.owned.node.as_ptr().read() },
            NodeState::Item(..)
        )
    }

    pub(super) fn seq(&self) -> u64 {
        self.seq
    }

    pub(super) fn is_in(&self, shared: &Shared<T>) -> bool {
        ptr::eq(self.shared(), shared)
    }

    /// The same place, not counted.
    pub(crate) fn mark(&self) -> WeakPlace<T> {
        WeakPlace::new(self.owner(), self.seq)
    }

    pub(crate) fn lag(&self) -> u64 {
        self.shared().lag(self.seq)
    }
}

impl<T> Clone for PlaceRef<T> {
    #[inline]
    fn clone(&self) -> Self {
        Self::from_node_ref(self.owned.node.clone(), self.place())
    }
}
