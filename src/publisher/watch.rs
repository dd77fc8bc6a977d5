//! Following one key.

use std::fmt;
use std::marker::PhantomData;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::StreamExt;
use futures::stream::{FusedStream, Stream};

use super::entry::Entry;
use super::error::{CloseReason, WatchError};
use super::flight::Flight;
use super::hub::Registry;
use super::request::{Filter, Resume};
use super::topic::Progress;
use super::update::{Events, ResetReason, Update};
use crate::error::RecvError;
use crate::item::BufferItem;
use crate::link::Closer;
use crate::subscription::Subscription;

/// Follows one key: a [`Stream`] of [`Update`]s, made by
/// [`Publisher::subscribe`](super::Publisher::subscribe).
///
/// The state that its updates describe is complete at every [`Update::EndOfSnapshot`] and at every
/// commit after it: nothing is lost, doubled or older. While it waits for a snapshot it drives the
/// snapshot's handler. An error is the last thing it answers. Dropping it is unsubscribing.
///
/// It keeps what it has not received, until it is closed or dropped.
///
/// Cancel safe: an update is taken only when `next` completes. What is ready is read without a
/// lock, but for the step from the snapshot to what follows, and the end.
///
/// ```
/// # futures::executor::block_on(async {
/// use event_buffer::publisher::{Publisher, Request, Update, WatchError};
/// use futures::TryStreamExt;
///
/// let publisher = Publisher::builder().build();
/// let mut watch = publisher.subscribe(Request::new("key"));
/// publisher.publish(1, [("key", "event")]).unwrap();
/// drop(publisher);
/// while let Some(update) = watch.try_next().await? {
///     println!("{update:?}");
/// }
/// # Ok::<(), WatchError>(()) }).unwrap();
/// ```
pub struct Watch<K, T> {
    /// Goes with the end.
    following: Option<Following<T>>,
    /// Why it ended, as long as that has not been said.
    error: Option<WatchError>,
    epoch: u64,
    /// The last index seen.
    index: Option<u64>,
    _key: PhantomData<fn() -> K>,
}

pub(super) struct Following<T> {
    pub(super) reader: Subscription<Entry<T>>,
    pub(super) closer: Closer,
    /// The snapshot that is being made.
    pub(super) flight: Option<Flight>,
    /// To be said before anything else: it is for this watch alone, so it stands in no buffer.
    pub(super) reset: Option<ResetReason>,
    pub(super) filter: Option<Filter<T>>,
    /// The item that a filter looks at, which may panic: it is looked at again then.
    pub(super) unfinished: Option<BufferItem<Entry<T>>>,
    /// Not given yet, as the drop of what it was made of may panic.
    pub(super) update: Option<Update<T>>,
    pub(super) in_snapshot: bool,
    /// Commits up to this are part of what the watcher has.
    pub(super) contained: Option<u64>,
    pub(super) progress: Progress,
    pub(super) _registration: Registration<T>,
}

/// Leaves the registry when dropped.
pub(super) struct Registration<T> {
    pub(super) registry: Arc<dyn Registry<T>>,
    pub(super) slot: usize,
    pub(super) id: u64,
}

impl<K, T> Watch<K, T> {
    pub(super) fn new(following: Following<T>, epoch: u64, index: Option<u64>) -> Self {
        Self {
            following: Some(following),
            error: None,
            epoch,
            index,
            _key: PhantomData,
        }
    }

    /// Where a later watch can go on from: give it to [`Request::after`](super::Request::after).
    ///
    /// `None` until the first snapshot is complete. It goes on with events that are hidden from
    /// this watch, too, and stays when the watch has ended. O(1).
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::publisher::{Publisher, Request};
    /// use futures::StreamExt;
    ///
    /// let publisher = Publisher::builder().build();
    /// let mut watch = publisher.subscribe(Request::new("key"));
    /// publisher.publish(7, [("key", "event")])?;
    /// assert_eq!(watch.resume_point(), None);
    /// watch.next().await; // the end of the snapshot
    /// watch.next().await; // the event
    /// assert_eq!(watch.resume_point().unwrap().index, 7);
    /// # Ok::<(), event_buffer::publisher::PublishError>(()) }).unwrap();
    /// ```
    pub fn resume_point(&self) -> Option<Resume> {
        let epoch = self.epoch;
        self.index.map(|index| Resume { epoch, index })
    }

    /// How many items have been published that this watch has not received: commits, parts of a
    /// snapshot, and its end. Zero where the watch has ended. O(1).
    ///
    /// While its snapshot is being made that counts only what is there of the snapshot; commits
    /// count once that is complete.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::publisher::{Publisher, Request};
    /// use futures::StreamExt;
    ///
    /// let publisher = Publisher::builder().build();
    /// let mut watch = publisher.subscribe(Request::new("key"));
    /// watch.next().await; // the end of the snapshot
    /// publisher.publish(1, [("key", 1), ("key", 2)])?;
    /// publisher.publish(2, [("key", 3)])?;
    /// assert_eq!(watch.lag(), 2);
    /// # Ok::<(), event_buffer::publisher::PublishError>(()) }).unwrap();
    /// ```
    pub fn lag(&self) -> u64 {
        self.following.as_ref().map_or(0, |following| {
            let in_hand = following.unfinished.is_some() || following.update.is_some();
            following.reader.lag() + u64::from(in_hand)
        })
    }

