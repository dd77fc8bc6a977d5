//! Writers, paired with their model.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Waker};

use event_buffer::{
    Bookmark, BookmarkError, BufferItem, Deferred, Ended, EventBuffer, Position, Replay,
    ResumeError, SharedBuffer, Subscription,
};
use futures::Sink;

use super::model::{End, Failure, Model, Place};
use super::op::Publish;
use crate::event::{Event, ids, new_events};
use crate::user_code::{Panicked, Spot, act, act_with};

/// A reason for a close, or a producer's failure.
#[derive(Debug)]
pub(super) struct Number(pub(super) u32);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Number {}

enum Kind {
    Own(EventBuffer<Event>),
    /// The handles, at least one.
    Shared(Vec<SharedBuffer<Event>>),
}

/// The writer of a buffer that has not ended.
pub(super) struct Writer {
    pub(super) number: usize,
    kind: Kind,
}

/// A deferred wake-up.
pub(super) struct DeferredWake {
    pub(super) real: Deferred<Event>,
    pub(super) buffer: usize,
    /// The place from which it may keep items.
    pub(super) holds: Place,
    /// The items for which it wakes waiting readers.
    wakes: std::ops::Range<usize>,
}

impl DeferredWake {
    pub(super) fn covers(&self, at: Place) -> bool {
        self.buffer == at.0 && self.wakes.contains(&at.1)
    }

    pub(super) fn drop(self, model: &mut Model) {
        let _ = act(|| drop(self.real));
        model.buffers[self.buffer].wakings += 1;
    }
}

/// How to end a buffer.
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

fn send<S: Sink<Event> + Unpin>(sink: &mut S, event: Event) {
    let mut sink = Pin::new(sink);
    let poll = sink
        .as_mut()
        .poll_ready(&mut Context::from_waker(Waker::noop()));
    assert!(poll.is_ready());
    assert!(sink.start_send(event).is_ok());
}

/// Flushes and closes a sink, which does nothing.
fn flush<S: Sink<Event> + Unpin>(sink: &mut S) {
    let cx = &mut Context::from_waker(Waker::noop());
    let mut sink = Pin::new(sink);
    assert!(sink.as_mut().poll_flush(cx).is_ready());
    assert!(sink.poll_close(cx).is_ready());
}

impl Writer {
    pub(super) fn open(replay: Replay, model: &mut Model) -> Self {
        let number = model.open(match replay {
            Replay::None => 0,
            Replay::Last(n) => n,
            Replay::All => usize::MAX,
        });
        let real = EventBuffer::builder().replay(replay).build();
        Self {
            number,
            kind: Kind::Own(real),
        }
    }

    pub(super) fn publish(
        &mut self,
        how: Publish,
        handle: usize,
        count: usize,
        hint: usize,
        model: &mut Model,
    ) -> Option<DeferredWake> {
        let number = self.number;
        match &mut self.kind {
            Kind::Own(own) => publish_own(own, how, count, hint, number, model),
            Kind::Shared(handles) => {
                let handle = handle % handles.len();
                publish_shared(&mut handles[handle], how, count, hint, number, model);
                None
            }
        }
    }

    pub(super) fn flush(&mut self, handle: usize) {
        match &mut self.kind {
            Kind::Own(own) => flush(own),
            Kind::Shared(handles) => {
                let handle = handle % handles.len();
                flush(&mut handles[handle]);
            }
        }
    }

    /// Ends the buffer. A shared one is closed by dropping all its handles.
    pub(super) fn finish(self, how: Finish, model: &mut Model) {
        let own = match self.kind {
            Kind::Own(own) => own,
            Kind::Shared(handles) => {
                let _ = act(|| drop(handles));
                return model.end(self.number, End::Closed);
            }
        };
        let (end, call): (_, Box<dyn FnOnce()>) = match how {
            Finish::Drop => (End::Closed, Box::new(|| drop(own))),
            Finish::Close => (End::Closed, Box::new(|| own.close())),
            Finish::Fail(n) => (
                End::Failed(Failure::Number(n)),
                Box::new(move || own.fail(Number(n))),
            ),
            Finish::Splice(to, at) => (End::Spliced(at), Box::new(move || own.splice(&to))),
            Finish::SpliceToItem(to, at) => (End::Spliced(at), Box::new(move || own.splice(to))),
        };
        let _ = act(call);
        model.end(self.number, end);
    }

