//! The place of a limited reader, which it shares with the writer.
//!
//! ```text
//!   Limited ───▶ Limiter ◀─ ─ weak ─ ─ the record's list of limits
//!                   │ lock: place, items passed, items skipped
//!                   ▼
//!        ┌────────┐   ┌────────┐   ┌────────┐
//!        │ item 0 ├──▶│ item 1 ├──▶│ item 2 ├──▶ …
//!        └────────┘   └────────┘   └────────┘
//! ```
//!
//! An ordinary reader alone knows where it stands, so nobody can make it let go. Here the place is
//! behind a lock, and whoever finds it too far behind, the writer or the reader itself, moves it on.
//! Nothing foreign runs under that lock: walking ahead, asking events for their size and dropping what
//! was skipped is done by means of counted places, before and after.
//!
//! The reader looks before each read, so what it receives does not depend on when the writer looked.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use crate::error::{SharedError, TryRecvError};
use crate::lag_limit::{Bytes, LagExceeded, LagLimit, OnLag};
use crate::meter::Meter;
use crate::raw::{Cursor, Limit, Next, Read, Slot};
use crate::sync::Mutex;
use crate::unwind::{Panic, both_even_if_one_panics, resume};

pub(crate) struct Limiter<T> {
    limit: LagLimit<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    /// `None` once it is closed or dropped.
    place: Option<Place<T>>,
    /// Items that were skipped, which the reader has not been told yet.
    skipped: u64,
    closed: Option<SharedError>,
}

struct Place<T> {
    /// Before the cursor, which is behind: what is dropped last keeps nothing of what it drops.
    sizes: Option<Sizes<T>>,
    cursor: Cursor<T>,
    /// Items that it has gone over, received or skipped.
    passed: u64,
}

/// What the items ahead of a place take, as far as they have been asked.
struct Sizes<T> {
    each: VecDeque<u64>,
    sum: u128,
    /// After the last that was asked. At the cursor's place or ahead of it.
    up_to: Slot<T>,
}

/// An item that the reader has taken.
pub(crate) struct Taken<T> {
    pub(crate) item: Slot<T>,
    /// How many of its events were given before.
    pub(crate) given: usize,
    /// So many before it were skipped, which is to be said first.
    pub(crate) skipped: u64,
    passed: u64,
    size: Option<u64>,
}

/// How much may come, if nothing is read, until the writer is to look again.
pub(crate) struct Room {
    items: u64,
    pub(crate) bytes: u128,
}

/// Who looks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Reader,
    Writer,
}

impl<T> Limiter<T> {
    pub(crate) fn new(cursor: Cursor<T>, limit: LagLimit<T>) -> Self {
        let sizes = limit.bytes.map(|_| Sizes {
            each: VecDeque::new(),
            sum: 0,
            up_to: cursor.slot(),
        });
        let place = Place {
            cursor,
            passed: 0,
            sizes,
        };
        Self {
            limit,
            state: Mutex::new(State {
                place: Some(place),
                skipped: 0,
                closed: None,
            }),
        }
    }

    /// Takes the next item.
    pub(crate) fn take(&self) -> Result<Taken<T>, TryRecvError> {
        let mut state = self.state.lock();
        if self.may_be_over(&state) {
            drop(state);
            self.look_as(Who::Reader);
            state = self.state.lock();
        }
        if let Some(reason) = &state.closed {
            return Err(TryRecvError::ForceClosed(reason.clone()));
        }
        let Some(place) = &mut state.place else {
            return Err(TryRecvError::Closed);
        };
        // Together, or a reader that always lags would never get an item.
        let taken = place.take();
        let skipped = mem::take(&mut state.skipped);
        match taken {
            Ok(taken) => Ok(Taken { skipped, ..taken }),
            Err(_) if skipped > 0 => Err(TryRecvError::Lagged(skipped)),
            Err(nothing) => Err(nothing),
        }
    }

    fn may_be_over(&self, state: &State<T>) -> bool {
        state.place.as_ref().is_some_and(|place| {
            let is_unasked = place.sizes.is_some() && place.cursor.lag() > place.lag();
            is_unasked || state.skipped > 0 || self.over(place, place.lag()) > 0
        })
    }

    /// Gives an item back of which not all events could be delivered. If the place was moved on meanwhile it is
    /// one of those skipped.
    pub(crate) fn give_back(&self, taken: &Taken<T>) {
        let item = taken.item.clone();
        let mut state = self.state.lock();
        state.skipped += taken.skipped;
        let left = match &mut state.place {
            None => None,
            Some(place) if place.passed == taken.passed => {
                let left = place.go_back(item, taken.size);
                place.cursor.set_given(taken.given);
                Some(left)
            }
            Some(_) => {
                state.skipped += 1;
                None
            }
        };
        drop(state);
        drop(left);
    }

