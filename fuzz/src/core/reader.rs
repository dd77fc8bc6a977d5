//! The readers, side by side with their model.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use event_buffer::{
    Bookmark, BufferItem, Cloned, Closer, LagLimit, Limited, OnLag, Position, Subscription,
};
use futures::future::{Future, FutureExt};
use futures::stream::{FusedStream, Stream};

use super::model::{self, Answer, Limit, Model, Nothing, Place, Way};
use super::op::Manner;
use super::wait::Waiting;
use crate::event::{self, Event, ids};
use crate::foreign::{Panicked, Spot, act};
use crate::task::Task;

/// A reader that can be used.
enum Idle {
    Items(Subscription<Event>),
    Clones(Cloned<Event>),
    Limited(Limited<Event>),
}

/// A reader that a future has until it is dropped.
struct Busy {
    future: Pin<Box<dyn Future<Output = Outcome>>>,
    back: Rc<Cell<Option<Idle>>>,
    way: Way,
}

enum Real {
    Idle(Idle),
    Busy(Busy),
    /// For the moment.
    Gone,
}

pub(super) struct Reader {
    real: Real,
    pub(super) model: model::Reader,
    pub(super) waiting: Option<Waiting>,
    /// Those that have polled.
    tasks: Vec<Arc<Task>>,
}

/// What a read gives.
enum Got {
    Item(BufferItem<Event>),
    Clone(Event),
    Lent(Vec<u32>),
}

type Outcome = Result<Got, Nothing>;

/// What a read is to give.
struct Expected {
    answer: Answer,
    /// The reader after it.
    after: model::Reader,
    /// How many clones were alive before it.
    clones: usize,
}

/// When the writer closes a reader for its lag is not promised, so neither is what its lag was then.
fn agreed(answer: Answer, expected: &Answer) -> Answer {
    match (&answer, expected) {
        (Err(Nothing::LagExceeded(items)), Err(Nothing::LagExceeded(most)))
            if (2..=*most).contains(items) =>
        {
            expected.clone()
        }
        _ => answer,
    }
}

impl Got {
    /// Looks at it and drops it.
    fn ids(self) -> Vec<u32> {
        match self {
            Self::Item(item) => {
                let ids = ids(item.events());
                let _ = act(|| drop(item));
                ids
            }
            Self::Clone(event) => vec![event.id()],
            Self::Lent(ids) => ids,
        }
    }
}

impl Idle {
    fn try_read(&mut self) -> Outcome {
        Ok(match self {
            Self::Items(real) => Got::Item(real.try_recv()?),
            Self::Clones(real) => Got::Clone(real.try_recv()?),
            Self::Limited(real) => Got::Clone(real.try_recv()?),
        })
    }

    async fn read(&mut self, way: Way) -> Outcome {
        Ok(match (self, way) {
            (Self::Items(real), Way::Chunk(usize::MAX)) => {
                let mut lent: Vec<&Event> = Vec::new();
                // By `fold`, which goes another way than `next`.
                real.next_chunk().await?.for_each(|event| lent.push(event));
                Got::Lent(lent.into_iter().map(Event::id).collect())
            }
            (Self::Items(real), Way::Broken(most)) => {
                let chunk = real.next_chunk().await?;
                let mut lent: Vec<&Event> = Vec::new();
                let visit = |event| {
                    lent.push(event);
                    if lent.len() == most {
                        resume_unwind(Box::new("broken off"));
                    }
                };
                let _ = catch_unwind(AssertUnwindSafe(|| chunk.for_each(visit)));
                Got::Lent(lent.into_iter().map(Event::id).collect())
            }
            (Self::Items(real), Way::Chunk(most)) => {
                // Looked at only later: what was lent outlives the chunk.
                let lent: Vec<&Event> = real.next_chunk().await?.take(most).collect();
                Got::Lent(lent.into_iter().map(Event::id).collect())
            }
            (Self::Items(real), _) => Got::Item(real.recv().await?),
            (Self::Clones(real), _) => Got::Clone(real.recv().await?),
            (Self::Limited(real), _) => Got::Clone(real.recv().await?),
        })
    }

    /// Makes futures that are never polled, which does nothing.
    fn make_reads(&mut self) {
        match self {
            Self::Items(real) => {
                drop(real.recv());
                drop(real.next_chunk());
            }
            Self::Clones(real) => drop(real.recv()),
            Self::Limited(real) => drop(real.recv()),
        }
    }

