//! Random use of the whole buffer, compared with a naive model of vectors and indexes.

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

/// An event, identified by a number. One in eight panics when it is cloned.
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
            // `panic!` would print a message.
            resume_unwind(Box::new("fragile"));
        }
        Self(self.0)
    }
}

/// One step. The first number chooses one of the writers, readers or marks.
#[derive(Clone, Debug)]
enum Step {
    Open(Replay),
    Append(usize, u32),
    Extend(usize, u32),
    Subscribe(usize),
    SubscribeFromStart(usize),
    MarkTail(usize),
    /// Splices to the mark that the second number chooses.
    Splice(usize, usize),
    Fail(usize),
    Close(usize),
    SubscribeAt(usize),
    Clone(usize),
    Resubscribe(usize),
    Mark(usize),
    Recv(usize),
    /// Reads a whole chunk, or a number of its events; then the loop may panic.
    Chunk(usize, Option<usize>, bool),
    /// Reads single events, and skips some of them.
    Cloned(usize, Vec<bool>),
    ForceClose(usize),
    Drop(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let n = || 0..64_usize;
    // Often less than what is ready; sometimes more than the 32 passed items that a `Cloned`
    // may keep alive.
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
        6 => (n(), option::of(some()), any::<bool>())
            .prop_map(|(r, most, panics)| Step::Chunk(r, most, panics)),
        3 => (n(), skips()).prop_map(|(r, skips)| Step::Cloned(r, skips)),
        1 => n().prop_map(Step::ForceClose),
        1 => n().prop_map(Step::Drop),
    ]
}

/// Whether to skip each of the next events.
fn skips() -> impl Strategy<Value = Vec<bool>> {
    let some = prop_oneof![0..8_usize, 0..80_usize];
    some.prop_flat_map(|count| vec(weighted(0.3), count))
}

fn replay() -> impl Strategy<Value = Replay> {
    select(&[Replay::None, Replay::Last(1), Replay::Last(3), Replay::All])
}

/// A place: the numbers of a buffer and of an item in it.
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
    /// The number of events of the item at this place that have been received one by one.
    received: usize,
    force_closed: bool,
    /// The failure at the end has been reported.
    failed: bool,
}

/// Why a read returns no event.
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
            other => panic!("unexpected: {other}"),
        }
    }
}

#[derive(Default)]
struct Model {
    buffers: Vec<ModelBuffer>,
}

impl Model {
    /// The place itself, and those at which reading continues over splices.
    fn path(&self, from: Place) -> impl Iterator<Item = Place> {
        iter::successors(Some(from), |at| match self.buffers[at.0].end {
            Some(End::Spliced(target)) => Some(target),
            _ => None,
        })
    }

    fn leads_to(&self, from: Place, buffer: usize) -> bool {
        self.path(from).any(|at| at.0 == buffer)
    }

    fn lag(&self, from: Place) -> u64 {
        let behind = |at: Place| self.buffers[at.0].items.len() - at.1;
        self.path(from).map(|at| behind(at) as u64).sum()
    }

    /// The lag of a reader; a closed one keeps no place, and has none.
    fn lag_of(&self, reader: &ModelReader) -> u64 {
        if reader.force_closed {
            0
        } else {
            self.lag(reader.at)
        }
    }

    /// The place after everything that can be read from this one.
    fn tail(&self, from: Place) -> Place {
        let (last, _) = self.path(from).last().unwrap();
        (last, self.buffers[last].items.len())
    }

    fn item(&self, at: Place) -> Option<&Vec<u32>> {
        self.buffers[at.0].items.get(at.1)
    }

    /// The place of the next item, which may be behind splices.
    fn next(&self, from: Place) -> Place {
        self.path(from)
            .find(|&at| self.item(at).is_some())
            .unwrap_or_else(|| self.tail(from))
    }

    /// Moves the reader to the next item, and returns that.
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
        // The whole item, even if some of its events were received.
        reader.received = 0;
        reader.at.1 += 1;
        Ok(item.clone())
    }

    /// Receives a single event.
    fn recv_event(&self, reader: &mut ModelReader) -> Result<u32, Nothing> {
        let event = self.look(reader)?[reader.received];
        if Event::is_fragile(event) {
            return Err(Nothing::Panic);
        }
        self.consume(reader);
        Ok(event)
    }

    /// Skips an event, if there is one.
    fn skip_event(&self, reader: &mut ModelReader) -> bool {
        // `look` would report a failure.
        reader.at = self.next(reader.at);
        let skips = !reader.force_closed && self.item(reader.at).is_some();
        if skips {
            self.consume(reader);
        }
        skips
    }

    /// Consumes an event. The item counts as received with its last one.
    fn consume(&self, reader: &mut ModelReader) {
        reader.received += 1;
        if Some(reader.received) == self.item(reader.at).map(Vec::len) {
            reader.received = 0;
            reader.at.1 += 1;
        }
    }

    /// Receives at most `most` events of all that are ready.
    fn recv_chunk(&self, reader: &mut ModelReader, most: usize) -> Result<Vec<u32>, Nothing> {
        self.look(reader)?;
        let mut events = Vec::new();
        while events.len() < most {
            // `look` would report a failure, which is left to the next read.
            reader.at = self.next(reader.at);
            let Some(item) = self.item(reader.at) else {
                break;
            };
            events.push(item[reader.received]);
            self.consume(reader);
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

    fn splice(self, target: &Mark, model: &mut Model) {
        self.real.splice(&target.real);
        // A cycle is refused.
        let is_cycle = model.leads_to(target.at, self.number);
        let spliced = End::Spliced(target.at);
        model.buffers[self.number].end = Some(if is_cycle { End::Failed } else { spliced });
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
                received: 0,
                failed: false,
                ..self.model
            },
        }
    }

    fn mark(&self, model: &mut Model) -> Mark {
        let mut at = self.model.at;
        if self.model.force_closed {
            // Its position is the end of an empty failed buffer.
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
        let result = self.real.try_recv();
        let result = result.map(|item| ids(&*item)).map_err(Nothing::from);
        assert_eq!(result, model.recv(&mut self.model));
    }

    fn chunk(&mut self, most: Option<usize>, panics: bool, model: &Model) {
        let result = match self.real.next_chunk().now_or_never() {
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
                    // This uses `fold`, which is implemented separately from `next`.
                    None => chunk.for_each(|event| lent.push(event)),
                }
                // Checked only now, since the references outlive the chunk.
                Ok(ids(lent))
            }
        };
        let most = most.unwrap_or(usize::MAX);
        assert_eq!(result, model.recv_chunk(&mut self.model, most));
    }

    /// Reads single events through copies of the reader, which are then dropped.
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
                let result = match catch_unwind(AssertUnwindSafe(|| real.try_recv())) {
                    Ok(result) => result.map(|event| event.0).map_err(Nothing::from),
                    Err(_) => Err(Nothing::Panic),
                };
                assert_eq!(result, model.recv_event(&mut reader));
            }
            assert_eq!(real.lag(), model.lag_of(&reader));
        }
    }

    fn force_close(&mut self) {
        // Only the first close has an effect.
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
    /// The number of events so made, which is the number of the next one.
    events: u32,
}

impl World {
    /// Executes a step; returns `None` if there is nothing that it could choose.
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
                let target = pick(marks, m)?;
                take(writers, w)?.splice(target, model);
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

    /// Checks the invariants after a step.
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
    fn the_buffer_agrees_with_vectors(
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
