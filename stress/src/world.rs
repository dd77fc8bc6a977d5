//! A world of streams: buffers that are spliced to each other, their producers and their readers.

use std::collections::VecDeque;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::Release};
use std::thread;

use event_buffer::{
    Bookmark, BookmarkError, Closer, Deferred, EventBuffer, Position, Replay, ResumeError,
    SharedBuffer, Subscription,
};
use futures::executor::block_on;
use futures::{FutureExt, Sink, SinkExt};
use parking_lot::Mutex;

use crate::event::{Bomb, Event, INDEXES};
use crate::fault::{Fault, Injected, caught, raise};
use crate::key::Key;
use crate::log::{Ending, Log, Place, Published, Start, Timeline};
use crate::reader::{Behaviour, ReaderTask, Report, attempt};
use crate::rng::Rng;
use crate::venue::Handle;

pub(crate) static PUBLISHED: AtomicU64 = AtomicU64::new(0);

/// For each stream, a place to which other streams may be spliced, with its index if the stream has
/// only one producer.
type Posts = Arc<Vec<Mutex<Option<(Position<Event>, Option<u64>)>>>>;

#[derive(Clone)]
struct World {
    behaviour: Behaviour,
    posts: Posts,
    /// The producer closes all readers, and waits until none is left, before the end.
    closes_readers: bool,
}

/// How a stream will end.
#[derive(Clone, Copy)]
enum Plan {
    Close,
    Fail,
    /// It is spliced to itself, which is refused.
    Cycle,
    Splice(u16),
}

/// The result of a producer.
struct Done {
    items: u32,
    /// Set by the producer that ended the stream.
    ending: Option<Ending>,
    readers: Vec<Handle<Report>>,
}

pub(crate) fn run(mut rng: Rng, plain: bool) {
    let streams = rng.pick(&[1, 1, 2, 3, 4]);
    let calm = rng.one_in(4);
    let closes_readers = streams == 1 && !plain && rng.one_in(3);
    let behaviour = Behaviour {
        plain,
        calm,
        alone: closes_readers,
        witness: false,
    };
    let windows = [0, 1, 1, 3, 20, usize::MAX];
    let buffers: Vec<_> = (0..streams)
        .map(|_| {
            let window = rng.pick(&windows);
            let replay = if window == usize::MAX {
                Replay::All
            } else {
                Replay::Last(window)
            };
            (EventBuffer::builder().replay(replay).build(), window)
        })
        .collect();
    let post =
        |(buffer, _): &(EventBuffer<Event>, usize)| Mutex::new(Some((buffer.tail(), Some(0))));
    let world = World {
        behaviour,
        posts: Arc::new(buffers.iter().map(post).collect()),
        closes_readers,
    };

    let mut producing: Vec<Vec<thread::JoinHandle<Done>>> = Vec::new();
    let mut witnesses = Vec::new();
    // The last stream first: the others lead to it, directly or by way of each other.
    for ((buffer, window), stream) in buffers.into_iter().zip(0..streams).rev() {
        let ending = if stream + 1 < streams {
            Plan::Splice(
                stream + 1 + u16::try_from(rng.below((streams - stream - 1).into())).expect("few"),
            )
        } else {
            rng.pick(&[Plan::Close, Plan::Close, Plan::Fail, Plan::Cycle])
        };
        let several = !closes_readers && rng.one_in(3);
        let items = rng.pick(&[20, 100, 200, 400, 400, 3_000]);
        let mut producer = Producer::new(buffer, window, stream, items, world.clone(), rng.fork());
        (0..rng.below(5))
            .for_each(|_| producer.start_reader(producer.buffer.subscribe(), producer.tail()));
        producing.push(if several {
            let witness = Behaviour {
                witness: true,
                alone: true,
                ..behaviour
            };
            let task = ReaderTask::new(Log::new(producer.tail()), rng.fork(), witness);
            witnesses.push((stream, task.start(producer.buffer.subscribe())));
            producer.share(2 + rng.index(2), ending)
        } else {
            vec![thread::spawn(move || producer.produce(ending))]
        });
        if rng.one_in(4) {
            // Other streams will be spliced to this one after it has ended.
            while producing
                .last()
                .is_some_and(|of| of.iter().any(|thread| !thread.is_finished()))
            {
                thread::yield_now();
            }
        }
    }

    let mut readers = Vec::new();
    let mut published = VecDeque::new();
    for producers in producing {
        let mut stream = Published {
            items: Vec::new(),
            ending: Ending::Closed,
        };
        let mut endings = 0;
        for producer in producers {
            let done = producer.join().expect("its panics are caught");
            stream.items.push(done.items);
            endings += done.ending.iter().len();
            stream.ending = done.ending.unwrap_or(stream.ending);
            readers.extend(done.readers);
        }
        assert_eq!(endings, 1, "the last handle ends the stream once");
        PUBLISHED.fetch_add(stream.items.iter().copied().map(u64::from).sum(), Relaxed);
        published.push_front(stream);
    }
    for post in world.posts.iter() {
        let place = post.lock().take();
        _ = caught(|| drop(place));
    }
    let mut timeline = Timeline::new(published.into());
    let mut logs = Vec::new();
    for (stream, witness) in witnesses {
        let log = join(vec![witness]).pop().expect("its log");
        timeline.witness(stream, &log);
        logs.push(log);
    }
    logs.extend(join(readers));
    // Twice, since the first pass learns the targets of some splices.
    for log in logs.iter().chain(&logs) {
        timeline.verify(log);
    }
}

