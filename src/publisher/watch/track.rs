//! How a watch follows one of its keys.

use std::sync::{Arc, OnceLock};
use std::task::Context;

use super::commit::Entry;
use super::progress::Progress;
use crate::error::LagExceeded;
use crate::error::{SharedError, TryRecvError};
use crate::link::Closer;
use crate::publisher::snapshot::flight::Flight;
use crate::publisher::snapshot::parts::Piece;
use crate::read::subscription::Subscription;

/// The commits that a snapshot lacks although they came before it was begun, since its handler was
/// behind the publisher. Set before the end of the snapshot is announced.
pub(crate) type Early<K, T> = Arc<OnceLock<Vec<Entry<K, T>>>>;

pub(crate) struct Track<K, T> {
    pub(crate) key: Arc<K>,
    /// The key, which is delivered when it is complete.
    own: Option<K>,
    /// Taken when the key is complete, so that nothing of its chain is kept.
    live: Option<Subscription<Entry<K, T>>>,
    /// The entry that was received but not delivered. It stays here while user code looks at it,
    /// which may panic.
    pub(crate) head: Option<Entry<K, T>>,
    pub(crate) reading: Option<Reading<K, T>>,
    /// Commits to be read before those of the chain, the last one first.
    early: Vec<Entry<K, T>>,
    /// Commits up to this index are part of the watcher's state.
    pub(crate) contained: u64,
    progress: Progress,
    /// The next entry of this track is in the heap.
    pub(crate) is_queued: bool,
}

/// A snapshot that a watch reads.
pub(crate) struct Reading<K, T> {
    parts: Subscription<Piece<T>>,
    flight: Option<Flight>,
    early: Early<K, T>,
    /// The part that was received but not delivered. It stays here while user code looks at it,
    /// which may panic.
    pub(crate) head: Option<Piece<T>>,
    /// The key's topic.
    pub(crate) slot: usize,
}

/// The next entry of a track, in the order in which entries are delivered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NextEntry {
    pub(crate) index: u64,
    /// It is the end of the key, which comes after a commit of the same index.
    pub(crate) is_end: bool,
}

impl NextEntry {
    /// Returns a commit of that index.
    pub(crate) fn at(index: u64) -> Self {
        let is_end = false;
        Self { index, is_end }
    }
}

/// Why no entry can be received now.
pub(crate) enum NoEntry {
    Empty,
    /// The chain has ended.
    End,
    /// The watch is over its limit: it has not received this many commits.
    Lagged(u64),
    /// The reader was closed, since the watch has orders.
    Ordered,
}

impl From<TryRecvError> for NoEntry {
    fn from(error: TryRecvError) -> Self {
        match error {
            TryRecvError::Empty => Self::Empty,
            TryRecvError::Closed | TryRecvError::Failed(_) => Self::End,
            TryRecvError::Lagged(commits) => Self::Lagged(commits),
            TryRecvError::ForceClosed(reason) => match reason.downcast_ref::<LagExceeded>() {
                Some(lag) => Self::Lagged(lag.items),
                None => Self::Ordered,
            },
        }
    }
}

/// What can be read of a snapshot now.
pub(crate) enum SnapshotRead {
    /// `head` is set.
    Piece,
    Empty,
    Failed(SharedError),
    /// The reader was closed, since the watch has orders.
    Ordered,
}

impl<K, T> Track<K, T> {
    pub(crate) fn new(
        (key, own): (Arc<K>, K),
        live: Subscription<Entry<K, T>>,
        progress: Progress,
        contained: u64,
        reading: Option<Reading<K, T>>,
    ) -> Self {
        Self {
            key,
            own: Some(own),
            live: Some(live),
            head: None,
            reading,
            early: Vec::new(),
            contained,
            progress,
            is_queued: false,
        }
    }

    /// Returns the closers of the track's readers.
    pub(crate) fn closers(&self) -> impl Iterator<Item = Closer> + use<K, T>
    where
        K: Send + Sync + 'static,
        T: Send + Sync + 'static,
    {
        let live = self.live.as_ref().map(Subscription::closer);
        let parts = self.reading.as_ref().map(|reading| reading.parts.closer());
        live.into_iter().chain(parts)
    }

    pub(crate) fn live_mut(&mut self) -> Option<&mut Subscription<Entry<K, T>>> {
        self.live.as_mut()
    }

