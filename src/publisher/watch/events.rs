//! The events of one update.

use std::fmt;
use std::slice;
use std::sync::Arc;

use super::commit::{CommitRef, Part};
use super::request::Filter;
use super::resume::Resume;

/// The visible events of one commit, or of one part of a snapshot.
///
/// Cheap to clone: one or two reference counts. It keeps its own commit or part in memory, and
/// nothing that follows. Commits are allocated in pages of about a kilobyte, and a page is freed
/// with the last commit in it.
///
/// ```
/// # futures::executor::block_on(async {
/// use event_buffer::publisher::{Events, Publisher, Request, Update};
/// use futures::StreamExt;
///
/// fn sum(events: &Events<&str, u32>) -> u32 {
///     events.iter().sum()
/// }
/// # let publisher = Publisher::builder().build();
/// # let mut watch = publisher.subscribe(Request::new("key"));
/// # watch.next().await;
/// # watch.next().await;
/// publisher.publish(1, [("key", 1), ("other", 2), ("key", 3)])?;
/// let Some(Ok(Update::Events(commit))) = watch.next().await else { panic!() };
/// assert_eq!(sum(&commit), 4);
/// # Ok::<(), event_buffer::publisher::PublishError>(()) }).unwrap();
/// ```
pub struct Events<K, T> {
    source: EventSource<K, T>,
    filter: Option<Filter<T>>,
    pub(crate) place: Option<Resume>,
}

enum EventSource<K, T> {
    /// The events of one key in a commit.
    Part(Part<K, T>),
    /// The events of several keys in a commit, at these positions.
    Commit(CommitRef<K, T>, Arc<[u32]>),
    /// A part of a key's snapshot.
    Snapshot(Arc<K>, Arc<Vec<T>>),
}

impl<K, T> Events<K, T> {
    pub(crate) fn of_part(part: Part<K, T>, filter: Option<&Filter<T>>) -> Self {
        Self::new(EventSource::Part(part), filter)
    }

    pub(crate) fn of_commit(
        commit: CommitRef<K, T>,
        positions: Arc<[u32]>,
        filter: Option<&Filter<T>>,
    ) -> Self {
        Self::new(EventSource::Commit(commit, positions), filter)
    }

    pub(crate) fn of_snapshot(key: Arc<K>, part: Arc<Vec<T>>, filter: Option<&Filter<T>>) -> Self {
        Self::new(EventSource::Snapshot(key, part), filter)
    }

    fn new(source: EventSource<K, T>, filter: Option<&Filter<T>>) -> Self {
        Self {
            source,
            filter: filter.cloned(),
            place: None,
        }
    }

    /// Returns `true` if the filter shows any event. Runs user code.
    pub(crate) fn is_visible(&self) -> bool {
        self.filter.is_none() || self.iter().next().is_some()
    }

    /// Returns the index of the commit, or `None` for a part of a snapshot. O(1).
    ///
    /// A watcher cannot resume from the middle of a snapshot.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// # use event_buffer::publisher::{Publisher, Request, Update};
    /// # use futures::StreamExt;
    /// # let publisher = Publisher::builder()
    /// #     .snapshot(|_, snapshot| async move { snapshot.push("state")?; Ok(6) })
    /// #     .build();
    /// # let mut watch = publisher.subscribe(Request::new("key"));
    /// publisher.publish(7, [("key", "event")])?;
    /// # watch.next().await;
    /// let Some(Ok(Update::Snapshot(part))) = watch.next().await else { panic!() };
    /// assert_eq!(part.index(), None);
    /// # watch.next().await;
    /// let Some(Ok(Update::Events(commit))) = watch.next().await else { panic!() };
    /// assert_eq!(commit.index(), Some(7));
    /// # Ok::<(), event_buffer::publisher::PublishError>(()) }).unwrap();
    /// ```
    pub fn index(&self) -> Option<u64> {
        match &self.source {
            EventSource::Part(part) => Some(part.commit.index),
            EventSource::Commit(commit, _) => Some(commit.index),
            EventSource::Snapshot(..) => None,
        }
    }

    /// Returns the visible events, in order.
    ///
    /// There is at least one, unless the filter has changed its results. Allocates nothing, and
    /// calls the filter for each event.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// # use event_buffer::publisher::{Publisher, Request, Update};
    /// # use futures::StreamExt;
    /// # let publisher = Publisher::builder().build();
    /// # let mut watch = publisher.subscribe(Request::new("key"));
    /// # watch.next().await;
    /// # watch.next().await;
    /// publisher.publish(1, [("key", "first"), ("key", "second")])?;
    /// let Some(Ok(Update::Events(commit))) = watch.next().await else { panic!() };
    /// assert_eq!(commit.iter().collect::<Vec<_>>(), [&"first", &"second"]);
    /// # Ok::<(), event_buffer::publisher::PublishError>(()) }).unwrap();
    /// ```
    pub fn iter(&self) -> Iter<'_, K, T> {
        Iter(self.with_keys())
    }

    /// Returns the visible events with their keys, in order.
    ///
    /// Allocates nothing, and calls the filter for each event.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// # use event_buffer::publisher::{Publisher, Request, Update};
    /// # use futures::StreamExt;
    /// # let publisher = Publisher::builder().build();
    /// let mut watch = publisher.subscribe(Request::keys(["a", "b"]));
    /// # watch.next().await;
    /// # watch.next().await;
    /// publisher.publish(1, [("a", 1), ("c", 0), ("b", 2), ("a", 3)])?;
    /// let Some(Ok(Update::Events(commit))) = watch.next().await else { panic!() };
    /// assert!(commit.with_keys().eq([(&"a", &1), (&"b", &2), (&"a", &3)]));
    /// # Ok::<(), event_buffer::publisher::PublishError>(()) }).unwrap();
    /// ```
    pub fn with_keys(&self) -> WithKeys<'_, K, T> {
        let (positions, snapshot) = match &self.source {
            EventSource::Part(part) => (part.positions(), &[][..]),
            EventSource::Commit(_, positions) => (&positions[..], &[][..]),
            EventSource::Snapshot(_, part) => (&[][..], &part[..]),
        };
        WithKeys {
            events: self,
            positions: positions.iter(),
            snapshot: snapshot.iter(),
        }
    }

    /// Returns the number of visible events. O(events), and calls the filter for each.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use event_buffer::publisher::{Publisher, Request, Update};
    /// use futures::StreamExt;
    ///
    /// let publisher = Publisher::builder().build();
    /// let mut watch = publisher.subscribe(Request::new("key").filter(|n| n % 2 == 0));
    /// # watch.next().await;
    /// # watch.next().await;
    /// publisher.publish(1, [("key", 1), ("key", 2)])?;
    /// let Some(Ok(Update::Events(commit))) = watch.next().await else { panic!() };
    /// assert_eq!(commit.len(), 1);
    /// # Ok::<(), event_buffer::publisher::PublishError>(()) }).unwrap();
    /// ```
    #[expect(clippy::len_without_is_empty, reason = "there is at least one")]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    fn event(&self, position: u32) -> Option<(&K, &T)> {
        let (key, event) = match &self.source {
            EventSource::Part(part) => part.commit.event(position)?,
            EventSource::Commit(commit, _) => commit.event(position)?,
            EventSource::Snapshot(..) => return None,
        };
        Some((key, event))
    }
}

