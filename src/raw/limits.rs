//! The limited readers of one buffer, and when to look at them next.
//!
//! A reader that may lag no more than so far must not be able to keep more than that in memory, also
//! where it is never polled again: its writer takes its place away. The writer does not look at each
//! reader with each publish, nor at the list. All that are limited stand in order of the number of
//! items after which they may be over their limit if they read nothing until then:
//!
//! ```text
//!   due_at = 4,711 ◀── the nearest            Weak<dyn Limit> ─▶ a limiter and its place
//!            [4,711: a] [5,020: b] [9,000: c]
//! ```
//!
//! Even that one number the writer compares only where it begins a [block](super::block): that is a
//! rare and slow step already, so that whoever has no limited readers pays nothing. A limit is
//! passed by the items of a block at most (or by a batch) before it is enforced. Where that will not
//! do, which is where bytes are counted, the entry is always due, and blocks are of one item then.
//!
//! What is due is looked at where readers are woken: outside of any lock. Meanwhile it stays in the
//! list, due with the next item, so that other writers look too, and that it is there if one panics.

use std::collections::BTreeMap;
use std::mem;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};

use super::record::Record;
use crate::sync::{AtomicU64, Mutex};
use crate::unwind::for_each_even_if_one_panics;

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

impl Next {
    /// When it is due.
    fn after(self, published: u64) -> Option<u64> {
        match self {
            Self::After(items) => Some(published.saturating_add(items)),
            Self::Always => Some(ALWAYS),
            Self::Never => None,
        }
    }
}

/// Of an entry that is always due.
const ALWAYS: u64 = 0;
const NEVER: u64 = u64::MAX;

pub(super) struct Limits {
    /// The number of published items at which the nearest entry is due. Written under the lock.
    due_at: AtomicU64,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    all: BTreeMap<Key, Weak<dyn Limit>>,
    /// At so many, those that are gone are taken out.
    sweep_at: usize,
}

/// When it is due, and which it is: the address, which is no other's as long as the entry is there.
type Key = (u64, usize);

fn key(due_at: u64, limit: &Weak<dyn Limit>) -> Key {
    (due_at, limit.as_ptr().cast::<()>() as usize)
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

    /// Whether they are to be looked at with every item.
    pub(super) fn are_always_due(&self) -> bool {
        // Relaxed: as above.
        self.due_at.load(Relaxed) == ALWAYS
    }

    fn add(&self, due_at: u64, limits: impl IntoIterator<Item = Weak<dyn Limit>>) {
        let mut entries = self.entries.lock();
        let limits = limits.into_iter().map(|limit| (key(due_at, &limit), limit));
        entries.all.extend(limits);
        if entries.all.len() > entries.sweep_at {
            entries.all.retain(|_, limit| limit.strong_count() > 0);
            entries.sweep_at = 2 * entries.all.len() + 16;
        }
        self.due_at.store(entries.nearest(), Relaxed);
    }

    /// Those that are due, each with its key. They stay, due with the next item.
    fn due(&self, published: u64) -> Vec<(Key, Weak<dyn Limit>)> {
        let mut entries = self.entries.lock();
        let mut due = Vec::new();
        while let Some(first) = entries.all.first_entry() {
            if first.key().0 > published {
                break;
            }
            let ((due_at, _), limit) = first.remove_entry();
            let again = if due_at == ALWAYS {
                ALWAYS
            } else {
                published + 1
            };
            due.push((key(again, &limit), limit));
        }
        entries.all.extend(due.iter().cloned());
        self.due_at.store(entries.nearest(), Relaxed);
        due
    }

    /// One that was looked at is due at another time, or never.
    fn put_off(&self, known: Key, due_at: Option<u64>) {
        let mut entries = self.entries.lock();
        // Where it is not there others have looked too, or it has been handed on.
        if let Some(limit) = entries.all.remove(&known) {
            if let Some(due_at) = due_at {
                entries.all.insert((due_at, known.1), limit);
            }
            self.due_at.store(entries.nearest(), Relaxed);
        }
    }

    fn take_all(&self) -> BTreeMap<Key, Weak<dyn Limit>> {
        let mut entries = self.entries.lock();
        self.due_at.store(NEVER, Relaxed);
        mem::take(&mut entries.all)
    }
}

impl Entries {
    fn nearest(&self) -> u64 {
        self.all.first_key_value().map_or(NEVER, |(key, _)| key.0)
    }
}

impl Record {
    /// This limit is enforced from now on: here, or where the buffer was spliced to.
    pub(super) fn limit(&self, limit: &Arc<dyn Limit>) {
        let published = self.behind(0);
        if let Some(due_at) = limit.enforce().after(published) {
            self.limits().add(due_at, [Arc::downgrade(limit)]);
            // After: a splice that we do not see here sees it (the lock orders the two).
            if let Some(last) = self.hand_limits_on() {
                last.enforce_limits();
            }
        }
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
            to.limits().add(ALWAYS, limits.into_values());
            let Some((next, _)) = to.onward() else {
                return Some(to);
            };
            limits = to.limits().take_all();
            to = next;
        }
    }

    #[inline]
    pub(super) fn are_limits_due(&self) -> bool {
        self.limits().are_due(self.behind(0))
    }

    /// Enforces the limits that are due. Runs foreign code.
    #[inline]
    pub(super) fn enforce_limits(&self) {
        let published = self.behind(0);
        if self.limits().are_due(published) {
            self.enforce_due(published);
        }
    }

    #[cold]
    fn enforce_due(&self, published: u64) {
        let due = self.limits().due(published);
        for_each_even_if_one_panics(due.into_iter(), |(key, limit)| {
            let due_at = limit
                .upgrade()
                .and_then(|limit| limit.enforce().after(published));
            self.limits().put_off(key, due_at);
        });
    }
}
