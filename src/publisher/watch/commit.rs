//! The items of a topic's chain: commits, each shared by all the chains that it touches.
//!
//! ```text
//!   chain of a:  ─▶[Entry]───────▶[Entry]─▶          Commit 8
//!                     │              │         ┌──────────────────────────┐
//!                     ▼              └────────▶│ events: a·1  b·2  a·3    │
//!                  Commit 7                    │ order:   0 2 │ 1         │
//!                                    ┌────────▶│          a   │ b         │
//!   chain of b:  ─────────────────▶[Entry]─▶   └──────────────────────────┘
//! ```
//!
//! An update references the commit and not its position in the chain, so it keeps no later commit
//! alive.

use crate::lag_limit::{Bytes, LagLimit, OnLag, SizeOf};
use crate::list::{Arena, ArenaArc};

/// An item of a topic's chain.
pub(crate) enum Entry<K, T> {
    Commit(Part<K, T>),
    /// The key is complete. Contains the last index at that time.
    Completed(u64),
}

/// The events of one key in a commit.
pub(crate) struct Part<K, T> {
    pub(crate) commit: CommitRef<K, T>,
    /// Where the events start in the commit's `order`.
    start: u32,
    len: u32,
}

/// A counted reference to a commit.
pub(crate) type CommitRef<K, T> = ArenaArc<Commit<K, T>>;

/// Allocates commits.
pub(crate) type Commits<K, T> = Arena<Commit<K, T>>;

pub(crate) struct Commit<K, T> {
    pub(crate) index: u64,
    /// Measures an event, if a watch is limited in bytes.
    size_of: Option<SizeOf<T>>,
    events: Content<K, T>,
}

enum Content<K, T> {
    One((K, T)),
    Many {
        events: Vec<(K, T)>,
        /// The positions of the events, grouped by key.
        order: Box<[u32]>,
    },
}

impl<K, T> Commit<K, T> {
    pub(crate) fn one(index: u64, size_of: Option<SizeOf<T>>, event: (K, T)) -> Self {
        let events = Content::One(event);
        Self {
            index,
            size_of,
            events,
        }
    }

    pub(crate) fn many(
        index: u64,
        size_of: Option<SizeOf<T>>,
        events: Vec<(K, T)>,
        order: Box<[u32]>,
    ) -> Self {
        let events = Content::Many { events, order };
        Self {
            index,
            size_of,
            events,
        }
    }

    /// Returns the event at a position of the commit.
    pub(crate) fn event(&self, position: u32) -> Option<&(K, T)> {
        match &self.events {
            Content::One(event) => (position == 0).then_some(event),
            Content::Many { events, .. } => events.get(position as usize),
        }
    }
}

impl<K, T> Part<K, T> {
    /// The events at `start..end` of the commit's order, all of one key.
    pub(crate) fn new(commit: CommitRef<K, T>, start: usize, end: usize) -> Self {
        let number = |place: usize| u32::try_from(place).unwrap_or(u32::MAX);
        Self {
            commit,
            start: number(start),
            len: number(end - start),
        }
    }

    /// Returns the positions of the events in the commit.
    pub(crate) fn positions(&self) -> &[u32] {
        match &self.commit.events {
            Content::One(_) => &[0],
            Content::Many { order, .. } => {
                let (start, len) = (self.start as usize, self.len as usize);
                order.get(start..start + len).unwrap_or_default()
            }
        }
    }

    fn byte_size(&self) -> usize {
        let Some(size_of) = self.commit.size_of else {
            return 0;
        };
        let events = { self.positions().iter() }.filter_map(|at| self.commit.event(*at));
        events
            .map(|(_, event)| size_of.of(event))
            .fold(0, usize::saturating_add)
    }
}

impl<K, T> Entry<K, T> {
    pub(crate) fn index(&self) -> u64 {
        match self {
            Self::Commit(part) => part.commit.index,
            Self::Completed(index) => *index,
        }
    }

    fn byte_size(&self) -> usize {
        match self {
            Self::Commit(part) => part.byte_size(),
            Self::Completed(_) => 0,
        }
    }
}

/// Converts the limit of a watch for the readers of its chains. A reader over its limit is closed,
/// and the watch decides what happens.
pub(crate) fn limit_of_entries<K, T>(limit: LagLimit<T>) -> LagLimit<Entry<K, T>> {
    LagLimit {
        items: limit.items,
        bytes: limit.bytes.map(|bytes| Bytes {
            limit: bytes.limit,
            size_of: SizeOf::new(Entry::byte_size),
        }),
        on_lag: OnLag::Close,
    }
}

impl<K, T> Clone for Entry<K, T> {
    fn clone(&self) -> Self {
        match self {
            Self::Commit(part) => Self::Commit(part.clone()),
            Self::Completed(index) => Self::Completed(*index),
        }
    }
}

impl<K, T> Clone for Part<K, T> {
    fn clone(&self) -> Self {
        Self {
            commit: self.commit.clone(),
            start: self.start,
            len: self.len,
        }
    }
}
