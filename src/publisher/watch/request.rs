//! What to watch, and from which point on.

use std::fmt;
use std::sync::Arc;

use super::resume::Resume;
use crate::lag_limit::LagLimit;

pub(crate) type Filter<T> = Arc<dyn Fn(&T) -> bool + Send + Sync>;

/// What happens to a watch that falls behind by more than its [limit](Request::limit).
///
/// ```
/// use event_buffer::LagLimit;
/// use event_buffer::publisher::{OverLimit, Publisher, Request};
///
/// let publisher = Publisher::<&str, u32>::builder().build();
/// let request = Request::new("key").limit(LagLimit::items(1_000), OverLimit::Reset);
/// let watch = publisher.subscribe(request);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OverLimit {
    /// The watch ends with [`WatchError::Lagged`](crate::publisher::WatchError::Lagged) when it is
    /// polled. Until then it counts as a [subscription](crate::publisher::Stats::subscriptions),
    /// but keeps nothing alive.
    Close,
    /// The watch starts over with [`Begin::Reset`]`(`[`Lagged`]`)` and a new snapshot.
    ///
    /// [`Begin::Reset`]: crate::publisher::Begin::Reset
    /// [`Lagged`]: crate::publisher::ResetReason::Lagged
    Reset,
}

/// What to watch, from which point on, for whom, and within which limit.
///
/// By default a watch starts with a snapshot, sees every event, carries no token and has no limit.
///
/// ```
/// use event_buffer::publisher::{Publisher, Request};
///
/// let publisher = Publisher::<&str, u32>::builder().build();
/// let request = Request::new("key").token("alice").filter(|n| n % 2 == 0);
/// let watch = publisher.subscribe(request);
/// ```
pub struct Request<K, T> {
    pub(crate) keys: Vec<K>,
    pub(crate) after: Option<Resume>,
    pub(crate) tokens: Vec<Arc<str>>,
    pub(crate) filter: Option<Filter<T>>,
    pub(crate) limit: Option<(LagLimit<T>, OverLimit)>,
}

impl<K, T> Request<K, T> {
    /// Requests one key: a snapshot, then every commit after it.
    ///
    /// ```
    /// use event_buffer::publisher::{Publisher, Request};
    ///
    /// let publisher = Publisher::<String, u32>::builder().build();
    /// let watch = publisher.subscribe(Request::new("key".to_string()));
    /// assert!(watch.resume_point().is_none()); // The snapshot is still to come.
    /// ```
    pub fn new(key: K) -> Self {
        Self::keys([key])
    }

    /// Requests several keys, followed as one state.
    ///
    /// All snapshots come first, then every commit that touches any of the keys. A commit that
    /// touches several of the keys is delivered as one update, with its events in the order in
    /// which they were published. There is one resume point for all keys, and if one key has to be
    /// reset, all start over. Duplicate keys count once. Without any key the watch delivers
    /// [`Begin::Fresh`](crate::publisher::Begin::Fresh), the end of an empty snapshot, and marks of
    /// progress.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::publisher::{Publisher, Request, Update};
    /// use futures::StreamExt;
    ///
    /// let publisher = Publisher::builder().build();
    /// let mut watch = publisher.subscribe(Request::keys(["a", "b"]));
    /// publisher.publish(1, [("a", 1), ("b", 2), ("a", 3)])?;
    /// # drop(publisher);
    /// while let Some(Ok(update)) = watch.next().await {
    ///     if let Update::Events(commit) = update {
    ///         assert!(commit.iter().eq([&1, &2, &3]));
    ///     }
    /// }
    /// # Ok::<(), event_buffer::publisher::PublishError>(()) }).unwrap();
    /// ```
    ///
    /// # Watching everything
    ///
    /// Publish each event twice in the same commit: under its own key, and under a key that all
    /// events share. A watch of the shared key receives every event, one update per commit. The
    /// snapshot handler of the shared key appends the state of all keys. Since the shared key does
    /// not tell them apart, each event must carry its own key. Put events that are expensive to
    /// clone into an `Arc`.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::publisher::{PublishError, Publisher, Request, Update};
    /// use futures::StreamExt;
    ///
    /// #[derive(Clone, PartialEq, Eq, Hash)]
    /// enum Key {
    ///     All,
    ///     Of(&'static str),
    /// }
    ///
    /// type Event = (&'static str, u32);
    ///
    /// let publisher = Publisher::builder().build();
    /// let publish = |events: &[Event]| {
    ///     let twice = |event: &Event| [(Key::Of(event.0), *event), (Key::All, *event)];
    ///     publisher.publish_next(events.iter().flat_map(twice))
    /// };
    /// let mut everything = publisher.subscribe(Request::new(Key::All));
    /// everything.next().await; // how it begins
    /// everything.next().await; // the end of the snapshot
    /// publish(&[("a", 1), ("b", 2), ("a", 3)])?;
    /// let Some(Ok(Update::Events(commit))) = everything.next().await else { panic!() };
    /// assert!(commit.iter().eq(&[("a", 1), ("b", 2), ("a", 3)]));
    /// # Ok::<(), PublishError>(()) }).unwrap();
    /// ```
    pub fn keys(keys: impl IntoIterator<Item = K>) -> Self {
        Self {
            keys: keys.into_iter().collect(),
            after: None,
            tokens: Vec::new(),
            filter: None,
            limit: None,
        }
    }

