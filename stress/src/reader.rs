//! Readers: each reads in random ways until the end, or stops early.

use std::future::{Future, poll_fn};
use std::mem;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use event_buffer::{
    BufferItem, Cloned, LagExceeded, LagLimit, Limited, OnLag, Position, RecvError,
    RecvTimeoutError, Subscription, TryRecvError,
};
use futures::{FutureExt, Stream, StreamExt};

use crate::event::Event;
use crate::fault::{Fault, Injected, caught, faulty, injected, raise};
use crate::key::Part;
use crate::log::{Log, Start};
use crate::rng::Rng;
use crate::venue::{Handle, Venue};

pub(crate) static READERS: AtomicU64 = AtomicU64::new(0);
pub(crate) static DELIVERED: AtomicU64 = AtomicU64::new(0);

/// What readers of a world may do.
#[derive(Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "they can be combined freely")]
pub(crate) struct Behaviour {
    /// Uses only synchronization that `ThreadSanitizer` can see.
    pub(crate) plain: bool,
    /// Injects no faults.
    pub(crate) calm: bool,
    /// Creates no other readers, and waits only for its own subscription.
    pub(crate) alone: bool,
    /// Receives all items to the end, one by one.
    pub(crate) witness: bool,
}

/// The state of a reader besides its subscription, and its report.
pub(crate) struct ReaderTask {
    pub(crate) log: Log,
    rng: Rng,
    behaviour: Behaviour,
    venue: Venue,
    /// Set after the reader has been closed.
    closed: Option<Arc<AtomicBool>>,
    /// The number of reads before it stops.
    reads_left: u64,
    held: Vec<BufferItem<Event>>,
    /// An earlier place, to which another reader may return.
    place: Option<(Position<Event>, Log)>,
    report: Report,
}

/// The logs of a reader, and the other readers that it started.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) logs: Vec<Log>,
    pub(crate) others: Vec<Handle<Report>>,
}

impl ReaderTask {
    pub(crate) fn new(log: Log, mut rng: Rng, behaviour: Behaviour) -> Self {
        let stays = behaviour.witness || rng.one_in(2);
        Self {
            log,
            reads_left: if stays { u64::MAX } else { rng.below(300) },
            venue: Venue::any(&mut rng, behaviour.plain),
            rng,
            behaviour,
            closed: None,
            held: Vec::new(),
            place: None,
            report: Report::default(),
        }
    }

    /// Sets the flag that is set after the reader has been closed.
    pub(crate) fn closed_by(self, closed: Arc<AtomicBool>) -> Self {
        let closed = Some(closed);
        Self { closed, ..self }
    }

    pub(crate) fn start(self, reader: Subscription<Event>) -> Handle<Report> {
        READERS.fetch_add(1, Relaxed);
        self.venue.start(self.read(reader).boxed())
    }

    async fn read(mut self, reader: Subscription<Event>) -> Report {
        let reading = async {
            let mut reader = Reader::Items(reader);
            while let Some(left) = self.reads_left.checked_sub(1) {
                self.reads_left = left;
                match self.turn(reader).await {
                    Some(next) => reader = next,
                    None => break,
                }
            }
        };
        // The consumer, or a drop, may panic.
        _ = AssertUnwindSafe(reading)
            .catch_unwind()
            .await
            .map_err(injected);
        _ = caught(|| self.held.clear());
        _ = caught(|| self.place = None);
        self.report.logs.push(self.log);
        self.report
    }

    async fn turn(&mut self, reader: Reader) -> Option<Reader> {
        match reader {
            Reader::Items(items) => self.by_item(items).await,
            Reader::Clones(mut clones) => {
                if self.makes_other() {
                    // It may be in the middle of an item, which `other` does not support.
                    self.aside(&mut clones.clone());
                }
                let continues = self.next(&mut clones).await.is_some();
                continues.then_some(Reader::Clones(clones))
            }
            Reader::Limited(mut limited) => {
                let continues = self.next(&mut limited).await.is_some();
                continues.then_some(Reader::Limited(limited))
            }
        }
    }

