//! A reader whose lag is bounded.

use std::fmt;
use std::mem;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use std::vec;

use futures::stream::{FusedStream, Stream};

use crate::error::{RecvError, RecvTimeoutError, SharedError, TryRecvError};
use crate::lag_limit::LagLimit;
use crate::link::{Closer, Receiving, recv_blocking, recv_timeout};
use crate::list::{Skipped, WeakPlace};
use crate::read::bookmark::Bookmark;
use crate::read::iter::Iter;
use crate::read::position::Position;
use crate::read::subscription::Subscription;
use crate::unwind::quietly;

/// A reader of cloned events whose lag is bounded by a [`LagLimit`]: a [`Stream`].
///
/// Made by [`Subscription::limited`](crate::Subscription::limited). It counts as an observer until
/// it is dropped or closed.
///
/// **The limit bounds what it keeps in memory, even if it is never polled again:** the writer moves
/// it forward. Its next read reports exactly how many items it has lost
/// ([`RecvError::Lagged`]), and the one after continues; or it is closed, if
/// [`OnLag`](crate::OnLag) says so. Other readers of the buffer lose nothing.
///
/// It yields clones, neither [`BufferItem`](crate::BufferItem)s nor chunks, because a task that is
/// stuck with one of those would keep everything after it. If clones are expensive, publish
/// [`Arc`](std::sync::Arc)s.
///
/// # Memory
///
/// What it receives does not depend on when the writer checks the limit, because each read enforces
/// it first. For a while it may keep an eighth more than its limit, so that the writer need not
/// check often, and the rest of a block of memory (about 16 items if they are small; none if bytes
/// are limited). Readers with similar limits share what they keep: all that are stuck keep no more
/// than the greatest of their limits allows. While `clone` or
/// [`byte_size`](crate::ByteSize::byte_size) blocks, everything after its event is kept; a `drop`
/// that blocks keeps nothing.
///
/// # Cost
///
/// * A read costs two atomic instructions more than one of [`Cloned`](crate::Cloned). It takes a
///   lock if bytes are limited or the reader has been moved. A reader that was moved walks over at
///   most its own limit.
/// * The writer pays next to nothing for readers that keep up, and for stuck ones the same however
///   many there are: it moves one place for all whose limits differ by less than a factor of two.
/// * While any reader of a buffer is limited in bytes, the writer asks each event once for its
///   size. A reader asks again for a few items at the edge of its limit, and for earlier items if
///   it starts in the past. An item counts no bytes until its [`Deferred`](crate::Deferred), if
///   any, is dropped.
/// * A skipped event is dropped by the call that publishes, like an event without readers.
///
/// ```
/// use event_buffer::{EventBuffer, LagLimit, TryRecvError};
///
/// let mut buffer = EventBuffer::new();
/// let mut reader = buffer.subscribe().limited(LagLimit::items(3));
/// buffer.extend(1..=10);
/// assert_eq!(reader.try_recv(), Err(TryRecvError::Lagged(7)));
/// assert_eq!(reader.try_recv(), Ok(8));
/// assert_eq!(reader.try_recv(), Ok(9));
/// ```
pub struct Limited<T> {
    items: Subscription<T>,
    limit: LagLimit<T>,
    /// The number of items skipped before the clones below, to be reported before them.
    skipped: u64,
    /// The clone to be delivered next. The reader keeps clones of an item in place of the item.
    next: Option<T>,
    /// The clones after `next`, if the item has several events.
    rest: vec::IntoIter<T>,
    /// Set if the item has further events, which could not be cloned yet.
    is_begun: bool,
    /// The place of the item that the clones are of; meaningless without clones.
    in_hand: Option<WeakPlace<T>>,
    /// The reason it was closed for, from outside or for its lag, once that has been reported.
    closed: Option<SharedError>,
}

