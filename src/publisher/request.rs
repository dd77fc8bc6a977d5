//! What to watch, and from where.

use std::fmt;
use std::sync::Arc;

use super::resume::Resume;
use crate::lag_limit::LagLimit;

pub(super) type Filter<T> = Arc<dyn Fn(&T) -> bool + Send + Sync>;

/// What happens to a watch that is further behind than its [limit](Request::limit).
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
    /// It ends with [`WatchError::Lagged`](super::WatchError::Lagged) when it is polled. Until then it counts as a
    /// [subscription](super::Stats::subscriptions), though it keeps nothing.
    Close,
    /// It begins anew, with [`Begin::Reset`](super::Begin::Reset)`(`[`Lagged`](super::ResetReason::Lagged)`)` and a
    /// snapshot.
    Reset,
}

/// What to watch: a key or several, and from where, for whom, how far behind, and which of the events.
///
/// ```
/// use event_buffer::publisher::{Publisher, Request};
///
/// let publisher = Publisher::<&str, u32>::builder().build();
/// let request = Request::new("key").token("alice").filter(|n| n % 2 == 0);
/// let watch = publisher.subscribe(request);
/// ```
pub struct Request<K, T> {
    pub(super) keys: Vec<K>,
    pub(super) after: Option<Resume>,
    pub(super) tokens: Vec<Arc<str>>,
    pub(super) filter: Option<Filter<T>>,
    pub(super) limit: Option<(LagLimit<T>, OverLimit)>,
}

impl<K, T> Request<K, T> {
    /// All of a key: a snapshot, then every event after it.
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

    /// All of several keys, as one state: all snapshots first, then every commit that touches any of the keys, each
    /// as one update.
    ///
    /// A commit that touches several of the keys comes whole, its events in the order in which they were published.
    /// There is one place to resume from for all. If one key must be reset, all begin anew. Keys that are named twice
    /// count once. Without any key the watch gets [`Begin::Fresh`](super::Begin::Fresh), an end of an empty snapshot,
    /// and marks of progress.
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
    /// Publish each event under a key of its own and, in the same commit, under one that all events share.
    /// A watch of that one receives every event, those of a commit in one update. Its handler appends the
    /// state of all keys. An event has to say itself of which key it is, as the shared key does not; one
    /// that is not cheap to clone goes into an `Arc`.
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

    /// Only what came after this place, if the publisher still has all of it. Otherwise the watch begins with
    /// [`Begin::Reset`](super::Begin::Reset), and a snapshot follows. With `None` it is a fresh one.
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

    /// Names the watcher: [`Publisher::close_token`](super::Publisher::close_token) closes all watches of a token. A
    /// watch may carry several. [`Slowest`](super::Slowest) tells them, too.
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

    /// Limits how many commits, or bytes in commits, the watch may be behind: for clients that may stop reading.
    ///
    /// The limit bounds what the watch keeps in memory, even if it is never polled again. It counts the commits that
    /// the watch has not received, those since it began while its snapshot is being made or read included; parts of
    /// a snapshot do not count. What happens over the limit is what `over` says: the limit's own
    /// [`on_lag`](LagLimit::on_lag) does not matter. With several keys it is the limit for each of them. Bytes are
    /// those of the events alone, and commits that were published before the first request with a limit in bytes
    /// count one byte each.
    ///
    /// A watch that resumes from further behind than its limit begins anew, with
    /// [`ResetReason::Lagged`](super::ResetReason::Lagged), whatever `over` says. So a client that was closed for its
    /// lag, and comes back with the place that it had, is not closed again before it has received anything.
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

    /// Hides the events for which `visible` is false. It is asked whenever an event is looked at,
    /// and should answer the same each time.
    ///
    /// It is asked on the task of whoever reads, under no lock, and sees the events of snapshots
    /// too. It should not panic: that reaches the reader, which is shown the same commit again then.
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
