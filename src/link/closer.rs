//! Closing a subscription from outside.

use std::error::Error;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use crate::error::SharedError;

/// Closes one [`Subscription`](crate::Subscription) from outside, from any thread.
///
/// It is created by [`Subscription::closer`](crate::Subscription::closer). Clones close the same
/// subscription. It keeps alive neither the subscription nor any item.
///
/// ```
/// use event_buffer::{EventBuffer, RecvError};
///
/// let mut buffer = EventBuffer::new();
/// let mut reader = buffer.subscribe();
/// let closer = reader.closer();
/// buffer.push("secret");
/// closer.close("access changed");
///
/// // Not the item: it was not delivered before the close.
/// let Err(RecvError::ForceClosed(reason)) = reader.recv_blocking() else { panic!() };
/// assert_eq!(reason.to_string(), "access changed");
/// ```
#[derive(Clone)]
pub struct Closer(Arc<dyn Closable>);

/// A reader that can be closed.
pub(crate) trait Closable: Send + Sync {
    /// Closes the reader, unless a closer has closed it before. It delivers no more from now on.
    ///
    /// Runs no user code: dropping what is returned does.
    fn close(self: Arc<Self>, reason: SharedError) -> Option<Closed>;

    fn is_closed(&self) -> bool;
}

/// The place of a reader that has been closed.
///
/// Dropping it wakes the reader's task, and frees what only the reader kept.
#[must_use]
pub(crate) struct Closed(
    #[expect(dead_code, reason = "it is only dropped")] pub(crate) Option<Box<dyn Send>>,
);

impl Closer {
    pub(crate) fn new(reader: Arc<dyn Closable>) -> Self {
        Self(reader)
    }

    /// Closes the subscription, wakes its task, and frees what only this subscription kept.
    ///
    /// The memory is freed at once, even if the subscription is never polled again. Nothing that it
    /// has not received yet is delivered: from now on, every read returns
    /// [`RecvError::ForceClosed`](crate::RecvError::ForceClosed) with this reason.
    ///
    /// The reason is any error, kept as it is ([`downcast_ref`](SharedError::downcast_ref)), or a
    /// text. The first one sticks. Returns `true` if no closer had closed this reader before, even
    /// if the reader was dropped, has ended, or was closed for its lag. A reader that has reported
    /// [`LagExceeded`](crate::LagExceeded) keeps that reason; any other reports this one from now
    /// on.
    ///
    /// **It never waits for the reader.** A reader in the middle of a read, or of the `clone` of an
    /// event, frees what it kept when the read returns. A reader that has lent a
    /// [`Chunk`](crate::Chunk) does so when it is read again or dropped.
    ///
    /// **What the reader has handed out stays valid.** A [`BufferItem`](crate::BufferItem), a
    /// [`Position`](crate::Position) or a chunk keeps everything after it alive, and can follow the
    /// buffer. Do not leave those to a client that you may have to close.
    ///
    /// # Panics
    ///
    /// If the reader's waker or the drop of an event panics. The reader is closed by then.
    ///
    /// # Cost
    ///
    /// O(1), besides dropping what is freed. Takes a lock for a moment.
    ///
    /// ```
    /// use event_buffer::{EventBuffer, Replay};
    /// use std::sync::Arc;
    ///
    /// let mut buffer = EventBuffer::builder().replay(Replay::None).build();
    /// let stalled = buffer.subscribe();
    /// let event = Arc::new([0_u8; 1_000]);
    /// buffer.push(event.clone());
    /// assert!(stalled.closer().close("too slow"));
    /// assert_eq!(Arc::strong_count(&event), 1); // `stalled` keeps nothing any more
    /// assert!(!stalled.closer().close("again"));
    /// ```
    pub fn close(&self, reason: impl Into<Box<dyn Error + Send + Sync>>) -> bool {
        self.close_deferred(reason).is_some()
    }

    /// Closes the subscription like [`close`](Self::close), and returns what runs user code when
    /// dropped.
    ///
    /// Returns `None` if a closer has closed it before.
    pub(crate) fn close_deferred(
        &self,
        reason: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Option<Closed> {
        Arc::clone(&self.0).close(SharedError::new(reason.into()))
    }

    /// Returns `true` once a closer, this or another one, has closed the reader.
    ///
    /// A close for its lag does not count.
    ///
    /// # Cost
    ///
    /// O(1). Takes a lock for a moment.
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    ///
    /// let buffer = EventBuffer::<u8>::new();
    /// let reader = buffer.subscribe();
    /// let (closer, other) = (reader.closer(), reader.closer());
    /// assert!(!closer.is_closed());
    /// other.close("enough");
    /// assert!(closer.is_closed());
    /// ```
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

impl fmt::Debug for Closer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closer")
            .field("is_closed", &self.is_closed())
            .finish()
    }
}

impl UnwindSafe for Closer {}
impl RefUnwindSafe for Closer {}
