//! A stream that many follow.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use futures::stream::{FusedStream, Stream};
use pin_project_lite::pin_project;

use crate::error::{RecvError, SharedError, SourcePanicked, TryRecvError};
use crate::lag_limit::LagLimit;
use crate::read::cloned::Cloned;
use crate::read::limited::Limited;
use crate::single_flight::{Driven, FlightStep, Passenger, SingleFlight};
use crate::unwind::{Steps, discard};
use crate::write::replay::{Builder, Replay};
use crate::write::shared_buffer::SharedBuffer;

/// Lets many follow one [`Stream`].
///
/// ```
/// # futures::executor::block_on(async {
/// use event_buffer::{Replay, ShareExt};
/// use futures::{StreamExt, stream};
///
/// let source = stream::iter(["one", "two", "three"]).share(Replay::Last(1));
/// let mut first = source.subscribe();
/// assert_eq!(first.next().await, Some("one"));
/// let mut second = source.subscribe();
/// assert_eq!(second.next().await, Some("one"), "the replay window");
/// assert_eq!(second.next().await, Some("two"));
/// assert_eq!(first.next().await, Some("two"));
/// # });
/// ```
pub trait ShareExt: Stream {
    /// Shares the stream with any number of followers.
    ///
    /// Each [follower](SharedSource::subscribe) receives what the replay window retains, and then
    /// all items that are pulled. Nothing is pulled before a follower is polled. [`SharedStream`]
    /// explains how the followers drive the stream, and what happens if it panics.
    ///
    /// # Cost
    ///
    /// Moves the stream to the heap, where it stays until it ends.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::{Replay, ShareExt};
    /// use futures::{StreamExt, stream};
    ///
    /// let source = stream::repeat(1).share(Replay::None);
    /// let ten: Vec<_> = source.subscribe().take(10).collect().await;
    /// assert_eq!(ten, [1; 10]);
    /// # });
    /// ```
    fn share(self, replay: Replay) -> SharedSource<Self>
    where
        Self: Sized,
        Self::Item: Clone,
    {
        let buffer = SharedBuffer::from(Builder::new().replay(replay).build());
        SharedSource {
            shared: Arc::new(Sharing {
                flight: SingleFlight::new(Box::pin(Source { stream: self })),
                buffer,
                panicked: OnceLock::new(),
            }),
        }
    }
}

impl<S: Stream + ?Sized> ShareExt for S {}

/// A handle to a shared stream, to subscribe with: made by [`ShareExt::share`].
///
/// A handle does not drive the stream, and keeps only the replay window in memory. A clone is
/// another handle to the same stream. The stream is dropped when it ends or panics, or with the
/// last handle and follower.
///
/// It is `Send` and `Sync` if the stream is `Send` and its items are `Send + Sync`.
///
/// ```
/// # futures::executor::block_on(async {
/// use event_buffer::{Replay, ShareExt};
/// use futures::{StreamExt, channel::mpsc};
///
/// let (lines, receiver) = mpsc::unbounded();
/// let source = receiver.share(Replay::Last(10));
/// let mut client = source.subscribe(); // in an accept loop, say
/// lines.unbounded_send("a line").unwrap();
/// assert_eq!(client.next().await, Some("a line"));
/// drop(lines);
/// assert_eq!(client.next().await, None);
///
/// let late: Vec<_> = source.subscribe().collect().await;
/// assert_eq!(late, ["a line"]);
/// # });
/// ```
pub struct SharedSource<S: Stream> {
    shared: Arc<Sharing<S>>,
}

struct Sharing<S: Stream> {
    /// The stream, which one follower polls at a time.
    flight: SingleFlight<Pin<Box<Source<S>>>>,
    /// The items that were pulled.
    buffer: SharedBuffer<S::Item>,
    /// The failure, if the stream has panicked. It is set before the buffer ends, so that a
    /// follower at the end of the buffer finds it.
    panicked: OnceLock<SharedError>,
}

pin_project! {
    /// The stream, in a type that can be pinned and projected.
    struct Source<S> {
        #[pin]
        stream: S,
    }
}

