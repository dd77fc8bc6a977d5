//! A reader of items.

use std::fmt;
use std::mem;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::{FusedStream, Stream};

use crate::error::{RecvError, RecvTimeoutError, SharedError, TryRecvError};
use crate::lag_limit::LagLimit;
#[cfg(feature = "publisher")]
use crate::lag_limit::SizeOf;
use crate::link::{Closer, Receiving, recv_blocking, recv_timeout};
use crate::list::{Cursor, PlaceRef, Read, Skipped, Standing, WeakPlace};
use crate::read::bookmark::Bookmark;
use crate::read::chunk::Chunk;
use crate::read::item::BufferItem;
use crate::read::iter::Iter;
use crate::read::position::Position;
use crate::read::reader::Reader;

/// A reader of a buffer at its own pace: a [`Stream`] of items.
///
/// It receives every item from its place on, in order, once. It slows down neither the writer nor
/// other readers.
///
/// * **As a stream** it ends with `None` when the buffer is closed. Any other error is yielded
///   once, then `None`.
/// * **A clone** is another reader at the same place, with closers of its own. A clone of a closed
///   reader is closed for the same reason.
/// * **Memory:** it keeps the items that it has not received. Dropping it, or closing it by a
///   [`Closer`], frees those that only this reader kept. A closed reader is no observer any more.
/// * **Panics:** the last reader that passes an item drops it. If the `drop` of an event panics,
///   the read that caused it does, too.
///
/// # Cost
///
/// Reading what is ready does not allocate, and takes a lock only to follow a splice. Waiting takes
/// one short lock, to join the tasks that wait for the same link. The first of them registers a
/// listener for all, which takes two small allocations and the locks of `event-listener`. Cloning
/// is O(1), or O(splices ahead).
///
/// ```
/// # futures::executor::block_on(async {
/// use event_buffer::EventBuffer;
/// use futures::TryStreamExt;
///
/// let mut buffer = EventBuffer::new();
/// let reader = buffer.subscribe();
/// buffer.push(1);
/// buffer.append([2, 3]);
/// buffer.close();
///
/// let sizes: Vec<usize> = reader.map_ok(|item| item.len()).try_collect().await?;
/// assert_eq!(sizes, [1, 2]);
/// # Ok::<(), event_buffer::RecvError>(()) }).unwrap();
/// ```
pub struct Subscription<T> {
    reader: Reader<T>,
    /// Set once the producer's failure has been reported.
    failed: bool,
    /// Set once the stream has yielded `None`, or an error that only `None` can follow.
    terminated: bool,
}

impl<T> Subscription<T> {
    pub(crate) fn new(cursor: Cursor<T>) -> Self {
        Self::of(Reader::new(cursor))
    }

    fn of(reader: Reader<T>) -> Self {
        Self {
            reader,
            failed: false,
            terminated: false,
        }
    }

    /// Waits for the next item.
    ///
    /// An item is returned whole, even if a [`Chunk`] has yielded some of its events.
    ///
    /// # Errors
    ///
    /// * [`RecvError::Closed`] once the buffer has ended and everything in it was received;
    /// * [`RecvError::Failed`], once, if it ended with an error;
    /// * [`RecvError::ForceClosed`] if a [`Closer`] closed this subscription.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: an item is taken only when the future completes.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::{EventBuffer, RecvError};
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe();
    /// buffer.push("hello");
    /// drop(buffer);
    /// assert_eq!(reader.recv().await?.events(), ["hello"]);
    /// assert_eq!(reader.recv().await, Err(RecvError::Closed));
    /// # Ok::<(), RecvError>(()) }).unwrap();
    /// ```
    pub fn recv(&mut self) -> impl Future<Output = Result<BufferItem<T>, RecvError>> {
        self.next_with(Self::try_recv)
    }

    /// Returns the next item if one is ready. Never waits.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] if nothing is ready; the others are those of [`recv`](Self::recv).
    ///
    /// # Cost
    ///
    /// O(1), without allocating. Takes a lock only at a splice and at the end.
    ///
    /// ```
    /// use event_buffer::{EventBuffer, TryRecvError};
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe();
    /// assert_eq!(reader.try_recv(), Err(TryRecvError::Empty));
    /// buffer.push(1);
    /// assert_eq!(reader.try_recv()?.events(), [1]);
    /// # Ok::<(), TryRecvError>(())
    /// ```
    #[inline]
    pub fn try_recv(&mut self) -> Result<BufferItem<T>, TryRecvError> {
        let taken = match self.reader.free() {
            Some(cursor) => cursor.take(),
            None => return self.try_recv_leashed(),
        };
        match taken {
            Ok(slot) => Ok(BufferItem::new(slot)),
            Err(end) => Err(self.ended(end)),
        }
    }