    fn give(&mut self, update: Update<T>) -> Poll<Option<Result<Update<T>, WatchError>>> {
        // Only now: who resumes goes on after what it was given.
        match &update {
            Update::Events(commit) => self.index = Some(commit.index()),
            Update::EndOfSnapshot { index } | Update::Progress { index } => {
                self.index = Some(*index);
            }
            _ => {}
        }
        Poll::Ready(Some(Ok(update)))
    }

    fn end(&mut self, error: RecvError) -> Option<Result<Update<T>, WatchError>> {
        self.error = match error {
            RecvError::Failed(error) => Some(WatchError::Snapshot(error)),
            RecvError::ForceClosed(reason) => {
                let reason = reason.downcast_ref().copied();
                Some(WatchError::Closed(reason.unwrap_or(CloseReason::AllClosed)))
            }
            // Its reader has no limit.
            RecvError::Closed | RecvError::Lagged(_) => None,
        };
        // Drops what was not received, which may panic: then the next poll says why it ended.
        self.following = None;
        self.error.take().map(Err)
    }
}

impl<T> Following<T> {
    /// What an item means to this watch. `None` where that is nothing.
    fn read(&mut self, item: BufferItem<Entry<T>>) -> Option<Update<T>> {
        match *item.first()? {
            Entry::EndOfSnapshot { index, onward } => {
                self.in_snapshot = false;
                self.contained = Some(index);
                self.progress.set(onward);
                Some(Update::EndOfSnapshot { index })
            }
            Entry::Event { index, .. } if self.in_snapshot => {
                Events::visible(item, self.filter.as_ref(), index).map(Update::Snapshot)
            }
            Entry::Event { index, .. } => {
                let contained = self.contained.is_some_and(|contained| index <= contained);
                let update = (!contained).then(|| {
                    Events::visible(item, self.filter.as_ref(), index)
                        .map_or(Update::Progress { index }, Update::Events)
                });
                // Not before: the filter may panic.
                self.progress.set(self.progress.get() + 1);
                update
            }
        }
    }
}

impl<K, T> Stream for Watch<K, T> {
    type Item = Result<Update<T>, WatchError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let mut flown = false;
        loop {
            let Some(following) = &mut this.following else {
                return Poll::Ready(this.error.take().map(Err));
            };
            if let Some(update) = following.update.take() {
                if !following.closer.is_closed() {
                    return this.give(update);
                }
            }
            if let Some(reason) = following.reset.take() {
                // A closed watch delivers nothing more, and says why below.
                if !following.closer.is_closed() {
                    return Poll::Ready(Some(Ok(Update::Reset(reason))));
                }
            }
            let unfinished = following.unfinished.take();
            let item = match unfinished.filter(|_| !following.closer.is_closed()) {
                Some(item) => Poll::Ready(Some(Ok(item))),
                None => following.reader.poll_next_unpin(cx),
            };
            match item {
                Poll::Ready(Some(Ok(item))) => {
                    if following.filter.is_some() {
                        following.unfinished = Some(item.clone());
                    }
                    following.update = following.read(item);
                    following.unfinished = None;
                    match following.update.take() {
                        Some(update) => return this.give(update),
                        None => continue,
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(this.end(error)),
                Poll::Ready(None) => return Poll::Ready(this.end(RecvError::Closed)),
                Poll::Pending => {}
            }
            // On with the snapshot, and then once more: something may have been appended.
            match &mut following.flight {
                Some(flight) if !flown => {
                    flown = true;
                    if flight.poll(cx).is_ready() {
                        following.flight = None;
                    }
                }
                _ => return Poll::Pending,
            }
        }
    }
}

impl<K, T> FusedStream for Watch<K, T> {
    fn is_terminated(&self) -> bool {
        self.following.is_none() && self.error.is_none()
    }
}

impl<T> Drop for Registration<T> {
    fn drop(&mut self) {
        self.registry.unregister(self.slot, self.id);
    }
}

impl<K, T> fmt::Debug for Watch<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("resume_point", &self.resume_point())
            .field("lag", &self.lag())
            .field("ended", &self.following.is_none())
            .finish_non_exhaustive()
    }
}

impl<K: RefUnwindSafe, T: RefUnwindSafe> UnwindSafe for Watch<K, T> {}
impl<K: RefUnwindSafe, T: RefUnwindSafe> RefUnwindSafe for Watch<K, T> {}
