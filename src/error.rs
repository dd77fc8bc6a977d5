//! The errors of readers and writers.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

type BoxError = Box<dyn Error + Send + Sync>;

/// An error that many readers share.
///
/// It is a producer's failure, or the reason that a reader was closed for. Cloning it is cheap (one
/// reference count). Two are equal only if they are one and the same error.
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
// A thin pointer, so that the results of the `recv` family fit into two registers.
#[derive(Clone)]
pub struct SharedError(Arc<BoxError>);

impl SharedError {
    /// Shares an error. One that is shared already stays the same error, when a failure is passed
    /// from one buffer to the next.
    pub(crate) fn new(error: BoxError) -> Self {
        match error.downcast() {
            Ok(shared) => *shared,
            Err(error) => Self(Arc::new(error)),
        }
    }

    /// Returns the original error if it is an `E`.
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

    /// Returns the original error as a trait object.
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

/// Displays like the original error, and has the same [`source`](Error::source).
impl Error for SharedError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.get_ref().source()
    }
}

/// The reason that a read returned no event, for reads that wait and for streams.
///
/// [`Lagged`](Self::Lagged) is not final: keep reading. Every other variant [is](Self::is_final): a
/// loop that continues after it spins, since all further reads return at once. As a
/// [`Stream`](futures::Stream) a reader yields `Failed` or `ForceClosed` once and then `None`, and
/// ends with `None` instead of `Closed`. After `recv` has returned a final error, the stream ends
/// at once.
///
/// Its [`source`](Error::source) is the producer's error, or the reason that the reader was closed
/// for.
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
    /// The buffer ended cleanly, and everything in it was delivered. Final.
    Closed,
    /// The producer [failed](crate::EventBuffer::fail), after everything that was delivered. Final.
    ///
    /// Each reader and each clone of one reports it once, and [`Closed`](Self::Closed) after that.
    Failed(SharedError),
    /// The reader was [closed from outside](crate::Closer::close), for this reason. Final.
    ///
    /// Nothing that it had not received is delivered. Every read from then on reports it. A
    /// [limited](crate::Subscription::limited) reader that was closed for its lag reports it, too,
    /// with [`LagExceeded`](crate::LagExceeded) as the reason.
    ForceClosed(SharedError),
    /// A [limited](crate::Subscription::limited) reader exceeded its limit and skipped this many
    /// items.
    ///
    /// Reported once; reading continues with the item after them.
    Lagged(u64),
}

/// The reason that [`try_recv`](crate::Subscription::try_recv) returned no event.
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
    /// Nothing is ready at the moment.
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

/// The reason that [`recv_timeout`](crate::Subscription::recv_timeout) returned no event.
///
/// ```
/// use event_buffer::{EventBuffer, RecvTimeoutError};
/// use std::time::Duration;
///
/// let buffer = EventBuffer::<u8>::new();
/// let mut reader = buffer.subscribe();
/// let received = reader.recv_timeout(Duration::ZERO);
/// assert_eq!(received.unwrap_err(), RecvTimeoutError::Timeout);
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

impl RecvError {
    /// Returns `true` if the reader has ended: no read will ever deliver an event again.
    ///
    /// ```
    /// use event_buffer::{EventBuffer, LagLimit, RecvError};
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe().limited(LagLimit::items(1));
    /// buffer.extend([1, 2]);
    /// drop(buffer);
    /// let mut received = Vec::new();
    /// loop {
    ///     match reader.recv_blocking() {
    ///         Ok(event) => received.push(event),
    ///         Err(error) if error.is_final() => break,
    ///         Err(error) => assert_eq!(error, RecvError::Lagged(1)),
    ///     }
    /// }
    /// assert_eq!(received, [2]);
    /// ```
    pub fn is_final(&self) -> bool {
        match self {
            Self::Closed | Self::Failed(_) | Self::ForceClosed(_) => true,
            Self::Lagged(_) => false,
        }
    }
}

impl TryRecvError {
    /// Returns `true` if the reader has ended: no read will ever deliver an event again.
    ///
    /// [`Empty`](Self::Empty) and [`Lagged`](Self::Lagged) are not final.
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    ///
    /// let buffer = EventBuffer::<u8>::new();
    /// let mut reader = buffer.subscribe();
    /// assert!(!reader.try_recv().unwrap_err().is_final());
    /// drop(buffer);
    /// assert!(reader.try_recv().unwrap_err().is_final());
    /// ```
    pub fn is_final(&self) -> bool {
        match self {
            Self::Closed | Self::Failed(_) | Self::ForceClosed(_) => true,
            Self::Empty | Self::Lagged(_) => false,
        }
    }
}

