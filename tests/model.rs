//! Random use of the whole buffer against a naive model: vectors and indexes.
#![cfg(not(loom))]

use event_buffer::{Closer, EventBuffer, Position, Replay, Subscription, TryRecvError};
use proptest::collection::vec;
use proptest::prelude::*;

/// One step. The numbers choose a buffer, a reader or a position among those there are.
#[derive(Clone, Debug)]
enum Step {
    Append(usize, usize),
    Extend(usize, usize),
    Subscribe(usize),
    SubscribeFromStart(usize),
    Clone(usize),
    Resubscribe(usize),
    Mark(usize),
    MarkTail(usize),
    SubscribeAt(usize),
    Recv(usize),
    Chunk(usize),
    Drop(usize),
    ForceClose(usize),
    Splice(usize, usize),
    Fail(usize),
    Close(usize),
}

fn step() -> impl Strategy<Value = Step> {
    use Step::*;
    let n = || 0..64_usize;
    prop_oneof![
        8 => (n(), 0..4_usize).prop_map(|(b, k)| Append(b, k)),
        4 => (n(), 0..50_usize).prop_map(|(b, k)| Extend(b, k)),
        2 => n().prop_map(Subscribe),
        2 => n().prop_map(SubscribeFromStart),
        1 => n().prop_map(Clone),
        1 => n().prop_map(Resubscribe),
        2 => n().prop_map(Mark),
        2 => n().prop_map(MarkTail),
        2 => n().prop_map(SubscribeAt),
        16 => n().prop_map(Recv),
        2 => n().prop_map(Chunk),
        1 => n().prop_map(Drop),
        1 => n().prop_map(ForceClose),
        1 => (n(), n()).prop_map(|(b, p)| Splice(b, p)),
        1 => n().prop_map(Fail),
        1 => n().prop_map(Close),
    ]
}

/// A place: buffer and number of the item.
type Place = (usize, usize);

#[derive(Clone, Debug, PartialEq)]
enum End {
    Closed,
    Failed,
    Spliced(Place),
}

#[derive(Default)]
struct ModelBuffer {
    items: Vec<Vec<u32>>,
    end: Option<End>,
    window: usize,
}

struct ModelReader {
    at: Place,
    force_closed: bool,
    failed: bool,
}

/// What a read answers.
#[derive(Debug, PartialEq)]
enum Answer {
    Item(Vec<u32>),
    Empty,
    Closed,
    Failed,
    ForceClosed,
}

impl From<TryRecvError> for Answer {
    fn from(error: TryRecvError) -> Self {
        match error {
            TryRecvError::Empty => Self::Empty,
            TryRecvError::Closed => Self::Closed,
            TryRecvError::Failed(_) => Self::Failed,
            TryRecvError::ForceClosed(_) => Self::ForceClosed,
            other => panic!("not expected: {other}"),
        }
    }
}

#[derive(Default)]
struct Model(Vec<ModelBuffer>);

impl Model {
    /// The place after going over splices.
    fn resolve(&self, mut at: Place) -> Place {
        loop {
            let buffer = &self.0[at.0];
            match &buffer.end {
                Some(End::Spliced(next)) if at.1 == buffer.items.len() => at = *next,
                _ => return at,
            }
        }
    }

    fn leads_to(&self, mut buffer: usize, target: usize) -> bool {
        loop {
            if buffer == target {
                return true;
            }
            match self.0[buffer].end {
                Some(End::Spliced((next, _))) => buffer = next,
                _ => return false,
            }
        }
    }

    fn recv(&self, reader: &mut ModelReader) -> Answer {
        if reader.force_closed {
            return Answer::ForceClosed;
        }
        reader.at = self.resolve(reader.at);
        let buffer = &self.0[reader.at.0];
        if let Some(item) = buffer.items.get(reader.at.1) {
            reader.at.1 += 1;
            return Answer::Item(item.clone());
        }
        match &buffer.end {
            None => Answer::Empty,
            Some(End::Failed) if !std::mem::replace(&mut reader.failed, true) => Answer::Failed,
            Some(_) => Answer::Closed,
        }
    }

