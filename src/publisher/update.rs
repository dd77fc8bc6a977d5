//! What a watch answers.

use std::fmt;

use super::entry::Entry;
use super::request::Filter;
use crate::item::BufferItem;

/// One step of a [`Watch`](super::Watch).
///
/// A fresh watch answers any number of `Snapshot`s, one `EndOfSnapshot`, then `Events` and
/// `Progress` in the order of their indexes. One that resumes starts with the events it has not
/// seen, or with `Reset` and then as a fresh one. A commit that does not touch the watched key is
/// no update.
///
/// ```
/// # futures::executor::block_on(async {
/// use event_buffer::publisher::{Publisher, Request, Update};
/// use futures::StreamExt;
///
/// # let publisher = Publisher::builder()
/// #     .snapshot(|_key: &str, snapshot| async move { snapshot.push(1)?; Ok(7) })
/// #     .build();
/// let mut watch = publisher.subscribe(Request::new("key"));
/// let mut state: Vec<u32> = Vec::new();
/// while let Some(Ok(update)) = watch.next().await {
///     match update {
///         Update::Reset(_) => state.clear(),
///         Update::Snapshot(events) | Update::Events(events) => state.extend(&events),
///         Update::EndOfSnapshot { .. } => break, // The state is complete.
///         Update::Progress { .. } => {}
///     }
/// }
/// assert_eq!(state, [1]);
/// # });
/// ```
pub enum Update<T> {
    /// What the watcher knows is void: a snapshot follows.
    Reset(ResetReason),
    /// A part of the snapshot.
    Snapshot(Events<T>),
    /// The snapshot is complete: together its parts are the state as of this index.
    EndOfSnapshot {
        /// Every event that follows has a greater index.
        index: u64,
    },
    /// The events of one commit.
    Events(Events<T>),
    /// A commit of whose events this watch sees none.
    Progress {
        /// The commit's index.
        index: u64,
    },
}

impl<T> Update<T> {
    /// The index that the watcher's state is as of, with this update. `None` where it is not
    /// complete.
    ///
    /// ```
    /// use event_buffer::publisher::Update;
    ///
    /// assert_eq!(Update::<u8>::EndOfSnapshot { index: 7 }.index(), Some(7));
    /// ```
    pub fn index(&self) -> Option<u64> {
        match self {
            Self::Reset(_) | Self::Snapshot(_) => None,
            Self::EndOfSnapshot { index } | Self::Progress { index } => Some(*index),
            Self::Events(commit) => Some(commit.index()),
        }
    }
}

/// Why a watch could not go on from where its [`Resume`](super::Resume) says.
///
/// ```
/// # futures::executor::block_on(async {
/// use event_buffer::publisher::{Publisher, Request, ResetReason, Resume, Update};
/// use futures::StreamExt;
///
/// let publisher = Publisher::<&str, u32>::builder().epoch(2).build();
/// let from_before = Resume { epoch: 1, index: 7 };
/// let mut watch = publisher.subscribe(Request::new("key").after(from_before));
/// let Some(Ok(Update::Reset(reason))) = watch.next().await else { panic!() };
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
}

/// Events that belong together: those of one commit, or of one part of a snapshot. Only those
/// that the watch's filter shows.
///
/// Cheap to clone (one or two reference counts); a held one keeps all events of its key that
/// came after it alive, as a [`BufferItem`] does.
///
/// ```
/// # futures::executor::block_on(async {
/// use event_buffer::publisher::{Events, Publisher, Request, Update};
/// use futures::StreamExt;
///
/// fn sum(events: &Events<u32>) -> u32 {
///     events.iter().sum()
/// }
/// # let publisher = Publisher::builder().build();
/// # let mut watch = publisher.subscribe(Request::new("key"));
/// # watch.next().await;
/// publisher.publish(1, [("key", 1), ("other", 2), ("key", 3)])?;
/// let Some(Ok(Update::Events(commit))) = watch.next().await else { panic!() };
/// assert_eq!(sum(&commit), 4);
/// # Ok::<(), event_buffer::publisher::PublishError>(()) }).unwrap();
/// ```
pub struct Events<T> {
    item: BufferItem<Entry<T>>,
    filter: Option<Filter<T>>,
    index: u64,
}

impl<T> Events<T> {
    /// `None` where the filter hides all of them.
    pub(super) fn visible(
        item: BufferItem<Entry<T>>,
        filter: Option<&Filter<T>>,
        index: u64,
    ) -> Option<Self> {
        let filter = filter.cloned();
        let events = Self {
            item,
            filter,
            index,
        };
        events.iter().next().is_some().then_some(events)
    }

