//! The naive model: vectors and indexes.

use std::collections::VecDeque;
use std::{iter, mem};

use event_buffer::OnLag;

/// Number of the buffer, and of the item in it.
pub(super) type Place = (usize, usize);

/// How many items a reader of clones may hold that it has passed, in the midst of a backlog.
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

/// Why a read gives nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nothing {
    Empty,
    Closed,
    Failed(Failure),
    /// With this reason.
    ForceClosed(u32),
    /// So many items were skipped.
    Lagged(u64),
    /// Closed, as so many items were not received; at most so many in the model.
    LagExceeded(u64),
}

impl Nothing {
    /// Whether no later read finds more.
    pub(super) fn is_final(self) -> bool {
        !matches!(self, Self::Empty | Self::Lagged(_))
    }
}

pub(super) struct Buffer {
    /// Of one event or more, by id.
    pub(super) items: Vec<Vec<u32>>,
    pub(super) end: Option<End>,
    pub(super) limit: usize,
    /// How many items late readers can still read.
    pub(super) retained: usize,
    /// How often those who wait here may have been woken.
    pub(super) wakings: usize,
    /// Items below this are known to be dropped.
    pub(super) dropped: usize,
}

impl Buffer {
    /// Where the replay window begins.
    pub(super) fn oldest(&self) -> usize {
        self.items.len() - self.retained
    }

    fn has_ended(&self) -> bool {
        self.end.is_some()
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Reader {
    /// The next item.
    pub(super) at: Place,
    /// How many events of that have been given, one by one.
    pub(super) given: usize,
    /// What it has passed and may still hold.
    pub(super) passed: VecDeque<Place>,
    /// Number of what it shares with its closers.
    pub(super) closing: Option<usize>,
    /// The failure at the end has been said.
    pub(super) failed: bool,
    /// As a stream it has ended.
    pub(super) terminated: bool,
    pub(super) limit: Option<Limit>,
}

/// A reader's limit, and what it makes of the reader.
#[derive(Clone, Debug)]
pub(super) struct Limit {
    pub(super) items: usize,
    pub(super) bytes: Option<u64>,
    pub(super) on_lag: OnLag,
    /// How many skipped items the next read reports, before those.
    pub(super) skipped: u64,
    /// Events that are cloned and not given yet.
    pub(super) rest: VecDeque<u32>,
    /// An event after them could not be cloned: the reader is still at their item.
    pub(super) gave_back: bool,
    /// It was told that it is closed for its lag, with at most so many items.
    pub(super) closed: Option<u64>,
    /// From where on it may keep items. `None` where it may keep none.
    pub(super) keeps: Option<Place>,
    /// The tail when its writer had last a reason not to have looked yet.
    pub(super) since: Place,
}

impl Reader {
    pub(super) fn new(at: Place) -> Self {
        Self {
            at,
            ..Self::default()
        }
    }

    /// It waits, and holds nothing.
    pub(super) fn let_go(&mut self) {
        self.passed.clear();
    }

    /// Of what it has passed.
    pub(super) fn forget_all_but_a_stride(&mut self) {
        let excess = self.passed.len().saturating_sub(STRIDE);
        self.passed.drain(..excess);
    }
}

/// How items are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Item,
    Clone,
    /// At most so many events of a chunk.
    Chunk(usize),
    /// The same by `for_each`, of which the call for the last of them panics.
    Broken(usize),
}

pub(super) type Answer = Result<Vec<u32>, Nothing>;

#[derive(Default)]
pub(super) struct Model {
    pub(super) buffers: Vec<Buffer>,
    /// The reasons given to closers.
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

    /// The place itself, and those at which reading goes on from there over splices.
    pub(super) fn way(&self, from: Place) -> impl Iterator<Item = Place> {
        iter::successors(Some(from), |at| match self.buffers[at.0].end {
            Some(End::Spliced(onward)) => Some(onward),
            _ => None,
        })
    }

    pub(super) fn leads_to(&self, from: Place, buffer: usize) -> bool {
        self.way(from).any(|at| at.0 == buffer)
    }

    pub(super) fn lag(&self, from: Place) -> u64 {
        let behind = |at: Place| self.buffers[at.0].items.len() - at.1;
        self.way(from).map(|at| behind(at) as u64).sum()
    }

    pub(super) fn item(&self, at: Place) -> Option<&Vec<u32>> {
        self.buffers[at.0].items.get(at.1)
    }

