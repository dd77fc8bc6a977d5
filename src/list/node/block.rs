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
//! The last node carries the closing numbers in its [state word](super), and frees the block.
//! Payloads are dropped before that, or copied out (see `node/free.rs`).
//!
//! The writer knows how many nodes it has used. Freeing a block adds the number of its nodes to a
//! count in the buffer's [`Shared`](super::super::shared), which the header points to. The
//! difference is the number of nodes in memory, exact to a block. While a block belongs to a batch
//! that has not been published, its header points to the block before it instead.
//!
//! The blocks of a chain grow by doubling. A quiet buffer holds a node or two, and a busy one
//! allocates once for about 16 small items.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::mem;
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::Relaxed;

use super::{CLOSING, LIMITS, Node, Payload, USED_BITS};
use crate::sync::AtomicU64;

/// Returns the binary logarithm of the largest block's size, in nodes.
///
/// A block is about a kilobyte, a size that allocators keep at hand, but at least one node. Without
/// blocks (`--cfg event_buffer_no_blocks`), `AddressSanitizer` sees each node by itself.
const fn max_size_log2<T, S>() -> u32 {
    const BYTES: usize = 1024;
    let nodes = BYTES / mem::size_of::<Node<T, S>>();
    if nodes < 2 || cfg!(event_buffer_no_blocks) {
        0
    } else {
        nodes.ilog2()
    }
}

/// Returns `true` if blocks have more than one node.
pub(in crate::list) const fn is_of_many<T, S>() -> bool {
    max_size_log2::<T, S>() > 0
}

/// The header of a block, which its nodes follow.
#[repr(C)]
struct Header<T, S> {
    /// The count of reclaimed nodes, an [`AtomicU64`]. While the block belongs to a batch, it is
    /// the header of the block before instead: null at the first block, and when the batch is
    /// dropped.
    link: *mut (),
    /// Pads the header to the alignment of the nodes.
    nodes: [Node<T, S>; 0],
}

/// Allocates the nodes of one chain, in its order.
pub(in crate::list) struct BlockAllocator<T, S> {
    /// The current block. Null before the first one, and after one was left.
    block: *mut Header<T, S>,
    /// The count of reclaimed nodes, for new blocks; null in a batch.
    reclaimed: *const AtomicU64,
    /// Nodes in the blocks before this one.
    in_earlier_blocks: u64,
    /// The first of `left` free slots (L9). Dangling if there is none.
    free: NonNull<Node<T, S>>,
    left: usize,
    size_log2: u32,
    next_size_log2: u32,
    /// The requests that the state word of each new node has from the start.
    state: u64,
}

// SAFETY: `free` points to memory that is this allocator's alone (L9). `block` is dereferenced by
// `count_by` only, while no other thread can reach it. `reclaimed` points to an atomic.
unsafe impl<T: Send + Sync, S: Send + Sync> Send for BlockAllocator<T, S> {}
// SAFETY: what changes it takes `&mut self`; `&self` only reads numbers.
unsafe impl<T: Send + Sync, S: Send + Sync> Sync for BlockAllocator<T, S> {}

