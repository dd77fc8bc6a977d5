//! What to watch, and from where.

use std::fmt;
use std::sync::Arc;

pub(super) type Filter<T> = Arc<dyn Fn(&T) -> bool + Send + Sync>;

/// Up to where a watcher has followed: told by [`Watch::resume_point`](super::Watch::resume_point)
/// and given back by [`Request::after`].
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
    pub fn new(key: K) -> Self {
        Self {
            key,
            after: None,
            token: None,
            filter: None,
        }
    }

    /// Only what came after this, where the publisher still has all of it. Otherwise the watch
    /// begins with [`Update::Reset`](super::Update::Reset), and a snapshot follows.
    #[must_use]
    pub fn after(self, resume: impl Into<Option<Resume>>) -> Self {
        let after = resume.into();
        Self { after, ..self }
    }

    /// Who watches: [`Publisher::close_token`](super::Publisher::close_token) closes all watches of
    /// a token.
    #[must_use]
    pub fn token(self, token: impl Into<Arc<str>>) -> Self {
        let token = Some(token.into());
        Self { token, ..self }
    }

    /// Hides the events for which `visible` is false. It is asked whenever an event is looked at,
    /// and should answer the same each time.
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
