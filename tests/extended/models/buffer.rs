//! Random use of the whole buffer against a naive model: vectors and indexes.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::{iter, mem};

use event_buffer::{
    Cloned, EventBuffer, LagLimit, Limited, Position, Replay, Subscription, TryRecvError,
};
use futures::FutureExt;
use proptest::bool::weighted;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::watchdog;

/// An event, by number. One in eight panics when it is cloned.
#[derive(Debug, PartialEq)]
struct Event(u32);

impl Event {
    fn is_fragile(id: u32) -> bool {
        id % 8 == 5
    }
}

impl Clone for Event {
    fn clone(&self) -> Self {
        if Self::is_fragile(self.0) {
            // Not `panic!`, which says so.
            resume_unwind(Box::new("fragile"));
        }
        Self(self.0)
    }
}

/// One step. The first number chooses a writer, a reader or a mark among those there are.
#[derive(Clone, Debug)]
enum Step {
    Open(Replay),
    Append(usize, u32),
    Extend(usize, u32),
    Subscribe(usize),
    SubscribeFromStart(usize),
    MarkTail(usize),
    /// To the mark that the second number chooses.
    Splice(usize, usize),
    Fail(usize),
    Close(usize),
    SubscribeAt(usize),
    Clone(usize),
    Resubscribe(usize),
    Mark(usize),
    Recv(usize),
    /// All of a chunk, or so many of its events; then the loop may panic.
    Chunk(usize, Option<usize>, bool),
    /// Single events, some of which are skipped.
    Cloned(usize, Vec<bool>),
    ForceClose(usize),
    Drop(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let n = || 0..64_usize;
    // Often a part of what is ready; also more than the 32 items by which a reader may be ahead
    // of what it keeps alive.
    let some = || prop_oneof![0..8_usize, 0..80_usize];
    prop_oneof![
        2 => replay().prop_map(Step::Open),
        8 => (n(), 0..4_u32).prop_map(|(w, k)| Step::Append(w, k)),
        4 => (n(), 0..50_u32).prop_map(|(w, k)| Step::Extend(w, k)),
        2 => n().prop_map(Step::Subscribe),
        2 => n().prop_map(Step::SubscribeFromStart),
        2 => n().prop_map(Step::MarkTail),
        1 => (n(), n()).prop_map(|(w, m)| Step::Splice(w, m)),
        1 => n().prop_map(Step::Fail),
        1 => n().prop_map(Step::Close),
        2 => n().prop_map(Step::SubscribeAt),
        1 => n().prop_map(Step::Clone),
        1 => n().prop_map(Step::Resubscribe),
        2 => n().prop_map(Step::Mark),
        16 => n().prop_map(Step::Recv),
        6 => (n(), option::of(some()), any::<bool>()).prop_map(|(r, most, panics)| Step::Chunk(r, most, panics)),
        3 => (n(), skips()).prop_map(|(r, skips)| Step::Cloned(r, skips)),
        1 => n().prop_map(Step::ForceClose),
        1 => n().prop_map(Step::Drop),
    ]
}

/// Which of the next events are skipped.
fn skips() -> impl Strategy<Value = Vec<bool>> {
    let some = prop_oneof![0..8_usize, 0..80_usize];
    some.prop_flat_map(|count| vec(weighted(0.3), count))
}

fn replay() -> impl Strategy<Value = Replay> {
    select(&[Replay::None, Replay::Last(1), Replay::Last(3), Replay::All])
}

/// A place: number of the buffer and of the item in it.
type Place = (usize, usize);

enum End {
    Closed,
    Failed,
    Spliced(Place),
}

struct ModelBuffer {
    items: Vec<Vec<u32>>,
    end: Option<End>,
    window: usize,
}

impl ModelBuffer {
    fn retained(&self) -> usize {
        self.items.len().min(self.window)
    }
}

#[derive(Clone, Default)]
struct ModelReader {
    at: Place,
    /// How many events of the item there have been given, one by one.
    given: usize,
    force_closed: bool,
    /// The failure at the end has been said.
    failed: bool,
}

/// Why a read gives nothing.
#[derive(Debug, PartialEq)]
enum Nothing {
    Empty,
    Closed,
    Failed,
    ForceClosed,
    /// The event could not be cloned.
    Panic,
}

impl<E: Into<TryRecvError>> From<E> for Nothing {
    fn from(error: E) -> Self {
        match error.into() {
            TryRecvError::Empty => Self::Empty,
            TryRecvError::Closed => Self::Closed,
            TryRecvError::Failed(_) => Self::Failed,
            TryRecvError::ForceClosed(_) => Self::ForceClosed,
            other => panic!("not expected: {other}"),
        }
    }
}

#[derive(Default)]
struct Model {
    buffers: Vec<ModelBuffer>,
}

impl Model {
    /// The place itself, and those at which reading goes on from there over splices.
    fn way(&self, from: Place) -> impl Iterator<Item = Place> {
        iter::successors(Some(from), |at| match self.buffers[at.0].end {
            Some(End::Spliced(onward)) => Some(onward),
            _ => None,
        })
    }

