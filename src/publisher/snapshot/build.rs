//! Running the handler of a snapshot, and reporting how that ends.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::thread;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::flight::Flight;
use super::parts::{Parts, SnapshotAppender};
use crate::publisher::report::error::{
    BoxError, SnapshotGivenUp, SnapshotOutdated, SnapshotPanicked,
};
use crate::publisher::report::trace::Run;

pub(crate) type Handler<K, T> =
    Arc<dyn Fn(K, SnapshotAppender<T>) -> BoxFuture<'static, Result<u64, BoxError>> + Send + Sync>;

/// Receives the outcome of a snapshot: the hub, without its type parameters' bounds.
pub(crate) trait Builds: Send + Sync {
    /// Records that a snapshot is complete as of `index`. Calls `announce` once that is recorded,
    /// and before events are dropped, since that may take long or panic.
    ///
    /// # Errors
    ///
    /// [`SnapshotOutdated`] if commits after `index` are no longer retained. Nothing was recorded,
    /// and `announce` was not called.
    fn finished(
        &self,
        slot: usize,
        build: u64,
        index: u64,
        announce: &mut dyn FnMut(),
    ) -> Result<(), SnapshotOutdated>;

    /// Records that a snapshot failed, then calls `announce`, and drops events last.
    fn failed(&self, slot: usize, build: u64, announce: &mut dyn FnMut());

    /// Records that no watch waits for a snapshot any more.
    fn abandoned(&self, slot: usize, build: u64);
}

/// What the future that makes a snapshot owns from beginning to end.
pub(crate) struct SnapshotBuild<T> {
    pub(crate) registry: Arc<dyn Builds>,
    pub(crate) slot: usize,
    pub(crate) id: u64,
    pub(crate) parts: Arc<Parts<T>>,
    pub(crate) run: Run,
}

impl<T: Send + Sync + 'static> SnapshotBuild<T> {
    /// Returns the future that makes the snapshot. The handler is called when that is first polled.
    pub(crate) fn into_flight<K: Send + 'static>(
        mut self,
        handler: Handler<K, T>,
        key: K,
    ) -> Flight {
        let appender = SnapshotAppender(Arc::clone(&self.parts));
        let flight = async move {
            let run = async { handler(key, appender).await };
            let run = AssertUnwindSafe(run).catch_unwind();
            let outcome = self.run.within(run).await;
            match outcome.unwrap_or_else(|_| Err(SnapshotPanicked.into())) {
                Ok(index) => self.finish(index),
                Err(error) => self.fail(error),
            }
        };
        Flight::new(flight.boxed())
    }
}

impl<T> SnapshotBuild<T> {
    fn finish(&mut self, index: u64) {
        let Self { parts, run, .. } = self;
        let mut outcome = Ok(());
        let mut announce = || {
            outcome = parts.finish(index).map(|parts| {
                if let Some(parts) = parts {
                    run.finished(index, parts);
                }
            });
        };
        let finished = self
            .registry
            .finished(self.slot, self.id, index, &mut announce);
        if let Err(outdated) = finished.and(outcome) {
            self.fail(outdated.into());
        }
    }

    fn fail(&mut self, error: BoxError) {
        let Self { parts, run, .. } = self;
        let mut error = Some(error);
        let mut announce = || {
            if let Some(failed) = error.take().and_then(|error| parts.fail(error)) {
                run.failed(&failed);
            }
        };
        self.registry.failed(self.slot, self.id, &mut announce);
    }
}

impl<T> Drop for SnapshotBuild<T> {
    /// If the snapshot was neither finished nor failed, then the last waiting watch was dropped, or
    /// the handler's future panicked while it was being dropped.
    fn drop(&mut self) {
        if thread::panicking() {
            return self.fail(SnapshotPanicked.into());
        }
        self.registry.abandoned(self.slot, self.id);
        // The handler may have kept the appender, which must now return errors.
        self.parts.fail(SnapshotGivenUp.into());
    }
}

/// Boxes a user's function as a [`Handler`].
pub(crate) fn handler<K, T, H, F>(handler: H) -> Handler<K, T>
where
    H: Fn(K, SnapshotAppender<T>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<u64, BoxError>> + Send + 'static,
{
    Arc::new(move |key, appender| handler(key, appender).boxed())
}
