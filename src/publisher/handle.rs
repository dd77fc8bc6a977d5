//! The handles of a publisher.

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{Arc, Weak};

use super::hub::{At, Hub, Pending};
use super::report::error::{CloseReason, PublishError};
use super::watch::request::Request;
use super::watch::stream::Watch;

/// Publishes events under keys, for any number of watches.
///
/// This is a cheap handle: its clones publish to the same watches.
///
/// When the last handle is dropped, all watches end cleanly: they deliver what was published, then
/// `None`. A [`WeakPublisher`] does not count as a handle, and neither does a watch.
///
/// Every method except `clone`, `builder` and `downgrade` briefly takes the publisher's one lock.
/// Watches take it only when they begin, start over or end, and to finish a snapshot. The [module
/// page](super) lists the guarantees.
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

/// What all handles share. Watches and snapshots hold only the hub, so dropping this ends them.
struct Owner<K, T>(Arc<Hub<K, T>>);

impl<K, T> Publisher<K, T> {
    pub(super) fn of(hub: Hub<K, T>) -> Self {
        Self(Arc::new(Owner(Arc::new(hub))))
    }

    /// Returns a handle that does not keep the publisher open. O(1).
    ///
    /// A snapshot handler that uses its own publisher needs one: with a full handle it would keep
    /// the publisher open for ever.
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

    pub(super) fn hub(&self) -> &Arc<Hub<K, T>> {
        &self.0.0
    }

    /// Returns the epoch of all indexes, until the next [`reset`](Self::reset). O(1).
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

    /// Returns the index of the newest commit. O(1).
    ///
    /// Before the first commit this is the index at which the publisher
    /// [starts](super::PublisherBuilder::start_at).
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

    /// Starts a new epoch: the state was replaced, and indexes start again.
    ///
    /// All watches are closed with [`CloseReason::StateReset`], and everything retained or cached
    /// is dropped. A client that resumes from an earlier epoch gets a new snapshot. The new epoch
    /// must never have been used before, or a client of its first use resumes into the wrong state.
    ///
    /// # Cost
    ///
    /// O(keys + watches). What only a closed watch kept alive is freed at once.
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

    /// Closes all watches with [`CloseReason::ShutDown`], and refuses to publish.
    ///
    /// This is final: watches that are requested later are closed with the same reason.
    ///
    /// # Cost
    ///
    /// O(keys + watches).
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
    /// Publishes one commit: all events of one index, under any number of keys.
    ///
    /// The events of a key are delivered together and in order, and each watch of a touched key is
    /// woken once. Events under a key that has no watch and no snapshot are dropped unless there is
    /// a [history](super::PublisherBuilder::history). A commit without events is still a commit:
    /// its index counts.
    ///
    /// Publish all events of one index in one call, since the next call needs a greater index.
    ///
    /// # Errors
    ///
    /// [`PublishError::IndexNotGreater`] if the index is not greater than the [last](Self::index)
    /// one, so that index 0 is always refused; [`PublishError::ShutDown`] after a
    /// [`shutdown`](Self::shutdown). In both cases nothing is published, and the events are
    /// dropped.
    ///
    /// # Panics
    ///
    /// Panics if a waker or an event's destructor panics. Everything is published by then.
    ///
    /// # Cost
    ///
    /// O(events), plus waking the tasks that wait. The iterator runs before the lock is taken.
    /// Under the lock each key is hashed, and now and then the keys of expired snapshots. Allocates
    /// the commit (in a page shared with others), and now and then a block of the chain. With a
    /// history, a key that has nothing retained is cloned twice.
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

    /// Publishes one commit at the index after the [last](Self::index) one, and returns that index.
    ///
    /// This is [`publish`](Self::publish) for producers that have no indexes of their own.
    ///
    /// # Errors
    ///
    /// [`PublishError::IndexesExhausted`] if the last index is `u64::MAX`;
    /// [`PublishError::ShutDown`] after a [`shutdown`](Self::shutdown).
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