    /// The place, counted; `None` once it is closed.
    pub(crate) fn slot(&self) -> Option<Slot<T>> {
        let state = self.state.lock();
        state.place.as_ref().map(|place| place.cursor.slot())
    }

    /// Whether a read would not find it empty.
    pub(crate) fn is_ready(&self) -> bool {
        let state = self.state.lock();
        let place = state.place.as_ref();
        state.skipped > 0 || place.is_none_or(|place| place.cursor.slot().is_written())
    }

    /// `None` once it is closed.
    pub(crate) fn lag(&self) -> Option<u64> {
        let state = self.state.lock();
        state.place.as_ref().map(|place| place.cursor.lag())
    }

    /// Gives the place up.
    pub(crate) fn leave(&self) {
        let place = self.state.lock().place.take();
        drop(place);
    }

    /// For the writer: takes from it what it may not keep. `None` where it has no place any more.
    pub(crate) fn look(&self) -> Option<Room> {
        self.look_as(Who::Writer);
        self.room()
    }

    fn look_as(&self, who: Who) {
        let panicked = self.limit.bytes.and_then(|bytes| self.measure(bytes));
        both_even_if_one_panics(|| self.look_at_measured(who), || resume(panicked));
    }

    fn look_at_measured(&self, who: Who) {
        let mut state = self.state.lock();
        let Some(place) = &state.place else {
            return;
        };
        let lag = place.lag();
        let mut over = self.over(place, lag);
        let lagged = over > 0 || state.skipped > 0;
        match self.limit.on_lag {
            OnLag::Close if lagged => {
                let reason = LagExceeded { items: lag };
                state.closed = Some(SharedError::new(reason.into()));
                let place = state.place.take();
                drop(state);
                drop(place);
                return;
            }
            // Where it has lagged, the reader goes on with what is the newest now.
            OnLag::SkipToNewest if over > 0 || (lagged && who == Who::Reader) => {
                over = lag.saturating_sub(1);
            }
            _ => {}
        }
        // Also over what has ended, which is kept by nobody else.
        if over > 0 || place.cursor.is_at_a_splice() {
            let from = place.cursor.slot();
            let passed = place.passed;
            drop(state);
            self.skip(&from, passed, over);
        }
    }

    /// An eighth more than what it may lag, or a crowd of stuck readers would have to be looked at with
    /// each item.
    fn room(&self) -> Option<Room> {
        let state = self.state.lock();
        let place = state.place.as_ref()?;
        let more = |limit: u64, used: u64| match limit.checked_sub(used) {
            Some(left) => left.saturating_add(limit / 8).saturating_add(1),
            // What is counted and could not be skipped since it is not to be seen yet. Who publishes it
            // looks again.
            None => 0,
        };
        let items = more(self.limit.items, place.cursor.lag());
        let bytes = match (&self.limit.bytes, &place.sizes) {
            (Some(bytes), Some(sizes)) => {
                // The newest item may be larger than the limit.
                let sum = sizes.sum.min(bytes.limit.into());
                more(bytes.limit, sum.try_into().unwrap_or(u64::MAX))
            }
            _ => u64::MAX,
        };
        Some(Room {
            items,
            bytes: bytes.into(),
        })
    }

    /// How many items it is over its limit.
    fn over(&self, place: &Place<T>, lag: u64) -> u64 {
        let mut over = lag.saturating_sub(self.limit.items);
        if let (Some(bytes), Some(sizes)) = (&self.limit.bytes, &place.sizes) {
            over = over.max(sizes.over(bytes.limit));
        }
        over
    }

    /// Moves the place on by `count` items from where it was, and over splices, unless others have moved
    /// it.
    fn skip(&self, from: &Slot<T>, passed: u64, count: u64) {
        let (to, gone) = from.ahead(count);
        let is_behind = |at| match count {
            0 => at == passed,
            _ => at < passed + gone,
        };
        let mut state = self.state.lock();
        let State { place, skipped, .. } = &mut *state;
        let left = match place {
            // With nothing to skip: over splices only, which takes nothing from it, and not from where
            // an item has been given back to.
            Some(place) if is_behind(place.passed) => {
                *skipped += passed + gone - place.passed;
                Some(place.go_on(to, passed + gone))
            }
            _ => None,
        };
        drop(state);
        // Drops what was skipped, where nobody else holds it.
        drop(left);
    }