    fn leads_to(&self, from: Place, buffer: usize) -> bool {
        self.way(from).any(|at| at.0 == buffer)
    }

    fn lag(&self, from: Place) -> u64 {
        let behind = |at: Place| self.buffers[at.0].items.len() - at.1;
        self.way(from).map(|at| behind(at) as u64).sum()
    }

    /// A closed reader keeps no place.
    fn lag_of(&self, reader: &ModelReader) -> u64 {
        if reader.force_closed {
            0
        } else {
            self.lag(reader.at)
        }
    }

    /// The place after all that can be read from there.
    fn tail(&self, from: Place) -> Place {
        let (last, _) = self.way(from).last().unwrap();
        (last, self.buffers[last].items.len())
    }

    fn item(&self, at: Place) -> Option<&Vec<u32>> {
        self.buffers[at.0].items.get(at.1)
    }

    /// The place of the next item, if need be behind splices.
    fn next(&self, from: Place) -> Place {
        self.way(from)
            .find(|&at| self.item(at).is_some())
            .unwrap_or_else(|| self.tail(from))
    }

    /// Moves the reader to the next item and shows it.
    fn look(&self, reader: &mut ModelReader) -> Result<&Vec<u32>, Nothing> {
        if reader.force_closed {
            return Err(Nothing::ForceClosed);
        }
        reader.at = self.next(reader.at);
        let end = &self.buffers[reader.at.0].end;
        self.item(reader.at).ok_or_else(|| match end {
            None => Nothing::Empty,
            Some(End::Failed) if !mem::replace(&mut reader.failed, true) => Nothing::Failed,
            Some(_) => Nothing::Closed,
        })
    }

    fn recv(&self, reader: &mut ModelReader) -> Result<Vec<u32>, Nothing> {
        let item = self.look(reader)?;
        // Whole, even if some of its events were given.
        reader.given = 0;
        reader.at.1 += 1;
        Ok(item.clone())
    }

    /// A single event.
    fn recv_event(&self, reader: &mut ModelReader) -> Result<u32, Nothing> {
        let event = self.look(reader)?[reader.given];
        if Event::is_fragile(event) {
            return Err(Nothing::Panic);
        }
        self.give(reader);
        Ok(event)
    }

    /// Goes over an event, if there is one.
    fn skip_event(&self, reader: &mut ModelReader) -> bool {
        // Not by `look`, which reports a failure.
        reader.at = self.next(reader.at);
        let skips = !reader.force_closed && self.item(reader.at).is_some();
        if skips {
            self.give(reader);
        }
        skips
    }

    /// The next event there was given. The item counts as received with its last.
    fn give(&self, reader: &mut ModelReader) {
        reader.given += 1;
        if Some(reader.given) == self.item(reader.at).map(Vec::len) {
            reader.given = 0;
            reader.at.1 += 1;
        }
    }

    /// At most so many events of all that is ready.
    fn recv_chunk(&self, reader: &mut ModelReader, most: usize) -> Result<Vec<u32>, Nothing> {
        self.look(reader)?;
        let mut events = Vec::new();
        while events.len() < most {
            // Not `look`: a failure behind what is ready is left for the next read to say.
            reader.at = self.next(reader.at);
            let Some(item) = self.item(reader.at) else {
                break;
            };
            events.push(item[reader.given]);
            self.give(reader);
        }
        Ok(events)
    }
}

/// The writer of a buffer that has not ended.
struct Writer {
    real: EventBuffer<Event>,
    number: usize,
}

impl Writer {
    fn open(replay: Replay, model: &mut Model) -> Self {
        let number = model.buffers.len();
        model.buffers.push(ModelBuffer {
            items: Vec::new(),
            end: None,
            window: match replay {
                Replay::None => 0,
                Replay::Last(n) => n,
                Replay::All => usize::MAX,
            },
        });
        let real = EventBuffer::builder().replay(replay).build();
        Self { real, number }
    }

    fn append(&mut self, events: Vec<u32>, model: &mut Model) {
        self.real.append(events.iter().copied().map(Event));
        if !events.is_empty() {
            model.buffers[self.number].items.push(events);
        }
    }

    fn extend(&mut self, events: Vec<u32>, model: &mut Model) {
        self.real.extend(events.iter().copied().map(Event));
        let items = events.into_iter().map(|event| vec![event]);
        model.buffers[self.number].items.extend(items);
    }

