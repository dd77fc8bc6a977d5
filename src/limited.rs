//! A reader that may not be too far behind.

use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::vec;

use futures::stream::{FusedStream, Stream};

use crate::error::{RecvError, RecvTimeoutError, SharedError, TryRecvError};
use crate::lag_limit::LagLimit;
use crate::limiter::{Limiter, Taken};
use crate::link::{Closer, ClosingSlot, recv_blocking, recv_timeout};
use crate::meter::Meter;
use crate::raw::{Cursor, Read, WeakRegistration, waits_at};
use crate::unwind::discard;

/// A reader of clones that is not allowed to be further behind than its [`LagLimit`]: a
/// [`Stream`] of `T`s, made by [`Subscription::limited`](crate::Subscription::limited).
///
/// **The limit bounds what it keeps in memory, also where it is never polled again:** the writer
/// takes its place away. Where that happens it is told how many items it has lost, exactly, by
/// [`RecvError::Lagged`], and goes on; or it is closed, as [`OnLag`](crate::OnLag) says. Other
/// readers of the buffer lose nothing.
///
/// What it receives does not depend on when the writer looks: before each read it sees to it itself
/// that it is within its limit. In memory it may keep an eighth more for a while, so that the writer
/// need not look often, and the items of a block of memory (16 or so where they are small, or where
/// bytes are limited those that still go into the block that is in use when the limit is set). To that
/// comes the item of which it has not given all events yet. A `clone` or
/// [`byte_size`](crate::ByteSize::byte_size) that blocks keeps what follows its event for that long; a
/// `drop` that blocks does not.
///
/// It gives clones rather than [`BufferItem`](crate::BufferItem)s, because one of those would keep
/// all that follows for as long as its holder is stuck. Where clones are dear, publish
/// [`Arc`]s.
///
/// * Cost: a read takes a lock that it shares with nobody but the writer, and that only where it is
///   over its limit. The writer pays next to nothing for readers that keep up, and for each that is
///   stuck some 2 to 10 ns an item. Where bytes are limited it asks each item's events for their size:
///   once for all readers that were limited in the same buffer (those that come by splices from other
///   buffers are others), and once for each that is stuck.
/// * The drop of an event that was skipped runs where the writer publishes, as that of an event
///   which nobody follows does.
/// * It counts as an observer until it is dropped, or closed for its lag.
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
    limiter: Arc<Limiter<T>>,
    /// Asks for sizes where bytes are limited.
    _meter: Option<Arc<Meter<T>>>,
    /// So many items were skipped before those, which is to be said first.
    skipped: u64,
    /// What was cloned and has not been given yet: of an item of one event, and of one of several.
    next: Option<T>,
    rest: vec::IntoIter<T>,
    /// Their item was given back, for events after them that could not be cloned.
    was_given_back: bool,
    /// While the task waits for the next item.
    registration: Option<WeakRegistration>,
    closing: ClosingSlot,
    /// Why it was closed, once it has been said: from outside, or for its lag.
    closed: Option<SharedError>,
    /// The producer's failure has been said.
    failed: bool,
    /// The stream has answered `None`, or an error after which it will.
    terminated: bool,
}

impl<T: Clone> Limited<T> {
    pub(crate) fn new(
        mut cursor: Cursor<T>,
        limit: LagLimit<T>,
        (failed, terminated): (bool, bool),
        closing: ClosingSlot,
    ) -> Self
    where
        T: Send + Sync + 'static,
    {
        // Neither a waker nor what it has passed goes behind the lock.
        cursor.stop_waiting();
        cursor.anchor_here();
        let slot = cursor.slot();
        let limiter = Arc::new(Limiter::new(cursor, limit));
        let meter = limiter.begin(slot);
        Self {
            limiter,
            _meter: meter,
            skipped: 0,
            next: None,
            rest: vec::IntoIter::default(),
            was_given_back: false,
            registration: None,
            closing,
            closed: None,
            failed,
            terminated,
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
        /// Ends the task's registration, also if the future is dropped.
        struct Polling<'a, T>(&'a mut Limited<T>);

        impl<T> Drop for Polling<'_, T> {
            fn drop(&mut self) {
                self.0.registration = None;
            }
        }

        let polling = Polling(self);
        poll_fn(|cx| polling.0.poll_recv(cx)).await
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
        if let Some(reason) = &self.closed {
            return Err(TryRecvError::ForceClosed(reason.clone()));
        }
        self.check_open()?;
        if let Some(made) = self.made() {
            return made;
        }
        match self.limiter.take() {
            Ok(taken) => {
                self.clone_events(taken);
                self.made().unwrap_or(Err(TryRecvError::Empty))
            }
            Err(nothing) => Err(self.ended(nothing)),
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
        if self.closed.is_some() || self.check_open().is_err() {
            return false;
        }
        if self.next.take().or_else(|| self.rest.next()).is_some() {
            return true;
        }
        match self.limiter.take() {
            Ok(mut taken) => {
                self.skipped += mem::take(&mut taken.skipped);
                taken.given += 1;
                if taken.given < taken.item.events().len() {
                    self.limiter.give_back(&taken);
                }
                true
            }
            Err(TryRecvError::Lagged(items)) => {
                self.skipped += items;
                false
            }
            Err(_) => false,
        }
    }

    /// Clones the events of an item.
    fn clone_events(&mut self, taken: Taken<T>) {
        /// Gives the item back if not all of its events could be cloned.
        struct Cloning<'a, T> {
            limiter: &'a Limiter<T>,
            taken: Taken<T>,
            done: bool,
        }

