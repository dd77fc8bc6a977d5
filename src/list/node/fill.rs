//! Filling slots: one after the other, or a batch at once.

use std::hint::unreachable_unchecked;
use std::mem;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};

use super::block::{BlockAllocator, Vacancy};
use super::{NodePtr, NodeRef, Payload};

impl<T, S> NodeRef<T, S> {
    /// Creates the first slot of a new buffer, which is empty and owns `shared`.
    pub(in crate::list) fn first(shared: Arc<S>, allocator: &mut BlockAllocator<T, S>) -> Self {
        Self(allocator.vacancy().fill(Payload::Last(shared), 1))
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
    pub(in crate::list) unsafe fn fill(
        &mut self,
        first: impl FnOnce() -> Payload<T, S>,
        rest: Option<Chain<T, S>>,
        vacancy: Vacancy<T, S>,
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
    pub(in crate::list) unsafe fn end(&self, target: Option<Self>) {
        let next = match target {
            Some(target) => target.into_raw(),
            None => self.0,
        };
        // Release: publishes the ending. Pairs with every Acquire load of `next` by a reader (L1).
        self.node().next.store(next.as_ptr(), Release);
    }
}

/// A private chain of filled nodes (L11).
pub(in crate::list) struct Chain<T, S> {
    first: NodePtr<T, S>,
    last: NodePtr<T, S>,
}

impl<T, S> Chain<T, S> {
    pub(in crate::list) fn newest(&self) -> NodePtr<T, S> {
        self.last
    }
}

/// Items to be published: filled and linked already, but not visible to readers.
pub(crate) struct Batch<T, S> {
    first: Option<Payload<T, S>>,
    rest: Option<Chain<T, S>>,
    len: u64,
    /// The block that the nodes of `rest` are in, with its free slots.
    allocator: BlockAllocator<T, S>,
}

impl<T, S> Batch<T, S> {
    /// Makes a batch of one item.
    pub(crate) fn one(item: Payload<T, S>) -> Self {
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
    pub(in crate::list) fn take(
        &mut self,
    ) -> Option<(Payload<T, S>, Option<(Chain<T, S>, BlockAllocator<T, S>)>)> {
        self.len = 0;
        let rest = self.rest.take();
        let allocator = mem::replace(&mut self.allocator, BlockAllocator::new());
        Some((self.first.take()?, rest.map(|rest| (rest, allocator))))
    }
}

impl<T, S> FromIterator<T> for Batch<T, S> {
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

impl<T, S> Drop for Batch<T, S> {
    fn drop(&mut self) {
        if let Some(rest) = self.rest.take() {
            self.allocator.count_by(ptr::null());
            // SAFETY: L11.
            self.allocator.leave(unsafe { rest.last.0.as_ref() });
            // The first node's one reference was meant for the link, which is not made now.
            drop((self.first.take(), NodeRef(rest.first.0)));
        }
    }
}
