//! Memory for nodes, a block of them at a time.
//!
//! ```text
//!   a block of 4, of which 3 are used:
//!
//!   ┌────────┬────────┬────────┬────────┬ ─ ─ ─ ─┐
//!   │ header │ node 0 ├▶ node 1├▶ node 2│  free     the writer's, or a batch's
//!   └───┼────┴────────┴────────┴────────┴ ─ ─ ─ ─┘
//!       ▼ the buffer's count of reclaimed nodes
//! ```
//!
//! A node owns a reference to its successor, so nodes die in the order of the chain: once the last
//! node of a block is dead, all of them are (L10). **No count is kept of a block's living nodes.**
//! The last node carries the closing numbers in its [state word](super::node), and frees the block.
//! Payloads are dropped before that, or copied out (see `node/free.rs`).
//!
//! The writer knows how many nodes it has used. Freeing a block adds the number of its nodes to a
//! count in the buffer's [`Shared`](super::shared), which the header points to. The difference is
//! the number of nodes in memory, exact to a block. While a block belongs to a batch that has not
//! been published, its header points to the block before it instead.
//!
//! The blocks of a chain grow by doubling. A quiet buffer holds a node or two, and a busy one
//! allocates once for about 16 small items.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::mem;
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::Relaxed;

use super::node::{CLOSING, LIMITS, Node, Payload};
use crate::sync::AtomicU64;

/// The width of the closing numbers: how many nodes of the block are used, and the binary logarithm
/// of its size.
pub(super) const BITS: u32 = USED_BITS + SIZE_BITS;
const USED_BITS: u32 = 6;
const SIZE_BITS: u32 = 3;

/// Returns the binary logarithm of the largest block's size, in nodes.
///
/// A block is about a kilobyte, a size that allocators keep at hand, but at least one node. Without
/// blocks (`--cfg event_buffer_no_blocks`), `AddressSanitizer` sees each node by itself.
const fn max_size_log2<T>() -> u32 {
    const BYTES: usize = 1024;
    let nodes = BYTES / mem::size_of::<Node<T>>();
    if nodes < 2 || cfg!(event_buffer_no_blocks) {
        0
    } else {
        nodes.ilog2()
    }
}

/// Returns `true` if blocks have more than one node.
pub(super) const fn is_of_many<T>() -> bool {
    max_size_log2::<T>() > 0
}

/// The header of a block, which its nodes follow.
#[repr(C)]
struct Header<T> {
    /// The count of reclaimed nodes, an [`AtomicU64`]. While the block belongs to a batch, it is
    /// the header of the block before instead: null at the first block, and when the batch is
    /// dropped.
    link: *mut (),
    /// Pads the header to the alignment of the nodes.
    nodes: [Node<T>; 0],
}

/// Allocates the nodes of one chain, in its order.
pub(super) struct BlockAllocator<T> {
    /// The current block. Null before the first one, and after one was left.
    block: *mut Header<T>,
    /// The count of reclaimed nodes, for new blocks; null in a batch.
    reclaimed: *const AtomicU64,
    /// Nodes in the blocks before this one.
    in_earlier_blocks: u64,
    /// The first of `left` free slots (L9). Dangling if there is none.
    free: NonNull<Node<T>>,
    left: usize,
    size_log2: u32,
    next_size_log2: u32,
    /// The requests that the state word of each new node has from the start.
    state: u64,
}

// SAFETY: `free` points to memory that is this allocator's alone (L9). `block` is dereferenced by
// `count_by` only, while no other thread can reach it. `reclaimed` points to an atomic.
unsafe impl<T: Send + Sync> Send for BlockAllocator<T> {}
// SAFETY: what changes it takes `&mut self`; `&self` only reads numbers.
unsafe impl<T: Send + Sync> Sync for BlockAllocator<T> {}

impl<T> BlockAllocator<T> {
    /// Creates an allocator without a block.
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

    /// Creates an allocator whose first block will have room for `nodes` nodes, or as many as fit.
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

    /// Takes the next free slot. The caller fills it before it takes another one.
    ///
    /// This may allocate, hence panic; filling does not. If the caller makes the payload between
    /// the two, the compiler builds it in place. Copying it would cost more than everything else.
    #[inline]
    pub(super) fn vacancy(&mut self) -> Vacancy<T> {
        if self.left == 0 {
            self.next_block();
        }
        self.left -= 1;
        let free = self.free;
        // SAFETY: L9: `free` points to a free slot. We give that away; behind it is the next one,
        // or the end of the block.
        self.free = unsafe { free.add(1) };
        let mut state = self.state;
        if self.left == 0 {
            state |= self.closing();
        }
        Vacancy { free, state }
    }

    /// Returns `true` if each new slot asks for limits from the start.
    pub(super) fn standing_requests(&self) -> bool {
        self.state != 0
    }

    pub(super) fn set_standing_requests(&mut self, limits: bool) {
        self.state = if limits { LIMITS } else { 0 };
    }

