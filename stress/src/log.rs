//! What a reader received, compared with what it should have received.

use std::collections::HashMap;

use event_buffer::TryRecvError;

use crate::event::Event;
use crate::fault::{Fault, Injected};
use crate::key::{Key, Part};

/// The first item that a new reader should receive.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start {
    /// The item at a place, which may be yet to come.
    At(Place),
    /// This very item.
    Item(Key),
    /// Unknown, since the reader subscribed while others published.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) stream: u16,
    pub(crate) index: u64,
}

impl Place {
    fn next(self) -> Self {
        Self {
            index: self.index + 1,
            ..self
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Entry {
    Item(Key),
    /// The reader reported that it skipped this many items.
    Skipped(u64),
    /// The drop of an event of this item panicked in a read. If it was the next item, the reader
    /// lost it to the panic. Otherwise the reader was closed during that read, and dropped what
    /// only it kept.
    Dropped(Key),
    /// An event was skipped, which may have been the last of its item. If true, it may belong to
    /// the previous item, the rest of which may still come.
    Unseen(bool),
}

/// How a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Closed,
    Failed,
    /// It continues in this stream, at this index if no other producer published meanwhile.
    Spliced(u16, Option<u64>),
}

/// What one reader received.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    start: Start,
    entries: Vec<Entry>,
    /// The next event of an item that was received in part.
    open: Option<Part>,
    /// An event was skipped: the next one may be in the middle of any item.
    is_lost: bool,
    /// `Closed` or `Failed`, if the reader reached the end.
    end: Option<Ending>,
    pub(crate) events: u64,
}

impl Log {
    pub(crate) fn new(start: Start) -> Self {
        Self {
            start,
            entries: Vec::new(),
            open: None,
            is_lost: false,
            end: None,
            events: 0,
        }
    }

    /// The log of another reader at the same place, which receives a partly received item whole.
    pub(crate) fn fork_whole(&self) -> Self {
        let open = self.open.map(|(key, ..)| Self::new(Start::Item(key)));
        open.unwrap_or_else(|| self.fork())
    }

    /// The log of another reader at the same place.
    pub(crate) fn fork(&self) -> Self {
        let last = self
            .entries
            .iter()
            .rposition(|entry| matches!(entry, Entry::Item(_)));
        Self {
            entries: self.entries[last.unwrap_or(0)..].to_vec(),
            start: if last.is_some() {
                Start::Unknown
            } else {
                self.start
            },
            open: self.open,
            is_lost: self.is_lost,
            end: None,
            events: 0,
        }
    }

    /// Records a single event. All events of an item must come in order, without others in between.
    pub(crate) fn event(&mut self, event: &Event) {
        event.verify();
        self.events += 1;
        let Event {
            key, part, parts, ..
        } = *event;
        match self.open {
            None => {
                assert!(
                    part == 0 || self.is_lost,
                    "{event:?} is in the middle of an item, after {self:?}"
                );
                self.entries.push(Entry::Item(key));
            }
            Some(next) => assert_eq!(next, (key, part, parts), "{event:?} is not the next event"),
        }
        self.is_lost = false;
        self.open = (part + 1 < parts).then_some((key, part + 1, parts));
    }

    pub(crate) fn is_in_item(&self) -> bool {
        self.open.is_some()
    }

    /// Records that the next event was skipped. It must be known: within an item, or one that could
    /// not be cloned before.
    pub(crate) fn skipped(&mut self, unclonable: Option<Part>) {
        let Some((key, part, parts)) = self.open.or(unclonable) else {
            panic!("unknown event skipped after {self:?}");
        };
        assert!(unclonable.is_none_or(|event| event == (key, part, parts)));
        if part == 0 {
            self.entries.push(Entry::Item(key));
        }
        self.open = (part + 1 < parts).then_some((key, part + 1, parts));
    }

    /// Records that an event was skipped at a place that the writer may have moved.
    pub(crate) fn skipped_unseen(&mut self) {
        let reopens = self.open.take().is_some();
        self.entries.push(Entry::Unseen(reopens));
        self.is_lost = true;
    }

    /// Records an item, which must be whole, even if some of its events were received before.
    pub(crate) fn item(&mut self, events: &[Event]) {
        if let Some((key, ..)) = self.open.take() {
            assert_eq!(events[0].key, key, "an item in the middle of another");
            self.entries.pop();
        }
        for event in events {
            self.event(event);
        }
        assert!(self.open.is_none(), "an item without its last events");
    }

    /// Records the event that a `Cloned` loses if the event's own drop panics in the read. See
    /// "What is not guaranteed" in `docs/GUARANTEES.md`.
    pub(crate) fn lost_to(&mut self, panic: &Injected) {
        let (Fault::Drop, Some((key, ..))) = (panic.fault, panic.of) else {
            return;
        };
        match self.open {
            Some((open, part, parts)) if open == key => {
                if part + 1 == parts {
                    self.open = None;
                }
            }
            _ => self.entries.push(Entry::Dropped(key)),
        }
    }

    pub(crate) fn ended(&mut self, end: &TryRecvError) {
        match end {
            TryRecvError::Lagged(items) => {
                // The rest of a partly received item counts as one skipped item.
                let items = items - u64::from(self.open.take().is_some());
                return self.entries.push(Entry::Skipped(items));
            }
            TryRecvError::Closed => self.end = Some(Ending::Closed),
            TryRecvError::Failed(_) => self.end = Some(Ending::Failed),
            _ => return,
        }
        assert!(self.open.is_none(), "ended in the middle of an item");
    }
}

/// What was published in one stream.
pub(crate) struct Published {
    /// The number of items by each of its producers.
    pub(crate) items: Vec<u32>,
    pub(crate) ending: Ending,
}

/// Everything that was published in a world, in order.
pub(crate) struct Timeline {
    streams: Vec<Published>,
    /// The order in streams with several producers, as their witnesses received them.
    orders: HashMap<Key, u64>,
}

impl Timeline {
    pub(crate) fn new(streams: Vec<Published>) -> Self {
        Self {
            streams,
            orders: HashMap::new(),
        }
    }

