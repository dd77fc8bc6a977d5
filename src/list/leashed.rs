//! The reader's end of a leash.

use std::mem;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::leash::Orders;
use super::limits::{
    FromTrail, LimitGarbage, admit, dismiss, from_trail, lag_of, leave_trail, look_again, place_of,
    readmit,
};
use super::registry::{Cursor, Custody, Inside, Leash, PlaceRef, WeakPlace};
use crate::error::LagExceeded;
use crate::error::SharedError;
use crate::lag_limit::{LagLimit, OnLag};
use crate::link::{Closable, Closed};
use crate::unwind::Steps;

/// A reader whose cursor others can take away.
pub(crate) struct Leashed<T>(Arc<Leash<T>>);

impl<T> Leashed<T> {
    /// Creates a reader without a cursor, which the caller then [puts](Self::put) there.
    pub(crate) fn new() -> Self {
        Self(Leash::new(Inside::new(Custody::Gone(None))))
    }

    /// Creates a reader that is closed from the start, like another one.
    pub(crate) fn closed(like: Shut<T>) -> Self {
        let leash = Leash::new(Inside::new(Custody::Gone(Some(like.at))));
        if let Some(mut barred) = leash.bar(|_| {}) {
            let (_, orders) = barred.parts();
            let reason = Some(like.reason);
            if like.for_its_lag {
                orders.lagged = reason;
            } else {
                orders.closed = reason;
            }
        }
        Self(leash)
    }

    pub(crate) fn put(&mut self, cursor: Cursor<T>) {
        let mut obeying = self.0.obey();
        obeying.inside().custody = Custody::Reader(cursor);
        obeying.leave();
    }

    /// Enters, to look at the place or to read.
    ///
    /// # Errors
    ///
    /// Why the reader was closed.
    #[inline]
    pub(crate) fn enter(&mut self) -> Result<Entered<'_, T>, SharedError> {
        match self.0.enter() {
            Some(inside) => Ok(Entered {
                leash: &self.0,
                inside,
            }),
            None => self.enter_barred(),
        }
    }

    #[cold]
    fn enter_barred(&mut self) -> Result<Entered<'_, T>, SharedError> {
        let mut obeying = self.0.obey();
        if let Some(reason) = obeying.orders.end().cloned() {
            // A reader that has lent a chunk was inside until now, so its cursor is still here.
            let taken = Taken::from(&self.0, obeying.inside());
            obeying.leave();
            drop(taken);
            return Err(reason);
        }
        Ok(Entered {
            inside: obeying.enter(),
            leash: &self.0,
        })
    }

    /// Enters like [`enter`](Self::enter), for a caller that only looks, and may not be the waiting
    /// task.
    ///
    /// # Errors
    ///
    /// Why the reader was closed, and at what place; and what is left to do.
    pub(crate) fn enter_to_look(&mut self) -> Result<Entered<'_, T>, Box<ShutOut<T>>> {
        let mut obeying = self.0.obey();
        let Some(reason) = obeying.orders.end().cloned() else {
            return Ok(Entered {
                inside: obeying.enter(),
                leash: &self.0,
            });
        };
        let shut = Shut {
            reason,
            for_its_lag: obeying.orders.closed.is_none(),
            at: weak_place_of(&obeying.inside().custody),
        };
        // A reader that has lent a chunk was inside until now, so its cursor is still here.
        let left = Left::Taken(Taken::from(&self.0, obeying.inside()));
        obeying.leave();
        Err(Box::new(ShutOut { shut, left }))
    }

    /// Returns why a closer has closed the reader, if one has. A close for lag does not count.
    pub(crate) fn closed_from_outside(&self) -> Option<SharedError> {
        self.0.closed_from_outside()
    }

    /// Limits from now on how far the reader may be behind, and enforces its old limit a last time.
    ///
    /// What is `skipped` is reported besides. Runs user code. If that panics, either limit may
    /// hold.
    pub(crate) fn set_limit(&mut self, limit: LagLimit<T>, skipped: Skipped) {
        let Ok(mut entered) = self.enter() else {
            return;
        };
        // The registration of the task ends here, so it is woken at the end.
        let waker = entered.cursor().and_then(|(cursor, _)| cursor.take_waker());
        let mut steps = Steps::new();
        steps.take(|| entered.change_limit(limit, skipped));
        steps.take(|| drop(entered));
        steps.take(|| waker.map(Waker::wake));
        steps.finish();
    }
}

