//! The writer's end of the chain, and its replay window.

use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;

use super::node::{Batch, Hold, Payload, Rest};
use super::record::{Ending, Record};
use super::slot::{Place, Slot};
use crate::error::SharedError;
use crate::position::SpliceCycle;
use crate::waiters::Waiters;

/// The writer's end.
pub(crate) struct Tail<T> {
    /// The last slot.
    last: Hold<T>,
    /// The last slot is written: the buffer has ended, and nothing is published any more.
    ended: bool,
    seq: u64,
    record: Arc<Record>,
    window: Option<Window<T>>,
}

// SAFETY: holds are `Send + Sync` under these bounds; the places are those the holds keep alive.
unsafe impl<T: Send + Sync> Send for Tail<T> {}
// SAFETY: as above; everything that writes takes `&mut self`.
unsafe impl<T: Send + Sync> Sync for Tail<T> {}

/// What late readers can still read: `len` items, from `first` to `newest`.
struct Window<T> {
    first: Hold<T>,
    newest: Option<Place<T>>,
    len: usize,
    limit: usize,
}

/// What is to be done after publishing, outside of any lock: dropping this wakes the readers
/// that wait and frees what has left the window.
#[must_use]
pub(crate) struct Published<T> {
    /// The written slot, where somebody waits for it.
    awaited: Option<Slot<T>>,
    _trimmed: Option<Hold<T>>,
}

impl<T> Published<T> {
    pub(crate) const NOTHING: Self = Self {
        awaited: None,
        _trimmed: None,
    };
}

impl<T> Drop for Published<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(awaited) = &self.awaited {
            awaited.record().readers().wake_all();
        }
    }
}

impl<T> Tail<T> {
    /// An empty buffer that retains the newest `limit` items.
    pub(crate) fn new(limit: usize) -> Self {
        let record = Record::new();
        let last = Hold::first(Arc::clone(&record));
        let window = (limit > 0).then(|| Window {
            first: last.clone(),
            newest: None,
            len: 0,
            limit,
        });
        Self {
            last,
            ended: false,
            seq: 0,
            record,
            window,
        }
    }

    /// Publishes one item. Where nobody will ever see it, it is left to the caller, to be
    /// dropped outside of any lock.
    #[inline]
    pub(crate) fn publish_one(&mut self, payload: &mut Option<Payload<T>>) -> Published<T> {
        if self.is_invisible() {
            self.seq += 1;
            self.record.publish(self.seq);
            return Published::NOTHING;
        }
        match payload.take() {
            Some(payload) => self.fill(payload, None, 1),
            None => Published::NOTHING,
        }
    }

    /// Publishes an item per event. As [`publish_one`](Self::publish_one), it may leave them.
    pub(crate) fn publish(&mut self, batch: &mut Batch<T>) -> Published<T> {
        let len = batch.len();
        if self.is_invisible() {
            self.seq += len;
            self.record.publish(self.seq);
            return Published::NOTHING;
        }
        match batch.take() {
            Some((first, rest)) => self.fill(first, rest, len),
            None => Published::NOTHING,
        }
    }

    /// Whether nobody will ever see what is published now: the writer alone holds the last slot.
    #[inline]
    fn is_invisible(&self) -> bool {
        self.window.is_none() && self.last.is_unique() && !self.ended
    }

    #[inline]
    fn fill(&mut self, first: Payload<T>, rest: Option<Rest<T>>, len: u64) -> Published<T> {
        if self.ended {
            return Published::NOTHING;
        }
        let place = Place::new(self.last.as_ptr(), self.seq, &self.record);
        let newest = rest.as_ref().map_or(place.node, Rest::newest);
        self.seq += len;
        // Before the items: a reader that has one of them finds it counted.
        self.record.publish(self.seq);
        // SAFETY: `last` is the writer's hold on the last slot, which is empty as long as `ended`
        // is not set, and `&mut self` makes us its only user.
        let filled = unsafe { self.last.fill(first, rest) };
        let trimmed = self.window.as_mut().and_then(|window| {
            window.newest = Some(Place::new(newest, self.seq - 1, &self.record));
            window.len = window
                .len
                .saturating_add(usize::try_from(len).unwrap_or(usize::MAX));
            window.trim()
        });
        Published {
            awaited: filled.map(|hold| Slot::from_hold(hold, place)),
            _trimmed: trimmed,
        }
    }