    /// Takes the order in a stream with several producers from a reader that has received all of
    /// it, and checks that each producer's items are in order.
    pub(crate) fn witness(&mut self, stream: u16, log: &Log) {
        let published = &self.streams[usize::from(stream)];
        let mut next = vec![0; published.items.len()];
        let items = log.entries.iter().filter_map(|entry| match entry {
            Entry::Item(key) if key.stream == stream => Some(*key),
            _ => None,
        });
        for (key, index) in items.zip(0..) {
            let next = &mut next[usize::from(key.producer)];
            assert_eq!(key.n, *next, "the order of a producer's items, at {key:?}");
            *next += 1;
            self.orders.insert(key, index);
        }
        assert_eq!(
            next, published.items,
            "the items of each producer in stream {stream}"
        );
    }

    fn stream(&self, stream: u16) -> (&Published, u64) {
        let published = &self.streams[usize::from(stream)];
        (
            published,
            published.items.iter().copied().map(u64::from).sum(),
        )
    }

    fn locate(&self, key: Key) -> Place {
        let several = self.stream(key.stream).0.items.len() > 1;
        let index = if several {
            self.orders.get(&key).copied()
        } else {
            Some(key.n.into())
        };
        let index = index.unwrap_or_else(|| panic!("{key:?} was not published"));
        Place {
            stream: key.stream,
            index,
        }
    }

    /// The place `count` items later, over splices; `None` beyond a splice to an unknown place.
    fn advance(&self, mut at: Place, mut count: u64) -> Option<Place> {
        loop {
            let (stream, len) = self.stream(at.stream);
            let left = len
                .checked_sub(at.index)
                .expect("beyond the end of a stream");
            match stream.ending {
                Ending::Spliced(to, Some(index)) if count >= left => {
                    at = Place { stream: to, index };
                    count -= left;
                }
                Ending::Spliced(_, None) if count > left => return None,
                _ => {
                    at.index += count;
                    return Some(at);
                }
            }
        }
    }

    /// Whether `found` may be the place `on` items after `at`.
    fn may_be(&self, at: Place, on: u64, found: Place) -> bool {
        self.advance(at, on)
            .is_none_or(|at| at == found || (on > 0 && self.is_unknown_splice(at)))
    }

    /// Whether the stream was spliced to an unknown place here.
    fn is_unknown_splice(&self, at: Place) -> bool {
        let (stream, len) = self.stream(at.stream);
        matches!(stream.ending, Ending::Spliced(_, None)) && at.index == len
    }

    /// Checks that a reader received every item from its start on, in order and once, except for
    /// the number that it reported as skipped, and up to the end if it reached that.
    pub(crate) fn verify(&mut self, log: &Log) {
        let mut at = match log.start {
            Start::At(place) => Some(place),
            Start::Item(key) => Some(self.locate(key)),
            Start::Unknown => None,
        };
        // The next item may be up to this many items later.
        let mut slack = 0;
        for (number, entry) in log.entries.iter().enumerate() {
            match *entry {
                Entry::Skipped(items) => at = at.and_then(|at| self.advance(at, items)),
                Entry::Dropped(key) => {
                    let found = self.locate(key);
                    at = at.and_then(|at| match self.advance(at, 0)? {
                        next if next == found => Some(found.next()),
                        // The target of that splice is not known yet.
                        next if self.is_unknown_splice(next) => None,
                        _ => Some(at),
                    });
                }
                Entry::Unseen(reopens) => {
                    slack += 1;
                    if let Some(at) = at.as_mut().filter(|_| reopens) {
                        at.index -= 1;
                    }
                }
                Entry::Item(key) => {
                    let found = self.locate(key);
                    let expected = at.and_then(|at| self.advance(at, 0));
                    let expected = match slack {
                        0 => expected.map(|at| self.learn(at, found)),
                        _ => expected,
                    };
                    let matches = expected.is_none_or(|expected| {
                        (0..=slack).any(|on| self.may_be(expected, on, found))
                    });
                    slack = 0;
                    assert!(
                        matches,
                        "{found:?} ({key:?}) instead of {expected:?}, \
                         at {number} of {:?} from {:?}",
                        &log.entries[number.saturating_sub(5)..=number],
                        log.start,
                    );
                    at = Some(found.next());
                }
            }
        }
        if let (Some(end), Some(at)) = (log.end, at) {
            let is_end = |at: Place| {
                let (stream, len) = self.stream(at.stream);
                let leads_on = matches!(stream.ending, Ending::Spliced(..));
                leads_on || (at.index, stream.ending) == (len, end)
            };
            let ends = (0..=slack).any(|on| self.advance(at, on).is_none_or(is_end));
            assert!(ends, "{end:?} at {at:?}");
        }
    }

    /// Learns the target of a splice, made while others published, from the first reader that
    /// crossed it; all others must agree. (A reader that reaches a third stream has found the
    /// second at its end.)
    fn learn(&mut self, at: Place, found: Place) -> Place {
        let len = self.stream(at.stream).1;
        match &mut self.streams[usize::from(at.stream)].ending {
            Ending::Spliced(to, index @ None) if at.index == len => {
                *index = (found.stream == *to).then_some(found.index);
                found
            }
            _ => at,
        }
    }
}