    /// Asks the items that are there for their sizes, each once. The answer is the first panic.
    fn measure(&self, bytes: Bytes<T>) -> Option<Panic> {
        // Not those that come while this goes on: there may be no end of them.
        let (from, start, ahead) = {
            let state = self.state.lock();
            let place = state.place.as_ref()?;
            let ahead = place.cursor.lag().saturating_sub(place.lag());
            (place.sizes.as_ref()?.up_to.clone(), place.measured(), ahead)
        };
        let mut measured = Vec::new();
        let (up_to, panicked) = bytes.size_of.ask(&from, ahead, |size| measured.push(size));
        let mut state = self.state.lock();
        let mut left = up_to;
        if let Some(place) = &mut state.place {
            // Others may have done the same meanwhile.
            let known = usize::try_from(place.measured() - start).unwrap_or(usize::MAX);
            if let (Some(sizes), Some(news)) = (&mut place.sizes, measured.get(known..)) {
                sizes.each.extend(news);
                sizes.sum += news.iter().map(|size| u128::from(*size)).sum::<u128>();
                mem::swap(&mut sizes.up_to, &mut left);
            }
        }
        drop(state);
        // In this order: what is behind keeps what is ahead.
        drop((left, from));
        panicked
    }
}

impl<T: Send + Sync + 'static> Limiter<T> {
    /// Has whoever publishes after `slot` enforce the limit. The answer is to be kept for as long as that
    /// shall be.
    pub(crate) fn begin(self: &Arc<Self>, slot: Slot<T>) -> Option<Arc<Meter<T>>> {
        let record = slot.owner().last();
        let known = self.limit.bytes.and_then(|_| record.meter::<Meter<T>>());
        let known = known.filter(|meter| meter.join(self));
        let fresh = self.limit.bytes.filter(|_| known.is_none()).map(|bytes| {
            // What is there the limiter asks itself.
            let meter = Arc::new(Meter::new(bytes.size_of, slot.walk(|_| true)));
            meter.join(self);
            meter
        });
        let by_items = (self.limit.items < u64::MAX).then(|| Arc::clone(self) as Arc<dyn Limit>);
        let by_bytes = fresh.clone().map(|meter| meter as Arc<dyn Limit>);
        // Whatever blocks or panics after this, the writer knows of all of them, also of those who join.
        let record = record.limit([by_items, by_bytes].iter().flatten());
        if let Some(meter) = &fresh {
            record.set_meter(meter);
        }
        // Before they look: it keeps what is given up then.
        drop(slot);
        record.enforce_limits();
        if let Some(meter) = &known {
            meter.enforce();
        }
        known.or(fresh)
    }
}

impl<T: Send + Sync> Limit for Limiter<T> {
    fn enforce(&self) -> Next {
        self.look()
            .map_or(Next::Never, |room| Next::After(room.items))
    }
}

impl<T> Place<T> {
    /// Items that it may still receive; where sizes count, those whose size is known.
    fn lag(&self) -> u64 {
        match &self.sizes {
            Some(sizes) => sizes.each.len() as u64,
            None => self.cursor.lag(),
        }
    }

    /// Items whose size has been asked since it began.
    fn measured(&self) -> u64 {
        self.passed + self.lag()
    }

    fn take(&mut self) -> Result<Taken<T>, TryRecvError> {
        let size = match &mut self.sizes {
            None => None,
            Some(sizes) => match sizes.pass_one() {
                Some(size) => Some(size),
                // What has come since they were asked waits for the next look.
                None => {
                    return Err(match self.cursor.read() {
                        Read::End(end) => end.into(),
                        Read::Empty | Read::Item => TryRecvError::Empty,
                    });
                }
            },
        };
        let given = self.cursor.given();
        let item = self.cursor.take()?;
        self.passed += 1;
        Ok(Taken {
            item,
            given,
            skipped: 0,
            passed: self.passed,
            size,
        })
    }

    /// Goes one item back. The answer is to be dropped after the lock, here and below.
    fn go_back(&mut self, item: Slot<T>, size: Option<u64>) -> Slot<T> {
        self.passed -= 1;
        if let (Some(sizes), Some(size)) = (&mut self.sizes, size) {
            sizes.each.push_front(size);
            sizes.sum += u128::from(size);
        }
        self.cursor.jump(item)
    }

    /// Goes to a place further on, before which `passed` items have been gone over.
    fn go_on(&mut self, to: Slot<T>, passed: u64) -> Slot<T> {
        if let Some(sizes) = &mut self.sizes {
            (self.passed..passed).for_each(|_| _ = sizes.pass_one());
        }
        self.passed = passed;
        self.cursor.jump(to)
    }
}

impl<T> Sizes<T> {
    fn pass_one(&mut self) -> Option<u64> {
        let size = self.each.pop_front()?;
        self.sum -= u128::from(size);
        Some(size)
    }

    /// How many items are over the limit, of which the newest is none.
    fn over(&self, limit: u64) -> u64 {
        let mut sum = self.sum;
        let mut over = 0;
        for size in self.each.iter().take(self.each.len().saturating_sub(1)) {
            if sum <= u128::from(limit) {
                break;
            }
            sum -= u128::from(*size);
            over += 1;
        }
        over
    }
}
