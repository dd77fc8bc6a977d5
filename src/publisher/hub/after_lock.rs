//! What runs after the lock (invariant 1): first wake, then drop, then report.

use std::collections::HashMap;
use std::sync::Arc;

use slab::Slab;

use super::once::Once;
use super::topic::{Build, Kept, Live, Retained, Topic};
use super::watches::{Registered, Watches};
use crate::publisher::report::error::SnapshotGivenUp;
use crate::publisher::report::trace::Notes;
use crate::publisher::snapshot::parts::Piece;
use crate::publisher::watch::commit::Entry;
use crate::publisher::watch::control::{Control, Ordered};
use crate::read::position::Position;
use crate::sync::TrackedArc;
use crate::unwind::{Panic, Steps, for_each_even_if_one_panics};
use crate::write::deferred::Deferred;

/// What a call has found to do under the lock, and does after it, when this is dropped.
///
/// All of it runs user code: wakers, destructors, `tracing` subscribers. All tasks are woken before
/// anything is dropped, since destructors may take long, and even if a waker panics. Reports come
/// last, so that nothing waits for a subscriber.
pub(super) struct AfterLock<K, T> {
    /// The chain that a commit was linked into. Most commits touch only one, so it is kept without
    /// an allocation, like `entry`.
    chain: Option<Deferred<Entry<K, T>>>,
    pub(super) wakeups: Vec<WakeUp<K, T>>,
    entry: Option<Retained<K, T>>,
    pub(super) removed: Vec<Removed<K, T>>,
    pub(super) notes: Notes,
}

/// Something that wakes tasks, and then drops what it has.
pub(super) enum WakeUp<K, T> {
    /// The readers of a chain.
    Chain(Deferred<Entry<K, T>>),
    /// A watch of several keys.
    Watch(Arc<Control>),
    /// A watch that was closed or reset.
    Ordered(Ordered),
    /// The watches that wait for a snapshot, which was given up.
    GivenUp(GivenUp<K, T>),
    /// The tasks that wait until a key has a watch.
    Arrival(K, TrackedArc<Once>),
    /// The tasks that wait until an index is published.
    Milestone(TrackedArc<Once>),
    /// The readers of all chains, which end.
    Topics(Slab<Topic<K, T>>),
    /// All watches.
    Watches(Watches<K>),
}

/// Something that was removed, and is only dropped.
#[expect(dead_code, reason = "only dropped")]
pub(super) enum Removed<K, T> {
    Key(K),
    Topic(Topic<K, T>),
    Live(Box<Live<K, T>>),
    Entry(Retained<K, T>),
    Kept(Kept<K, T>),
    /// The first part of a snapshot that can no longer be joined.
    Start(Position<Piece<T>>),
    Watch(Registered<K>),
    Keys(Vec<K>),
    Topics(Slab<Topic<K, T>>),
    /// The table of the topics, if it is empty but large.
    Slots(HashMap<K, usize>),
    /// The panic of a key that was hashed or compared under the lock.
    Panic(Panic),
}

/// A snapshot that is given up. Dropping it drops the handler's future, unless that is being
/// polled.
pub(super) struct GivenUp<K, T>(pub(super) Build<K, T>);

impl<K, T> Drop for GivenUp<K, T> {
    fn drop(&mut self) {
        self.0.flight.give_up();
    }
}

impl<K, T> AfterLock<K, T> {
    #[inline]
    pub(super) fn new() -> Self {
        Self {
            chain: None,
            wakeups: Vec::new(),
            entry: None,
            removed: Vec::new(),
            notes: Notes::new(),
        }
    }

    /// Wakes the readers of a chain.
    #[inline]
    pub(super) fn wake_chain(&mut self, deferred: Deferred<Entry<K, T>>) {
        match &self.chain {
            None => self.chain = Some(deferred),
            Some(_) => self.wakeups.push(WakeUp::Chain(deferred)),
        }
    }

