//! Errors of publishing and watching, and the reasons to close or reset a watch.

use std::error::Error;
use std::fmt;

use crate::error::{RecvError, SharedError};

/// Any error: what a snapshot handler returns if it fails.
///
/// A handler that only uses `?` rarely has to name this type.
///
/// ```
/// use event_buffer::publisher::{BoxError, Publisher, SnapshotAppender};
///
/// async fn load(key: &'static str, snapshot: SnapshotAppender<u32>) -> Result<u64, BoxError> {
///     snapshot.push(key.parse()?)?;
///     Ok(7)
/// }
/// let publisher = Publisher::builder().snapshot(load).build();
/// # let _ = publisher.epoch();
/// ```
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The error of [`Publisher::publish`](crate::publisher::Publisher::publish): nothing was
/// published.
///
/// ```
/// use event_buffer::publisher::{PublishError, Publisher};
///
/// let publisher = Publisher::builder().build();
/// publisher.publish(2, [("key", "event")])?;
/// if let Err(PublishError::IndexNotGreater { last, .. }) = publisher.publish(1, []) {
///     publisher.publish(last + 1, [("key", "once more")])?;
/// }
/// # Ok::<(), PublishError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishError {
    /// The index is not greater than the [last](crate::publisher::Publisher::index) one.
    IndexNotGreater {
        /// The index of the refused commit.
        index: u64,
        /// The last index.
        last: u64,
    },
    /// [`publish_next`](crate::publisher::Publisher::publish_next) has no index left: the last one
    /// is `u64::MAX`.
    IndexesExhausted,
    /// The publisher was [shut down](crate::publisher::Publisher::shutdown).
    ShutDown,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IndexNotGreater { index, last } => {
                write!(
                    f,
                    "index {index} is not greater than the last one, index {last}"
                )
            }
            Self::IndexesExhausted => f.write_str("no index is left"),
            Self::ShutDown => f.write_str("the publisher was shut down"),
        }
    }
}

impl Error for PublishError {}

/// Why a [`Watch`](crate::publisher::Watch) ended. This is the last item before `None`.
///
/// ```
/// # futures::executor::block_on(async {
/// use event_buffer::publisher::{Publisher, Request, WatchError};
/// use futures::StreamExt;
///
/// let publisher = Publisher::<_, u32>::builder()
///     .snapshot(|_key: &str, _snapshot| async { Err("no such key".into()) })
///     .build();
/// let mut watch = publisher.subscribe(Request::new("key"));
/// watch.next().await; // how it begins
/// let Some(Err(WatchError::Snapshot(error))) = watch.next().await else { panic!() };
/// assert_eq!(error.to_string(), "no such key");
/// # });
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WatchError {
    /// The snapshot could not be made. Contains the handler's error, [`SnapshotPanicked`],
    /// [`SnapshotOutdated`], or [`SnapshotGivenUp`].
    /// [`Watch::failed_key`](crate::publisher::Watch::failed_key) returns its key.
    Snapshot(SharedError),
    /// The publisher closed the watch.
    Closed(CloseReason),
    /// The watch was further behind than its [limit](crate::publisher::Request::limit). Contains
    /// the number of commits that it had not received when this was noticed.
    Lagged(u64),
    /// [A closer](crate::publisher::Watch::closer) closed the watch, for this reason.
    ForceClosed(SharedError),
}

impl WatchError {
    /// Returns `true`: every error of a watch is final, and `None` follows it.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::publisher::{Publisher, Request};
    /// use futures::StreamExt;
    ///
    /// let publisher = Publisher::<&str, u32>::builder().build();
    /// let mut watch = publisher.subscribe(Request::new("key"));
    /// publisher.close_all();
    /// assert!(watch.next().await.unwrap().unwrap_err().is_final());
    /// assert!(watch.next().await.is_none());
    /// # });
    /// ```
    pub fn is_final(&self) -> bool {
        match self {
            Self::Snapshot(_) | Self::Closed(_) | Self::Lagged(_) | Self::ForceClosed(_) => true,
        }
    }
}

impl fmt::Display for WatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Snapshot(_) => f.write_str("the snapshot could not be made"),
            Self::Closed(reason) => write!(f, "the watch was closed: {reason}"),
            Self::Lagged(commits) => write!(f, "too far behind: {commits} commits not received"),
            Self::ForceClosed(_) => f.write_str("the watch was closed from outside"),
        }
    }
}

