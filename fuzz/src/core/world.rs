//! The library's objects, and the model of each.

use std::task::Context;

use event_buffer::{Bookmark, Closer, Position};
use futures::future::FutureExt;

use super::item::{Item, Wait};
use super::model::{Model, Place, ReadKind};
use super::op::{Ending, Op};
use super::reader::Reader;
use super::writer::{DeferredWake, Finish, Number, Writer};
use crate::bytes::{pick, take};
use crate::event;
use crate::task::Task;
use crate::user_code::{self, Misbehaviour, Spot, act};

/// A position from which reading can start.
struct Mark {
    real: Position<event::Event>,
    at: Place,
}

struct Bookmarked {
    real: Bookmark<event::Event>,
    at: Place,
}

struct Close {
    real: Closer,
    closing: usize,
}

#[derive(Default)]
pub(super) struct World {
    model: Model,
    writers: Vec<Writer>,
    readers: Vec<Reader>,
    items: Vec<Item>,
    waits: Vec<Wait>,
    marks: Vec<Mark>,
    bookmarks: Vec<Bookmarked>,
    closers: Vec<Close>,
    deferred: Vec<DeferredWake>,
    /// The last number used for a reason or failure; each has its own.
    numbers: u32,
}

/// The maximum number of objects of each kind.
const MAX: usize = 16;
const MAX_BUFFERS: usize = 24;
const MAX_EVENTS: u32 = 6_000;

fn keep<T>(all: &mut Vec<T>, one: T) -> Option<T> {
    if all.len() < MAX {
        all.push(one);
        return None;
    }
    Some(one)
}

