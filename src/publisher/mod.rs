//! Topics on top of the buffer: subscribe, get a snapshot, then follow, as one step that loses
//! and doubles nothing.
//!
//! A [`Publisher`] has one buffer per key. Whoever [subscribes](Publisher::subscribe) to a key gets
//! a [`Watch`]: first the state of the key, made by a [handler](Builder::snapshot), then every
//! commit that is not part of that state. Whoever has been there before [resumes](Request::after)
//! where they left, if what came since is still there, and is told to start anew otherwise.
//!
//! ```
//! # futures::executor::block_on(async {
//! use event_buffer::publisher::{Publisher, Request, Update};
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
//! let Some(Ok(Update::Snapshot(part))) = watch.next().await else { panic!() };
//! assert_eq!(part.iter().next().unwrap(), "answer is 1");
//! let Some(Ok(Update::EndOfSnapshot { index: 7 })) = watch.next().await else { panic!() };
//! let Some(Ok(Update::Events(events))) = watch.next().await else { panic!() };
//! assert_eq!((events.index(), events.iter().next().unwrap().as_str()), (8, "answer is 42"));
//! # Ok::<(), event_buffer::publisher::PublishError>(()) }).unwrap();
//! ```
//!
//! # What holds
//!
//! * **Nothing lost, doubled or older.** The place in the live buffer is taken before the handler
//!   begins; the snapshot leads to the first commit with an index greater than its own.
//! * **One snapshot at a time for a key**, shared by all who wait for it, and by whoever comes
//!   within [`snapshot_ttl`](Builder::snapshot_ttl) after. There is no task and no timer: the
//!   watches that wait drive the handler. It goes on when the one that began it goes, and ends with
//!   the last.
//! * **A publish wakes only watchers of the keys it touches**, and no foreign code runs under a lock
//!   but the keys' `Hash`, `Eq` and `Clone`: a handler, a waker or an event's drop may use the
//!   publisher.
//! * **Memory**: a key that nobody watches and of which nothing is kept has no buffer. A watch that
//!   is not read keeps what it has not received, until it is closed or dropped;
//!   [`stats`](Publisher::stats) tells who is slowest.
//!
//! # What it asks for
//!
//! * **Change the state first, then publish.** A snapshot must not be older than what was published
//!   before it was asked for: see [`Builder::snapshot`].
//! * **Indexes grow** from commit to commit, from 1 on, and start again only in another
//!   [epoch](Publisher::reset).
//!
//! The idea is that of Consul's event streaming: snapshots spliced in front of shared buffers.

mod builder;
mod entry;
mod error;
mod flight;
mod hub;
mod request;
mod snapshot;
mod stats;
mod topic;
mod update;
mod watch;

use std::fmt;
use std::hash::Hash;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{Arc, Weak};

use hub::{Hub, Pending};

pub use builder::Builder;
pub use error::{
    BoxError, CloseReason, PublishError, SnapshotOutdated, SnapshotOver, SnapshotPanicked,
    WatchError,
};
#[cfg(loom)]
#[doc(hidden)]
pub use flight::models;
pub use request::{Request, Resume};
pub use snapshot::SnapshotAppender;
pub use stats::{Slowest, Stats};
pub use update::{Events, Iter, ResetReason, Update};
pub use watch::Watch;

/// Publishes events under keys, for any number of watchers. A cheap handle: clones publish to the
/// same watchers.
///
/// When the last handle is dropped all watches end, cleanly: they deliver what was published, then
/// answer `None`. A [`WeakPublisher`] does not count as a handle, and neither does a watch.
///
/// Every method but `clone`, `builder` and `downgrade` takes the one lock of the publisher for a moment.
/// Watches take it only when they begin and end, and to finish a snapshot. See the [module](self) for what
/// is promised.
///
/// ```
/// # futures::executor::block_on(async {
/// use event_buffer::publisher::{Publisher, Request, Update};
/// use futures::StreamExt;
///
/// let publisher = Publisher::builder().build(); // without a handler: no state to begin with
/// let mut watch = publisher.subscribe(Request::new("key"));
/// publisher.clone().publish(1, [("key", "event")])?;
/// drop(publisher);
///
/// let Some(Ok(Update::EndOfSnapshot { index: 0 })) = watch.next().await else { panic!() };
/// let Some(Ok(Update::Events(commit))) = watch.next().await else { panic!() };
/// assert_eq!(commit.index(), 1);
/// assert!(watch.next().await.is_none());
/// # Ok::<(), event_buffer::publisher::PublishError>(()) }).unwrap();
/// ```
pub struct Publisher<K, T>(Arc<Owner<K, T>>);

