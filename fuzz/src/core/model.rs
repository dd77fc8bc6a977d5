//! The naive model: vectors and indexes.

use std::collections::VecDeque;
use std::{iter, mem};

use event_buffer::OnLag;

/// The numbers of a buffer and of an item in it.
pub(super) type Place = (usize, usize);

/// The number of passed items that a `Cloned` may hold in the middle of a backlog.
const STRIDE: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Number(u32),
    Cycle,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Closed,
    Failed(Failure),
    Spliced(Place),
}

/// Why a read returns no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nothing {
    Empty,
    Closed,
    Failed(Failure),
    /// Closed with this reason.
    ForceClosed(u32),
    /// This many items were skipped.
    Lagged(u64),
    /// Closed, since this many items were not received. The model has the maximum.
    LagExceeded(u64),
}

impl Nothing {
    /// Whether no later read can return more.
    pub(super) fn is_final(self) -> bool {
        !matches!(self, Self::Empty | Self::Lagged(_))
    }
}

pub(super) struct Buffer {
    /// The items: the ids of their events, at least one each.
    pub(super) items: Vec<Vec<u32>>,
    pub(super) end: Option<End>,
    pub(super) limit: usize,
    /// The number of items that late readers can still read.
    pub(super) retained: usize,
    /// The number of times that waiting tasks may have been woken.
    pub(super) wakings: usize,
    /// Items below this are known to be dropped.
    pub(super) dropped: usize,
}

impl Buffer {
    /// The first item of the replay window.
    pub(super) fn oldest(&self) -> usize {
        self.items.len() - self.retained
    }

    fn has_ended(&self) -> bool {
        self.end.is_some()
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Reader {
    /// The place of the next item.
    pub(super) at: Place,
    /// The number of events of that item that have been received one by one.
    pub(super) received: usize,
    /// The items that it has passed and may still hold.
    pub(super) passed: VecDeque<Place>,
    /// The number of the entry that it shares with its closers.
    pub(super) closing: Option<usize>,
    /// The failure at the end has been reported.
    pub(super) failed: bool,
    /// The stream has ended.
    pub(super) terminated: bool,
    pub(super) limit: Option<Limit>,
}

/// A reader's limit, and its effect on the reader.
#[derive(Clone, Debug)]
pub(super) struct Limit {
    pub(super) items: usize,
    pub(super) bytes: Option<u64>,
    pub(super) on_lag: OnLag,
    /// The number of skipped items that the next read reports, before the events in `rest`.
    pub(super) skipped: u64,
    /// Events that have been cloned but not received yet.
    pub(super) rest: VecDeque<u32>,
    /// The next event could not be cloned: the reader is still at its item.
    pub(super) clone_failed: bool,
    /// Set when it has reported that it was closed for lagging, by at most this many items.
    pub(super) closed: Option<u64>,
    /// The place from which it may keep items, if it may keep any.
    pub(super) keeps: Option<Place>,
    /// The tail at the last time when the writer was excused from checking the limit.
    pub(super) since: Place,
}

impl Reader {
    pub(super) fn new(at: Place) -> Self {
        Self {
            at,
            ..Self::default()
        }
    }

    /// Releases the passed items, as a reader does that waits.
    pub(super) fn release(&mut self) {
        self.passed.clear();
    }

    /// Releases the passed items except the newest `STRIDE`.
    pub(super) fn forget_all_but_a_stride(&mut self) {
        let excess = self.passed.len().saturating_sub(STRIDE);
        self.passed.drain(..excess);
    }
}

/// How items are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadKind {
    Item,
    Clone,
    /// At most this many events of a chunk.
    Chunk(usize),
    /// This many events of a chunk by `for_each`, which panics at the last one.
    Broken(usize),
}

pub(super) type ReadResult = Result<Vec<u32>, Nothing>;

#[derive(Default)]
pub(super) struct Model {
    pub(super) buffers: Vec<Buffer>,
    /// The reason that each closed reader was closed with.
    pub(super) closings: Vec<Option<u32>>,
}

impl Model {
    pub(super) fn open(&mut self, limit: usize) -> usize {
        self.buffers.push(Buffer {
            items: Vec::new(),
            end: None,
            limit,
            retained: 0,
            wakings: 0,
            dropped: 0,
        });
        self.buffers.len() - 1
    }

    pub(super) fn publish(&mut self, buffer: usize, items: impl IntoIterator<Item = Vec<u32>>) {
        let buffer = &mut self.buffers[buffer];
        let before = buffer.items.len();
        buffer.items.extend(items);
        if buffer.items.len() > before {
            let fresh = buffer.items.len() - before;
            buffer.retained = (buffer.retained + fresh).min(buffer.limit);
            buffer.wakings += 1;
        }
    }

    pub(super) fn end(&mut self, buffer: usize, end: End) {
        let end = match end {
            End::Spliced(to) if self.leads_to(to, buffer) => End::Failed(Failure::Cycle),
            end => end,
        };
        let buffer = &mut self.buffers[buffer];
        buffer.end = Some(end);
        buffer.retained = 0;
        buffer.wakings += 1;
    }

    pub(super) fn tail(&self, buffer: usize) -> Place {
        (buffer, self.buffers[buffer].items.len())
    }

    pub(super) fn oldest(&self, buffer: usize) -> Place {
        (buffer, self.buffers[buffer].oldest())
    }