impl World {
    /// Executes a step; returns `None` if there is nothing that it could choose.
    pub(super) fn step(&mut self, op: Op) -> Option<()> {
        match op {
            Op::Open(replay) => {
                if self.model.buffers.len() < MAX_BUFFERS {
                    self.writers.push(Writer::open(replay, &mut self.model));
                }
            }
            Op::Publish(how, w, count, beyond) => {
                if event::made() > MAX_EVENTS {
                    return None;
                }
                let hint = match beyond {
                    0 => count.into(),
                    1 => 0,
                    _ => usize::from(count) + 5,
                };
                let writer = pick(&mut self.writers, w)?;
                let handle = usize::from(w / 16);
                let deferred = writer.publish(how, handle, count.into(), hint, &mut self.model);
                // An item's bytes are not counted before its deferred wake-up is done.
                let mut limits =
                    { self.readers.iter() }.filter_map(|reader| reader.model.limit.as_ref());
                if limits.any(|limit| limit.bytes.is_some()) {
                    deferred?.drop(&mut self.model);
                } else if let Some(excess) = keep(&mut self.deferred, deferred?) {
                    excess.drop(&mut self.model);
                }
            }
            Op::Flush(w) => pick(&mut self.writers, w)?.flush((w / 16).into()),
            Op::DropDeferred(d) => take(&mut self.deferred, d)?.drop(&mut self.model),
            Op::End(ending, w) => self.end(ending, w)?,
            Op::Share(w) => {
                let writer = take(&mut self.writers, w)?.share();
                self.writers.push(writer);
            }
            Op::CloneHandle(w) => pick(&mut self.writers, w)?.clone_handle(),
            Op::DropHandle(w, h) => {
                let writer = take(&mut self.writers, w)?;
                self.writers
                    .push(writer.drop_handle(h.into(), &mut self.model)?);
            }
            Op::IntoInner(w, h) => {
                let writer = take(&mut self.writers, w)?;
                self.writers.push(writer.into_inner(h.into()));
            }
            Op::Latest(w) => {
                let writer = pick(&mut self.writers, w)?;
                let (buffer, tail) = self.model.tail(writer.number);
                let real = writer.latest()?;
                self.keep_item(Item {
                    real,
                    at: (buffer, tail - 1),
                });
            }
            Op::Subscribe(w) => {
                let writer = pick(&mut self.writers, w)?;
                let at = self.model.tail(writer.number);
                let reader = Reader::new(writer.subscribe(), at);
                self.keep_reader(reader);
            }
            Op::SubscribeFromStart(w) => {
                let writer = pick(&mut self.writers, w)?;
                let at = self.model.oldest(writer.number);
                let reader = Reader::new(writer.subscribe_from_start(), at);
                self.keep_reader(reader);
            }
            Op::SubscribeAfter(w, back) => self.subscribe_after(w, back)?,
            Op::Tail(w) => {
                let writer = pick(&mut self.writers, w)?;
                let at = self.model.tail(writer.number);
                let real = writer.tail();
                keep(&mut self.marks, Mark { real, at });
            }
            Op::Unobserved(w, r, count) => self.unobserved(w, r, count % 5)?,

            Op::Read(mode, r, times) => {
                let reader = pick(&mut self.readers, r)?;
                for _ in 0..times % 80 {
                    reader.read(mode, None, r >= 128, &self.model);
                }
            }
            Op::Chunk(mode, r, most) => {
                let kind = match most {
                    0..160 => ReadKind::Chunk(usize::from(most % 80)),
                    160..200 => ReadKind::Broken(usize::from(most - 160).max(1)),
                    _ => ReadKind::Chunk(usize::MAX),
                };
                let reader = pick(&mut self.readers, r)?;
                reader.read(mode, Some(kind), r >= 128, &self.model);
            }
            Op::SkipEvents(r, count) => {
                let reader = pick(&mut self.readers, r)?;
                (0..count % 80).for_each(|_| reader.skip(&self.model));
            }
            Op::Keep(r) => {
                let (real, at) = pick(&mut self.readers, r)?.keep(&self.model)?;
                self.keep_item(Item { real, at });
            }
            Op::PollKept(r) => pick(&mut self.readers, r)?.poll_kept(r >= 128, &self.model),
            Op::DropKept(r) => pick(&mut self.readers, r)?.take_back(),
            Op::IntoCloned(r) => {
                let reader = take(&mut self.readers, r)?;
                self.readers.push(reader.into_cloned());
            }
            Op::CloneReader(r) => {
                let reader = pick(&mut self.readers, r)?.duplicate(&mut self.model)?;
                self.keep_reader(reader);
            }
            Op::Resubscribe(r) => {
                let reader = pick(&mut self.readers, r)?.resubscribe(&mut self.model)?;
                self.keep_reader(reader);
            }
            Op::PositionOf(r) => {
                let (real, at) = pick(&mut self.readers, r)?.position(&self.model)?;
                keep(&mut self.marks, Mark { real, at });
            }
            Op::DropReader(r) => take(&mut self.readers, r)?.drop(),
            Op::CloserOf(r) => {
                let (real, closing) = pick(&mut self.readers, r)?.closer(&mut self.model)?;
                keep(&mut self.closers, Close { real, closing });
            }
            Op::Close(c) => {
                let Close { real, closing } = pick(&mut self.closers, c)?;
                self.numbers += 1;
                let reason = &mut self.model.closings[*closing];
                assert_eq!(real.is_closed(), reason.is_some());
                let closes = act(|| real.close(Number(self.numbers)));
                // Only the first close has an effect, even if a waker panics.
                assert_eq!(closes.unwrap_or(true), reason.is_none());
                reason.get_or_insert(self.numbers);
            }
            Op::CloneCloser(c) => {
                let Close { real, closing } = pick(&mut self.closers, c)?;
                let copy = Close {
                    real: real.clone(),
                    closing: *closing,
                };
                keep(&mut self.closers, copy);
            }
            Op::DropCloser(c) => drop(take(&mut self.closers, c)?),

            Op::CloneItem(i) => {
                let Item { real, at } = pick(&mut self.items, i)?;
                let copy = Item {
                    real: real.clone(),
                    at: *at,
                };
                self.keep_item(copy);
            }
            Op::NextOfItem(i) => {
                let next = pick(&mut self.items, i)?.next(&self.model)?;
                self.keep_item(next);
            }
            Op::WaitForNext(i) => {
                let wait = Wait::new(pick(&mut self.items, i)?);
                self.poll_wait(wait);
            }
            Op::PollWait(w) => {
                let wait = take(&mut self.waits, w)?;
                self.poll_wait(wait);
            }
            Op::DropWait(w) => take(&mut self.waits, w)?.drop(),
            Op::SubscribeAtItem(i) => {
                let item = pick(&mut self.items, i)?;
                let reader = Reader::new(item.real.subscribe(), item.at);
                self.keep_reader(reader);
            }
            Op::AfterItem(i) => {
                let item = pick(&mut self.items, i)?;
                let mark = Mark {
                    real: item.real.after(),
                    at: item.after(),
                };
                keep(&mut self.marks, mark);
            }
            Op::PositionOfItem(i) => {
                let item = pick(&mut self.items, i)?;
                let real = if i < 128 {
                    item.real.position()
                } else {
                    (&item.real).into()
                };
                let mark = Mark { real, at: item.at };
                keep(&mut self.marks, mark);
            }
            Op::DropItem(i) => take(&mut self.items, i)?.drop(),

            Op::SubscribeAt(m) => {
                let Mark { real, at } = pick(&mut self.marks, m)?;
                let reader = Reader::new(real.subscribe(), *at);
                self.keep_reader(reader);
            }
            Op::ClonePlace(m) => {
                let Mark { real, at } = pick(&mut self.marks, m)?;
                let copy = Mark {
                    real: real.clone(),
                    at: *at,
                };
                keep(&mut self.marks, copy);
            }
            Op::DropPlace(m) => {
                let mark = take(&mut self.marks, m)?;
                let _ = act(|| drop(mark.real));
            }

            // An item with a size that panics counts as one byte, which is not modelled.
            Op::Misbehave(
                Spot::ByteSize,
                Misbehaviour::PanicAlways | Misbehaviour::PanicAfter(_),
            ) => {}
            Op::Misbehave(spot, misbehaviour) => user_code::set(spot, misbehaviour),

            Op::IntoLimited(r, items, bytes, on_lag) => {
                let reader = take(&mut self.readers, r)?;
                let limited = reader.into_limited((items, bytes, on_lag), &self.model)?;
                self.readers.push(limited);
            }
            Op::BookmarkOf(r) => {
                let (real, at) = pick(&mut self.readers, r)?.bookmark()?;
                keep(&mut self.bookmarks, Bookmarked { real, at });
            }
            Op::BookmarkOfPlace(m) => {
                let Mark { real, at } = pick(&mut self.marks, m)?;
                let bookmark = Bookmarked {
                    real: real.bookmark(),
                    at: *at,
                };
                keep(&mut self.bookmarks, bookmark);
            }
            Op::Upgrade(w, b) => {
                let Bookmarked { real, at } = pick(&mut self.bookmarks, b)?;
                let writer = pick(&mut self.writers, w)?;
                let (real, at) = writer.upgrade(&real.clone(), *at, &self.model)?;
                self.keep_reader(Reader::new(real, at));
            }
            Op::DropBookmark(b) => drop(take(&mut self.bookmarks, b)?),
        }
        Some(())
    }

