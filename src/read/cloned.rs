//! A reader of single events.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::{FusedStream, Stream};

use crate::error::{RecvError, RecvTimeoutError, TryRecvError};
use crate::link::{Closer, recv_blocking, recv_timeout};
use crate::read::bookmark::Bookmark;
use crate::read::iter::Iter;
use crate::read::position::Position;
use crate::read::subscription::Subscription;

/// A reader of single events, cloned out of the items: a [`Stream`] of `T`s.
///
/// Made by [`Subscription::cloned`]. Its methods do for single events what those of
/// [`Subscription`] do for items. In the middle of a backlog it may keep up to 32 received items in
/// memory. Once it has caught up it keeps none, except an item that it has delivered in part.
///
/// ```
/// use event_buffer::EventBuffer;
///
/// let mut buffer = EventBuffer::new();
/// let mut reader = buffer.subscribe().cloned();
/// buffer.append([1, 2]);
/// assert_eq!(reader.try_recv(), Ok(1));
/// assert_eq!(reader.try_recv(), Ok(2));
/// ```
pub struct Cloned<T> {
    items: Subscription<T>,
}

impl<T> Subscription<T> {
    /// Converts this to a reader of single events, cloned out of the items. O(1).
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::EventBuffer;
    /// use futures::TryStreamExt;
    ///
    /// let mut buffer = EventBuffer::new();
    /// let reader = buffer.subscribe().cloned();
    /// buffer.append([1, 2]);
    /// buffer.push(3);
    /// drop(buffer);
    /// assert_eq!(reader.try_collect::<Vec<_>>().await?, [1, 2, 3]);
    /// # Ok::<(), event_buffer::RecvError>(()) }).unwrap();
    /// ```
    pub fn cloned(self) -> Cloned<T>
    where
        T: Clone,
    {
        Cloned::new(self)
    }
}

impl<T: Clone> Cloned<T> {
    pub(crate) fn new(items: Subscription<T>) -> Self {
        Self { items }
    }

    /// Returns the reader of items that this wraps.
    pub(crate) fn into_items(self) -> Subscription<T> {
        self.items
    }

    /// Waits for the next event.
    ///
    /// # Errors
    ///
    /// The same as those of [`Subscription::recv`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: an event is taken only when the future completes.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::EventBuffer;
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe().cloned();
    /// buffer.append(["hello", "world"]);
    /// assert_eq!(reader.recv().await?, "hello");
    /// assert_eq!(reader.recv().await?, "world");
    /// # Ok::<(), event_buffer::RecvError>(()) }).unwrap();
    /// ```
    pub fn recv(&mut self) -> impl Future<Output = Result<T, RecvError>> {
        self.items.next_with(Self::next_event)
    }

