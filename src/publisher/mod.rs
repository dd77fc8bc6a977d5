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
//!   is not read keeps what it has not received; [`stats`](Publisher::stats) tells who is slowest.
//!
//! The idea is that of Consul's event streaming: snapshots spliced in front of shared buffers.

mod builder;
mod entry;
mod error;
mod hub;
mod request;
mod snapshot;
mod stats;
mod topic;
mod update;
mod watch;

use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Weak};

use hub::Hub;

pub use builder::Builder;
pub use error::{BoxError, CloseReason, PublishError, SnapshotOver, SnapshotPanicked, WatchError};
pub use request::{Request, Resume};
pub use snapshot::SnapshotAppender;
pub use stats::{Slowest, Stats};
pub use update::{Events, Iter, ResetReason, Update};
pub use watch::Watch;

/// Publishes events under keys, for any number of watchers. A cheap handle: clones publish to the
/// same watchers.
///
/// When the last handle is dropped all watches end, cleanly. See the [module](self) for an
/// example.
pub struct Publisher<K, T>(Arc<Owner<K, T>>);

/// What all handles share, and watches and snapshots do not.
struct Owner<K, T>(Arc<Hub<K, T>>);

impl<K, T> Publisher<K, T> {
    /// Settings for a new publisher.
    pub fn builder() -> Builder<K, T> {
        Builder::new()
    }

    /// A handle that does not keep the publisher open: for its own snapshot handler, which would
    /// keep it for ever otherwise.
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

    /// The epoch that all indexes are of, until the state is [`reset`](Self::reset).
    pub fn epoch(&self) -> u64 {
        self.hub().epoch()
    }

    /// Says that the state was replaced: indexes start again, of another epoch. All watches are
    /// closed with [`CloseReason::StateReset`], and what was retained or cached is gone. Whoever
    /// resumes from the old epoch is told to start anew.
    ///
    /// O(keys + watches).
    pub fn reset(&self, new_epoch: u64) {
        self.hub().reset(new_epoch);
    }

    /// Closes all watches with [`CloseReason::ShutDown`], those to come too, and refuses to publish
    /// from now on. O(keys + watches).
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
    /// key is woken once. Events under keys that nobody watches are dropped. Publishing nothing
    /// is a commit all the same: the index counts.
    ///
    /// All events of one index belong in one call. Another one at the same index is accepted and
    /// delivered to whoever follows, but a snapshot of that index is taken to contain it, and
    /// nobody can resume exactly there.
    ///
    /// O(events); takes one lock.
    ///
    /// # Errors
    ///
    /// [`PublishError::IndexBackwards`] where a greater index was published before,
    /// [`PublishError::ShutDown`] after a [`shutdown`](Self::shutdown). Nothing is published
    /// then.
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
                let events = events.map(|(key, event)| (key, Some(event))).collect();
                self.hub().publish_many(index, events)
            }
        }
    }

    /// Watches a key: a snapshot of its state and what comes after it, or what came after the place
    /// to [resume](Request::after) from.
    ///
    /// O(1), but O(retained commits of the key) to resume in the midst of them, which is done
    /// without a lock. The snapshot's handler is not called here, but when the watch is polled.
    pub fn subscribe(&self, request: Request<K, T>) -> Watch<K, T> {
        self.hub().subscribe(request)
    }

    /// Closes all watches that carry the token, with [`CloseReason::AccessChanged`]. Nothing more
    /// is delivered to them. O(keys + watches).
    pub fn close_token(&self, token: impl AsRef<str>) {
        let token = token.as_ref();
        self.hub()
            .close_where(CloseReason::AccessChanged, None, |watch| {
                watch.token.as_deref() == Some(token)
            });
    }

    /// Closes all watches of the key, with [`CloseReason::KeyClosed`]. Nothing more is delivered
    /// to them. O(watches of the key).
    pub fn close_key(&self, key: &K) {
        self.hub()
            .close_where(CloseReason::KeyClosed, Some(key), |_| true);
    }

    /// Closes all watches, with [`CloseReason::AllClosed`]. Nothing more is delivered to them.
    /// O(keys + watches).
    pub fn close_all(&self) {
        self.hub()
            .close_where(CloseReason::AllClosed, None, |_| true);
    }

    /// Figures: what is kept, and by whom. O(keys + watches), under the publisher's lock.
    pub fn stats(&self) -> Stats<K> {
        self.hub().stats()
    }
}

/// A handle that does not keep the publisher open, made by [`Publisher::downgrade`].
pub struct WeakPublisher<K, T>(Weak<Owner<K, T>>);

impl<K, T> WeakPublisher<K, T> {
    /// A handle to publish with, unless the last of those is gone.
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