    fn keep_item(&mut self, item: Item) {
        if let Some(excess) = keep(&mut self.items, item) {
            excess.drop();
        }
    }

    fn keep_reader(&mut self, reader: Reader) {
        if let Some(excess) = keep(&mut self.readers, reader) {
            excess.drop();
        }
    }

    fn poll_wait(&mut self, wait: Wait) {
        let (wait, item) = wait.poll(&self.model);
        if let Some(excess) = wait.and_then(|wait| keep(&mut self.waits, wait)) {
            excess.drop();
        }
        if let Some(item) = item {
            self.keep_item(item);
        }
    }

    fn end(&mut self, ending: Ending, w: u8) -> Option<()> {
        let finish = match ending {
            Ending::Drop => Finish::Drop,
            Ending::Close => Finish::Close,
            Ending::Fail => {
                self.numbers += 1;
                Finish::Fail(self.numbers)
            }
            Ending::Splice(m) => {
                let Mark { real, at } = pick(&mut self.marks, m)?;
                Finish::Splice(real.clone(), *at)
            }
            Ending::SpliceToItem(i) => {
                let Item { real, at } = pick(&mut self.items, i)?;
                Finish::SpliceToItem(real.clone(), *at)
            }
        };
        take(&mut self.writers, w)?.finish(finish, &mut self.model);
        Some(())
    }

    fn subscribe_after(&mut self, w: u8, which: u8) -> Option<()> {
        let writer = pick(&mut self.writers, w)?;
        let items = &self.model.buffers[writer.number].items;
        let back = |count: u8| items.iter().rev().nth(count.into()).or(items.first());
        let index = match which {
            // The index of an item's first event, or the one before.
            0..128 => back(which / 2).map_or(0, |item| item[0].saturating_sub(which as u32 % 2)),
            // An index in the middle of an item, or at its end.
            128..192 => back(which % 64 / 4).map_or(0, |item| {
                let event = item.get(usize::from(which % 4)).or(item.last());
                event.copied().unwrap_or(0)
            }),
            // The index of the newest event, or beyond.
            192.. => back(0).map_or(0, |item| item[item.len() - 1]) + u32::from(which - 192),
        };
        let result = writer.own()?.subscribe_after(index.into());
        let at = writer.place_after(index.into(), &self.model);
        assert_eq!(result.as_ref().err(), at.as_ref().err());
        let (result, at) = (result.ok()?, at.ok()?);
        let mut reader = Reader::new(result, at);
        // In the middle of the window it may keep the items that it has skipped.
        if self.model.item(at).is_some() {
            let passed = self.model.oldest(writer.number).1..at.1;
            let number = writer.number;
            reader.model.passed = passed.map(|item| (number, item)).collect();
            reader.model.forget_all_but_a_stride();
        }
        self.keep_reader(reader);
        Some(())
    }

