//! Readers whose lag is limited, by the words of the documentation.

use std::collections::VecDeque;
use std::mem;

use event_buffer::OnLag;

use super::model::{Answer, Limit, Model, Nothing, Place, Reader};
use crate::event::size;
use crate::foreign;

/// A limit is passed by an eighth, and one in items by those of a block.
const BLOCK: usize = 32;

impl Limit {
    pub(super) fn new(
        items: Option<u64>,
        bytes: Option<u64>,
        on_lag: OnLag,
        at: Place,
        model: &Model,
    ) -> Self {
        Self {
            items: items.map_or(usize::MAX, |items| items.max(1) as usize),
            bytes,
            on_lag,
            skipped: 0,
            rest: VecDeque::new(),
            gave_back: false,
            closed: None,
            keeps: Some(at),
            since: model.end_of_way(at),
        }
    }
}

impl Reader {
    pub(super) fn is_closed_for_lag(&self) -> bool {
        { self.limit.as_ref() }.is_some_and(|limit| limit.closed.is_some())
    }

    fn take_cloned(&mut self) -> Option<u32> {
        self.limit.as_mut()?.rest.pop_front()
    }

    /// Events of the item where it is have been cloned, or skipped.
    fn give(&mut self, events: usize, item: &[u32]) {
        self.given += events;
        if self.given == item.len() {
            self.given = 0;
            self.at.1 += 1;
        }
        if let Some(limit) = &mut self.limit {
            limit.keeps = Some(self.at);
        }
    }

    /// Its read has panicked after the clones were made: the next one gives the answer.
    pub(super) fn take_back(&mut self, answer: &Answer) {
        let Some(limit) = &mut self.limit else { return };
        match answer {
            Ok(events) => events.iter().for_each(|id| limit.rest.push_front(*id)),
            Err(Nothing::Lagged(items)) => limit.skipped = *items,
            Err(_) => {}
        }
    }
}

impl Model {
    fn end_of_way(&self, at: Place) -> Place {
        let last = self.way(at).last().map_or(at.0, |at| at.0);
        self.tail(last)
    }

    /// The place of an item, by how many others are ready before it.
    fn ahead(&self, from: Place, mut count: usize) -> Place {
        for at in self.way(from) {
            let here = self.buffers[at.0].items.len() - at.1;
            if count < here {
                return (at.0, at.1 + count);
            }
            count -= here;
        }
        self.end_of_way(from)
    }

    /// By how many items a reader is over its limit.
    fn over(&self, at: Place, limit: &Limit) -> usize {
        self.over_bytes(at, limit, limit.bytes)
    }

    /// The same, with that limit in bytes instead.
    fn over_bytes(&self, at: Place, limit: &Limit, bytes: Option<u64>) -> usize {
        let lag = self.lag(at) as usize;
        let mut within = lag.min(limit.items);
        if let Some(most) = bytes {
            within = within.min(self.fit(at, most).max(1)).min(lag);
        }
        lag - within
    }

    /// How many of the newest items take no more than that.
    fn fit(&self, at: Place, bytes: u64) -> usize {
        let way: Vec<Place> = self.way(at).collect();
        let ahead =
            { way.iter().rev() }.flat_map(|at| self.buffers[at.0].items[at.1..].iter().rev());
        let sizes = ahead.map(|item| item.iter().map(|id| size(*id)).sum::<u64>().max(1));
        let mut sum = 0;
        let fit = { sizes }.take_while(|size| {
            sum += size;
            sum <= bytes
        });
        fit.take(self.lag(at) as usize).count()
    }

    pub(super) fn read_limited(&self, reader: &mut Reader) -> Answer {
        // The first reason that was said sticks.
        if let Some(most) = reader.limit.as_ref().and_then(|limit| limit.closed) {
            return Err(Nothing::LagExceeded(most));
        }
        if let Some(reason) = self.force_closed(reader) {
            return Err(Nothing::ForceClosed(reason));
        }
        let Some(limit) = &mut reader.limit else {
            return Err(Nothing::Empty);
        };
        if limit.skipped > 0 {
            return Err(Nothing::Lagged(mem::take(&mut limit.skipped)));
        }
        if let Some(event) = limit.rest.pop_front() {
            return Ok(vec![event]);
        }
        let skipped = self.catch_up(reader);
        let Some(limit) = &mut reader.limit else {
            return Err(Nothing::Empty);
        };
        if let Err(Nothing::LagExceeded(lag)) = skipped {
            limit.closed = Some(lag);
        }
        let skipped = skipped?;
        let item = match self.look(reader.at) {
            Err(Nothing::Failed(_)) if mem::replace(&mut reader.failed, true) => {
                return Err(Nothing::Closed);
            }
            item => item?,
        };
        // What it goes on with is received at once, up to an event whose clone panics.
        let fresh = &item[reader.given..];
        let cloned = fresh.len().min(foreign::good_clones());
        limit.rest.extend(&fresh[..cloned]);
        limit.gave_back = cloned < fresh.len();
        reader.give(cloned, item);
        if skipped > 0 {
            return Err(Nothing::Lagged(skipped));
        }
        // If the first clone panics there is no answer.
        Ok(reader.take_cloned().into_iter().collect())
    }

