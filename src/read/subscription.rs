//! A reader.

use std::fmt;
use std::mem;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::{FusedStream, Stream};

use crate::error::{RecvError, RecvTimeoutError, SharedError, TryRecvError};
use crate::lag_limit::LagLimit;
use crate::link::{Closer, recv_blocking, recv_timeout};
use crate::list::{Cursor, PlaceRef, Read, Standing, WeakPlace};
use crate::read::bookmark::Bookmark;
use crate::read::chunk::Chunk;
use crate::read::item::BufferItem;
use crate::read::iter::Iter;
use crate::read::position::Position;
use crate::read::reader::Reader;

/// A reader of a buffer, at its own pace: a [`Stream`] of items, with the `recv` family beside.
///
/// It receives every item from its place on, in order, each once. It keeps the items that it has
/// not received alive, and slows nobody down. Dropping it unsubscribes. That, or a [`Closer`], frees
/// what only this reader kept.
///
/// * [`Clone`] is O(1), but O(splices ahead) where there are some: a second reader at the same
///   place. A clone has closers of its own; a clone of a subscription that has been force-closed
///   is closed for the same reason.
/// * A reader that has been closed keeps nothing, and is no observer of the buffer any more.
/// * Reading what is ready does not allocate, and takes no lock unless it follows a splice.
///   Waiting takes one short lock, to join the tasks that wait for the same link. The first of them
///   registers a listener for all, which takes two small allocations and the locks of `event-listener`.
/// * The last reader to go over an item drops it. A panic of an event's drop reaches who reads.
/// * The stream ends with `None` after [`RecvError::Closed`], which it does not say, or after any
///   other error, which it says once.
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
    /// The producer's failure has been said.
    failed: bool,
    /// The stream has answered `None`, or an error, after which it will.
    terminated: bool,
    waits: Waits,
}