    /// The place of the next item, if need be behind splices.
    pub(super) fn next(&self, from: Place) -> Place {
        let mut last = from;
        for at in self.way(from) {
            last = at;
            if self.item(at).is_some() {
                return at;
            }
        }
        last
    }

    /// What stands at the next place.
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

    /// Reads, and moves the reader on.
    pub(super) fn read(&self, reader: &mut Reader, way: Way) -> Answer {
        if reader.limit.is_some() {
            return self.read_limited(reader);
        }
        if let Some(reason) = self.force_closed(reader) {
            return Err(Nothing::ForceClosed(reason));
        }
        match self.approach(reader, way) {
            Err(Nothing::Failed(_)) if mem::replace(&mut reader.failed, true) => {
                Err(Nothing::Closed)
            }
            Err(nothing) => Err(nothing),
            Ok(item) => Ok(match way {
                // Whole, even if some of its events were given.
                Way::Item => {
                    reader.given = 0;
                    reader.at.1 += 1;
                    item.clone()
                }
                Way::Clone => vec![self.read_clone(reader, item)],
                Way::Chunk(most) | Way::Broken(most) => self.read_chunk(reader, most),
            }),
        }
    }

    /// Goes to what is read next, and looks at it.
    fn approach(&self, reader: &mut Reader, way: Way) -> Result<&Vec<u32>, Nothing> {
        let at = self.next(reader.at);
        let next = self.look(at);
        let at_the_end = next.is_err_and(Nothing::is_final);
        // Items and chunks are taken from where the reader stands.
        if way != Way::Clone || at_the_end || at.0 != reader.at.0 {
            reader.let_go();
        }
        reader.at = at;
        next
    }

    /// Goes over an event, if there is one.
    pub(super) fn skip(&self, reader: &mut Reader) -> bool {
        if reader.is_closed_for_lag() || self.force_closed(reader).is_some() {
            return false;
        }
        if reader.limit.is_some() {
            return self.skip_limited(reader);
        }
        match self.approach(reader, Way::Clone) {
            Ok(item) => {
                self.read_clone(reader, item);
                true
            }
            Err(_) => false,
        }
    }

    /// A single event. The item counts as received with its last.
    fn read_clone(&self, reader: &mut Reader, item: &[u32]) -> u32 {
        let event = item[reader.given];
        reader.given += 1;
        if reader.given == item.len() {
            reader.given = 0;
            self.pass(reader);
        }
        event
    }

    /// Goes over an item.
    fn pass(&self, reader: &mut Reader) {
        let at = self.next(reader.at);
        if at.0 != reader.at.0 {
            reader.let_go();
        }
        reader.passed.push_back(at);
        reader.at = (at.0, at.1 + 1);
        // In an ended buffer the end follows, of which it has not been told yet.
        if self.item(reader.at).is_some() || self.buffers[at.0].has_ended() {
            // What a chunk has lent before goes now, too.
            reader.forget_all_but_a_stride();
        } else {
            reader.let_go();
        }
    }

    /// At most so many events of all that is ready.
    fn read_chunk(&self, reader: &mut Reader, most: usize) -> Vec<u32> {
        let mut events = Vec::new();
        while events.len() < most {
            // Not `read`: a failure behind what is ready is left for the next read to say.
            reader.at = self.next(reader.at);
            let Some(item) = self.item(reader.at) else {
                break;
            };
            events.push(item[reader.given]);
            reader.given += 1;
            if reader.given == item.len() {
                reader.given = 0;
                reader.passed.push_back(reader.at);
                reader.at.1 += 1;
            }
        }
        events
    }

    /// From which number on the items of each buffer are reached from these places.
    pub(super) fn reach(&self, from: impl Iterator<Item = Place>) -> Vec<usize> {
        let mut reach = vec![usize::MAX; self.buffers.len()];
        for place in from {
            for (buffer, item) in self.way(place) {
                reach[buffer] = reach[buffer].min(item);
            }
        }
        reach
    }

    /// What the replay windows hold.
    pub(super) fn windows(&self) -> impl Iterator<Item = Place> {
        let open = self
            .buffers
            .iter()
            .enumerate()
            .filter(|(_, buffer)| !buffer.has_ended());
        open.map(|(number, buffer)| (number, buffer.oldest()))
    }
}