    /// `None` for a reader that cannot.
    fn skip_event(&mut self) -> Option<bool> {
        match self {
            Self::Items(_) => None,
            Self::Clones(real) => Some(real.skip_event()),
            Self::Limited(real) => Some(real.skip_event()),
        }
    }

    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<Option<Outcome>> {
        match self {
            Self::Items(real) => Pin::new(real)
                .poll_next(cx)
                .map(|answer| Some(answer?.map(Got::Item).map_err(Nothing::from))),
            Self::Clones(real) => Pin::new(real)
                .poll_next(cx)
                .map(|answer| Some(answer?.map(Got::Clone).map_err(Nothing::from))),
            Self::Limited(real) => Pin::new(real)
                .poll_next(cx)
                .map(|answer| Some(answer?.map(Got::Clone).map_err(Nothing::from))),
        }
    }

    fn read_blocking(&mut self) -> Outcome {
        Ok(match self {
            Self::Items(real) => Got::Item(real.recv_blocking()?),
            Self::Clones(real) => Got::Clone(real.recv_blocking()?),
            Self::Limited(real) => Got::Clone(real.recv_blocking()?),
        })
    }

    fn read_timeout(&mut self) -> Outcome {
        Ok(match self {
            Self::Items(real) => Got::Item(real.recv_timeout(Duration::ZERO)?),
            Self::Clones(real) => Got::Clone(real.recv_timeout(Duration::ZERO)?),
            Self::Limited(real) => Got::Clone(real.recv_timeout(Duration::ZERO)?),
        })
    }

    fn lag(&self) -> u64 {
        match self {
            Self::Items(real) => real.lag(),
            Self::Clones(real) => real.lag(),
            Self::Limited(real) => real.lag(),
        }
    }

    fn is_terminated(&self) -> bool {
        match self {
            Self::Items(real) => real.is_terminated(),
            Self::Clones(real) => real.is_terminated(),
            Self::Limited(real) => real.is_terminated(),
        }
    }
}

impl Busy {
    fn new(idle: Idle, way: Way) -> Self {
        /// Gives the reader back where the future is dropped.
        struct Lent(Option<Idle>, Rc<Cell<Option<Idle>>>);

        impl Drop for Lent {
            fn drop(&mut self) {
                self.1.set(self.0.take());
            }
        }

        let back = Rc::default();
        let mut lent = Lent(Some(idle), Rc::clone(&back));
        let future = async move {
            match &mut lent.0 {
                Some(idle) => idle.read(way).await,
                None => Err(Nothing::Empty),
            }
        };
        Self {
            future: Box::pin(future),
            back,
            way,
        }
    }

    fn cancel(self) -> (Result<(), Panicked>, Option<Idle>) {
        let outcome = act(|| drop(self.future));
        (outcome, self.back.take())
    }
}

impl Reader {
    pub(super) fn new(real: Subscription<Event>, at: Place) -> Self {
        Self::with(Idle::Items(real), model::Reader::new(at))
    }

    fn with(idle: Idle, model: model::Reader) -> Self {
        Self {
            real: Real::Idle(idle),
            model,
            waiting: None,
            tasks: Vec::new(),
        }
    }

    fn idle(&mut self) -> Option<&mut Idle> {
        match &mut self.real {
            Real::Idle(idle) => Some(idle),
            _ => None,
        }
    }

    fn task(&mut self, fresh: bool) -> Arc<Task> {
        let known = self.tasks.last().filter(|_| !fresh);
        let task = known.cloned().unwrap_or_else(|| {
            let task = Task::new();
            self.tasks.push(Arc::clone(&task));
            task
        });
        task.runs();
        task
    }

    /// How it reads where nothing else is said.
    fn way(&self) -> Way {
        match self.real {
            Real::Idle(Idle::Clones(_) | Idle::Limited(_)) => Way::Clone,
            _ => Way::Item,
        }
    }

    fn expect(&self, way: Way, model: &Model) -> Expected {
        let mut after = self.model.clone();
        Expected {
            answer: model.read(&mut after, way),
            after,
            clones: event::clones_alive(),
        }
    }

