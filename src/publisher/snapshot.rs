//! Making snapshots: one at a time for a key, driven by those who wait for it.
//!
//! ```text
//!   snapshot buffer:  [part]─▶[part]─▶[end of snapshot, index 7]─▶ splice
//!                        ▲                                            │
//!      the handler appends while watches read                         ▼
//!   live buffer:      …─▶[commit 5]─▶[commit 7]─▶ … ─▶[commit 9]─▶[commit 12]─▶ …
//!                            ▲ the tail, taken before             ▲ the first with an index
//!                              the handler began                    greater than 7
//! ```

use std::future::Future;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::entry::Entry;
use super::error::{BoxError, SnapshotOutdated, SnapshotOver, SnapshotPanicked};
use super::flight::{Flight, WeakFlight};
use super::hub::Registry;
use super::topic::commit_of;
use crate::buffer::EventBuffer;
use crate::position::Position;
use crate::replay::Replay;
use crate::sync::Mutex;
use crate::unwind::discard;

pub(super) type Handler<K, T> =
    Arc<dyn Fn(K, SnapshotAppender<T>) -> BoxFuture<'static, Result<u64, BoxError>> + Send + Sync>;

/// A key's snapshot, being made or kept.
pub(super) struct Snapshot<T> {
    /// No other snapshot has or had it.
    pub(super) id: u64,
    /// The live item that it leads to, or while it is made the first that it may lead to: what
    /// came since is kept by it, and watches can resume there. Dropped before `start`, which would
    /// keep nothing of the live buffer while its own events are dropped.
    pub(super) onward: Onward<T>,
    pub(super) start: Position<Entry<T>>,
    pub(super) stage: Stage,
    /// How many registered watches wait for it, while it is made.
    pub(super) passengers: usize,
}

impl<T> Snapshot<T> {
    pub(super) fn is_in_flight(&self) -> bool {
        matches!(self.stage, Stage::InFlight(_))
    }
}

/// A place in a topic's live buffer, and its number there.
pub(super) struct Onward<T> {
    pub(super) place: Position<Entry<T>>,
    pub(super) number: u64,
}

impl<T> Clone for Onward<T> {
    fn clone(&self) -> Self {
        Self {
            place: self.place.clone(),
            number: self.number,
        }
    }
}

pub(super) enum Stage {
    InFlight(WeakFlight),
    /// As of an index.
    Kept(u64),
}

/// Where a snapshot handler puts the state: what it appends is read by all who wait for the
/// snapshot, while it goes on.
///
/// What was appended is kept as a whole until the handler has returned, even if all who wait have read it, and as
/// long as the snapshot is [cached](super::Builder::snapshot_ttl). There is no back-pressure: a handler that is faster than
/// its readers is not held up.
///
/// ```
/// # futures::executor::block_on(async {
/// use event_buffer::publisher::{Publisher, Request, Update};
/// use futures::StreamExt;
///
/// let publisher = Publisher::builder()
///     .snapshot(|_key: &str, snapshot| async move {
///         for page in [[1, 2], [3, 4]] {
///             snapshot.append(page)?; // One `Update::Snapshot`; the watch may read it now.
///         }
///         Ok(7)
///     })
///     .build();
/// let watch = publisher.subscribe(Request::new("key"));
/// let updates: Vec<_> = watch.take(3).collect().await;
/// let [Ok(Update::Snapshot(_)), Ok(Update::Snapshot(page)), Ok(end)] = &updates[..] else { panic!() };
/// assert!(page.iter().eq([&3, &4]) && matches!(end, Update::EndOfSnapshot { index: 7 }));
/// # });
/// ```
pub struct SnapshotAppender<T> {
    buffer: Arc<Mutex<Option<EventBuffer<Entry<T>>>>>,
    index: u64,
}