    pub(super) fn skip_limited(&self, reader: &mut Reader) -> bool {
        if reader.take_cloned().is_some() {
            return true;
        }
        let (Ok(skipped), Ok(item)) = (self.catch_up(reader), self.look(reader.at)) else {
            return false;
        };
        reader.give(1, item);
        if let Some(limit) = &mut reader.limit {
            limit.skipped += skipped;
        }
        true
    }

    /// Goes to what it may still read: how many items that skips, or that it is closed for them.
    fn catch_up(&self, reader: &mut Reader) -> Result<u64, Nothing> {
        let (at, lag) = (reader.at, self.lag(reader.at));
        let Some(limit) = &mut reader.limit else {
            return Ok(0);
        };
        let mut over = self.over(at, limit);
        match limit.on_lag {
            _ if over == 0 => {}
            OnLag::Close => {
                limit.keeps = None;
                return Err(Nothing::LagExceeded(lag));
            }
            OnLag::SkipToNewest => over = lag as usize - 1,
            _ => {}
        }
        reader.at = self.next(self.ahead(at, over));
        limit.keeps = Some(reader.at);
        if over > 0 {
            reader.given = 0;
        }
        Ok(over as u64)
    }

    /// What its lag may be.
    pub(super) fn possible_lag(&self, reader: &Reader) -> std::ops::RangeInclusive<u64> {
        if self.force_closed(reader).is_some() {
            return 0..=0;
        }
        let lag = self.lag(reader.at);
        let Some(limit) = &reader.limit else {
            return lag..=lag;
        };
        let in_hand = u64::from(!limit.rest.is_empty() && !limit.gave_back);
        let lag = lag + in_hand;
        if limit.closed.is_some() {
            return 0..=0;
        }
        match (self.over(reader.at, limit), limit.on_lag) {
            (0, _) => lag..=lag,
            (_, OnLag::Close) => 0..=lag,
            (_, OnLag::SkipToNewest) => 1 + in_hand..=lag,
            // A sixteenth of the bytes may be missing.
            (..) => {
                let bytes = limit.bytes.map(|bytes| bytes - bytes / 16);
                lag - self.over_bytes(reader.at, limit, bytes) as u64..=lag
            }
        }
    }

    /// Where it stands, if it does for sure.
    pub(super) fn must_keep(&self, reader: &Reader) -> Option<Place> {
        if self.force_closed(reader).is_some() {
            return None;
        }
        let Some(limit) = &reader.limit else {
            return Some(reader.at);
        };
        if limit.closed.is_some() {
            return None;
        }
        let lag = self.lag(reader.at) as usize;
        match (self.over(reader.at, limit), limit.on_lag) {
            (0, _) => Some(reader.at),
            (_, OnLag::Close) => None,
            (_, OnLag::SkipToNewest) => Some(self.ahead(reader.at, lag - 1)),
            (over, _) => Some(self.ahead(reader.at, over)),
        }
    }

    /// After each step: the writer takes from a reader what it may not keep. It may be late after a
    /// panic, a splice, and where waking is put off.
    pub(super) fn enforce(&self, reader: &mut Reader, may_be_late: impl Fn(usize) -> bool) {
        let at = reader.at;
        let end = self.end_of_way(at);
        let Some(limit) = &mut reader.limit else {
            return;
        };
        if limit.closed.is_some() || limit.keeps.is_none() {
            return;
        }
        if end.0 != limit.since.0 || may_be_late(end.0) {
            limit.since = end;
        }
        // Where bytes are limited, the writer looks with each item.
        let late = limit.bytes.map_or(BLOCK, |_| 0);
        if end.1 - limit.since.1 <= late {
            return;
        }
        let lag = self.lag(at) as usize;
        let mut most = limit.items.saturating_add(limit.items / 8 + BLOCK);
        if let Some(bytes) = limit.bytes {
            // An eighth more, and the oldest, which may have been too large as the newest.
            most = most.min(self.fit(at, bytes + bytes / 8) + 1);
        }
        if lag > most {
            limit.keeps = match limit.on_lag {
                OnLag::Close => None,
                _ => Some(self.ahead(at, lag - most)),
            };
        }
    }
}