impl<T: Send + Sync + 'static> Leashed<T> {
    pub(crate) fn closable(&self) -> Arc<dyn Closable> {
        Arc::clone(&self.0) as _
    }
}

impl<T> Drop for Leashed<T> {
    fn drop(&mut self) {
        let mut obeying = self.0.obey();
        let mut taken = Taken::from(&self.0, obeying.inside());
        let at = mem::replace(&mut obeying.inside().custody, Custody::Gone(None));
        obeying.leave();
        // The reader's own task is dropped with it, so it is not woken.
        let waker = taken.waker.take();
        let mut steps = Steps::new();
        steps.take(|| drop(waker));
        steps.take(|| drop((taken, at)));
        steps.finish();
    }
}

/// The reader inside its leash. Dropping this leaves.
pub(crate) struct Entered<'a, T> {
    leash: &'a Arc<Leash<T>>,
    /// Exclusive until this leaves (L12).
    inside: NonNull<Inside<T>>,
}

// SAFETY: it stands for a `&mut Inside<T>`, which has a `Cursor<T>`, and a `&Leash<T>`; both are
// `Send` under these bounds.
unsafe impl<T: Send + Sync> Send for Entered<'_, T> {}
// SAFETY: the same argument.
unsafe impl<T: Send + Sync> Sync for Entered<'_, T> {}

impl<'a, T> Entered<'a, T> {
    #[inline]
    fn inside(&mut self) -> &mut Inside<T> {
        // SAFETY: L12: the reader is inside, and there is one `Entered` to a reader.
        unsafe { self.inside.as_mut() }
    }

    /// Returns the cursor, and how many skipped items are yet to be reported.
    ///
    /// It is `None` while the reader shares a trail: see [`keep_limit`](Self::keep_limit).
    #[inline]
    pub(crate) fn cursor(&mut self) -> Option<(&mut Cursor<T>, &mut u64)> {
        let Inside {
            custody, skipped, ..
        } = self.inside();
        match custody {
            Custody::Reader(cursor) => Some((cursor, skipped)),
            _ => None,
        }
    }