impl<T> SnapshotAppender<T> {
    /// Appends events as one part of the snapshot: one [`Update::Snapshot`](super::Update::Snapshot).
    /// Nothing is appended where there are none.
    ///
    /// O(events). Collects them first, then takes the lock of this snapshot, and wakes who waits
    /// after it.
    ///
    /// # Errors
    ///
    /// [`SnapshotOver`] where the handler has returned already, or nobody waits any more.
    ///
    /// ```
    /// use event_buffer::publisher::Publisher;
    ///
    /// let publisher = Publisher::builder()
    ///     .snapshot(|key: &str, snapshot| async move {
    ///         snapshot.append(key.chars())?;
    ///         Ok(7)
    ///     })
    ///     .build();
    /// # futures::executor::block_on(async {
    /// # use event_buffer::publisher::{Request, Update};
    /// # use futures::StreamExt;
    /// # let mut watch = publisher.subscribe(Request::new("key"));
    /// # let Some(Ok(Update::Snapshot(part))) = watch.next().await else { panic!() };
    /// # assert!(part.iter().eq(&['k', 'e', 'y']));
    /// # });
    /// ```
    pub fn append(&self, events: impl IntoIterator<Item = T>) -> Result<(), SnapshotOver> {
        let index = self.index;
        let entry = |event| Entry::Event {
            index,
            from: index,
            event,
        };
        // Before the lock: the iterator is foreign code.
        let entries: Vec<_> = events.into_iter().map(entry).collect();
        let mut buffer = self.buffer.lock();
        let deferred = buffer
            .as_mut()
            .ok_or(SnapshotOver)?
            .append_deferred(entries);
        drop(buffer);
        wake(|| drop(deferred));
        Ok(())
    }

    /// Appends one event as a part of the snapshot: for a state that is one value. Many should be
    /// [appended](Self::append) together, as each part is an update of its own.
    ///
    /// # Errors
    ///
    /// As for [`append`](Self::append).
    ///
    /// ```
    /// use event_buffer::publisher::Publisher;
    ///
    /// let publisher = Publisher::builder()
    ///     .snapshot(|key: &str, snapshot| async move {
    ///         snapshot.push(key.len())?;
    ///         Ok(7)
    ///     })
    ///     .build();
    /// # futures::executor::block_on(async {
    /// # use event_buffer::publisher::{Request, Update};
    /// # use futures::StreamExt;
    /// # let mut watch = publisher.subscribe(Request::new("key"));
    /// # let Some(Ok(Update::Snapshot(part))) = watch.next().await else { panic!() };
    /// # assert!(part.iter().eq(&[3]));
    /// # });
    /// ```
    pub fn push(&self, event: T) -> Result<(), SnapshotOver> {
        self.append([event])
    }
}

impl<T> std::fmt::Debug for SnapshotAppender<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotAppender").finish_non_exhaustive()
    }
}

/// What making a snapshot needs, from beginning to end.
pub(super) struct Making<T> {
    registry: Arc<dyn Registry<T>>,
    slot: usize,
    id: u64,
    /// The oldest commit retained, or the tail. Taken before the handler begins: nothing published
    /// after that is missed.
    start: Onward<T>,
    /// The index of the newest commit to the key by then, if one is known.
    newest: Option<u64>,
    buffer: Arc<Mutex<Option<EventBuffer<Entry<T>>>>>,
}