    #[cold]
    #[inline(never)]
    fn try_recv_leashed(&mut self) -> Result<BufferItem<T>, TryRecvError> {
        match self.reader.read(|cursor, _| cursor.take()) {
            Ok(slot) => Ok(BufferItem::new(slot)),
            Err(end) => Err(self.ended(end)),
        }
    }

    /// Waits for the next item, blocking the thread. Not for use in async code.
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
    /// Allocates a waker, even if an item is ready: [`try_recv`](Self::try_recv) reads a backlog at
    /// less cost.
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe();
    /// let writer = std::thread::spawn(move || buffer.push("from a thread"));
    /// assert_eq!(reader.recv_blocking()?.events(), ["from a thread"]);
    /// # writer.join().unwrap();
    /// # Ok::<(), event_buffer::RecvError>(())
    /// ```
    #[doc(alias = "blocking_recv")]
    pub fn recv_blocking(&mut self) -> Result<BufferItem<T>, RecvError> {
        recv_blocking(self.recv())
    }

    /// Waits for the next item, blocking the thread for at most `timeout`.
    ///
    /// An item that is ready is received whatever the timeout. A timeout that cannot be added to
    /// the present time, such as [`Duration::MAX`], never expires.
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError::Timeout`] if none came; the others are those of [`recv`](Self::recv).
    ///
    /// # Cost
    ///
    /// Allocates a waker, even if an item is ready.
    ///
    /// ```
    /// use event_buffer::{EventBuffer, RecvTimeoutError};
    /// use std::time::Duration;
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe();
    /// buffer.push(1);
    /// assert_eq!(reader.recv_timeout(Duration::MAX)?.events(), [1]);
    /// assert_eq!(reader.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout));
    /// # Ok::<(), RecvTimeoutError>(())
    /// ```
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<BufferItem<T>, RecvTimeoutError> {
        recv_timeout(self.recv(), timeout)
    }