/// The logs of all readers, including the readers that they started.
pub(crate) fn join(mut readers: Vec<Handle<Report>>) -> Vec<Log> {
    let mut logs = Vec::new();
    while let Some(reader) = readers.pop() {
        let report = reader.join();
        logs.extend(report.logs);
        readers.extend(report.others);
    }
    logs
}

/// Creates events.
struct Maker {
    stream: u16,
    producer: u16,
    calm: bool,
    rng: Rng,
}

impl Maker {
    /// The events of an item; panics halfway if `fails`.
    fn item(&mut self, n: u32, parts: u16, fails: bool) -> impl Iterator<Item = Event> {
        let key = Key {
            stream: self.stream,
            producer: self.producer,
            n,
        };
        (0..parts).map(move |part| {
            if fails && part == parts / 2 {
                raise(Fault::Iterator, None);
            }
            let bomb = match self.rng.below(60) {
                0 if !self.calm => Bomb::Drop,
                1 if !self.calm => Bomb::Clone(1 + u8::from(self.rng.one_in(2))),
                _ => Bomb::None,
            };
            Event::new(key, (part, parts), bomb)
        })
    }

    fn one(&mut self, n: u32) -> Event {
        self.item(n, 1, false).next().expect("one")
    }

    /// Single events, each to be an item of its own.
    fn each(&mut self, n: u32, count: u32, fails: bool) -> impl Iterator<Item = Event> {
        (n..n + count).map(move |at| {
            if fails && at == n + count / 2 {
                raise(Fault::Iterator, None);
            }
            self.one(at)
        })
    }

    fn fails(&mut self) -> bool {
        !self.calm && self.rng.one_in(10)
    }
}

/// Whether the call published everything, which only a panic of the iterator prevents.
fn is_published(result: &Result<(), Injected>) -> bool {
    !matches!(result, Err(panic) if panic.fault == Fault::Iterator)
}

fn send(buffer: &mut (impl Sink<Event> + Unpin), event: Event) {
    _ = Pin::new(buffer).start_send(event);
}

/// Flushes the sink and closes it, which does nothing.
fn flush(buffer: &mut (impl Sink<Event> + Unpin)) {
    assert!(
        buffer
            .flush()
            .now_or_never()
            .is_some_and(|done| done.is_ok())
    );
    assert!(
        SinkExt::close(buffer)
            .now_or_never()
            .is_some_and(|done| done.is_ok())
    );
}

