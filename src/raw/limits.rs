//! The limited readers of one buffer, and when to look at them next.
//!
//! A reader that may lag no more than so far must not be able to keep more than that in memory, also
//! where it is never polled again: its writer takes its place away. The writer does not look at each
//! reader with each publish, nor at the list. All that are limited stand in order of the number of
//! items after which they may be over their limit if they read nothing until then:
//!
//! ```text
//!   due_at = 4,711 ◀── the nearest            Weak<dyn Limit> ─▶ a limiter and its place
//!     timed: [4,711: a] [5,020: b] [9,000: c]
//!    always: –
//! ```
//!
//! Even that one number the writer compares only where it begins a [block](super::block): that is a
//! rare and slow step already, so that whoever has no limited readers pays nothing. A limit is
//! passed by the items of a block at most (or by a batch) before it is enforced. Where that will not
//! do, which is where bytes are counted, an entry is always due, and asks to be looked at in each slot
//! ([`Slot::request_limits`](super::Slot::request_limits)).
//!
//! What is due is looked at once the slot is written and its readers are woken: outside of any lock. Meanwhile it stays in the
//! list and due, so that other writers look too, and that it is there if one panics.

use std::any::Any;
use std::collections::BTreeMap;
use std::mem;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};

use super::record::Record;
use crate::sync::{AtomicU64, Mutex};
use crate::unwind::{both_even_if_one_panics, for_each_even_if_one_panics};

/// Somebody whose lag is limited.
pub(crate) trait Limit: Send + Sync {
    /// Takes from it what it may not keep. Runs foreign code, which may panic.
    fn enforce(&self) -> Next;
}

/// When a limit is to be looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Once so many more items are published.
    After(u64),
    /// With every item.
    Always,
    /// It has no place any more.
    Never,
}

/// What any number of items is beyond.
const AT_ONCE: u64 = 0;
const NEVER: u64 = u64::MAX;

pub(super) struct Limits {
    /// The number of published items at which the nearest entry is due. Written under the lock.
    due_at: AtomicU64,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    always: Always,
    timed: BTreeMap<Key, Weak<dyn Limit>>,
    /// At so many, those that are gone are taken out.
    sweep_at: usize,
    /// One of `always` that those may join who need the same.
    meter: Option<Weak<dyn Any + Send + Sync>>,
}

/// Those to be looked at with every item. Shared while they are.
type Always = Arc<Vec<Weak<dyn Limit>>>;

/// When it is due, and which it is: the address, which is no other's as long as the entry is there.
type Key = (u64, usize);

type Timed = (Key, Weak<dyn Limit>);

fn address(limit: &Weak<dyn Limit>) -> usize {
    limit.as_ptr().cast::<()>() as usize
}

/// Those that are due at `now`, as they stand in the list after this: due `again`.
pub(crate) fn put_off_due<N: Ord + Copy, L: Clone>(
    list: &mut BTreeMap<(N, usize), L>,
    now: N,
    again: N,
) -> Vec<((N, usize), L)> {
    let mut due = Vec::new();
    while let Some(first) = list.first_entry() {
        if first.key().0 > now {
            break;
        }
        let ((_, address), limit) = first.remove_entry();
        due.push(((again, address), limit));
    }
    list.extend(due.iter().cloned());
    due
}

impl Limits {
    pub(super) fn new() -> Self {
        Self {
            due_at: AtomicU64::new(NEVER),
            entries: Mutex::default(),
        }
    }

    /// Whether any is due once that many items are published.
    #[inline]
    pub(super) fn are_due(&self, published: u64) -> bool {
        // Relaxed: only a number; what it stands for is under the lock.
        self.due_at.load(Relaxed) <= published
    }

    fn change<R>(&self, change: impl FnOnce(&mut Entries) -> R) -> R {
        let mut entries = self.entries.lock();
        let answer = change(&mut entries);
        self.due_at.store(entries.nearest(), Relaxed);
        answer
    }

    /// Those that are due, and those that always are. They stay due: others may publish just now, whose
    /// items are counted already and not to be seen yet. They look again.
    fn due(&self, published: u64) -> (Vec<Timed>, Always) {
        self.change(|entries| {
            let due = put_off_due(&mut entries.timed, published, published);
            (due, Arc::clone(&entries.always))
        })
    }

    fn take_all(&self) -> Entries {
        self.change(mem::take)
    }
}

impl Entries {
    fn nearest(&self) -> u64 {
        match self.timed.first_key_value() {
            _ if !self.always.is_empty() => AT_ONCE,
            Some((key, _)) => key.0,
            None => NEVER,
        }
    }

    fn is_empty(&self) -> bool {
        self.always.is_empty() && self.timed.is_empty()
    }

