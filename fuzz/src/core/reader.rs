//! Readers, paired with their model.

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

use super::model::{self, Limit, Model, Nothing, Place, ReadKind, ReadResult};
use super::op::ReadMode;
use super::wait::Waiting;
use crate::event::{self, Event, ids};
use crate::task::Task;
use crate::user_code::{Panicked, Spot, act};

/// A reader that is not borrowed by a future.
enum Idle {
    Items(Subscription<Event>),
    Clones(Cloned<Event>),
    Limited(Limited<Event>),
}

/// A reader that a future owns until it is dropped.
struct Busy {
    future: Pin<Box<dyn Future<Output = Outcome>>>,
    back: Rc<Cell<Option<Idle>>>,
    kind: ReadKind,
}

enum Real {
    Idle(Idle),
    Busy(Busy),
    /// Taken out for a moment.
    Gone,
}

pub(super) struct Reader {
    real: Real,
    pub(super) model: model::Reader,
    pub(super) waiting: Option<Waiting>,
    /// The tasks that have polled the reader.
    tasks: Vec<Arc<Task>>,
}

/// What a read has received.
enum Got {
    Item(BufferItem<Event>),
    Clone(Event),
    Lent(Vec<u32>),
}

type Outcome = Result<Got, Nothing>;

/// The expected result of a read.
struct Expected {
    result: ReadResult,
    /// The reader after the read.
    after: model::Reader,
    /// The number of clones that were alive before the read.
    clones: usize,
}

/// Replaces a permitted lag by the expected one, since it is not guaranteed when the writer closes
/// a lagging reader.
fn normalize_lag(result: ReadResult, expected: &ReadResult) -> ReadResult {
    match (&result, expected) {
        (Err(Nothing::LagExceeded(items)), Err(Nothing::LagExceeded(most)))
            if (2..=*most).contains(items) =>
        {
            expected.clone()
        }
        _ => result,
    }
}

impl Got {
    /// The ids of the events, which are dropped.
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