impl<S> SharedSource<S>
where
    S: Stream,
    S::Item: Clone,
{
    /// Returns a follower of the stream, which starts at the oldest item of the replay window.
    ///
    /// If the stream has ended, the follower receives the window and then ends. If the stream has
    /// panicked, the follower panics instead of ending.
    ///
    /// # Cost
    ///
    /// O(1). Takes a lock for a moment.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::{Replay, ShareExt};
    /// use futures::{StreamExt, stream};
    ///
    /// let source = stream::iter(0..3).share(Replay::All);
    /// let all: Vec<_> = source.subscribe().collect().await;
    /// let again: Vec<_> = source.subscribe().collect().await;
    /// assert_eq!(all, again);
    /// # });
    /// ```
    pub fn subscribe(&self) -> SharedStream<S> {
        SharedStream(Follower {
            passenger: Passenger::default(),
            reader: self.shared.buffer.subscribe_from_start().cloned(),
            shared: Arc::clone(&self.shared),
            terminated: false,
        })
    }
}

impl<S: Stream> Clone for SharedSource<S> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<S: Stream> fmt::Debug for SharedSource<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedSource").finish_non_exhaustive()
    }
}

/// A follower, whichever reader it has: it waits for the stream, and drives it.
struct Follower<S: Stream, R> {
    /// The registration of the follower's task. It is declared before `shared`, so that it ends
    /// first: dropping `shared` may drop the stream, which is user code.
    passenger: Passenger,
    /// The reader of the items that were pulled.
    reader: R,
    shared: Arc<Sharing<S>>,
    /// Set once the follower has yielded its last result.
    terminated: bool,
}

/// The reader of a follower.
trait Receive {
    type Received;

    /// Whether a panic of the stream becomes an error even for the follower that drove the stream.
    const REPORTS_PANICS: bool;

    fn try_recv(&mut self) -> Result<Self::Received, TryRecvError>;

    fn lag(&self) -> u64;
}

impl<T: Clone> Receive for Cloned<T> {
    type Received = T;

    const REPORTS_PANICS: bool = false;

    fn try_recv(&mut self) -> Result<T, TryRecvError> {
        self.try_recv()
    }

    fn lag(&self) -> u64 {
        self.lag()
    }
}

impl<T: Clone> Receive for Limited<T> {
    type Received = T;

    const REPORTS_PANICS: bool = true;

    fn try_recv(&mut self) -> Result<T, TryRecvError> {
        self.try_recv()
    }

    fn lag(&self) -> u64 {
        self.lag()
    }
}

impl<S: Stream, R: Receive> Follower<S, R> {
    /// Receives an item that is ready, or else pulls one. Never returns [`TryRecvError::Empty`].
    fn poll(&mut self, cx: &Context<'_>) -> Poll<Result<R::Received, TryRecvError>> {
        // Before anything is received: this drops a waker, and if that panics an item would be
        // lost.
        self.passenger = Passenger::default();
        let mut is_registered = false;
        loop {
            match self.reader.try_recv() {
                Err(TryRecvError::Empty) => {}
                received => return Poll::Ready(received),
            }
            match self.pull() {
                Driven::Ready | Driven::Over => {}
                Driven::Waiting if is_registered => return Poll::Pending,
                Driven::Waiting => {
                    // Look again: an item or a wake-up may have come before the registration.
                    self.shared.flight.register(&mut self.passenger, cx.waker());
                    is_registered = true;
                }
            }
        }
    }

    /// Pulls an item into the buffer, unless another follower is doing so or the stream was not
    /// woken.
    ///
    /// # Panics
    ///
    /// If the stream does and the reader does not report that, or if the drop of an item that
    /// leaves the window does.
    fn pull(&mut self) -> Driven {
        let Self {
            reader,
            shared,
            terminated,
            ..
        } = self;
        // Dropped on return, after the stream was put back: dropping items that leave the window
        // may take long, and must not delay followers that want the next item.
        let (mut pushed, mut ended) = (None, None);
        // Panics are resumed once the other followers have been notified.
        let mut steps = Steps::new();
        let driven = shared.flight.drive(|source, cx| {
            // Another follower may have pulled an item since our last read; from now on none can.
            if steps.take(|| reader.lag()) != Some(0) {
                return FlightStep::Ready;
            }
            let stream = || source.as_mut().project().stream.poll_next(cx);
            match catch_unwind(AssertUnwindSafe(stream)) {
                Ok(Poll::Pending) => FlightStep::Pending,
                Ok(Poll::Ready(Some(item))) => {
                    pushed = Some(shared.buffer.push_later(item));
                    FlightStep::Ready
                }
                Ok(Poll::Ready(None)) => {
                    ended = Some(shared.buffer.finish_later());
                    FlightStep::Done
                }
                Err(panic) => {
                    _ = shared.panicked.set(SharedError::new(SourcePanicked.into()));
                    ended = Some(shared.buffer.finish_later());
                    if R::REPORTS_PANICS {
                        discard(panic);
                    } else {
                        // This follower gets the panic itself, and must not report it once more.
                        *terminated = true;
                        steps.keep(panic);
                    }
                    FlightStep::Done
                }
            }
        });
        steps.finish();
        driven
    }