impl Error for WatchError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Snapshot(error) | Self::ForceClosed(error) => Some(error.get_ref()),
            Self::Closed(_) | Self::Lagged(_) => None,
        }
    }
}

/// The error of [`Watch::recv`](crate::publisher::Watch::recv) and its kin. A failed snapshot
/// becomes [`Failed`](RecvError::Failed), and a close becomes
/// [`ForceClosed`](RecvError::ForceClosed) with the [`CloseReason`].
impl From<WatchError> for RecvError {
    fn from(error: WatchError) -> Self {
        match error {
            WatchError::Snapshot(error) => Self::Failed(error),
            WatchError::Closed(reason) => Self::ForceClosed(SharedError::new(reason.into())),
            WatchError::Lagged(commits) => Self::Lagged(commits),
            WatchError::ForceClosed(reason) => Self::ForceClosed(reason),
        }
    }
}

/// Why the publisher closed a watch.
///
/// ```
/// # futures::executor::block_on(async {
/// use event_buffer::publisher::{CloseReason, Publisher, Request, WatchError};
/// use futures::StreamExt;
///
/// let publisher = Publisher::<&str, u32>::builder().build();
/// let mut watch = publisher.subscribe(Request::new("key"));
/// publisher.close_all();
/// let Some(Err(WatchError::Closed(reason))) = watch.next().await else { panic!() };
/// let come_again = !matches!(reason, CloseReason::AccessChanged | CloseReason::ShutDown);
/// assert!(come_again);
/// # });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// What the watcher may see has changed:
    /// [`close_token`](crate::publisher::Publisher::close_token) or
    /// [`close_where`](crate::publisher::Publisher::close_where) was called.
    AccessChanged,
    /// [`close_key`](crate::publisher::Publisher::close_key) was called.
    KeyClosed,
    /// [`forget`](crate::publisher::Publisher::forget) was called.
    KeyForgotten,
    /// [`close_all`](crate::publisher::Publisher::close_all) was called.
    AllClosed,
    /// The state was replaced: [`reset`](crate::publisher::Publisher::reset) was called.
    StateReset {
        /// The new epoch.
        epoch: u64,
    },
    /// [`shutdown`](crate::publisher::Publisher::shutdown) was called.
    ShutDown,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AccessChanged => f.write_str("access has changed"),
            Self::KeyClosed => f.write_str("the key was closed"),
            Self::KeyForgotten => f.write_str("the key was forgotten"),
            Self::AllClosed => f.write_str("all watches were closed"),
            Self::StateReset { epoch } => write!(f, "the state was replaced (epoch {epoch})"),
            Self::ShutDown => f.write_str("the publisher was shut down"),
        }
    }
}

impl Error for CloseReason {}

/// The source of [`WatchError::Snapshot`] if the handler panicked.
///
/// ```
/// # futures::executor::block_on(async {
/// use event_buffer::publisher::{Publisher, Request, SnapshotPanicked, WatchError};
/// use futures::StreamExt;
///
/// # std::panic::set_hook(Box::new(|_| {}));
/// let publisher = Publisher::<_, u32>::builder()
///     .snapshot(|_key: &str, _snapshot| async { panic!("a bug") })
///     .build();
/// let mut watch = publisher.subscribe(Request::new("key"));
/// watch.next().await; // how it begins
/// let Some(Err(WatchError::Snapshot(error))) = watch.next().await else { panic!() };
/// assert!(error.downcast_ref::<SnapshotPanicked>().is_some());
/// # });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotPanicked;

impl fmt::Display for SnapshotPanicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the snapshot handler panicked")
    }
}

impl Error for SnapshotPanicked {}

/// The source of [`WatchError::Snapshot`] if the snapshot was too old.
///
/// It lacks a commit that is no longer retained, and that the watch would therefore miss. A handler
/// that reads from a replica may cause this.
///
/// The publisher knows only the commits that were published while the key had a watch, a snapshot
/// or an entry in the [history](crate::publisher::PublisherBuilder::history).
///
/// ```
/// # futures::executor::block_on(async {
/// use event_buffer::publisher::{Publisher, Request, SnapshotOutdated, WatchError};
/// use futures::StreamExt;
///
/// let publisher = Publisher::<_, u32>::builder()
///     .snapshot(|_key: &str, _| async { Ok(1) })
///     .build();
/// let mut watch = publisher.subscribe(Request::new("key"));
/// watch.next().await; // how it begins
/// watch.next().await; // the end of an empty snapshot
/// publisher.publish(2, [("key", 2)]).unwrap();
///
/// let mut late = publisher.subscribe(Request::new("key"));
/// late.next().await; // how it begins
/// let Some(Err(WatchError::Snapshot(error))) = late.next().await else { panic!() };
/// let outdated = error.downcast_ref::<SnapshotOutdated>();
/// assert_eq!(outdated, Some(&SnapshotOutdated { index: 1, newest: 2 }));
/// # drop(watch);
/// # });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotOutdated {
    /// The index that the handler returned.
    pub index: u64,
    /// The index of the newest commit of the key when the snapshot was begun.
    pub newest: u64,
}

