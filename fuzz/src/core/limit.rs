//! A model of readers with a limit, written from the documentation.

use std::collections::VecDeque;
use std::mem;

use event_buffer::OnLag;

use super::model::{Limit, Model, Nothing, Place, ReadResult, Reader};
use crate::event::size;
use crate::user_code;

/// A limit may be exceeded by an eighth, and a limit in items also by the items of a block.
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
            clone_failed: false,
            closed: None,
            keeps: Some(at),
            since: model.end_of_path(at),
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

    /// Consumes events of the item at the reader's place, which have been cloned or skipped.
    fn consume(&mut self, events: usize, item: &[u32]) {
        self.received += events;
        if self.received == item.len() {
            self.received = 0;
            self.at.1 += 1;
        }
        if let Some(limit) = &mut self.limit {
            limit.keeps = Some(self.at);
        }
    }

    /// Undoes a read that has panicked after the clones were made: the next read returns its
    /// result.
    pub(super) fn restore(&mut self, result: &ReadResult) {
        let Some(limit) = &mut self.limit else { return };
        match result {
            Ok(events) => events.iter().for_each(|id| limit.rest.push_front(*id)),
            Err(Nothing::Lagged(items)) => limit.skipped = *items,
            Err(_) => {}
        }
    }
}

impl Model {
    fn end_of_path(&self, at: Place) -> Place {
        let last = self.path(at).last().map_or(at.0, |at| at.0);
        self.tail(last)
    }

    /// The place after `count` ready items.
    fn ahead(&self, from: Place, mut count: usize) -> Place {
        for at in self.path(from) {
            let here = self.buffers[at.0].items.len() - at.1;
            if count < here {
                return (at.0, at.1 + count);
            }
            count -= here;
        }
        self.end_of_path(from)
    }

    /// The number of items by which a reader exceeds its limit.
    fn over(&self, at: Place, limit: &Limit) -> usize {
        self.over_bytes(at, limit, limit.bytes)
    }

    /// Like `over`, with another limit in bytes.
    fn over_bytes(&self, at: Place, limit: &Limit, bytes: Option<u64>) -> usize {
        let lag = self.lag(at) as usize;
        let mut within = lag.min(limit.items);
        if let Some(most) = bytes {
            within = within.min(self.fit(at, most).max(1)).min(lag);
        }
        lag - within
    }

    /// The number of newest items that together take no more than `bytes`.
    fn fit(&self, at: Place, bytes: u64) -> usize {
        let path: Vec<Place> = self.path(at).collect();
        let ahead =
            { path.iter().rev() }.flat_map(|at| self.buffers[at.0].items[at.1..].iter().rev());
        let sizes = ahead.map(|item| item.iter().map(|id| size(*id)).sum::<u64>().max(1));
        let mut sum = 0;
        let fit = { sizes }.take_while(|size| {
            sum += size;
            sum <= bytes
        });
        fit.take(self.lag(at) as usize).count()
    }

    pub(super) fn read_limited(&self, reader: &mut Reader) -> ReadResult {
        // The first reason that was reported stays.
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
        // The whole next item is cloned at once, up to an event whose clone panics.
        let fresh = &item[reader.received..];
        let cloned = fresh.len().min(user_code::good_clones());
        limit.rest.extend(&fresh[..cloned]);
        limit.clone_failed = cloned < fresh.len();
        reader.consume(cloned, item);
        if skipped > 0 {
            return Err(Nothing::Lagged(skipped));
        }
        // If the first clone panics, there is no event.
        Ok(reader.take_cloned().into_iter().collect())
    }

    pub(super) fn skip_limited(&self, reader: &mut Reader) -> bool {
        if reader.take_cloned().is_some() {
            return true;
        }
        let (Ok(skipped), Ok(item)) = (self.catch_up(reader), self.look(reader.at)) else {
            return false;
        };
        reader.consume(1, item);
        if let Some(limit) = &mut reader.limit {
            limit.skipped += skipped;
        }
        true
    }

    /// Moves to the first item that the reader may still read. Returns the number of skipped items,
    /// or the error if the reader is closed for lagging.
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
            reader.received = 0;
        }
        Ok(over as u64)
    }

    /// The values that the reader's lag may have.
    pub(super) fn possible_lag(&self, reader: &Reader) -> std::ops::RangeInclusive<u64> {
        if self.force_closed(reader).is_some() {
            return 0..=0;
        }
        let lag = self.lag(reader.at);
        let Some(limit) = &reader.limit else {
            return lag..=lag;
        };
        let partly_read = u64::from(!limit.rest.is_empty() && !limit.clone_failed);
        let lag = lag + partly_read;
        if limit.closed.is_some() {
            return 0..=0;
        }
        match (self.over(reader.at, limit), limit.on_lag) {
            (0, _) => lag..=lag,
            (_, OnLag::Close) => 0..=lag,
            (_, OnLag::SkipToNewest) => 1 + partly_read..=lag,
            // The meter may be up to a sixteenth of the bytes off.
            (..) => {
                let bytes = limit.bytes.map(|bytes| bytes - bytes / 16);
                lag - self.over_bytes(reader.at, limit, bytes) as u64..=lag
            }
        }
    }

    /// The place from which the reader certainly keeps items, if any.
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

    /// Models after each step that the writer moves a reader that keeps too much. The writer may be
    /// late after a panic, a splice, and while a wake-up is deferred.
    pub(super) fn enforce(&self, reader: &mut Reader, may_be_late: impl Fn(usize) -> bool) {
        let at = reader.at;
        let end = self.end_of_path(at);
        let Some(limit) = &mut reader.limit else {
            return;
        };
        if limit.closed.is_some() || limit.keeps.is_none() {
            return;
        }
        if end.0 != limit.since.0 || may_be_late(end.0) {
            limit.since = end;
        }
        // If bytes are limited, the writer checks with each item.
        let late = limit.bytes.map_or(BLOCK, |_| 0);
        if end.1 - limit.since.1 <= late {
            return;
        }
        let lag = self.lag(at) as usize;
        let mut most = limit.items.saturating_add(limit.items / 8 + BLOCK);
        if let Some(bytes) = limit.bytes {
            // An eighth more, and the oldest item, which was allowed as the newest, whatever its
            // size.
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
