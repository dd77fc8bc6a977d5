//! A reader that may not be too far behind.

use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use std::vec;

use futures::stream::{FusedStream, Stream};

use crate::error::{RecvError, RecvTimeoutError, SharedError, TryRecvError};
use crate::lag_limit::LagLimit;
use crate::link::{Closer, receive, recv_blocking, recv_timeout};
use crate::list::WeakPlace;
use crate::read::bookmark::Bookmark;
use crate::read::iter::Iter;
use crate::read::position::Position;
use crate::read::subscription::Subscription;
use crate::unwind::discard;

/// A reader of clones that is not allowed to be further behind than its [`LagLimit`]: a
/// [`Stream`] of `T`s, made by [`Subscription::limited`](crate::Subscription::limited).
///
/// **The limit bounds what it keeps in memory, even if it is never polled again:** the writer
/// takes its place away. When the reader comes back it is told exactly how many items it has lost, by
/// [`RecvError::Lagged`], and continues; or it is closed, as [`OnLag`](crate::OnLag) says. Other
/// readers of the buffer lose nothing.
///
/// What it receives does not depend on when the writer looks: before each read it sees to it itself
/// that it is within its limit. In memory it may keep an eighth more for a while, so that the writer
/// need not look often, and the items of a block of memory (16 or so if they are small; none if bytes are
/// limited). Readers with about the same limit share what they keep: all that are stuck keep what the greatest
/// of their limits says. A `clone` or [`byte_size`](crate::ByteSize::byte_size) that blocks keeps what follows
/// its event for that long; a `drop` that blocks does not.
///
/// It gives clones rather than [`BufferItem`](crate::BufferItem)s and lends no chunks, because either would
/// keep all that follows for as long as its holder is stuck. If clones are dear, publish
/// [`Arc`](std::sync::Arc)s.
///
/// * Cost: a read costs two atomic instructions more than one of [`Cloned`](crate::Cloned), and takes a lock if
///   bytes are limited or the reader has lost its place. A reader that comes back walks over at most its own limit.
///   The writer pays next to nothing for readers that keep up, and the same for one that is stuck as for any
///   number of them: it moves one place for all whose limits differ by less than a factor of two.
/// * While any reader of a buffer is limited in bytes, each event is asked for its size once, by the writer. A
///   reader asks again those of a few items at the edge of its limit, and if it starts in the past those that were
///   published before. An item counts no bytes until its [`Deferred`](crate::Deferred), if any, is dropped.
/// * The drop of an event that was skipped runs where the writer publishes, as that of an event
///   which nobody follows does.
/// * It counts as an observer until it is dropped or closed.
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
    /// Items that were skipped before the clones here, which is to be reported first.
    skipped: u64,
    /// Clones of the events of an item that have not been given yet: the next one, and the others if there are several.
    next: Option<T>,
    rest: vec::IntoIter<T>,
    /// The item has more events than those, which could not be cloned.
    is_begun: bool,
    /// Where the item is of which there are clones here; of no meaning if there are none.
    in_hand: Option<WeakPlace<T>>,
    /// Why it was closed, once it has been reported: from outside, or for its lag.
    closed: Option<SharedError>,
}

