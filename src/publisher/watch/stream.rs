//! The watch: a stream of updates about one key or several.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::stream::{FusedStream, Stream};

use super::control::{Control, Order};
use super::following::{Following, Step};
use super::registry::{Registry, WatchStart};
use super::request::{Filter, OverLimit};
use super::resume::Resume;
use super::update::{Begin, Update};
use crate::error::{RecvError, RecvTimeoutError, TryRecvError};
use crate::lag_limit::LagLimit;
use crate::link::{Closer, Receiving, recv_blocking, recv_timeout};
use crate::publisher::report::error::ResetReason;
use crate::publisher::report::error::{CloseReason, WatchError};
use crate::publisher::report::trace::{Note, Notes};
use crate::read::iter::Iter;

/// A [`Stream`] of [`Update`]s about one key or several, made by
/// [`Publisher::subscribe`](crate::publisher::Publisher::subscribe).
///
/// The state that the updates describe is complete at every [`Update::EndOfSnapshot`] and at every
/// commit after it: nothing is lost, delivered twice, or older than the snapshot. While the watch
/// waits for a snapshot, polling it drives the snapshot's handler. An error is the last item before
/// `None`. Dropping the watch unsubscribes it.
///
/// The watch keeps what it has not received in memory, until it is closed, dropped, or over its
/// [limit](crate::publisher::Request::limit). An update keeps itself alive, and nothing that
/// follows.
///
/// # Cancel safety
///
/// An update is taken only when `next` or `recv` completes.
///
/// # Cost
///
/// What is ready is read without the publisher's lock. A watch takes that lock only when it begins,
/// starts over or ends; a watch of several keys also takes it if it catches a commit that is just
/// being published.
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
    /// Everything a watch needs until it ends, boxed so that an ended one keeps nothing alive.
    open: Option<Box<OpenWatch<K, T>>>,
    /// Why the watch ended, until that is delivered.
    error: Option<WatchError>,
    control: Arc<Control>,
    epoch: u64,
    /// The resume point after the last update that was delivered.
    place: Option<Resume>,
    failed_key: Option<Arc<K>>,
}

struct OpenWatch<K, T> {
    /// Delivered before anything else.
    begin: Option<Begin>,
    following: Following<K, T>,
    limit: Limit<T>,
    registration: WatchRegistration<K, T>,
}

type Limit<T> = Option<(LagLimit<T>, OverLimit)>;

/// The watch's entry in the hub, removed when this is dropped.
struct WatchRegistration<K, T> {
    registry: Arc<dyn Registry<K, T>>,
    control: Arc<Control>,
    id: u64,
}

impl<K, T> Watch<K, T> {
    pub(crate) fn new(
        control: Arc<Control>,
        (registry, id): (Arc<dyn Registry<K, T>>, u64),
        start: Option<WatchStart<K, T>>,
        (filter, limit): (Option<Filter<T>>, Limit<T>),
        place: Option<Resume>,
        epoch: u64,
    ) -> Self {
        let open = start.map(|start| {
            Box::new(OpenWatch {
                begin: Some(start.begin),
                registration: WatchRegistration {
                    registry: Arc::clone(&registry),
                    control: Arc::clone(&control),
                    id,
                },
                following: Following::new(
                    start,
                    registry,
                    Arc::clone(&control),
                    (filter, limit.map(|(limit, _)| limit)),
                ),
                limit,
            })
        });
        let error = match control.take_order() {
            Some(Order::End(error)) if open.is_none() => Some(error),
            _ => None,
        };
        let mut watch = Self {
            open,
            error,
            control,
            epoch,
            place,
            failed_key: None,
        };
        if let Some(open) = &mut watch.open {
            open.following.keep_limit();
        }
        watch
    }

    /// Returns the point from which a later watch can [resume](crate::publisher::Request::after).
    /// O(1).
    ///
    /// It is the point after the last update that was delivered. `None` until the first snapshot is
    /// complete, and, with several keys, until all of them have reached one index. It also advances
    /// over events that the watch's filter hides, and stays available after the watch has ended.
    ///
    /// [`Update::resume`] returns the same point, but only for [`Update::Events`]. After any other
    /// update, call this method before polling the watch again.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::publisher::{Publisher, Request};
    /// use futures::StreamExt;
    ///
    /// let publisher = Publisher::builder().build();
    /// let mut watch = publisher.subscribe(Request::new("key"));
    /// publisher.publish(7, [("key", "event")])?;
    /// watch.next().await; // how it begins
    /// assert_eq!(watch.resume_point(), None);
    /// watch.next().await; // the end of the snapshot
    /// watch.next().await; // the event
    /// assert_eq!(watch.resume_point().unwrap().index, 7);
    /// # Ok::<(), event_buffer::publisher::PublishError>(()) }).unwrap();
    /// ```
    pub fn resume_point(&self) -> Option<Resume> {
        self.place
    }