    /// Drops an entry that was removed from its topic.
    #[inline]
    pub(super) fn drop_entry(&mut self, own: Retained<K, T>) {
        match &self.entry {
            None => self.entry = Some(own),
            Some(_) => self.removed.push(Removed::Entry(own)),
        }
    }

    /// Gives up a snapshot that was removed from its topic.
    pub(super) fn give_up(&mut self, build: Build<K, T>) {
        // Its parts are dropped after all tasks are woken.
        self.removed.extend(build.parts.shut().map(Removed::Start));
        self.wakeups.push(WakeUp::GivenUp(GivenUp(build)));
    }

    /// Adds what is to be done after another lock.
    pub(super) fn add(&mut self, mut other: Self) {
        self.wakeups.append(&mut other.wakeups);
        self.wakeups.extend(other.chain.take().map(WakeUp::Chain));
        self.removed.append(&mut other.removed);
        self.removed.extend(other.entry.take().map(Removed::Entry));
        self.notes.append(&mut other.notes);
    }

    #[cold]
    fn wake_all(&mut self) {
        // The task of one watch may poll another one, which must be closed by then.
        for wakeup in &mut self.wakeups {
            if let WakeUp::Ordered(ordered) = wakeup {
                ordered.close_readers();
            }
        }
        let mut steps = Steps::new();
        steps.take(|| self.chain.iter().for_each(Deferred::wake));
        for wakeup in &mut self.wakeups {
            steps.take(|| wakeup.wake());
        }
        steps.finish();
    }
}

impl<K, T> Drop for AfterLock<K, T> {
    #[inline]
    fn drop(&mut self) {
        // A single chain wakes its readers when it is dropped, as the first field.
        if !self.wakeups.is_empty() {
            self.wake_all();
        }
    }
}

impl<K, T> WakeUp<K, T> {
    fn wake(&mut self) {
        match self {
            Self::Chain(deferred) => deferred.wake(),
            Self::Watch(control) => control.wake_task(),
            Self::Ordered(ordered) => ordered.wake(),
            Self::GivenUp(GivenUp(build)) => drop(build.parts.fail(SnapshotGivenUp.into())),
            Self::Arrival(_, once) | Self::Milestone(once) => once.announce(),
            Self::Topics(topics) => {
                for_each_even_if_one_panics(topics.iter_mut(), |(_, topic)| topic.end());
            }
            Self::Watches(watches) => {
                for_each_even_if_one_panics(watches.controls(), |control| control.wake_task());
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;
    use std::task::{Wake, Waker};

    use super::{AfterLock, Removed, WakeUp};
    use crate::publisher::watch::control::Control;
    use crate::sync::Mutex;

    type Log = Arc<Mutex<Vec<&'static str>>>;

    struct Task(Log, &'static str);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.lock().push(self.1);
            assert_ne!(self.1, "panics", "as planned");
        }
    }

    struct Key(Log);

    impl Drop for Key {
        fn drop(&mut self) {
            self.0.lock().push("dropped");
        }
    }

    fn to_wake(log: &Log, name: &'static str) -> WakeUp<Key, u8> {
        let control = Control::new();
        let task = Waker::from(Arc::new(Task(Arc::clone(log), name)));
        control.wait(Some(&task));
        WakeUp::Watch(control)
    }

    #[test]
    fn all_are_woken_before_anything_is_dropped_even_if_a_waker_panics() {
        let log = Log::default();
        let (mut after, mut other) = (AfterLock::new(), AfterLock::new());
        other.removed.push(Removed::Key(Key(Arc::clone(&log))));
        other.wakeups.push(to_wake(&log, "woken"));
        after.wakeups.push(to_wake(&log, "panics"));
        after.add(other);
        let run = AssertUnwindSafe(|| drop(after));
        assert!(catch_unwind(run).is_err());
        assert_eq!(*log.lock(), ["panics", "woken", "dropped"]);
    }
}