    pub(super) fn read(&mut self, manner: Manner, chunk: Option<Way>, fresh: bool, model: &Model) {
        if matches!(self.real, Real::Busy(_)) {
            return self.poll_kept(fresh, model);
        }
        let way = match (self.way(), chunk) {
            (Way::Item, Some(chunk)) => chunk,
            (way, _) => way,
        };
        match manner {
            Manner::Stream => self.poll_stream(fresh, model),
            Manner::PollAndKeep => self.poll_and_keep(way, fresh, model),
            _ => self.read_now(manner, way, model),
        }
    }

    fn read_now(&mut self, manner: Manner, way: Way, model: &Model) {
        let mut expected = self.expect(way, model);
        let is_empty = expected.answer == Err(Nothing::Empty);
        // Another one than a stream that waits.
        let waker = self.task(true).waker();
        let Some(idle) = self.idle() else { return };
        let outcome = act(|| match manner {
            Manner::Block if is_empty => idle.read_timeout(),
            Manner::Block => idle.read_blocking(),
            Manner::Try if matches!(way, Way::Item | Way::Clone) => idle.try_read(),
            _ => {
                let mut future = Box::pin(idle.read(way));
                match future.poll_unpin(&mut Context::from_waker(&waker)) {
                    Poll::Ready(answer) => answer,
                    Poll::Pending => Err(Nothing::Empty),
                }
            }
        });
        drop(waker);
        if is_empty && manner != Manner::Try {
            expected.after.let_go();
        }
        // Only `try_recv` leaves the place of a stream that waits.
        if !is_empty || manner != Manner::Try {
            self.waiting = None;
        }
        self.settle(outcome, expected, model);
    }

    /// Skips an event, if there is one.
    pub(super) fn skip(&mut self, model: &Model) {
        let mut after = self.model.clone();
        let expected = model.skip(&mut after);
        let clones = event::clones_alive();
        let Some(idle) = self.idle() else { return };
        let outcome = act(|| idle.skip_event());
        let lag = idle.lag();
        // It may be a panic of what it went over before, or of what it skipped.
        let is_done = match outcome {
            Ok(None) => return,
            Ok(Some(skipped)) => {
                assert_eq!(skipped, expected);
                true
            }
            Err(_) => {
                let at_item_end = after.given == 0 && lag == *model.possible_lag(&after).end();
                expected && (event::clones_alive() < clones || at_item_end)
            }
        };
        if is_done {
            self.model = after;
        }
        if outcome.is_err() || expected || model.look(self.model.at) != Err(Nothing::Empty) {
            self.waiting = None;
        }
    }

    /// Compares, and goes on from where the library is.
    fn settle(&mut self, outcome: Result<Outcome, Panicked>, expected: Expected, model: &Model) {
        match outcome {
            Ok(answer) => {
                let answer = agreed(answer.map(Got::ids), &expected.answer);
                assert_eq!(answer, expected.answer);
                self.model = expected.after;
            }
            Err(panic) => self.resume_after(panic, expected, model),
        }
    }

    /// A read panicked: it has happened or it has not. What is ready in front of it says which, or what
    /// was cloned.
    fn resume_after(&mut self, panic: Panicked, expected: Expected, model: &Model) {
        self.waiting = None;
        let mut after = expected.after;
        let is_done = if after.limit.is_some() {
            after.take_back(&expected.answer);
            event::clones_alive() > expected.clones
        } else {
            let Some(idle) = self.idle() else { return };
            let lag = idle.lag();
            lag != model.lag(self.model.at) && {
                assert_eq!(lag, model.lag(after.at));
                true
            }
        };
        if is_done {
            assert!(!panic.was_in(Spot::Clone), "received, but not cloned");
            self.model = after;
        }
    }

    fn poll_stream(&mut self, fresh: bool, model: &Model) {
        let was_terminated = self.model.terminated;
        let mut expected = match was_terminated {
            true => Expected {
                answer: Err(Nothing::Closed),
                after: self.model.clone(),
                clones: 0,
            },
            false => self.expect(self.way(), model),
        };
        expected.after.terminated |= { &expected.answer }
            .as_ref()
            .is_err_and(|end| end.is_final());
        let task = self.task(fresh);
        let waker = task.waker();
        let Some(idle) = self.idle() else { return };
        let outcome = act(|| idle.poll_stream(&mut Context::from_waker(&waker)));
        drop(waker);
        match outcome {
            Ok(answer) => {
                // The end of a stream says nothing.
                let answer = match answer {
                    Poll::Ready(Some(answer)) => {
                        assert_ne!(answer.as_ref().err(), Some(&Nothing::Closed));
                        answer
                    }
                    Poll::Ready(None) => Err(Nothing::Closed),
                    Poll::Pending => Err(Nothing::Empty),
                };
                let waits = matches!(answer, Err(Nothing::Empty));
                self.settle(Ok(answer), expected, model);
                if waits {
                    self.model.let_go();
                }
                self.waiting = waits.then(|| self.wait(task, model));
            }
            Err(panic) => self.settle(Err(panic), expected, model),
        }
        if let Some(idle) = self.idle() {
            idle.make_reads();
            let terminated = idle.is_terminated();
            assert_eq!(terminated, self.model.terminated);
        }
    }