    /// Returns the key whose snapshot failed, if that is why the watch ended. O(1).
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::publisher::{Publisher, Request};
    /// use futures::StreamExt;
    ///
    /// let publisher = Publisher::<_, u32>::builder()
    ///     .snapshot(|key: &str, _| async move {
    ///         if key == "b" { Err("no such key".into()) } else { Ok(0) }
    ///     })
    ///     .build();
    /// let mut watch = publisher.subscribe(Request::keys(["a", "b"]));
    /// while watch.next().await.is_some() {}
    /// assert_eq!(watch.failed_key(), Some(&"b"));
    /// # });
    /// ```
    pub fn failed_key(&self) -> Option<&K> {
        self.failed_key.as_deref()
    }

    /// Returns the number of published items that the watch has not received. O(keys).
    ///
    /// Counts commits, the parts of a snapshot, and the end of the snapshots. Zero if the watch has
    /// ended.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::publisher::{Publisher, Request};
    /// use futures::StreamExt;
    ///
    /// let publisher = Publisher::builder().build();
    /// let mut watch = publisher.subscribe(Request::new("key"));
    /// watch.next().await; // how it begins
    /// watch.next().await; // the end of the snapshot
    /// publisher.publish(1, [("key", 1), ("key", 2)])?;
    /// publisher.publish(2, [("key", 3)])?;
    /// assert_eq!(watch.lag(), 2);
    /// # Ok::<(), event_buffer::publisher::PublishError>(()) }).unwrap();
    /// ```
    pub fn lag(&self) -> u64 {
        { self.open.as_ref() }.map_or(0, |open| open.following.lag())
    }

    /// Returns a handle that closes this watch from any thread. O(1).
    ///
    /// After a close the watch delivers only [`WatchError::ForceClosed`] with the closer's reason,
    /// then `None`. What it kept alive is freed at once, but it stays registered with the publisher
    /// until it is polled or dropped.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::publisher::{Publisher, Request, WatchError};
    /// use futures::StreamExt;
    ///
    /// let publisher = Publisher::<&str, u32>::builder().build();
    /// let mut watch = publisher.subscribe(Request::new("key"));
    /// watch.closer().close("too slow");
    /// let Some(Err(WatchError::ForceClosed(reason))) = watch.next().await else { panic!() };
    /// assert_eq!(reason.to_string(), "too slow");
    /// # });
    /// ```
    pub fn closer(&self) -> Closer {
        Closer::new(Arc::clone(&self.control) as _)
    }

    /// Returns `true` once the publisher or a closer has closed the watch. O(1).
    ///
    /// ```
    /// use event_buffer::publisher::{Publisher, Request};
    ///
    /// let publisher = Publisher::<&str, u32>::builder().build();
    /// let watch = publisher.subscribe(Request::new("key"));
    /// assert!(!watch.is_closed());
    /// publisher.close_all();
    /// assert!(watch.is_closed());
    /// ```
    pub fn is_closed(&self) -> bool {
        self.control.is_ended()
    }

    /// Polls for the next update. If nothing is ready, `task` is woken later; without a task, the
    /// task that waits already stays registered.
    fn poll(&mut self, task: Option<&Waker>) -> Poll<Option<Result<Update<K, T>, WatchError>>> {
        loop {
            let Some(open) = &mut self.open else {
                return Poll::Ready(self.error.take().map(Err));
            };
            match self.control.take_order() {
                Some(Order::End(error)) => return Poll::Ready(self.end(Some(error))),
                Some(Order::Reset(reason)) => {
                    self.restart(reason);
                    continue;
                }
                None => {}
            }
            if let Some(begin) = open.begin.take() {
                return Poll::Ready(Some(Ok(Update::Begin(begin))));
            }
            match open.following.step(task) {
                Step::Deliver(mut update, index) => {
                    // Set only now that the update is delivered: a client that resumes from here
                    // must have received it.
                    let epoch = self.epoch;
                    self.place = index.map(|index| Resume { epoch, index });
                    if let Update::Events(commit) = &mut update {
                        commit.place = self.place;
                    }
                    return Poll::Ready(Some(Ok(update)));
                }
                Step::Complete(update, index) => {
                    let epoch = self.epoch;
                    let place = index.map(|index| Resume { epoch, index });
                    self.place = place.or(self.place);
                    return Poll::Ready(Some(Ok(update)));
                }
                Step::Again => {}
                Step::Pending => return Poll::Pending,
                Step::Lagged(commits) => {
                    if let Some((_, OverLimit::Reset)) = open.limit {
                        self.restart(ResetReason::Lagged);
                        continue;
                    }
                    let mut notes = Notes::new();
                    notes.add(self.epoch, Note::Lagged { commits });
                    return Poll::Ready(self.end(Some(WatchError::Lagged(commits))));
                }
                Step::Failed(key, error) => {
                    self.failed_key = Some(key);
                    return Poll::Ready(self.end(Some(WatchError::Snapshot(error))));
                }
                Step::End => return Poll::Ready(self.end(None)),
            }
        }
    }