    /// Waits until items are ready, then returns the events of all by reference.
    ///
    /// Nothing is cloned and no references are counted, so this is the fastest way to read. The
    /// events stay in memory until the next read, even if the [`Chunk`] is dropped before.
    ///
    /// # Errors
    ///
    /// The same as those of [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: an event is received when the chunk yields it.
    ///
    /// # Cost
    ///
    /// O(1), without allocating.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::EventBuffer;
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe();
    /// buffer.extend([1, 2, 3]);
    /// let sum: i32 = reader.next_chunk().await?.sum();
    /// assert_eq!(sum, 6);
    /// # Ok::<(), event_buffer::RecvError>(()) }).unwrap();
    /// ```
    pub async fn next_chunk(&mut self) -> Result<Chunk<'_, T>, RecvError> {
        self.next_with(Self::check_ready).await?;
        let cursor = self.reader.lend().map_err(TryRecvError::into_end);
        match cursor {
            Ok(cursor) => Ok(Chunk::new(cursor.walk())),
            Err(end) => Err(end.unwrap_or(RecvError::Closed)),
        }
    }

    /// Returns a handle that closes this subscription from outside: see [`Closer`].
    ///
    /// It works even if the subscription is never polled again. Events must be `Send + Sync +
    /// 'static`, because a close may drop them on any thread.
    ///
    /// # Cost
    ///
    /// The first call allocates the state that the two share. From then on each read, or each
    /// chunk, costs two atomic instructions more. A subscription without closers pays nothing.
    ///
    /// ```
    /// use event_buffer::{EventBuffer, TryRecvError};
    ///
    /// let buffer = EventBuffer::<u8>::new();
    /// let mut reader = buffer.subscribe();
    /// let mut other = reader.clone();
    /// reader.closer().close("too slow");
    /// assert!(matches!(reader.try_recv(), Err(TryRecvError::ForceClosed(_))));
    /// assert_eq!(other.try_recv(), Err(TryRecvError::Empty));
    /// ```
    pub fn closer(&self) -> Closer
    where
        T: Send + Sync + 'static,
    {
        self.reader.closer()
    }

    /// Returns `true` if nothing will be published after what is unread.
    ///
    /// Either the buffer has ended, with all buffers that it continues in, or the subscription was
    /// closed from outside.
    ///
    /// # Cost
    ///
    /// O(1), or O(splices ahead), each of which takes a lock for a moment.
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe();
    /// buffer.push(1);
    /// assert!(!reader.is_closed());
    /// buffer.close();
    /// assert!(reader.is_closed());
    /// assert!(reader.try_recv().is_ok(), "it is still to be read");
    /// ```
    pub fn is_closed(&self) -> bool {
        self.reader.is_closed()
    }

    /// Returns a blocking iterator over the items: see [`Iter`].
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe();
    /// buffer.append(["two", "events"]);
    /// buffer.close();
    /// for item in reader.iter() {
    ///     assert_eq!(item?.events(), ["two", "events"]);
    /// }
    /// # Ok::<(), event_buffer::RecvError>(())
    /// ```
    pub fn iter(&mut self) -> Iter<'_, Self> {
        Iter::new(self)
    }

    /// Returns the number of published items that this subscription has not received.
    ///
    /// Items behind splices count. An item counts from just before it can be read. The lag of a
    /// subscription that was closed from outside is zero.
    ///
    /// # Cost
    ///
    /// O(1), or O(splices ahead), each of which takes a lock for a moment.
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe();
    /// buffer.extend([1, 2, 3]);
    /// assert_eq!(reader.lag(), 3);
    /// reader.try_recv()?;
    /// assert_eq!(reader.lag(), 2);
    /// # Ok::<(), event_buffer::TryRecvError>(())
    /// ```
    pub fn lag(&self) -> u64 {
        self.open_lag().unwrap_or(0)
    }

    /// Like [`lag`](Self::lag), but returns `None` once it was closed.
    pub(crate) fn open_lag(&self) -> Option<u64> {
        self.reader.lag()
    }

    /// Returns the place of the next item. O(1).
    ///
    /// The position keeps that item and all after it in memory.
    ///
    /// A subscription that was closed from outside has no place any more. This then allocates an
    /// empty buffer that has failed with the reason, and returns its end: a reader that subscribes
    /// there receives the reason as [`RecvError::Failed`].
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe();
    /// buffer.push(1);
    /// let bookmark = reader.position();
    /// reader.try_recv()?;
    /// assert_eq!(bookmark.subscribe().try_recv()?.events(), [1]);
    /// # Ok::<(), event_buffer::TryRecvError>(())
    /// ```
    pub fn position(&self) -> Position<T> {
        match self.reader.standing() {
            Ok(standing) => Position(standing.place),
            Err(shut) => Position(PlaceRef::failed(shut.reason)),
        }
    }

    /// Returns a weak place of the next item, from which to continue later. O(1).
    ///
    /// [`EventBuffer::upgrade`](crate::EventBuffer::upgrade) continues there. It keeps no item in
    /// memory. A subscription that was closed from outside returns the place it was closed at.
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe();
    /// buffer.push(1);
    /// reader.try_recv()?;
    /// let bookmark = reader.bookmark();
    /// drop(reader);
    /// buffer.push(2);
    /// let mut reader = buffer.upgrade(&bookmark).unwrap();
    /// assert_eq!(reader.try_recv()?.events(), [2]);
    /// # Ok::<(), event_buffer::TryRecvError>(())
    /// ```
    pub fn bookmark(&self) -> Bookmark<T> {
        Bookmark::new(self.reader.weak_place())
    }

    /// Returns a new subscription that starts at the tail, skipping what is ready.
    ///
    /// If the buffer has ended, the new subscription ends at once, and reports a failure again. If
    /// this subscription was closed from outside, the new one is closed for the same reason.
    ///
    /// # Cost
    ///
    /// O(1), or O(splices ahead), however much is ready.
    ///
    /// ```
    /// use event_buffer::{EventBuffer, TryRecvError};
    ///
    /// let mut buffer = EventBuffer::new();
    /// let reader = buffer.subscribe();
    /// buffer.push(1);
    /// let mut late = reader.resubscribe();
    /// assert_eq!(late.try_recv(), Err(TryRecvError::Empty));
    /// drop(buffer);
    /// assert_eq!(reader.resubscribe().try_recv(), Err(TryRecvError::Closed));
    /// ```
    #[must_use]
    pub fn resubscribe(&self) -> Self {
        match self.reader.standing() {
            Ok(standing) => {
                let mut cursor = Cursor::new(standing.place);
                cursor.skip_ready();
                Self::new(cursor)
            }
            Err(shut) => Self::of(Reader::closed(shut)),
        }
    }

    /// Returns the error to report at the end of the buffer: a failure is reported only once.
    #[cold]
    fn ended(&mut self, end: TryRecvError) -> TryRecvError {
        match end {
            TryRecvError::Failed(_) if mem::replace(&mut self.failed, true) => TryRecvError::Closed,
            end => end,
        }
    }

    /// Succeeds if something can be read.
    fn check_ready(&mut self) -> Result<(), TryRecvError> {
        let ready = self.reader.read(|cursor, _| match cursor.read() {
            Read::Item => Ok(()),
            Read::Empty => Err(TryRecvError::Empty),
            Read::End(end) => Err(end.into()),
        });
        ready.map_err(|end| self.ended(end))
    }

    /// Calls `visit` with the next event, which counts as received unless that panics.
    #[inline(always)]
    #[allow(
        clippy::inline_always,
        reason = "half of a read of what is ready, measured"
    )]
    pub(crate) fn visit<R>(&mut self, visit: impl FnOnce(&T) -> R) -> Result<R, TryRecvError> {
        if let Some(cursor) = self.reader.free() {
            return match cursor.visit(visit) {
                Ok(visited) => Ok(visited),
                Err(end) => Err(self.ended(end)),
            };
        }
        let visited = self.reader.read(|cursor, _| cursor.visit(visit));
        visited.map_err(|end| self.ended(end))
    }

    /// Calls `look` with the first event of the next item, without receiving it.
    #[cfg(feature = "publisher")]
    pub(crate) fn peek<R>(&mut self, look: impl FnOnce(&T) -> R) -> Result<R, TryRecvError> {
        let seen = self.reader.read(|cursor, _| match cursor.read() {
            Read::Item => {
                let place = cursor.place_ref();
                let first = place.events().first();
                first.map(look).ok_or(TryRecvError::Empty)
            }
            Read::Empty => Err(TryRecvError::Empty),
            Read::End(end) => Err(end.into()),
        });
        seen.map_err(|end| self.ended(end))
    }

    /// Calls `visit` with the remaining events of the next item; it returns how many it takes.
    ///
    /// Adds the items that the limit skipped before it to `lost`, to be reported first. Sets
    /// `in_hand` to the item's place if some of what was taken is not delivered at once: because
    /// several events were taken, or because a report comes first.
    pub(crate) fn visit_rest(
        &mut self,
        lost: &mut u64,
        in_hand: &mut Option<WeakPlace<T>>,
        visit: impl FnOnce(&[T]) -> usize,
    ) -> Result<(), TryRecvError> {
        let visited = self.reader.read(|cursor, skipped| {
            match cursor.visit_rest(|events, taken| {
                *taken = visit(events);
                *lost += mem::take(skipped);
                *taken
            }) {
                Ok(taken) => {
                    if taken > 1 || *lost > 0 {
                        *in_hand = Some(cursor.item_in_hand());
                    }
                    // A limited reader must not keep an item that it has passed.
                    cursor.anchor_here();
                    Ok(())
                }
                Err(nothing) => {
                    *lost += mem::take(skipped);
                    // The loss is reported first. The next read finds the end again.
                    Err(if *lost > 0 {
                        TryRecvError::Empty
                    } else {
                        nothing
                    })
                }
            }
        });
        visited.map_err(|end| self.ended(end))
    }

    /// Receives the next event without returning it; returns `true` if there was one.
    pub(crate) fn skip_event(&mut self) -> bool {
        self.reader.read(|cursor, _| cursor.visit(|_| ())).is_ok()
    }

    /// Like `skip_event`, and adds the number of items that the limit skipped to `lost`.
    pub(crate) fn skip_event_after(&mut self, lost: &mut u64) -> bool {
        let skipped = self.reader.read(|cursor, skipped| {
            *lost += mem::take(skipped);
            cursor.visit(|_| ())?;
            cursor.anchor_here();
            Ok(())
        });
        skipped.is_ok()
    }

    /// Returns the size of all published items that it has not received. Runs user code.
    #[cfg(feature = "publisher")]
    pub(crate) fn bytes_ahead(&self, size_of: SizeOf<T>) -> u64 {
        let place = self.reader.standing().map(|standing| standing.place);
        place.map_or(0, |place| place.bytes_ahead(size_of))
    }

    /// Limits the lag, and adds to the number of skipped items to be reported.
    pub(crate) fn set_limit(&mut self, limit: LagLimit<T>, skipped: Skipped) {
        self.reader.set_limit(limit, skipped);
    }

    /// Returns another reader at the same place, and the number of items that the limit skipped
    /// before it.
    pub(crate) fn duplicate(&self) -> (Self, Skipped) {
        let (reader, skipped) = match self.reader.standing() {
            Ok(Standing {
                place,
                given,
                skipped,
                ..
            }) => (Reader::new(Cursor::at(place, given)), skipped),
            Err(shut) => (Reader::closed(shut), Skipped::default()),
        };
        let failed = self.failed;
        let duplicate = Self {
            failed,
            ..Self::of(reader)
        };
        (duplicate, skipped)
    }

    /// Returns the reason that a closer has closed it for, if one has.
    pub(crate) fn closed_from_outside(&mut self) -> Option<SharedError> {
        self.reader.closed_from_outside()
    }

    /// Waits until `next` returns anything but [`TryRecvError::Empty`].
    pub(super) fn next_with<R>(
        &mut self,
        mut next: impl FnMut(&mut Self) -> Result<R, TryRecvError>,
    ) -> impl Future<Output = Result<R, RecvError>> {
        let poll = move |reader: &mut Self, cx: &Context<'_>| reader.poll_with(cx, &mut next);
        Receiving::new(self, poll, Self::stop_waiting)
    }

    /// Calls `next`; if nothing is ready, polls the link's listener and calls it again.
    #[inline]
    fn poll_with<R>(
        &mut self,
        cx: &Context<'_>,
        mut next: impl FnMut(&mut Self) -> Result<R, TryRecvError>,
    ) -> Poll<Result<R, RecvError>> {
        loop {
            // The common case is returned inline, so that it is not copied; the rest is out of
            // line.
            let nothing = match next(self) {
                Ok(received) => return Poll::Ready(Ok(received)),
                Err(nothing) => nothing,
            };
            if let Some(poll) = self.end_or_poll_link(cx, nothing) {
                return poll.map(Err);
            }
        }
    }

    /// Returns the result of a poll that found nothing ready; `None` if something may be by now.
    #[inline(never)]
    pub(crate) fn end_or_poll_link(
        &mut self,
        cx: &Context<'_>,
        nothing: TryRecvError,
    ) -> Option<Poll<RecvError>> {
        if let Some(end) = nothing.into_end() {
            // Only at a final error: dropping a waker may panic, which would lose a report of lag.
            if end.is_final() {
                self.reader.stop_waiting();
            }
            return Some(Poll::Ready(end));
        }
        let is_pending = self.reader.poll_link(cx.waker()).is_pending();
        is_pending.then_some(Poll::Pending)
    }

    /// Polls this as a stream, or a `Cloned` that wraps it: `next` returns what is ready.
    #[inline]
    pub(crate) fn poll_stream<R>(
        &mut self,
        cx: &Context<'_>,
        next: impl FnMut(&mut Self) -> Result<R, TryRecvError>,
    ) -> Poll<Option<Result<R, RecvError>>> {
        if self.terminated {
            return Poll::Ready(None);
        }
        let poll = self.poll_with(cx, next);
        poll.map(|received| self.as_stream(received))
    }

    /// Converts a result of `recv` to what the stream yields.
    ///
    /// The stream ends with `None` instead of [`RecvError::Closed`], and after any other final
    /// error.
    #[inline]
    pub(crate) fn as_stream<R>(
        &mut self,
        received: Result<R, RecvError>,
    ) -> Option<Result<R, RecvError>> {
        if let Err(end) = &received {
            self.terminated = end.is_final();
        }
        (!matches!(received, Err(RecvError::Closed))).then_some(received)
    }

    /// Ends the registration of the task that waits.
    pub(crate) fn stop_waiting(&mut self) {
        self.reader.stop_waiting();
    }
}

impl<T> Stream for Subscription<T> {
    type Item = Result<BufferItem<T>, RecvError>;

    #[inline]
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_stream(cx, Self::try_recv)
    }
}

impl<T> FusedStream for Subscription<T> {
    fn is_terminated(&self) -> bool {
        self.terminated
    }
}

impl<T> Clone for Subscription<T> {
    fn clone(&self) -> Self {
        self.duplicate().0
    }
}

impl<T> fmt::Debug for Subscription<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("lag", &self.lag())
            .field("terminated", &self.terminated)
            .finish_non_exhaustive()
    }
}

impl<T: RefUnwindSafe> UnwindSafe for Subscription<T> {}
impl<T: RefUnwindSafe> RefUnwindSafe for Subscription<T> {}