    fn wait(&self, task: Arc<Task>, model: &Model) -> Waiting {
        Waiting::new(task, self.model.at, model)
    }

    fn poll_and_keep(&mut self, way: Way, fresh: bool, model: &Model) {
        match std::mem::replace(&mut self.real, Real::Gone) {
            Real::Idle(idle) => {
                self.real = Real::Busy(Busy::new(idle, way));
                self.poll_kept(fresh, model);
            }
            real => self.real = real,
        }
    }

    /// Polls the future that has the reader; takes it back where that is ready.
    pub(super) fn poll_kept(&mut self, fresh: bool, model: &Model) {
        if self.idle().is_some() {
            return;
        }
        let task = self.task(fresh);
        let Real::Busy(Busy { way, .. }) = self.real else {
            return;
        };
        let expected = self.expect(way, model);
        let Real::Busy(Busy { future, .. }) = &mut self.real else {
            return;
        };
        let waker = task.waker();
        let outcome = act(|| future.poll_unpin(&mut Context::from_waker(&waker)));
        drop(waker);
        match outcome {
            Ok(Poll::Pending) => {
                assert_eq!(expected.answer, Err(Nothing::Empty));
                self.model = expected.after;
                self.model.let_go();
                self.waiting = Some(self.wait(task, model));
            }
            Ok(Poll::Ready(answer)) => {
                self.waiting = None;
                self.take_back();
                self.settle(Ok(answer), expected, model);
            }
            Err(panic) => {
                self.take_back();
                self.settle(Err(panic), expected, model);
            }
        }
    }

    /// Drops the future that has the reader.
    pub(super) fn take_back(&mut self) {
        match std::mem::replace(&mut self.real, Real::Gone) {
            Real::Busy(busy) => {
                self.waiting = None;
                let (_, idle) = busy.cancel();
                self.real = idle.map_or(Real::Gone, Real::Idle);
                assert!(self.idle().is_some(), "lost in a future");
            }
            real => self.real = real,
        }
    }

    /// Receives an item, and keeps it.
    pub(super) fn keep(&mut self, model: &Model) -> Option<(BufferItem<Event>, Place)> {
        let expected = self.expect(Way::Item, model);
        let Real::Idle(Idle::Items(real)) = &mut self.real else {
            return None;
        };
        let outcome = act(|| real.try_recv());
        if expected.answer != Err(Nothing::Empty) {
            self.waiting = None;
        }
        match outcome {
            Ok(answer) => {
                let read = answer.as_ref().map(|item| ids(item.events()));
                assert_eq!(read.map_err(|error| error.clone().into()), expected.answer);
                self.model = expected.after;
                let (buffer, next) = self.model.at;
                answer.ok().map(|item| (item, (buffer, next - 1)))
            }
            Err(panic) => {
                self.resume_after(panic, expected, model);
                None
            }
        }
    }

    pub(super) fn into_cloned(mut self) -> Self {
        self.real = match self.real {
            Real::Idle(Idle::Items(real)) => Real::Idle(Idle::Clones(real.cloned())),
            real => real,
        };
        self
    }

    /// `None` where that panics: then it is gone.
    pub(super) fn into_limited(
        mut self,
        (items, bytes, on_lag): (Option<u64>, Option<u64>, OnLag),
        model: &Model,
    ) -> Option<Self> {
        let real = match self.real {
            Real::Idle(Idle::Items(real)) => real,
            real => {
                self.real = real;
                return Some(self);
            }
        };
        let mut limit = LagLimit::items(items.unwrap_or(u64::MAX)).on_lag(on_lag);
        if let Some(bytes) = bytes {
            limit = limit.and_bytes(bytes);
        }
        let outcome = act(|| real.limited(limit));
        for task in &self.tasks {
            // That of a closer does.
            let stays = outcome.is_ok() && self.model.closing.is_some();
            assert!(stays || !task.has_wakers(), "a waker goes along");
        }
        self.real = Real::Idle(Idle::Limited(outcome.ok()?));
        self.waiting = None;
        self.model.let_go();
        let limit = Limit::new(items, bytes, on_lag, self.model.at, model);
        self.model.limit = Some(limit);
        Some(self)
    }