    fn subscribe(&self, model: &Model) -> Reader {
        let tail = (self.number, model.buffers[self.number].items.len());
        Reader::new(self.real.subscribe(), tail)
    }

    fn subscribe_from_start(&self, model: &Model) -> Reader {
        let buffer = &model.buffers[self.number];
        let start = (self.number, buffer.items.len() - buffer.retained());
        Reader::new(self.real.subscribe_from_start(), start)
    }

    fn mark_tail(&self, model: &Model) -> Mark {
        Mark {
            real: self.real.tail(),
            at: (self.number, model.buffers[self.number].items.len()),
        }
    }

    fn splice(self, onward: &Mark, model: &mut Model) {
        self.real.splice(&onward.real);
        // A ring is refused.
        let ring = model.leads_to(onward.at, self.number);
        let spliced = End::Spliced(onward.at);
        model.buffers[self.number].end = Some(if ring { End::Failed } else { spliced });
    }

    fn fail(self, model: &mut Model) {
        self.real.fail("broken");
        model.buffers[self.number].end = Some(End::Failed);
    }

    fn close(self, model: &mut Model) {
        self.real.close();
        model.buffers[self.number].end = Some(End::Closed);
    }

    fn check(&self, model: &Model, readers: &[Reader]) {
        let buffer = &model.buffers[self.number];
        let retained = buffer.retained();
        assert_eq!(self.real.retained(), retained);
        let newest = buffer.items.last().filter(|_| retained > 0);
        let head = self.real.latest();
        assert_eq!(head.map(|item| ids(&*item)).as_ref(), newest);
        let comes_here = |reader: &Reader| {
            !reader.model.force_closed && model.leads_to(reader.model.at, self.number)
        };
        assert_eq!(self.real.is_observed(), readers.iter().any(comes_here));
    }
}

/// A position from which reading can start.
struct Mark {
    real: Position<Event>,
    at: Place,
}

fn ids<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<u32> {
    events.into_iter().map(|event| event.0).collect()
}

/// A reader of single events.
trait Singles {
    fn try_recv(&mut self) -> Result<Event, TryRecvError>;
    fn skip_event(&mut self) -> bool;
    fn lag(&self) -> u64;
}

macro_rules! singles {
    ($($reader:ident),*) => {$(
        impl Singles for $reader<Event> {
            fn try_recv(&mut self) -> Result<Event, TryRecvError> {
                $reader::try_recv(self)
            }

            fn skip_event(&mut self) -> bool {
                $reader::skip_event(self)
            }

            fn lag(&self) -> u64 {
                $reader::lag(self)
            }
        }
    )*};
}

singles!(Cloned, Limited);

#[derive(Clone)]
struct Reader {
    real: Subscription<Event>,
    model: ModelReader,
}

impl Reader {
    fn new(real: Subscription<Event>, at: Place) -> Self {
        let model = ModelReader {
            at,
            ..ModelReader::default()
        };
        Self { real, model }
    }

    fn resubscribe(&self, model: &Model) -> Self {
        Self {
            real: self.real.resubscribe(),
            model: ModelReader {
                at: model.tail(self.model.at),
                given: 0,
                failed: false,
                ..self.model
            },
        }
    }

    fn mark(&self, model: &mut Model) -> Mark {
        let mut at = self.model.at;
        if self.model.force_closed {
            // The end of an empty buffer that has failed.
            at = (model.buffers.len(), 0);
            model.buffers.push(ModelBuffer {
                items: Vec::new(),
                end: Some(End::Failed),
                window: 0,
            });
        }
        Mark {
            real: self.real.position(),
            at,
        }
    }

    fn recv(&mut self, model: &Model) {
        let answer = self.real.try_recv();
        let answer = answer.map(|item| ids(&*item)).map_err(Nothing::from);
        assert_eq!(answer, model.recv(&mut self.model));
    }

    fn chunk(&mut self, most: Option<usize>, panics: bool, model: &Model) {
        let answer = match self.real.next_chunk().now_or_never() {
            None => Err(Nothing::Empty),
            Some(Err(end)) => Err(end.into()),
            Some(Ok(chunk)) => {
                let mut lent: Vec<&Event> = Vec::new();
                match most {
                    Some(most @ 1..) if panics => {
                        let visit = |event| {
                            lent.push(event);
                            if lent.len() == most {
                                resume_unwind(Box::new("enough"));
                            }
                        };
                        _ = catch_unwind(AssertUnwindSafe(|| chunk.for_each(visit)));
                    }
                    Some(most) => lent.extend(chunk.take(most)),
                    // By `fold`, which goes another way than `next`.
                    None => chunk.for_each(|event| lent.push(event)),
                }
                // Looked at only now: what was lent outlives the chunk.
                Ok(ids(lent))
            }
        };
        let most = most.unwrap_or(usize::MAX);
        assert_eq!(answer, model.recv_chunk(&mut self.model, most));
    }