impl<T> Subscription<T> {
    /// Converts this to a reader of cloned events whose lag is bounded by `limit`.
    ///
    /// See [`Limited`]. The reader keeps its place and its closers.
    ///
    /// # Cost
    ///
    /// O(1), or O([`lag`](Self::lag)) if it is over the limit already or bytes are limited.
    /// Allocates the state that it shares with the writer, and takes a lock for a moment.
    ///
    /// ```
    /// use event_buffer::{EventBuffer, LagLimit, TryRecvError};
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe().limited(LagLimit::items(100));
    /// buffer.extend(0..1_000);
    /// assert_eq!(reader.try_recv(), Err(TryRecvError::Lagged(900)));
    /// assert_eq!(reader.try_recv(), Ok(900));
    /// ```
    pub fn limited(self, limit: LagLimit<T>) -> Limited<T>
    where
        T: Clone + Send + Sync + 'static,
    {
        Limited::new(self, limit)
    }
}

impl<T: Clone> Limited<T> {
    pub(crate) fn new(items: Subscription<T>, limit: LagLimit<T>) -> Self {
        Self::after(Skipped::default(), items, limit)
    }

    /// Creates a reader that first reports this many skipped items.
    fn after(skipped: Skipped, mut items: Subscription<T>, limit: LagLimit<T>) -> Self {
        items.set_limit(limit, skipped);
        Self {
            items,
            limit,
            skipped: 0,
            next: None,
            rest: vec::IntoIter::default(),
            is_begun: false,
            in_hand: None,
            closed: None,
        }
    }

    /// Waits for the next event.
    ///
    /// # Errors
    ///
    /// [`RecvError::Lagged`] with the number of items if some were skipped, once: call again. (The
    /// next item has been cloned by then, so a `clone` that panics hides the report until
    /// [`skip_event`](Self::skip_event).) The others are those of
    /// [`Subscription::recv`](crate::Subscription::recv).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: an event is taken only when the future completes.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::{EventBuffer, LagLimit, RecvError};
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe().limited(LagLimit::items(1));
    /// buffer.extend(["old", "new"]);
    /// assert_eq!(reader.recv().await, Err(RecvError::Lagged(1)));
    /// assert_eq!(reader.recv().await, Ok("new"));
    /// # });
    /// ```
    pub fn recv(&mut self) -> impl Future<Output = Result<T, RecvError>> {
        Receiving::new(self, Self::poll_recv, |reader| reader.items.stop_waiting())
    }