impl fmt::Display for SnapshotOutdated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, newest } = self;
        write!(
            f,
            "a snapshot as of index {index}, after a commit at {newest}"
        )
    }
}

impl Error for SnapshotOutdated {}

/// The error of [`SnapshotAppender`](crate::publisher::SnapshotAppender) once its snapshot is over.
///
/// The handler has returned, or the snapshot was given up.
///
/// ```
/// # futures::executor::block_on(async {
/// use event_buffer::publisher::{Publisher, Request, SnapshotAppender, SnapshotOver};
/// use futures::StreamExt;
/// use std::sync::mpsc;
///
/// let (send, kept) = mpsc::channel();
/// let publisher = Publisher::builder()
///     .snapshot(move |_key: &str, snapshot: SnapshotAppender<u32>| {
///         send.send(snapshot).ok();
///         async { Ok(7) }
///     })
///     .build();
/// let mut watch = publisher.subscribe(Request::new("key"));
/// watch.next().await; // how it begins
/// watch.next().await; // the end of the snapshot
/// assert_eq!(kept.recv().unwrap().push(1), Err(SnapshotOver));
/// # });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotOver;

impl fmt::Display for SnapshotOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the snapshot is over")
    }
}

impl Error for SnapshotOver {}

/// The source of [`WatchError::Snapshot`] if the snapshot took too long.
///
/// The limit is set by [`snapshot_timeout`](crate::publisher::PublisherBuilder::snapshot_timeout).
///
/// ```
/// # futures::executor::block_on(async {
/// use event_buffer::publisher::{Publisher, Request, SnapshotGivenUp, WatchError};
/// use futures::StreamExt;
/// use std::time::Duration;
///
/// let publisher = Publisher::<_, u32>::builder()
///     .snapshot(|_key: &str, _snapshot| std::future::pending())
///     .snapshot_timeout(Duration::ZERO)
///     .build();
/// let mut watch = publisher.subscribe(Request::new("key"));
/// watch.next().await; // how it begins
/// let Some(Err(WatchError::Snapshot(error))) = watch.next().await else { panic!() };
/// assert!(error.downcast_ref::<SnapshotGivenUp>().is_some());
/// # });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotGivenUp;

impl fmt::Display for SnapshotGivenUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the snapshot took longer than its time limit")
    }
}

impl Error for SnapshotGivenUp {}

/// Why a watch starts over, or cannot continue from its [`Resume`](crate::publisher::Resume).
///
/// ```
/// # futures::executor::block_on(async {
/// use event_buffer::publisher::{Begin, Publisher, Request, ResetReason, Resume, Update};
/// use futures::StreamExt;
///
/// let publisher = Publisher::<&str, u32>::builder().epoch(2).build();
/// let from_before = Resume { epoch: 1, index: 7 };
/// let mut watch = publisher.subscribe(Request::new("key").after(from_before));
/// let Some(Ok(Update::Begin(Begin::Reset(reason)))) = watch.next().await else { panic!() };
/// assert_eq!(reason, ResetReason::OtherEpoch);
/// # });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResetReason {
    /// A commit after the index has left the history, or may have.
    TooOld,
    /// The index is greater than any that the publisher knows.
    Ahead,
    /// The index belongs to another epoch: the state was replaced, or the server restarted.
    OtherEpoch,
    /// The watch was further behind than its [limit](crate::publisher::Request::limit), or would
    /// have been after resuming.
    Lagged,
    /// The key was [refreshed](crate::publisher::Publisher::refresh) or forgotten, or was published
    /// to after its completion.
    Refreshed,
}

impl fmt::Display for ResetReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooOld => "too old",
            Self::Ahead => "ahead",
            Self::OtherEpoch => "other epoch",
            Self::Lagged => "lagged",
            Self::Refreshed => "refreshed",
        })
    }
}
