//! The writers, side by side with their model.

use std::error::Error;
use std::fmt;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Waker};

use event_buffer::{
    Bookmark, BookmarkError, BufferItem, Deferred, EventBuffer, Position, Replay, SharedBuffer,
    Subscription,
};
use futures::Sink;

use super::model::{End, Failure, Model, Place};
use super::op::Publish;
use crate::event::{Event, Making, ids, making};
use crate::foreign::{Panicked, Spot, act, act_with};

/// A reason, or what a producer failed of.
#[derive(Debug)]
pub(super) struct Number(pub(super) u32);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Number {}

/// A writer, or a handle of one that is shared.
struct Handle<B> {
    real: B,
    /// What its sink was given.
    unflushed: Vec<u32>,
}

enum Kind {
    Own(Handle<EventBuffer<Event>>),
    /// At least one.
    Shared(Vec<Handle<SharedBuffer<Event>>>),
}

/// Of a buffer that has not ended.
pub(super) struct Writer {
    pub(super) number: usize,
    kind: Kind,
}

/// What was put off.
pub(super) struct PutOff {
    pub(super) real: Deferred<Event>,
    pub(super) buffer: usize,
    /// From where on it may keep items.
    pub(super) holds: Place,
    /// The items of which it wakes the readers.
    wakes: std::ops::Range<usize>,
}

impl PutOff {
    pub(super) fn covers(&self, at: Place) -> bool {
        self.buffer == at.0 && self.wakes.contains(&at.1)
    }

    pub(super) fn drop(self, model: &mut Model) {
        let _ = act(|| drop(self.real));
        model.buffers[self.buffer].wakings += 1;
    }
}

/// How to end.
pub(super) enum Finish {
    Drop,
    Close,
    Fail(u32),
    Splice(Position<Event>, Place),
    SpliceToItem(BufferItem<Event>, Place),
}

fn one_each(ids: Vec<u32>) -> impl Iterator<Item = Vec<u32>> {
    ids.into_iter().map(|id| vec![id])
}

fn all_in_one(ids: Vec<u32>) -> impl Iterator<Item = Vec<u32>> {
    Some(ids).into_iter().filter(|ids| !ids.is_empty())
}

/// Says that what the iterator made was published, unless it panicked.
fn published(outcome: Result<(), Panicked>) -> bool {
    !outcome.is_err_and(|panic| panic.was_in(Spot::Iterator))
}

fn flush<S: Sink<Event> + Unpin>(sink: &mut S, close: bool) {
    let cx = &mut Context::from_waker(Waker::noop());
    let sink = Pin::new(sink);
    let poll = if close {
        sink.poll_close(cx)
    } else {
        sink.poll_flush(cx)
    };
    assert!(poll.is_ready());
}

fn send<S: Sink<Event> + Unpin>(sink: &mut S, events: Making) {
    for event in events {
        let poll = Pin::new(&mut *sink).poll_ready(&mut Context::from_waker(Waker::noop()));
        assert!(poll.is_ready());
        assert!(Pin::new(&mut *sink).start_send(event).is_ok());
    }
}

impl Writer {
    pub(super) fn open(replay: Replay, model: &mut Model) -> Self {
        let number = model.open(match replay {
            Replay::None => 0,
            Replay::Last(n) => n,
            Replay::All => usize::MAX,
        });
        let real = EventBuffer::builder().replay(replay).build();
        let kind = Kind::Own(Handle {
            real,
            unflushed: Vec::new(),
        });
        Self { number, kind }
    }

    pub(super) fn publish(
        &mut self,
        how: Publish,
        handle: usize,
        count: usize,
        hint: usize,
        model: &mut Model,
    ) -> Option<PutOff> {
        let number = self.number;
        let mut put_off = None;
        if let Publish::Send = how {
            self.send(handle, count);
            return None;
        } else {
            match &mut self.kind {
                Kind::Own(own) => put_off = own.publish(how, count, hint, number, model),
                Kind::Shared(handles) => {
                    let handle = handle % handles.len();
                    handles[handle].publish(how, count, hint, number, model);
                }
            }
        }
        put_off
    }

    fn send(&mut self, handle: usize, count: usize) {
        let (ids, events) = making(count, 0);
        // Not by `act`: it is the fuzzer that runs the iterator.
        match &mut self.kind {
            Kind::Own(own) => {
                own.unflushed.extend(ids);
                send(&mut own.real, events);
            }
            Kind::Shared(handles) => {
                let handle = handle % handles.len();
                handles[handle].unflushed.extend(ids);
                send(&mut handles[handle].real, events);
            }
        }
    }

    pub(super) fn flush(&mut self, handle: usize, model: &mut Model) {
        let close = handle % 2 == 1;
        let unflushed = match &mut self.kind {
            Kind::Own(own) => {
                let _ = act(|| flush(&mut own.real, close));
                &mut own.unflushed
            }
            Kind::Shared(handles) => {
                let handle = handle % handles.len();
                let Handle { real, unflushed } = &mut handles[handle];
                let _ = act_with(Some(real.clone()), || flush(real, close));
                unflushed
            }
        };
        model.publish(self.number, one_each(mem::take(unflushed)));
    }