    fn end(&mut self, error: Option<WatchError>) -> Option<Result<Update<K, T>, WatchError>> {
        self.error = error;
        // Dropping what was not received may panic. `error` is set before, so that the next poll
        // still reports why the watch ended.
        self.open = None;
        self.error.take().map(Err)
    }

    fn restart(&mut self, reason: ResetReason) {
        let Some(open) = &mut self.open else { return };
        let begin = match open.begin.take() {
            // The consumer has not seen a `Begin` yet, so the pending one stays true.
            Some(begin @ (Begin::Fresh | Begin::Reset(_))) => begin,
            Some(Begin::Resumed) | None => Begin::Reset(reason),
        };
        let had = self.place.map_or(0, |place| place.index);
        let WatchRegistration { registry, id, .. } = &open.registration;
        let limit = open.limit.map_or(u64::MAX, |(limit, _)| limit.items);
        if let Some(start) = Arc::clone(registry).restart(*id, had, limit, reason) {
            self.place = None;
            open.begin = Some(begin);
            let before = open.following.start_over(start);
            open.following.keep_limit();
            drop(before);
            return;
        }
        // The watch was closed in the meantime, or the publisher has ended. That must not look like
        // a clean end, since the watch has not received everything.
        self.error = Some(match self.control.take_order() {
            Some(Order::End(error)) => error,
            _ => WatchError::Closed(CloseReason::ShutDown),
        });
        self.open = None;
    }

