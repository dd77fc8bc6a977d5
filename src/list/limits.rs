//! Lag limits: which readers the writer looks at, and when.
//!
//! A limited reader must not hold more than its limit in memory, even if it is never polled again.
//! The writer therefore moves it forward. It does not look at each reader with each item. The
//! registry of a buffer keeps the limited readers in order of the number of published items at
//! which they would exceed their limit if they read nothing until then:
//!
//! ```text
//!   due_at = 4,711 ◀── the nearest                     bytes: by the total
//!   by_items: [4,711: a] [5,020: trail] [9,000: c]     by_bytes: [88,000: trail] [90,000: d]
//! ```
//!
//! A reader that exceeds its limit when it is due gives up its place to a [trail](super::trail), a
//! place that lagging readers share. It keeps the number of its next item. When it comes back, it
//! starts at the trail's place, and the numbers tell how many items it has lost. There is one trail
//! for each class of limits, which differ by less than a factor of two. So the writer moves a few
//! trails, however many readers are stuck. A trail is moved when it is due, like a reader, and is
//! dropped when the last reader leaves it.
//!
//! * **Items.** The writer compares `due_at` only when it begins a [block](super::node::block),
//!   which is a slow step anyway. So a limit may be exceeded by an eighth, and by the items of a
//!   block, before it is enforced.
//! * **Bytes** are [metered](super::meter) while a reader of the buffer is limited in bytes.
//! * **Splices.** If a buffer is spliced, its registry's entries move to the registry of the buffer
//!   that it leads to, because that buffer's writer is the one that continues publishing.
//! * **User code** (sizes, wakers, the drop of events) runs under no lock of this module. What must
//!   be dropped or woken is [collected](LimitGarbage) until the locks are released.
//!
//! Locks are taken in this order: a registry, a leash or a trail, sums.

use std::cmp::Reverse;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::task::Waker;

use super::deadlines::{AT_ONCE, Deadline, Deadlines, Due, Id, NEVER};
use super::registry::{
    Cursor, Custody, Inside, Leash, LimitRegistry, Limited, NodeRef, Parked, PlaceRef, Shared,
    Trail, id_of,
};
use super::sums::Allowed;
use super::trail::{Allowance, Class, Key};
use crate::error::LagExceeded;
use crate::error::SharedError;
use crate::lag_limit::{LagLimit, OnLag};
use crate::sync::MutexGuard;
use crate::unwind::{Steps, even_if_it_panics, for_each_even_if_one_panics};

/// How many readers and trails are looked at under one lock.
const AT_A_TIME: usize = 64;

/// What must be dropped and woken once no lock is held.
pub(crate) struct LimitGarbage<T> {
    wakers: Vec<Waker>,
    /// With the places' numbers. The newest are dropped first: dropping the oldest drops events,
    /// which may take time, and until then it would keep everything after it alive.
    places: Vec<(i64, KeptPlace<T>)>,
    entries: Vec<Deadline<Limited<T>>>,
}