    /// Returns the cursor and stays inside, until the reader enters again and then leaves.
    pub(crate) fn stay(self) -> Option<&'a mut Cursor<T>> {
        let mut inside = self.inside;
        mem::forget(self);
        // SAFETY: L12: the reader stays inside, and cannot enter again while it is borrowed for
        // `'a`.
        match unsafe { &mut inside.as_mut().custody } {
            Custody::Reader(cursor) => Some(cursor),
            _ => None,
        }
    }

    /// Returns how many items the reader would receive. The garbage must not be dropped under a
    /// lock.
    pub(crate) fn lag(&mut self) -> (u64, Option<LimitGarbage<T>>) {
        match &self.inside().custody {
            Custody::Reader(cursor) => (cursor.lag(), None),
            Custody::Trail(parked) => {
                let (lag, garbage) = lag_of(parked);
                (lag, Some(garbage))
            }
            Custody::Gone(_) => (0, None),
        }
    }

    /// Returns where the reader continues.
    pub(crate) fn standing(&mut self) -> Standing<T> {
        let Inside {
            custody,
            skipped,
            settled,
            ..
        } = self.inside();
        let (place, given, passed, left) = match custody {
            Custody::Reader(cursor) => {
                let (place, given) = cursor.place();
                (Some(place), given, 0, None)
            }
            Custody::Trail(parked) => match place_of(parked) {
                Some(from) => (Some(from.place), 0, from.skipped, from.left),
                None => (None, 0, 0, None),
            },
            Custody::Gone(_) => (None, 0, 0, None),
        };
        Standing {
            // A reader that is not closed always has a place.
            place: place.unwrap_or_else(PlaceRef::nowhere),
            given,
            skipped: Skipped {
                items: *skipped + passed,
                settled: *settled.min(skipped),
            },
            _left: left,
        }
    }

    /// Returns `true` if nothing more will come.
    pub(crate) fn has_ended(&mut self) -> bool {
        match &self.inside().custody {
            Custody::Reader(cursor) => cursor.has_ended(),
            Custody::Trail(parked) => parked.shared().is_none_or(|shared| shared.has_ended()),
            Custody::Gone(_) => true,
        }
    }

    /// Takes the place back if it was given up, and enforces the reader's limit. Runs user code.
    ///
    /// # Errors
    ///
    /// Why the reader is closed, if that is what the limit asks for.
    #[inline]
    pub(crate) fn keep_limit(&mut self) -> Result<(), SharedError> {
        match self.inside().limit {
            None => Ok(()),
            Some(limit) => self.keep(limit),
        }
    }

    #[inline(never)]
    fn keep(&mut self, limit: LagLimit<T>) -> Result<(), SharedError> {
        let is_back = matches!(self.inside().custody, Custody::Trail(_));
        // All of it is reported, so nothing is left to set off.
        if self.inside().skipped == 0 {
            self.inside().settled = 0;
        }
        let settled = self.inside().settled;
        let garbage = if is_back { self.come_back() } else { None };
        let Inside {
            custody: Custody::Reader(cursor),
            skipped,
            ..
        } = self.inside()
        else {
            return Ok(());
        };
        // The usual case, without a counted reference.
        if !is_back && limit.bytes.is_none() && cursor.lag() <= limit.items && *skipped == 0 {
            return Ok(());
        }
        let here = cursor.place_ref();
        let mut steps = Steps::new();
        let mut over = here.over(&limit, &mut steps);
        // A reader that lost items to its trail has lagged, even if it is within its limit now.
        let has_lagged = over > 0 || *skipped > settled;
        match limit.on_lag {
            OnLag::Close if over > 0 => {
                let items = here.lag();
                drop(here);
                let reason = self.close_for_lag(LagExceeded { items });
                steps.finish();
                return Err(reason);
            }
            OnLag::SkipToNewest if has_lagged => over = here.lag().saturating_sub(1),
            _ => {}
        }
        let mut left = None;
        if over > 0 {
            let (to, gone) = here.ahead(over);
            *skipped += gone;
            left = Some((cursor.take_waker(), cursor.jump(to)));
        }
        drop(here);
        let place = is_back.then(|| cursor.place_ref());
        // The newest place first, since an older one keeps what comes after it alive.
        steps.take(|| drop((left, garbage)));
        if let Some(place) = place {
            steps.take(|| readmit(self.leash, place, &limit));
        }
        steps.finish();
        Ok(())
    }

    /// Takes the place of the trail. Dropping what is returned runs user code.
    #[cold]
    fn come_back(&mut self) -> Option<impl Sized + use<T>> {
        let inside = self.inside();
        let before = mem::replace(&mut inside.custody, Custody::Gone(None));
        let Custody::Trail(parked) = before else {
            inside.custody = before;
            return None;
        };
        let (place, ahead, garbage) = leave_trail(&parked, None);
        // A trail has a place while readers share it.
        let place = place?;
        let shared = place.owner();
        let FromTrail {
            place,
            skipped,
            left,
        } = from_trail(place, ahead);
        inside.skipped += skipped;
        inside.custody = Custody::Reader(Cursor::new(place));
        // After the cursor was made, so that the reader is an observer throughout. Otherwise tasks
        // that wait for the last observer to leave would be woken.
        shared.remove_observer();
        Some((left, garbage))
    }

    fn close_for_lag(&mut self, lagged: LagExceeded) -> SharedError {
        let reason = SharedError::new(lagged.into());
        // The reader is inside, so this leaves an order.
        drop(
            self.leash
                .bar(|orders| orders.lagged = Some(reason.clone())),
        );
        reason
    }

    /// Enforces the old limit a last time, and sets another one. Runs user code.
    fn change_limit(&mut self, limit: LagLimit<T>, skipped: Skipped) {
        // Takes the place back from the trail, if the old limit has moved it there.
        if self.keep_limit().is_err() {
            return;
        }
        let leash = self.leash;
        let inside = self.inside();
        if let (Custody::Reader(cursor), Some(before)) = (&inside.custody, inside.limit.take()) {
            dismiss(leash, &before, &cursor.place_ref().owner());
        }
        inside.limit = Some(limit);
        inside.settled = inside.skipped + skipped.settled;
        inside.skipped += skipped.items;
        admit(leash, inside);
    }

    /// Waits for the next item, and leaves.
    ///
    /// Returns `Ready` if there is something to read, or if the reader was closed or moved
    /// meanwhile.
    pub(crate) fn wait(mut self, waker: &Waker) -> Poll<()> {
        let Some((cursor, _)) = self.cursor() else {
            return Poll::Ready(());
        };
        let poll = cursor.poll_link(waker);
        if self.leash.leave() {
            mem::forget(self);
            return poll;
        }
        // The task looks again, so it need not be woken.
        if let Some((cursor, _)) = self.cursor() {
            cursor.stop_waiting();
        }
        Poll::Ready(())
    }

    /// Leaves. Returns what is left to do, if anything: dropping it runs user code.
    #[inline]
    pub(crate) fn leave(mut self) -> Option<Left<T>> {
        let left = self.cursor().is_some() && self.leash.leave();
        let leash = self.leash;
        mem::forget(self);
        if left { None } else { leave_barred(leash) }
    }
}