impl RecvTimeoutError {
    /// Returns `true` if the reader has ended: no read will ever deliver an event again.
    ///
    /// [`Timeout`](Self::Timeout) and [`Lagged`](Self::Lagged) are not final.
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    /// use std::time::Duration;
    ///
    /// let buffer = EventBuffer::<u8>::new();
    /// let mut reader = buffer.subscribe();
    /// assert!(!reader.recv_timeout(Duration::ZERO).unwrap_err().is_final());
    /// drop(buffer);
    /// assert!(reader.recv_timeout(Duration::ZERO).unwrap_err().is_final());
    /// ```
    pub fn is_final(&self) -> bool {
        match self {
            Self::Closed | Self::Failed(_) | Self::ForceClosed(_) => true,
            Self::Timeout | Self::Lagged(_) => false,
        }
    }
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
    /// Converts this for a read that waits; `None` for [`Empty`](Self::Empty).
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

/// Implements `Display` and `Error` for the variants that all three types share, and one more.
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

/// The reason that [`subscribe_after`](crate::EventBuffer::subscribe_after) cannot continue.
///
/// ```
/// use event_buffer::{EventBuffer, Indexed, ResumeError};
///
/// struct Revision(u64);
/// impl Indexed for Revision {
///     fn index(&self) -> u64 { self.0 }
/// }
///
/// let mut buffer = EventBuffer::new(); // retains one item
/// buffer.extend([Revision(7), Revision(8)]);
/// let too_old = buffer.subscribe_after(6).unwrap_err();
/// assert_eq!(too_old, ResumeError::TooOld { index: 6, oldest: Some(8) });
/// let ahead = buffer.subscribe_after(9).unwrap_err();
/// assert_eq!(ahead, ResumeError::Ahead { index: 9, newest: Some(8) });
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResumeError {
    /// Events after the index may have left the replay window. Start anew from a snapshot.
    TooOld {
        /// The requested index.
        index: u64,
        /// The first index of the oldest retained item, if one is retained.
        oldest: Option<u64>,
    },
    /// The index is greater than that of every published event.
    ///
    /// It may come from before a restart, or from another buffer. A reader that continued there
    /// would miss every event up to it.
    Ahead {
        /// The requested index.
        index: u64,
        /// The last index of the newest item; `None` if nothing has been published.
        newest: Option<u64>,
    },
}

impl fmt::Display for ResumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooOld { index, oldest } => {
                write!(f, "events after index {index} may not be retained any more")?;
                match oldest {
                    Some(oldest) => write!(f, "; the oldest retained one has index {oldest}"),
                    None => f.write_str("; nothing is retained"),
                }
            }
            Self::Ahead { index, newest } => {
                write!(f, "index {index} is ahead of everything published")?;
                match newest {
                    Some(newest) => write!(f, "; the newest event has index {newest}"),
                    None => f.write_str("; nothing has been published"),
                }
            }
        }
    }
}

impl Error for ResumeError {}

/// The events that were not published because the [`SharedBuffer`](crate::SharedBuffer) has ended.
///
/// ```
/// use event_buffer::SharedBuffer;
///
/// let producer = SharedBuffer::new();
/// producer.close();
/// let ended = producer.append(["too", "late"]).unwrap_err();
/// assert_eq!(ended.events(), ["too", "late"]);
/// assert_eq!(ended.into_events(), ["too", "late"]);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Ended<T>(Vec<T>);

impl<T> Ended<T> {
    pub(crate) fn new(events: Vec<T>) -> Self {
        Self(events)
    }

    /// Returns the events that were not published, in their order, by reference.
    ///
    /// ```
    /// use event_buffer::SharedBuffer;
    ///
    /// let producer = SharedBuffer::new();
    /// producer.close();
    /// assert_eq!(producer.push(1).unwrap_err().events(), [1]);
    /// ```
    pub fn events(&self) -> &[T] {
        &self.0
    }