/// What all handles share, and watches and snapshots do not.
struct Owner<K, T>(Arc<Hub<K, T>>);

impl<K, T> Publisher<K, T> {
    /// Settings for a new publisher.
    ///
    /// ```
    /// use event_buffer::{Replay, publisher::Publisher};
    ///
    /// let publisher = Publisher::builder().replay(Replay::Last(100)).build();
    /// publisher.publish(1, [("key", "event")])?;
    /// # Ok::<(), event_buffer::publisher::PublishError>(())
    /// ```
    pub fn builder() -> Builder<K, T> {
        Builder::new()
    }

    /// A handle that does not keep the publisher open: for its own snapshot handler, which would
    /// keep it for ever otherwise. O(1).
    ///
    /// ```
    /// use event_buffer::publisher::{Publisher, WeakPublisher};
    /// use std::sync::{Arc, OnceLock};
    ///
    /// let within = Arc::new(OnceLock::<WeakPublisher<&str, u32>>::new());
    /// let own = Arc::clone(&within);
    /// let publisher = Publisher::builder()
    ///     .snapshot(move |key, _| {
    ///         let publisher = own.get().and_then(WeakPublisher::upgrade);
    ///         async move {
    ///             publisher.ok_or("shut down")?.publish(1, [(key, 1)])?;
    ///             Ok(0)
    ///         }
    ///     })
    ///     .build();
    /// within.set(publisher.downgrade()).unwrap();
    /// ```
    pub fn downgrade(&self) -> WeakPublisher<K, T> {
        WeakPublisher(Arc::downgrade(&self.0))
    }

    fn hub(&self) -> &Arc<Hub<K, T>> {
        &self.0.0
    }

    /// The epoch that all indexes are of, until the state is [`reset`](Self::reset). O(1).
    ///
    /// ```
    /// use event_buffer::publisher::Publisher;
    ///
    /// let publisher = Publisher::<&str, u32>::builder().epoch(1).build();
    /// assert_eq!(publisher.epoch(), 1);
    /// publisher.reset(2);
    /// assert_eq!(publisher.epoch(), 2);
    /// ```
    pub fn epoch(&self) -> u64 {
        self.hub().epoch()
    }

    /// Says that the state was replaced: indexes start again, of another epoch. All watches are
    /// closed with [`CloseReason::StateReset`], and what was retained or cached is gone. Whoever
    /// resumes from the old epoch is told to start anew. The new epoch must be one that was not
    /// used before, or they are not.
    ///
    /// O(keys + watches). What only a closed watch kept is freed at once.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::publisher::{CloseReason, Publisher, Request, WatchError};
    /// use futures::StreamExt;
    ///
    /// let publisher = Publisher::<&str, u32>::builder().epoch(1).build();
    /// let mut watch = publisher.subscribe(Request::new("key"));
    /// publisher.publish(7, [])?;
    /// publisher.reset(2);
    /// let reason = CloseReason::StateReset { epoch: 2 };
    /// assert_eq!(watch.next().await.unwrap().unwrap_err(), WatchError::Closed(reason));
    /// publisher.publish(1, [("key", 1)])?; // The indexes start again.
    /// # Ok::<(), event_buffer::publisher::PublishError>(()) }).unwrap();
    /// ```
    pub fn reset(&self, new_epoch: u64) {
        self.hub().reset(new_epoch);
    }

    /// Closes all watches with [`CloseReason::ShutDown`], those to come too, and refuses to publish
    /// from now on. O(keys + watches).
    ///
    /// ```
    /// use event_buffer::publisher::{PublishError, Publisher};
    ///
    /// let publisher = Publisher::builder().build();
    /// publisher.shutdown();
    /// assert_eq!(publisher.publish(1, [("key", "event")]), Err(PublishError::ShutDown));
    /// ```
    pub fn shutdown(&self) {
        self.hub().shutdown();
    }
}