    pub(crate) fn close(&mut self) -> Published<T> {
        self.end(Ending::Closed, None)
    }

    pub(crate) fn fail(&mut self, error: SharedError) -> Published<T> {
        self.end(Ending::Failed(error), None)
    }

    /// Continues in the slot given. Where that would make a ring, ends with an error instead.
    pub(crate) fn splice(&mut self, onward: Slot<T>) -> Published<T> {
        /// Makes "does it lead back to us" and "now it leads there" one step, so that two buffers
        /// cannot be spliced to each other at the same time.
        static SPLICING: Mutex<()> = Mutex::new(());

        let splicing = SPLICING.lock();
        let mut ahead = Some(onward.record());
        while let Some(record) = ahead {
            if std::ptr::eq(record, &raw const *self.record) {
                drop(splicing);
                return self.fail(SharedError::new(SpliceCycle.into()));
            }
            ahead = record.onward().map(|(next, _)| &**next);
        }
        let Some(to) = onward.owner() else {
            return Published::NOTHING;
        };
        let seq = onward.place().seq;
        let ending = Ending::Spliced { to, seq };
        let published = self.end(ending, Some(onward.into_hold()));
        drop(splicing);
        published
    }

    fn end(&mut self, ending: Ending, onward: Option<Hold<T>>) -> Published<T> {
        if std::mem::replace(&mut self.ended, true) {
            return Published::NOTHING;
        }
        self.record.end(ending);
        let place = Place::new(self.last.as_ptr(), self.seq, &self.record);
        // SAFETY: `last` is the writer's hold on the last slot, which was empty until now, and
        // the ending is set.
        let written = unsafe { self.last.clone().end(onward) };
        Published {
            awaited: written.map(|hold| Slot::from_hold(hold, place)),
            _trimmed: None,
        }
    }

    /// The place after the newest item.
    pub(crate) fn tail(&self) -> Slot<T> {
        let place = Place::new(self.last.as_ptr(), self.seq, &self.record);
        // SAFETY: our hold keeps the place alive.
        unsafe { Slot::new(place) }
    }

    /// The place of the oldest retained item, or the tail.
    pub(crate) fn oldest(&self) -> Slot<T> {
        let Some(window) = &self.window else {
            return self.tail();
        };
        let seq = self.seq - window.len as u64;
        let place = Place::new(window.first.as_ptr(), seq, &self.record);
        // SAFETY: the window's hold keeps the place alive.
        unsafe { Slot::new(place) }
    }

    pub(crate) fn newest(&self) -> Option<Slot<T>> {
        let newest = self.window.as_ref()?.newest?;
        // SAFETY: the window's hold on its first item keeps those after it alive.
        Some(unsafe { Slot::new(newest) })
    }

    pub(crate) fn retained(&self) -> usize {
        self.window.as_ref().map_or(0, |window| window.len)
    }

    /// Whether anything published has left the window.
    pub(crate) fn has_trimmed(&self) -> bool {
        self.seq > self.retained() as u64
    }

    pub(crate) fn is_observed(&self) -> bool {
        self.record.is_observed()
    }

    pub(crate) fn unobserved(&self) -> &Waiters {
        self.record.unobserved()
    }
}

impl<T> Window<T> {
    /// Forgets the oldest items beyond the limit; the answer keeps them alive for the moment.
    #[inline]
    fn trim(&mut self) -> Option<Hold<T>> {
        let excess = self.len.checked_sub(self.limit).filter(|&n| n > 0)?;
        self.len = self.limit;
        if excess == 1 {
            if let Some(next) = self.first.detach_next() {
                return Some(mem::replace(&mut self.first, next));
            }
        }
        let first = self.first.nth(excess);
        Some(mem::replace(&mut self.first, first))
    }
}
