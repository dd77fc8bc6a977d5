//! Why publishing was refused, or watching ended.

use std::error::Error;
use std::fmt;

use crate::error::SharedError;

/// Any error, as a snapshot handler answers it.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Why [`Publisher::publish`](super::Publisher::publish) published nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishError {
    /// The index is less than that of an earlier commit.
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
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WatchError {
    /// The snapshot could not be made: what the handler answered, or [`SnapshotPanicked`].
    Snapshot(SharedError),
    /// The watch was closed by the publisher.
    Closed(CloseReason),
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotPanicked;

impl fmt::Display for SnapshotPanicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the snapshot handler panicked")
    }
}

impl Error for SnapshotPanicked {}

/// What [`SnapshotAppender`](super::SnapshotAppender) answers once its snapshot is over: the
/// handler has returned, or nobody waits for it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotOver;

impl fmt::Display for SnapshotOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the snapshot is over")
    }
}

impl Error for SnapshotOver {}
