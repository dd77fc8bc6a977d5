//! Memory for nodes, a block of them at a time.
//!
//! ```text
//!   a block of 4, of which 3 are used:
//!
//!   ┌────────┬────────┬────────┬ ─ ─ ─ ─┐
//!   │ node 0 ├▶ node 1├▶ node 2│  room     the writer's, or a batch's
//!   └────────┴────────┴────────┴ ─ ─ ─ ─┘
//! ```
//!
//! A node holds a reference to its successor, so nodes die in the order of the chain: once the
//! last node of a block is dead, all of them are. **No count is kept of a block's living nodes:**
//! its last node carries the closing numbers (in its [state word](super::node)) and takes the
//! block with it. Payloads are dropped before, or [moved out](super::node).
//!
//! The blocks of a chain grow by doubling, so a quiet buffer holds a node or two and a busy one
//! allocates once in 16 small items.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::mem;
use std::ptr::NonNull;

use super::node::{CLOSING, LIMITS, Node, Payload};

/// The numbers in a closing node: how many nodes of the block are used, and the block's size as
/// a power of two.
pub(super) const BITS: u32 = USED_BITS + SIZE_BITS;
const USED_BITS: u32 = 6;
const SIZE_BITS: u32 = 3;

/// The size of the largest blocks, as a power of two: about a kilobyte, which allocators keep at
/// hand, and at least one node.
///
/// Without blocks (`--cfg event_buffer_no_blocks`) `AddressSanitizer` sees each node by itself.
const fn max_size_log2<T>() -> u32 {
    const BYTES: usize = 1024;
    let nodes = BYTES / mem::size_of::<Node<T>>();
    if nodes < 2 || cfg!(event_buffer_no_blocks) {
        0
    } else {
        nodes.ilog2()
    }
}

/// Whether there are blocks of more than one node.
pub(super) const fn is_of_many<T>() -> bool {
    max_size_log2::<T>() > 0
}

/// The unused places of a block, and the size of the next block.
pub(super) struct Room<T> {
    /// Where `left` places are free. Dangling where none is.
    free: NonNull<Node<T>>,
    left: usize,
    size_log2: u32,
    next_size_log2: u32,
    /// What the state word of each new node has from the start: requests.
    state: u64,
}

impl<T> Room<T> {
    /// None yet.
    pub(super) const fn new() -> Self {
        Self {
            free: NonNull::dangling(),
            left: 0,
            size_log2: 0,
            next_size_log2: 0,
            state: 0,
        }
    }

    /// None yet, but the first block will have room for that many nodes, or as many as fit.
    pub(super) fn for_at_least(nodes: usize) -> Self {
        let log2 = match nodes {
            0 | 1 => 0,
            n => (n - 1).ilog2() + 1,
        };
        Self {
            next_size_log2: log2.min(max_size_log2::<T>()),
            ..Self::new()
        }
    }

    /// The place of the next node. To be filled before the next one is asked for.
    ///
    /// This may allocate, hence panic; filling does not. With the payload made between the two the
    /// compiler builds it in its place, where a copy would cost more than all the rest.
    #[inline]
    pub(super) fn vacancy(&mut self) -> Vacancy<T> {
        if self.left == 0 {
            self.next_block();
        }
        self.left -= 1;
        let place = self.free;
        // SAFETY: there was a free place, which `free` points at; it is given away now, and the
        // next one is behind it, or the end of the block.
        self.free = unsafe { place.add(1) };
        let mut state = self.state;
        if self.left == 0 {
            state |= self.closing();
        }
        Vacancy { place, state }
    }

    /// Whether the limits of each slot are requested from the start.
    pub(super) fn standing_requests(&self) -> bool {
        self.state != 0
    }

    pub(super) fn set_standing_requests(&mut self, limits: bool) {
        self.state = if limits { LIMITS } else { 0 };
    }

    /// Whether the next place will be in a new block.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.left == 0
    }

    /// Gives up what is left of the block. Its nodes so far go on living, of which `newest` is
    /// the one put last.
    pub(super) fn leave(&mut self, newest: &Node<T>) {
        if self.left > 0 {
            newest.close_block(self.closing());
            self.left = 0;
        }
    }

    /// The closing numbers for the node put last.
    fn closing(&self) -> u64 {
        const { assert!(1_usize << max_size_log2::<T>() < 1 << USED_BITS) };
        let used = (1 << self.size_log2) - self.left;
        (used as u64 | u64::from(self.size_log2) << USED_BITS) << CLOSING
    }

    #[cold]
    fn next_block(&mut self) {
        self.size_log2 = self.next_size_log2;
        self.next_size_log2 = (self.size_log2 + 1).min(max_size_log2::<T>());
        let layout = layout::<T>(self.size_log2 as usize);
        // SAFETY: a node is not zero-sized.
        let block = unsafe { alloc(layout) };
        self.free = NonNull::new(block.cast()).unwrap_or_else(|| handle_alloc_error(layout));
        self.left = 1 << self.size_log2;
    }
}

/// The place of one node.
#[must_use]
pub(super) struct Vacancy<T> {
    place: NonNull<Node<T>>,
    state: u64,
}

impl<T> Vacancy<T> {
    #[inline]
    pub(super) fn fill(self, payload: Payload<T>, references: u64) -> NonNull<Node<T>> {
        // SAFETY: the place is ours alone (`vacancy`), and what was there before is dead.
        unsafe {
            self.place.write(Node::new(payload, references, self.state));
        }
        self.place
    }
}

fn layout<T>(size_log2: usize) -> Layout {
    let nodes = 1 << size_log2;
    // Never fails: a block is one node, or a few kilobytes.
    Layout::array::<Node<T>>(nodes).unwrap_or(Layout::new::<Node<T>>())
}

/// The memory of a whole block, all nodes of which are dead. Freed when dropped.
pub(super) struct Memory<T> {
    start: NonNull<u8>,
    layout: Layout,
    _nodes: PhantomData<Node<T>>,
}

impl<T> Memory<T> {
    /// The block that `node` closes with these numbers.
    ///
    /// # Safety
    ///
    /// `node` is the last node of its block, `closing` what its state word says, and
    /// once the answer is dropped no node of the block is used.
    pub(super) unsafe fn of(node: NonNull<Node<T>>, closing: u64) -> Self {
        // At most a few bits each.
        #[allow(clippy::cast_possible_truncation)]
        let numbers = (closing >> CLOSING) as usize;
        let used = numbers & ((1 << USED_BITS) - 1);
        let size_log2 = numbers >> USED_BITS;
        Self {
            // SAFETY: the node was put into a block behind `used - 1` others, by way of a pointer
            // to the whole block.
            start: unsafe { node.sub(used - 1) }.cast(),
            layout: layout::<T>(size_log2),
            _nodes: PhantomData,
        }
    }
}

impl<T> Drop for Memory<T> {
    fn drop(&mut self) {
        // SAFETY: allocated in `next_block` with this layout, and not used any more (`of`).
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}