    async fn by_item(&mut self, mut items: Subscription<Event>) -> Option<Reader> {
        if self.makes_other() {
            match self.rng.below(4) {
                0 => self.start_other(items.clone(), self.log.fork()),
                1 => {
                    let late = caught(|| items.resubscribe());
                    if let Ok(late) = late {
                        self.start_other(late, Log::new(Start::Unknown));
                    }
                }
                2 => self.place = Some((items.position(), self.log.fork_whole())),
                _ => {
                    if let Some((place, log)) = self.place.take() {
                        self.start_other(place.subscribe(), log);
                    }
                }
            }
        }
        let choice = if self.behaviour.witness {
            99
        } else {
            self.rng.below(100)
        };
        match choice {
            0 => return Some(Reader::Clones(items.cloned())),
            1 => {
                let limit = LagLimit::items(1 + self.rng.below(40));
                let limit = if self.rng.one_in(3) {
                    limit.and_bytes(self.rng.below(2_000))
                } else {
                    limit
                };
                let policies = [OnLag::SkipToOldest, OnLag::SkipToNewest, OnLag::Close];
                return Some(Reader::Limited(
                    items.limited(limit.on_lag(self.rng.pick(&policies))),
                ));
            }
            2..20 => self.by_chunk(&mut items).await?,
            _ => {
                let item = self.next(&mut items).await?;
                if let Some(item) = item {
                    self.with(item).await;
                }
            }
        }
        Some(Reader::Items(items))
    }

    /// Reads all events of a chunk, or some.
    async fn by_chunk(&mut self, items: &mut Subscription<Event>) -> Option<()> {
        let closed = self.is_closed();
        let at_most = if self.rng.one_in(2) {
            usize::MAX
        } else {
            self.rng.index(8)
        };
        let calm = self.behaviour.calm;
        match attempt(&mut self.rng, calm, items.next_chunk()).await {
            Ok(Ok(chunk)) => {
                assert!(!closed, "a chunk of a closed reader");
                let log = &mut self.log;
                let before = log.events;
                if !calm && self.rng.one_in(4) {
                    // The loop panics at its last event.
                    let mut left = at_most;
                    let visit = |event: &Event| {
                        log.event(event);
                        left = left.saturating_sub(1);
                        if left == 0 {
                            raise(Fault::Consumer, None);
                        }
                    };
                    _ = caught(|| chunk.for_each(visit));
                } else {
                    chunk.take(at_most).for_each(|event| log.event(event));
                }
                DELIVERED.fetch_add(log.events - before, Relaxed);
            }
            Ok(Err(end)) => return self.ended(&end.into(), items),
            Err(_) => {}
        }
        Some(())
    }

    /// Uses the item that was received last.
    async fn with(&mut self, item: BufferItem<Event>) {
        if self.behaviour.witness {
            _ = caught(|| drop(item));
            return;
        }
        if !self.behaviour.calm && self.rng.one_in(400) {
            raise(Fault::Consumer, None);
        }
        match self.rng.below(30) {
            0 if self.makes_other() => {
                let log = Log::new(Start::Item(item[0].key));
                self.start_other(item.subscribe(), log);
            }
            1 => self.walk(item).await,
            2 | 3 => self.held.push(item),
            4 => {
                // The held items must be unchanged.
                self.held
                    .iter()
                    .flat_map(|item| item.iter())
                    .for_each(Event::verify);
                _ = caught(|| mem::take(&mut self.held));
            }
            _ => _ = caught(|| drop(item)),
        }
    }

    /// Follows item handles independently of the subscription.
    async fn walk(&mut self, mut item: BufferItem<Event>) {
        let mut log = self.log.fork();
        for _ in 0..self.rng.below(10) {
            let next = match item.try_next() {
                Err(TryRecvError::Empty) if !self.behaviour.alone => {
                    let calm = self.behaviour.calm;
                    match attempt(&mut self.rng, calm, item.next()).await {
                        Ok(next) => next.map_err(Into::into),
                        Err(_) => continue,
                    }
                }
                next => next,
            };
            match next {
                Ok(next) => {
                    log.item(&next);
                    let passed = mem::replace(&mut item, next);
                    _ = caught(|| drop(passed));
                }
                Err(end) => {
                    log.ended(&end);
                    break;
                }
            }
        }
        self.report.logs.push(log);
        _ = caught(|| drop(item));
    }

    /// Reads everything that is ready with another reader at the same place.
    fn aside<R: Receive>(&mut self, other: &mut R) {
        let mut log = self.log.fork();
        loop {
            match caught(|| other.try_recv()) {
                Ok(Ok(got)) => R::record(&mut log, &got),
                Ok(Err(_)) => break,
                Err(panic) => R::panicked(&mut log, &panic),
            }
        }
        self.report.logs.push(log);
    }

