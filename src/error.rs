//! Why reading ended, or found nothing.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

type BoxError = Box<dyn Error + Send + Sync>;

/// An error that many readers share: the one that a producer failed with, or the reason that a
/// subscription was closed for.
///
/// Cheap to clone (one reference count). Two are equal if they are the same error, not merely
/// alike.
///
/// ```
/// use event_buffer::{EventBuffer, RecvError};
///
/// let buffer = EventBuffer::<u8>::new();
/// let mut reader = buffer.subscribe();
/// buffer.fail(std::io::Error::other("disk gone"));
///
/// let Err(RecvError::Failed(error)) = reader.recv_blocking() else { panic!() };
/// assert_eq!(error.to_string(), "disk gone");
/// assert!(error.downcast_ref::<std::io::Error>().is_some());
/// ```
// A thin pointer: it keeps the answers of the `recv` family small enough for two registers.
#[derive(Clone)]
pub struct SharedError(Arc<BoxError>);

impl SharedError {
    pub(crate) fn new(error: BoxError) -> Self {
        Self(Arc::new(error))
    }

    /// The error as the type that was given, if it is an `E`.
    ///
    /// ```
    /// use event_buffer::{EventBuffer, TryRecvError};
    /// # #[derive(Debug)] struct Expelled { by: &'static str }
    /// # impl std::fmt::Display for Expelled {
    /// #     fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { Ok(()) }
    /// # }
    /// # impl std::error::Error for Expelled {}
    /// let buffer = EventBuffer::<u8>::new();
    /// let mut reader = buffer.subscribe();
    /// reader.closer().close(Expelled { by: "admin" });
    /// let Err(TryRecvError::ForceClosed(reason)) = reader.try_recv() else { panic!() };
    /// assert_eq!(reason.downcast_ref::<Expelled>().unwrap().by, "admin");
    /// assert!(reason.downcast_ref::<std::io::Error>().is_none());
    /// ```
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        self.0.downcast_ref()
    }

    /// The error that was given. `SharedError` itself is no [`Error`]: use this where one is asked
    /// for.
    ///
    /// ```
    /// use event_buffer::{EventBuffer, TryRecvError};
    ///
    /// let buffer = EventBuffer::<u8>::new();
    /// let mut reader = buffer.subscribe();
    /// buffer.fail("disk gone");
    /// let Err(TryRecvError::Failed(error)) = reader.try_recv() else { panic!() };
    /// let error: &dyn std::error::Error = error.get_ref();
    /// assert_eq!(error.to_string(), "disk gone");
    /// ```
    pub fn get_ref(&self) -> &(dyn Error + Send + Sync + 'static) {
        &**self.0
    }
}

impl PartialEq for SharedError {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for SharedError {}

impl fmt::Debug for SharedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for SharedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a read ended without an event. Answered by the `recv` family and the streams.
///
/// Its [`source`](Error::source) is the error or the reason that was given.
///
/// ```
/// use event_buffer::{EventBuffer, RecvError};
///
/// let buffer = EventBuffer::<u8>::new();
/// let mut reader = buffer.subscribe();
/// drop(buffer);
/// match reader.recv_blocking() {
///     Ok(item) => println!("{:?}", item.events()),
///     Err(RecvError::Closed) => println!("that was all"),
///     Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecvError {
    /// The buffer ended cleanly, and everything in it was delivered.
    Closed,
    /// The producer [failed](crate::EventBuffer::fail); everything before that was delivered.
    /// Said once to each reader; from then on it is [`Closed`](Self::Closed).
    Failed(SharedError),
    /// The subscription was [closed from outside](crate::Closer::close), for this reason.
    /// What it had not received yet is not delivered. Said by every call from then on.
    ///
    /// So it is where a [limited](crate::Subscription::limited) one was closed for its lag; the
    /// reason is [`LagExceeded`](crate::LagExceeded) then.
    ForceClosed(SharedError),
    /// A [limited](crate::Subscription::limited) reader was too far behind, and so many items were
    /// skipped. Said once; reading goes on with the item after them.
    Lagged(u64),
}

/// Why [`try_recv`](crate::Subscription::try_recv) answered no event.
///
/// ```
/// use event_buffer::{EventBuffer, TryRecvError};
///
/// let buffer = EventBuffer::<u8>::new();
/// let mut reader = buffer.subscribe();
/// assert_eq!(reader.try_recv().unwrap_err(), TryRecvError::Empty);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TryRecvError {
    /// Nothing is there at the moment.
    Empty,
    /// See [`RecvError::Closed`].
    Closed,
    /// See [`RecvError::Failed`].
    Failed(SharedError),
    /// See [`RecvError::ForceClosed`].
    ForceClosed(SharedError),
    /// See [`RecvError::Lagged`].
    Lagged(u64),
}

/// Why [`recv_timeout`](crate::Subscription::recv_timeout) answered no event.
///
/// ```
/// use event_buffer::{EventBuffer, RecvTimeoutError};
/// use std::time::Duration;
///
/// let buffer = EventBuffer::<u8>::new();
/// let mut reader = buffer.subscribe();
/// let answer = reader.recv_timeout(Duration::ZERO);
/// assert_eq!(answer.unwrap_err(), RecvTimeoutError::Timeout);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecvTimeoutError {
    /// Nothing came in time.
    Timeout,
    /// See [`RecvError::Closed`].
    Closed,
    /// See [`RecvError::Failed`].
    Failed(SharedError),
    /// See [`RecvError::ForceClosed`].
    ForceClosed(SharedError),
    /// See [`RecvError::Lagged`].
    Lagged(u64),
}

impl From<RecvError> for TryRecvError {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::Closed => Self::Closed,
            RecvError::Failed(error) => Self::Failed(error),
            RecvError::ForceClosed(reason) => Self::ForceClosed(reason),
            RecvError::Lagged(items) => Self::Lagged(items),
        }
    }
}

impl TryRecvError {
    /// The same for one who waits; `None` for [`Empty`](Self::Empty).
    pub(crate) fn into_end(self) -> Option<RecvError> {
        match self {
            Self::Empty => None,
            Self::Closed => Some(RecvError::Closed),
            Self::Failed(error) => Some(RecvError::Failed(error)),
            Self::ForceClosed(reason) => Some(RecvError::ForceClosed(reason)),
            Self::Lagged(items) => Some(RecvError::Lagged(items)),
        }
    }
}

impl From<RecvError> for RecvTimeoutError {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::Closed => Self::Closed,
            RecvError::Failed(error) => Self::Failed(error),
            RecvError::ForceClosed(reason) => Self::ForceClosed(reason),
            RecvError::Lagged(items) => Self::Lagged(items),
        }
    }
}

/// `Display` and `Error` for the variants that all three share and one more.
macro_rules! describe {
    ($error:ident $(, $variant:ident: $text:literal)?) => {
        impl fmt::Display for $error {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant => f.write_str($text),)?
                    Self::Closed => f.write_str("the event buffer has ended"),
                    Self::Failed(_) => f.write_str("the producer failed"),
                    Self::ForceClosed(_) => f.write_str("the subscription was closed from outside"),
                    Self::Lagged(items) => write!(f, "too far behind: skipped {items} items"),
                }
            }
        }

        impl Error for $error {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                match self {
                    Self::Failed(error) | Self::ForceClosed(error) => Some(error.get_ref()),
                    _ => None,
                }
            }
        }
    };
}

describe!(RecvError);
describe!(TryRecvError, Empty: "no event is ready");
describe!(RecvTimeoutError, Timeout: "no event came in time");