    fn lag(&self, mut at: Place) -> usize {
        let mut lag = 0;
        loop {
            let buffer = &self.0[at.0];
            lag += buffer.items.len() - at.1;
            match buffer.end {
                Some(End::Spliced(next)) => at = next,
                _ => return lag,
            }
        }
    }

    fn is_observed(&self, buffer: usize, readers: &[Reader]) -> bool {
        readers
            .iter()
            .any(|reader| self.leads_to(reader.model.at.0, buffer))
    }
}

struct Reader {
    real: Subscription<u32>,
    closer: Closer,
    model: ModelReader,
}

impl Reader {
    fn new(real: Subscription<u32>, model: ModelReader) -> Self {
        let closer = real.closer();
        Self {
            real,
            closer,
            model,
        }
    }
}

fn fresh(at: Place) -> ModelReader {
    ModelReader {
        at,
        force_closed: false,
        failed: false,
    }
}

fn run(windows: &[usize], steps: Vec<Step>) {
    let mut model = Model::default();
    let mut writers: Vec<Option<EventBuffer<u32>>> = Vec::new();
    for &window in windows {
        let replay = match window {
            9 => Replay::All,
            0 => Replay::None,
            n => Replay::Last(n),
        };
        writers.push(Some(EventBuffer::builder().replay(replay).build()));
        let window = if window == 9 { usize::MAX } else { window };
        model.0.push(ModelBuffer {
            window,
            ..ModelBuffer::default()
        });
    }
    let mut readers: Vec<Reader> = Vec::new();
    let mut places: Vec<(Position<u32>, Place)> = Vec::new();
    let mut next = 0_u32;
    let mut event = move || {
        next += 1;
        next
    };
    for step in steps {
        let which = match step {
            Step::Append(b, _)
            | Step::Extend(b, _)
            | Step::Subscribe(b)
            | Step::SubscribeFromStart(b)
            | Step::MarkTail(b)
            | Step::Splice(b, _)
            | Step::Fail(b)
            | Step::Close(b) => b % writers.len(),
            Step::SubscribeAt(p) if !places.is_empty() => p % places.len(),
            Step::SubscribeAt(_) => continue,
            Step::Clone(r)
            | Step::Resubscribe(r)
            | Step::Mark(r)
            | Step::Recv(r)
            | Step::Chunk(r)
            | Step::Drop(r)
            | Step::ForceClose(r) => {
                if readers.is_empty() {
                    continue;
                }
                r % readers.len()
            }
        };
        match step {
            Step::Append(_, k) => {
                let Some(writer) = &mut writers[which] else {
                    continue;
                };
                let events: Vec<u32> = (0..k).map(|_| event()).collect();
                writer.append(events.iter().copied());
                if k > 0 {
                    model.0[which].items.push(events);
                }
            }
            Step::Extend(_, k) => {
                let Some(writer) = &mut writers[which] else {
                    continue;
                };
                let events: Vec<u32> = (0..k).map(|_| event()).collect();
                model.0[which]
                    .items
                    .extend(events.iter().map(|&event| vec![event]));
                writer.extend(events);
            }
            Step::Subscribe(_) => {
                let Some(writer) = &writers[which] else {
                    continue;
                };
                let at = (which, model.0[which].items.len());
                readers.push(Reader::new(writer.subscribe(), fresh(at)));
            }
            Step::SubscribeFromStart(_) => {
                let Some(writer) = &writers[which] else {
                    continue;
                };
                let buffer = &model.0[which];
                let at = (which, buffer.items.len().saturating_sub(buffer.window));
                readers.push(Reader::new(writer.subscribe_from_start(), fresh(at)));
            }
            Step::MarkTail(_) => {
                let Some(writer) = &writers[which] else {
                    continue;
                };
                places.push((writer.tail(), (which, model.0[which].items.len())));
            }
            Step::SubscribeAt(_) => {
                let (position, at) = &places[which];
                readers.push(Reader::new(position.subscribe(), fresh(*at)));
            }
            Step::Clone(_) => {
                let reader = &readers[which];
                let copy = ModelReader { ..reader.model };
                readers.push(Reader::new(reader.real.clone(), copy));
            }
            Step::Resubscribe(_) => {
                let reader = &readers[which];
                let mut at = reader.model.at;
                while model.resolve(at) != at || at.1 < model.0[at.0].items.len() {
                    at = model.resolve((at.0, model.0[at.0].items.len()));
                }
                let copy = ModelReader {
                    at,
                    failed: false,
                    ..reader.model
                };
                readers.push(Reader::new(reader.real.resubscribe(), copy));
            }
            Step::Mark(_) => {
                let reader = &readers[which];
                places.push((reader.real.position(), reader.model.at));
            }
            Step::Recv(_) => {
                let Reader {
                    real,
                    model: reader,
                    ..
                } = &mut readers[which];
                let answer = match real.try_recv() {
                    Ok(item) => Answer::Item(item.to_vec()),
                    Err(error) => error.into(),
                };
                assert_eq!(answer, model.recv(reader));
            }
            Step::Chunk(_) => {
                let Reader {
                    real,
                    model: reader,
                    ..
                } = &mut readers[which];
                // Only where something is ready: there is no `try_next_chunk`.
                if reader.force_closed || model.lag(reader.at) == 0 {
                    continue;
                }
                let chunk = futures::executor::block_on(real.next_chunk()).unwrap();
                let seen: Vec<u32> = chunk.copied().collect();
                let mut expected = Vec::new();
                while model.lag(reader.at) > 0 {
                    match model.recv(reader) {
                        Answer::Item(item) => expected.extend(item),
                        other => panic!("{other:?}"),
                    }
                }
                reader.at = model.resolve(reader.at);
                assert_eq!(seen, expected);
            }
            Step::Drop(_) => drop(readers.swap_remove(which)),
            Step::ForceClose(_) => {
                let reader = &mut readers[which];
                assert_eq!(reader.closer.close("enough"), !reader.model.force_closed);
                reader.model.force_closed = true;
            }
            Step::Splice(_, p) => {
                if places.is_empty() {
                    continue;
                }
                let Some(writer) = writers[which].take() else {
                    continue;
                };
                let (position, at) = &places[p % places.len()];
                let ring = model.leads_to(at.0, which);
                model.0[which].end = Some(if ring { End::Failed } else { End::Spliced(*at) });
                writer.splice(position);
            }
            Step::Fail(_) => {
                let Some(writer) = writers[which].take() else {
                    continue;
                };
                writer.fail("broken");
                model.0[which].end = Some(End::Failed);
            }
            Step::Close(_) => {
                let Some(writer) = writers[which].take() else {
                    continue;
                };
                writer.close();
                model.0[which].end = Some(End::Closed);
            }
        }
        for reader in &readers {
            assert_eq!(reader.real.lag(), model.lag(reader.model.at) as u64);
        }
        for (n, writer) in writers.iter().enumerate() {
            let Some(writer) = writer else { continue };
            let buffer = &model.0[n];
            let retained = buffer.items.len().min(buffer.window);
            assert_eq!(writer.len(), retained);
            let newest = buffer.items.last().filter(|_| retained > 0);
            assert_eq!(writer.head().as_deref(), newest.map(Vec::as_slice));
            assert_eq!(writer.is_observed(), model.is_observed(n, &readers));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_buffer_does_what_vectors_would(
        windows in vec(prop_oneof![Just(0_usize), Just(1), Just(3), Just(9)], 1..4),
        steps in vec(step(), 0..200),
    ) {
        run(&windows, steps);
    }
}