    /// Resumes: asks only for what came after this point.
    ///
    /// If the publisher does not have all of that any more, the watch begins with
    /// [`Begin::Reset`](crate::publisher::Begin::Reset) and a snapshot. `None` requests a fresh
    /// watch.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::publisher::{Begin, Publisher, Request, Update};
    /// use futures::StreamExt;
    ///
    /// let publisher = Publisher::builder().history(10).build();
    /// let mut watch = publisher.subscribe(Request::new("key"));
    /// watch.next().await; // how it begins
    /// watch.next().await; // the end of the snapshot
    /// let place = watch.resume_point();
    /// publisher.publish(1, [("key", "missed")])?;
    ///
    /// let mut again = publisher.subscribe(Request::new("key").after(place));
    /// let Some(Ok(Update::Begin(Begin::Resumed))) = again.next().await else { panic!() };
    /// let Some(Ok(Update::Events(missed))) = again.next().await else { panic!() };
    /// assert_eq!(missed.index(), Some(1));
    /// # Ok::<(), event_buffer::publisher::PublishError>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn after(self, resume: impl Into<Option<Resume>>) -> Self {
        let after = resume.into();
        Self { after, ..self }
    }

    /// Adds a token, by which [`Publisher::close_token`](crate::publisher::Publisher::close_token)
    /// finds the watch.
    ///
    /// Tokens name the client: a user, a session, a connection. A watch may carry several;
    /// [`Slowest`](crate::publisher::Slowest) reports them.
    ///
    /// ```
    /// use event_buffer::publisher::{Publisher, Request};
    ///
    /// let publisher = Publisher::<&str, u32>::builder().build();
    /// let watch = publisher.subscribe(Request::new("key").token("alice").token("connection 7"));
    /// publisher.close_token("alice");
    /// assert_eq!(publisher.stats().subscriptions, 0);
    /// # drop(watch);
    /// ```
    #[must_use]
    pub fn token(mut self, token: impl Into<Arc<str>>) -> Self {
        self.tokens.push(token.into());
        self
    }

    /// Limits how many commits, or bytes in commits, the watch may fall behind.
    ///
    /// This is for clients that may stop reading.
    ///
    /// A limited watch does not keep more than its limit in memory, even if it is never polled
    /// again. The limit counts the commits that the watch has not received. Commits published while
    /// its snapshot is being made or read count too; the parts of the snapshot do not. `over`
    /// decides what happens over the limit, and the limit's own [`on_lag`](LagLimit::on_lag) is
    /// ignored. With several keys the limit applies to each of them. Bytes are those of the events
    /// alone, and a commit that was published before the first request with a limit in bytes counts
    /// one byte.
    ///
    /// When a watch resumes, the commits that it has missed do not count, so that a client can
    /// resume that was closed for its lag. Until it has received them and is polled again, the
    /// watch may keep as many more commits in memory as it had missed.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::LagLimit;
    /// use event_buffer::publisher::{OverLimit, Publisher, Request, WatchError};
    /// use futures::StreamExt;
    ///
    /// let publisher = Publisher::builder().build();
    /// let request = Request::new("key").limit(LagLimit::items(10), OverLimit::Close);
    /// let mut stuck = publisher.subscribe(request);
    /// while let Some(Some(Ok(_))) = futures::FutureExt::now_or_never(stuck.next()) {}
    /// for index in 1..=1_000 {
    ///     publisher.publish(index, [("key", index)])?;
    /// }
    /// assert!(matches!(stuck.next().await, Some(Err(WatchError::Lagged(_)))));
    /// # Ok::<(), event_buffer::publisher::PublishError>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn limit(self, limit: LagLimit<T>, over: OverLimit) -> Self {
        Self {
            limit: Some((limit, over)),
            ..self
        }
    }

    /// Hides the events for which `visible` returns `false`.
    ///
    /// `visible` is called whenever an event is read, and must return the same result each time.
    ///
    /// It runs on the reader's task, under no lock, and sees the events of snapshots as well. It
    /// should not panic: the panic reaches the reader, which sees the same commit again when it
    /// polls next.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::publisher::{Publisher, Request, Update};
    /// use futures::StreamExt;
    ///
    /// let publisher = Publisher::builder().build();
    /// let mut even = publisher.subscribe(Request::new("key").filter(|n| n % 2 == 0));
    /// even.next().await; // how it begins
    /// even.next().await; // the end of the snapshot
    /// publisher.publish(1, [("key", 1)])?;
    /// publisher.publish(2, [("key", 2), ("key", 3), ("key", 4)])?;
    /// let Some(Ok(Update::Progress { index: 1 })) = even.next().await else { panic!() };
    /// let Some(Ok(Update::Events(commit))) = even.next().await else { panic!() };
    /// assert!(commit.iter().eq([&2, &4]));
    /// # Ok::<(), event_buffer::publisher::PublishError>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn filter(self, visible: impl Fn(&T) -> bool + Send + Sync + 'static) -> Self {
        let filter: Option<Filter<T>> = Some(Arc::new(visible));
        Self { filter, ..self }
    }
}

impl<K: fmt::Debug, T> fmt::Debug for Request<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("keys", &self.keys)
            .field("after", &self.after)
            .field("tokens", &self.tokens)
            .field("filtered", &self.filter.is_some())
            .field("limit", &self.limit)
            .finish()
    }
}
