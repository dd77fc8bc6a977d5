//! Sharing a stream.

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
use crate::unwind::discard;
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
    /// Shares the stream: each [subscriber](SharedSource::subscribe) receives what the replay window
    /// retains, and all items that are pulled from then on.
    ///
    /// Nothing is pulled before a follower is polled. See [`SharedStream`] for how the followers
    /// drive the stream, and what if it panics.
    ///
    /// # Cost
    ///
    /// Allocates the place of the stream, where it stays until it ends.
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

/// A stream that is shared, made by [`ShareExt::share`]: a handle to subscribe with.
///
/// It is no follower: it drives nothing, and keeps the items of the replay window in memory, no
/// others. The stream is dropped when it ends or panics, or with the last handle and follower. A
/// clone is another handle to the same stream.
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
    flight: SingleFlight<Pin<Box<Source<S>>>>,
    buffer: SharedBuffer<S::Item>,
    /// Set before the buffer ends, if it ends since the stream has panicked.
    panicked: OnceLock<SharedError>,
}

pin_project! {
    /// The stream, which is pinned.
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
    /// Follows the stream, from the oldest item of the replay window on. If the stream has ended, the
    /// follower receives the window and then ends; if it has panicked, the follower panics instead.
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
            seat: Passenger::default(),
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

/// One of those who wait for the stream, and drive it.
struct Follower<S: Stream, R> {
    /// Before the shared state, with which the stream may be dropped.
    seat: Passenger,
    reader: R,
    shared: Arc<Sharing<S>>,
    terminated: bool,
}

/// What a follower receives with.
trait Receive {
    type Received;

    /// Whether a panic of the stream is an error to this follower even if it drove the stream.
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
    /// Receives what is ready, or else pulls an item. An error is the end, or of `try_recv`.
    fn poll(&mut self, cx: &Context<'_>) -> Poll<Result<R::Received, TryRecvError>> {
        // First: it drops a waker, which may panic, and would cost what is received.
        self.seat = Passenger::default();
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
                    // And look again: an item, or a wake-up, may have come before this.
                    self.shared.flight.register(&mut self.seat, cx.waker());
                    is_registered = true;
                }
            }
        }
    }

    /// Pulls an item into the buffer, unless another follower is doing so or the stream was not woken.
    ///
    /// # Panics
    ///
    /// If the stream does, unless that is reported, or if the drop of an item that leaves the window does.
    fn pull(&mut self) -> Driven {
        let Self {
            reader,
            shared,
            terminated,
            ..
        } = self;
        // Dropped last: what leaves the window may take its time, and keeps no follower from what was pulled.
        let (mut pushed, mut ended) = (None, None);
        shared.flight.drive(|source, cx| {
            // Another follower may have pulled an item since we looked; from now on none can.
            match catch_unwind(AssertUnwindSafe(|| reader.lag())) {
                Ok(0) => {}
                received => return (FlightStep::Ready, received.err()),
            }
            let stream = || source.as_mut().project().stream.poll_next(cx);
            match catch_unwind(AssertUnwindSafe(stream)) {
                Ok(Poll::Pending) => (FlightStep::Pending, None),
                Ok(Poll::Ready(Some(item))) => {
                    pushed = Some(shared.buffer.push_later(item));
                    (FlightStep::Ready, None)
                }
                Ok(Poll::Ready(None)) => {
                    ended = Some(shared.buffer.finish_later());
                    (FlightStep::Done, None)
                }
                Err(panic) => {
                    _ = shared.panicked.set(SharedError::new(SourcePanicked.into()));
                    ended = Some(shared.buffer.finish_later());
                    if R::REPORTS_PANICS {
                        discard(panic);
                        return (FlightStep::Done, None);
                    }
                    // The panic itself is the last that this follower hears of the stream.
                    *terminated = true;
                    (FlightStep::Done, Some(panic))
                }
            }
        })
    }

    /// Why the stream ended, if it did not by itself.
    fn failure(&self) -> Option<&SharedError> {
        self.shared.panicked.get()
    }
}