    /// Reads single events through copies, which are gone afterwards.
    fn cloned(&self, skips: &[bool], model: &Model) {
        let no_limit = LagLimit::items(u64::MAX);
        self.read_singles(self.real.clone().cloned(), skips, model);
        self.read_singles(self.real.clone().limited(no_limit), skips, model);
    }

    fn read_singles(&self, mut real: impl Singles, skips: &[bool], model: &Model) {
        let mut reader = self.model.clone();
        for skip in skips {
            if *skip {
                assert_eq!(real.skip_event(), model.skip_event(&mut reader));
            } else {
                let answer = match catch_unwind(AssertUnwindSafe(|| real.try_recv())) {
                    Ok(answer) => answer.map(|event| event.0).map_err(Nothing::from),
                    Err(_) => Err(Nothing::Panic),
                };
                assert_eq!(answer, model.recv_event(&mut reader));
            }
            assert_eq!(real.lag(), model.lag_of(&reader));
        }
    }

    fn force_close(&mut self) {
        // Only the first closes.
        let closes = !mem::replace(&mut self.model.force_closed, true);
        assert_eq!(self.real.closer().close("enough"), closes);
    }
}

/// The real buffers and the model, side by side.
#[derive(Default)]
struct World {
    writers: Vec<Writer>,
    readers: Vec<Reader>,
    marks: Vec<Mark>,
    model: Model,
    /// How many events there have been; no two are the same.
    events: u32,
}

impl World {
    /// Answers `None` where there is nothing that the step could choose.
    fn step(&mut self, step: &Step) -> Option<()> {
        let Self {
            writers,
            readers,
            marks,
            model,
            events,
        } = self;
        let mut fresh = |count| {
            *events += count;
            (*events - count..*events).collect()
        };
        match *step {
            Step::Open(replay) => writers.push(Writer::open(replay, model)),
            Step::Append(w, k) => pick(writers, w)?.append(fresh(k), model),
            Step::Extend(w, k) => pick(writers, w)?.extend(fresh(k), model),
            Step::Subscribe(w) => readers.push(pick(writers, w)?.subscribe(model)),
            Step::SubscribeFromStart(w) => {
                readers.push(pick(writers, w)?.subscribe_from_start(model));
            }
            Step::MarkTail(w) => marks.push(pick(writers, w)?.mark_tail(model)),
            Step::Splice(w, m) => {
                let onward = pick(marks, m)?;
                take(writers, w)?.splice(onward, model);
            }
            Step::Fail(w) => take(writers, w)?.fail(model),
            Step::Close(w) => take(writers, w)?.close(model),
            Step::SubscribeAt(m) => {
                let Mark { real, at } = pick(marks, m)?;
                readers.push(Reader::new(real.subscribe(), *at));
            }
            Step::Clone(r) => {
                let copy = pick(readers, r)?.clone();
                readers.push(copy);
            }
            Step::Resubscribe(r) => {
                let fresh = pick(readers, r)?.resubscribe(model);
                readers.push(fresh);
            }
            Step::Mark(r) => marks.push(pick(readers, r)?.mark(model)),
            Step::Recv(r) => pick(readers, r)?.recv(model),
            Step::Chunk(r, most, panics) => pick(readers, r)?.chunk(most, panics, model),
            Step::Cloned(r, ref skips) => pick(readers, r)?.cloned(skips, model),
            Step::ForceClose(r) => pick(readers, r)?.force_close(),
            Step::Drop(r) => drop(take(readers, r)?),
        }
        Some(())
    }

    /// What must hold after each step.
    fn check(&self) {
        for reader in &self.readers {
            assert_eq!(reader.real.lag(), self.model.lag_of(&reader.model));
        }
        for mark in &self.marks {
            assert_eq!(mark.real.lag(), self.model.lag(mark.at));
        }
        for writer in &self.writers {
            writer.check(&self.model, &self.readers);
        }
    }
}

fn pick<T>(all: &mut [T], n: usize) -> Option<&mut T> {
    let n = n.checked_rem(all.len())?;
    all.get_mut(n)
}

fn take<T>(all: &mut Vec<T>, n: usize) -> Option<T> {
    let n = n.checked_rem(all.len())?;
    Some(all.swap_remove(n))
}

proptest! {
    #![proptest_config(crate::cases(512))]

    #[test]
    fn the_buffer_does_what_vectors_would(
        replays in vec(replay(), 1..4),
        steps in vec(step(), 0..200),
    ) {
        let _watchdog = watchdog();
        let mut world = World::default();
        for step in replays.into_iter().map(Step::Open).chain(steps) {
            world.step(&step);
            world.check();
        }
    }
}