enum KeptPlace<T> {
    NodeRef(#[expect(dead_code, reason = "it is only dropped")] NodeRef<T>),
    Cursor(#[expect(dead_code, reason = "it is only dropped")] Cursor<T>),
}

impl<T> LimitGarbage<T> {
    fn new() -> Self {
        Self {
            wakers: Vec::new(),
            places: Vec::new(),
            entries: Vec::new(),
        }
    }
}

impl<T> Drop for LimitGarbage<T> {
    fn drop(&mut self) {
        self.places
            .sort_unstable_by_key(|(number, _)| Reverse(*number));
        for_each_even_if_one_panics(self.wakers.drain(..), Waker::wake);
    }
}

impl<T> LimitRegistry<T> {
    fn book(&mut self) -> &mut Deadlines<Limited<T>> {
        self.book.get_or_insert_with(|| Box::new(Deadlines::new()))
    }
}

/// A locked registry, and the `Shared` that it belongs to.
struct OpenRegistry<'a, T> {
    shared: &'a Shared<T>,
    registry: MutexGuard<'a, LimitRegistry<T>>,
    garbage: LimitGarbage<T>,
}

impl<T> OpenRegistry<'_, T> {
    /// Looks at a reader, which the caller has to itself (L12).
    ///
    /// A reader that exceeds its limit loses its place; otherwise it is registered. Returns why the
    /// reader is closed, if that is what its limit asks for.
    fn look(&mut self, leash: &Arc<Leash<T>>, inside: &mut Inside<T>) -> Option<SharedError> {
        let (Custody::Reader(cursor), Some(limit)) = (&mut inside.custody, inside.limit) else {
            return None;
        };
        let place = cursor.place_ref();
        let (allowed, lag) = self.allowed(&place, limit.items, limit.bytes_allowed());
        // Within its limit: it keeps its place, and is looked at again when that may have changed.
        if allowed.skip == 0 {
            if cursor.is_at_a_splice() {
                // The ended buffer may be kept by nothing else than this anchor, so move that on.
                self.garbage.wakers.extend(cursor.take_waker());
                let number = place.number_in(self.shared) - 1;
                let left = cursor.jump(place.ahead(0).0);
                self.garbage.places.push((number, KeptPlace::NodeRef(left)));
            }
            self.register_reader(leash, &place, &limit);
            self.discard(place);
            return None;
        }
        // Over its limit: its task is woken, to find that it was moved or closed.
        self.garbage.wakers.extend(cursor.take_waker());
        let removed = self.registry.book().remove(id_of(leash));
        self.garbage.entries.extend(removed);
        let allowance = match limit.on_lag {
            OnLag::Close => {
                self.take_cursor(inside, Custody::Gone(Some(place.downgrade())));
                self.discard(place);
                if inside
                    .limit
                    .take()
                    .is_some_and(|limit| limit.bytes.is_some())
                {
                    self.stop_metering();
                }
                return Some(SharedError::new(LagExceeded { items: lag }.into()));
            }
            OnLag::SkipToOldest => Allowance {
                items: limit.items,
                bytes: limit.bytes_allowed(),
            },
            OnLag::SkipToNewest => Allowance {
                items: 1,
                bytes: None,
            },
        };
        // Before the cursor is dropped, so that the reader is an observer throughout.
        place.shared().add_observer();
        let parked = self.park(place, allowance);
        self.take_cursor(inside, Custody::Trail(parked));
        None
    }

    fn look_at_entry(&mut self, id: Id) {
        // The entry may be gone, or handed on.
        let book = self.registry.book.as_mut();
        let Some(entry) = book.and_then(|book| book.remove(id)) else {
            return;
        };
        match &entry.limited {
            Limited::Trail(trail) => self.look_at_trail(trail),
            Limited::Reader(leash) => self.look_from_outside(leash),
        }
        self.garbage.entries.push(entry);
    }

    /// Looks at a reader for the writer. A reader that is inside looks by itself when it leaves,
    /// and is registered then.
    fn look_from_outside(&mut self, leash: &Arc<Leash<T>>) {
        let Some(mut barred) = leash.bar(|orders| orders.look = true) else {
            return;
        };
        let (inside, orders) = barred.parts();
        if orders.end().is_none() {
            orders.lagged = self.look(leash, inside);
        }
    }

    /// Counts one reader less that is limited in bytes, and stops metering with the last.
    fn stop_metering(&mut self) {
        let book = self.registry.book();
        book.metered -= 1;
        if book.metered == 0 {
            let limits = self.shared.limits();
            limits.is_metered.store(false, Release);
            if let Some(mut sums) = limits.sums() {
                sums.end();
            }
        }
    }

    fn take_cursor(&mut self, inside: &mut Inside<T>, custody: Custody<T>) {
        let before = mem::replace(&mut inside.custody, custody);
        if let Custody::Reader(cursor) = before {
            let place = cursor.place_ref();
            // The cursor's anchor may be before its place.
            let number = place.number_in(self.shared) - 1;
            self.garbage
                .places
                .push((number, KeptPlace::Cursor(cursor)));
            self.discard(place);
        }
    }

    fn discard(&mut self, place: PlaceRef<T>) {
        let number = place.number_in(self.shared);
        let node = KeptPlace::NodeRef(place.into_node_ref());
        self.garbage.places.push((number, node));
    }

    fn register_reader(&mut self, leash: &Arc<Leash<T>>, place: &PlaceRef<T>, limit: &LagLimit<T>) {
        let due = self.due(place, limit.items, limit.bytes_allowed());
        let limited = Limited::Reader(Arc::clone(leash));
        self.register(id_of(leash), limited, due);
    }

    fn register(&mut self, id: Id, limited: Limited<T>, due: Due) {
        let before = self.registry.book().insert(id, limited, due);
        self.garbage.entries.extend(before);
    }

