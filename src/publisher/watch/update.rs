//! What a watch delivers.

use std::fmt;

use super::events::Events;
use super::resume::Resume;
use crate::publisher::report::error::ResetReason;

/// One update of a [`Watch`](crate::publisher::Watch).
///
/// The first update is always [`Begin`](Self::Begin). After [`Begin::Resumed`] the watcher keeps
/// its state. After [`Begin::Fresh`] and [`Begin::Reset`] come the parts of a snapshot, if it has
/// any, and [`EndOfSnapshot`](Self::EndOfSnapshot). `Events` and `Progress` follow, in the order of
/// their indexes. A watch may start over at any time: another `Begin::Reset` voids everything
/// received before it.
///
/// A consumer should collect the parts, and replace its state when the snapshot ends. It is then
/// correct no matter where it is cut off:
///
/// ```
/// # futures::executor::block_on(async {
/// use event_buffer::publisher::{Begin, Publisher, Request, Resume, Update};
/// use futures::StreamExt;
///
/// # let publisher = Publisher::builder()
/// #     .snapshot(|_key: &str, snapshot| async move { snapshot.push(1)?; Ok(7) })
/// #     .build();
/// # publisher.publish(7, [])?;
/// // The client's state and its resume point always change together.
/// let (mut state, mut point): (Vec<u32>, Option<Resume>) = (Vec::new(), None);
///
/// let mut watch = publisher.subscribe(Request::new("key").after(point));
/// # publisher.publish(8, [("key", 2)])?;
/// # drop(publisher);
/// let mut parts = Vec::new();
/// while let Some(Ok(update)) = watch.next().await {
///     match &update {
///         Update::Begin(_) => parts.clear(),
///         Update::Snapshot(part) => parts.extend(part),
///         Update::EndOfSnapshot { .. } => state = std::mem::take(&mut parts),
///         Update::Events(commit) => state.extend(commit),
///         _ => {}
///     }
///     // `None` until the snapshot is complete. Until then the old state and its point stay valid.
///     point = watch.resume_point().or(point);
/// }
/// assert_eq!((state, point.unwrap().index), (vec![1, 2], 8));
/// # Ok::<(), event_buffer::publisher::PublishError>(()) }).unwrap();
/// ```
pub enum Update<K, T> {
    /// The watch begins, or starts over.
    Begin(Begin),
    /// A part of a snapshot.
    Snapshot(Events<K, T>),
    /// The snapshot is complete: its parts are the state as of this index.
    EndOfSnapshot {
        /// The index of the state; all commits that follow have greater ones. With several keys,
        /// whose snapshots may have different indexes, it is the least of them.
        index: u64,
    },
    /// The events of one commit.
    Events(Events<K, T>),
    /// The watcher's state is current as of this index, and there is nothing to show. Delivered if
    /// the watch's filter hides a whole commit, or if the publisher [marks its
    /// progress](crate::publisher::Publisher::mark_progress).
    Progress {
        /// The index of the watcher's state.
        index: u64,
    },
    /// The key is [complete](crate::publisher::Publisher::complete), and delivers no more events.
    /// The watch ends with the last of its keys.
    Completed(K),
}

impl<K, T> Update<K, T> {
    /// Returns the index of the watcher's state after this update. O(1).
    ///
    /// `None` for [`Begin`](Self::Begin), for the parts of a snapshot, and for
    /// [`Completed`](Self::Completed), which does not change the index.
    ///
    /// ```
    /// use event_buffer::publisher::Update;
    ///
    /// assert_eq!(Update::<u8, u8>::EndOfSnapshot { index: 7 }.index(), Some(7));
    /// ```
    pub fn index(&self) -> Option<u64> {
        match self {
            Self::Begin(_) | Self::Snapshot(_) | Self::Completed(_) => None,
            Self::EndOfSnapshot { index } | Self::Progress { index } => Some(*index),
            Self::Events(commit) => commit.index(),
        }
    }
}