    pub(super) fn share(self) -> Self {
        let kind = match self.kind {
            Kind::Own(own) => Kind::Shared(vec![own.into()]),
            shared => shared,
        };
        Self { kind, ..self }
    }

    pub(super) fn clone_handle(&mut self) {
        if let Kind::Shared(handles) = &mut self.kind
            && handles.len() < 4
        {
            handles.push(handles[0].clone());
        }
    }

    /// Drops a handle; returns `None` if it was the last.
    pub(super) fn drop_handle(mut self, handle: usize, model: &mut Model) -> Option<Self> {
        if let Kind::Shared(handles) = &mut self.kind {
            let handle = handle % handles.len();
            let handle = handles.swap_remove(handle);
            let _ = act(|| drop(handle));
            if handles.is_empty() {
                model.end(self.number, End::Closed);
                return None;
            }
        }
        Some(self)
    }

    pub(super) fn into_inner(mut self, handle: usize) -> Self {
        if let Kind::Shared(handles) = &mut self.kind {
            let handle = handle % handles.len();
            let real = handles.swap_remove(handle).into_inner();
            assert_eq!(
                real.is_some(),
                handles.is_empty(),
                "not for the last handle"
            );
            if let Some(real) = real {
                self.kind = Kind::Own(real);
            }
        }
        self
    }

    pub(super) fn own(&self) -> Option<&EventBuffer<Event>> {
        match &self.kind {
            Kind::Own(own) => Some(own),
            Kind::Shared(_) => None,
        }
    }

    pub(super) fn latest(&self) -> Option<BufferItem<Event>> {
        match &self.kind {
            Kind::Own(own) => own.latest(),
            Kind::Shared(handles) => handles[0].latest(),
        }
    }

    pub(super) fn subscribe(&self) -> Subscription<Event> {
        match &self.kind {
            Kind::Own(own) => own.subscribe(),
            Kind::Shared(handles) => handles[0].subscribe(),
        }
    }

    pub(super) fn subscribe_from_start(&self) -> Subscription<Event> {
        match &self.kind {
            Kind::Own(own) => own.subscribe_from_start(),
            Kind::Shared(handles) => handles[0].subscribe_from_start(),
        }
    }

    pub(super) fn tail(&self) -> Position<Event> {
        match &self.kind {
            Kind::Own(own) => own.tail(),
            Kind::Shared(handles) => handles[0].tail(),
        }
    }

    fn retained(&self) -> usize {
        match &self.kind {
            Kind::Own(own) => own.retained(),
            Kind::Shared(handles) => handles[0].retained(),
        }
    }

    fn is_observed(&self) -> bool {
        match &self.kind {
            Kind::Own(own) => own.is_observed(),
            Kind::Shared(handles) => handles[0].is_observed(),
        }
    }

    /// The expected result of [`EventBuffer::subscribe_after`].
    pub(super) fn place_after(&self, index: u64, model: &Model) -> Result<Place, ResumeError> {
        let buffer = &model.buffers[self.number];
        let retained = &buffer.items[buffer.oldest()..];
        let last = |item: &Vec<u32>| u64::from(item[item.len() - 1]);
        let oldest = retained.first().map(|item| u64::from(item[0]));
        let newest = retained.last().map(last);
        if buffer.oldest() > 0 && oldest.is_none_or(|oldest| oldest > index) {
            return Err(ResumeError::TooOld { index, oldest });
        }
        if newest.is_none_or(|newest| newest < index) {
            return Err(ResumeError::Ahead { index, newest });
        }
        let passed = { retained.iter() }.take_while(|item| last(item) <= index);
        Ok((self.number, buffer.oldest() + passed.count()))
    }