    fn add(&mut self, limit: Weak<dyn Limit>, next: Next, published: u64) {
        match next {
            Next::After(items) => self.insert(published.saturating_add(items), limit),
            Next::Always => Arc::make_mut(&mut self.always).push(limit),
            Next::Never => {}
        }
    }

    fn insert(&mut self, due_at: u64, limit: Weak<dyn Limit>) {
        self.timed.insert((due_at, address(&limit)), limit);
        if self.always.len() + self.timed.len() > self.sweep_at {
            self.sweep();
        }
    }

    fn take_always(&mut self, limit: &Weak<dyn Limit>) -> Option<Weak<dyn Limit>> {
        let at = self.always.iter().position(|other| other.ptr_eq(limit))?;
        Some(Arc::make_mut(&mut self.always).swap_remove(at))
    }

    fn sweep(&mut self) {
        Arc::make_mut(&mut self.always).retain(|limit| limit.strong_count() > 0);
        self.timed.retain(|_, limit| limit.strong_count() > 0);
        self.sweep_at = 2 * (self.always.len() + self.timed.len()) + 16;
    }

    /// Adds those of another buffer, which are to be looked at at once.
    fn add_all(&mut self, others: Entries) {
        if !others.always.is_empty() {
            Arc::make_mut(&mut self.always).extend(others.always.iter().cloned());
        }
        for limit in others.timed.into_values() {
            self.insert(AT_ONCE, limit);
        }
        let known = self.meter.take();
        self.meter = { known.filter(|meter| meter.strong_count() > 0) }.or(others.meter);
    }
}

impl Record {
    /// These are enforced with the next item: here, or where the buffer was spliced to, which is the
    /// answer.
    pub(crate) fn limit<'a>(
        self: &Arc<Self>,
        limits: impl IntoIterator<Item = &'a Arc<dyn Limit>>,
    ) -> Arc<Self> {
        self.limits().change(|entries| {
            for limit in limits {
                entries.insert(AT_ONCE, Arc::downgrade(limit));
            }
        });
        // After: a splice that we do not see here sees it (the lock orders the two).
        self.hand_limits_on().unwrap_or_else(|| Arc::clone(self))
    }

    /// The record of the buffer that this one leads to by splices.
    pub(crate) fn last(self: Arc<Self>) -> Arc<Self> {
        let mut last = self;
        while let Some((next, _)) = last.onward() {
            last = next;
        }
        last
    }

    pub(crate) fn meter<M: Any + Send + Sync>(&self) -> Option<Arc<M>> {
        let meter = self.limits().entries.lock().meter.clone()?;
        meter.upgrade()?.downcast().ok()
    }

    pub(crate) fn set_meter<M: Any + Send + Sync>(&self, meter: &Arc<M>) {
        let meter: Weak<dyn Any + Send + Sync> = Arc::downgrade(meter) as _;
        self.limits().entries.lock().meter = Some(meter);
    }

    /// Where the buffer has been spliced to another, it is that one's writer who goes on publishing.
    /// The answer is where that is, if there are any: to be enforced, since what has come together
    /// there may be too much.
    pub(super) fn hand_limits_on(&self) -> Option<Arc<Self>> {
        let (mut to, _) = self.onward()?;
        let mut limits = self.limits().take_all();
        if limits.is_empty() {
            return None;
        }
        loop {
            to.limits().change(|entries| entries.add_all(limits));
            let Some((next, _)) = to.onward() else {
                return Some(to);
            };
            limits = to.limits().take_all();
            to = next;
        }
    }

    /// Enforces the limits that are due. Runs foreign code.
    #[inline]
    pub(crate) fn enforce_limits(&self) {
        let published = self.behind(0);
        if self.limits().are_due(published) {
            self.enforce_due(published);
        }
    }

    #[cold]
    fn enforce_due(&self, published: u64) {
        let enforce = |limit: &Weak<dyn Limit>| {
            let limit = limit.upgrade();
            limit.map_or(Next::Never, |limit| limit.enforce())
        };
        let see_to_timed = |(key, limit): Timed| {
            let next = enforce(&limit);
            self.limits().change(|entries| {
                // Where it is not there others have looked too, or it has been handed on.
                if entries.timed.remove(&key).is_some() {
                    entries.add(limit, next, published);
                }
            });
        };
        let see_to = |limit: &Weak<dyn Limit>| {
            let next = enforce(limit);
            if next != Next::Always {
                self.limits().change(|entries| {
                    // As above.
                    if let Some(limit) = entries.take_always(limit) {
                        entries.add(limit, next, published);
                    }
                });
            }
        };
        let (due, always) = self.limits().due(published);
        both_even_if_one_panics(
            || for_each_even_if_one_panics(due.into_iter(), see_to_timed),
            || for_each_even_if_one_panics(always.iter(), see_to),
        );
    }
}