/// A buffer and its one producer.
struct Producer {
    buffer: EventBuffer<Event>,
    window: usize,
    /// Whether the last publish trimmed the window, without being interrupted by a panic.
    is_trimmed: bool,
    maker: Maker,
    /// The number of published items.
    n: u32,
    /// The index of each item's last event.
    lasts: Vec<u64>,
    items: u32,
    world: World,
    rng: Rng,
    readers: Vec<Handle<Report>>,
    closers: Vec<(Closer, Arc<AtomicBool>)>,
    deferred: Option<Deferred<Event>>,
    bookmark: Option<(Bookmark<Event>, u32)>,
    place: Option<(Position<Event>, Start)>,
}

impl Producer {
    fn new(
        buffer: EventBuffer<Event>,
        window: usize,
        stream: u16,
        items: u32,
        world: World,
        mut rng: Rng,
    ) -> Self {
        let calm = world.behaviour.calm;
        Self {
            buffer,
            window,
            is_trimmed: true,
            maker: Maker {
                stream,
                producer: 0,
                calm,
                rng: rng.fork(),
            },
            n: 0,
            lasts: Vec::new(),
            items,
            world,
            rng,
            readers: Vec::new(),
            closers: Vec::new(),
            deferred: None,
            bookmark: None,
            place: None,
        }
    }

    fn at(&self, n: u32) -> Start {
        Start::At(Place {
            stream: self.maker.stream,
            index: n.into(),
        })
    }

    fn tail(&self) -> Start {
        self.at(self.n)
    }

    /// The oldest item in the window.
    fn oldest(&self) -> u32 {
        self.n
            .saturating_sub(u32::try_from(self.window).unwrap_or(u32::MAX))
    }

    fn start_reader(&mut self, reader: Subscription<Event>, start: Start) {
        if self.readers.len() >= 8 {
            _ = caught(|| drop(reader));
            return;
        }
        let mut task = ReaderTask::new(Log::new(start), self.rng.fork(), self.world.behaviour);
        if self.world.closes_readers || (!self.world.behaviour.plain && self.rng.one_in(3)) {
            let closed = Arc::new(AtomicBool::new(false));
            self.closers.push((reader.closer(), Arc::clone(&closed)));
            task = task.closed_by(closed);
        }
        self.readers.push(task.start(reader));
    }

    fn produce(mut self, plan: Plan) -> Done {
        while self.n < self.items {
            self.publish();
            if self.rng.one_in(6) {
                self.look();
            }
        }
        if self.world.closes_readers {
            while !self.closers.is_empty() {
                self.close_one();
            }
            let calm = self.world.behaviour.calm;
            while block_on(attempt(&mut self.rng, calm, self.buffer.unobserved())).is_err() {}
            assert!(
                !self.buffer.is_observed(),
                "a reader came after the last had left"
            );
        }
        _ = caught(|| self.deferred = None);
        _ = caught(|| self.place = None);
        let ending = end(self.buffer, plan, &self.world);
        Done {
            items: self.n,
            ending: Some(ending),
            readers: self.readers,
        }
    }

    /// Publishes in a random way.
    fn publish(&mut self) {
        let fails = self.maker.fails();
        let count = 1 + u32::try_from(self.rng.below(20)).expect("few");
        let parts = 1 + u16::try_from(self.rng.below(5)).expect("few");
        let first = self.n;
        let Self {
            buffer,
            maker,
            deferred,
            ..
        } = self;
        let mut defer = |later| caught(|| drop(deferred.replace(later)));
        // The number of items, and of events in each.
        let (count, parts, result) = match self.rng.below(20) {
            0..8 => (1, 1, caught(|| buffer.push(maker.one(first)))),
            8..11 => {
                let item = maker.item(first, parts, fails);
                (1, parts, caught(|| buffer.append(item)))
            }
            11..14 => (
                count,
                1,
                caught(|| buffer.extend(maker.each(first, count, fails))),
            ),
            14 => (
                1,
                1,
                caught(|| buffer.push_deferred(maker.one(first))).and_then(&mut defer),
            ),
            15 => {
                let later = caught(|| buffer.append_deferred(maker.item(first, parts, fails)));
                (1, parts, later.and_then(&mut defer))
            }
            16 => (0, 0, caught(|| buffer.extend(None))),
            17 => (0, 0, caught(|| flush(buffer))),
            _ => (1, 1, caught(|| send(buffer, maker.one(first)))),
        };
        if is_published(&result) {
            // A call that publishes nothing does not trim the window, either.
            self.is_trimmed = result.is_ok() && (self.is_trimmed || count > 0);
            self.n = first + count;
            let last = |n| u64::from(n) * INDEXES + u64::from(parts) - 1;
            self.lasts.extend((first..self.n).map(last));
        }
    }