impl<T> Drop for Entered<'_, T> {
    #[inline]
    fn drop(&mut self) {
        let left = self.cursor().is_some() && self.leash.leave();
        if !left {
            drop(leave_barred(self.leash));
        }
    }
}

/// Where a reader continues.
pub(crate) struct Standing<T> {
    /// The place of the next item.
    pub(crate) place: PlaceRef<T>,
    /// How many of that item's events have been received.
    pub(crate) given: usize,
    pub(crate) skipped: Skipped,
    /// Dropped with it, after the lock under which it was made.
    _left: Option<PlaceRef<T>>,
}

impl<T> Standing<T> {
    /// Where a reader continues that nothing was skipped for.
    pub(crate) fn at(place: PlaceRef<T>, given: usize) -> Self {
        Self {
            place,
            given,
            skipped: Skipped::default(),
            _left: None,
        }
    }
}

/// The items skipped by a reader's limits that are yet to be reported.
#[derive(Clone, Copy, Default)]
pub(crate) struct Skipped {
    pub(crate) items: u64,
    /// How many of these were skipped by an earlier limit. They are no lag under the current one.
    pub(crate) settled: u64,
}

/// Returns where a reader is, or was when it was closed. For one on a trail, that is the trail's
/// place.
fn weak_place_of<T>(custody: &Custody<T>) -> WeakPlace<T> {
    let at = match custody {
        Custody::Reader(cursor) => Some(cursor.place_ref().downgrade()),
        Custody::Trail(parked) => parked.weak_place(),
        Custody::Gone(at) => at.clone(),
    };
    at.unwrap_or_else(WeakPlace::nowhere)
}

