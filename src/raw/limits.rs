//! The limited readers of one buffer, and when to look at them next.
//!
//! A reader that may lag no more than so far must not be able to keep more than that in memory, also
//! where it is never polled again: its writer takes its place away. The writer does not look at each
//! reader with each publish, nor at the list. All that are limited stand in a heap, by the number of
//! items after which they may be over their limit if they read nothing until then:
//!
//! ```text
//!   due_at = 4,711 ◀── the nearest            Weak<dyn Limit> ─▶ a limiter and its place
//!   heap:  [4,711: a] [5,020: b] [9,000: c]
//! ```
//!
//! Even that one number the writer compares only where it begins a [block](super::block): that is a
//! rare and slow step already, so that whoever has no limited readers pays nothing. A limit is
//! passed by the items of a block at most (or by a batch) before it is enforced. Where that will not
//! do, which is where bytes are counted, the entry is always due, and blocks are of one item then.
//!
//! What is due is looked at where readers are woken: outside of any lock.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
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
    heap: BinaryHeap<Entry>,
    /// At so many, those that are gone are taken out.
    sweep_at: usize,
}

struct Entry {
    due_at: u64,
    limit: Weak<dyn Limit>,
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

    fn add(&self, entries: Vec<Entry>) {
        let mut all = self.entries.lock();
        all.heap.extend(entries);
        if all.heap.len() > all.sweep_at {
            all.heap.retain(|entry| entry.limit.strong_count() > 0);
            all.sweep_at = 2 * all.heap.len() + 16;
        }
        self.due_at.store(all.nearest(), Relaxed);
    }

    /// Takes out those that are due.
    fn take_due(&self, published: u64) -> Vec<Entry> {
        let mut all = self.entries.lock();
        let mut due = Vec::new();
        while let Some(entry) = all.heap.peek_mut() {
            if entry.due_at > published {
                break;
            }
            due.push(PeekMut::pop(entry));
        }
        self.due_at.store(all.nearest(), Relaxed);
        due
    }

    fn take_all(&self) -> Vec<Entry> {
        let mut all = self.entries.lock();
        self.due_at.store(NEVER, Relaxed);
        mem::take(&mut all.heap).into_vec()
    }
}

impl Entries {
    fn nearest(&self) -> u64 {
        self.heap.peek().map_or(NEVER, |entry| entry.due_at)
    }
}

impl Record {
    /// This limit is enforced from now on: here, or where the buffer was spliced to.
    pub(super) fn limit(&self, limit: &Arc<dyn Limit>) {
        let published = self.behind(0);
        if let Some(due_at) = limit.enforce().after(published) {
            let limit = Arc::downgrade(limit);
            self.add_limits(vec![Entry { due_at, limit }]);
        }
    }

    fn add_limits(&self, entries: Vec<Entry>) {
        if entries.is_empty() {
            return;
        }
        self.limits().add(entries);
        // After: a splice that we do not see here sees them (the lock orders the two).
        self.hand_limits_on();
    }

    /// Where the buffer has been spliced to another, it is that one's writer who goes on publishing.
    pub(super) fn hand_limits_on(&self) {
        let Some((mut to, _)) = self.onward() else {
            return;
        };
        let mut entries = self.limits().take_all();
        while !entries.is_empty() {
            for entry in &mut entries {
                entry.due_at = ALWAYS;
            }
            to.limits().add(mem::take(&mut entries));
            if let Some((next, _)) = to.onward() {
                entries = to.limits().take_all();
                to = next;
            }
        }
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
        /// Puts them back, also where one panicked.
        struct PutBack<'a>(&'a Record, Vec<Entry>);

        impl Drop for PutBack<'_> {
            fn drop(&mut self) {
                self.0.add_limits(mem::take(&mut self.1));
            }
        }

        let due = self.limits().take_due(published);
        let mut looked_at = PutBack(self, Vec::with_capacity(due.len()));
        for_each_even_if_one_panics(due.into_iter(), |mut entry| {
            let Some(limit) = entry.limit.upgrade() else {
                return;
            };
            // What panics is the drop of an event: the limit is kept by then.
            entry.due_at = published + 1;
            looked_at.1.push(entry);
            let next = limit.enforce().after(published);
            if let Some(entry) = looked_at.1.pop() {
                looked_at
                    .1
                    .extend(next.map(|due_at| Entry { due_at, ..entry }));
            }
        });
    }
}

/// The nearest is the greatest, as [`BinaryHeap`] has it.
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        other.due_at.cmp(&self.due_at)
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.due_at == other.due_at
    }
}

impl Eq for Entry {}