    /// The expected result of `subscribe_after`: the number of the next item.
    fn resumes_at(&self, index: u64) -> Result<u32, ResumeError> {
        let retained = &self.lasts[self.oldest() as usize..];
        let is_retained = !retained.is_empty();
        let oldest = is_retained.then(|| u64::from(self.oldest()) * INDEXES);
        if self.oldest() > 0 && oldest.is_none_or(|oldest| oldest > index) {
            return Err(ResumeError::TooOld { index, oldest });
        }
        let newest = retained.last().copied();
        if newest.is_none_or(|newest| newest < index) {
            return Err(ResumeError::Ahead { index, newest });
        }
        let passed = retained.partition_point(|last| *last <= index);
        Ok(self.oldest() + u32::try_from(passed).expect("few"))
    }

    /// Uses the buffer in a random way other than publishing.
    fn look(&mut self) {
        let tail = self.tail();
        match self.rng.below(10) {
            0 => self.start_reader(self.buffer.subscribe(), tail),
            1 if self.is_trimmed => {
                self.start_reader(self.buffer.subscribe_from_start(), self.at(self.oldest()));
            }
            2 if self.is_trimmed => {
                let newest = u64::from(self.n) * INDEXES;
                let from = if self.rng.one_in(2) {
                    u64::from(self.oldest()) * INDEXES
                } else {
                    0
                };
                let after = from.saturating_sub(2) + self.rng.below(newest - from + INDEXES);
                let result = self.buffer.subscribe_after(after);
                let expected = self.resumes_at(after);
                assert_eq!(result.as_ref().err(), expected.as_ref().err());
                if let (Ok(reader), Ok(n)) = (result, expected) {
                    self.start_reader(reader, self.at(n));
                }
            }
            3 => match self.bookmark.take() {
                None => self.bookmark = Some((self.buffer.tail().bookmark(), self.n)),
                Some((mark, n)) if self.is_trimmed => match self.buffer.upgrade(&mark) {
                    Ok(reader) => self.start_reader(reader, self.at(n)),
                    Err(lost) => {
                        let expected = BookmarkError::Lost((self.oldest() - n).into());
                        assert_eq!(lost, expected, "from {n} on");
                    }
                },
                Some(_) => {}
            },
            4 => match self.place.take() {
                None => self.place = Some((self.buffer.tail(), tail)),
                Some((place, start)) => {
                    self.start_reader(place.subscribe(), start);
                    _ = caught(|| drop(place));
                }
            },
            5 => {
                let post = Some((self.buffer.tail(), Some(self.n.into())));
                let posts = Arc::clone(&self.world.posts);
                let before = mem::replace(&mut *posts[usize::from(self.maker.stream)].lock(), post);
                _ = caught(|| drop(before));
            }
            6 => self.close_one(),
            7 if self.is_trimmed => {
                let retained = self.n - self.oldest();
                assert_eq!(self.buffer.retained(), retained as usize, "retained");
                let newest = self.buffer.latest().map(|item| item[0].key.n + 1);
                assert_eq!(newest, (retained > 0).then_some(self.n), "the newest item");
            }
            8 => {
                let calm = self.world.behaviour.calm;
                let (rng, buffer) = (&mut self.rng, &self.buffer);
                _ = caught(|| attempt(rng, calm, buffer.unobserved()).now_or_never());
            }
            _ => thread::yield_now(),
        }
    }

    fn close_one(&mut self) {
        if let Some((closer, closed)) = self.closers.pop() {
            _ = caught(|| closer.close("enough"));
            // Release: pairs with the Acquire of the reader.
            closed.store(true, Release);
        }
    }