    /// Returns the failure that ended the stream, if it did not end by itself.
    fn failure(&self) -> Option<&SharedError> {
        self.shared.panicked.get()
    }
}

impl<S: Stream, R: Clone> Clone for Follower<S, R> {
    fn clone(&self) -> Self {
        Self {
            passenger: Passenger::default(),
            reader: self.reader.clone(),
            shared: Arc::clone(&self.shared),
            terminated: self.terminated,
        }
    }
}

/// A follower of a shared stream: a [`Stream`] of clones of its items.
///
/// Made by [`SharedSource::subscribe`].
///
/// # Driving
///
/// The stream has no task of its own: its followers drive it, one at a time, once they have
/// received all that was pulled before. An item is thus pulled only for a follower that wants it,
/// and a source that is always ready does not fill memory. The stream is polled after it was woken,
/// not once for each follower: at most twice for an item. Its waker wakes all followers that wait,
/// so one that is dropped, or never polled again, does not hold up the others. They may be on
/// different executors.
///
/// The stream is polled in the task of whichever follower drives it. A stream that needs a runtime
/// must enter it itself, for instance by [`Handle::enter`] of tokio. A stream that polls one of its
/// own followers gets [`Poll::Pending`].
///
/// [`Handle::enter`]: https://docs.rs/tokio/latest/tokio/runtime/struct.Handle.html#method.enter
///
/// # Memory
///
/// A follower receives every item that is pulled while it exists. What it has not received stays in
/// memory, even if other followers are faster: [`limited`](Self::limited) bounds that.
///
/// # Panics
///
/// If the stream panics, the follower that drove it gets the panic itself. Every other follower
/// receives the items before, and then panics once with "the shared source panicked": ending would
/// hide the failure. After its panic, each yields `None`. A [limited](Self::limited) follower
/// yields an error instead.
///
/// If the drop of the stream panics, or that of an item that leaves the replay window, the follower
/// that drove it gets that panic. No item is lost, and the stream has not failed.
///
/// # Cancel safety
///
/// Dropping a future such as `next()` loses nothing: an item is received when a poll returns it.
///
/// # Cost
///
/// Receiving an item that was pulled before is a clone, and takes no lock. Pulling one takes four
/// short locks, besides the stream's own poll. Waiting takes the locks of a
/// [`Subscription`](crate::Subscription) that waits. Each poll of the stream that was ready, and
/// each wake-up of it, wakes all followers that wait: O(followers).
///
/// # Bounds
///
/// The stream need be neither `Unpin`, `Send` nor `'static`. A follower is `Send` and `Sync` if the
/// stream is `Send` and its items are `Send + Sync`, and always `Unpin`. Its clone continues at the
/// same place.
///
/// ```
/// # futures::executor::block_on(async {
/// use event_buffer::{Replay, ShareExt};
/// use futures::{StreamExt, join, stream};
///
/// let source = stream::iter(1..=3).share(Replay::None);
/// let (first, second) = (source.subscribe(), source.subscribe());
/// let (sum, product) = join!(
///     first.fold(0, async |sum, n| sum + n),
///     second.fold(1, async |product, n| product * n),
/// );
/// assert_eq!((sum, product), (6, 6));
/// # });
/// ```
pub struct SharedStream<S: Stream>(Follower<S, Cloned<S::Item>>);

