//! The store of all commits, and the handler that makes snapshots of it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use event_buffer::publisher::{BoxError, SnapshotAppender};

use crate::event::Event;
use crate::user_code::{Spot, trip};

pub(super) type Key = u8;
pub(super) type Entity = u8;
/// An entity's new value; `None` removes it.
pub(super) type Change = (Entity, Option<u32>);
pub(super) type Commit = Vec<(Key, Change)>;
pub(super) type State = BTreeMap<Entity, u32>;

/// A published event.
pub(super) struct Payload {
    pub(super) change: Change,
    /// Tracks the copies of the payload.
    pub(super) event: Event,
}

impl Payload {
    pub(super) fn new(change: Change) -> Self {
        let event = Event::new();
        Self { change, event }
    }
}

/// Every commit of the current epoch. The first `published` of them are known to the publisher.
#[derive(Default)]
pub(super) struct Store {
    pub(super) commits: Vec<Commit>,
    pub(super) published: usize,
}

impl Store {
    /// The index of a commit; indexes have gaps.
    pub(super) fn index(commit: usize) -> u64 {
        commit as u64 * 3 + 1
    }

    /// The index of the newest commit.
    pub(super) fn newest(&self) -> u64 {
        self.commits.len().checked_sub(1).map_or(0, Self::index)
    }

    /// The number of commits to the key with an index after `after`, up to and including `until`.
    pub(super) fn touching(&self, key: Key, after: u64, until: u64) -> usize {
        let commits = self.commits.iter().enumerate();
        let within = commits.filter(|(n, _)| (after + 1..=until).contains(&Self::index(*n)));
        { within }
            .filter(|(_, commit)| commit.iter().any(|(of, _)| *of == key))
            .count()
    }

    pub(super) fn state(&self, key: Key, index: u64) -> State {
        let mut state = State::new();
        for (n, commit) in self.commits.iter().enumerate() {
            if Self::index(n) <= index {
                let changes = commit.iter().filter(|(of, _)| *of == key);
                changes.for_each(|(_, change)| apply(&mut state, change));
            }
        }
        state
    }
}

pub(super) fn apply(state: &mut State, (entity, value): &Change) {
    match value {
        Some(value) => state.insert(*entity, *value),
        None => state.remove(entity),
    };
}

/// The behaviour of a snapshot handler.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Behaviour {
    /// How often it yields before it reads the store, and before each part.
    pub(super) waits: usize,
    /// The number of entities in a part.
    pub(super) part: usize,
    pub(super) fails: bool,
}

thread_local! {
    // Thread-locals, since handlers must be `Send`.
    pub(super) static STORE: RefCell<Store> = RefCell::default();
    pub(super) static BEHAVIOUR: RefCell<Behaviour> = RefCell::default();
}

/// Yields this many times.
async fn wait(times: usize) {
    for _ in 0..times {
        let mut waited = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

type BoxedSnapshot = Pin<Box<dyn Future<Output = Result<u64, BoxError>> + Send>>;

pub(super) fn handle(key: Key, snapshot: SnapshotAppender<Payload>) -> BoxedSnapshot {
    let behaviour = BEHAVIOUR.with_borrow(|behaviour| *behaviour);
    Box::pin(async move {
        wait(behaviour.waits).await;
        let (index, state) =
            STORE.with_borrow(|store| (store.newest(), store.state(key, store.newest())));
        let changes: Vec<Change> = state.into_iter().map(|(e, v)| (e, Some(v))).collect();
        for part in changes.chunks(behaviour.part.max(1)) {
            wait(behaviour.waits).await;
            trip(Spot::Handler);
            snapshot.append(part.iter().copied().map(Payload::new))?;
        }
        if behaviour.fails {
            return Err("as planned".into());
        }
        Ok(index)
    })
}