/// An iterator over events with their keys, made by [`Events::with_keys`].
///
/// ```
/// # futures::executor::block_on(async {
/// # use event_buffer::publisher::{Publisher, Request, Update};
/// # use futures::StreamExt;
/// # let publisher = Publisher::builder().build();
/// # let mut watch = publisher.subscribe(Request::new("key"));
/// # watch.next().await;
/// # watch.next().await;
/// # publisher.publish(1, [("key", 1)]).unwrap();
/// let Some(Ok(Update::Events(commit))) = watch.next().await else { panic!() };
/// for (key, event) in commit.with_keys() {
///     println!("{key}: {event}");
/// }
/// # });
/// ```
pub struct WithKeys<'a, K, T> {
    events: &'a Events<K, T>,
    positions: slice::Iter<'a, u32>,
    snapshot: slice::Iter<'a, T>,
}

impl<'a, K, T> WithKeys<'a, K, T> {
    fn next_of_all(&mut self) -> Option<(&'a K, &'a T)> {
        if let EventSource::Snapshot(key, _) = &self.events.source {
            return self.snapshot.next().map(|event| (&**key, event));
        }
        self.events.event(*self.positions.next()?)
    }
}

impl<'a, K, T> Iterator for WithKeys<'a, K, T> {
    type Item = (&'a K, &'a T);

    fn next(&mut self) -> Option<(&'a K, &'a T)> {
        loop {
            let (key, event) = self.next_of_all()?;
            if { self.events.filter.as_ref() }.is_none_or(|visible| visible(event)) {
                return Some((key, event));
            }
        }
    }
}

/// An iterator over events, made by [`Events::iter`] or a `for` loop.
///
/// ```
/// # futures::executor::block_on(async {
/// # use event_buffer::publisher::{Publisher, Request, Update};
/// # use futures::StreamExt;
/// # let publisher = Publisher::builder().build();
/// # let mut watch = publisher.subscribe(Request::new("key"));
/// # watch.next().await;
/// # watch.next().await;
/// # publisher.publish(1, [("key", 1), ("key", 2)]).unwrap();
/// let Some(Ok(Update::Events(commit))) = watch.next().await else { panic!() };
/// for event in &commit {
///     println!("{event}");
/// }
/// # assert_eq!(commit.iter().count(), 2);
/// # });
/// ```
pub struct Iter<'a, K, T>(WithKeys<'a, K, T>);

impl<'a, K, T> Iterator for Iter<'a, K, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        self.0.next().map(|(_, event)| event)
    }
}

impl<'a, K, T> IntoIterator for &'a Events<K, T> {
    type Item = &'a T;
    type IntoIter = Iter<'a, K, T>;

    fn into_iter(self) -> Iter<'a, K, T> {
        self.iter()
    }
}

impl<K, T> std::iter::FusedIterator for WithKeys<'_, K, T> {}
impl<K, T> std::iter::FusedIterator for Iter<'_, K, T> {}

impl<K, T> Clone for WithKeys<'_, K, T> {
    fn clone(&self) -> Self {
        Self {
            events: self.events,
            positions: self.positions.clone(),
            snapshot: self.snapshot.clone(),
        }
    }
}

impl<K, T> Clone for Iter<'_, K, T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, T> Clone for Events<K, T> {
    fn clone(&self) -> Self {
        let source = match &self.source {
            EventSource::Part(part) => EventSource::Part(part.clone()),
            EventSource::Commit(commit, positions) => {
                EventSource::Commit(commit.clone(), Arc::clone(positions))
            }
            EventSource::Snapshot(key, part) => {
                EventSource::Snapshot(Arc::clone(key), Arc::clone(part))
            }
        };
        Self {
            source,
            filter: self.filter.clone(),
            place: self.place,
        }
    }
}

impl<K, T: fmt::Debug> fmt::Debug for Iter<'_, K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

impl<K: fmt::Debug, T: fmt::Debug> fmt::Debug for WithKeys<'_, K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

impl<K, T: fmt::Debug> fmt::Debug for Events<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("index", &self.index())
            .field("events", &self.iter())
            .finish_non_exhaustive()
    }
}