impl<S> SharedStream<S>
where
    S: Stream,
    S::Item: Clone,
{
    /// Limits the lag of this follower.
    ///
    /// It then yields lag, and a panic of the stream, as errors.
    ///
    /// # Cost
    ///
    /// The same as that of [`Subscription::limited`](crate::Subscription::limited).
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::{LagLimit, RecvError, Replay, ShareExt};
    /// use futures::{StreamExt, stream};
    ///
    /// let source = stream::iter(0..100).share(Replay::None);
    /// let mut slow = source.subscribe().limited(LagLimit::items(10));
    /// source.subscribe().for_each(async |_| ()).await;
    /// assert_eq!(slow.next().await, Some(Err(RecvError::Lagged(90))));
    /// assert_eq!(slow.next().await, Some(Ok(90)));
    /// # });
    /// ```
    pub fn limited(self, limit: LagLimit<S::Item>) -> SharedLimited<S>
    where
        S::Item: Send + Sync + 'static,
    {
        let Follower {
            passenger,
            reader,
            shared,
            terminated,
        } = self.0;
        drop(passenger);
        SharedLimited(Follower {
            passenger: Passenger::default(),
            reader: reader.into_items().limited(limit),
            shared,
            terminated,
        })
    }
}

impl<S> Stream for SharedStream<S>
where
    S: Stream,
    S::Item: Clone,
{
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let follower = &mut self.get_mut().0;
        if follower.terminated {
            return Poll::Ready(None);
        }
        let received = std::task::ready!(follower.poll(cx));
        if let Ok(item) = received {
            return Poll::Ready(Some(item));
        }
        follower.terminated = true;
        assert!(follower.failure().is_none(), "{SourcePanicked}");
        Poll::Ready(None)
    }
}

impl<S> FusedStream for SharedStream<S>
where
    S: Stream,
    S::Item: Clone,
{
    fn is_terminated(&self) -> bool {
        self.0.terminated
    }
}

impl<S: Stream> Clone for SharedStream<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

// No field is ever pinned.
impl<S: Stream> Unpin for SharedStream<S> {}

impl<S: Stream> fmt::Debug for SharedStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedStream")
            .field("terminated", &self.0.terminated)
            .finish_non_exhaustive()
    }
}

/// A follower of a shared stream whose lag is bounded.
///
/// It is a [`Stream`] of `Result<S::Item, RecvError>`, made by [`SharedStream::limited`]. It drives
/// the stream like any [`SharedStream`], and bounds what it keeps in memory even if it is never
/// polled again: see [`Limited`](crate::Limited). If it lags, it yields [`RecvError::Lagged`] with
/// the number of items that it has lost, and continues. Two errors are final, and `None` follows
/// them:
///
/// * [`RecvError::ForceClosed`] with [`LagExceeded`](crate::LagExceeded), if its limit closes it;
/// * [`RecvError::Failed`] with [`SourcePanicked`], if the stream panicked, even if this follower
///   drove it: the panic itself goes no further than the panic hook.
///
/// ```
/// # futures::executor::block_on(async {
/// use event_buffer::{LagLimit, Replay, ShareExt};
/// use futures::{TryStreamExt, stream};
///
/// let source = stream::iter(0..3).share(Replay::None);
/// let follower = source.subscribe().limited(LagLimit::items(100));
/// assert_eq!(follower.try_collect::<Vec<_>>().await?, [0, 1, 2]);
/// # Ok::<(), event_buffer::RecvError>(()) }).unwrap();
/// ```
pub struct SharedLimited<S: Stream>(Follower<S, Limited<S::Item>>);

impl<S> Stream for SharedLimited<S>
where
    S: Stream,
    S::Item: Clone,
{
    type Item = Result<S::Item, RecvError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let follower = &mut self.get_mut().0;
        if follower.terminated {
            return Poll::Ready(None);
        }
        let received = std::task::ready!(follower.poll(cx));
        let end = match received {
            Ok(item) => return Poll::Ready(Some(Ok(item))),
            Err(TryRecvError::Lagged(items)) => {
                return Poll::Ready(Some(Err(RecvError::Lagged(items))));
            }
            Err(end) => end,
        };
        follower.terminated = true;
        Poll::Ready(match end {
            TryRecvError::ForceClosed(reason) => Some(Err(RecvError::ForceClosed(reason))),
            _ => { follower.failure() }.map(|error| Err(RecvError::Failed(error.clone()))),
        })
    }
}

impl<S> FusedStream for SharedLimited<S>
where
    S: Stream,
    S::Item: Clone,
{
    fn is_terminated(&self) -> bool {
        self.0.terminated
    }
}

impl<S> Clone for SharedLimited<S>
where
    S: Stream,
    S::Item: Clone,
{
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

// No field is ever pinned.
impl<S: Stream> Unpin for SharedLimited<S> {}

impl<S: Stream> fmt::Debug for SharedLimited<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedLimited")
            .field("terminated", &self.0.terminated)
            .finish_non_exhaustive()
    }
}
