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

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::{mem, thread};

use crate::error::{SharedError, TryRecvError};
use crate::lag_limit::{Bytes, LagExceeded, LagLimit, OnLag};
use crate::raw::{Cursor, Limit, Next, Read, Slot};
use crate::sync::Mutex;

type Panic = Box<dyn Any + Send>;

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
    cursor: Cursor<T>,
    /// Items that it has gone over, received or skipped.
    passed: u64,
    sizes: Option<Sizes<T>>,
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
    /// So many before it were skipped, which is to be said first.
    pub(crate) skipped: u64,
    passed: u64,
    size: Option<u64>,
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
            self.look(Who::Reader);
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
            place.sizes.is_some() || state.skipped > 0 || place.cursor.lag() > self.limit.items
        })
    }

    /// Gives an item back that could not be delivered. Where the place was moved on meanwhile it is
    /// one of those skipped.
    pub(crate) fn give_back(&self, taken: &Taken<T>) {
        let item = taken.item.clone();
        let mut state = self.state.lock();
        state.skipped += taken.skipped;
        let left = match &mut state.place {
            None => None,
            Some(place) if place.passed == taken.passed => Some(place.go_back(item, taken.size)),
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

    pub(crate) fn lag(&self) -> u64 {
        let state = self.state.lock();
        state.place.as_ref().map_or(0, |place| place.cursor.lag())
    }

    /// Gives the place up.
    pub(crate) fn leave(&self) {
        let place = self.state.lock().place.take();
        drop(place);
    }

    fn look(&self, who: Who) -> Next {
        let panicked = self.limit.bytes.and_then(|bytes| self.measure(&bytes));
        let next = self.look_at_measured(who);
        if let Some(panic) = panicked.filter(|_| !thread::panicking()) {
            resume_unwind(panic);
        }
        next
    }

    fn look_at_measured(&self, who: Who) -> Next {
        let mut state = self.state.lock();
        let Some(place) = &state.place else {
            return Next::Never;
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
                return Next::Never;
            }
            // Where it has lagged, the reader goes on with what is the newest now.
            OnLag::SkipToNewest if over > 0 || (lagged && who == Who::Reader) => {
                over = lag.saturating_sub(1);
            }
            _ => {}
        }
        if over > 0 {
            let from = place.cursor.slot();
            let passed = place.passed;
            drop(state);
            self.skip(&from, passed, over);
        }
        if self.limit.bytes.is_some() {
            return Next::Always;
        }
        // Not at once when it is over, or a crowd of stuck readers would have to be looked at for
        // each block of items.
        let room = self.limit.items - (lag - over);
        Next::After(room.saturating_add(self.limit.items / 8).saturating_add(1))
    }

    /// How many items it is over its limit.
    fn over(&self, place: &Place<T>, lag: u64) -> u64 {
        let mut over = lag.saturating_sub(self.limit.items);
        if let (Some(bytes), Some(sizes)) = (&self.limit.bytes, &place.sizes) {
            over = over.max(sizes.over(bytes.limit));
        }
        over
    }

    /// Moves the place on by `count` items from where it was, unless others have moved it.
    fn skip(&self, from: &Slot<T>, passed: u64, count: u64) {
        let (to, gone) = from.ahead(count);
        let mut state = self.state.lock();
        let State { place, skipped, .. } = &mut *state;
        let left = match place {
            Some(place) if place.passed < passed + gone => {
                *skipped += passed + gone - place.passed;
                Some(place.go_on(to, passed + gone))
            }
            _ => None,
        };
        drop(state);
        // Drops what was skipped, where nobody else holds it.
        drop(left);
    }

    /// Asks the items that are there for their sizes, each once: one whose size panics counts for as
    /// little as can be. The answer is the first panic.
    fn measure(&self, bytes: &Bytes<T>) -> Option<Panic> {
        let (from, start, mut ahead) = {
            let state = self.state.lock();
            let place = state.place.as_ref()?;
            let ahead = place.cursor.lag().saturating_sub(place.lag());
            (place.sizes.as_ref()?.up_to.clone(), place.measured(), ahead)
        };
        let mut measured = Vec::new();
        let mut panicked = None;
        let up_to = from.walk(|events| {
            // Not those that come while this goes on: there may be no end of them.
            if ahead == 0 {
                return false;
            }
            ahead -= 1;
            let size = |event| (bytes.size_of)(event) as u64;
            let sum = || events.iter().map(size).fold(0, u64::saturating_add);
            let sum = catch_unwind(AssertUnwindSafe(sum)).unwrap_or_else(|panic| {
                panicked.get_or_insert(panic);
                0
            });
            measured.push(sum.max(1));
            true
        });
        let mut state = self.state.lock();
        let mut left = None;
        if let Some(place) = &mut state.place {
            // Others may have done the same meanwhile.
            let known = usize::try_from(place.measured() - start).unwrap_or(usize::MAX);
            if let (Some(sizes), Some(news)) = (&mut place.sizes, measured.get(known..)) {
                sizes.each.extend(news);
                sizes.sum += news.iter().map(|size| u128::from(*size)).sum::<u128>();
                left = Some(mem::replace(&mut sizes.up_to, up_to));
            }
        }
        drop(state);
        drop((left, from));
        panicked
    }
}

impl<T: Send + Sync> Limit for Limiter<T> {
    fn enforce(&self) -> Next {
        self.look(Who::Writer)
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
                        Read::Empty | Read::Item(_) => TryRecvError::Empty,
                    });
                }
            },
        };
        let item = self.cursor.take()?;
        self.passed += 1;
        Ok(Taken {
            item,
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
