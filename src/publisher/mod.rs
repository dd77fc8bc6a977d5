//! Topics on top of the buffer: subscribe, get a snapshot, then follow, as one step that loses
//! and doubles nothing.
//!
//! A [`Publisher`] has one chain of commits per key. Whoever [subscribes](Publisher::subscribe) to a key gets
//! a [`Watch`]: first the state of the key, made by a [handler](Builder::snapshot), then every
//! commit that is not part of that state. A client that comes back [resumes](Request::after)
//! where it left, if what came since is still in the [history](Builder::history), and is told to begin anew
//! otherwise.
//!
//! ```
//! # futures::executor::block_on(async {
//! use event_buffer::publisher::{Begin, Publisher, Request, Update};
//! use futures::StreamExt;
//!
//! let publisher = Publisher::builder()
//!     .snapshot(|key: &'static str, snapshot| async move {
//!         // Ask a database, page by page: each page is read while the next one is fetched.
//!         snapshot.append([format!("{key} is 1")])?;
//!         Ok(7) // The state as of index 7.
//!     })
//!     .build();
//!
//! let mut watch = publisher.subscribe(Request::new("answer"));
//! publisher.publish(7, [("answer", "part of the snapshot".to_string())])?;
//! publisher.publish(8, [("answer", "answer is 42".to_string()), ("other", "…".to_string())])?;
//!
//! let Some(Ok(Update::Begin(Begin::Fresh))) = watch.next().await else { panic!() };
//! let Some(Ok(Update::Snapshot(part))) = watch.next().await else { panic!() };
//! assert_eq!(part.iter().next().unwrap(), "answer is 1");
//! let Some(Ok(Update::EndOfSnapshot { index: 7 })) = watch.next().await else { panic!() };
//! let Some(Ok(Update::Events(events))) = watch.next().await else { panic!() };
//! assert_eq!((events.index(), events.iter().next().unwrap().as_str()), (Some(8), "answer is 42"));
//! # Ok::<(), event_buffer::publisher::PublishError>(()) }).unwrap();
//! ```
//!
//! # What holds
//!
//! * **Nothing lost, doubled or older.** A watch's place in the chain is taken before the handler
//!   begins; it then skips the commits that are part of the snapshot.
//! * **One history.** The publisher retains the last *n* commits over all keys. Whoever resumes within it continues
//!   exactly, also on a key that was quiet or unwatched meanwhile. A watch's place is as far as the publisher, not as
//!   its key.
//! * **One snapshot at a time for a key**, shared by all who wait for it, and by those who come
//!   within [`snapshot_ttl`](Builder::snapshot_ttl) after. There is no task and no timer: the
//!   watches that wait drive the handler. If the watch that began it goes, the others continue; it ends with
//!   the last. (While one frees the parts that have been read there may be a second, for all who came too late for it.)
//! * **A publish wakes only watchers of the keys it touches**, and no user code runs under a lock
//!   but the keys' `Hash` and `Eq`: a handler, a waker or an event's drop may use the publisher.
//! * **Memory**: a key without a watch, a snapshot or a commit in the history costs nothing. A watch that
//!   is not read keeps what it has not received, until it is closed, dropped, or over its [limit](Request::limit). An
//!   update in the user's hand keeps its own commit, and nothing after it.
//!
//! # What it asks for
//!
//! * **Change the state first, then publish.** A snapshot must not be older than what was published
//!   before it was asked for: see [`Builder::snapshot`].
//! * **Indexes grow** strictly from commit to commit, and start again only in another
//!   [epoch](Publisher::reset).
//!
//! # Several producers and a database
//!
//! Indexes must grow, so commits must be published in the order of their indexes. Producers that take an index
//! from a database and publish it after their transactions have committed may overtake each other, and the one that
//! comes late is refused. What cannot lose one is to let the database keep the order: write each change to a table,
//! numbered by the transaction (an *outbox*), and have one task publish what is new there, in order.
//!
//! ```
//! use event_buffer::publisher::{PublishError, Publisher};
//! use std::collections::BTreeMap;
//! use std::sync::Mutex;
//! use std::thread;
//!
//! // The table of changes: a transaction adds its row, and becomes visible, as one step.
//! let table: Mutex<BTreeMap<u64, (&str, u64)>> = Mutex::default();
//! let commit = |key: &'static str| {
//!     let mut table = table.lock().unwrap();
//!     let index = table.last_key_value().map_or(1, |(last, _)| last + 1);
//!     table.insert(index, (key, index));
//! };
//! let publisher = Publisher::builder().history(100).build();
//! // Called after each transaction, by any producer: one at a time publishes all that is new.
//! let publishing = Mutex::new(());
//! let publish_new = || -> Result<(), PublishError> {
//!     let _one_at_a_time = publishing.lock().unwrap();
//!     let table = table.lock().unwrap();
//!     let new = table.range(publisher.index() + 1..);
//!     let new: Vec<_> = new.map(|(index, change)| (*index, *change)).collect();
//!     drop(table);
//!     new.into_iter().try_for_each(|(index, change)| publisher.publish(index, [change]))
//! };
//! thread::scope(|scope| {
//!     for key in ["a", "b"] {
//!         scope.spawn(move || {
//!             for _ in 0..10 {
//!                 commit(key);
//!                 publish_new().unwrap();
//!             }
//!         });
//!     }
//! });
//! assert_eq!(publisher.index(), 20);
//! ```
//!
//! A state that only this process has needs no table: one lock around the change and
//! [`publish_next`](Publisher::publish_next) keeps both in the same order.
//!
//! # Tracing
//!
//! With the feature `tracing` a publisher reports the following, with the target
//! `event_buffer::publisher`. Without the feature none of it is there. Each has the field `epoch`,
//! too, which differs between the publishers of a process unless they were [given](Builder::epoch)
//! the same one.
//!
//! | span or event | level | fields |
//! |---|---|---|
//! | span `snapshot` | debug | `snapshot`, `published`, `key`, `outcome`, … (see below) |
//! | `snapshot failed` | warn | `snapshot`, `error` |
//! | `snapshot given up` | debug or warn | `snapshot`, `reason` |
//! | `snapshot no longer cached` | debug | `snapshot`, `reason` |
//! | `watch reset` | debug | `reason` (a [`ResetReason`]), `index`, `published` |
//! | `watches closed` | debug | `reason` (a [`CloseReason`]), `watches` |
//! | `watch closed for its lag` | debug | `commits` |
//! | `commits evicted` | trace | `commits`, `index` |
//! | `key refreshed`, `key completed` | debug | `index`, `watches` |
//! | `key forgotten` | debug | `index` |
//! | `epoch changed` | info | `former` |
//! | `publisher shut down` | info | |
//!
//! * **A span is one run of the snapshot handler**, entered whenever a watch polls it. `snapshot`
//!   is its number; `published` is the last index when it was asked for. At the end `outcome` is
//!   `finished` (with `index` and `parts`), `failed` (with `error`), or `given up`.
//! * **Why a snapshot is given up**: `TimeLimit` (as a warning), `NoWatch` (none waits for it any
//!   more), `Lagged` (all that wait are over their limits), `KeyClosed`, `Refreshed`,
//!   `KeyForgotten`, `StateReset`, or `ShutDown`. Why one is no longer cached: `Expired`,
//!   `TooLarge`, `Replaced`, or `Void`.
//! * **A reset** has the `index` that the watch had, and the last index (`published`). One is
//!   reported when the watch begins anew, not when that is ordered.
//! * **An eviction** has the number of commits that have left the history by one publish, and the
//!   index of the newest. A large commit leaves in steps. Without a history nothing is reported.
//! * **`watches`** is how many the call has closed, or the key has.
//!
//! Keys need not be `Debug`, so the publisher records none. The handler can, in the field that is
//! empty so far; and what `refresh` and its like report stands in the caller's span.
//!
//! ```
//! # #[cfg(feature = "tracing")] {
//! # use event_buffer::publisher::Publisher;
//! let publisher = Publisher::builder()
//!     .snapshot(|key: String, snapshot| async move {
//!         tracing::Span::current().record("key", &key);
//!         snapshot.push(key.len())?;
//!         Ok(0)
//!     })
//!     .build();
//! # let _ = publisher.epoch();
//! # }
//! ```
//!
//! A subscriber runs within the call or the poll that causes an event, under no lock of the
//! publisher, after the tasks have been woken. It may use the publisher; what it causes there may be
//! reported to it again, and it has to prevent that this goes on without end. If it panics, only
//! its own report is lost.
//!
//! The idea is that of Consul's event streaming: snapshots spliced in front of shared buffers.

mod builder;
mod commit;
mod control;
mod error;
mod events;
mod flight;
mod following;
mod handle;
mod hub;
mod inbox;
mod request;
mod resume;
mod snapshot;
mod stats;
mod trace;
mod track;
mod update;
mod watch;

pub use builder::Builder;
pub use error::{
    BoxError, CloseReason, PublishError, SnapshotGivenUp, SnapshotOutdated, SnapshotOver,
    SnapshotPanicked, WatchError,
};
pub use events::{Events, Iter, WithKeys};
#[cfg(loom)]
#[doc(hidden)]
pub use flight::models;
pub use handle::{Publisher, WeakPublisher};
pub use request::{OverLimit, Request};
pub use resume::{ParseResumeError, Resume};
pub use snapshot::SnapshotAppender;
pub use stats::{Resets, Slowest, Stats};
pub use update::{Begin, ResetReason, Update};
pub use watch::Watch;
