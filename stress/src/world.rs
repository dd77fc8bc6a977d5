//! A world of streams: buffers that are spliced to each other, their producers, their readers.

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
use crate::log::{Ending, Log, Place, Published, Start, Story};
use crate::reader::{Manners, Report, Seat, attempt};
use crate::rng::Rng;
use crate::venue::Handle;

pub(crate) static PUBLISHED: AtomicU64 = AtomicU64::new(0);

/// Where each stream's producer shows a place in it, for those that want to be spliced to it: with its
/// index, where nobody else publishes.
type Posts = Arc<Vec<Mutex<Option<(Position<Event>, Option<u64>)>>>>;

#[derive(Clone)]
struct World {
    manners: Manners,
    posts: Posts,
    /// Everybody leaves before the end, which the producer waits for.
    is_left: bool,
}

/// How a stream is to end.
#[derive(Clone, Copy)]
enum Plan {
    Close,
    Fail,
    /// Spliced to itself, which is refused.
    Ring,
    Splice(u16),
}

/// What a producer leaves behind.
struct Done {
    items: u32,
    /// Of the producer that ended the stream.
    ending: Option<Ending>,
    readers: Vec<Handle<Report>>,
}

pub(crate) fn run(mut rng: Rng, plain: bool) {
    let streams = rng.pick(&[1, 1, 2, 3, 4]);
    let calm = rng.one_in(4);
    let is_left = streams == 1 && !plain && rng.one_in(3);
    let manners = Manners {
        plain,
        calm,
        alone: is_left,
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
        manners,
        posts: Arc::new(buffers.iter().map(post).collect()),
        is_left,
    };

    let mut producing: Vec<Vec<thread::JoinHandle<Done>>> = Vec::new();
    let mut witnesses = Vec::new();
    // The last one first: the others lead to it, or to each other on the way.
    for ((buffer, window), stream) in buffers.into_iter().zip(0..streams).rev() {
        let ending = if stream + 1 < streams {
            Plan::Splice(
                stream + 1 + u16::try_from(rng.below((streams - stream - 1).into())).expect("few"),
            )
        } else {
            rng.pick(&[Plan::Close, Plan::Close, Plan::Fail, Plan::Ring])
        };
        let several = !is_left && rng.one_in(3);
        let items = rng.pick(&[20, 100, 200, 400, 400, 3_000]);
        let mut stage = Stage::new(buffer, window, stream, items, world.clone(), rng.fork());
        (0..rng.below(5)).for_each(|_| stage.seat(stage.buffer.subscribe(), stage.tail()));
        producing.push(if several {
            let witness = Manners {
                witness: true,
                alone: true,
                ..manners
            };
            let seat = Seat::new(Log::new(stage.tail()), rng.fork(), witness);
            witnesses.push((stream, seat.start(stage.buffer.subscribe())));
            stage.share(2 + rng.index(2), ending)
        } else {
            vec![thread::spawn(move || stage.produce(ending))]
        });
        if rng.one_in(4) {
            // What leads to it will be spliced to a stream that has ended.
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
        assert_eq!(endings, 1, "the last handle is one");
        PUBLISHED.fetch_add(stream.items.iter().copied().map(u64::from).sum(), Relaxed);
        published.push_front(stream);
    }
    for post in world.posts.iter() {
        let place = post.lock().take();
        _ = caught(|| drop(place));
    }
    let mut story = Story::new(published.into());
    let mut logs = Vec::new();
    for (stream, witness) in witnesses {
        let log = join(vec![witness]).pop().expect("its log");
        story.witness(stream, &log);
        logs.push(log);
    }
    logs.extend(join(readers));
    // Twice: where some splices lead is known after the first time.
    for log in logs.iter().chain(&logs) {
        story.verify(log);
    }
}

/// The logs of all readers, those that they began included.
pub(crate) fn join(mut readers: Vec<Handle<Report>>) -> Vec<Log> {
    let mut logs = Vec::new();
    while let Some(reader) = readers.pop() {
        let report = reader.join();
        logs.extend(report.logs);
        readers.extend(report.others);
    }
    logs
}

/// Makes events.
struct Maker {
    stream: u16,
    producer: u16,
    calm: bool,
    rng: Rng,
}

impl Maker {
    /// The events of an item; panics in the midst of them if `fails`.
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

    /// An item of each.
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

/// Nothing is where the iterator panicked, and all is where a waker or a drop did.
fn is_published(answer: &Result<(), Injected>) -> bool {
    !matches!(answer, Err(panic) if panic.fault == Fault::Iterator)
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
struct Stage {
    buffer: EventBuffer<Event>,
    window: usize,
    /// The last that was published did what was left to do: no panic kept it from trimming.
    is_trimmed: bool,
    maker: Maker,
    /// Published.
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

impl Stage {
    fn new(
        buffer: EventBuffer<Event>,
        window: usize,
        stream: u16,
        items: u32,
        world: World,
        mut rng: Rng,
    ) -> Self {
        let calm = world.manners.calm;
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

    /// The oldest item that the window holds.
    fn oldest(&self) -> u32 {
        self.n
            .saturating_sub(u32::try_from(self.window).unwrap_or(u32::MAX))
    }

    fn seat(&mut self, reader: Subscription<Event>, start: Start) {
        if self.readers.len() >= 8 {
            _ = caught(|| drop(reader));
            return;
        }
        let mut seat = Seat::new(Log::new(start), self.rng.fork(), self.world.manners);
        if self.world.is_left || (!self.world.manners.plain && self.rng.one_in(3)) {
            let closed = Arc::new(AtomicBool::new(false));
            self.closers.push((reader.closer(), Arc::clone(&closed)));
            seat = seat.closed_by(closed);
        }
        self.readers.push(seat.start(reader));
    }

    fn produce(mut self, plan: Plan) -> Done {
        while self.n < self.items {
            self.publish();
            if self.rng.one_in(6) {
                self.look();
            }
        }
        if self.world.is_left {
            while !self.closers.is_empty() {
                self.close_one();
            }
            let calm = self.world.manners.calm;
            while block_on(attempt(&mut self.rng, calm, self.buffer.unobserved())).is_err() {}
            assert!(!self.buffer.is_observed(), "unobserved, but not for long");
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

    /// Publishes in one of the ways there are.
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
        let mut put_off = |later| caught(|| drop(deferred.replace(later)));
        // How many items, of how many events.
        let (count, parts, answer) = match self.rng.below(20) {
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
                caught(|| buffer.push_deferred(maker.one(first))).and_then(&mut put_off),
            ),
            15 => {
                let later = caught(|| buffer.append_deferred(maker.item(first, parts, fails)));
                (1, parts, later.and_then(&mut put_off))
            }
            16 => (0, 0, caught(|| buffer.extend(None))),
            17 => (0, 0, caught(|| flush(buffer))),
            _ => (1, 1, caught(|| send(buffer, maker.one(first)))),
        };
        if is_published(&answer) {
            // What publishes nothing does not trim either.
            self.is_trimmed = answer.is_ok() && (self.is_trimmed || count > 0);
            self.n = first + count;
            let last = |n| u64::from(n) * INDEXES + u64::from(parts) - 1;
            self.lasts.extend((first..self.n).map(last));
        }
    }

    /// What following the buffer after an index gives.
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

    /// Does what one can do with a buffer besides publishing.
    fn look(&mut self) {
        let tail = self.tail();
        match self.rng.below(10) {
            0 => self.seat(self.buffer.subscribe(), tail),
            1 if self.is_trimmed => {
                self.seat(self.buffer.subscribe_from_start(), self.at(self.oldest()));
            }
            2 if self.is_trimmed => {
                let newest = u64::from(self.n) * INDEXES;
                let from = if self.rng.one_in(2) {
                    u64::from(self.oldest()) * INDEXES
                } else {
                    0
                };
                let after = from.saturating_sub(2) + self.rng.below(newest - from + INDEXES);
                let answer = self.buffer.subscribe_after(after);
                let expected = self.resumes_at(after);
                assert_eq!(answer.as_ref().err(), expected.as_ref().err());
                if let (Ok(reader), Ok(n)) = (answer, expected) {
                    self.seat(reader, self.at(n));
                }
            }
            3 => match self.bookmark.take() {
                None => self.bookmark = Some((self.buffer.tail().bookmark(), self.n)),
                Some((mark, n)) if self.is_trimmed => match self.buffer.upgrade(&mark) {
                    Ok(reader) => self.seat(reader, self.at(n)),
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
                    self.seat(place.subscribe(), start);
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
                let calm = self.world.manners.calm;
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

    /// Several producers instead of one.
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
                let one = One {
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

/// Nobody ends it before all producers are done.
const OPEN: &str = "the buffer has not ended";

/// One of several producers.
struct One {
    buffer: SharedBuffer<Event>,
    maker: Maker,
    items: u32,
    world: World,
    rng: Rng,
    readers: Vec<Handle<Report>>,
}

impl One {
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
        let (count, answer) = match self.rng.below(6) {
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
                let answer = caught(|| send(buffer, maker.one(n)));
                flush(buffer);
                (1, answer)
            }
        };
        if is_published(&answer) { count } else { 0 }
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
                let seat = Seat::new(
                    Log::new(Start::Unknown),
                    self.rng.fork(),
                    self.world.manners,
                );
                self.readers.push(seat.start(reader));
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
            _ = caught(|| buffer.fail("on purpose"));
            Ending::Failed
        }
        Plan::Ring => {
            let itself = buffer.tail();
            _ = caught(|| buffer.splice(itself));
            Ending::Failed
        }
        Plan::Splice(to) => {
            let post = world.posts[usize::from(to)].lock().clone();
            let (place, index) = post.expect("posts are there until all have ended");
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