impl<K, T> Update<K, T> {
    /// Returns the resume point after this update; only `Events` carry one. O(1).
    ///
    /// The other variants have exactly the fields named above, and so have no room for an epoch.
    /// For [`EndOfSnapshot`](Self::EndOfSnapshot), [`Progress`](Self::Progress) and
    /// [`Begin::Resumed`], call [`Watch::resume_point`](crate::publisher::Watch::resume_point)
    /// right after receiving the update, before polling the watch again: it is the point after the
    /// last update that was delivered.
    ///
    /// | update | `Update::resume` | `Watch::resume_point` right after it |
    /// |---|---|---|
    /// | `Begin(Resumed)` | `None` | the point that the request named |
    /// | `Begin(Fresh)`, `Begin(Reset)`, `Snapshot` | `None` | `None`: the state is not complete |
    /// | `EndOfSnapshot` | `None` | the point after it, unless a `Completed` follows it |
    /// | `Progress` | `None` | the point after this update |
    /// | `Events` | the point after this commit | the same |
    /// | `Completed` | `None` | the point after this update |
    ///
    /// With several keys, whose snapshots may have different indexes, neither method returns a
    /// resume point until all keys have reached one index.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::publisher::{Publisher, Request, Resume, Update};
    /// use futures::StreamExt;
    ///
    /// let publisher = Publisher::builder().epoch(1).build();
    /// let mut watch = publisher.subscribe(Request::new("key"));
    /// watch.next().await; // how it begins
    /// let end = watch.next().await.unwrap().unwrap();
    /// assert!(matches!(end, Update::EndOfSnapshot { index: 0 }));
    /// assert_eq!(end.resume(), None);
    /// assert_eq!(watch.resume_point(), Some(Resume { epoch: 1, index: 0 }));
    ///
    /// publisher.publish(7, [("key", "event")])?;
    /// let commit = watch.next().await.unwrap().unwrap();
    /// assert_eq!(commit.resume(), Some(Resume { epoch: 1, index: 7 }));
    /// assert_eq!(watch.resume_point(), commit.resume());
    /// # Ok::<(), event_buffer::publisher::PublishError>(()) }).unwrap();
    /// ```
    pub fn resume(&self) -> Option<Resume> {
        match self {
            Self::Events(commit) => commit.place,
            _ => None,
        }
    }
}

/// How a [`Watch`](crate::publisher::Watch) begins, or starts over.
///
/// ```
/// # futures::executor::block_on(async {
/// use event_buffer::publisher::{Begin, Publisher, Request, Update};
/// use futures::StreamExt;
///
/// let publisher = Publisher::<&str, u32>::builder().build();
/// let mut watch = publisher.subscribe(Request::new("key"));
/// let Some(Ok(Update::Begin(begin))) = watch.next().await else { panic!() };
/// assert_eq!(begin, Begin::Fresh);
/// # });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Begin {
    /// The watch continues from the point that its [`Request`](crate::publisher::Request::after)
    /// named. The watcher's state is still valid.
    Resumed,
    /// A snapshot follows, since the request named no resume point.
    Fresh,
    /// A snapshot follows, and the state that the watcher has is void.
    Reset(ResetReason),
}

impl<K: Clone, T> Clone for Update<K, T> {
    fn clone(&self) -> Self {
        match self {
            Self::Begin(begin) => Self::Begin(*begin),
            Self::Snapshot(events) => Self::Snapshot(events.clone()),
            Self::EndOfSnapshot { index } => Self::EndOfSnapshot { index: *index },
            Self::Events(events) => Self::Events(events.clone()),
            Self::Progress { index } => Self::Progress { index: *index },
            Self::Completed(key) => Self::Completed(key.clone()),
        }
    }
}

impl<K: fmt::Debug, T: fmt::Debug> fmt::Debug for Update<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin(begin) => f.debug_tuple("Begin").field(begin).finish(),
            Self::Snapshot(events) => f.debug_tuple("Snapshot").field(events).finish(),
            Self::EndOfSnapshot { index } => {
                let mut end = f.debug_struct("EndOfSnapshot");
                end.field("index", index).finish()
            }
            Self::Events(events) => f.debug_tuple("Events").field(events).finish(),
            Self::Progress { index } => f.debug_struct("Progress").field("index", index).finish(),
            Self::Completed(key) => f.debug_tuple("Completed").field(key).finish(),
        }
    }
}