/// Whose registration the cursor has, if any: that of a `recv`, which ends when its future is dropped, or that
/// of the stream. There is one: a `recv` that is polled takes the place of the stream's.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Waits {
    #[default]
    AsStream,
    InRecv,
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
            waits: Waits::default(),
        }
    }

    /// Waits for the next item.
    ///
    /// Cancel safe: an item is taken only when the future completes. An item is given whole, even if a
    /// [`Chunk`] has given some of its events.
    ///
    /// # Errors
    ///
    /// [`RecvError::Closed`] once the buffer has ended and all of it was received;
    /// [`RecvError::Failed`] (once) where it ended with an error;
    /// [`RecvError::ForceClosed`] where a [`Closer`] closed this subscription.
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
    // Not an `async fn`, which would copy the answer: a third of reading what is ready, measured.
    pub fn recv(&mut self) -> impl Future<Output = Result<BufferItem<T>, RecvError>> {
        self.next_with(Self::try_recv)
    }

    /// The next item, if it is there. Never waits.
    ///
    /// O(1), does not allocate, and takes no lock unless it comes to a splice or to the end.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] where nothing is ready; the others as for [`recv`](Self::recv).
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
    /// Allocates a waker, also where an item is ready: for a backlog,
    /// [`try_recv`](Self::try_recv) comes cheaper.
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
    /// An item that is ready is received whatever the timeout. A timeout too long to be added to
    /// the present time is no limit. Allocates a waker.
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError::Timeout`] if none came; the others as for [`recv`](Self::recv).
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

    /// Waits until something is ready, then lends all that is: the events of every ready item,
    /// by reference, without a clone and without counting references.
    ///
    /// Cancel safe, like [`recv`](Self::recv), and an event that the [`Chunk`] has not given is
    /// not received. What was lent stays in memory until the next read, also after the chunk is
    /// gone.
    ///
    /// What is ready is lent in O(1), without an allocation.
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv).
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

    /// A handle that closes this subscription from outside. See [`Closer`].
    ///
    /// It works on a reader that is never polled again, too. The first call allocates what the two share. Every
    /// read, or every chunk, then costs two atomic instructions more; a subscription without closers pays nothing.
    ///
    /// Events are `Send + Sync + 'static` here, since a close may drop them on any thread.
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

    /// Returns `true` if nothing more will come, whatever is unread: the buffer has ended, with all
    /// that it continues in, or the subscription was closed from outside.
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

    /// How many items have been published that this subscription has not received, those behind
    /// splices included. O(1), or O(splices ahead), each of which takes a lock for a moment.
    ///
    /// An item counts from just before it can be read. Zero if the subscription was closed from outside.
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

    /// As [`lag`](Self::lag); `None` once it was closed.
    pub(crate) fn open_lag(&self) -> Option<u64> {
        self.reader.lag()
    }

    /// The place of the next item to be received. O(1).
    ///
    /// As long as it is held, it keeps that item and all after it.
    ///
    /// A subscription that was closed from outside has no place any more. The answer is then the end of an empty
    /// buffer that has failed with the reason: whoever subscribes there gets it as
    /// [`RecvError::Failed`]. That allocates.
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

    /// The place of the next item to be received, as one that keeps nothing alive: to go on there
    /// later, by [`EventBuffer::upgrade`](crate::EventBuffer::upgrade). O(1).
    ///
    /// A subscription that was closed from outside returns the place at which it was closed.
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
        Bookmark::new(self.reader.mark())
    }

    /// A new subscription that starts at the tail: it receives what is published from now on.
    ///
    /// O(1), or O(splices ahead), however much is ready. On a buffer that
    /// has ended the new subscription ends at once, and one that failed says so again. If this
    /// subscription has been force-closed the new one is closed for the same reason.
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

    /// What to report at the end of the buffer: a failure only once.
    #[cold]
    fn ended(&mut self, end: TryRecvError) -> TryRecvError {
        match end {
            TryRecvError::Failed(_) if mem::replace(&mut self.failed, true) => TryRecvError::Closed,
            end => end,
        }
    }

    /// Whether something can be read.
    fn check_ready(&mut self) -> Result<(), TryRecvError> {
        let ready = self.reader.read(|cursor, _| match cursor.read() {
            Read::Item => Ok(()),
            Read::Empty => Err(TryRecvError::Empty),
            Read::End(end) => Err(end.into()),
        });
        ready.map_err(|end| self.ended(end))
    }

    /// Shows the next event to `visit`, and counts it as received unless that panics.
    #[inline]
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

    /// Shows the first event of the next item to `look`, and leaves it there.
    #[cfg(feature = "publisher")]
    pub(crate) fn peek<R>(&mut self, look: impl FnOnce(&T) -> R) -> Result<R, TryRecvError> {
        let seen = self.reader.read(|cursor, _| match cursor.read() {
            Read::Item => {
                let slot = cursor.place_ref();
                let first = slot.events().first();
                first.map(look).ok_or(TryRecvError::Empty)
            }
            Read::Empty => Err(TryRecvError::Empty),
            Read::End(end) => Err(end.into()),
        });
        seen.map_err(|end| self.ended(end))
    }

    /// Shows the events of the next item that have not been received to `visit`, which returns how many it takes.
    /// Adds the number of items skipped before, which is to be reported, and says which item it was if more than one
    /// event of it was taken, or something is to be reported first.
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
                    // A limited reader keeps nothing that it has passed.
                    cursor.anchor_here();
                    Ok(())
                }
                Err(nothing) => {
                    *lost += mem::take(skipped);
                    // That is reported first; the end comes again.
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

    /// Counts the next event as received, if there is one; returns whether there was.
    pub(crate) fn skip_event(&mut self) -> bool {
        self.reader.read(|cursor, _| cursor.visit(|_| ())).is_ok()
    }

    /// The same, and adds the number of items that the limit skipped.
    pub(crate) fn skip_event_after(&mut self, lost: &mut u64) -> bool {
        let skipped = self.reader.read(|cursor, skipped| {
            *lost += mem::take(skipped);
            cursor.visit(|_| ())?;
            cursor.anchor_here();
            Ok(())
        });
        skipped.is_ok()
    }

    /// Limits how far it may be behind, and adds to the number of skipped items that is to be reported.
    pub(crate) fn set_limit(&mut self, limit: LagLimit<T>, skipped: u64) {
        self.reader.set_limit(limit, skipped);
    }

    /// Another reader at the same place, and the number of items that the limit has skipped before it.
    pub(crate) fn duplicate(&self) -> (Self, u64) {
        let (reader, skipped) = match self.reader.standing() {
            Ok(Standing {
                place,
                given,
                skipped,
            }) => (Reader::new(Cursor::at(place, given)), skipped),
            Err(shut) => (Reader::closed(shut), 0),
        };
        let failed = self.failed;
        let duplicate = Self {
            failed,
            ..Self::of(reader)
        };
        (duplicate, skipped)
    }

    /// Why a closer has closed it.
    pub(crate) fn closed_from_outside(&mut self) -> Option<SharedError> {
        self.reader.closed_from_outside()
    }

    /// Waits until `next` answers anything but [`TryRecvError::Empty`].
    pub(crate) fn next_with<R, F>(&mut self, next: F) -> Receiving<'_, T, F>
    where
        F: FnMut(&mut Self) -> Result<R, TryRecvError>,
    {
        Receiving { reader: self, next }
    }

    /// Advances the cursor; at the end of what is published, polls the link's listener and looks again.
    #[inline]
    fn poll_with<R>(
        &mut self,
        cx: &Context<'_>,
        mut next: impl FnMut(&mut Self) -> Result<R, TryRecvError>,
        waits: Waits,
    ) -> Poll<Result<R, RecvError>> {
        loop {
            // What is ready is returned inline, so that it is not copied; everything else is not.
            let nothing = match next(self) {
                Ok(received) => return Poll::Ready(Ok(received)),
                Err(nothing) => nothing,
            };
            self.waits = waits;
            if let Some(poll) = self.end_or_poll_link(cx, nothing) {
                return poll.map(Err);
            }
        }
    }

    /// What a poll returns when nothing was ready; `None` if something may be by now.
    #[inline(never)]
    pub(crate) fn end_or_poll_link(
        &mut self,
        cx: &Context<'_>,
        nothing: TryRecvError,
    ) -> Option<Poll<RecvError>> {
        if let Some(end) = nothing.into_end() {
            // What has lagged is reported once, and this may panic.
            if end.is_final() {
                self.reader.stop_waiting();
            }
            return Some(Poll::Ready(end));
        }
        let is_pending = self.reader.poll_link(cx.waker()).is_pending();
        is_pending.then_some(Poll::Pending)
    }

    /// `poll_next` for this and for `Cloned`: `next` answers what is ready.
    #[inline]
    pub(crate) fn poll_stream<R>(
        &mut self,
        cx: &Context<'_>,
        next: impl FnMut(&mut Self) -> Result<R, TryRecvError>,
    ) -> Poll<Option<Result<R, RecvError>>> {
        if self.terminated {
            return Poll::Ready(None);
        }
        let poll = self.poll_with(cx, next, Waits::AsStream);
        poll.map(|received| self.as_stream(received))
    }

    /// What the stream yields: it ends with `None` instead of [`RecvError::Closed`], and after any other final error.
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

impl<T> Position<T> {
    /// Starts reading here. O(1), or O(splices ahead); allocates nothing.
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    ///
    /// let mut buffer = EventBuffer::new();
    /// let here = buffer.tail();
    /// buffer.push("event");
    /// for _ in 0..2 {
    ///     assert_eq!(here.subscribe().try_recv()?.events(), ["event"]);
    /// }
    /// # Ok::<(), event_buffer::TryRecvError>(())
    /// ```
    pub fn subscribe(&self) -> Subscription<T> {
        Subscription::new(Cursor::new(self.0.clone()))
    }
}

impl<T> BufferItem<T> {
    /// Follows the buffer from this item, which is the first one received. O(1), or O(splices
    /// ahead).
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    ///
    /// let mut buffer = EventBuffer::new();
    /// buffer.push(1);
    /// let item = buffer.latest().unwrap();
    /// buffer.push(2);
    /// let mut reader = item.subscribe().cloned();
    /// assert_eq!((reader.try_recv(), reader.try_recv()), (Ok(1), Ok(2)));
    /// ```
    pub fn subscribe(&self) -> Subscription<T> {
        self.position().subscribe()
    }
}

/// Waits for `next` to find something.
pub(crate) struct Receiving<'a, T, F> {
    reader: &'a mut Subscription<T>,
    next: F,
}

impl<T, R, F> Future for Receiving<'_, T, F>
where
    F: FnMut(&mut Subscription<T>) -> Result<R, TryRecvError> + Unpin,
{
    type Output = Result<R, RecvError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { reader, next } = self.get_mut();
        reader.poll_with(cx, next, Waits::InRecv)
    }
}

impl<T, F> Drop for Receiving<'_, T, F> {
    /// Ends the registration of the task.
    #[inline]
    fn drop(&mut self) {
        if mem::take(&mut self.reader.waits) == Waits::InRecv {
            self.reader.reader.stop_waiting();
        }
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
