//! What to watch, and from where.

use std::fmt;
use std::sync::Arc;

pub(super) type Filter<T> = Arc<dyn Fn(&T) -> bool + Send + Sync>;

/// Up to where a watcher has followed: told by [`Watch::resume_point`](super::Watch::resume_point)
/// and given back by [`Request::after`].
///
/// Two numbers, to be sent to a client and back. Any two will do no harm: a watch that cannot go on
/// from there starts anew.
///
/// ```
/// use event_buffer::publisher::{Publisher, Request, Resume};
///
/// let publisher = Publisher::<&str, u32>::builder().epoch(1).build();
/// publisher.publish(7, [])?;
/// let watch = publisher.subscribe(Request::new("key").after(Resume { epoch: 1, index: 7 }));
/// assert_eq!(watch.resume_point(), Some(Resume { epoch: 1, index: 7 }));
/// # Ok::<(), event_buffer::publisher::PublishError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Resume {
    /// The [epoch](super::Publisher::epoch) that the index is of.
    pub epoch: u64,
    /// The last index that the watcher has seen.
    pub index: u64,
}

/// What to watch: a key, and from where, for whom, and which of its events.
///
/// ```
/// use event_buffer::publisher::{Publisher, Request};
///
/// let publisher = Publisher::<&str, u32>::builder().build();
/// let request = Request::new("key").token("alice").filter(|n| n % 2 == 0);
/// let watch = publisher.subscribe(request);
/// ```
pub struct Request<K, T> {
    pub(super) key: K,
    pub(super) after: Option<Resume>,
    pub(super) token: Option<Arc<str>>,
    pub(super) filter: Option<Filter<T>>,
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
        Self {
            key,
            after: None,
            token: None,
            filter: None,
        }
    }

    /// Only what came after this, where the publisher still has all of it. Otherwise the watch
    /// begins with [`Update::Reset`](super::Update::Reset), and a snapshot follows. With `None` it
    /// is a fresh one.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::{Replay, publisher::{Publisher, Request, Update}};
    /// use futures::StreamExt;
    ///
    /// let publisher = Publisher::builder().replay(Replay::Last(10)).build();
    /// let mut watch = publisher.subscribe(Request::new("key"));
    /// watch.next().await; // the end of the snapshot
    /// let point = watch.resume_point();
    /// publisher.publish(1, [("key", "missed")])?;
    ///
    /// let mut again = publisher.subscribe(Request::new("key").after(point));
    /// let Some(Ok(Update::Events(missed))) = again.next().await else { panic!() };
    /// assert_eq!(missed.index(), 1);
    /// # Ok::<(), event_buffer::publisher::PublishError>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn after(self, resume: impl Into<Option<Resume>>) -> Self {
        let after = resume.into();
        Self { after, ..self }
    }

    /// Who watches: [`Publisher::close_token`](super::Publisher::close_token) closes all watches of
    /// a token. Told by [`Stats`](super::Stats), too.
    ///
    /// ```
    /// use event_buffer::publisher::{Publisher, Request};
    ///
    /// let publisher = Publisher::<&str, u32>::builder().build();
    /// let watch = publisher.subscribe(Request::new("key").token("alice"));
    /// publisher.close_token("alice");
    /// assert_eq!(publisher.stats().subscriptions, 0);
    /// # drop(watch);
    /// ```
    #[must_use]
    pub fn token(self, token: impl Into<Arc<str>>) -> Self {
        let token = Some(token.into());
        Self { token, ..self }
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
            .field("key", &self.key)
            .field("after", &self.after)
            .field("token", &self.token)
            .field("filtered", &self.filter.is_some())
            .finish()
    }
}
