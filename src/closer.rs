//! Closing a subscription from outside.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use crate::error::SharedError;
use crate::sync::Mutex;

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
#[derive(Default)]
pub(crate) struct Closing {
    reason: OnceLock<SharedError>,
    /// Of the task that waits. Replaced, woken and dropped outside of the lock.
    waker: Mutex<Option<Waker>>,
}

impl Closer {
    /// Closes the subscription and wakes its reader at once. Nothing that it has not received
    /// yet is delivered: every read answers
    /// [`RecvError::ForceClosed`](crate::RecvError::ForceClosed) with this reason from now on.
    ///
    /// The reason is any error, kept as it is ([`downcast_ref`](SharedError::downcast_ref)), or
    /// a text. The first one sticks: the answer says whether this call closed the subscription.
    ///
    /// What the subscription keeps in memory goes when it is dropped, not here: it is its task, now
    /// awake, that sees the end and drops it. A [`Chunk`](crate::Chunk) that has been lent goes on, and
    /// from an item or a position that the reader was given before it can still follow the buffer: do not
    /// hand those to whom you may want to close out.
    ///
    /// O(1); waits for no reader and takes none of the buffer's locks.
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
        let closed = self.0.close(reason.into());
        if closed {
            self.0.take_waker().into_iter().for_each(Waker::wake);
        }
        closed
    }

    /// As [`close`](Self::close), but leaves waking its reader to the caller.
    #[cfg(feature = "publisher")]
    pub(crate) fn close_deferred(
        &self,
        reason: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Option<Waker> {
        let closed = self.0.close(reason.into());
        closed.then(|| self.0.take_waker()).flatten()
    }

    /// Whether the subscription was closed by a closer, this or another one. O(1).
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
        self.0.reason.get().is_some()
    }
}

impl fmt::Debug for Closer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closer")
            .field("reason", &self.0.reason.get())
            .finish()
    }
}

/// A subscription's share of it, made by the first closer.
#[derive(Default)]
pub(crate) struct ClosingSlot(OnceLock<Arc<Closing>>);

impl ClosingSlot {
    pub(crate) fn closed(reason: SharedError) -> Self {
        Self(OnceLock::from(Arc::new(Closing::closed(reason))))
    }

    #[inline]
    pub(crate) fn get(&self) -> Option<&Closing> {
        self.0.get().map(|closing| &**closing)
    }

    /// Another closer. `wake` is for the reader's task: if it waits already, it does not wait for a close
    /// yet.
    pub(crate) fn closer(&self, wake: impl FnOnce()) -> Closer {
        let first = self.get().is_none();
        let closing = Arc::clone(self.0.get_or_init(Arc::default));
        if first {
            wake();
        }
        Closer(closing)
    }
}

impl Drop for ClosingSlot {
    /// A closer outlives the subscription, but does not keep its task.
    fn drop(&mut self) {
        if let Some(closing) = self.get() {
            let waker = closing.waker.lock().take();
            drop(waker);
        }
    }
}

impl Closing {
    pub(crate) fn closed(reason: SharedError) -> Self {
        Self {
            reason: OnceLock::from(reason),
            waker: Mutex::default(),
        }
    }

    /// Whether it had not been closed before.
    fn close(&self, reason: Box<dyn Error + Send + Sync>) -> bool {
        self.reason.set(SharedError::new(reason)).is_ok()
    }

    fn take_waker(&self) -> Option<Waker> {
        self.waker.lock().take()
    }

    pub(crate) fn reason(&self) -> Option<&SharedError> {
        self.reason.get()
    }

    /// Whether it is closed; if not, `waker` is woken when it is.
    pub(crate) fn is_closed(&self, waker: &Waker) -> bool {
        if self.reason.get().is_none() {
            self.register(waker);
        }
        // Again: `close` sets the reason before it takes the waker.
        self.reason.get().is_some()
    }

    fn register(&self, waker: &Waker) {
        let known = self.waker.lock();
        if known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            return;
        }
        drop(known);
        // Either may panic, which leaves the one waker or the other in its place.
        let waker = waker.clone();
        let replaced = self.waker.lock().replace(waker);
        drop(replaced);
    }
}