    /// Watches one key, or [several](Request::keys).
    ///
    /// The watch delivers a snapshot and every commit after it, or, if it
    /// [resumes](Request::after), only the commits after the resume point.
    ///
    /// This call does not run the snapshot handler: polling the watch does. From now on the watch
    /// keeps what it has not received in memory, including a snapshot that is made for it.
    ///
    /// # Cost
    ///
    /// O(keys), and O(log n) for each key that resumes within a history of n commits. Takes one
    /// lock; keys are cloned before that.
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

    /// Gives idle watches an [`Update::Progress`](super::Update::Progress) with the current index.
    ///
    /// Clients of quiet keys thereby get a recent resume point, which the history can still serve
    /// when they reconnect. Kubernetes calls this a bookmark.
    ///
    /// Wakes only the watches that have not reached the index. A watch that still has something to
    /// receive gets no mark, since its last update carries the same index. A mark occupies no
    /// memory and does not count against a limit.
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

    /// Closes all watches that carry the token, with [`CloseReason::AccessChanged`].
    ///
    /// They deliver nothing more. Their tasks are woken, and what only those watches kept alive is
    /// freed at once, even if they are never polled again. A watch that subscribes right after this
    /// call stays open, so revoke the access first.
    ///
    /// # Cost
    ///
    /// O(watches of the token). They are closed in steps, between which the lock is released.
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

    /// Closes all watches whose tokens match, with [`CloseReason::AccessChanged`].
    ///
    /// The watches deliver nothing more. The predicate runs under no lock, once for each watch that
    /// exists when the call begins.
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

    /// Closes all watches of the key, with [`CloseReason::KeyClosed`].
    ///
    /// They deliver nothing more, and the key's unfinished snapshots are given up. What is retained
    /// or cached of the key stays, and it can be watched again.
    ///
    /// # Cost
    ///
    /// O(watches of the key).
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

    /// Closes all watches, with [`CloseReason::AllClosed`].
    ///
    /// They deliver nothing more. Snapshots that only they waited for are given up. A watch that
    /// subscribes during the call stays open.
    ///
    /// # Cost
    ///
    /// O(watches), in steps between which the lock is released.
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

    /// Invalidates what is known of the key, so that its watches start over.
    ///
    /// The key's cached snapshot and history are dropped, its unfinished snapshots are given up,
    /// and its watches are reset with [`ResetReason::Refreshed`](super::ResetReason::Refreshed).
    ///
    /// The call leaves a mark in the history at the current index: a client that resumes from that
    /// index or an earlier one is reset too. (So is a client whose resume point was taken after the
    /// call at the same index, until the next commit.) To store the mark, the key is made from its
    /// borrowed form.
    ///
    /// # Cost
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

    /// Invalidates what is known of the key, and closes its watches.
    ///
    /// Like [`refresh`](Self::refresh), but the watches end with [`CloseReason::KeyForgotten`]
    /// instead of starting over.
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

    /// Marks the key as complete: no more events will come.
    ///
    /// Its watches receive everything that was published, then
    /// [`Update::Completed`](super::Update::Completed). A watch ends with the last of its keys.
    ///
    /// The end of the key is an entry of the history. A later watch receives the snapshot, if there
    /// is a handler, then what the history has after it (or after the resume point), then the end.
    /// Once the end has left the history, only the handler can [report
    /// it](super::SnapshotAppender::complete).
    ///
    /// Without a handler, a fresh watch of a completed key receives all its events if none of them
    /// can have left the history, which is certain as long as no commit has left it. Otherwise it
    /// receives only the end.
    ///
    /// Publishing to the key again starts it over: what was retained of it is void, and clients
    /// that resume from before are reset. Completing a key twice has no effect.
    ///
    /// # Cost
    ///
    /// O(watches that have this key among several).
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
    /// Returns a full handle, unless the last one has been dropped. O(1), takes no lock.
    ///
    /// Drop it soon: the publisher stays open as long as the handle exists.
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