    /// Receives the next entry into `head`, unless that is set.
    #[inline]
    pub(crate) fn fill(&mut self) -> Result<(), NoEntry> {
        if self.head.is_some() {
            return Ok(());
        }
        if let Some(early) = self.early.pop() {
            self.head = Some(early);
            self.progress.advance();
            return Ok(());
        }
        let (head, Some(live)) = (&mut self.head, &mut self.live) else {
            return Err(NoEntry::End);
        };
        live.visit(|entry| *head = Some(entry.clone()))?;
        self.progress.advance();
        Ok(())
    }

    /// Returns the next entry that the watcher does not have yet.
    pub(crate) fn next_entry(&mut self) -> Result<NextEntry, NoEntry> {
        loop {
            let of = |entry: &Entry<K, T>| NextEntry {
                index: entry.index(),
                is_end: matches!(entry, Entry::Completed(_)),
            };
            let known = self.head.as_ref().or(self.early.last());
            let next = match (known, &mut self.live) {
                (Some(known), _) => of(known),
                (None, Some(live)) => live.peek(of)?,
                (None, None) => return Err(NoEntry::End),
            };
            if next.is_end || next.index > self.contained {
                return Ok(next);
            }
            self.fill()?;
            self.head = None;
        }
    }

    /// Ends the snapshot, which is the state as of `index`.
    pub(crate) fn end_snapshot(&mut self, index: u64) {
        self.contained = index;
        if let Some(reading) = self.reading.take() {
            let early = reading.early.get().into_iter().flatten();
            self.early = early.rev().cloned().collect();
            self.progress.retreat(self.early.len());
        }
    }

    /// Returns an error if the watch is over its limit, or if it has orders.
    pub(crate) fn check(&mut self) -> Result<(), NoEntry> {
        match self.live.as_mut().map(|live| live.peek(|_| ())) {
            None | Some(Ok(())) => Ok(()),
            Some(Err(error)) => match NoEntry::from(error) {
                NoEntry::Empty | NoEntry::End => Ok(()),
                none => Err(none),
            },
        }
    }

    /// Ends the track, since its key is complete. Returns the key the first time.
    pub(crate) fn complete(&mut self) -> Option<K> {
        self.progress.finish();
        self.head = None;
        self.early.clear();
        self.live = None;
        self.own.take()
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.live.is_none()
    }

    /// Returns the number of items to receive.
    pub(crate) fn lag(&self) -> u64 {
        let live = self.live.as_ref().map_or(0, Subscription::lag);
        let parts = { self.reading.as_ref() }.map_or(0, |reading| {
            reading.parts.lag() + u64::from(reading.head.is_some())
        });
        live + parts + self.early.len() as u64 + u64::from(self.head.is_some())
    }
}

impl<K, T> Reading<K, T> {
    pub(crate) fn new(
        parts: Subscription<Piece<T>>,
        flight: Option<Flight>,
        early: Early<K, T>,
        slot: usize,
    ) -> Self {
        Self {
            parts,
            flight,
            early,
            head: None,
            slot,
        }
    }

    /// Receives the next part into `head`, unless that is set.
    pub(crate) fn fill(&mut self) -> SnapshotRead {
        if self.head.is_some() {
            return SnapshotRead::Piece;
        }
        let (head, parts) = (&mut self.head, &mut self.parts);
        match parts.visit(|piece| *head = Some(piece.clone())) {
            Ok(()) => SnapshotRead::Piece,
            Err(TryRecvError::Failed(error)) => SnapshotRead::Failed(error),
            Err(TryRecvError::ForceClosed(_)) => SnapshotRead::Ordered,
            Err(_) => SnapshotRead::Empty,
        }
    }

    /// Polls the handler, unless another watch is polling it.
    pub(crate) fn poll_handler(&mut self, cx: &Context<'_>) {
        if let Some(flight) = &mut self.flight {
            if flight.poll(cx).is_ready() {
                self.flight = None;
            }
        }
    }

    /// Waits for the next part. Returns `false` if one has come by now.
    pub(crate) fn wait(&mut self, cx: &Context<'_>) -> bool {
        self.parts
            .end_or_poll_link(cx, TryRecvError::Empty)
            .is_some()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::NextEntry;

    #[test]
    fn the_end_of_a_key_comes_after_a_commit_of_the_same_index() {
        let entry = |index, is_end| NextEntry { index, is_end };
        assert!(entry(7, false) < entry(7, true));
        assert!(entry(7, true) < entry(8, false));
    }
}
