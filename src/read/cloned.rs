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
/// Made by [`Subscription::cloned`]. Its methods do what those of [`Subscription`] do, for single
/// events. In the middle of a backlog it may keep up to 32 received items alive; where it has
/// caught up it keeps none, but for the item of which it has not given all events yet.
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
    /// A stream of single events, cloned out of the items. O(1).
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

    /// The reader of items that it is made of.
    pub(crate) fn into_items(self) -> Subscription<T> {
        self.items
    }

    /// Waits for the next event.
    ///
    /// Cancel safe: an event is taken only when the future completes.
    ///
    /// # Errors
    ///
    /// As for [`Subscription::recv`].
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

    /// The next event, if it is there. Never waits. If `T`'s clone panics the event has not been
    /// received: the next read clones it again, or [`skip_event`](Self::skip_event) leaves it out.
    ///
    /// O(1) and one clone. Takes no lock unless it comes to a splice or to the end.
    ///
    /// # Errors
    ///
    /// As for [`Subscription::try_recv`].
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
        Self::next_event(&mut self.items)
    }

    #[inline]
    fn next_event(items: &mut Subscription<T>) -> Result<T, TryRecvError> {
        items.visit(T::clone)
    }

    /// Skips the next event, if it is there, without cloning it: for one whose `clone` panics each time, which
    /// would otherwise hold up the reader for ever and keep everything after it. Never waits. O(1).
    ///
    /// Returns `false` if nothing is ready or the reader has ended. (Not called `skip`, which is `StreamExt`'s.)
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

    /// Waits for the next event, blocking the thread. Not for use in async code. Allocates a
    /// waker, as [`Subscription::recv_blocking`] does.
    ///
    /// # Errors
    ///
    /// As for [`Subscription::recv`].
    ///
    /// # Panics
    ///
    /// On `wasm32-unknown-unknown`, which has no threads, if nothing is ready: it would block for ever.
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

    /// Waits for the next event, blocking the thread for at most `timeout`. An event that is ready
    /// is received whatever the timeout. Allocates a waker.
    ///
    /// # Errors
    ///
    /// As for [`Subscription::recv_timeout`].
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

    /// A handle that closes this reader from outside. See [`Closer`]. The rest of an item of which
    /// some events were given is not delivered any more either.
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

    /// How many items have not been received completely: items, not events. See
    /// [`Subscription::lag`].
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

    /// Returns `true` if nothing more will come, whatever is unread: see
    /// [`Subscription::is_closed`].
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

    /// The place of the next item to be received, or of the one of which events are still to come:
    /// see [`Subscription::position`].
    ///
    /// Who subscribes there receives that item whole.
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

    /// The place of the next item, to go on there later: [`Subscription::bookmark`]. An item of which
    /// only some events were given is read again from its first.
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

    /// A new reader that starts at the tail: [`Subscription::resubscribe`].
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