impl<K, T> Publisher<K, T>
where
    K: Hash + Eq + Clone + Send + 'static,
    T: Send + Sync + 'static,
{
    /// Publishes one commit: all events that came to be at one index, under any number of keys.
    ///
    /// The events of a key are delivered together, in their order, and each watcher of a touched
    /// key is woken once. Events under keys that nobody watches, and of which nothing is kept, are
    /// dropped. Publishing nothing is a commit all the same: the index counts.
    ///
    /// Indexes grow strictly, from 1: index 0 is that of the state before any commit. All events of one index belong
    /// in one call.
    ///
    /// O(events), and the wake-up of whoever waits; takes one lock, under which each key is hashed
    /// once, and now and then those whose snapshots have expired. The iterator runs before that. Allocates
    /// a block of places for commits now and then, and lists where there are several events.
    ///
    /// A waker or an event's drop that panics does so when all is published.
    ///
    /// # Errors
    ///
    /// [`PublishError::IndexBackwards`] if the index is not greater than the last one published (0 is never),
    /// [`PublishError::ShutDown`] after a [`shutdown`](Self::shutdown). Nothing is published
    /// then, and the events are gone.
    ///
    /// ```
    /// use event_buffer::publisher::{PublishError, Publisher};
    ///
    /// let publisher = Publisher::builder().build();
    /// publisher.publish(1, [("fruit", "apple"), ("tree", "oak"), ("fruit", "pear")])?;
    /// publisher.publish(5, [("tree", "elm")])?;
    /// let late = publisher.publish(4, [("tree", "ash")]);
    /// assert_eq!(late, Err(PublishError::IndexBackwards { index: 4, last: 5 }));
    /// # Ok::<(), PublishError>(())
    /// ```
    #[inline]
    pub fn publish(
        &self,
        index: u64,
        events: impl IntoIterator<Item = (K, T)>,
    ) -> Result<(), PublishError> {
        let mut events = events.into_iter();
        match (events.next(), events.next()) {
            (Some((key, event)), None) => self.hub().publish_one(index, &key, event),
            (first, second) => {
                let events = first.into_iter().chain(second).chain(events);
                let events = events.map(Pending::new).collect();
                self.hub().publish_many(index, events)
            }
        }
    }

    /// Watches a key: a snapshot of its state and what comes after it, or what came after the place
    /// to [resume](Request::after) from.
    ///
    /// O(1), but O(retained commits of the key) to resume in the midst of them, which is done
    /// without a lock. The snapshot's handler is not called here, but when the watch is polled.
    ///
    /// The watch keeps what it has not received, from now on; a snapshot that is made for it, too.
    ///
    /// ```
    /// use event_buffer::publisher::{Publisher, Request};
    ///
    /// let publisher = Publisher::builder().build();
    /// let watch = publisher.subscribe(Request::new("watched"));
    /// publisher.publish(1, [("watched", 1), ("not watched", 2)])?;
    /// assert_eq!(publisher.stats().keys, 1);
    /// drop(watch);
    /// assert_eq!(publisher.stats().keys, 0);
    /// # Ok::<(), event_buffer::publisher::PublishError>(())
    /// ```
    pub fn subscribe(&self, request: Request<K, T>) -> Watch<K, T> {
        self.hub().subscribe(request)
    }

    /// Closes all watches that carry the token, with [`CloseReason::AccessChanged`]. Nothing more
    /// is delivered to them. O(keys + watches), under the publisher's lock.
    ///
    /// Closing wakes the tasks that wait, and frees at once what only those watches kept, even if they are never
    /// polled again. An update that a client still holds keeps what follows it. A watch that begins right after is
    /// not closed, so take the access away first.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::publisher::{CloseReason, Publisher, Request, WatchError};
    /// use futures::StreamExt;
    ///
    /// let publisher = Publisher::<&str, u32>::builder().build();
    /// let mut alice = publisher.subscribe(Request::new("key").token("alice"));
    /// let mut bob = publisher.subscribe(Request::new("key").token("bob"));
    /// publisher.close_token("alice");
    /// let closed = alice.next().await.unwrap().unwrap_err();
    /// assert_eq!(closed, WatchError::Closed(CloseReason::AccessChanged));
    /// assert!(bob.next().await.unwrap().is_ok());
    /// # });
    /// ```
    pub fn close_token(&self, token: impl AsRef<str>) {
        let token = token.as_ref();
        self.hub()
            .close_where(CloseReason::AccessChanged, None, |watch| {
                watch.token.as_deref() == Some(token)
            });
    }

    /// Closes all watches of the key, with [`CloseReason::KeyClosed`]. Nothing more is delivered
    /// to them. O(watches of the key).
    ///
    /// What is retained or cached of the key stays, and it can be watched again.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::publisher::{CloseReason, Publisher, Request, WatchError};
    /// use futures::StreamExt;
    ///
    /// let publisher = Publisher::<&str, u32>::builder().build();
    /// let mut watch = publisher.subscribe(Request::new("gone"));
    /// publisher.close_key(&"gone");
    /// let closed = watch.next().await.unwrap().unwrap_err();
    /// assert_eq!(closed, WatchError::Closed(CloseReason::KeyClosed));
    /// # });
    /// ```
    pub fn close_key(&self, key: &K) {
        self.hub()
            .close_where(CloseReason::KeyClosed, Some(key), |_| true);
    }

    /// Closes all watches, with [`CloseReason::AllClosed`]. Nothing more is delivered to them.
    /// O(keys + watches).
    ///
    /// ```
    /// use event_buffer::publisher::{Publisher, Request};
    ///
    /// let publisher = Publisher::<u8, u32>::builder().build();
    /// let watches = [1, 2, 3].map(|key| publisher.subscribe(Request::new(key)));
    /// publisher.close_all();
    /// assert_eq!(publisher.stats().subscriptions, 0);
    /// # drop(watches);
    /// ```
    pub fn close_all(&self) {
        self.hub()
            .close_where(CloseReason::AllClosed, None, |_| true);
    }

    /// Figures: what is kept, and by whom. O(keys + watches), under the publisher's lock.
    ///
    /// ```
    /// use event_buffer::publisher::{Publisher, Request};
    ///
    /// let publisher = Publisher::builder().build();
    /// let watch = publisher.subscribe(Request::new("key").token("alice"));
    /// publisher.publish(1, [("key", 1)])?;
    /// publisher.publish(2, [("key", 2)])?;
    /// let slowest = publisher.stats().slowest.unwrap();
    /// assert_eq!((slowest.token.as_deref(), slowest.lag), (Some("alice"), 2));
    /// # drop(watch);
    /// # Ok::<(), event_buffer::publisher::PublishError>(())
    /// ```
    pub fn stats(&self) -> Stats<K> {
        self.hub().stats()
    }
}