    /// Shares a trail that keeps what a reader at `place` may still receive.
    fn park(&mut self, place: PlaceRef<T>, allowance: Allowance) -> Parked<T> {
        let class = allowance.class();
        let (allowed, _) = self.allowed(&place, allowance.items, allowance.bytes);
        let is_behind = |trail: &Arc<Trail<T>>, shared: &Shared<T>, to: i64| {
            let state = trail.lock();
            state.number() <= state.number_of(&place, shared).saturating_add(to)
        };
        let skip = i64::try_from(allowed.skip).unwrap_or(i64::MAX);
        // Mostly there is a trail in the reader's own buffer that is no further on than it may be.
        let near = self.trail((place.region(), class));
        let near = near.filter(|trail| is_behind(trail, self.shared, skip));
        let trail = near.unwrap_or_else(|| self.trail_near(&place, allowed.skip, class));
        let number = {
            let mut state = trail.lock();
            state.add_reader(allowance);
            state.number_of(&place, self.shared)
        };
        self.discard(place);
        // Its allowance may be greater now, and so may its deadline.
        self.register_trail(&trail);
        Parked {
            trail,
            allowance,
            number,
        }
    }

    /// Returns the trail for the place `items` after `place`, moved back to that if it is further
    /// on.
    fn trail_near(&mut self, place: &PlaceRef<T>, items: u64, class: Class) -> Arc<Trail<T>> {
        let place = advance(place, items);
        let Some(trail) = self.trail((place.region(), class)) else {
            return Trail::new(place, class);
        };
        let mut state = trail.lock();
        let number = state.number_of(&place, self.shared);
        let left = if number < state.number() {
            state.move_to(place, number)
        } else {
            Some(place)
        };
        drop(state);
        if let Some(left) = left {
            self.discard(left);
        }
        trail
    }

    fn trail(&self, key: Key) -> Option<Arc<Trail<T>>> {
        match self.registry.book.as_ref()?.get(Id::Trail(key))? {
            Limited::Trail(trail) => Some(Arc::clone(trail)),
            Limited::Reader(_) => None,
        }
    }

    fn register_trail(&mut self, trail: &Arc<Trail<T>>) {
        let state = trail.lock();
        let Allowance { items, bytes } = state.allowance();
        if let (Some(key), Some(place)) = (state.key(), &state.place) {
            let due = self.due(place, items, bytes);
            drop(state);
            self.register(Id::Trail(key), Limited::Trail(Arc::clone(trail)), due);
        }
    }

    /// Moves a trail forward, which is not registered now, and registers it.
    fn look_at_trail(&mut self, trail: &Arc<Trail<T>>) {
        let mut state = trail.lock();
        let Allowance { items, bytes } = state.allowance();
        let Some(place) = &state.place else {
            return;
        };
        let (allowed, _) = self.allowed(place, items, bytes);
        let to = advance(place, allowed.skip);
        let number = state.number_of(&to, self.shared);
        let left = state.move_to(to, number);
        let key = state.key();
        drop(state);
        if let Some(left) = left {
            self.discard(left);
        }
        let other = key.and_then(|key| self.trail(key));
        if let Some(other) = other.filter(|other| !Arc::ptr_eq(other, trail)) {
            if let Some(left) = trail.merge_into(&other, self.shared) {
                self.discard(left);
            }
            self.register_trail(&other);
        } else {
            self.register_trail(trail);
        }
    }

    /// Returns what a reader at `place` may have, and how many items it is behind. It may always
    /// have the newest item.
    fn allowed(&self, place: &PlaceRef<T>, items: u64, bytes: Option<u64>) -> (Allowed, u64) {
        let number = place.number_in(self.shared);
        let published = i64::try_from(self.shared.published_since(0)).unwrap_or(i64::MAX);
        let lag = u64::try_from(published - number).unwrap_or(0);
        (place.allowed(lag, items, bytes), lag)
    }

    /// Returns when a place will have fallen behind its limit. Some slack is added, so that it is
    /// not looked at with each item.
    fn due(&self, place: &PlaceRef<T>, items: u64, bytes: Option<u64>) -> Due {
        let slack = i128::from((items / 8).min(512));
        let items = i128::from(place.number_in(self.shared)) + i128::from(items) + slack + 1;
        Due {
            items: u64::try_from(items.max(0)).unwrap_or(NEVER),
            bytes: bytes.map_or(NEVER, |bytes| {
                { place.sum_at_least() }
                    .saturating_add(bytes)
                    .saturating_add(bytes / 16 + 1)
            }),
        }
    }

    fn close(self) -> LimitGarbage<T> {
        self.shared.limits().note_due(&self.registry);
        self.garbage
    }
}

/// Returns the place `items` further on.
///
/// Items may be counted as published that are not linked yet. Their writer is then asked to enforce
/// the limits again.
fn advance<T>(from: &PlaceRef<T>, items: u64) -> PlaceRef<T> {
    let (mut to, mut gone) = from.ahead(items);
    while gone < items && to.request_limits() {
        let (next, more) = to.ahead(items - gone);
        gone += more;
        to = next;
    }
    to
}