    /// Ends the buffer; `None` where it cannot be, because others share it.
    pub(super) fn finish(self, how: Finish, model: &mut Model) {
        let own = match self.kind {
            Kind::Own(own) => own,
            Kind::Shared(handles) => {
                for handle in handles {
                    handle.drop(self.number, model);
                }
                return model.end(self.number, End::Closed);
            }
        };
        model.publish(self.number, one_each(own.unflushed));
        let (end, call): (_, Box<dyn FnOnce()>) = match how {
            Finish::Drop => (End::Closed, Box::new(|| drop(own.real))),
            Finish::Close => (End::Closed, Box::new(|| own.real.close())),
            Finish::Fail(n) => (
                End::Failed(Failure::Number(n)),
                Box::new(move || own.real.fail(Number(n))),
            ),
            Finish::Splice(to, at) => (End::Spliced(at), Box::new(move || own.real.splice(&to))),
            Finish::SpliceToItem(to, at) => {
                (End::Spliced(at), Box::new(move || own.real.splice(to)))
            }
        };
        let _ = act(call);
        model.end(self.number, end);
    }

    pub(super) fn share(self, model: &mut Model) -> Option<Self> {
        let Kind::Own(own) = self.kind else {
            return Some(self);
        };
        model.publish(self.number, one_each(own.unflushed));
        let Ok(real) = act(|| SharedBuffer::from(own.real)) else {
            model.end(self.number, End::Closed);
            return None;
        };
        let unflushed = Vec::new();
        Some(Self {
            kind: Kind::Shared(vec![Handle { real, unflushed }]),
            ..self
        })
    }

    pub(super) fn clone_handle(&mut self) {
        if let Kind::Shared(handles) = &mut self.kind
            && handles.len() < 4
        {
            let real = handles[0].real.clone();
            let unflushed = Vec::new();
            handles.push(Handle { real, unflushed });
        }
    }

    /// `None` where it was the last.
    pub(super) fn drop_handle(mut self, handle: usize, model: &mut Model) -> Option<Self> {
        if let Kind::Shared(handles) = &mut self.kind {
            let handle = handle % handles.len();
            handles.swap_remove(handle).drop(self.number, model);
            if handles.is_empty() {
                model.end(self.number, End::Closed);
                return None;
            }
        }
        Some(self)
    }

    /// `None` where the buffer has ended.
    pub(super) fn into_inner(mut self, handle: usize, model: &mut Model) -> Option<Self> {
        let Kind::Shared(handles) = &mut self.kind else {
            return Some(self);
        };
        let handle = handle % handles.len();
        let Handle { real, unflushed } = handles.swap_remove(handle);
        let outcome = act(|| real.into_inner());
        model.publish(self.number, one_each(unflushed));
        match outcome {
            Ok(Some(real)) => {
                assert!(handles.is_empty(), "not the last handle");
                let unflushed = Vec::new();
                self.kind = Kind::Own(Handle { real, unflushed });
                Some(self)
            }
            Ok(None) => {
                assert!(!handles.is_empty(), "it was the last handle");
                Some(self)
            }
            Err(_) if handles.is_empty() => {
                model.end(self.number, End::Closed);
                None
            }
            Err(_) => Some(self),
        }
    }

    pub(super) fn own(&self) -> Option<&EventBuffer<Event>> {
        match &self.kind {
            Kind::Own(own) => Some(&own.real),
            Kind::Shared(_) => None,
        }
    }

    pub(super) fn head(&self) -> Option<BufferItem<Event>> {
        match &self.kind {
            Kind::Own(own) => own.real.head(),
            Kind::Shared(handles) => handles[0].real.head(),
        }
    }

    pub(super) fn subscribe(&self) -> Subscription<Event> {
        match &self.kind {
            Kind::Own(own) => own.real.subscribe(),
            Kind::Shared(handles) => handles[0].real.subscribe(),
        }
    }

    pub(super) fn subscribe_from_start(&self) -> Subscription<Event> {
        match &self.kind {
            Kind::Own(own) => own.real.subscribe_from_start(),
            Kind::Shared(handles) => handles[0].real.subscribe_from_start(),
        }
    }

    pub(super) fn tail(&self) -> Position<Event> {
        match &self.kind {
            Kind::Own(own) => own.real.tail(),
            Kind::Shared(handles) => handles[0].real.tail(),
        }
    }

    fn len(&self) -> (usize, bool) {
        match &self.kind {
            Kind::Own(own) => (own.real.len(), own.real.is_empty()),
            Kind::Shared(handles) => (handles[0].real.len(), handles[0].real.is_empty()),
        }
    }

    fn is_observed(&self) -> bool {
        match &self.kind {
            Kind::Own(own) => own.real.is_observed(),
            Kind::Shared(handles) => handles[0].real.is_observed(),
        }
    }

