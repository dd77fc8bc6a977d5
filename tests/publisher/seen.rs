//! Updates in few letters, and what the tests of a publisher do all the time.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;

use event_buffer::publisher::{
    Begin, CloseReason, Publisher, Request, ResetReason, Resume, SnapshotAppender, Update, Watch,
    WatchError,
};
use futures::{FutureExt, StreamExt};

pub(crate) type Key = &'static str;

/// What a watch delivers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Seen<K = Key> {
    Begin(Begin),
    Part(Vec<u32>),
    End(u64),
    Events(u64, Vec<u32>),
    Progress(u64),
    Completed(K),
    Failed(WatchError),
    Over,
    Nothing,
}
use Seen::{Completed, End, Events, Failed, Nothing, Over, Part, Progress};

pub(crate) const FRESH: Seen = Seen::Begin(Begin::Fresh);
pub(crate) const RESUMED: Seen = Seen::Begin(Begin::Resumed);
pub(crate) const REFRESHED: Seen = anew(ResetReason::Refreshed);
pub(crate) const TOO_OLD: Seen = anew(ResetReason::TooOld);
pub(crate) const LAGGED: Seen = anew(ResetReason::Lagged);

pub(crate) const fn anew<K>(reason: ResetReason) -> Seen<K> {
    Seen::Begin(Begin::Reset(reason))
}

pub(crate) const fn closed_by<K>(reason: CloseReason) -> Seen<K> {
    Failed(WatchError::Closed(reason))
}

impl<K> Seen<K> {
    /// What the handler of the snapshot returned as its error.
    pub(crate) fn failure(&self) -> String {
        match self {
            Failed(WatchError::Snapshot(error)) => error.to_string(),
            _ => panic!("the snapshot has not failed"),
        }
    }

    fn of(next: Option<Result<Update<K, u32>, WatchError>>) -> Self {
        let events = |events: &event_buffer::publisher::Events<K, u32>| {
            let seen: Vec<u32> = events.iter().copied().collect();
            assert_eq!(events.len(), seen.len());
            seen
        };
        let Some(next) = next else { return Over };
        match next {
            Err(error) => Failed(error),
            Ok(Update::Begin(begin)) => Self::Begin(begin),
            Ok(Update::Snapshot(part)) => Part(events(&part)),
            Ok(Update::EndOfSnapshot { index }) => End(index),
            Ok(Update::Events(commit)) => Events(commit.index().unwrap(), events(&commit)),
            Ok(Update::Progress { index }) => Progress(index),
            Ok(Update::Completed(key)) => Completed(key),
        }
    }
}

/// Returns what the watch delivers next, if anything is ready. Skips its beginning, unless it is
/// reset.
pub(crate) fn next<K>(watch: &mut Watch<K, u32>) -> Seen<K> {
    match watch.next().now_or_never() {
        None => Nothing,
        Some(Some(Ok(Update::Begin(Begin::Fresh | Begin::Resumed)))) => next(watch),
        Some(ready) => Seen::of(ready),
    }
}

/// All that is ready by [`next`], without the end.
pub(crate) fn all<K>(watch: &mut Watch<K, u32>) -> Vec<Seen<K>> {
    let ready = || Some(next(watch)).filter(|seen| !matches!(seen, Nothing | Over));
    std::iter::from_fn(ready).collect()
}

/// All that is ready, how it begins and its end included.
pub(crate) fn updates<K>(watch: &mut Watch<K, u32>) -> Vec<Seen<K>> {
    let mut updates = Vec::new();
    while let Some(ready) = watch.next().now_or_never() {
        updates.push(Seen::of(ready));
        if matches!(updates.last(), Some(Over)) {
            break;
        }
    }
    updates
}

pub(crate) fn watch(publisher: &Publisher<Key, u32>, key: Key) -> Watch<Key, u32> {
    publisher.subscribe(Request::new(key))
}

pub(crate) fn publish(publisher: &Publisher<Key, u32>, key: Key, event: u32) -> u64 {
    publisher
        .publish_next([(key, event)])
        .expect("indexes are left")
}

/// A publisher with a handler that returns this index, and counts its calls.
pub(crate) fn with_snapshots(index: u64) -> (Publisher<Key, u32>, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let publisher = Publisher::builder()
        .history(10)
        .snapshot(move |_: Key, snapshot: SnapshotAppender<u32>| {
            counted.fetch_add(1, SeqCst);
            async move {
                snapshot.push(100)?;
                Ok(index)
            }
        })
        .build();
    (publisher, calls)
}

/// What a watch of the key delivers that resumes after the index.
pub(crate) fn resume(publisher: &Publisher<Key, u32>, key: Key, index: u64) -> Vec<Seen> {
    let epoch = publisher.epoch();
    let request = Request::new(key).after(Resume { epoch, index });
    updates(&mut publisher.subscribe(request))
}