    /// Splits the work among several producers.
    fn share(self, producers: usize, plan: Plan) -> Vec<thread::JoinHandle<Done>> {
        let Self {
            buffer,
            world,
            mut rng,
            items,
            mut readers,
            maker,
            ..
        } = self;
        let shared = SharedBuffer::from(buffer);
        let handles = vec![shared; producers];
        let handles = handles.into_iter().zip(0..);
        handles
            .map(|(buffer, producer)| {
                let maker = Maker {
                    producer,
                    rng: rng.fork(),
                    ..maker
                };
                let one = SharedProducer {
                    buffer,
                    maker,
                    items: items / u32::try_from(producers).expect("few"),
                    world: world.clone(),
                    rng: rng.fork(),
                    readers: mem::take(&mut readers),
                };
                thread::spawn(move || one.produce(plan))
            })
            .collect()
    }
}

/// No producer ends the buffer before all are done.
const OPEN: &str = "the buffer has not ended";

/// One of several producers of a stream.
struct SharedProducer {
    buffer: SharedBuffer<Event>,
    maker: Maker,
    items: u32,
    world: World,
    rng: Rng,
    readers: Vec<Handle<Report>>,
}

impl SharedProducer {
    fn produce(mut self, plan: Plan) -> Done {
        let mut n = 0;
        while n < self.items {
            n += self.publish(n);
            if self.rng.one_in(12) {
                self.look();
            }
        }
        let last = caught(|| into_inner(self.buffer)).ok().flatten();
        Done {
            items: n,
            ending: last.map(|buffer| end(buffer, plan, &self.world)),
            readers: self.readers,
        }
    }

    fn publish(&mut self, n: u32) -> u32 {
        let fails = self.maker.fails();
        let Self { buffer, maker, .. } = self;
        let count = 1 + u32::try_from(self.rng.below(20)).expect("few");
        let parts = 1 + u16::try_from(self.rng.below(5)).expect("few");
        let (count, result) = match self.rng.below(6) {
            0..3 => (1, caught(|| buffer.push(maker.one(n)).expect(OPEN))),
            3 => (
                1,
                caught(|| buffer.append(maker.item(n, parts, fails)).expect(OPEN)),
            ),
            4 => (
                count,
                caught(|| buffer.extend(maker.each(n, count, fails)).expect(OPEN)),
            ),
            _ => {
                let result = caught(|| send(buffer, maker.one(n)));
                flush(buffer);
                (1, result)
            }
        };
        if is_published(&result) { count } else { 0 }
    }

    fn look(&mut self) {
        match self.rng.below(4) {
            0 | 1 if self.readers.len() < 4 => {
                let from_start = self.rng.one_in(2);
                let reader = if from_start {
                    self.buffer.subscribe_from_start()
                } else {
                    self.buffer.subscribe()
                };
                let task = ReaderTask::new(
                    Log::new(Start::Unknown),
                    self.rng.fork(),
                    self.world.behaviour,
                );
                self.readers.push(task.start(reader));
            }
            2 => {
                let post = Some((self.buffer.tail(), None));
                let posts = Arc::clone(&self.world.posts);
                let before = mem::replace(&mut *posts[usize::from(self.maker.stream)].lock(), post);
                _ = caught(|| drop(before));
            }
            _ => thread::yield_now(),
        }
    }
}

fn end(buffer: EventBuffer<Event>, plan: Plan, world: &World) -> Ending {
    match plan {
        Plan::Close => {
            _ = caught(|| buffer.close());
            Ending::Closed
        }
        Plan::Fail => {
            _ = caught(|| buffer.fail("injected"));
            Ending::Failed
        }
        Plan::Cycle => {
            let itself = buffer.tail();
            _ = caught(|| buffer.splice(itself));
            Ending::Failed
        }
        Plan::Splice(to) => {
            let post = world.posts[usize::from(to)].lock().clone();
            let (place, index) = post.expect("posts remain until all streams have ended");
            _ = caught(|| buffer.splice(place));
            Ending::Spliced(to, index)
        }
    }
}

/// A function of its own, so that `tsan.supp` can name it.
#[inline(never)]
fn into_inner(handle: SharedBuffer<Event>) -> Option<EventBuffer<Event>> {
    handle.into_inner()
}