    /// What its sinks were given.
    pub(super) fn unflushed(&self) -> Vec<u32> {
        match &self.kind {
            Kind::Own(own) => own.unflushed.clone(),
            Kind::Shared(handles) => {
                let all = handles.iter().flat_map(|handle| &handle.unflushed);
                all.copied().collect()
            }
        }
    }

    /// The model's answer to [`EventBuffer::subscribe_after`].
    pub(super) fn place_after(&self, index: u64, model: &Model) -> Option<Place> {
        let buffer = &model.buffers[self.number];
        let retained = &buffer.items[buffer.oldest()..];
        let is_later = |item: &Vec<u32>| u64::from(item[0]) > index;
        let passed = retained.iter().position(is_later).unwrap_or(retained.len());
        let reaches_back = buffer.oldest() == 0 || passed > 0;
        reaches_back.then(|| (self.number, buffer.oldest() + passed))
    }

    /// The bookmarked place, where all from there on is retained.
    pub(super) fn upgrade(
        &self,
        bookmark: &Bookmark<Event>,
        at: Place,
        model: &Model,
    ) -> Option<(Subscription<Event>, Place)> {
        let answer = match &self.kind {
            Kind::Own(own) => own.real.upgrade(bookmark),
            Kind::Shared(handles) => handles[0].real.upgrade(bookmark),
        };
        let mut lost = 0;
        let mut place = Err(BookmarkError::OtherBuffer);
        for at in model.way(at) {
            let buffer = &model.buffers[at.0];
            if at.0 == self.number {
                lost += buffer.oldest().saturating_sub(at.1);
                place = match lost {
                    0 => Ok(at),
                    _ => Err(BookmarkError::Lost(lost as u64)),
                };
                break;
            }
            lost += buffer.items.len() - at.1;
        }
        assert_eq!(answer.as_ref().err(), place.as_ref().err());
        Some((answer.ok()?, place.ok()?))
    }

    pub(super) fn check(&self, model: &Model, observers: &[(Place, bool)]) {
        let buffer = &model.buffers[self.number];
        assert_eq!(self.len(), (buffer.retained, buffer.retained == 0));
        let newest = buffer.items.last().filter(|_| buffer.retained > 0);
        let head = self.head().map(|item| ids(item.events()));
        assert_eq!(head.as_ref(), newest);
        let mut here = { observers.iter() }.filter(|(at, _)| model.leads_to(*at, self.number));
        if self.is_observed() {
            assert!(here.next().is_some(), "nobody follows");
        } else {
            assert!(here.all(|(_, for_sure)| !for_sure), "somebody follows");
        }
    }
}

impl Handle<EventBuffer<Event>> {
    fn publish(
        &mut self,
        how: Publish,
        count: usize,
        hint: usize,
        number: usize,
        model: &mut Model,
    ) -> Option<PutOff> {
        let (_, from) = model.tail(number);
        let holds = model.oldest(number);
        let (ids, mut events) = making(count, hint);
        let real = &mut self.real;
        let mut put_off = None;
        let outcome = match how {
            Publish::Append => act(|| real.append(events)),
            Publish::Extend => act(|| real.extend(events)),
            Publish::Push => {
                let event = events.next()?;
                act(|| real.push(event))
            }
            Publish::AppendDeferred => {
                act(|| real.append_deferred(events)).map(|later| put_off = Some(later))
            }
            Publish::PushDeferred => {
                let event = events.next()?;
                act(|| real.push_deferred(event)).map(|later| put_off = Some(later))
            }
            Publish::Send => return None,
        };
        let published = published(outcome);
        // The iterator runs first, except where it is said to run under the caller's lock; and to
        // append nothing does nothing.
        let flushes = match how {
            Publish::Append => published && count > 0,
            Publish::AppendDeferred => true,
            _ => published,
        };
        if flushes {
            model.publish(number, one_each(mem::take(&mut self.unflushed)));
        }
        if published {
            match how {
                Publish::Extend => model.publish(number, one_each(ids)),
                _ => model.publish(number, all_in_one(ids)),
            }
        }
        put_off.map(|real| PutOff {
            real,
            buffer: number,
            holds,
            wakes: from..model.tail(number).1,
        })
    }
}

impl Handle<SharedBuffer<Event>> {
    fn publish(
        &mut self,
        how: Publish,
        count: usize,
        hint: usize,
        number: usize,
        model: &mut Model,
    ) {
        let (ids, mut events) = making(count, hint);
        let real = &self.real;
        let shared = Some(real.clone());
        let outcome = match how {
            Publish::Append | Publish::AppendDeferred | Publish::Send => {
                act_with(shared, || real.append(events))
            }
            Publish::Extend => act_with(shared, || real.extend(events)),
            Publish::Push | Publish::PushDeferred => {
                let event = events.next();
                act_with(shared, || {
                    event.into_iter().for_each(|event| real.push(event))
                })
            }
        };
        if published(outcome) {
            match how {
                Publish::Extend => model.publish(number, one_each(ids)),
                _ => model.publish(number, all_in_one(ids)),
            }
        }
    }

    fn drop(self, number: usize, model: &mut Model) {
        let _ = act(|| drop(self.real));
        model.publish(number, one_each(self.unflushed));
    }
}