    /// The place itself, and those at which reading continues over splices.
    pub(super) fn path(&self, from: Place) -> impl Iterator<Item = Place> {
        iter::successors(Some(from), |at| match self.buffers[at.0].end {
            Some(End::Spliced(target)) => Some(target),
            _ => None,
        })
    }

    pub(super) fn leads_to(&self, from: Place, buffer: usize) -> bool {
        self.path(from).any(|at| at.0 == buffer)
    }

    pub(super) fn lag(&self, from: Place) -> u64 {
        let behind = |at: Place| self.buffers[at.0].items.len() - at.1;
        self.path(from).map(|at| behind(at) as u64).sum()
    }

    pub(super) fn item(&self, at: Place) -> Option<&Vec<u32>> {
        self.buffers[at.0].items.get(at.1)
    }

    /// The place of the next item, which may be behind splices.
    pub(super) fn next(&self, from: Place) -> Place {
        let mut last = from;
        for at in self.path(from) {
            last = at;
            if self.item(at).is_some() {
                return at;
            }
        }
        last
    }

    /// The next item, or the reason why there is none.
    pub(super) fn look(&self, from: Place) -> Result<&Vec<u32>, Nothing> {
        let at = self.next(from);
        self.item(at).ok_or(match self.buffers[at.0].end {
            None => Nothing::Empty,
            Some(End::Failed(failure)) => Nothing::Failed(failure),
            Some(_) => Nothing::Closed,
        })
    }

    pub(super) fn force_closed(&self, reader: &Reader) -> Option<u32> {
        self.closings[reader.closing?]
    }

    /// Reads, and moves the reader forward.
    pub(super) fn read(&self, reader: &mut Reader, kind: ReadKind) -> ReadResult {
        if reader.limit.is_some() {
            return self.read_limited(reader);
        }
        if let Some(reason) = self.force_closed(reader) {
            return Err(Nothing::ForceClosed(reason));
        }
        match self.approach(reader, kind) {
            Err(Nothing::Failed(_)) if mem::replace(&mut reader.failed, true) => {
                Err(Nothing::Closed)
            }
            Err(nothing) => Err(nothing),
            Ok(item) => Ok(match kind {
                // The whole item, even if some of its events were received.
                ReadKind::Item => {
                    reader.received = 0;
                    reader.at.1 += 1;
                    item.clone()
                }
                ReadKind::Clone => vec![self.read_clone(reader, item)],
                ReadKind::Chunk(most) | ReadKind::Broken(most) => self.read_chunk(reader, most),
            }),
        }
    }

    /// Moves to the next item, and returns it.
    fn approach(&self, reader: &mut Reader, kind: ReadKind) -> Result<&Vec<u32>, Nothing> {
        let at = self.next(reader.at);
        let next = self.look(at);
        let at_the_end = next.is_err_and(Nothing::is_final);
        // Reading an item or a chunk releases all passed items.
        if kind != ReadKind::Clone || at_the_end || at.0 != reader.at.0 {
            reader.release();
        }
        reader.at = at;
        next
    }

    /// Skips an event, if there is one.
    pub(super) fn skip(&self, reader: &mut Reader) -> bool {
        if reader.is_closed_for_lag() || self.force_closed(reader).is_some() {
            return false;
        }
        if reader.limit.is_some() {
            return self.skip_limited(reader);
        }
        match self.approach(reader, ReadKind::Clone) {
            Ok(item) => {
                self.read_clone(reader, item);
                true
            }
            Err(_) => false,
        }
    }

    /// Receives a single event. The item counts as received with its last one.
    fn read_clone(&self, reader: &mut Reader, item: &[u32]) -> u32 {
        let event = item[reader.received];
        reader.received += 1;
        if reader.received == item.len() {
            reader.received = 0;
            self.pass(reader);
        }
        event
    }

    /// Passes an item.
    fn pass(&self, reader: &mut Reader) {
        let at = self.next(reader.at);
        if at.0 != reader.at.0 {
            reader.release();
        }
        reader.passed.push_back(at);
        reader.at = (at.0, at.1 + 1);
        // In an ended buffer the end follows, which has not been reported yet.
        if self.item(reader.at).is_some() || self.buffers[at.0].has_ended() {
            // This also releases the items of an earlier chunk.
            reader.forget_all_but_a_stride();
        } else {
            reader.release();
        }
    }

    /// Receives at most `most` events of all that are ready.
    fn read_chunk(&self, reader: &mut Reader, most: usize) -> Vec<u32> {
        let mut events = Vec::new();
        while events.len() < most {
            // `look` would report a failure, which is left to the next read.
            reader.at = self.next(reader.at);
            let Some(item) = self.item(reader.at) else {
                break;
            };
            events.push(item[reader.received]);
            reader.received += 1;
            if reader.received == item.len() {
                reader.received = 0;
                reader.passed.push_back(reader.at);
                reader.at.1 += 1;
            }
        }
        events
    }

    /// For each buffer, the first item that can be reached from the given places.
    pub(super) fn reach(&self, from: impl Iterator<Item = Place>) -> Vec<usize> {
        let mut reach = vec![usize::MAX; self.buffers.len()];
        for place in from {
            for (buffer, item) in self.path(place) {
                reach[buffer] = reach[buffer].min(item);
            }
        }
        reach
    }

    /// The starts of the replay windows.
    pub(super) fn windows(&self) -> impl Iterator<Item = Place> {
        let open = self
            .buffers
            .iter()
            .enumerate()
            .filter(|(_, buffer)| !buffer.has_ended());
        open.map(|(number, buffer)| (number, buffer.oldest()))
    }
}
