//! The handles of a publisher.

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{Arc, Weak};

use super::builder::PublisherBuilder;
use super::error::{CloseReason, PublishError};
use super::hub::{At, Hub, Pending};
use super::request::Request;
use super::stats::{Slowest, Stats};
use super::watch::Watch;

/// Publishes events under keys, for any number of watchers. A cheap handle: clones publish to the
/// same watchers.
///
/// When the last handle is dropped all watches end, cleanly: they deliver what was published, then
/// end with `None`. A [`WeakPublisher`] does not count as a handle, and neither does a watch.
///
/// Every method but `clone`, `builder` and `downgrade` takes the one lock of the publisher for a moment.
/// Watches take it only when they begin and end, and to finish a snapshot. See the [module](super) for what
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
/// let Some(Ok(Update::Begin(_))) = watch.next().await else { panic!() };
/// let Some(Ok(Update::EndOfSnapshot { index: 0 })) = watch.next().await else { panic!() };
/// let Some(Ok(Update::Events(commit))) = watch.next().await else { panic!() };
/// assert_eq!(commit.index(), Some(1));
/// assert!(watch.next().await.is_none());
/// # Ok::<(), event_buffer::publisher::PublishError>(()) }).unwrap();
/// ```
pub struct Publisher<K, T>(Arc<Owner<K, T>>);

/// What all handles share, and watches and snapshots do not.
struct Owner<K, T>(Arc<Hub<K, T>>);

impl<K, T> Publisher<K, T> {
    pub(super) fn of(hub: Hub<K, T>) -> Self {
        Self(Arc::new(Owner(Arc::new(hub))))
    }

