//! Topics on top of the buffer: subscribe, get a snapshot, then follow, as one step that loses
//! and doubles nothing.
//!
//! A [`Publisher`] has one chain of commits per key. Whoever [subscribes](Publisher::subscribe) to a key gets
//! a [`Watch`]: first the state of the key, made by a [handler](PublisherBuilder::snapshot), then every
//! commit that is not part of that state. A client that comes back [resumes](Request::after)
//! where it left, if what came since is still in the [history](PublisherBuilder::history), and is told to begin anew
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
//!   within [`snapshot_ttl`](PublisherBuilder::snapshot_ttl) after. There is no task and no timer: the
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
//!   before it was asked for: see [`PublisherBuilder::snapshot`].
//! * **Indexes grow** strictly from commit to commit, and start again only in another
//!   [epoch](Publisher::reset).
//!
//! # Several producers and a database
//!
//! Each transaction of a database gets an index, and commits must be published in the order of these.
//! Producers that publish their own commits after their transactions overtake each other: the one that
//! comes late is refused, and no watch receives its change. So let the database keep the order. Each
//! transaction writes its change to a table, an *outbox*, under its number. After it, its producer
//! publishes whatever is new in the table, one producer at a time. A change whose producer dies before
//! that is published with the next one.
//!
//! The numbers must become visible in their order, which those of a sequence (`SERIAL`,
//! `AUTO_INCREMENT`) do not: the transaction that has taken 7 may commit after the one that has taken 8,
//! and a producer that has read 8 never looks for 7 again. A counter in a row of its own does it:
//! `UPDATE counter SET n = n + 1 RETURNING n` locks that row until the transaction ends. A snapshot's
//! index is the counter, read in the same transaction as the state.
//!
//! ```
//! # futures::executor::block_on(async {
//! use event_buffer::publisher::{PublishError, Publisher, Request, Update};
//! use futures::StreamExt;
//! use std::collections::BTreeMap;
//! use std::sync::Mutex;
//! use std::thread;
//!
//! #[derive(Default)]
//! struct Database {
//!     counter: Mutex<u64>,
//!     outbox: Mutex<BTreeMap<u64, (&'static str, String)>>,
//! }
//!
//! impl Database {
//!     fn transact(&self, key: &'static str, change: String) {
//!         let mut counter = self.counter.lock().unwrap(); // UPDATE counter …: locks the row
//!         *counter += 1;
//!         self.outbox.lock().unwrap().insert(*counter, (key, change)); // INSERT INTO outbox …
//!     } // COMMIT: the row is unlocked
//!
//!     fn after(&self, index: u64) -> Vec<(u64, (&'static str, String))> {
//!         let outbox = self.outbox.lock().unwrap();
//!         outbox.range(index + 1..).map(|(index, row)| (*index, row.clone())).collect()
//!     }
//! }
//!
//! let database = Database::default();
//! let publisher = Publisher::builder().history(100).build();
//! let watch = publisher.subscribe(Request::keys(["a", "b"]));
//! let publishing = Mutex::new(());
//! let publish_new = || -> Result<(), PublishError> {
//!     let _one_at_a_time = publishing.lock().unwrap();
//!     let new = database.after(publisher.index());
//!     new.into_iter().try_for_each(|(index, row)| publisher.publish(index, [row]))
//! };
//! thread::scope(|scope| {
//!     for key in ["a", "b"] {
//!         let (database, publish_new) = (&database, &publish_new);
//!         scope.spawn(move || {
//!             for n in 0..10 {
//!                 database.transact(key, format!("{key} {n}"));
//!                 publish_new().unwrap();
//!             }
//!         });
//!     }
//! });
//! # drop(publisher);
//! let updates: Vec<_> = watch.collect().await;
//! let commits = updates.iter().filter(|update| matches!(update, Ok(Update::Events(_))));
//! assert_eq!(commits.count(), 20);
//! # });
//! ```
//!
//! A state that only this process has needs no table. One lock around the change and
//! [`publish_next`](Publisher::publish_next) keeps the indexes in the order of the changes, and the
//! handler reads the state and [`index`](Publisher::index) under the same lock:
//!
//! ```
//! use event_buffer::publisher::{PublishError, Publisher};
//! use std::collections::BTreeMap;
//! use std::sync::Mutex;
//!
//! let stock = Mutex::new(BTreeMap::new());
//! let publisher = Publisher::builder().build();
//! let change = |item: &'static str, number: u32| -> Result<u64, PublishError> {
//!     let mut stock = stock.lock().unwrap();
//!     stock.insert(item, number);
//!     publisher.publish_next([(item, number)])
//! };
//! assert_eq!(change("apples", 7)?, 1);
//! assert_eq!(change("pears", 3)?, 2);
//! # Ok::<(), PublishError>(())
//! ```
//!
//! # Serving watches
//!
//! [Serving watchers][serving] shows the shortest right services over server-sent events and over
//! WebSocket: places in `Last-Event-ID`, clients that are cut off or stop reading, logout, shutdown.
//!
//! [serving]: https://docs.rs/crate/event-buffer/latest/source/docs/SERVING.md
//!
//! # Tracing
//!
//! With the feature `tracing` a publisher reports the following, with the target
//! `event_buffer::publisher`. Without the feature none of it is there. Each has the field `epoch`,
//! too, which differs between the publishers of a process unless they were [given](PublisherBuilder::epoch)
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

pub use builder::PublisherBuilder;
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
