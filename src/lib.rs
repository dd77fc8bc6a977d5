//! One writer, any number of readers: an unlimited buffer of events, followed as
//! [`Stream`](futures::Stream)s under any executor.
//!
//! * **Slow readers lose nothing**, and slow nobody down. There is no capacity to choose; what
//!   the slowest reader has not read yet stays in memory.
//! * **Late readers replay** what a [`Replay`] window keeps, then follow.
//! * **A snapshot is [spliced](EventBuffer::splice) in front** of the live tail, with no event
//!   lost or doubled in between.
//! * **Nothing is cloned** to be delivered: a [`BufferItem`] is a counted handle.
//! * **Where a bound on memory matters more than every event**, that is one reader's
//!   [limit](Subscription::limited): the others lose nothing by it.
//!
//! When things go wrong: a reader that no longer reads holds memory until it is dropped, unless it has
//! a [limit](Limited), and can be [told to go from outside](Closer); a producer's [failure](EventBuffer::fail) reaches every
//! reader after all that came before it; a reader of an ended buffer ends, it never hangs.
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
//! # Features
//!
//! * `publisher` (on by default): topics, snapshots and resuming, in the module `publisher`. Adds
//!   no dependency.
//! * `serde`: a place to resume from is serialized as its text.
//! * `tracing`: a publisher reports its snapshots, resets, evictions and the like: see the module's
//!   page.
//!
//! # Fairness
//!
//! A read that finds something ready returns at once, as with every channel that knows no runtime. A reader that
//! always finds something therefore keeps its task running, and other tasks of the thread, timers included, wait.
//! Tokio's own channels yield now and then by way of its cooperative budget. Under tokio, wrap a read in
//! [`cooperative`](https://docs.rs/tokio/latest/tokio/task/coop/fn.cooperative.html) (tokio 1.47 or later, feature `rt`)
//! to take part in that, which costs a few nanoseconds:
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
pub use write::buffer::{Deferred, EventBuffer};
pub use write::recording::Recording;
pub use write::replay::{Builder, Replay};
pub use write::shared_buffer::{SharedBuffer, WeakBuffer};

/// The examples of the document for those who come from tokio, as tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/MIGRATING.md")]
struct Migrating;

/// The README's examples, as tests.
#[cfg(all(doctest, feature = "publisher"))]
#[doc = include_str!("../README.md")]
struct Readme;