    /// Returns the settings of a new publisher.
    ///
    /// ```
    /// use event_buffer::publisher::Publisher;
    ///
    /// let publisher = Publisher::builder().history(100).build();
    /// publisher.publish(1, [("key", "event")])?;
    /// # Ok::<(), event_buffer::publisher::PublishError>(())
    /// ```
    pub fn builder() -> PublisherBuilder<K, T> {
        PublisherBuilder::new()
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

    /// Returns the last index: that of the newest commit, or where the publisher [starts](PublisherBuilder::start_at).
    /// O(1).
    ///
    /// ```
    /// use event_buffer::publisher::Publisher;
    ///
    /// let publisher = Publisher::<&str, u32>::builder().start_at(7).build();
    /// assert_eq!(publisher.index(), 7);
    /// publisher.publish(9, [("key", 1)])?;
    /// assert_eq!(publisher.index(), 9);
    /// # Ok::<(), event_buffer::publisher::PublishError>(())
    /// ```
    pub fn index(&self) -> u64 {
        self.hub().index()
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
    K: Hash + Eq + Clone + Send + Sync + 'static,
    T: Send + Sync + 'static,
{
    /// Publishes one commit: all events that came to be at one index, under any number of keys.
    ///
    /// The events of a key are delivered together, in their order, and each watcher of a touched
    /// key is woken once. Events under keys of which nothing is kept are dropped, unless there is a
    /// [history](PublisherBuilder::history). A commit without events is one all the same: the index counts.
    ///
    /// All events of one index belong in one call.
    ///
    /// # Errors
    ///
    /// [`PublishError::IndexNotGreater`] if the index is not greater than the [last](Self::index) one, so that index 0
    /// is refused always; [`PublishError::ShutDown`] after a [`shutdown`](Self::shutdown). Nothing is published
    /// then, and the events are gone.
    ///
    /// # Panics
    ///
    /// If a waker or an event's drop panics. All is published by then.
    ///
    /// # Cost
    ///
    /// O(events), and the wake-up of those who wait; takes one lock, under which each key is hashed, and now and then
    /// those whose snapshots have expired. The iterator runs before that. Allocates the commit, and a block of places
    /// for commits now and then; with a history a key that was not known is cloned twice.
    ///
    /// ```
    /// use event_buffer::publisher::{PublishError, Publisher};
    ///
    /// let publisher = Publisher::builder().build();
    /// publisher.publish(1, [("fruit", "apple"), ("tree", "oak"), ("fruit", "pear")])?;
    /// publisher.publish(5, [("tree", "elm")])?;
    /// let late = publisher.publish(4, [("tree", "ash")]);
    /// assert_eq!(late, Err(PublishError::IndexNotGreater { index: 4, last: 5 }));
    /// # Ok::<(), PublishError>(())
    /// ```
    #[inline]
    pub fn publish(
        &self,
        index: u64,
        events: impl IntoIterator<Item = (K, T)>,
    ) -> Result<(), PublishError> {
        self.publish_at(At::Index(index), events).map(drop)
    }

    /// Publishes one commit like [`publish`](Self::publish), at the index after the [last](Self::index) one, which it
    /// returns. For producers that have no indexes of their own.
    ///
    /// # Errors
    ///
    /// [`PublishError::IndexesExhausted`] if the last index is the greatest number; [`PublishError::ShutDown`] as
    /// above.
    ///
    /// ```
    /// use event_buffer::publisher::Publisher;
    ///
    /// let publisher = Publisher::builder().build();
    /// assert_eq!(publisher.publish_next([("key", "event")])?, 1);
    /// assert_eq!(publisher.publish_next([("key", "event")])?, 2);
    /// # Ok::<(), event_buffer::publisher::PublishError>(())
    /// ```
    #[inline]
    pub fn publish_next(
        &self,
        events: impl IntoIterator<Item = (K, T)>,
    ) -> Result<u64, PublishError> {
        self.publish_at(At::Next, events)
    }

    #[inline]
    fn publish_at(
        &self,
        at: At,
        events: impl IntoIterator<Item = (K, T)>,
    ) -> Result<u64, PublishError> {
        let mut events = events.into_iter();
        match (events.next(), events.next()) {
            (Some(event), None) => self.hub().publish_one(at, event),
            (first, second) => {
                let events = first.into_iter().chain(second).chain(events);
                let events = events.map(Pending::new).collect();
                self.hub().publish_many(at, events)
            }
        }
    }

    /// Watches a key, or [several](Request::keys): a snapshot of the state and what comes after it, or what came after
    /// the place to [resume](Request::after) from.
    ///
    /// The snapshot's handler is not called here, but when the watch is polled. The watch keeps what it has not
    /// received, from now on; a snapshot that is made for it, too.
    ///
    /// # Cost
    ///
    /// O(keys), and O(log n) for each to resume within a history of n commits. Takes one lock; keys are cloned
    /// before that.
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

    /// Gives idle watches an [`Update::Progress`](super::Update::Progress) with the present index, so that their clients have a place that is
    /// not old: what Kubernetes calls a bookmark.
    ///
    /// Wakes only those who have not come to that index. A watch that has something to receive gets no mark: its last
    /// update says as much. A mark leaves nothing in memory and counts for no limit.
    ///
    /// # Cost
    ///
    /// O(watches), in steps between which the lock is released. Wakers run under no lock.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::publisher::{Publisher, Request, Update};
    /// use futures::StreamExt;
    ///
    /// let publisher = Publisher::builder().history(10).build();
    /// let mut watch = publisher.subscribe(Request::new("quiet"));
    /// watch.next().await; // how it begins
    /// watch.next().await; // the end of the snapshot
    /// publisher.publish(7, [("busy", "event")])?;
    /// publisher.mark_progress();
    /// assert!(matches!(watch.next().await, Some(Ok(Update::Progress { index: 7 }))));
    /// # Ok::<(), event_buffer::publisher::PublishError>(()) }).unwrap();
    /// ```
    pub fn mark_progress(&self) {
        self.hub().mark_progress();
    }

    /// Closes all watches that carry the token, with [`CloseReason::AccessChanged`]. Nothing more
    /// is delivered to them.
    ///
    /// Closing wakes the tasks that wait, and frees at once what only those watches kept, even if they are never
    /// polled again. A watch that begins right after is not closed, so take the access away first.
    ///
    /// # Cost
    ///
    /// O(watches of the token), under the publisher's lock.
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
        self.hub().close_token(token.as_ref());
    }

    /// Closes all watches for whose tokens the predicate is true, with [`CloseReason::AccessChanged`].
    ///
    /// The predicate runs under no lock, once for each watch that is there when the call begins.
    ///
    /// # Cost
    ///
    /// O(watches), in steps between which the lock is released.
    ///
    /// ```
    /// use event_buffer::publisher::{Publisher, Request};
    ///
    /// let publisher = Publisher::<&str, u32>::builder().build();
    /// let watch = publisher.subscribe(Request::new("key").token("alice").token("connection 7"));
    /// publisher.close_where(|tokens| tokens.iter().any(|token| token.starts_with("connection")));
    /// assert_eq!(publisher.stats().subscriptions, 0);
    /// # drop(watch);
    /// ```
    pub fn close_where(&self, is_meant: impl FnMut(&[Arc<str>]) -> bool) {
        self.hub().close_where(CloseReason::AccessChanged, is_meant);
    }

    /// Closes all watches of the key, with [`CloseReason::KeyClosed`]. Nothing more is delivered
    /// to them. A snapshot of it that is being made is given up.
    ///
    /// What is retained or cached of the key stays, and it can be watched again. O(watches of the key).
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
    pub fn close_key<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.hub().close_key(key);
    }

    /// Closes all watches, with [`CloseReason::AllClosed`]. Nothing more is delivered to them. Snapshots that only they
    /// waited for are given up.
    ///
    /// O(watches), in steps between which the lock is released. A watch that begins meanwhile is not closed.
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
        self.hub().close_where(CloseReason::AllClosed, |_| true);
    }

