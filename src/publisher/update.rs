//! What a watch delivers.

use std::fmt;

use super::events::Events;
use super::resume::Resume;

/// One step of a [`Watch`](super::Watch).
///
/// The first update is always [`Begin`](Self::Begin). After [`Begin::Resumed`] the watcher keeps the state that it
/// has. After [`Begin::Fresh`] and [`Begin::Reset`] come the parts of a snapshot, if there are any, and
/// [`EndOfSnapshot`](Self::EndOfSnapshot). Then come `Events` and `Progress`, in the order of their indexes. A watch
/// may begin anew at any time: a further `Begin::Reset` voids what was received before.
///
/// A consumer that collects the parts, and swaps them in at the end of the snapshot, is right whenever it is cut off:
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
/// // What the client has, and up to where: both change together.
/// let (mut state, mut place): (Vec<u32>, Option<Resume>) = (Vec::new(), None);
///
/// let mut watch = publisher.subscribe(Request::new("key").after(place));
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
///     // `None` until the snapshot is complete: then the old state and its place are still what counts.
///     place = watch.resume_point().or(place);
/// }
/// assert_eq!((state, place.unwrap().index), (vec![1, 2], 8));
/// # Ok::<(), event_buffer::publisher::PublishError>(()) }).unwrap();
/// ```
pub enum Update<K, T> {
    /// How the watch begins, or begins anew.
    Begin(Begin),
    /// A part of a snapshot.
    Snapshot(Events<K, T>),
    /// The snapshot is complete: together its parts are the state as of this index.
    EndOfSnapshot {
        /// Every commit that follows has a greater index. With several keys, whose snapshots may be of different
        /// indexes, it is the least of these.
        index: u64,
    },
    /// The events of one commit.
    Events(Events<K, T>),
    /// The watcher's state is that of this index, and there is nothing to show: the watch's filter hides a whole
    /// commit, or the publisher [marks its progress](super::Publisher::mark_progress).
    Progress {
        /// The index that the watcher's state is as of.
        index: u64,
    },
    /// The key is [complete](super::Publisher::complete): nothing more comes of it. The watch ends with the last of
    /// its keys.
    Completed(K),
}

impl<K, T> Update<K, T> {
    /// Returns the index that the watcher's state is as of, with this update; `None` if the state is not complete.
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
    /// Returns the place after this update, if it carries one: that of the events of a commit, unless a watch of several
    /// keys has not come to one index for all of them.
    ///
    /// `None` for parts of a snapshot, and for what begins one: those are no places to resume from. The other updates
    /// are two words and carry none; right after one of them [`Watch::resume_point`](super::Watch::resume_point) has its
    /// place.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::publisher::{Publisher, Request, Resume};
    /// use futures::StreamExt;
    ///
    /// let publisher = Publisher::builder().epoch(1).build();
    /// let mut watch = publisher.subscribe(Request::new("key"));
    /// watch.next().await; // how it begins
    /// watch.next().await; // the end of the snapshot
    /// publisher.publish(7, [("key", "event")])?;
    /// let update = watch.next().await.unwrap().unwrap();
    /// assert_eq!(update.resume(), Some(Resume { epoch: 1, index: 7 }));
    /// # Ok::<(), event_buffer::publisher::PublishError>(()) }).unwrap();
    /// ```
    pub fn resume(&self) -> Option<Resume> {
        match self {
            Self::Events(commit) => commit.place,
            _ => None,
        }
    }
}

/// How a [`Watch`](super::Watch) begins.
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
    /// It continues from where its [`Request`](super::Request::after) says: what the watcher has is still right.
    Resumed,
    /// A snapshot follows, as the request names no place to resume from.
    Fresh,
    /// What the watcher has is void: a snapshot follows.
    Reset(ResetReason),
}

/// Why a watch begins anew, or cannot continue from where its [`Resume`] says.
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
    /// Not all that came after the index is known any more.
    TooOld,
    /// The publisher knows of no such index yet.
    Ahead,
    /// The index is of another epoch: the state was replaced, or the server restarted.
    OtherEpoch,
    /// The watch was further behind than its [limit](super::Request::limit), or would have been if it had resumed.
    Lagged,
    /// The key was [refreshed](super::Publisher::refresh), forgotten, or begun anew after its end.
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