    async fn read(&mut self, kind: ReadKind) -> Outcome {
        Ok(match (self, kind) {
            (Self::Items(real), ReadKind::Chunk(usize::MAX)) => {
                let mut lent: Vec<&Event> = Vec::new();
                // This uses `fold`, which is implemented separately from `next`.
                real.next_chunk().await?.for_each(|event| lent.push(event));
                Got::Lent(lent.into_iter().map(Event::id).collect())
            }
            (Self::Items(real), ReadKind::Broken(most)) => {
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
            (Self::Items(real), ReadKind::Chunk(most)) => {
                // Read only later, since the references outlive the chunk.
                let lent: Vec<&Event> = real.next_chunk().await?.take(most).collect();
                Got::Lent(lent.into_iter().map(Event::id).collect())
            }
            (Self::Items(real), _) => Got::Item(real.recv().await?),
            (Self::Clones(real), _) => Got::Clone(real.recv().await?),
            (Self::Limited(real), _) => Got::Clone(real.recv().await?),
        })
    }

    /// Creates futures and drops them unpolled, which must have no effect.
    fn drop_unpolled_reads(&mut self) {
        match self {
            Self::Items(real) => {
                drop(real.recv());
                drop(real.next_chunk());
            }
            Self::Clones(real) => drop(real.recv()),
            Self::Limited(real) => drop(real.recv()),
        }
    }

    /// Skips an event; returns `None` for a reader without this method.
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
                .map(|result| Some(result?.map(Got::Item).map_err(Nothing::from))),
            Self::Clones(real) => Pin::new(real)
                .poll_next(cx)
                .map(|result| Some(result?.map(Got::Clone).map_err(Nothing::from))),
            Self::Limited(real) => Pin::new(real)
                .poll_next(cx)
                .map(|result| Some(result?.map(Got::Clone).map_err(Nothing::from))),
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
    fn new(idle: Idle, kind: ReadKind) -> Self {
        /// Returns the reader when the future is dropped.
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
                Some(idle) => idle.read(kind).await,
                None => Err(Nothing::Empty),
            }
        };
        Self {
            future: Box::pin(future),
            back,
            kind,
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

    /// How this reader reads by default.
    fn default_kind(&self) -> ReadKind {
        match self.real {
            Real::Idle(Idle::Clones(_) | Idle::Limited(_)) => ReadKind::Clone,
            _ => ReadKind::Item,
        }
    }

    fn expect(&self, kind: ReadKind, model: &Model) -> Expected {
        let mut after = self.model.clone();
        Expected {
            result: model.read(&mut after, kind),
            after,
            clones: event::clones_alive(),
        }
    }

    pub(super) fn read(
        &mut self,
        mode: ReadMode,
        chunk: Option<ReadKind>,
        fresh: bool,
        model: &Model,
    ) {
        if matches!(self.real, Real::Busy(_)) {
            return self.poll_kept(fresh, model);
        }
        let kind = match (self.default_kind(), chunk) {
            (ReadKind::Item, Some(chunk)) => chunk,
            (kind, _) => kind,
        };
        match mode {
            ReadMode::Stream => self.poll_stream(fresh, model),
            ReadMode::PollAndKeep => self.poll_and_keep(kind, fresh, model),
            _ => self.read_now(mode, kind, model),
        }
    }

    fn read_now(&mut self, mode: ReadMode, kind: ReadKind, model: &Model) {
        let mut expected = self.expect(kind, model);
        let is_empty = expected.result == Err(Nothing::Empty);
        // A task other than that of a waiting stream.
        let waker = self.task(true).waker();
        let Some(idle) = self.idle() else { return };
        let outcome = act(|| match mode {
            ReadMode::Block if is_empty => idle.read_timeout(),
            ReadMode::Block => idle.read_blocking(),
            ReadMode::Try if matches!(kind, ReadKind::Item | ReadKind::Clone) => idle.try_read(),
            _ => {
                let mut future = Box::pin(idle.read(kind));
                match future.poll_unpin(&mut Context::from_waker(&waker)) {
                    Poll::Ready(result) => result,
                    Poll::Pending => Err(Nothing::Empty),
                }
            }
        });
        drop(waker);
        if is_empty && mode != ReadMode::Try {
            expected.after.release();
        }
        // Only `try_recv` keeps the registration of a waiting stream.
        if !is_empty || mode != ReadMode::Try {
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
        // An item that it had passed before may have panicked, or the skipped event.
        let is_done = match outcome {
            Ok(None) => return,
            Ok(Some(skipped)) => {
                assert_eq!(skipped, expected);
                true
            }
            Err(_) => {
                let at_item_end = after.received == 0 && lag == *model.possible_lag(&after).end();
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

    /// Compares the result, and continues from the library's state.
    fn settle(&mut self, outcome: Result<Outcome, Panicked>, expected: Expected, model: &Model) {
        match outcome {
            Ok(result) => {
                let result = normalize_lag(result.map(Got::ids), &expected.result);
                assert_eq!(result, expected.result);
                self.model = expected.after;
            }
            Err(panic) => self.resume_after(panic, expected, model),
        }
    }

    /// Continues after a panic of a read, which may have taken effect or not. The lag, or the
    /// number of clones, shows which.
    fn resume_after(&mut self, panic: Panicked, expected: Expected, model: &Model) {
        self.waiting = None;
        let mut after = expected.after;
        let is_done = if after.limit.is_some() {
            after.restore(&expected.result);
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
            assert!(
                !panic.was_in(Spot::Clone),
                "received, although its clone panicked"
            );
            self.model = after;
        }
    }

    fn poll_stream(&mut self, fresh: bool, model: &Model) {
        let was_terminated = self.model.terminated;
        let mut expected = match was_terminated {
            true => Expected {
                result: Err(Nothing::Closed),
                after: self.model.clone(),
                clones: 0,
            },
            false => self.expect(self.default_kind(), model),
        };
        expected.after.terminated |= { &expected.result }
            .as_ref()
            .is_err_and(|end| end.is_final());
        let task = self.task(fresh);
        let waker = task.waker();
        let Some(idle) = self.idle() else { return };
        let outcome = act(|| idle.poll_stream(&mut Context::from_waker(&waker)));
        drop(waker);
        match outcome {
            Ok(result) => {
                // The end of a stream has no error.
                let result = match result {
                    Poll::Ready(Some(result)) => {
                        assert_ne!(result.as_ref().err(), Some(&Nothing::Closed));
                        result
                    }
                    Poll::Ready(None) => Err(Nothing::Closed),
                    Poll::Pending => Err(Nothing::Empty),
                };
                let waits = matches!(result, Err(Nothing::Empty));
                self.settle(Ok(result), expected, model);
                if waits {
                    self.model.release();
                }
                self.waiting = waits.then(|| self.wait(task, model));
            }
            Err(panic) => self.settle(Err(panic), expected, model),
        }
        if let Some(idle) = self.idle() {
            idle.drop_unpolled_reads();
            let terminated = idle.is_terminated();
            assert_eq!(terminated, self.model.terminated);
        }
    }

    fn wait(&self, task: Arc<Task>, model: &Model) -> Waiting {
        Waiting::new(task, self.model.at, model)
    }

    fn poll_and_keep(&mut self, kind: ReadKind, fresh: bool, model: &Model) {
        match std::mem::replace(&mut self.real, Real::Gone) {
            Real::Idle(idle) => {
                self.real = Real::Busy(Busy::new(idle, kind));
                self.poll_kept(fresh, model);
            }
            real => self.real = real,
        }
    }

    /// Polls the future that owns the reader; takes the reader back if it is ready.
    pub(super) fn poll_kept(&mut self, fresh: bool, model: &Model) {
        if self.idle().is_some() {
            return;
        }
        let task = self.task(fresh);
        let Real::Busy(Busy { kind, .. }) = self.real else {
            return;
        };
        let expected = self.expect(kind, model);
        let Real::Busy(Busy { future, .. }) = &mut self.real else {
            return;
        };
        let waker = task.waker();
        let outcome = act(|| future.poll_unpin(&mut Context::from_waker(&waker)));
        drop(waker);
        match outcome {
            Ok(Poll::Pending) => {
                assert_eq!(expected.result, Err(Nothing::Empty));
                self.model = expected.after;
                self.model.release();
                self.waiting = Some(self.wait(task, model));
            }
            Ok(Poll::Ready(result)) => {
                self.waiting = None;
                self.take_back();
                self.settle(Ok(result), expected, model);
            }
            Err(panic) => {
                self.take_back();
                self.settle(Err(panic), expected, model);
            }
        }
    }

    /// Drops the future that owns the reader.
    pub(super) fn take_back(&mut self) {
        match std::mem::replace(&mut self.real, Real::Gone) {
            Real::Busy(busy) => {
                self.waiting = None;
                let (_, idle) = busy.cancel();
                self.real = idle.map_or(Real::Gone, Real::Idle);
                assert!(
                    self.idle().is_some(),
                    "the future did not return the reader"
                );
            }
            real => self.real = real,
        }
    }

    /// Receives an item, and keeps it.
    pub(super) fn keep(&mut self, model: &Model) -> Option<(BufferItem<Event>, Place)> {
        let expected = self.expect(ReadKind::Item, model);
        let Real::Idle(Idle::Items(real)) = &mut self.real else {
            return None;
        };
        let outcome = act(|| real.try_recv());
        if expected.result != Err(Nothing::Empty) {
            self.waiting = None;
        }
        match outcome {
            Ok(result) => {
                let read = result.as_ref().map(|item| ids(item.events()));
                assert_eq!(read.map_err(|error| error.clone().into()), expected.result);
                self.model = expected.after;
                let (buffer, next) = self.model.at;
                result.ok().map(|item| (item, (buffer, next - 1)))
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

    /// Sets a limit; returns `None` if that panics, which drops the reader.
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
            // A closer keeps the waker.
            let stays = outcome.is_ok() && self.model.closing.is_some();
            assert!(stays || !task.has_wakers(), "a waker is kept");
        }
        self.real = Real::Idle(Idle::Limited(outcome.ok()?));
        self.waiting = None;
        self.model.release();
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

    /// The model of a second reader at the same place.
    fn copy(&self, model: &mut Model) -> model::Reader {
        let closing = model.force_closed(&self.model).map(|reason| {
            model.closings.push(Some(reason));
            model.closings.len() - 1
        });
        model::Reader {
            at: self.model.at,
            received: self.model.received,
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
        (copy.received, copy.failed) = (0, false);
        // A reader resubscribed from a closed one is closed, at the same place.
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
        // The position of a closed reader leads nowhere.
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

    /// The place from which it is counted as an observer, and whether that is certain.
    pub(super) fn observes(&self, model: &Model) -> Option<(Place, bool)> {
        if self.model.is_closed_for_lag() || model.force_closed(&self.model).is_some() {
            return None;
        }
        let may_be_closed = *model.possible_lag(&self.model).start() == 0;
        let certain = !may_be_closed || *model.possible_lag(&self.model).end() == 0;
        Some((self.model.at, certain))
    }

    pub(super) fn check(&self, model: &Model, is_deferred: impl Fn(Place) -> bool) {
        if let Real::Idle(idle) = &self.real {
            let possible = model.possible_lag(&self.model);
            let lag = idle.lag();
            assert!(possible.contains(&lag), "lag {lag}, not {possible:?}");
        }
        if let Some(waiting) = &self.waiting {
            let force_closed = model.force_closed(&self.model).is_some();
            let is_deferred = |at| !force_closed && is_deferred(at);
            let is_ready = model.look(self.model.at) != Err(Nothing::Empty);
            waiting.check(is_ready || force_closed, model, is_deferred);
        }
    }
}
