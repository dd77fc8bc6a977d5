//! Why publishing was refused, or watching ended.

use std::error::Error;
use std::fmt;

use crate::error::SharedError;

/// Any error, as a snapshot handler answers it. Where a handler uses `?` only, nobody needs to say
/// the name.
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

/// Why [`Publisher::publish`](super::Publisher::publish) published nothing.
///
/// ```
/// use event_buffer::publisher::{PublishError, Publisher};
///
/// let publisher = Publisher::builder().build();
/// publisher.publish(2, [("key", "event")])?;
/// if let Err(PublishError::IndexBackwards { last, .. }) = publisher.publish(1, []) {
///     publisher.publish(last + 1, [("key", "once more")])?;
/// }
/// # Ok::<(), PublishError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishError {
    /// The index is not greater than that of every earlier commit. The first one is at least 1.
    IndexBackwards {
        /// What was to be published.
        index: u64,
        /// The greatest index published so far.
        last: u64,
    },
    /// The publisher was [shut down](super::Publisher::shutdown).
    ShutDown,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IndexBackwards { index, last } => {
                write!(f, "index {index} was to be published after index {last}")
            }
            Self::ShutDown => f.write_str("the publisher was shut down"),
        }
    }
}

impl Error for PublishError {}

/// Why a [`Watch`](super::Watch) ended. It is the last thing a watch answers.
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
/// let Some(Err(WatchError::Snapshot(error))) = watch.next().await else { panic!() };
/// assert_eq!(error.to_string(), "no such key");
/// # });
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WatchError {
    /// The snapshot could not be made: what the handler answered, [`SnapshotPanicked`], or
    /// [`SnapshotOutdated`].
    Snapshot(SharedError),
    /// The watch was closed by the publisher.
    Closed(CloseReason),
}

impl WatchError {
    /// Whether the watch has ended. Every error of a watch is final: it is the last thing before `None`.
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
            Self::Snapshot(_) | Self::Closed(_) => true,
        }
    }
}

impl fmt::Display for WatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Snapshot(_) => f.write_str("the snapshot could not be made"),
            Self::Closed(reason) => write!(f, "the watch was closed: {reason}"),
        }
    }
}

impl Error for WatchError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Snapshot(error) => Some(error.get_ref()),
            Self::Closed(_) => None,
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
    /// [`close_token`](super::Publisher::close_token): what the token may see has changed.
    AccessChanged,
    /// [`close_key`](super::Publisher::close_key).
    KeyClosed,
    /// [`close_all`](super::Publisher::close_all).
    AllClosed,
    /// [`reset`](super::Publisher::reset): the state was replaced, and is of another epoch now.
    StateReset {
        /// The new epoch.
        epoch: u64,
    },
    /// [`shutdown`](super::Publisher::shutdown).
    ShutDown,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AccessChanged => f.write_str("access has changed"),
            Self::KeyClosed => f.write_str("the key was closed"),
            Self::AllClosed => f.write_str("all watches were closed"),
            Self::StateReset { epoch } => write!(f, "the state was replaced (epoch {epoch})"),
            Self::ShutDown => f.write_str("the publisher was shut down"),
        }
    }
}

impl Error for CloseReason {}

/// The source of [`WatchError::Snapshot`] where the handler panicked.
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

/// The source of [`WatchError::Snapshot`] where the handler answered the state as of an index
/// that is less than that of a commit which is not retained any more. The watcher would have missed
/// it. A handler that asks a replica may see that. Commits to a key of which nobody watched and nothing was
/// kept are not known, and not missed by this.
///
/// ```
/// # futures::executor::block_on(async {
/// use event_buffer::publisher::{Publisher, Request, SnapshotOutdated, WatchError};
/// use futures::StreamExt;
///
/// let publisher = Publisher::<_, u32>::builder().snapshot(|_key: &str, _| async { Ok(1) }).build();
/// let mut watch = publisher.subscribe(Request::new("key"));
/// watch.next().await.unwrap().unwrap(); // the end of an empty snapshot
/// publisher.publish(2, [("key", 2)]).unwrap();
///
/// let mut late = publisher.subscribe(Request::new("key"));
/// let Some(Err(WatchError::Snapshot(error))) = late.next().await else { panic!() };
/// let outdated = error.downcast_ref::<SnapshotOutdated>();
/// assert_eq!(outdated, Some(&SnapshotOutdated { index: 1, newest: 2 }));
/// # });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotOutdated {
    /// What the handler answered.
    pub index: u64,
    /// The index of the newest commit when the snapshot was asked for.
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

/// What [`SnapshotAppender`](super::SnapshotAppender) answers once its snapshot is over: the
/// handler has returned, or nobody waits for it any more.
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
/// publisher.subscribe(Request::new("key")).next().await;
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