impl<T> Subscription<T> {
    /// A reader of clones that may not be further behind than `limit`, and whose place is taken away
    /// where it is: see [`Limited`].
    ///
    /// O(1), or O([`lag`](Self::lag)) where it is over the limit already or bytes are counted. Allocates
    /// what it shares with the writer, and takes a lock for a moment. Closers and the place are kept.
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
        Self::after(0, items, limit)
    }

    /// One that is to report that many skipped items first.
    fn after(skipped: u64, mut items: Subscription<T>, limit: LagLimit<T>) -> Self {
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
    /// Cancel safe: an event is taken only when the future completes.
    ///
    /// # Errors
    ///
    /// [`RecvError::Lagged`] if items were skipped, once, with their number: call again. (The next item has been cloned
    /// by then, so a `clone` that panics hides the report until [`skip_event`](Self::skip_event).) The
    /// others as for [`Subscription::recv`](crate::Subscription::recv).
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
    pub async fn recv(&mut self) -> Result<T, RecvError> {
        receive(self, Self::poll_recv, |reader| reader.items.stop_waiting()).await
    }

    /// The next event, if it is there. Never waits. If `T`'s clone panics the event has not been
    /// received: the next read clones it again, or [`skip_event`](Self::skip_event) leaves it out.
    ///
    /// O(1) and one clone, or O(items skipped). Where an item has several events all of them are
    /// cloned when the first is received.
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv), and [`TryRecvError::Empty`] where nothing is ready.
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

    /// Skips the next event, if it is there, without cloning it: for one whose `clone` panics each time. Never
    /// waits. O(1), or O(items skipped).
    ///
    /// Returns `false` if nothing is ready or the reader has ended. Skips whatever event is next now: if the limit has
    /// moved the reader since a `clone` panicked, that is a different event, and it is not counted in `Lagged`. What the
    /// limit skipped is still reported by the next read.
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

    /// What was cloned before, or how many items were skipped before that.
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

    /// Whether it was closed from outside, or has reported that it was closed for its lag.
    fn check_open(&mut self) -> Result<(), TryRecvError> {
        if self.closed.is_none() {
            self.closed = self.items.closed_from_outside();
        }
        match &self.closed {
            None => Ok(()),
            Some(reason) => Err(TryRecvError::ForceClosed(reason.clone())),
        }
    }

    /// Waits for the next event, blocking the thread. Not for use in async code. Allocates a waker.
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv).
    ///
    /// # Panics
    ///
    /// On `wasm32-unknown-unknown`, which has no threads, if nothing is ready: it would block for ever.
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

    /// Waits for the next event, blocking the thread for at most `timeout`. An event that is ready
    /// is received whatever the timeout. Allocates a waker.
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError::Timeout`] if none came; the others as for [`recv`](Self::recv).
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

    /// Returns a blocking iterator over the events: see [`Iter`]. Lag is an `Err` that does not end
    /// it.
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

    /// Sets another limit. What is over the limit before is still skipped and reported, or closes
    /// the reader, by that limit.
    ///
    /// # Cost
    ///
    /// As for [`Subscription::limited`].
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
        self.items.set_limit(limit, 0);
        self.limit = limit;
    }

    /// A new reader with the same limit that starts at the tail: see
    /// [`Subscription::resubscribe`].
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

/// Clones the events of an item; returns how many. If a clone but the first panics, that is left for the read that
/// has come to that event.
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
        let clone = AssertUnwindSafe(|| clones.extend(others.iter().cloned()));
        if let Err(panic) = catch_unwind(clone) {
            discard(panic);
        }
        taken += clones.len();
        *rest = clones.into_iter();
    }
    *next = Some(first);
    taken
}

impl<T> Limited<T> {
    /// A handle that closes this reader from outside. See [`Closer`].
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

    /// Returns `true` if nothing more will come after what is unread: see
    /// [`Subscription::is_closed`]. A reader that was closed for its lag is closed.
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

    /// The place of the next item to be received: see [`Subscription::position`].
    ///
    /// The remaining events of an item that this reader has begun come before it: this reader has
    /// cloned them, and does not keep the item. A [`bookmark`](Self::bookmark) includes them. As
    /// long as the position is held, it keeps what follows: the limit does not bound that.
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

    /// The place of the next item to be received, or of the one of which events are still to come,
    /// as one that keeps nothing alive: see [`Subscription::bookmark`].
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

    /// How many items it has not received completely and not skipped, those behind splices included: one of which some
    /// events are still to come counts. Zero if it was closed for its lag, though it gives the rest of the item that it
    /// has begun. O(1), or O(splices ahead); takes a
    /// lock for a moment.
    ///
    /// It may be over the limit if neither the writer nor the reader has looked yet. A reader that has lost its place to
    /// a limit in bytes counts only what it may receive for sure: a sixteenth of its limit may be missing.
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

/// Another reader at the same place, with the same limit. It receives what this one would: skipped
/// items are reported by both. O(1), or as for [`Subscription::limited`] if bytes are limited; clones
/// the events of an item that this reader has begun.
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

    /// [`RecvError::Lagged`] does not end the stream; any other error is the last thing it answers.
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

// Nothing in it is ever pinned.
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