    /// Returns the next event if one is ready. Never waits.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] if nothing is ready; the others are those of [`recv`](Self::recv).
    ///
    /// # Panics
    ///
    /// If `T`'s clone does. The event has not been received then: the next read clones it again,
    /// and [`skip_event`](Self::skip_event) leaves it out.
    ///
    /// # Cost
    ///
    /// O(1) and one clone, or O(items skipped). The first event of an item clones all of them.
    ///
    /// ```
    /// use event_buffer::{EventBuffer, LagLimit, TryRecvError};
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe().limited(LagLimit::items(1_000));
    /// assert_eq!(reader.try_recv(), Err(TryRecvError::Empty));
    /// buffer.append([1, 2]);
    /// assert_eq!(reader.try_recv(), Ok(1));
    /// assert_eq!(reader.try_recv(), Ok(2));
    /// ```
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        if let Some(given) = self.give()? {
            return Ok(given);
        }
        if let Some(reason) = &self.closed {
            return Err(TryRecvError::ForceClosed(reason.clone()));
        }
        let Self {
            items,
            skipped,
            next,
            rest,
            is_begun,
            in_hand,
            ..
        } = self;
        let cloned = items.visit_rest(skipped, in_hand, |events| {
            let taken = clone_events(events, next, rest);
            *is_begun = taken < events.len();
            taken
        });
        match cloned {
            Ok(()) if self.skipped > 0 => Err(TryRecvError::Lagged(mem::take(&mut self.skipped))),
            Ok(()) => { self.next.take() }
                .or_else(|| self.rest.next())
                .ok_or(TryRecvError::Empty),
            Err(TryRecvError::Empty) if self.skipped > 0 => {
                Err(TryRecvError::Lagged(mem::take(&mut self.skipped)))
            }
            Err(end) => {
                if let TryRecvError::ForceClosed(reason) = &end {
                    self.closed = Some(reason.clone());
                }
                Err(end)
            }
        }
    }

    /// Skips the next event without cloning it, if one is ready. Never waits.
    ///
    /// It is meant for an event whose `clone` panics each time. Returns `false` if nothing is ready
    /// or the reader has ended. The event is whatever comes next now: if the limit has moved the
    /// reader since the panic, it is a different one. `Lagged` does not count it, and the next read
    /// still reports what the limit skipped.
    ///
    /// # Cost
    ///
    /// O(1), or O(items skipped).
    ///
    /// ```
    /// use event_buffer::{EventBuffer, LagLimit};
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe().limited(LagLimit::items(1_000));
    /// buffer.append([1, 2]);
    /// assert!(reader.skip_event());
    /// assert_eq!(reader.try_recv(), Ok(2));
    /// assert!(!reader.skip_event());
    /// ```
    pub fn skip_event(&mut self) -> bool {
        if self.check_open().is_err() {
            return false;
        }
        if self.next.take().or_else(|| self.rest.next()).is_some() {
            return true;
        }
        let lost = &mut self.skipped;
        self.items.skip_event_after(lost)
    }

    /// Returns an event that was cloned before, after a report of what was skipped before it.
    #[inline]
    fn give(&mut self) -> Result<Option<T>, TryRecvError> {
        if self.skipped == 0 && !self.has_in_hand() {
            return Ok(None);
        }
        self.check_open()?;
        if self.skipped > 0 {
            return Err(TryRecvError::Lagged(mem::take(&mut self.skipped)));
        }
        Ok(self.next.take().or_else(|| self.rest.next()))
    }

    /// Fails if the reader was closed from outside, or has reported being closed for its lag.
    fn check_open(&mut self) -> Result<(), TryRecvError> {
        if self.closed.is_none() {
            self.closed = self.items.closed_from_outside();
        }
        match &self.closed {
            None => Ok(()),
            Some(reason) => Err(TryRecvError::ForceClosed(reason.clone())),
        }
    }

    /// Waits for the next event, blocking the thread. Not for use in async code.
    ///
    /// # Errors
    ///
    /// The same as those of [`recv`](Self::recv).
    ///
    /// # Panics
    ///
    /// On `wasm32-unknown-unknown`, which has no threads, if nothing is ready: it would block for
    /// ever.
    ///
    /// # Cost
    ///
    /// Allocates a waker, even if an event is ready.
    ///
    /// ```
    /// use event_buffer::{EventBuffer, LagLimit};
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe().limited(LagLimit::items(1_000));
    /// let writer = std::thread::spawn(move || buffer.push("from a thread"));
    /// assert_eq!(reader.recv_blocking()?, "from a thread");
    /// # writer.join().unwrap();
    /// # Ok::<(), event_buffer::RecvError>(())
    /// ```
    #[doc(alias = "blocking_recv")]
    pub fn recv_blocking(&mut self) -> Result<T, RecvError> {
        recv_blocking(self.recv())
    }

    /// Waits for the next event, blocking the thread for at most `timeout`.
    ///
    /// An event that is ready is received whatever the timeout.
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError::Timeout`] if none came; the others are those of [`recv`](Self::recv).
    ///
    /// # Cost
    ///
    /// Allocates a waker, even if an event is ready.
    ///
    /// ```
    /// use event_buffer::{EventBuffer, LagLimit, RecvTimeoutError};
    /// use std::time::Duration;
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe().limited(LagLimit::items(1_000));
    /// buffer.push(1);
    /// assert_eq!(reader.recv_timeout(Duration::ZERO), Ok(1));
    /// assert_eq!(reader.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout));
    /// ```
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        recv_timeout(self.recv(), timeout)
    }

    /// Returns a blocking iterator over the events: see [`Iter`].
    ///
    /// `Err(RecvError::Lagged(_))` does not end it.
    ///
    /// ```
    /// use event_buffer::{EventBuffer, LagLimit, RecvError};
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe().limited(LagLimit::items(1));
    /// buffer.extend([1, 2]);
    /// buffer.close();
    /// let received: Vec<_> = reader.iter().collect();
    /// assert_eq!(received, [Err(RecvError::Lagged(1)), Ok(2)]);
    /// ```
    pub fn iter(&mut self) -> Iter<'_, Self> {
        Iter::new(self)
    }

    /// Sets another limit, after the one before has been enforced.
    ///
    /// If the reader is over the limit before, items are skipped and reported by that limit, or the
    /// reader is closed by it.
    ///
    /// # Cost
    ///
    /// The same as that of [`Subscription::limited`].
    ///
    /// ```
    /// use event_buffer::{EventBuffer, LagLimit, TryRecvError};
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe().limited(LagLimit::items(1_000));
    /// buffer.extend(0..100);
    /// reader.set_limit(LagLimit::items(10));
    /// assert_eq!(reader.try_recv(), Err(TryRecvError::Lagged(90)));
    /// ```
    pub fn set_limit(&mut self, limit: LagLimit<T>) {
        self.items.set_limit(limit, Skipped::default());
        self.limit = limit;
    }

    /// Returns a new reader with the same limit that starts at the tail.
    ///
    /// See [`Subscription::resubscribe`].
    ///
    /// ```
    /// use event_buffer::{EventBuffer, LagLimit, TryRecvError};
    ///
    /// let mut buffer = EventBuffer::new();
    /// let reader = buffer.subscribe().limited(LagLimit::items(10));
    /// buffer.push(1);
    /// assert_eq!(reader.resubscribe().try_recv(), Err(TryRecvError::Empty));
    /// ```
    #[must_use]
    pub fn resubscribe(&self) -> Self {
        Self::new(self.items.resubscribe(), self.limit)
    }

    fn poll_recv(&mut self, cx: &Context<'_>) -> Poll<Result<T, RecvError>> {
        loop {
            let nothing = match self.try_recv() {
                Ok(event) => return Poll::Ready(Ok(event)),
                Err(nothing) => nothing,
            };
            if let Some(poll) = self.items.end_or_poll_link(cx, nothing) {
                return poll.map(Err);
            }
        }
    }
}