    pub(super) fn bookmark(&mut self) -> Option<(Bookmark<Event>, Place)> {
        let at = self.model.at;
        match self.idle()? {
            Idle::Items(real) => Some((real.bookmark(), at)),
            Idle::Clones(real) => Some((real.bookmark(), at)),
            Idle::Limited(_) => None,
        }
    }

    /// What a second reader at the same place knows.
    fn copy(&self, model: &mut Model) -> model::Reader {
        let closing = model.force_closed(&self.model).map(|reason| {
            model.closings.push(Some(reason));
            model.closings.len() - 1
        });
        model::Reader {
            at: self.model.at,
            given: self.model.given,
            failed: self.model.failed,
            closing,
            ..model::Reader::default()
        }
    }

    pub(super) fn duplicate(&mut self, model: &mut Model) -> Option<Self> {
        let copy = self.copy(model);
        let idle = match self.idle()? {
            Idle::Items(real) => Idle::Items(real.clone()),
            Idle::Clones(real) => Idle::Clones(real.clone()),
            Idle::Limited(_) => return None,
        };
        Some(Self::with(idle, copy))
    }

    pub(super) fn resubscribe(&mut self, model: &mut Model) -> Option<Self> {
        let mut copy = self.copy(model);
        (copy.given, copy.failed) = (0, false);
        // That of a closed one is closed in the same place.
        if copy.closing.is_none() {
            while model.look(copy.at).is_ok() {
                let (buffer, item) = model.next(copy.at);
                copy.at = (buffer, item + 1);
            }
            copy.at = model.next(copy.at);
        }
        let Idle::Items(real) = self.idle()? else {
            return None;
        };
        let fresh = act(|| real.resubscribe()).ok()?;
        Some(Self::with(Idle::Items(fresh), copy))
    }

    pub(super) fn position(&mut self, model: &Model) -> Option<(Position<Event>, Place)> {
        // That of a closed reader leads nowhere.
        if model.force_closed(&self.model).is_some() {
            return None;
        }
        let at = self.model.at;
        match self.idle()? {
            Idle::Items(real) => Some((real.position(), at)),
            Idle::Clones(_) | Idle::Limited(_) => None,
        }
    }

    pub(super) fn closer(&mut self, model: &mut Model) -> Option<(Closer, usize)> {
        let real = match self.idle()? {
            Idle::Items(real) => act(|| real.closer()),
            Idle::Clones(real) => act(|| real.closer()),
            Idle::Limited(real) => act(|| real.closer()),
        };
        let closing = *self.model.closing.get_or_insert_with(|| {
            model.closings.push(None);
            model.closings.len() - 1
        });
        Some((real.ok()?, closing))
    }

    pub(super) fn drop(mut self) {
        self.take_back();
        let _ = act(|| drop(self.real));
        for task in &self.tasks {
            assert!(!task.has_wakers(), "a waker outlives its reader");
        }
    }

    /// The place from which it counts as an observer, and whether it does for sure.
    pub(super) fn observes(&self, model: &Model) -> Option<(Place, bool)> {
        if self.model.is_closed_for_lag() || model.force_closed(&self.model).is_some() {
            return None;
        }
        let may_be_closed = *model.possible_lag(&self.model).start() == 0;
        let for_sure = !may_be_closed || *model.possible_lag(&self.model).end() == 0;
        Some((self.model.at, for_sure))
    }

    pub(super) fn check(&self, model: &Model, put_off: impl Fn(Place) -> bool) {
        if let Real::Idle(idle) = &self.real {
            let possible = model.possible_lag(&self.model);
            let lag = idle.lag();
            assert!(possible.contains(&lag), "lag {lag}, not {possible:?}");
        }
        if let Some(waiting) = &self.waiting {
            let force_closed = model.force_closed(&self.model).is_some();
            let put_off = |at| !force_closed && put_off(at);
            let is_ready = model.look(self.model.at) != Err(Nothing::Empty);
            waiting.check(is_ready || force_closed, model, put_off);
        }
    }
}