    /// Returns the events that were not published, in their order.
    ///
    /// ```
    /// use event_buffer::SharedBuffer;
    ///
    /// let producer = SharedBuffer::new();
    /// producer.close();
    /// assert_eq!(producer.extend([1, 2]).unwrap_err().into_events(), [1, 2]);
    /// ```
    pub fn into_events(self) -> Vec<T> {
        self.0
    }
}

/// Shows only the number of events, so that `T` need not be `Debug`.
impl<T> fmt::Debug for Ended<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ended")
            .field("len", &self.0.len())
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Display for Ended<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let events = self.0.len();
        write!(
            f,
            "the buffer has ended: {events} events were not published"
        )
    }
}

impl<T> Error for Ended<T> {}

/// The reason that a buffer did not [upgrade](crate::EventBuffer::upgrade) a
/// [`Bookmark`](crate::Bookmark).
///
/// ```
/// use event_buffer::{BookmarkError, EventBuffer};
///
/// let (buffer, other) = (EventBuffer::<u8>::new(), EventBuffer::new());
/// let upgraded = buffer.upgrade(&other.tail().bookmark());
/// assert_eq!(upgraded.unwrap_err(), BookmarkError::OtherBuffer);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BookmarkError {
    /// This many items after the bookmark are not retained any more.
    ///
    /// [`subscribe_from_start`](crate::EventBuffer::subscribe_from_start) begins right after them,
    /// unless they were in another buffer that was spliced to this one.
    Lost(u64),
    /// The bookmark is in another buffer, which was not spliced to this one.
    OtherBuffer,
}

impl fmt::Display for BookmarkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(items) => write!(f, "{items} items after the bookmark are lost"),
            Self::OtherBuffer => f.write_str("the bookmark is in another buffer"),
        }
    }
}

impl Error for BookmarkError {}

/// The failure of a buffer that was spliced to a place that leads back to itself.
///
/// The [`splice`](crate::EventBuffer::splice) was refused, since readers would go round for ever.
/// They receive this as [`RecvError::Failed`](crate::RecvError::Failed).
///
/// ```
/// use event_buffer::{EventBuffer, SpliceCycle, TryRecvError};
///
/// let buffer = EventBuffer::<u8>::new();
/// let mut reader = buffer.subscribe();
/// let itself = buffer.tail();
/// buffer.splice(itself);
/// let Err(TryRecvError::Failed(error)) = reader.try_recv() else { panic!() };
/// assert!(error.downcast_ref::<SpliceCycle>().is_some());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpliceCycle;

impl fmt::Display for SpliceCycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the buffer was spliced to a place that leads back to it")
    }
}

impl Error for SpliceCycle {}

/// The reason that a reader with [`OnLag::Close`](crate::OnLag::Close) was closed for.
///
/// ```
/// use event_buffer::{EventBuffer, LagExceeded, LagLimit, OnLag, TryRecvError};
///
/// let mut buffer = EventBuffer::new();
/// let limit = LagLimit::items(10).on_lag(OnLag::Close);
/// let mut reader = buffer.subscribe().limited(limit);
/// buffer.extend(0..1_000);
/// let Err(TryRecvError::ForceClosed(reason)) = reader.try_recv() else { panic!() };
/// assert_eq!(reason.downcast_ref::<LagExceeded>().map(|lag| lag.items), Some(1_000));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LagExceeded {
    /// The number of items that it had not received when its limit was enforced.
    pub items: u64,
}

impl fmt::Display for LagExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "too far behind: {} items not received", self.items)
    }
}

impl Error for LagExceeded {}

/// The failure of a shared stream that has panicked.
///
/// A [limited](crate::SharedLimited) follower receives it as
/// [`RecvError::Failed`](crate::RecvError::Failed).
///
/// ```
/// # futures::executor::block_on(async {
/// use event_buffer::{LagLimit, RecvError, Replay, ShareExt, SourcePanicked};
/// use futures::{StreamExt, stream};
///
/// # std::panic::set_hook(Box::new(|_| {}));
/// let source = stream::once(async { panic!("a bug") }).share(Replay::None);
/// let mut follower = source.subscribe().limited(LagLimit::<()>::items(10));
/// let Some(Err(RecvError::Failed(error))) = follower.next().await else { panic!() };
/// assert!(error.downcast_ref::<SourcePanicked>().is_some());
/// # });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourcePanicked;

impl fmt::Display for SourcePanicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the shared source panicked")
    }
}

impl Error for SourcePanicked {}
