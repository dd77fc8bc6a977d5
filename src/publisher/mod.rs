//! Topics on top of the buffer: a snapshot of a key's state, then every change after it.
//!
//! Subscribing, reading the snapshot and following the changes are one step here: no change is
//! lost, and none is delivered twice.
//!
//! A [`Publisher`] keeps a chain of commits for each key. A reader that
//! [subscribes](Publisher::subscribe) to a key gets a [`Watch`]. The watch delivers the state of
//! the key first, as a [handler](PublisherBuilder::snapshot) has built it, and then every commit
//! that is not part of that state. A client that reconnects [resumes](Request::after) from its last
//! index if the [history](PublisherBuilder::history) still has every commit after it. Otherwise the
//! watch is reset: the client discards its state and receives a new snapshot.
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
//! # Guarantees
//!
//! * **Nothing is lost, delivered twice, or older than the snapshot.** A watch takes its position
//!   in the chain before the handler starts, and later skips the commits that the snapshot already
//!   contains.
//! * **One history for all keys.** The publisher retains the last *n* commits over all keys. A
//!   client that resumes within them continues exactly, even if its key was quiet or had no watch
//!   in the meantime. The resume point of a watch advances with the publisher, not only with the
//!   watched key.
//! * **One snapshot per key at a time.** All watches that wait for it share it, and so do the
//!   watches that subscribe within [`snapshot_ttl`](PublisherBuilder::snapshot_ttl) after it. There
//!   is no background task and no timer: the waiting watches poll the handler. If the watch that
//!   started the handler is dropped, the others keep it running; it is cancelled with the last. If
//!   a snapshot frees the parts that its watches have read, watches that subscribe too late for it
//!   share a second one.
//! * **A publish wakes only the watches of the keys it touches.** No user code runs under a lock
//!   except the keys' `Hash` and `Eq`, so that a handler, a waker or an event's destructor may use
//!   the publisher.
//! * **Memory follows use.** A key without a watch, a snapshot or a commit in the history
//!   costs nothing. A watch that is not read keeps what it has not received until it is closed,
//!   dropped, or over its [limit](Request::limit). An update keeps its own commit alive, and
//!   nothing that follows.
//!
//! # Requirements
//!
//! * **Change the state first, then publish.** A snapshot must not be older than the commits that
//!   were published before the handler was called: see [`PublisherBuilder::snapshot`].
//! * **Indexes increase** strictly from commit to commit. They start again only in another
//!   [epoch](Publisher::reset).
//!
//! # Several producers and a database
//!
//! Each transaction of a database gets an index, and commits must be published in the order of
//! these indexes. If every producer published its own commit after its transaction, producers would
//! overtake each other: the late commit is refused, and no watch receives its change. So let the
//! database keep the order. Each transaction writes its change to a table, an *outbox*, under its
//! index. Afterwards its producer publishes every row of the outbox that is new, one producer at a
//! time. If a producer dies before it publishes, the next one publishes its change too.
//!
//! Indexes must become visible in order. Those of a sequence (`SERIAL`, `AUTO_INCREMENT`) do not:
//! the transaction that took 7 may commit after the one that took 8, and a producer that has read 8
//! never looks for 7 again. A counter in a row of its own works: `UPDATE counter SET n = n + 1
//! RETURNING n` locks that row until the transaction ends. The index of a snapshot is this counter,
//! read in the same transaction as the state.
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
//! State that only this process has needs no table. If one lock covers both the change and
//! [`publish_next`](Publisher::publish_next), the indexes follow the order of the changes. The
//! handler then reads the state and [`index`](Publisher::index) under the same lock:
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
//! [Serving watchers][serving] shows short, correct services over server-sent events and over
//! WebSocket: resume points in `Last-Event-ID`, clients that disconnect or stop reading, logout,
//! and shutdown.
//!
//! [serving]: https://docs.rs/crate/event-buffer/latest/source/docs/SERVING.md
//!
//! # Tracing
//!
//! With the feature `tracing` a publisher reports the spans and events below, with the target
//! `event_buffer::publisher`; without it nothing is compiled in. Each of them also has the field
//! `epoch`, which tells the publishers of a process apart unless they were
//! [given](PublisherBuilder::epoch) the same one.
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
//!   is its number; `published` is the last index at the time of the request. At the end `outcome`
//!   is `finished` (with `index` and `parts`), `failed` (with `error`), or `given up`.
//! * **The reasons to give up a snapshot** are `TimeLimit` (a warning), `NoWatch` (no watch waits
//!   for it any more), `Lagged` (all watches that wait are over their limits), `KeyClosed`,
//!   `Refreshed`, `KeyForgotten`, `StateReset`, and `ShutDown`. The reasons to drop a cached one
//!   are `Expired`, `TooLarge`, `Replaced`, and `Void`.
//! * **A reset** has the `index` that the watch had, and the last index (`published`). It is
//!   reported when the watch starts over, not when the reset is requested.
//! * **An eviction** has the number of commits that have left the history because of one publish,
//!   and the index of the newest of them. A large commit leaves in several steps. Nothing is
//!   reported without a history.
//! * **`watches`** is the number of watches that the call has closed, or that the key has.
//!
//! Keys need not be `Debug`, so the publisher leaves the field `key` empty, for the handler to
//! record. The reports of `refresh` and similar calls appear in the caller's span.
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
//! The subscriber runs inside the call or the poll that caused the report, after the tasks were
//! woken, and under no lock of the publisher. It may use the publisher. It may also panic, which
//! costs only its own report. What a subscriber causes in a publisher is reported as well, so a
//! global subscriber must prevent endless recursion.
//!
//! The design follows Consul's event streaming: snapshots spliced in front of shared buffers.

mod builder;
mod handle;
mod observe;
// The rooms. `hub` uses all others; `watch` uses `snapshot` and `report`; `snapshot` uses `report`.
mod hub;
mod report;
mod snapshot;
mod watch;

pub use builder::PublisherBuilder;
pub use handle::{Publisher, WeakPublisher};
pub use report::error::{
    BoxError, CloseReason, PublishError, ResetReason, SnapshotGivenUp, SnapshotOutdated,
    SnapshotOver, SnapshotPanicked, WatchError,
};
pub use report::stats::{Resets, Slowest, Stats};
#[cfg(loom)]
#[doc(hidden)]
pub use snapshot::flight::models;
pub use snapshot::parts::SnapshotAppender;
pub use watch::events::{Events, Iter, WithKeys};
pub use watch::request::{OverLimit, Request};
pub use watch::resume::{ParseResumeError, Resume};
pub use watch::stream::Watch;
pub use watch::update::{Begin, Update};
