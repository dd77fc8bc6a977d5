//! An unlimited buffer of events with one writer and any number of readers.
//!
//! A reader is a [`Stream`](futures::Stream), under any executor. Slow readers lose nothing and do
//! not slow down others: what the slowest has not read stays in memory. Late readers replay what a
//! [`Replay`] window retains. A snapshot is [spliced](EventBuffer::splice) in front of the live
//! tail without losing or doubling an event. Delivering an item clones nothing: a [`BufferItem`] is
//! a counted handle.
//!
//! ```
//! # futures::executor::block_on(async {
//! use event_buffer::EventBuffer;
//! use futures::TryStreamExt;
//!
//! let mut buffer = EventBuffer::new();
//! let mut reader = buffer.subscribe().cloned();
//! buffer.push("hello");
//! buffer.extend(["to", "everybody"]);
//! drop(buffer);
//!
//! while let Some(event) = reader.try_next().await? {
//!     println!("{event}");
//! }
//! # Ok::<(), event_buffer::RecvError>(()) }).unwrap();
//! ```
//!
//! # Terms
//!
//! * **Buffer**: a linked list of items with one writer. It grows at the tail.
//! * **Event**: one value of your type `T`.
//! * **Item**: the events that were appended together, delivered together: a transaction.
//! * **Reader**: receives each item from its place on, in order, once. Readers are independent.
//! * **Place**: where reading starts or continues: just before an item, or at the tail.
//! * **Lag**: the number of items that were published and that a reader has not received.
//! * **Limit**: the greatest lag of one reader; what is over it is skipped, or the reader closed.
//! * **Replay window**: the newest items, which a buffer retains for late readers.
//! * **Splice**: the link by which a buffer continues in another one, unnoticed by its readers.
//! * **Observer**: a reader that can still reach the end of a buffer. Items and places are none.
//! * **Closer**: a handle that closes a reader from outside, even if it is never polled again.
//! * **Publisher**: buffers by key, with shared snapshots and a history to resume from.
//! * **Watch**: the reader of a publisher: a snapshot of its keys first, then their commits.
//!
//! # Which type when
//!
//! | To write | use |
//! |---|---|
//! | from one producer | [`EventBuffer`] |
//! | from several producers, any of which may end the buffer | [`SharedBuffer`] |
//! | what a `Stream` yields, pulled as followers want it | [`SharedSource`], by [`ShareExt`] |
//! | by key, with snapshots, resuming and access control | [`Publisher`] |
//!
//! | To read | use |
//! |---|---|
//! | whole items, or events by reference, without a clone | [`Subscription`] |
//! | single events, cloned | [`Cloned`] |
//! | single events, cloned, in bounded memory even if the reader is stuck | [`Limited`] |
//! | a shared `Stream` | [`SharedStream`] |
//! | a shared `Stream` in bounded memory, with its panic as an error | [`SharedLimited`] |
//! | keys of a publisher | [`Watch`] |
//!
//! | To keep a place | use | it keeps in memory |
//! |---|---|---|
//! | of an item, with its events | [`BufferItem`] | that item and all after it |
//! | to read from, any number of times | [`Position`] | all items from there on |
//! | to come back to, if it is still retained then | [`Bookmark`] | no item |
//! | by the version that your events carry | an index: see [`Indexed`] | nothing: a number |
//! | in a publisher, across connections | [`Resume`] | nothing: two numbers |
//!
//! # What every reader has
//!
//! | | [`Subscription`] | [`Cloned`] | [`Limited`] | [`Watch`] | [Follower](SharedStream) |
//! |---|:-:|:-:|:-:|:-:|:-:|
//! | `Stream`, `FusedStream` | ✓ | ✓ | ✓ | ✓ | ✓ |
//! | `recv`, `try_recv`, `recv_blocking`, `recv_timeout` | ✓ | ✓ | ✓ | ✓ | 2 |
//! | `iter` | ✓ | ✓ | ✓ | ✓ | 2 |
//! | `closer`, `is_closed`, `lag` | ✓ | ✓ | ✓ | ✓ | 2 |
//! | `position`, `bookmark`, `resubscribe` | ✓ | ✓ | ✓ | 1 | 2 |
//! | `Clone` | ✓ | ✓ | ✓ | 1 | ✓ |
//!
//! 1. A watch reads one buffer after another, so a place in one of them is not enough to resume it.
//!    Its place is a [`Resume`]: subscribe again with that, or without it for a watch that starts
//!    anew.
//! 2. A follower ([`SharedStream`], [`SharedLimited`]) replaces the stream that it shares, and so
//!    has the interface of a stream: `StreamExt::next` receives, and
//!    `futures::executor::block_on_stream` iterates. Nothing is published while no follower drives
//!    the stream, so a place without a follower is of no use: keep a clone, or the source.
//!
//! # Lagging
//!
//! By default no item is skipped, and memory grows with the lag of the slowest reader.
//! [`lag`](Subscription::lag) measures that of one reader, and [`backlog`](EventBuffer::backlog)
//! the memory of the buffer in items. There are two ways to bound them:
//!
//! * [`limited`](Subscription::limited) gives one reader a [`LagLimit`] in items or bytes. If the
//!   reader exceeds it, the writer moves it forward, even if its task is stuck. Its next read
//!   returns [`RecvError::Lagged`] with the number of skipped items and the one after continues;
//!   or the reader is closed. [`OnLag`] chooses. Other readers lose nothing.
//! * A [`Closer`] closes a reader by your own rule and frees what only that reader kept.
//!
//! # Ending
//!
//! | The buffer or the reader | and the reader receives |
//! |---|---|
//! | was dropped or [closed](EventBuffer::close) | what is left, then [`RecvError::Closed`] |
//! | [failed](EventBuffer::fail) | what is left, then [`RecvError::Failed`] once, then `Closed` |
//! | was [spliced](EventBuffer::splice) | what is left, then the items of the other buffer |
//! | was [finished](EventBuffer::finish) | as if closed; late readers replay the [`Recording`] |
//! | was closed by a [`Closer`] or for its lag | [`RecvError::ForceClosed`] from then on |
//!
//! As a `Stream`, a reader ends with `None` instead of `Closed`, and after any other final error.
//! `Lagged` is the only error that is [not final](RecvError::is_final): a loop that continues after
//! another one spins. Closing a buffer as a `Sink` (`SinkExt::close`) does not end it.
//!
//! # Fairness
//!
//! A read that finds something ready returns at once, as in every channel that knows no runtime.
//! While a reader always finds something, its task keeps running and the other tasks of the thread,
//! timers included, wait. Tokio's own channels yield now and then through its cooperative budget.
//! Under tokio, wrap a read in
//! [`cooperative`](https://docs.rs/tokio/latest/tokio/task/coop/fn.cooperative.html) (tokio 1.47 or
//! later, feature `rt`) to take part in that, for a few nanoseconds a read:
//!
//! ```
//! use event_buffer::EventBuffer;
//! use tokio::{sync::oneshot, task::coop::cooperative};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let mut buffer = EventBuffer::new();
//! let mut reader = buffer.subscribe().cloned();
//! buffer.push(0);
//! let (stop, mut stopped) = oneshot::channel();
//! tokio::spawn(async move { stop.send(()) });
//! loop {
//!     tokio::select! {
//!         event = cooperative(reader.recv()) => buffer.push(event.unwrap() + 1), // never empty
//!         _ = &mut stopped => break, // and still the other task gets its turn
//!     }
//! }
//! # });
//! ```
//!
//! # Features
//!
//! * `publisher` (on by default): topics, snapshots and resuming, in the module `publisher`. It
//!   adds no dependency.
//! * `serde`: serializes a `Resume` as its text.
//! * `tracing`: a publisher reports snapshots, resets, evictions and the like: see its page.
//!
//! # Platforms
//!
//! Every target with `std` and 64-bit atomics, Rust 1.85 or later. No runtime is needed. On
//! `wasm32-unknown-unknown`, which has no threads, a method that blocks panics if nothing is ready.
//!
//! [`Publisher`]: publisher/struct.Publisher.html
//! [`Resume`]: publisher/struct.Resume.html
//! [`Watch`]: publisher/struct.Watch.html

