//! The linked list: all unsafe code of the crate, behind a safe interface.
//!
//! This page tells the whole design. The files add what only they need.
//!
//! # The list
//!
//! A buffer is a chain of *nodes*. Each node is a *slot* that is filled once, with an item, and
//! never changes again. The chain is *slot first*: it always ends in one empty slot, the next to be
//! filled. A reader therefore stands on the slot it will read next, not on the item it has read
//! last, and keeps nothing alive that it has consumed.
//!
//! ```text
//!       Window (replay)     Cursor (a reader)                Writer
//!            │ counted       │ anchor (counted)   place       │ counted
//!            ▼               ▼                    ▼           ▼
//!        ┌────────┐      ┌────────┐           ┌────────┐    ┌───────────────┐
//!        │ item 0 │      │ item 1 │           │ item 2 │    │ empty, slot 3 │
//!        │ next ──┼─────▶│ next ──┼──────────▶│ next ──┼───▶│ next = null   │
//!        └────────┘      └────────┘           └────────┘    └──────┬────────┘
//!                                                                  ▼ owns
//!                                             Shared (counts, waiters, limits, how it ended)
//! ```
//!
//! To publish, the [`Writer`] moves the `Shared` into a new empty node, puts the item into the old
//! one, and links the two with one `Release` store to `next`. A batch is a chain built in private,
//! which the same single store makes visible as a whole. A reader loads `next` with `Acquire`. If
//! it is null, the slot is empty; otherwise the payload is there, and reading it takes no lock and
//! writes nothing.
//!
//! # References
//!
//! The state word of a [node] counts the references to it. Each `next` link owns one reference to
//! its successor, so a reference to a node keeps all later nodes alive, and releasing the last
//! reference to the oldest node frees everything up to the next node that is still referenced.
//!
//! | type | what it is |
//! |---|---|
//! | [`NodeRef`](node::NodeRef) | one counted reference to a node |
//! | [`NodePtr`](node::NodePtr) | a plain pointer to a node, which something else keeps alive |
//! | [`Place`](place::Place) | a `NodePtr`, the slot's sequence number, and its buffer's `Shared` |
//! | [`PlaceRef`] | a place with a counted reference of its own |
//! | [`WeakPlace`] | a place by its number, which keeps no item alive |
//! | [`Anchored`](anchored::Anchored) | a place at or after its counted reference |
//!
//! These types have two parameters: `T`, the events, and `L`, what a buffer knows of the readers
//! whose lag is limited. The list itself does not look at the latter. The [registry] says what it
//! is, and names the types that it makes, with one parameter.
//!
//! A reader does not count its reference forward with each item: its [`Cursor`] steps by plain
//! pointers, at most 32 slots ahead of its *anchor*. A reader that has caught up is anchored where
//! it stands.
//!
//! # Waiting
//!
//! While a slot is empty, tasks may wait for it. Each node has an *event* that they listen to, and
//! its state word has the *waiting bit*, which tells the writer that there may be a listener. The
//! writer reads the bit in the operation with which it releases its reference to the slot it has
//! just filled. So publishing to readers that do not wait costs nothing on their account. The
//! [`link`](crate::link) module argues why no wake-up is lost. A second bit, set and read in the
//! same way, asks the writer to enforce lag limits.
//!
//! # Memory
//!
//! Nodes are allocated in [blocks](node::block), one allocation for up to a kilobyte of them. Nodes
//! die in the order of the chain, so a block needs no count of its living nodes: its last node
//! carries the block's size, and frees it.
//!
//! Freeing a chain is a loop, never a recursion, however long the chain. The links are released
//! before the first event is dropped, because the drop of an event is user code that may take its
//! time. Otherwise the chain would keep alive whatever is published in the meantime. See
//! `node/free.rs`.
//!
//! # The end, and what comes after it
//!
//! An *end* (clean or failed) is the last slot with `next` pointing to itself. Before that, the
//! writer notes the kind of end in the buffer's [`Shared`](shared::Shared).
//!
//! A *splice* is the last slot with `next` pointing to a slot of another buffer, while the `Shared`
//! says `Spliced`. A reader follows the link and continues there, under that buffer's numbers. It
//! cannot tell the difference from one long buffer. The splice link is counted like every other: a
//! reader before it keeps the second buffer's items alive.
//!
//! ```text
//!   buffer A:  [a0]─▶[a1]─▶[A's last slot]            Shared of A: Spliced { to: Shared of B, … }
//!                                 │ next
//!                                 ▼
//!   buffer B:        [b0]─▶[b1]─▶[b2]─▶[empty]        Shared of B
//! ```
//!
//! Splices never form a ring: all of them take one lock, under which the writer first follows the
//! splices ahead.
//!
//! # Readers that others can move
//!
//! A plain reader is the only one that knows its cursor. A reader with a closer or a lag limit puts
//! its cursor behind a [leash], which lets others take the cursor away without ever waiting for the
//! reader. The writer does so to enforce [limits]: a limited reader must not hold more than its
//! limit in memory, even if it is never polled again. It then shares a [trail], a place that the
//! writer moves forward for all readers that lag by about as much.
//!
//! # Invariants
//!
//! The `SAFETY` comments of this folder name these by their numbers.
//!
//! * **L1, written once.** A slot's payload is written while `next` is null, by the writer alone.
//!   `next` is stored once, with `Release`, after it. From then on neither changes, except under
//!   L4. Kept by `NodeRef::fill` and `NodeRef::end`.
//! * **L2, links own.** A `next` link owns one reference to its successor, splices included. (The
//!   self-link of an end owns none.) So a reference to a node keeps every later node alive. Kept by
//!   `fill` and `end`, which turn references into links, and by `consume` and `node::free`, which
//!   turn links back into references.
//! * **L3, counted.** While the count in a node's state is not 0, the node is allocated and its
//!   payload is not dropped. The count is that of the `NodeRef`s and links to the node. Kept by
//!   `NodePtr::acquire` and `NodeRef`'s `Clone` and `Drop`.
//! * **L4, alone.** A caller whose own reference is the only one, as an `Acquire` load of the count
//!   has shown, has the node to itself. No other reference can appear: it would have to come from
//!   an existing one, or from the link of a predecessor, which would be counted. Found by
//!   `NodeRef::is_unique` and `NodeRef::release`.
//! * **L5, the last slot owns the `Shared`.** The payload of a buffer's last slot, empty or ended,
//!   is an `Arc<Shared>`. By L2 every node of the buffer keeps that slot alive. So a `Place` may
//!   have a plain pointer to the `Shared`, as long as its node is kept alive. Kept by
//!   `NodeRef::first`, and by `fill`, which moves the `Arc` on.
//! * **L6, one writer.** `Writer::last` is a reference to the last slot, which is empty until
//!   `Writer::ended` is set. There is one `Writer` to a chain, and what fills or ends a slot takes
//!   `&mut Writer`.
//! * **L7, anchored.** The place of an `Anchored` is the node of its anchor or a later one, so L2
//!   keeps it alive. Kept by the methods of `Anchored`, and by their callers, which step only to
//!   the node that `read` has returned.
//! * **L8, noted places.** `Shared::recent` holds the number and the node of one slot of this
//!   buffer, read as a pair. If the number is greater than that of a living node of the buffer, L2
//!   keeps the noted node alive, too. Kept by `Writer::note_recent` and by `Recent`.
//! * **L9, free slots.** The memory from `BlockAllocator::free` on, `left` nodes of it, belongs to
//!   that allocator alone. `vacancy` gives away one node's worth at a time. Kept by
//!   `BlockAllocator`.
//! * **L10, blocks die in order.** The nodes of a block belong to one chain, in its order, and are
//!   freed in this order. The last used node of a block carries the *closing numbers* in its state;
//!   once it is freed, no node of the block is in use. Kept by `BlockAllocator::vacancy` and
//!   `leave`, and by `node::free`.
//! * **L11, private chain.** The nodes of a `Chain` are filled with items, linked from `first` to
//!   `last`, and known to its owner only. Each has one reference, for the link to it. Kept by
//!   `Batch`.
//! * **L12, one inside.** What is inside a leash is used by one thread at a time: by the reader
//!   while the bit E is set, or else, with B set, by the holder of the lock. Kept by `Leash`, as
//!   its [page](leash) argues.
//!
//! The [arena] is independent of the list, and has invariants A1 and A2 of its own.

mod after_lock;
mod anchored;
#[cfg(feature = "publisher")]
mod arena;
mod cursor;
mod deadlines;
mod leash;
mod leashed;
mod limits;
mod meter;
mod node;
mod node_link;
mod numbers;
mod place;
mod registry;
mod shared;
mod sums;
mod trail;
mod walk;
mod weak_place;
mod writer;

pub(crate) use after_lock::Later;
#[cfg(feature = "publisher")]
pub(crate) use arena::{Arena, ArenaArc};
pub(crate) use leashed::{Entered, Leashed, Shut, Skipped, Standing};
pub(crate) use place::Read;
pub(crate) use registry::{Batch, Cursor, Payload, PlaceRef, Walk, WeakPlace};
pub(crate) use writer::Writer;