    /// Says that what is known of the key is void: its cached snapshot and history are forgotten, a snapshot that is
    /// being made is given up, and its watches begin anew, with [`ResetReason::Refreshed`](super::ResetReason::Refreshed).
    ///
    /// Leaves a mark in the history at the present index: whoever resumes from there or from before begins anew, too. (So
    /// does a client whose place was taken after the call, at the same index, until the next commit.) The key is made
    /// from the borrowed form to be remembered.
    ///
    /// O(watches and retained commits of the key).
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::publisher::{Begin, Publisher, Request, ResetReason, Update};
    /// use futures::StreamExt;
    ///
    /// let publisher = Publisher::<String, u32>::builder().build();
    /// let mut watch = publisher.subscribe(Request::new("key".to_string()));
    /// watch.next().await; // how it begins
    /// watch.next().await; // the end of the snapshot
    /// publisher.refresh("key");
    /// let Some(Ok(Update::Begin(begin))) = watch.next().await else { panic!() };
    /// assert_eq!(begin, Begin::Reset(ResetReason::Refreshed));
    /// # });
    /// ```
    pub fn refresh<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.hub().refresh(key);
    }

    /// Like [`refresh`](Self::refresh), but closes the key's watches, with [`CloseReason::KeyForgotten`].
    ///
    /// ```
    /// use event_buffer::publisher::{Publisher, Request};
    ///
    /// let publisher = Publisher::<String, u32>::builder().build();
    /// let watch = publisher.subscribe(Request::new("gone".to_string()));
    /// publisher.forget("gone");
    /// assert!(watch.is_closed());
    /// ```
    pub fn forget<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.hub().forget(key);
    }

    /// Says that the key is complete: its watches receive all that was published, then [`Update::Completed`](super::Update::Completed), and end
    /// with the last of their keys.
    ///
    /// The end is an entry of the history. Whoever comes later gets the snapshot, if there is a
    /// handler, what the history has after it, or after its place, and the end. For ends that have left the history the
    /// handler can [say it](super::SnapshotAppender::complete). Without a handler a fresh watch of a completed key gets all of
    /// it, if nothing of it can have left the history (which is certain as long as nothing has), and the end alone
    /// otherwise.
    ///
    /// Publishing to the key again begins it anew: what was kept of it is void, and whoever resumes from before begins
    /// anew. Completing it twice does nothing. O(watches of several keys, among them this one).
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::publisher::{Publisher, Request, Update};
    /// use futures::StreamExt;
    ///
    /// let publisher = Publisher::<String, &str>::builder().history(100).build();
    /// publisher.publish_next([("job".to_string(), "output")])?;
    /// publisher.complete("job");
    ///
    /// let late = publisher.subscribe(Request::new("job".to_string()));
    /// let updates: Vec<_> = late.collect().await;
    /// assert!(matches!(updates[2], Ok(Update::Events(_))));
    /// assert!(matches!(updates[3], Ok(Update::Completed(_))));
    ///
    /// // The output leaves the history: without a handler, a late watch gets the end alone.
    /// for _ in 0..100 {
    ///     publisher.publish_next([("other job".to_string(), "output")])?;
    /// }
    /// let later = publisher.subscribe(Request::new("job".to_string()));
    /// let updates: Vec<_> = later.collect().await;
    /// assert!(matches!(updates[1], Ok(Update::EndOfSnapshot { .. })));
    /// assert!(matches!(updates[2], Ok(Update::Completed(_))));
    /// # Ok::<(), event_buffer::publisher::PublishError>(()) }).unwrap();
    /// ```
    pub fn complete<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.hub().complete(key);
    }

    /// Returns how many watches the key has. O(1).
    ///
    /// ```
    /// use event_buffer::publisher::{Publisher, Request};
    ///
    /// let publisher = Publisher::<String, u32>::builder().build();
    /// let watch = publisher.subscribe(Request::new("key".to_string()));
    /// assert_eq!((publisher.watchers("key"), publisher.watchers("other")), (1, 0));
    /// # drop(watch);
    /// ```
    pub fn watchers<Q>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.hub().watchers(key)
    }

    /// Waits until the key has a watch. Returns at once if it has one.
    ///
    /// For producers that need not work for keys nobody watches. Takes the publisher's lock to begin and to end.
    /// Completes with the last handle of the publisher, or its shutdown, too: no watch will come any more.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped leaves nothing behind.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::publisher::{Publisher, Request};
    ///
    /// let publisher = Publisher::<String, u32>::builder().build();
    /// let watch = publisher.subscribe(Request::new("key".to_string()));
    /// publisher.watched("key").await;
    /// # drop(watch);
    /// # });
    /// ```
    pub async fn watched<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        if let Some(arrival) = self.hub().watched(key) {
            arrival.await;
        }
    }

    /// Returns figures: what is there, and what has happened so far. O(1).
    ///
    /// ```
    /// use event_buffer::publisher::{Publisher, Request};
    ///
    /// let publisher = Publisher::builder().build();
    /// let watch = publisher.subscribe(Request::new("key"));
    /// publisher.publish(1, [("key", 1)])?;
    /// assert_eq!((publisher.stats().subscriptions, publisher.stats().commits), (1, 1));
    /// # drop(watch);
    /// # Ok::<(), event_buffer::publisher::PublishError>(())
    /// ```
    pub fn stats(&self) -> Stats {
        self.hub().stats()
    }

    /// Returns the `n` watches that are furthest behind, the furthest first.
    ///
    /// # Cost
    ///
    /// O(watches), in steps between which the lock is released. Keys are cloned under no lock.
    ///
    /// ```
    /// use event_buffer::publisher::{Publisher, Request};
    ///
    /// let publisher = Publisher::builder().build();
    /// let watch = publisher.subscribe(Request::new("key").token("alice"));
    /// publisher.publish(1, [("key", 1)])?;
    /// publisher.publish(2, [("key", 2)])?;
    /// let slowest = &publisher.slowest(1)[0];
    /// assert_eq!((&*slowest.tokens[0], slowest.lag), ("alice", 2));
    /// # drop(watch);
    /// # Ok::<(), event_buffer::publisher::PublishError>(())
    /// ```
    pub fn slowest(&self, n: usize) -> Vec<Slowest<K>> {
        self.hub().slowest(n)
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
