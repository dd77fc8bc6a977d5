//! Memory for nodes, a block of them at a time.
//!
//! ```text
//!   a block of 4, of which 3 are used:
//!
//!   ┌────────┬────────┬────────┬────────┬ ─ ─ ─ ─┐
//!   │ header │ node 0 ├▶ node 1├▶ node 2│  room     the writer's, or a batch's
//!   └───┼────┴────────┴────────┴────────┴ ─ ─ ─ ─┘
//!       ▼ the buffer's count of reclaimed nodes
//! ```
//!
//! A node holds a reference to its successor, so nodes die in the order of the chain: once the
//! last node of a block is dead, all of them are. **No count is kept of a block's living nodes:**
//! its last node carries the closing numbers (in its [state word](super::node)) and takes the
//! block with it. Payloads are dropped before, or [moved out](super::node).
//!
//! The writer knows how many nodes it has used. What reclaims a block adds the number of its nodes to a
//! count in the buffer's [record](super::record), which the header leads to: the difference is the number of
//! nodes in memory, exact to a block. While a block belongs to a batch that has not been published, its
//! header leads to the block before it instead.
//!
//! The blocks of a chain grow by doubling, so a quiet buffer holds a node or two and a busy one
//! allocates once in 16 small items.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::mem;
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::Relaxed;

use super::node::{CLOSING, LIMITS, Node, Payload};
use crate::sync::AtomicU64;

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

/// What stands in front of the nodes of a block.
#[repr(C)]
struct Header<T> {
    /// The count of reclaimed nodes, an [`AtomicU64`]; or the header of the block before, as long as this one
    /// belongs to a batch. Null at the first block of a batch, and while a batch is dropped.
    link: *mut (),
    /// Pads the header to the alignment of the nodes.
    nodes: [Node<T>; 0],
}

/// The unused places of a block, and the size of the next block.
pub(super) struct BlockAllocator<T> {
    /// Null before the first block, and after the last one was left.
    block: *mut Header<T>,
    /// What new blocks are counted by; null for those of a batch.
    reclaimed: *const AtomicU64,
    /// Nodes in the blocks before this one.
    in_earlier_blocks: u64,
    /// Where `left` places are free. Dangling where none is.
    free: NonNull<Node<T>>,
    left: usize,
    size_log2: u32,
    next_size_log2: u32,
    /// What the state word of each new node has from the start: requests.
    state: u64,
}

// SAFETY: `free` leads to unused memory that is this allocator's alone (L9), and `block` is
// dereferenced only by `count_by`, while no other thread can reach the block. `reclaimed` leads to
// an atomic.
unsafe impl<T: Send + Sync> Send for BlockAllocator<T> {}
// SAFETY: all that changes it takes `&mut self`; `&self` reads plain numbers.
unsafe impl<T: Send + Sync> Sync for BlockAllocator<T> {}

impl<T> BlockAllocator<T> {
    /// None yet.
    pub(super) const fn new() -> Self {
        Self {
            block: ptr::null_mut(),
            reclaimed: ptr::null(),
            in_earlier_blocks: 0,
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
        let free = self.free;
        // SAFETY: there was a free place, which `free` points at; it is given away now, and the
        // next one is behind it, or the end of the block.
        self.free = unsafe { free.add(1) };
        let mut state = self.state;
        if self.left == 0 {
            state |= self.closing();
        }
        Vacancy { free, state }
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
        }
        self.in_earlier_blocks = self.used();
        self.block = ptr::null_mut();
        self.left = 0;
    }

    /// How many nodes were placed here, and in the rooms that this one [continues](Self::join).
    pub(super) fn used(&self) -> u64 {
        let here = if self.block.is_null() {
            0
        } else {
            (1 << self.size_log2) - self.left
        };
        self.in_earlier_blocks + here as u64
    }

    /// Makes this, the room of a batch, continue the room of a buffer, which was left.
    pub(super) fn continue_after(&mut self, before: &Self) {
        self.in_earlier_blocks += before.used();
        self.count_by(before.reclaimed);
    }