/// A handle that does not keep the publisher open, made by [`Publisher::downgrade`].
///
/// ```
/// use event_buffer::publisher::Publisher;
///
/// let publisher = Publisher::<&str, u32>::builder().build();
/// let weak = publisher.downgrade();
/// assert!(weak.upgrade().is_some());
/// drop(publisher);
/// assert!(weak.upgrade().is_none());
/// ```
pub struct WeakPublisher<K, T>(Weak<Owner<K, T>>);

impl<K, T> WeakPublisher<K, T> {
    /// A handle to publish with, unless the last of those is gone. O(1), takes no lock. Drop it
    /// soon: as long as it is there the publisher stays open.
    ///
    /// ```
    /// use event_buffer::publisher::Publisher;
    ///
    /// let publisher = Publisher::builder().build();
    /// let weak = publisher.downgrade();
    /// if let Some(publisher) = weak.upgrade() {
    ///     publisher.publish(1, [("key", "event")])?;
    /// }
    /// # Ok::<(), event_buffer::publisher::PublishError>(())
    /// ```
    pub fn upgrade(&self) -> Option<Publisher<K, T>> {
        self.0.upgrade().map(Publisher)
    }
}

impl<K, T> Clone for WeakPublisher<K, T> {
    fn clone(&self) -> Self {
        Self(Weak::clone(&self.0))
    }
}

impl<K, T> fmt::Debug for WeakPublisher<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakPublisher").finish_non_exhaustive()
    }
}

impl<K, T> Drop for Owner<K, T> {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl<K, T> Clone for Publisher<K, T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, T> fmt::Debug for Publisher<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").finish_non_exhaustive()
    }
}

impl<K: RefUnwindSafe, T: RefUnwindSafe> UnwindSafe for Publisher<K, T> {}
impl<K: RefUnwindSafe, T: RefUnwindSafe> RefUnwindSafe for Publisher<K, T> {}