    /// Returns `true` if the next slot will be in a new block.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.left == 0
    }

    /// Gives up the free slots of the block. Its nodes live on; `newest` is the one made last.
    pub(super) fn leave(&mut self, newest: &Node<T>) {
        if self.left > 0 {
            newest.close_block(self.closing());
        }
        self.in_earlier_blocks = self.used();
        self.block = ptr::null_mut();
        self.left = 0;
    }

    /// Returns how many nodes were made here, and by the allocators that this one
    /// [continues](Self::continue_after).
    pub(super) fn used(&self) -> u64 {
        let here = if self.block.is_null() {
            0
        } else {
            (1 << self.size_log2) - self.left
        };
        self.in_earlier_blocks + here as u64
    }

    /// Makes this allocator of a batch continue that of a buffer, which has left its block.
    pub(super) fn continue_after(&mut self, before: &Self) {
        self.in_earlier_blocks += before.used();
        self.count_by(before.reclaimed);
    }

    /// Sets the buffer's count of reclaimed nodes, for the current blocks and those to come. With
    /// null, they are not counted.
    ///
    /// No other thread can reach the blocks yet. The count outlives them, since it is in the
    /// `Shared`, which the last slot of the buffer owns (L5).
    pub(super) fn count_by(&mut self, reclaimed: *const AtomicU64) {
        let mut block = self.block;
        while !block.is_null() {
            // SAFETY: L10: the last node of the block, which frees it, is not made yet, or is known
            // to the caller alone.
            let link = unsafe { &mut (*block).link };
            block = mem::replace(link, reclaimed.cast_mut().cast()).cast();
        }
        self.reclaimed = reclaimed;
    }

    /// Returns the closing numbers for the node made last.
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
        // SAFETY: just allocated, for a header and that many nodes, which begin behind it.
        unsafe {
            (&raw mut (*block).link).write(link);
            self.free = NonNull::new_unchecked(block.add(1).cast());
        }
        self.block = block;
        self.left = 1 << self.size_log2;
    }
}

/// A free slot, given away by a [`BlockAllocator`].
#[must_use]
pub(super) struct Vacancy<T> {
    free: NonNull<Node<T>>,
    state: u64,
}

impl<T> Vacancy<T> {
    #[inline]
    pub(super) fn fill(self, payload: Payload<T>, references: u64) -> NonNull<Node<T>> {
        // SAFETY: L9: the memory is ours alone, and unused.
        unsafe {
            self.free.write(Node::new(payload, references, self.state));
        }
        self.free
    }
}

fn layout<T>(size_log2: usize) -> Layout {
    let nodes = Layout::array::<Node<T>>(1 << size_log2);
    let block = nodes.and_then(|nodes| Layout::new::<Header<T>>().extend(nodes));
    // This never fails: a block is one node, or a few kilobytes.
    block.map_or(Layout::new::<Node<T>>(), |(block, _)| block)
}

/// Returns the header of the block that `node` closes, how many of its nodes are used, and the
/// binary logarithm of its size.
///
/// # Safety
///
/// `node` is the last node of its block, and `closing` its closing numbers.
unsafe fn closed_block<T>(
    node: NonNull<Node<T>>,
    closing: u64,
) -> (NonNull<Header<T>>, u64, usize) {
    // Both numbers are a few bits wide.
    #[allow(clippy::cast_possible_truncation)]
    let numbers = (closing >> CLOSING) as usize;
    let used = numbers & ((1 << USED_BITS) - 1);
    // SAFETY: L10: the block has `used - 1` nodes before this one, and the header before them. The
    // pointer was made from that to the whole block.
    let header = unsafe { node.sub(used - 1).cast::<Header<T>>().sub(1) };
    (header, used as u64, numbers >> USED_BITS)
}

/// Counts the nodes of the block that `node` closes as reclaimed.
///
/// # Safety
///
/// As for [`closed_block`]. The `Shared` of the block's buffer is still alive.
pub(super) unsafe fn count_reclaimed<T>(node: NonNull<Node<T>>, closing: u64) {
    // SAFETY: the caller's contract covers both: the block is allocated, and so is its count.
    unsafe {
        let (header, used, _) = closed_block(node, closing);
        // Relaxed: a statistic, which orders nothing.
        if let Some(reclaimed) = { header.as_ref().link.cast::<AtomicU64>() }.as_ref() {
            reclaimed.fetch_add(used, Relaxed);
        }
    }
}

/// The memory of a block whose nodes are all dead. Freed when dropped.
pub(super) struct Memory<T> {
    start: NonNull<u8>,
    layout: Layout,
    _nodes: PhantomData<Node<T>>,
}

impl<T> Memory<T> {
    /// Takes the memory of the block that `node` closes.
    ///
    /// # Safety
    ///
    /// As for [`closed_block`]. Once the `Memory` is dropped, no node of the block is used.
    pub(super) unsafe fn of(node: NonNull<Node<T>>, closing: u64) -> Self {
        // SAFETY: the caller's contract is the same.
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