    /// Waits until there are no readers, while readers are dropped.
    fn unobserved(&mut self, w: u8, r: u8, count: u8) -> Option<()> {
        let writer = pick(&mut self.writers, w)?;
        let (number, real) = (writer.number, writer.own()?);
        let (model, readers) = (&self.model, &mut self.readers);
        let observers = |readers: &[Reader]| -> Vec<(Place, bool)> {
            let all = readers.iter().filter_map(|reader| reader.observes(model));
            { all }
                .filter(|(at, _)| model.leads_to(*at, number))
                .collect()
        };
        if observers(readers).iter().any(|(_, certain)| !certain) {
            return None;
        }
        let is_observed = |readers: &[Reader]| !observers(readers).is_empty();
        let task = Task::new();
        let waker = task.waker();
        let mut unobserved = Box::pin(real.unobserved());
        let mut waits = false;
        for left in (0..=count).rev() {
            let future = &mut unobserved;
            if waits {
                let is_unobserved = !is_observed(readers);
                assert_eq!(task.is_woken(), is_unobserved, "woken if unobserved");
            }
            let Ok(poll) = act(|| future.poll_unpin(&mut Context::from_waker(&waker))) else {
                break;
            };
            assert_eq!(poll.is_pending(), is_observed(readers));
            if poll.is_ready() || left == 0 {
                break;
            }
            waits = true;
            if let Some(reader) = take(readers, r) {
                reader.drop();
            }
        }
        let _ = act(|| drop(unobserved));
        drop(waker);
        assert!(!task.has_wakers(), "a waker outlives its future");
        Some(())
    }

    /// Checks the invariants after a step.
    pub(super) fn check(&mut self) {
        event::check();
        let limits = self
            .readers
            .iter()
            .filter_map(|reader| reader.model.limit.as_ref());
        let clones: usize = limits.map(|limit| limit.rest.len()).sum();
        assert_eq!(event::clones_alive(), clones);
        let deferred = &self.deferred;
        let has_panicked = user_code::has_panicked();
        let may_be_late =
            |buffer| has_panicked || deferred.iter().any(|deferred| deferred.buffer == buffer);
        for reader in &mut self.readers {
            self.model.enforce(&mut reader.model, may_be_late);
        }
        let Self { model, readers, .. } = self;
        let is_deferred = |at| self.deferred.iter().any(|deferred| deferred.covers(at));
        let observers = { readers.iter() }.filter_map(|reader| reader.observes(model));
        let observers: Vec<_> = observers.collect();
        readers
            .iter()
            .for_each(|reader| reader.check(model, is_deferred));
        self.waits
            .iter()
            .for_each(|wait| wait.check(model, is_deferred));
        self.items.iter().for_each(|item| item.check(model));
        self.writers
            .iter()
            .for_each(|writer| writer.check(model, &observers));
        for mark in &self.marks {
            assert_eq!(mark.real.lag(), model.lag(mark.at));
        }
        self.check_drops();
    }

    /// Checks that reachable items exist, and that others have been dropped.
    fn check_drops(&mut self) {
        let model = &self.model;
        let places = { model.windows() }
            .chain({ self.readers.iter() }.filter_map(|reader| model.must_keep(&reader.model)))
            .chain(self.items.iter().map(|item| item.at))
            .chain(self.waits.iter().map(|wait| wait.at))
            .chain(self.marks.iter().map(|mark| mark.at));
        let must = model.reach(places);
        // A closed reader keeps nothing.
        let open =
            { self.readers.iter() }.filter(|reader| model.force_closed(&reader.model).is_none());
        let passed = { open.clone() }.filter_map(|reader| reader.model.passed.front());
        let limits = open.filter_map(|reader| reader.model.limit.as_ref());
        let keeps = limits.filter_map(|limit| limit.keeps);
        let may = model.reach(
            { passed.copied() }
                .chain(keeps)
                .chain(self.deferred.iter().map(|deferred| deferred.holds)),
        );
        for (number, buffer) in self.model.buffers.iter_mut().enumerate() {
            let must = must[number].min(buffer.items.len());
            let may = may[number].min(must);
            for id in buffer.items[buffer.dropped.min(may)..may].iter().flatten() {
                assert!(!event::is_alive(*id), "an unreachable item is alive");
            }
            for id in buffer.items[must..].iter().flatten() {
                assert!(event::is_alive(*id), "a reachable item is dropped");
            }
            buffer.dropped = may;
        }
    }

    /// Drops everything, and checks that no event is left.
    pub(super) fn finish(mut self) {
        user_code::reset();
        for writer in self.writers.drain(..) {
            writer.finish(Finish::Drop, &mut self.model);
        }
        self.check();
        self.deferred
            .drain(..)
            .for_each(|deferred| deferred.drop(&mut self.model));
        self.check();
        self.waits.drain(..).for_each(Wait::drop);
        self.items.drain(..).for_each(Item::drop);
        self.marks.clear();
        self.bookmarks.clear();
        self.check();
        self.readers.drain(..).for_each(Reader::drop);
        self.check();
        assert!(!event::any_alive(), "an event was not dropped");
    }
}
