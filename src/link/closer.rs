//! Closing a subscription from outside.

use std::error::Error;
use std::fmt;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use super::registration::{Awaited, Host, Registration};
use super::signal::Signal;
use super::waiters::Waiters;
use crate::error::SharedError;
use crate::sync::AtomicBool;
use crate::unwind::for_each_even_if_one_panics;

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
struct Closing {
    /// The first reason sticks.
    reason: OnceLock<SharedError>,
    /// The reason is set.
    closed: AtomicBool,
    signal: Signal,
    /// For a reader whose task waited already when the first closer was made, and so does not wait for the signal
    /// yet.
    waits_already: Option<TakeWaker>,
}

/// Takes the waker of a task that waits for a reader's next item. It does nothing if the task has been woken.
pub(crate) type TakeWaker = Box<dyn Fn() -> Waker + Send + Sync>;

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
        let Some(wakers) = self.close_deferred(reason) else {
            return false;
        };
        for_each_even_if_one_panics(wakers.into_iter(), Waker::wake);
        true
    }

    /// Closes the subscription like [`close`](Self::close), and leaves it to the caller to wake its reader. `None` if
    /// it was closed already.
    pub(crate) fn close_deferred(
        &self,
        reason: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Option<Vec<Waker>> {
        let Closing {
            reason: known,
            closed,
            signal,
            waits_already,
        } = &*self.0;
        known.set(SharedError::new(reason.into())).ok()?;
        // Release: publishes the reason; pairs with the Acquire in `is_closed`.
        closed.store(true, Release);
        let mut wakers = signal.take();
        if wakers.is_empty() {
            wakers.extend(waits_already.iter().map(|take_waker| take_waker()));
        }
        Some(wakers)
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

impl Host for Arc<Closing> {
    fn with(&self, f: impl FnOnce(&Waiters)) {
        f(self.signal.waiters());
    }
}

/// A reader's side of its closers, made by the first of them.
#[derive(Default)]
pub(crate) struct ClosingSlot(OnceLock<Box<Closable>>);

struct Closable {
    shared: Arc<Closing>,
    /// Of the reader's task, with the signal.
    registration: Option<Registration<Arc<Closing>>>,
}

impl Closable {
    fn new(closed_for: Option<SharedError>, waits_already: Option<TakeWaker>) -> Self {
        let closed = AtomicBool::new(closed_for.is_some());
        let shared = Arc::new(Closing {
            reason: closed_for.map(OnceLock::from).unwrap_or_default(),
            closed,
            signal: Signal::default(),
            waits_already,
        });
        let registration = None;
        Self {
            shared,
            registration,
        }
    }
}

impl ClosingSlot {
    /// Of a reader that is closed from the start.
    pub(crate) fn closed(reason: SharedError) -> Self {
        Self(OnceLock::from(Box::new(Closable::new(Some(reason), None))))
    }

    /// Why the reader was closed, if it was.
    #[inline]
    pub(crate) fn reason(&self) -> Option<&SharedError> {
        self.0.get()?.shared.reason()
    }

    /// Another closer. The first one asks whether the reader's task waits already.
    pub(crate) fn closer(&self, waits_already: impl FnOnce() -> Option<TakeWaker>) -> Closer {
        let closable = self
            .0
            .get_or_init(|| Box::new(Closable::new(None, waits_already())));
        Closer(Arc::clone(&closable.shared))
    }

    /// Whether the reader is closed. If not, the task is woken when it is.
    #[inline]
    pub(crate) fn is_closed_or_wait(&mut self, waker: &Waker) -> bool {
        match self.0.get_mut() {
            None => false,
            Some(closable) => closable.is_closed_or_wait(waker),
        }
    }
}

impl Closable {
    fn is_closed_or_wait(&mut self, waker: &Waker) -> bool {
        let Self {
            shared,
            registration,
        } = self;
        let closed = shared.signal.when(|| shared.is_closed());
        let mut poll = || Registration::poll(registration, &closed, || Arc::clone(shared), waker);
        closed.has_happened() || poll().is_ready()
    }
}