    /// The buffer's count of reclaimed nodes, for the blocks that are there and those to come. Null: they are not
    /// counted.
    ///
    /// No other thread can reach them yet, and the count outlives them: it is in the record that the last slot of
    /// the buffer owns.
    pub(super) fn count_by(&mut self, reclaimed: *const AtomicU64) {
        let mut block = self.block;
        while !block.is_null() {
            // SAFETY: the last node of a block, which takes it along, is yet to be placed or nobody else has it.
            let link = unsafe { &mut (*block).link };
            block = mem::replace(link, reclaimed.cast_mut().cast()).cast();
        }
        self.reclaimed = reclaimed;
    }

    /// The closing numbers for the node put last.
    fn closing(&self) -> u64 {
        const { assert!(1_usize << max_size_log2::<T>() < 1 << USED_BITS) };
        let used = (1 << self.size_log2) - self.left;
        (used as u64 | u64::from(self.size_log2) << USED_BITS) << CLOSING
    }

    #[cold]
    fn next_block(&mut self) {
        self.in_earlier_blocks = self.used();
        self.size_log2 = self.next_size_log2;
        self.next_size_log2 = (self.size_log2 + 1).min(max_size_log2::<T>());
        let layout = layout::<T>(self.size_log2 as usize);
        // SAFETY: a header is not zero-sized.
        let block = unsafe { alloc(layout) }.cast::<Header<T>>();
        if block.is_null() {
            handle_alloc_error(layout);
        }
        let link = if self.reclaimed.is_null() {
            self.block.cast()
        } else {
            self.reclaimed.cast_mut().cast()
        };
        // SAFETY: just allocated, with room for a header and that many nodes, which begin behind it.
        unsafe {
            (&raw mut (*block).link).write(link);
            self.free = NonNull::new_unchecked(block.add(1).cast());
        }
        self.block = block;
        self.left = 1 << self.size_log2;
    }
}

/// The place of one node.
#[must_use]
pub(super) struct Vacancy<T> {
    free: NonNull<Node<T>>,
    state: u64,
}

impl<T> Vacancy<T> {
    #[inline]
    pub(super) fn fill(self, payload: Payload<T>, references: u64) -> NonNull<Node<T>> {
        // SAFETY: the place is ours alone (`vacancy`), and what was there before is dead.
        unsafe {
            self.free.write(Node::new(payload, references, self.state));
        }
        self.free
    }
}

fn layout<T>(size_log2: usize) -> Layout {
    let nodes = Layout::array::<Node<T>>(1 << size_log2);
    let block = nodes.and_then(|nodes| Layout::new::<Header<T>>().extend(nodes));
    // Never fails: a block is one node, or a few kilobytes.
    block.map_or(Layout::new::<Node<T>>(), |(block, _)| block)
}

/// The block that `node` closes with these numbers: its header, how many of its nodes are used, and the binary
/// logarithm of its size.
///
/// # Safety
///
/// `node` is the last node of its block, and `closing` what its state word says.
unsafe fn closed_block<T>(
    node: NonNull<Node<T>>,
    closing: u64,
) -> (NonNull<Header<T>>, u64, usize) {
    // At most a few bits each.
    #[allow(clippy::cast_possible_truncation)]
    let numbers = (closing >> CLOSING) as usize;
    let used = numbers & ((1 << USED_BITS) - 1);
    // SAFETY: the node was put into a block behind `used - 1` others and the header, by way of a pointer to the
    // whole block.
    let header = unsafe { node.sub(used - 1).cast::<Header<T>>().sub(1) };
    (header, used as u64, numbers >> USED_BITS)
}

/// Counts the nodes of the block that `node` closes as reclaimed.
///
/// # Safety
///
/// As for [`closed_block`]; the record of the block's buffer is still there.
pub(super) unsafe fn count_reclaimed<T>(node: NonNull<Node<T>>, closing: u64) {
    // SAFETY: the caller's.
    unsafe {
        let (header, used, _) = closed_block(node, closing);
        // Relaxed: only a number.
        if let Some(reclaimed) = { header.as_ref().link.cast::<AtomicU64>() }.as_ref() {
            reclaimed.fetch_add(used, Relaxed);
        }
    }
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
        // SAFETY: the caller's.
        let (header, _, size_log2) = unsafe { closed_block(node, closing) };
        Self {
            start: header.cast(),
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