/// Clones the events of an item and returns how many.
///
/// If a clone other than the first panics, it and those after it are left to the read of that
/// event.
fn clone_events<T: Clone>(
    events: &[T],
    next: &mut Option<T>,
    rest: &mut vec::IntoIter<T>,
) -> usize {
    let [first, others @ ..] = events else {
        return 0;
    };
    let first = first.clone();
    let mut taken = 1;
    if !others.is_empty() {
        let mut clones = Vec::with_capacity(others.len());
        _ = quietly(|| clones.extend(others.iter().cloned()));
        taken += clones.len();
        *rest = clones.into_iter();
    }
    *next = Some(first);
    taken
}

impl<T> Limited<T> {
    /// Returns a handle that closes this reader from outside: see [`Closer`].
    ///
    /// ```
    /// use event_buffer::{EventBuffer, LagLimit, TryRecvError};
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe().limited(LagLimit::items(1_000));
    /// buffer.push(1);
    /// reader.closer().close("enough");
    /// assert!(matches!(reader.try_recv(), Err(TryRecvError::ForceClosed(_))));
    /// ```
    pub fn closer(&self) -> Closer
    where
        T: Send + Sync + 'static,
    {
        self.items.closer()
    }

    /// Returns `true` if nothing will be published after what is unread.
    ///
    /// A reader that was closed for its lag is closed, too. See [`Subscription::is_closed`].
    ///
    /// ```
    /// use event_buffer::{EventBuffer, LagLimit};
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe().limited(LagLimit::items(10));
    /// buffer.push(1);
    /// buffer.close();
    /// assert!(reader.is_closed());
    /// assert_eq!(reader.try_recv(), Ok(1));
    /// ```
    pub fn is_closed(&self) -> bool {
        self.closed.is_some() || self.items.is_closed()
    }