    /// The index of the commit. O(1).
    ///
    /// For a part of a snapshot: where the publisher was when the snapshot was begun. **That is no place to
    /// resume:** whoever continues there never gets the rest of the snapshot. Take the place to resume from
    /// [`Watch::resume_point`](super::Watch::resume_point), which has none until the snapshot is complete.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// # use event_buffer::publisher::{Publisher, Request, Update};
    /// # use futures::StreamExt;
    /// # let publisher = Publisher::builder().build();
    /// # let mut watch = publisher.subscribe(Request::new("key"));
    /// # watch.next().await;
    /// publisher.publish(7, [("key", "event")])?;
    /// let Some(Ok(Update::Events(commit))) = watch.next().await else { panic!() };
    /// assert_eq!(commit.index(), 7);
    /// # Ok::<(), event_buffer::publisher::PublishError>(()) }).unwrap();
    /// ```
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The events, in order. There is at least one, unless the filter changes its mind. Allocates
    /// nothing; asks the filter about each event.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// # use event_buffer::publisher::{Publisher, Request, Update};
    /// # use futures::StreamExt;
    /// # let publisher = Publisher::builder().build();
    /// # let mut watch = publisher.subscribe(Request::new("key"));
    /// # watch.next().await;
    /// publisher.publish(1, [("key", "first"), ("key", "second")])?;
    /// let Some(Ok(Update::Events(commit))) = watch.next().await else { panic!() };
    /// assert_eq!(commit.iter().collect::<Vec<_>>(), [&"first", &"second"]);
    /// # Ok::<(), event_buffer::publisher::PublishError>(()) }).unwrap();
    /// ```
    pub fn iter(&self) -> Iter<'_, T> {
        Iter {
            entries: self.item.iter(),
            filter: self.filter.as_ref(),
        }
    }

    /// How many events there are, the hidden ones not counted. O(events).
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::publisher::{Publisher, Request, Update};
    /// use futures::StreamExt;
    ///
    /// let publisher = Publisher::builder().build();
    /// let mut watch = publisher.subscribe(Request::new("key").filter(|n| n % 2 == 0));
    /// publisher.publish(1, [("key", 1), ("key", 2)])?;
    /// let Some(Ok(Update::EndOfSnapshot { .. })) = watch.next().await else { panic!() };
    /// let Some(Ok(Update::Events(commit))) = watch.next().await else { panic!() };
    /// assert_eq!(commit.len(), 1);
    /// # Ok::<(), event_buffer::publisher::PublishError>(()) }).unwrap();
    /// ```
    #[expect(clippy::len_without_is_empty, reason = "there is at least one")]
    pub fn len(&self) -> usize {
        self.iter().count()
    }
}

impl<'a, T> IntoIterator for &'a Events<T> {
    type Item = &'a T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

/// The events of [`Events`], in order: made by [`Events::iter`], or by a `for` loop over `&Events`.
///
/// ```
/// # futures::executor::block_on(async {
/// # use event_buffer::publisher::{Publisher, Request, Update};
/// # use futures::StreamExt;
/// # let publisher = Publisher::builder().build();
/// # let mut watch = publisher.subscribe(Request::new("key"));
/// # watch.next().await;
/// # publisher.publish(1, [("key", 1), ("key", 2)]).unwrap();
/// let Some(Ok(Update::Events(commit))) = watch.next().await else { panic!() };
/// for event in &commit {
///     println!("{event}");
/// }
/// # assert_eq!(commit.iter().count(), 2);
/// # });
/// ```
pub struct Iter<'a, T> {
    entries: std::slice::Iter<'a, Entry<T>>,
    filter: Option<&'a Filter<T>>,
}

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        let filter = self.filter;
        self.entries
            .by_ref()
            .filter_map(Entry::event)
            .find(|event| filter.is_none_or(|visible| visible(event)))
    }
}

impl<T> std::iter::FusedIterator for Iter<'_, T> {}

impl<T> Clone for Iter<'_, T> {
    fn clone(&self) -> Self {
        Self {
            entries: self.entries.clone(),
            filter: self.filter,
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Iter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

impl<T> Clone for Events<T> {
    fn clone(&self) -> Self {
        Self {
            item: self.item.clone(),
            filter: self.filter.clone(),
            index: self.index,
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Events<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("index", &self.index)
            .field("events", &self.iter())
            .finish_non_exhaustive()
    }
}

impl<T> Clone for Update<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Reset(reason) => Self::Reset(*reason),
            Self::Snapshot(events) => Self::Snapshot(events.clone()),
            Self::EndOfSnapshot { index } => Self::EndOfSnapshot { index: *index },
            Self::Events(events) => Self::Events(events.clone()),
            Self::Progress { index } => Self::Progress { index: *index },
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Update<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset(reason) => f.debug_tuple("Reset").field(reason).finish(),
            Self::Snapshot(events) => f.debug_tuple("Snapshot").field(events).finish(),
            Self::EndOfSnapshot { index } => {
                let mut end = f.debug_struct("EndOfSnapshot");
                end.field("index", index).finish()
            }
            Self::Events(events) => f.debug_tuple("Events").field(events).finish(),
            Self::Progress { index } => f.debug_struct("Progress").field("index", index).finish(),
        }
    }
}