    /// Returns the next event if one is ready. Never waits.
    ///
    /// # Errors
    ///
    /// The same as those of [`Subscription::try_recv`].
    ///
    /// # Panics
    ///
    /// If `T`'s clone does. The event has not been received then: the next read clones it again,
    /// and [`skip_event`](Self::skip_event) leaves it out.
    ///
    /// # Cost
    ///
    /// O(1) and one clone. Takes a lock only at a splice and at the end.
    ///
    /// ```
    /// use event_buffer::{EventBuffer, TryRecvError};
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe().cloned();
    /// buffer.extend([1, 2]);
    /// let mut sum = 0;
    /// while let Ok(n) = reader.try_recv() {
    ///     sum += n;
    /// }
    /// assert_eq!(sum, 3);
    /// ```
    #[inline]
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        self.items.visit(T::clone)
    }

    /// For polls. Inlined, it could make a poll too large to be inlined where the future is
    /// awaited, and the event would go through memory twice.
    #[inline(never)]
    fn next_event(items: &mut Subscription<T>) -> Result<T, TryRecvError> {
        items.visit(T::clone)
    }

    /// Skips the next event without cloning it, if one is ready. Never waits. O(1).
    ///
    /// An event whose `clone` panics each time would otherwise stop the reader for ever, and keep
    /// everything after it in memory. Returns `false` if nothing is ready or the reader has ended.
    /// (It is not named `skip` because `StreamExt` has a method of that name.)
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    /// use std::panic::catch_unwind;
    ///
    /// #[derive(Debug, PartialEq)]
    /// struct Fragile(u32);
    /// impl Clone for Fragile {
    ///     fn clone(&self) -> Self {
    ///         assert!(self.0 != 13, "no clone of this one");
    ///         Self(self.0)
    ///     }
    /// }
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe().cloned();
    /// buffer.append([13, 14].map(Fragile));
    /// # let hook = std::panic::take_hook(); std::panic::set_hook(Box::new(|_| ()));
    /// catch_unwind(std::panic::AssertUnwindSafe(|| reader.try_recv())).unwrap_err();
    /// # std::panic::set_hook(hook);
    /// assert!(reader.skip_event());
    /// assert_eq!(reader.try_recv(), Ok(Fragile(14)));
    /// assert!(!reader.skip_event());
    /// ```
    pub fn skip_event(&mut self) -> bool {
        self.items.skip_event()
    }

    /// Waits for the next event, blocking the thread. Not for use in async code.
    ///
    /// # Errors
    ///
    /// The same as those of [`Subscription::recv`].
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
    /// use event_buffer::{EventBuffer, RecvError};
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe().cloned();
    /// let writer = std::thread::spawn(move || buffer.push("from a thread"));
    /// assert_eq!(reader.recv_blocking()?, "from a thread");
    /// writer.join().unwrap(); // The writer is gone with its thread.
    /// assert_eq!(reader.recv_blocking(), Err(RecvError::Closed));
    /// # Ok::<(), RecvError>(())
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
    /// The same as those of [`Subscription::recv_timeout`].
    ///
    /// # Cost
    ///
    /// Allocates a waker, even if an event is ready.
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    /// use std::time::Duration;
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe().cloned();
    /// buffer.push(1);
    /// assert_eq!(reader.recv_timeout(Duration::ZERO), Ok(1));
    /// ```
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        recv_timeout(self.recv(), timeout)
    }

    /// Returns a handle that closes this reader from outside: see [`Closer`].
    ///
    /// A close also discards the remaining events of an item that was delivered in part.
    ///
    /// ```
    /// use event_buffer::{EventBuffer, TryRecvError};
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe().cloned();
    /// buffer.append([1, 2]);
    /// assert_eq!(reader.try_recv(), Ok(1));
    /// reader.closer().close("enough");
    /// assert!(matches!(reader.try_recv(), Err(TryRecvError::ForceClosed(_))));
    /// ```
    pub fn closer(&self) -> Closer
    where
        T: Send + Sync + 'static,
    {
        self.items.closer()
    }

    /// Returns the number of items (not events) that have not been received completely.
    ///
    /// See [`Subscription::lag`].
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe().cloned();
    /// buffer.append([1, 2]);
    /// reader.try_recv()?;
    /// assert_eq!(reader.lag(), 1);
    /// reader.try_recv()?;
    /// assert_eq!(reader.lag(), 0);
    /// # Ok::<(), event_buffer::TryRecvError>(())
    /// ```
    pub fn lag(&self) -> u64 {
        self.items.lag()
    }

    /// Returns `true` if nothing will be published after what is unread.
    ///
    /// See [`Subscription::is_closed`].
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    ///
    /// let buffer = EventBuffer::<u8>::new();
    /// let reader = buffer.subscribe().cloned();
    /// assert!(!reader.is_closed());
    /// drop(buffer);
    /// assert!(reader.is_closed());
    /// ```
    pub fn is_closed(&self) -> bool {
        self.items.is_closed()
    }

    /// Returns a blocking iterator over the events: see [`Iter`].
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe().cloned();
    /// buffer.append(["two", "events"]);
    /// buffer.close();
    /// let events: Vec<_> = reader.iter().collect::<Result<_, _>>()?;
    /// assert_eq!(events, ["two", "events"]);
    /// # Ok::<(), event_buffer::RecvError>(())
    /// ```
    pub fn iter(&mut self) -> Iter<'_, Self> {
        Iter::new(self)
    }

    /// Returns the place of the next item, or of the one that was delivered in part.
    ///
    /// A reader that subscribes there receives that item whole. See [`Subscription::position`].
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe().cloned();
    /// buffer.append([1, 2]);
    /// assert_eq!(reader.try_recv()?, 1);
    /// let mut again = reader.position().subscribe().cloned();
    /// assert_eq!(again.try_recv()?, 1);
    /// # Ok::<(), event_buffer::TryRecvError>(())
    /// ```
    pub fn position(&self) -> Position<T> {
        self.items.position()
    }

    /// Returns a weak place of the next item: see [`Subscription::bookmark`].
    ///
    /// An item that was delivered in part is read again from its first event.
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe().cloned();
    /// buffer.push(1);
    /// reader.try_recv()?;
    /// let bookmark = reader.bookmark();
    /// drop(reader);
    /// buffer.push(2);
    /// let mut reader = buffer.upgrade(&bookmark).unwrap().cloned();
    /// assert_eq!(reader.try_recv()?, 2);
    /// # Ok::<(), event_buffer::TryRecvError>(())
    /// ```
    pub fn bookmark(&self) -> Bookmark<T> {
        self.items.bookmark()
    }

    /// Returns a new reader that starts at the tail: see [`Subscription::resubscribe`].
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    ///
    /// let mut buffer = EventBuffer::new();
    /// let reader = buffer.subscribe().cloned();
    /// buffer.push(1);
    /// let mut late = reader.resubscribe();
    /// buffer.push(2);
    /// assert_eq!(late.try_recv(), Ok(2));
    /// ```
    #[must_use]
    pub fn resubscribe(&self) -> Self {
        self.items.resubscribe().cloned()
    }
}

impl<T: Clone> Stream for Cloned<T> {
    type Item = Result<T, RecvError>;

    #[inline]
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().items.poll_stream(cx, Self::next_event)
    }
}

impl<T: Clone> FusedStream for Cloned<T> {
    fn is_terminated(&self) -> bool {
        self.items.is_terminated()
    }
}

impl<T> Clone for Cloned<T> {
    fn clone(&self) -> Self {
        Self {
            items: self.items.clone(),
        }
    }
}

impl<T> fmt::Debug for Cloned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cloned").field(&self.items).finish()
    }
}

impl<T: RefUnwindSafe> UnwindSafe for Cloned<T> {}
impl<T: RefUnwindSafe> RefUnwindSafe for Cloned<T> {}
