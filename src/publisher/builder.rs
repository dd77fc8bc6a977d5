//! Settings of a publisher.

use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use super::error::BoxError;
use super::hub::Hub;
use super::snapshot::{Handler, SnapshotAppender, handler};
use super::{Owner, Publisher};
use crate::replay::Replay;

/// Settings of a new [`Publisher`], made by [`Publisher::builder`].
pub struct Builder<K, T> {
    handler: Option<Handler<K, T>>,
    ttl: Duration,
    replay: Replay,
    epoch: u64,
}

impl<K, T> Builder<K, T> {
    pub(super) fn new() -> Self {
        Self {
            handler: None,
            ttl: Duration::ZERO,
            replay: Replay::None,
            // Another one each time, so that nobody resumes from what a former process said.
            epoch: RandomState::new().hash_one(0),
        }
    }

    /// Who makes snapshots: a function that appends the present state of a key, in as many parts as
    /// it likes, and answers the index as of which that is the state. It must contain the
    /// effects of all commits up to that index, and of none after it.
    ///
    /// Each part is read while the next one is made. The handler is driven by the watches that
    /// wait for it, on their tasks, under no lock: it may publish, subscribe, or take its time.
    /// Where it fails or panics the watches that waited get
    /// [`WatchError::Snapshot`](super::WatchError::Snapshot), and the next one tries again.
    ///
    /// Without a handler the state of every key is empty.
    #[must_use]
    pub fn snapshot<H, F>(self, handle: H) -> Self
    where
        H: Fn(K, SnapshotAppender<T>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<u64, BoxError>> + Send + 'static,
    {
        let handler = Some(handler(handle));
        Self { handler, ..self }
    }

    /// How long a finished snapshot is given to those who come later, with all that followed. It
    /// keeps both in memory. Zero, and if not set: not at all.
    ///
    /// There is no timer: what has expired is forgotten when the publisher is used next.
    #[must_use]
    pub fn snapshot_ttl(self, ttl: Duration) -> Self {
        Self { ttl, ..self }
    }

    /// How many commits of a key are kept for those who [resume](super::Request::after), once
    /// the key has been watched, and as long as the publisher lives.
    /// [`Replay::None`] if not set: a watch can resume where nothing came since.
    #[must_use]
    pub fn replay(self, replay: Replay) -> Self {
        Self { replay, ..self }
    }

    /// Names the state that the indexes are of. It must change whenever indexes start again, or
    /// watchers that resume could be told the wrong thing. A random one if not set.
    #[must_use]
    pub fn epoch(self, epoch: u64) -> Self {
        Self { epoch, ..self }
    }

    /// The publisher.
    pub fn build(self) -> Publisher<K, T> {
        let hub = Hub::new(self.handler, self.ttl, self.replay, self.epoch);
        Publisher(Arc::new(Owner(Arc::new(hub))))
    }
}

impl<K, T> fmt::Debug for Builder<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("handles_snapshots", &self.handler.is_some())
            .field("snapshot_ttl", &self.ttl)
            .field("replay", &self.replay)
            .field("epoch", &self.epoch)
            .finish()
    }
}
