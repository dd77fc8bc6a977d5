//! Closing a subscription from outside.

use std::error::Error;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, OnceLock, Weak};
use std::task::Waker;

use super::waiters::{Ticket, Waiters};
use crate::error::SharedError;
use crate::sync::{AtomicBool, Mutex};

/// Closes one [`Subscription`](crate::Subscription) from outside, from any thread.
///
/// Made by [`Subscription::closer`](crate::Subscription::closer). It keeps neither the
/// subscription nor any item alive. Clones close the same subscription.
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
pub struct Closer(Arc<Closing>);

/// What a subscription and its closers share.
///
/// A close wakes the reader's task by way of the link that it waits for, where it has one waker: so it is woken
/// once, whether the close, the writer, or both have reason to wake it.
#[derive(Default)]
struct Closing {
    /// The first reason sticks.
    reason: OnceLock<SharedError>,
    /// The reason is set.
    closed: AtomicBool,
    /// Where the reader's task waits, or has waited last.
    waits_at: Mutex<Option<WaitsAt>>,
}

/// A task's place among those that wait for a link. Keeps nothing alive but memory of the buffer's record.
pub(crate) struct WaitsAt {
    pub(crate) record: Weak<dyn HasWaiters>,
    pub(crate) ticket: Ticket,
}

pub(crate) trait HasWaiters: Send + Sync {
    fn waiters(&self) -> &Waiters;
}

impl WaitsAt {
    /// Takes the task's waker; `None` if the buffer is gone, a waker that does nothing if the task was woken.
    fn take_waker(&self) -> Option<Waker> {
        let record = self.record.upgrade()?;
        Some(record.waiters().take_waker(self.ticket))
    }
}

impl Closer {
    /// Closes the subscription and wakes its reader at once. Nothing that it has not received
    /// yet is delivered: every read answers
    /// [`RecvError::ForceClosed`](crate::RecvError::ForceClosed) with this reason from now on.
    ///
    /// The reason is any error, kept as it is ([`downcast_ref`](SharedError::downcast_ref)), or
    /// a text. The first one sticks. Returns `true` if no closer had closed this reader before, even if the reader was
    /// dropped, has ended or was closed for its lag. A reader that has reported
    /// [`LagExceeded`](crate::LagExceeded) keeps that reason; any other reports this one from now on.
    ///
    /// What the subscription keeps in memory is freed when it is dropped, which its task does once it wakes and sees the
    /// error. A [`Chunk`](crate::Chunk) that has been lent goes on, and an item or a position that was received before
    /// can still follow the buffer: do not give those to a client that you may have to close.
    ///
    /// O(1); waits for no reader.
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    ///
    /// let buffer = EventBuffer::<u8>::new();
    /// let reader = buffer.subscribe();
    /// assert!(reader.closer().close("first"));
    /// assert!(!reader.closer().close("second"));
    /// ```
    pub fn close(&self, reason: impl Into<Box<dyn Error + Send + Sync>>) -> bool {
        let waker = self.close_deferred(reason);
        let closed = waker.is_some();
        waker.into_iter().for_each(Waker::wake);
        closed
    }

    /// Closes the subscription like [`close`](Self::close), and leaves it to the caller to wake its reader. `None` if
    /// it was closed already.
    pub(crate) fn close_deferred(
        &self,
        reason: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Option<Waker> {
        let Closing {
            reason: known,
            closed,
            waits_at,
        } = &*self.0;
        known.set(SharedError::new(reason.into())).ok()?;
        // Release: publishes the reason; pairs with the Acquire in `is_closed`.
        closed.store(true, Release);
        // After that: a reader that says later where it waits finds itself closed.
        let waits_at = waits_at.lock().take();
        let waker = waits_at.and_then(|waits_at| waits_at.take_waker());
        Some(waker.unwrap_or_else(|| Waker::noop().clone()))
    }

    /// Returns `true` once a closer, this or another one, has closed the reader. One that was closed for its lag does
    /// not count. O(1).
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
            .field("reason", &self.0.reason.get())
            .finish()
    }
}

impl Closing {
    fn is_closed(&self) -> bool {
        // Acquire: pairs with the Release in `close_silently`.
        self.closed.load(Acquire)
    }

    fn reason(&self) -> Option<&SharedError> {
        self.is_closed().then(|| self.reason.get()).flatten()
    }
}

/// A reader's share of it, made by the first closer.
#[derive(Default)]
pub(crate) struct ClosingSlot(OnceLock<Arc<Closing>>);

impl ClosingSlot {
    /// Of a reader that is closed from the start.
    pub(crate) fn closed(reason: SharedError) -> Self {
        Self(OnceLock::from(Arc::new(Closing {
            reason: OnceLock::from(reason),
            closed: AtomicBool::new(true),
            ..Closing::default()
        })))
    }

    /// Why the reader was closed, if it was.
    #[inline]
    pub(crate) fn reason(&self) -> Option<&SharedError> {
        self.0.get()?.reason()
    }

    /// Another closer. The first one asks where the reader waits already, if it does.
    pub(crate) fn closer(&self, waits_at: impl FnOnce() -> Option<WaitsAt>) -> Closer {
        let closing = self.0.get_or_init(|| {
            Arc::new(Closing {
                waits_at: Mutex::new(waits_at()),
                ..Closing::default()
            })
        });
        Closer(Arc::clone(closing))
    }

    /// Whether the reader is closed. If not, a close wakes the task that waits there.
    #[inline]
    pub(crate) fn is_closed_or_waits(&self, waits_at: impl FnOnce() -> Option<WaitsAt>) -> bool {
        let Some(closing) = self.0.get() else {
            return false;
        };
        let waits_at = waits_at();
        *closing.waits_at.lock() = waits_at;
        // Again: it may have been closed before the closer could know where the reader waits.
        closing.is_closed()
    }
}

impl Drop for ClosingSlot {
    /// A closer may outlive the reader by far.
    fn drop(&mut self) {
        if let Some(closing) = self.0.get() {
            *closing.waits_at.lock() = None;
        }
    }
}

impl UnwindSafe for Closer {}
impl RefUnwindSafe for Closer {}