/// Obeys the orders that came while the reader was inside.
#[cold]
fn leave_barred<T>(leash: &Arc<Leash<T>>) -> Option<Left<T>> {
    let mut obeying = leash.obey();
    let left = if obeying.orders.end().is_some() {
        Some(Left::Taken(Taken::from(leash, obeying.inside())))
    } else {
        let look = mem::take(&mut obeying.orders.look);
        look.then(|| Left::Look(Looking(Arc::clone(leash))))
    };
    obeying.leave();
    left
}

/// Why a reader is closed, and at what place.
pub(crate) struct Shut<T> {
    pub(crate) reason: SharedError,
    /// The reader was closed for its lag, not by a closer.
    for_its_lag: bool,
    pub(crate) at: WeakPlace<T>,
}

/// A closed reader that has tried to enter, and what is left to do.
pub(crate) struct ShutOut<T> {
    pub(crate) shut: Shut<T>,
    pub(crate) left: Left<T>,
}

/// What is left to do after a reader has left. It is done when this is dropped.
pub(crate) enum Left<T> {
    Taken(#[expect(dead_code, reason = "it is only dropped")] Taken<T>),
    Look(#[expect(dead_code, reason = "it is only dropped")] Looking<T>),
}

/// Dropping it checks whether the reader is within its limit.
pub(crate) struct Looking<T>(Arc<Leash<T>>);

impl<T> Drop for Looking<T> {
    fn drop(&mut self) {
        look_again(&self.0);
    }
}

/// The cursor of a reader that was closed or dropped.
///
/// Dropping it wakes the reader's task, and frees what only the reader kept.
pub(crate) struct Taken<T> {
    leash: Arc<Leash<T>>,
    custody: Custody<T>,
    /// Taken out at once, so that no one else wakes the task meanwhile.
    waker: Option<Waker>,
    limit: Option<LagLimit<T>>,
}

impl<T> Taken<T> {
    /// Takes the cursor, if the reader has one.
    fn from(leash: &Arc<Leash<T>>, inside: &mut Inside<T>) -> Self {
        let closed = Custody::Gone(Some(weak_place_of(&inside.custody)));
        let mut custody = mem::replace(&mut inside.custody, closed);
        let waker = match &mut custody {
            Custody::Reader(cursor) => cursor.take_waker(),
            Custody::Trail(_) | Custody::Gone(_) => None,
        };
        Self {
            leash: Arc::clone(leash),
            custody,
            waker,
            limit: inside.limit.take(),
        }
    }
}

impl<T> Drop for Taken<T> {
    fn drop(&mut self) {
        let (limit, waker) = (self.limit.take(), self.waker.take());
        match mem::replace(&mut self.custody, Custody::Gone(None)) {
            Custody::Reader(cursor) => {
                if let Some(limit) = &limit {
                    dismiss(&self.leash, limit, &cursor.place_ref().owner());
                }
                // Before the cursor is dropped, since the drop of events may take its time.
                waker.into_iter().for_each(Waker::wake);
            }
            Custody::Trail(parked) => {
                let (place, _, garbage) = leave_trail(&parked, limit.as_ref());
                // Both are dropped after it, even if a task that it wakes panics.
                let _garbage = garbage;
                if let Some(place) = &place {
                    place.shared().remove_observer();
                }
            }
            Custody::Gone(_) => {}
        }
    }
}

impl<T: Send + Sync + 'static> Closable for Leash<T> {
    fn close(self: Arc<Self>, reason: SharedError) -> Option<Closed> {
        let mut reason = Some(reason);
        let mut set = |orders: &mut Orders| {
            if orders.closed.is_none() {
                orders.closed = reason.take();
            }
        };
        // If the reader is inside, it obeys the order when it leaves.
        let taken = self.bar(&mut set).map(|mut barred| {
            set(&mut barred.orders);
            Taken::from(&self, barred.parts().0)
        });
        reason
            .is_none()
            .then(|| Closed(taken.map(|taken| Box::new(taken) as _)))
    }

    fn is_closed(&self) -> bool {
        self.closed_from_outside().is_some()
    }
}