impl<T: Send + Sync + 'static> Making<T> {
    pub(super) fn new(
        registry: Arc<dyn Registry<T>>,
        (slot, id): (usize, u64),
        start: Onward<T>,
        newest: Option<u64>,
    ) -> (Self, Position<Entry<T>>) {
        let buffer = EventBuffer::builder().replay(Replay::None).build();
        let first = buffer.tail();
        let making = Self {
            registry,
            slot,
            id,
            start,
            newest,
            buffer: Arc::new(Mutex::new(Some(buffer))),
        };
        (making, first)
    }

    /// The future that makes it. The handler is not called before that is polled.
    pub(super) fn fly<K: Send + 'static>(
        self,
        handler: Handler<K, T>,
        key: K,
        index: u64,
    ) -> Flight {
        let appender = SnapshotAppender {
            buffer: Arc::clone(&self.buffer),
            index,
        };
        let flight = async move {
            let making = async { handler(key, appender).await };
            let outcome = AssertUnwindSafe(making).catch_unwind().await;
            match outcome.unwrap_or_else(|_| Err(SnapshotPanicked.into())) {
                Ok(index) => match self.onward(index) {
                    Ok(onward) => self.finish(index, onward),
                    Err(outdated) => self.fail(outdated.into()),
                },
                Err(error) => self.fail(error),
            }
        };
        Flight::new(flight.boxed())
    }

    /// Where a snapshot of this index leads: over what is part of it. What is published meanwhile
    /// comes behind, and a watch goes over it by itself.
    fn onward(&self, index: u64) -> Result<Onward<T>, SnapshotOutdated> {
        let mut onward = self.start.clone();
        // Whether all commits after `index` are retained. They are where there is none, or one up
        // to it, or none has left the window.
        let mut complete = onward.number == 0 || self.newest.is_none_or(|newest| newest <= index);
        let mut reader = onward.place.subscribe();
        while let Ok(item) = reader.try_recv() {
            if let Some((_, from)) = commit_of(&item).filter(|(commit, _)| *commit > index) {
                complete |= from <= index;
                break;
            }
            complete = true;
            onward.place = item.after();
            onward.number += 1;
        }
        // Not on return, where a panic would leak the answer (rust-lang/rust#47949).
        drop(reader);
        match self.newest {
            Some(newest) if !complete => Err(SnapshotOutdated { index, newest }),
            _ => Ok(onward),
        }
    }

    fn finish(self, index: u64, onward: Onward<T>) {
        let mut place = Some(onward.clone());
        let mut tell = || {
            let Some((mut buffer, onward)) = self.take_buffer().zip(place.take()) else {
                return;
            };
            // Both are there before anybody is woken, who might panic.
            let deferred = buffer.push_deferred(Entry::EndOfSnapshot {
                index,
                onward: onward.number,
            });
            wake(|| buffer.splice(onward.place));
            wake(|| drop(deferred));
        };
        self.registry
            .snapshot_done(self.slot, self.id, index, onward, &mut tell);
    }
}

impl<T> Making<T> {
    fn take_buffer(&self) -> Option<EventBuffer<Entry<T>>> {
        self.buffer.lock().take()
    }

    /// Unless it has ended already.
    fn fail(&self, error: BoxError) {
        let Some(buffer) = self.take_buffer() else {
            return;
        };
        let mut ending = Some((buffer, error));
        let mut tell = || {
            if let Some((buffer, error)) = ending.take() {
                wake(|| buffer.fail(error));
            }
        };
        self.registry.forget_snapshot(self.slot, self.id, &mut tell);
    }
}

impl<T> Drop for Making<T> {
    /// Where it was neither finished nor failed, all who waited have gone, or something panicked.
    fn drop(&mut self) {
        self.fail(SnapshotPanicked.into());
    }
}

/// Wakes readers. A waker that panics is no fault of the handler, nor of the others who wait.
fn wake(woken: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(woken)) {
        discard(panic);
    }
}

/// Whatever a snapshot handler answers, made into a [`Handler`].
pub(super) fn handler<K, T, H, F>(handler: H) -> Handler<K, T>
where
    H: Fn(K, SnapshotAppender<T>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<u64, BoxError>> + Send + 'static,
{
    Arc::new(move |key, appender| handler(key, appender).boxed())
}

impl<T: RefUnwindSafe> UnwindSafe for SnapshotAppender<T> {}
impl<T: RefUnwindSafe> RefUnwindSafe for SnapshotAppender<T> {}