    /// Returns the place of the next item: see [`Subscription::position`].
    ///
    /// If an item was delivered in part, its remaining events come before this place, because this
    /// reader keeps clones of them and not the item; a [`bookmark`](Self::bookmark) includes them.
    /// The position keeps everything from there on in memory, which the limit does not bound.
    ///
    /// ```
    /// use event_buffer::{EventBuffer, LagLimit};
    ///
    /// let mut buffer = EventBuffer::new();
    /// let reader = buffer.subscribe().limited(LagLimit::items(10));
    /// buffer.push(1);
    /// let position = reader.position();
    /// assert_eq!(position.subscribe().try_recv()?.events(), [1]);
    /// # Ok::<(), event_buffer::TryRecvError>(())
    /// ```
    pub fn position(&self) -> Position<T> {
        self.items.position()
    }

    /// Returns a weak place of the next item, or of the one that was delivered in part.
    ///
    /// See [`Subscription::bookmark`].
    ///
    /// ```
    /// use event_buffer::{EventBuffer, LagLimit};
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe().limited(LagLimit::items(10));
    /// buffer.append([1, 2]);
    /// assert_eq!(reader.try_recv()?, 1);
    /// let mut again = buffer.upgrade(&reader.bookmark()).unwrap();
    /// assert_eq!(again.try_recv()?.events(), [1, 2]);
    /// # Ok::<(), event_buffer::TryRecvError>(())
    /// ```
    pub fn bookmark(&self) -> Bookmark<T> {
        match &self.in_hand {
            Some(item) if self.has_in_hand() => Bookmark::new(item.clone()),
            _ => self.items.bookmark(),
        }
    }

    fn has_in_hand(&self) -> bool {
        self.next.is_some() || self.rest.len() > 0
    }

    /// Returns the number of items that it has neither skipped nor received completely.
    ///
    /// Items behind splices count. So does one that was delivered in part, except after a close for
    /// lag: the lag is zero then, although the rest of that item is still delivered.
    ///
    /// It may exceed the limit while neither the writer nor the reader has enforced that. If a
    /// limit in bytes has moved the reader, only items that it will receive for sure are counted:
    /// up to a sixteenth of its limit may be missing.
    ///
    /// # Cost
    ///
    /// O(1), or O(splices ahead). Takes a lock for a moment.
    ///
    /// ```
    /// use event_buffer::{EventBuffer, LagLimit};
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe().limited(LagLimit::items(10));
    /// buffer.extend(0..100);
    /// assert_eq!(reader.lag(), 10);
    /// assert!(reader.try_recv().is_err(), "lagged");
    /// assert_eq!(reader.lag(), 10);
    /// ```
    pub fn lag(&self) -> u64 {
        let in_hand = u64::from(self.has_in_hand() && !self.is_begun);
        self.items.open_lag().map_or(0, |lag| lag + in_hand)
    }
}

/// A clone is another reader at the same place with the same limit.
///
/// It receives what this one would, and both report the skipped items.
///
/// # Cost
///
/// That of [`Subscription::limited`], and a clone of the remaining events of an item that was
/// delivered in part.
impl<T: Clone> Clone for Limited<T> {
    fn clone(&self) -> Self {
        let (next, rest) = (self.next.clone(), self.rest.clone());
        let (items, skipped) = self.items.duplicate();
        Self {
            skipped: self.skipped,
            next,
            rest,
            is_begun: self.is_begun,
            in_hand: self.in_hand.clone(),
            closed: self.closed.clone(),
            ..Self::after(skipped, items, self.limit)
        }
    }
}

impl<T: Clone> Stream for Limited<T> {
    type Item = Result<T, RecvError>;

    /// [`RecvError::Lagged`] does not end the stream; any other error is yielded once, then `None`.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.is_terminated() {
            return Poll::Ready(None);
        }
        let poll = this.poll_recv(cx);
        poll.map(|received| this.items.as_stream(received))
    }
}

impl<T: Clone> FusedStream for Limited<T> {
    fn is_terminated(&self) -> bool {
        self.items.is_terminated()
    }
}

// No field is ever pinned.
impl<T> Unpin for Limited<T> {}

impl<T> fmt::Debug for Limited<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limited")
            .field("lag", &self.lag())
            .field("terminated", &self.items.is_terminated())
            .finish_non_exhaustive()
    }
}

impl<T: RefUnwindSafe> UnwindSafe for Limited<T> {}
impl<T: RefUnwindSafe> RefUnwindSafe for Limited<T> {}