        impl<T> Drop for Cloning<'_, T> {
            fn drop(&mut self) {
                if !self.done {
                    self.limiter.give_back(&self.taken);
                }
            }
        }

        let mut cloning = Cloning {
            limiter: &self.limiter,
            taken,
            done: false,
        };
        let Cloning { taken, done, .. } = &mut cloning;
        let events = &taken.item.events()[taken.given..];
        self.was_given_back = false;
        if let [event] = events {
            self.next = Some(event.clone());
            *done = true;
        } else if let [first, others @ ..] = events {
            let mut clones = Vec::with_capacity(events.len());
            // A panic here has cloned nothing.
            clones.push(first.clone());
            // A panic here is left for the read that has come to that event.
            let rest = AssertUnwindSafe(|| clones.extend(others.iter().cloned()));
            match catch_unwind(rest) {
                Ok(()) => *done = true,
                Err(panic) => {
                    discard(panic);
                    taken.given += clones.len();
                    self.was_given_back = true;
                }
            }
            self.rest = clones.into_iter();
        }
        // Reported here, not again by an item that is given back.
        self.skipped = mem::take(&mut taken.skipped);
        // Drops the events if nobody else holds them. If that panics, the next read gives what was cloned.
        drop(cloning);
    }

    fn ended(&mut self, nothing: TryRecvError) -> TryRecvError {
        match nothing {
            TryRecvError::Empty => {}
            TryRecvError::ForceClosed(ref reason) => self.closed = Some(reason.clone()),
            _ => {
                // Again: it may have been closed before the buffer ended.
                if let Err(closed) = self.check_open() {
                    return closed;
                }
                let is_failure = matches!(nothing, TryRecvError::Failed(_));
                if is_failure && mem::replace(&mut self.failed, true) {
                    return TryRecvError::Closed;
                }
            }
        }
        nothing
    }

    /// What an item that was taken made to say.
    fn made(&mut self) -> Option<Result<T, TryRecvError>> {
        if self.skipped > 0 {
            return Some(Err(TryRecvError::Lagged(mem::take(&mut self.skipped))));
        }
        let event = self.next.take().or_else(|| self.rest.next());
        event.map(Ok)
    }

    fn check_open(&mut self) -> Result<(), TryRecvError> {
        match self.closing.reason() {
            None => Ok(()),
            Some(reason) => {
                self.closed = Some(reason.clone());
                Err(TryRecvError::ForceClosed(reason.clone()))
            }
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

    fn poll_recv(&mut self, cx: &Context<'_>) -> Poll<Result<T, RecvError>> {
        loop {
            // Before anything is taken: the drop of a waker may panic.
            if self.closing.reason().is_some() || self.limiter.is_ready() {
                self.registration = None;
            }
            match self.try_recv().map_err(TryRecvError::into_end) {
                Ok(event) => return Poll::Ready(Ok(event)),
                Err(Some(end)) => return Poll::Ready(Err(end)),
                Err(None) => {}
            }
            // Closed for its lag meanwhile: there is an answer now.
            let Some(mut slot) = self.limiter.slot() else {
                continue;
            };
            // Not at the end of a buffer that goes on in another.
            if !matches!(slot.read(), Read::Empty) {
                continue;
            }
            let poll = slot.poll_link(&mut self.registration, cx.waker());
            let waits_at = || self.registration.as_ref().map(waits_at);
            if poll.is_pending() && !self.closing.is_closed_or_waits(waits_at) {
                return Poll::Pending;
            }
        }
    }
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
    pub fn closer(&self) -> Closer {
        self.closing
            .closer(|| self.registration.as_ref().map(waits_at))
    }

    /// How many items it has not received completely and not skipped, those behind splices included: one of which some
    /// events are still to come counts. Zero if it was closed for its lag, though it gives the rest of the item that it
    /// has begun. O(1), or O(splices ahead); takes a
    /// lock for a moment.
    ///
    /// It may be over the limit where neither the writer nor the reader has looked yet.
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
        let is_in_hand = self.next.is_some() || self.rest.len() > 0;
        let in_hand = u64::from(is_in_hand && !self.was_given_back);
        self.limiter.lag().map_or(0, |lag| lag + in_hand)
    }
}

impl<T: Clone> Stream for Limited<T> {
    type Item = Result<T, RecvError>;

    /// [`RecvError::Lagged`] does not end the stream; any other error is the last thing it answers.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.terminated {
            return Poll::Ready(None);
        }
        this.poll_recv(cx).map(|answer| match answer {
            Err(RecvError::Closed) => {
                this.terminated = true;
                None
            }
            answer => {
                this.terminated = !matches!(answer, Ok(_) | Err(RecvError::Lagged(_)));
                Some(answer)
            }
        })
    }
}

impl<T: Clone> FusedStream for Limited<T> {
    fn is_terminated(&self) -> bool {
        self.terminated
    }
}

// Nothing in it is ever pinned.
impl<T> Unpin for Limited<T> {}

impl<T> Drop for Limited<T> {
    fn drop(&mut self) {
        // Here and now: the writer may be looking at it.
        self.limiter.leave();
    }
}

impl<T> fmt::Debug for Limited<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limited")
            .field("lag", &self.lag())
            .field("terminated", &self.terminated)
            .finish_non_exhaustive()
    }
}

impl<T: RefUnwindSafe> UnwindSafe for Limited<T> {}
impl<T: RefUnwindSafe> RefUnwindSafe for Limited<T> {}