#![deny(unsafe_code)]
#![warn(clippy::unwrap_used, clippy::expect_used)]

mod error;
mod lag_limit;
mod link;
#[allow(unsafe_code)]
mod list;
#[cfg(feature = "publisher")]
pub mod publisher;
mod read;
mod share;
mod single_flight;
mod sync;
mod unwind;
mod write;

pub use error::{
    BookmarkError, Ended, LagExceeded, RecvError, RecvTimeoutError, ResumeError, SharedError,
    SourcePanicked, SpliceCycle, TryRecvError,
};
pub use lag_limit::{ByteSize, LagLimit, OnLag};
pub use link::Closer;
#[cfg(feature = "publisher")]
#[doc(no_inline)]
pub use publisher::{Begin, Publisher, Request, Resume, Update, Watch};
pub use read::bookmark::Bookmark;
pub use read::chunk::Chunk;
pub use read::cloned::Cloned;
pub use read::indexed::Indexed;
pub use read::item::BufferItem;
pub use read::iter::Iter;
pub use read::limited::Limited;
pub use read::position::Position;
pub use read::subscription::Subscription;
pub use share::{ShareExt, SharedLimited, SharedSource, SharedStream};
pub use write::buffer::EventBuffer;
pub use write::deferred::Deferred;
pub use write::recording::Recording;
pub use write::replay::{Builder, Replay};
pub use write::shared_buffer::{SharedBuffer, WeakBuffer};

/// The examples of the guide for users of tokio's channel, as tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/MIGRATING.md")]
struct Migrating;

/// The README's examples, as tests.
#[cfg(all(doctest, feature = "publisher"))]
#[doc = include_str!("../README.md")]
struct Readme;
