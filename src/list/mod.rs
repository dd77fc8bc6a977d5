//! The linked list: every `unsafe` block of the crate, behind a safe face.
//!
//! # The structure
//!
//! A buffer is a chain of *slots*. A slot is filled once and never changes again. The chain is
//! *slot first*: it always ends in one empty slot, the next to be filled, so a reader stands on
//! the slot it will read next, not on the one it has read, and pins nothing it has consumed.
//!
//! ```text
//!          Window          Cursor (a reader)               Writer (the writer)
//!            │ counted       │ anchor (counted)   at        │ counted
//!            ▼               ▼                    ▼         ▼
//!        ┌────────┐      ┌────────┐           ┌────────┐  ┌───────────────┐
//!        │ item 0 │      │ item 1 │           │ item 2 │  │ empty, slot 3 │
//!        │ next ──┼─────▶│ next ──┼──────────▶│ next ──┼─▶│ next = null   │
//!        └────────┘      └────────┘           └────────┘  └──────┬────────┘
//!                                                                ▼ owns
//!                                              Shared (counts, who waits, how it ended)
//! ```
//!
//! * `next` is null while the slot is empty. It is stored once, with `Release`, after the slot's
//!   contents: a reader whose `Acquire` load finds it set may read them.
//! * `event` is what a reader listens to while the slot is empty: see [`link`](crate::link).
//! * `state` counts the references to a node, and carries the [waiting bit](node).
//!   Each `next` link owns one reference to its successor, so whatever holds a node holds all
//!   that follows. [Freeing a chain](node) is a loop, never a recursion, and gives up the links before
//!   it drops events.
//! * A buffer's last slot, empty or ended, owns the buffer's [`Shared`]. Since every slot keeps
//!   its successors alive, a place in the chain can use a plain pointer to the record.
//! * An **end** (clean or failed) is the last slot with `next` pointing at itself; what kind of
//!   end it is stands in the record.
//! * A **splice** is the last slot with `next` pointing at a slot of another buffer, and a record
//!   that says so. A reader that comes to it goes on there; it cannot tell the difference.
//!
//! ```text
//!   buffer A:  [a0]─▶[a1]─▶[A's last slot]            record A: Spliced { to: record B, … }
//!                                 │ next
//!                                 ▼
//!   buffer B:        [b0]─▶[b1]─▶[b2]─▶[empty]        record B
//! ```

#[cfg(feature = "publisher")]
mod arena;
mod block;
mod cursor;
mod deadlines;
mod leash;
mod leashed;
mod limits;
mod meter;
mod node;
mod node_link;
mod place;
mod shared;
mod sums;
mod trail;
mod weak_place;
mod writer;

#[cfg(feature = "publisher")]
pub(crate) use arena::{Arena, ArenaArc};
pub(crate) use cursor::{Cursor, Walk};
pub(crate) use leashed::{Entered, Leashed, Shut, Standing};
pub(crate) use node::{Batch, Payload};
pub(crate) use place::{PlaceRef, Read};
pub(crate) use weak_place::WeakPlace;
pub(crate) use writer::{Later, Wake, Writer};