    /// Upgrades a bookmark, which succeeds if everything from its place on is retained.
    pub(super) fn upgrade(
        &self,
        bookmark: &Bookmark<Event>,
        at: Place,
        model: &Model,
    ) -> Option<(Subscription<Event>, Place)> {
        let result = match &self.kind {
            Kind::Own(own) => own.upgrade(bookmark),
            Kind::Shared(handles) => handles[0].upgrade(bookmark),
        };
        let mut lost = 0;
        let mut place = Err(BookmarkError::OtherBuffer);
        for at in model.path(at) {
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
        assert_eq!(result.as_ref().err(), place.as_ref().err());
        Some((result.ok()?, place.ok()?))
    }

    pub(super) fn check(&self, model: &Model, observers: &[(Place, bool)]) {
        let buffer = &model.buffers[self.number];
        assert_eq!(self.retained(), buffer.retained);
        let newest = buffer.items.last().filter(|_| buffer.retained > 0);
        let latest = self.latest().map(|item| ids(item.events()));
        assert_eq!(latest.as_ref(), newest);
        let mut here = { observers.iter() }.filter(|(at, _)| model.leads_to(*at, self.number));
        if self.is_observed() {
            assert!(here.next().is_some(), "observed without readers");
        } else {
            assert!(
                here.all(|(_, certain)| !certain),
                "unobserved, although it has readers"
            );
        }
    }
}

fn publish_own(
    real: &mut EventBuffer<Event>,
    how: Publish,
    count: usize,
    hint: usize,
    number: usize,
    model: &mut Model,
) -> Option<DeferredWake> {
    let (_, from) = model.tail(number);
    let holds = model.oldest(number);
    let (ids, mut events) = new_events(count, hint);
    let mut deferred = None;
    let outcome = match how {
        Publish::Append => act(|| real.append(events)),
        Publish::Extend => act(|| real.extend(events)),
        Publish::Push => {
            let event = events.next()?;
            act(|| real.push(event))
        }
        Publish::AppendDeferred => {
            act(|| real.append_deferred(events)).map(|later| deferred = Some(later))
        }
        Publish::PushDeferred => {
            let event = events.next()?;
            act(|| real.push_deferred(event)).map(|later| deferred = Some(later))
        }
        Publish::Send => {
            // The iterator runs outside of the library.
            events.for_each(|event| _ = act(|| send(real, event)));
            Ok(())
        }
    };
    note_published(how, outcome, ids, number, model);
    deferred.map(|real| DeferredWake {
        real,
        buffer: number,
        holds,
        wakes: from..model.tail(number).1,
    })
}

fn publish_shared(
    real: &mut SharedBuffer<Event>,
    how: Publish,
    count: usize,
    hint: usize,
    number: usize,
    model: &mut Model,
) {
    let (ids, mut events) = new_events(count, hint);
    let shared = Some(real.clone());
    let outcome = match how {
        Publish::Append | Publish::AppendDeferred => {
            act_with(shared, || real.append(events)).map(is_open)
        }
        Publish::Extend => act_with(shared, || real.extend(events)).map(is_open),
        Publish::Push | Publish::PushDeferred => {
            let event = events.next();
            act_with(shared, || event.map_or(Ok(()), |event| real.push(event))).map(is_open)
        }
        Publish::Send => {
            events.for_each(|event| _ = act_with(shared.clone(), || send(real, event)));
            Ok(())
        }
    };
    note_published(how, outcome, ids, number, model);
}

/// A shared buffer does not end before its last handle is dropped.
fn is_open(published: Result<(), Ended<Event>>) {
    assert!(published.is_ok(), "not published");
}

/// Updates the model: all events were published, unless the iterator panicked.
fn note_published(
    how: Publish,
    outcome: Result<(), Panicked>,
    ids: Vec<u32>,
    number: usize,
    model: &mut Model,
) {
    let published = !outcome.is_err_and(|panic| panic.was_in(Spot::Iterator));
    match how {
        _ if !published => {}
        Publish::Extend | Publish::Send => model.publish(number, one_each(ids)),
        _ => model.publish(number, all_in_one(ids)),
    }
}