    /// Starts another reader with its own log.
    fn start_other(&mut self, reader: Subscription<Event>, log: Log) {
        let alone = true;
        let behaviour = Behaviour {
            alone,
            ..self.behaviour
        };
        let task = Self::new(log, self.rng.fork(), behaviour);
        self.report.others.push(task.start(reader));
    }

    fn makes_other(&mut self) -> bool {
        !self.behaviour.alone
            && self.report.logs.len() + self.report.others.len() < 3
            && self.rng.one_in(40)
    }

    fn is_closed(&self) -> bool {
        // Acquire: pairs with the Release of the producer, which closes the reader before.
        self.closed
            .as_ref()
            .is_some_and(|closed| closed.load(Acquire))
    }

    /// Receives in a random way. Returns `None` at the end, and `Some(None)` if nothing was ready,
    /// the read panicked, or the reader lagged.
    async fn next<R: Receive>(&mut self, reader: &mut R) -> Option<Option<R::Got>> {
        if self.rng.one_in(30) {
            reader.skip_event(&mut self.log, None);
        }
        let closed = self.is_closed();
        let choice = self.rng.below(if self.venue.may_block() { 9 } else { 7 });
        let (rng, calm) = (&mut self.rng, self.behaviour.calm);
        let result = match choice {
            0 => caught(|| reader.try_recv()),
            1 => {
                let polled_once = || attempt(rng, calm, reader.recv()).now_or_never();
                caught(polled_once).and_then(|result| match result {
                    Some(result) => result.map(|result| result.map_err(Into::into)),
                    None => Ok(Err(TryRecvError::Empty)),
                })
            }
            2 | 3 => {
                let next = attempt(rng, calm, reader.next()).await;
                next.map(|next| next.unwrap_or(Err(RecvError::Closed)).map_err(Into::into))
            }
            7 => caught(|| reader.recv_blocking().map_err(Into::into)),
            8 => caught(|| reader.recv_timeout(Duration::from_micros(rng.below(200)))),
            _ => {
                let next = attempt(rng, calm, reader.recv()).await;
                next.map(|next| next.map_err(Into::into))
            }
        };
        match result {
            Ok(Ok(got)) => {
                assert!(!closed, "an item for a closed reader");
                let before = self.log.events;
                R::record(&mut self.log, &got);
                DELIVERED.fetch_add(self.log.events - before, Relaxed);
                return Some(Some(got));
            }
            Ok(Err(TryRecvError::Empty)) => {}
            Ok(Err(end)) => self.ended(&end, reader)?,
            Err(panic) => {
                R::panicked(&mut self.log, &panic);
                if panic.fault == Fault::Clone && self.rng.one_in(2) {
                    reader.skip_event(&mut self.log, panic.of);
                }
            }
        }
        Some(None)
    }

    /// Records an error. Returns `None` if it is final, after it has checked that it is returned
    /// again.
    fn ended<R: Receive>(&mut self, end: &TryRecvError, reader: &mut R) -> Option<()> {
        self.log.ended(end);
        if !end.is_final() {
            return Some(());
        }
        let again = caught(|| reader.try_recv().err());
        let sticks = match (end, again) {
            // A reader closed for lagging may then be closed by its closer, which is reported last.
            (TryRecvError::ForceClosed(reason), Ok(again)) => {
                again.as_ref() == Some(end) || reason.downcast_ref::<LagExceeded>().is_some()
            }
            (_, Ok(Some(TryRecvError::Closed | TryRecvError::ForceClosed(_))) | Err(_)) => true,
            (_, Ok(_)) => false,
        };
        assert!(sticks, "{end:?} is not returned again");
        None
    }
}

enum Reader {
    Items(Subscription<Event>),
    Clones(Cloned<Event>),
    Limited(Limited<Event>),
}

/// The common methods of the three kinds of readers.
trait Receive: Stream<Item = Result<Self::Got, RecvError>> + Unpin + Send {
    type Got: Send;