impl<S: Stream, R: Clone> Clone for Follower<S, R> {
    fn clone(&self) -> Self {
        Self {
            seat: Passenger::default(),
            reader: self.reader.clone(),
            shared: Arc::clone(&self.shared),
            terminated: self.terminated,
        }
    }
}

/// A follower of a shared stream: a [`Stream`] of clones of its items, made by
/// [`SharedSource::subscribe`].
///
/// # Driving
///
/// No task drives the stream: its followers do, one at a time, when they have received all that was
/// pulled before. So an item is pulled only for a follower that wants it, and a source that is always
/// ready fills no memory. The stream is polled after it was woken, not once for each follower: at most
/// twice for an item. All followers that wait are woken then, so one that is dropped, or never polled
/// again, holds up no other. They may be on different executors.
///
/// The stream is polled within whichever task happens to drive it. One that needs a runtime must
/// enter it itself, for instance by [`Handle::enter`] of tokio. One that polls a follower of itself
/// gets [`Poll::Pending`].
///
/// [`Handle::enter`]: https://docs.rs/tokio/latest/tokio/runtime/struct.Handle.html#method.enter
///
/// # Memory
///
/// A follower receives every item that is pulled while it exists. What it has not received stays in
/// memory, also if other followers are faster: [`limited`](Self::limited) bounds that.
///
/// # Panics
///
/// If the stream panics, the follower that drove it gets the panic itself. Every other one panics once
/// with "the shared source panicked", after the items before, rather than end as if the stream had
/// ended. After that each yields `None`. A [limited](Self::limited) follower yields an error instead.
///
/// If the drop of the stream panics, or that of an item that leaves the replay window, the follower
/// that drove gets that panic; nothing is lost and the stream has not failed.
///
/// # Cancel safety
///
/// Dropping a future such as `next()` loses nothing: an item is received when a poll returns it.
///
/// # Cost
///
/// Receiving an item that was pulled before is a clone, and takes no lock. Pulling one takes four short
/// locks, besides the stream's own poll. Waiting takes those of a [`Subscription`](crate::Subscription)
/// that waits. Each poll of the stream that was ready, and each wake-up of it, wakes all that wait:
/// O(followers).
///
/// # Bounds
///
/// The stream need be neither `Unpin`, `Send` nor `'static`. A clone continues at the same place. It is `Send` and `Sync` if the stream is `Send` and its
/// items are `Send + Sync`, and always `Unpin`.
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
    /// Limits how far this follower may be behind: it reports lag as an error, and a panic of the
    /// stream, too.
    ///
    /// # Cost
    ///
    /// As for [`Subscription::limited`](crate::Subscription::limited).
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
            seat,
            reader,
            shared,
            terminated,
        } = self.0;
        drop(seat);
        SharedLimited(Follower {
            seat: Passenger::default(),
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

// Nothing in it is ever pinned.
impl<S: Stream> Unpin for SharedStream<S> {}

impl<S: Stream> fmt::Debug for SharedStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedStream")
            .field("terminated", &self.0.terminated)
            .finish_non_exhaustive()
    }
}

/// A follower of a shared stream that may not be too far behind, made by
/// [`SharedStream::limited`]: a [`Stream`] of `Result<S::Item, RecvError>`.
///
/// It drives the stream like any [`SharedStream`], and bounds what it keeps in memory even if it is
/// never polled again: see [`Limited`](crate::Limited). It yields [`RecvError::Lagged`] with the number of
/// items that it has lost, and continues; or, and then `None`:
///
/// * [`RecvError::ForceClosed`] with [`LagExceeded`](crate::LagExceeded), if its limit says so;
/// * [`RecvError::Failed`] with [`SourcePanicked`], if the stream panicked. That is so whether or not this
///   follower drove it just then: the panic itself goes no further than the panic hook.
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

// Nothing in it is ever pinned.
impl<S: Stream> Unpin for SharedLimited<S> {}

impl<S: Stream> fmt::Debug for SharedLimited<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedLimited")
            .field("terminated", &self.0.terminated)
            .finish_non_exhaustive()
    }
}