    /// Waits for the next update.
    ///
    /// # Errors
    ///
    /// [`RecvError::Closed`] if the watch has ended cleanly; [`RecvError::Failed`] if its snapshot
    /// failed; [`RecvError::ForceClosed`] if it was closed, with a
    /// [`CloseReason`](crate::publisher::CloseReason) from the publisher or the reason of a closer;
    /// [`RecvError::Lagged`] if it was closed for its lag. Each is returned once, and `Closed`
    /// afterwards.
    ///
    /// # Cancel safety
    ///
    /// An update is taken only when the future completes. If the future is dropped earlier, the
    /// task's waker is dropped with it.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::publisher::{Begin, Publisher, Request, Update};
    ///
    /// let publisher = Publisher::<&str, u32>::builder().build();
    /// let mut watch = publisher.subscribe(Request::new("key"));
    /// assert!(matches!(watch.recv().await?, Update::Begin(Begin::Fresh)));
    /// # Ok::<(), event_buffer::RecvError>(()) }).unwrap();
    /// ```
    pub fn recv(&mut self) -> impl Future<Output = Result<Update<K, T>, RecvError>> {
        let poll = |watch: &mut Self, cx: &Context<'_>| {
            let received = watch.poll(Some(cx.waker()));
            received.map(|update| update.map_or(Err(RecvError::Closed), |it| Ok(it?)))
        };
        Receiving::new(self, poll, |watch| drop(watch.control.stop_waiting()))
    }

    /// Returns the next update if one is ready. Never waits.
    ///
    /// It does poll the handler of a snapshot that the watch waits for. If a task waits for this
    /// watch as a stream, it is still woken.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] if nothing is ready; otherwise those of [`recv`](Self::recv).
    ///
    /// ```
    /// use event_buffer::TryRecvError;
    /// use event_buffer::publisher::{Publisher, Request};
    ///
    /// let publisher = Publisher::<&str, u32>::builder().build();
    /// let mut watch = publisher.subscribe(Request::new("key"));
    /// while let Ok(update) = watch.try_recv() {
    ///     println!("{update:?}");
    /// }
    /// drop(publisher);
    /// assert_eq!(watch.try_recv().unwrap_err(), TryRecvError::Closed);
    /// ```
    pub fn try_recv(&mut self) -> Result<Update<K, T>, TryRecvError> {
        match self.poll(None) {
            Poll::Ready(Some(received)) => received.map_err(|error| RecvError::from(error).into()),
            Poll::Ready(None) => Err(TryRecvError::Closed),
            Poll::Pending => Err(TryRecvError::Empty),
        }
    }

    /// Waits for the next update, blocking the thread. Allocates a waker.
    ///
    /// Must not be used in async code.
    ///
    /// # Errors
    ///
    /// Those of [`recv`](Self::recv).
    ///
    /// # Panics
    ///
    /// Panics on `wasm32-unknown-unknown` if nothing is ready: there are no threads, so it would
    /// block for ever.
    ///
    /// ```
    /// use event_buffer::publisher::{Publisher, Request, Update};
    ///
    /// let publisher = Publisher::builder().build();
    /// let mut watch = publisher.subscribe(Request::new("key"));
    /// let producer = std::thread::spawn(move || publisher.publish(1, [("key", "event")]));
    /// let mut received = 0;
    /// while let Ok(update) = watch.recv_blocking() {
    ///     received += u64::from(matches!(update, Update::Events(_)));
    /// }
    /// # producer.join().unwrap().unwrap();
    /// assert!(received <= 1);
    /// ```
    #[doc(alias = "blocking_recv")]
    pub fn recv_blocking(&mut self) -> Result<Update<K, T>, RecvError> {
        recv_blocking(self.recv())
    }

    /// Waits for the next update, blocking the thread for at most `timeout`. Allocates a waker.
    ///
    /// An update that is ready is returned even if the timeout is zero.
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError::Timeout`] if nothing came in time; otherwise those of
    /// [`recv`](Self::recv).
    ///
    /// ```
    /// use event_buffer::RecvTimeoutError;
    /// use event_buffer::publisher::{Publisher, Request};
    /// use std::time::Duration;
    ///
    /// let publisher = Publisher::<&str, u32>::builder().build();
    /// let mut watch = publisher.subscribe(Request::new("key"));
    /// watch.recv_timeout(Duration::ZERO)?; // how it begins
    /// watch.recv_timeout(Duration::ZERO)?; // the end of the snapshot
    /// let timeout = watch.recv_timeout(Duration::ZERO).unwrap_err();
    /// assert_eq!(timeout, RecvTimeoutError::Timeout);
    /// # Ok::<(), RecvTimeoutError>(())
    /// ```
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Update<K, T>, RecvTimeoutError> {
        recv_timeout(self.recv(), timeout)
    }

    /// Returns a blocking iterator over the updates: see [`Iter`].
    ///
    /// ```
    /// use event_buffer::publisher::{Publisher, Request, Update};
    ///
    /// let publisher = Publisher::builder().build();
    /// let mut watch = publisher.subscribe(Request::new("key"));
    /// publisher.publish(1, [("key", "event")]).unwrap();
    /// drop(publisher);
    /// let updates: Vec<_> = watch.iter().collect::<Result<_, _>>()?;
    /// assert!(matches!(updates.last(), Some(Update::Events(_))));
    /// # Ok::<(), event_buffer::publisher::WatchError>(())
    /// ```
    pub fn iter(&mut self) -> Iter<'_, Self> {
        Iter::new(self)
    }
}

impl<K, T> Stream for Watch<K, T> {
    type Item = Result<Update<K, T>, WatchError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll(Some(cx.waker()))
    }
}

impl<K, T> FusedStream for Watch<K, T> {
    fn is_terminated(&self) -> bool {
        self.open.is_none() && self.error.is_none()
    }
}

impl<K, T> Drop for WatchRegistration<K, T> {
    fn drop(&mut self) {
        // Dropped last, and even if a destructor panics that `unregister` runs.
        let _waker = self.control.stop_waiting();
        self.registry.unregister(self.id);
    }
}

impl<K, T> Unpin for Watch<K, T> {}

impl<K, T> fmt::Debug for Watch<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("resume_point", &self.resume_point())
            .field("lag", &self.lag())
            .field("ended", &self.open.is_none())
            .finish_non_exhaustive()
    }
}

impl<K: RefUnwindSafe, T: RefUnwindSafe> UnwindSafe for Watch<K, T> {}
impl<K: RefUnwindSafe, T: RefUnwindSafe> RefUnwindSafe for Watch<K, T> {}