    fn recv(&mut self) -> impl Future<Output = Result<Self::Got, RecvError>> + Send;
    fn try_recv(&mut self) -> Result<Self::Got, TryRecvError>;
    fn recv_blocking(&mut self) -> Result<Self::Got, RecvError>;
    /// Returns `Empty` for a timeout.
    fn recv_timeout(&mut self, timeout: Duration) -> Result<Self::Got, TryRecvError>;
    fn record(log: &mut Log, got: &Self::Got);
    /// Records that a read panicked.
    fn panicked(_log: &mut Log, _panic: &Injected) {}
    /// Skips an event, which may be the one that could not be cloned.
    fn skip_event(&mut self, _log: &mut Log, _unclonable: Option<Part>) {}
}

macro_rules! receive {
    ($reader:ident, $got:ty, $record:expr $(, $panicked:expr, $skip:expr)?) => {
        impl Receive for $reader<Event> {
            type Got = $got;

            async fn recv(&mut self) -> Result<Self::Got, RecvError> {
                $reader::recv(self).await
            }

            fn try_recv(&mut self) -> Result<Self::Got, TryRecvError> {
                $reader::try_recv(self)
            }

            fn recv_blocking(&mut self) -> Result<Self::Got, RecvError> {
                $reader::recv_blocking(self)
            }

            fn recv_timeout(&mut self, timeout: Duration) -> Result<Self::Got, TryRecvError> {
                $reader::recv_timeout(self, timeout).map_err(|error| match error {
                    RecvTimeoutError::Timeout => TryRecvError::Empty,
                    RecvTimeoutError::Failed(error) => TryRecvError::Failed(error),
                    RecvTimeoutError::ForceClosed(reason) => TryRecvError::ForceClosed(reason),
                    RecvTimeoutError::Lagged(items) => TryRecvError::Lagged(items),
                    _ => TryRecvError::Closed,
                })
            }

            fn record(log: &mut Log, got: &Self::Got) {
                $record(log, got);
            }

            $(fn panicked(log: &mut Log, panic: &Injected) {
                $panicked(log, panic);
            }

            fn skip_event(&mut self, log: &mut Log, unclonable: Option<Part>) {
                $skip(self, log, unclonable);
            })?
        }
    };
}

receive!(Subscription, BufferItem<Event>, |log: &mut Log,
                                           item: &BufferItem<
    Event,
>| log.item(item));
receive!(Cloned, Event, Log::event, Log::lost_to, skip_known);
receive!(Limited, Event, Log::event, |_, _| {}, skip_unseen);

/// Skips an event only if it is known; otherwise the log would not be exact.
fn skip_known(reader: &mut Cloned<Event>, log: &mut Log, unclonable: Option<Part>) {
    if unclonable.is_none() && !log.is_in_item() {
        return;
    }
    match caught(|| reader.skip_event()) {
        Ok(true) => log.skipped(unclonable),
        Ok(false) => {
            let end = reader.try_recv();
            assert!(
                matches!(end, Err(TryRecvError::ForceClosed(_))),
                "not skipped"
            );
        }
        Err(panic) => log.lost_to(&panic),
    }
}

/// Skips an event, which is unknown, since the writer may move the reader at any time.
fn skip_unseen(reader: &mut Limited<Event>, log: &mut Log, _: Option<Part>) {
    if !matches!(caught(|| reader.skip_event()), Ok(false)) {
        log.skipped_unseen();
    }
}

/// Awaits a future with changing and faulty wakers.
pub(crate) async fn attempt<F: Future>(
    rng: &mut Rng,
    calm: bool,
    future: F,
) -> Result<F::Output, Injected> {
    let polling = async {
        let mut future = pin!(future);
        poll_fn(|cx| {
            // Sometimes another task's waker comes first: only the last one counts.
            if rng.one_in(8) {
                let noop = &mut Context::from_waker(Waker::noop());
                if let ready @ Poll::Ready(_) = future.as_mut().poll(noop) {
                    return ready;
                }
            }
            let faults = [Fault::Wake, Fault::WakerClone, Fault::WakerDrop];
            let fault = (!calm && rng.one_in(30)).then(|| rng.pick(&faults));
            let waker = faulty(cx.waker().clone(), fault);
            let poll = future.as_mut().poll(&mut Context::from_waker(&waker));
            // Dropped before the return, where a panic would leak the result
            // (rust-lang/rust#47949).
            drop(waker);
            poll
        })
        .await
    };
    AssertUnwindSafe(polling)
        .catch_unwind()
        .await
        .map_err(injected)
}