impl<T, S> BlockAllocator<T, S> {
    /// Creates an allocator without a block.
    pub(in crate::list) const fn new() -> Self {
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
    pub(in crate::list) fn for_at_least(nodes: usize) -> Self {
        let log2 = match nodes {
            0 | 1 => 0,
            n => (n - 1).ilog2() + 1,
        };
        Self {
            next_size_log2: log2.min(max_size_log2::<T, S>()),
            ..Self::new()
        }
    }

    /// Takes the next free slot. The caller fills it before it takes another one.
    ///
    /// This may allocate, hence panic; filling does not. If the caller makes the payload between
    /// the two, the compiler builds it in place. Copying it would cost more than everything else.
    #[inline]
    pub(in crate::list) fn vacancy(&mut self) -> Vacancy<T, S> {
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
    pub(in crate::list) fn standing_requests(&self) -> bool {
        self.state != 0
    }

    pub(in crate::list) fn set_standing_requests(&mut self, limits: bool) {
        self.state = if limits { LIMITS } else { 0 };
    }

    /// Returns `true` if the next slot will be in a new block.
    #[inline]
    pub(in crate::list) fn is_full(&self) -> bool {
        self.left == 0
    }

    /// Gives up the free slots of the block. Its nodes live on; `newest` is the one made last.
    pub(in crate::list) fn leave(&mut self, newest: &Node<T, S>) {
        if self.left > 0 {
            newest.close_block(self.closing());
        }
        self.in_earlier_blocks = self.used();
        self.block = ptr::null_mut();
        self.left = 0;
    }

    /// Returns how many nodes were made here, and by the allocators that this one
    /// [continues](Self::continue_after).
    pub(in crate::list) fn used(&self) -> u64 {
        let here = if self.block.is_null() {
            0
        } else {
            (1 << self.size_log2) - self.left
        };
        self.in_earlier_blocks + here as u64
    }

    /// Makes this allocator of a batch continue that of a buffer, which has left its block.
    pub(in crate::list) fn continue_after(&mut self, before: &Self) {
        self.in_earlier_blocks += before.used();
        self.count_by(before.reclaimed);
    }

    /// Sets the buffer's count of reclaimed nodes, for the current blocks and those to come. With
    /// null, they are not counted.
    ///
    /// No other thread can reach the blocks yet. The count outlives them, since it is in the
    /// `Shared`, which the last slot of the buffer owns (L5).
    pub(in crate::list) fn count_by(&mut self, reclaimed: *const AtomicU64) {
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
        const { assert!(1_usize << max_size_log2::<T, S>() < 1 << USED_BITS) };
        let used = (1 << self.size_log2) - self.left;
        (used as u64 | u64::from(self.size_log2) << USED_BITS) << CLOSING
    }

    #[cold]
    fn next_block(&mut self) {
        self.in_earlier_blocks = self.used();
        self.size_log2 = self.next_size_log2;
        self.next_size_log2 = (self.size_log2 + 1).min(max_size_log2::<T, S>());
        let layout = layout::<T, S>(self.size_log2 as usize);
        // SAFETY: a header is not zero-sized.
        let block = unsafe { alloc(layout) }.cast::<Header<T, S>>();
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
pub(in crate::list) struct Vacancy<T, S> {
    free: NonNull<Node<T, S>>,
    state: u64,
}

impl<T, S> Vacancy<T, S> {
    #[inline]
    pub(in crate::list) fn fill(
        self,
        payload: Payload<T, S>,
        references: u64,
    ) -> NonNull<Node<T, S>> {
        // SAFETY: L9: the memory is ours alone, and unused.
        unsafe {
            self.free.write(Node::new(payload, references, self.state));
        }
        self.free
    }
}

fn layout<T, S>(size_log2: usize) -> Layout {
    let nodes = Layout::array::<Node<T, S>>(1 << size_log2);
    let block = nodes.and_then(|nodes| Layout::new::<Header<T, S>>().extend(nodes));
    // This never fails: a block is one node, or a few kilobytes.
    block.map_or(Layout::new::<Node<T, S>>(), |(block, _)| block)
}

/// Returns the header of the block that `node` closes, how many of its nodes are used, and the
/// binary logarithm of its size.
///
/// # Safety
///
/// `node` is the last node of its block, and `closing` its closing numbers.
unsafe fn closed_block<T, S>(
    node: NonNull<Node<T, S>>,
    closing: u64,
) -> (NonNull<Header<T, S>>, u64, usize) {
    // Both numbers are a few bits wide.
    #[allow(clippy::cast_possible_truncation)]
    let numbers = (closing >> CLOSING) as usize;
    let used = numbers & ((1 << USED_BITS) - 1);
    // SAFETY: L10: the block has `used - 1` nodes before this one, and the header before them. The
    // pointer was made from that to the whole block.
    let header = unsafe { node.sub(used - 1).cast::<Header<T, S>>().sub(1) };
    (header, used as u64, numbers >> USED_BITS)
}

/// Counts the nodes of the block that `node` closes as reclaimed.
///
/// # Safety
///
/// As for [`closed_block`]. The `Shared` of the block's buffer is still alive.
pub(in crate::list) unsafe fn count_reclaimed<T, S>(node: NonNull<Node<T, S>>, closing: u64) {
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
pub(in crate::list) struct Memory<T, S> {
    start: NonNull<u8>,
    layout: Layout,
    _nodes: PhantomData<Node<T, S>>,
}

impl<T, S> Memory<T, S> {
    /// Takes the memory of the block that `node` closes.
    ///
    /// # Safety
    ///
    /// As for [`closed_block`]. Once the `Memory` is dropped, no node of the block is used.
    pub(in crate::list) unsafe fn of(node: NonNull<Node<T, S>>, closing: u64) -> Self {
        // SAFETY: the caller's contract is the same.
        let (header, _, size_log2) = unsafe { closed_block(node, closing) };
        Self {
            start: header.cast(),
            layout: layout::<T, S>(size_log2),
            _nodes: PhantomData,
        }
    }
}

impl<T, S> Drop for Memory<T, S> {
    fn drop(&mut self) {
        // SAFETY: allocated in `next_block` with this layout, and not used any more (`of`).
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}