impl<T> Shared<T> {
    /// Calls `f` with the locked registry of the buffer that this one leads to by splices, as far
    /// as entries have been handed on.
    fn open<R>(
        self: &Arc<Self>,
        f: impl FnOnce(&mut OpenRegistry<'_, T>) -> R,
    ) -> (R, LimitGarbage<T>) {
        let mut shared = Arc::clone(self);
        loop {
            let registry = shared.limits().registry.lock();
            if !registry.is_handed_on {
                let mut open = OpenRegistry {
                    shared: &shared,
                    registry,
                    garbage: LimitGarbage::new(),
                };
                let answer = f(&mut open);
                return (answer, open.close());
            }
            drop(registry);
            // Handed on, hence spliced: there is a successor.
            let next = shared.successor();
            shared = next.map_or(shared, |(next, _)| next);
        }
    }

    /// Hands the registry's entries on to the buffer that this one is spliced to.
    ///
    /// Returns `true` if there were any. The caller then enforces the limits there.
    pub(super) fn hand_limits_on(&self) -> bool {
        let Some((to, _)) = self.successor() else {
            return false;
        };
        let mut registry = self.limits().registry.lock();
        registry.is_handed_on = true;
        let Some(handed) = registry.book.take() else {
            return false;
        };
        // Relaxed: a hint, see `are_due`.
        self.limits().due_at.store(NEVER, Relaxed);
        // Under both locks, so that an entry is found at any time. Registries are locked in the
        // order of splices.
        let ((), garbage) = to.open(|open| {
            open.registry.book().metered += handed.metered;
            for (id, limited) in handed.into_entries() {
                open.register(id, limited, AT_ONCE);
            }
        });
        drop(registry);
        drop(garbage);
        true
    }

    /// Enforces the limits that are due. Runs user code.
    #[cold]
    pub(super) fn enforce_limits(&self) {
        let limits = self.limits();
        let (published, total) = (self.published_since(0), limits.total());
        // Each is looked at once, even if it is due again afterwards: what it has to give up may
        // not be linked yet.
        let due = match &limits.registry.lock().book {
            Some(book) => book.due(published, total),
            None => return,
        };
        let mut left = due.chunks(AT_A_TIME);
        even_if_it_panics(|| {
            for due in left.by_ref() {
                let mut open = OpenRegistry {
                    shared: self,
                    registry: limits.registry.lock(),
                    garbage: LimitGarbage::new(),
                };
                for id in due {
                    open.look_at_entry(*id);
                }
                drop(open.close());
            }
        });
    }
}

/// Registers a reader that has got a limit, and that the caller has to itself (L12). Runs user
/// code.
pub(super) fn admit<T>(leash: &Arc<Leash<T>>, inside: &mut Inside<T>) {
    let (Custody::Reader(cursor), Some(limit)) = (&mut inside.custody, &inside.limit) else {
        return;
    };
    let mut steps = Steps::new();
    // A reader that sleeps must keep neither a waker nor what it has passed. Both may panic, and
    // the reader has its limit already, so it is registered all the same.
    steps.take(|| cursor.stop_waiting());
    steps.take(|| cursor.anchor_here());
    if let Some(bytes) = &limit.bytes {
        let place = cursor.place_ref();
        // Before the items are measured, so that metering continues if other readers leave
        // meanwhile.
        let ((), garbage) = place.owner().open(|open| open.registry.book().metered += 1);
        drop(garbage);
        place.meter(bytes.size_of, &mut steps);
    }
    let place = cursor.place_ref();
    steps.take(|| {
        settle_at(place, |open| {
            if let Some(lagged) = open.look(leash, inside) {
                // The reader is inside, so this leaves an order.
                drop(leash.bar(|orders| orders.lagged = Some(lagged)));
            }
        });
    });
    steps.finish();
}

/// Registers a reader that is back from a trail, at `place`, and inside. Runs user code.
pub(super) fn readmit<T>(leash: &Arc<Leash<T>>, place: PlaceRef<T>, limit: &LagLimit<T>) {
    let here = place.clone();
    settle_at(place, |open| {
        open.register_reader(leash, &here, limit);
        open.discard(here);
    });
}

/// Looks at a limited reader, unless it is inside: then it looks by itself when it leaves. Runs
/// user code.
pub(super) fn look_again<T>(leash: &Arc<Leash<T>>) {
    let Some(mut barred) = leash.bar(|orders| orders.look = true) else {
        return;
    };
    let place = match &barred.parts().0.custody {
        Custody::Reader(cursor) => Some(cursor.place_ref()),
        _ => None,
    };
    drop(barred);
    if let Some(place) = place {
        settle_at(place, |open| open.look_from_outside(leash));
    }
}

/// Looks at a reader, which is at `place` or after it.
fn settle_at<T, R>(place: PlaceRef<T>, look: impl FnOnce(&mut OpenRegistry<'_, T>) -> R) -> R {
    let (answer, garbage) = place.owner().open(look);
    // Items that are being published now may have been counted before the reader was registered.
    // Their writer is asked to look.
    let mut last = place.end_of_region();
    while last.request_limits() {
        last = last.end_of_region();
    }
    let end = last.owner();
    let mut steps = Steps::new();
    // What these keep is freed here, or by the writer.
    steps.take(|| drop((last, place, garbage)));
    if end.limits().are_due(end.published_since(0)) || end.limits().are_due_in_bytes() {
        steps.take(|| end.enforce_limits());
    }
    steps.finish();
    answer
}

/// Unregisters a limited reader that had its place to itself.
pub(super) fn dismiss<T>(leash: &Leash<T>, limit: &LagLimit<T>, shared: &Arc<Shared<T>>) {
    let ((), garbage) = shared.open(|open| {
        let entry = open.registry.book().remove(id_of(leash));
        open.garbage.entries.extend(entry);
        if limit.bytes.is_some() {
            open.stop_metering();
        }
    });
    drop(garbage);
}

/// Takes a reader off the trail it shares, to come back, or for good (with its limit).
///
/// Returns the trail's place, and how many items that is after the reader's next one.
pub(super) fn leave_trail<T>(
    parked: &Parked<T>,
    limit: Option<&LagLimit<T>>,
) -> (Option<PlaceRef<T>>, i64, LimitGarbage<T>) {
    let Some(shared) = parked.shared() else {
        return (None, 0, LimitGarbage::new());
    };
    let ((place, skipped), garbage) = shared.open(|open| {
        let (trail, own) = parked.find();
        let mut state = trail.lock();
        let skipped = state.number() - own;
        let key = state.key();
        let (place, is_shared) = state.remove_reader(parked.allowance);
        drop(state);
        let entry = key.and_then(|key| open.registry.book().remove(Id::Trail(key)));
        open.garbage.entries.extend(entry);
        if is_shared {
            // The readers that are left may have smaller allowances.
            open.look_at_trail(&trail);
        }
        if limit.is_some_and(|limit| limit.bytes.is_some()) {
            open.stop_metering();
        }
        (place, skipped)
    });
    (place, skipped, garbage)
}

/// Returns where a reader that shares a trail continues.
pub(super) fn place_of<T>(parked: &Parked<T>) -> Option<FromTrail<T>> {
    let shared = parked.shared()?;
    let ((place, ahead), _nothing) = shared.open(|_| {
        let (trail, own) = parked.find();
        let state = trail.lock();
        (state.place.clone(), state.number() - own)
    });
    place.map(|place| from_trail(place, ahead))
}

/// Where a reader continues that leaves a trail.
pub(super) struct FromTrail<T> {
    pub(super) place: PlaceRef<T>,
    /// How many items it has lost.
    pub(super) skipped: u64,
    /// The trail's place, if that is another one: dropping it runs user code.
    pub(super) left: Option<PlaceRef<T>>,
}

/// Returns where a reader continues that leaves a trail.
///
/// The trail is at `place`, `ahead` items after the reader's next one. If that is negative, the
/// trail is before it, and nothing is lost.
pub(super) fn from_trail<T>(place: PlaceRef<T>, ahead: i64) -> FromTrail<T> {
    match u64::try_from(ahead) {
        Ok(skipped) => FromTrail {
            place,
            skipped,
            left: None,
        },
        Err(_) => FromTrail {
            place: place.ahead(ahead.unsigned_abs()).0,
            skipped: 0,
            left: Some(place),
        },
    }
}

/// Returns how many items a reader that shares a trail would receive.
pub(super) fn lag_of<T>(parked: &Parked<T>) -> (u64, LimitGarbage<T>) {
    let Some(shared) = parked.shared() else {
        return (0, LimitGarbage::new());
    };
    shared.open(|open| {
        let (trail, _) = parked.find();
        let state = trail.lock();
        let Allowance { items, bytes } = parked.allowance;
        let allowed = { state.place.as_ref() }.map(|place| open.allowed(place, items, bytes));
        allowed.map_or(0, |(allowed, lag)| lag - allowed.skip - allowed.unsure)
    })
}
