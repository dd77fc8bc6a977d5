//! Watchers rebuild a state from their updates. It must always be the state as of their index:
//! nothing may be lost, duplicated or stale.
//!
//! One test takes random steps on one thread (proptest); another runs many schedules on several
//! threads.

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use event_buffer::LagLimit;
use event_buffer::publisher::{
    Begin, BoxError, Events, OverLimit, Publisher, Request, ResetReason, Resume, SnapshotAppender,
    Update, Watch, WatchError,
};
use futures::StreamExt;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::watchdog;

type Key = u8;
type Entity = u8;
/// An entity's new value; `None` removes it.
type Change = (Entity, Option<u32>);
type State = BTreeMap<(Key, Entity), u32>;

/// Every commit of the current epoch. The first `published` of them are known to the publisher.
#[derive(Default)]
struct Store {
    commits: Vec<Vec<(Key, Change)>>,
    published: usize,
}

impl Store {
    /// The index of a commit; indexes have gaps.
    fn index(commit: usize) -> u64 {
        commit as u64 * 3 + 1
    }

    /// The index of the newest commit.
    fn newest(&self) -> u64 {
        self.commits.len().checked_sub(1).map_or(0, Self::index)
    }

    /// The index of the newest published commit.
    fn last(&self) -> u64 {
        self.published.checked_sub(1).map_or(0, Self::index)
    }

    /// The index of the newest commit to a key.
    fn newest_of(&self, key: Key) -> u64 {
        let keys = BTreeSet::from([key]);
        let mut indexes = (0..self.commits.len()).map(Self::index).rev();
        let newest = indexes.find(|&index| self.touching(&keys, index - 1, index) > 0);
        newest.unwrap_or(0)
    }

    /// The number of commits to the keys with an index after `after`, up to and including `until`.
    fn touching(&self, keys: &BTreeSet<Key>, after: u64, until: u64) -> usize {
        let commits = self.commits.iter().enumerate();
        let within = commits.filter(|(n, _)| (after + 1..=until).contains(&Self::index(*n)));
        within
            .filter(|(_, commit)| commit.iter().any(|(of, _)| keys.contains(of)))
            .count()
    }

    /// The commit with this index.
    fn commit(&self, index: u64) -> &[(Key, Change)] {
        &self.commits[usize::try_from(index / 3).unwrap()]
    }

    fn state(&self, keys: &BTreeSet<Key>, index: u64) -> State {
        let mut state = State::new();
        for (n, commit) in self.commits.iter().enumerate() {
            if Self::index(n) <= index {
                for (key, change) in commit.iter().filter(|(of, _)| keys.contains(of)) {
                    apply(&mut state, *key, change);
                }
            }
        }
        state
    }

    fn publish_next(&mut self) -> Option<(u64, Vec<(Key, Change)>)> {
        let commit = self.commits.get(self.published)?.clone();
        self.published += 1;
        Some((Self::index(self.published - 1), commit))
    }
}

fn apply(state: &mut State, key: Key, (entity, value): &Change) {
    match value {
        Some(value) => state.insert((key, *entity), *value),
        None => state.remove(&(key, *entity)),
    };
}

/// What a watcher has received.
#[expect(clippy::struct_excessive_bools, reason = "each permits some updates")]
struct View {
    keys: BTreeSet<Key>,
    state: State,
    /// The parts of an incomplete snapshot, until which the previous state remains valid.
    parts: Option<State>,
    /// The index of the state, if it is the same for all keys.
    place: Option<u64>,
    /// The index of the last commit that it received.
    index: u64,
    /// It receives only even entities.
    filtered: bool,
    /// It has received nothing yet.
    is_new: bool,
    resumes: bool,
    limited: bool,
    /// One of its keys was refreshed.
    refreshed: bool,
    /// The publisher marked its progress.
    marked: bool,
    ended: bool,
}

impl View {
    fn new(keys: BTreeSet<Key>, filtered: bool) -> Self {
        Self {
            keys,
            state: State::new(),
            parts: None,
            place: None,
            index: 0,
            filtered,
            is_new: true,
            resumes: false,
            limited: false,
            refreshed: false,
            marked: false,
            ended: false,
        }
    }

    fn sees(&self, entity: Entity) -> bool {
        !self.filtered || entity % 2 == 0
    }

    /// `place` is the index from which a later watch can continue after this update.
    fn receive(
        &mut self,
        store: &Store,
        update: Result<Update<Key, Change>, WatchError>,
        place: Option<u64>,
    ) {
        let is_new = std::mem::replace(&mut self.is_new, false);
        let begins = matches!(update, Ok(Update::Begin(_)));
        assert!(
            begins || !is_new || update.is_err(),
            "the first update is `Begin`"
        );
        match update {
            Ok(Update::Begin(Begin::Resumed)) => {
                assert!(is_new && self.resumes);
                assert_eq!(place, self.place);
            }
            Ok(Update::Begin(begin)) => {
                match begin {
                    Begin::Fresh => assert!(is_new && !self.resumes),
                    Begin::Reset(ResetReason::TooOld | ResetReason::Ahead) => {
                        assert!(is_new && self.resumes);
                    }
                    Begin::Reset(ResetReason::Refreshed) => {
                        assert!(self.refreshed || is_new && self.resumes);
                    }
                    Begin::Reset(ResetReason::Lagged) => assert!(self.limited),
                    other => panic!("{other:?}"),
                }
                self.parts = Some(State::new());
                assert_eq!(place, None);
            }
            Ok(Update::Snapshot(part)) => {
                let mut parts = self.parts.take().expect("within a snapshot");
                for (key, change) in part.with_keys() {
                    assert!(self.keys.contains(key) && self.sees(change.0));
                    apply(&mut parts, *key, change);
                }
                self.parts = Some(parts);
                assert_eq!((part.index(), place), (None, None));
            }
            Ok(Update::EndOfSnapshot { index }) => {
                self.state = self.parts.take().expect("a snapshot ends once");
                (self.index, self.place) = (index, None);
                self.advance(store, place);
            }
            Ok(Update::Events(commit)) => {
                let index = commit.index().expect("commits have an index");
                self.step(store, index);
                self.apply(store, &commit);
                self.advance(store, place);
            }
            Ok(Update::Progress { index }) => {
                if !self.marked {
                    self.step(store, index);
                }
                assert!(self.index <= index);
                self.index = index;
                self.advance(store, place);
            }
            Ok(Update::Completed(key)) => panic!("{key} is not complete"),
            Err(_) => self.ended = true,
        }
    }

    /// Receives a commit, which must be the next one that touches its keys.
    fn step(&mut self, store: &Store, index: u64) {
        assert!(self.parts.is_none(), "no commit within a snapshot");
        assert!(self.index < index, "{index} after {}", self.index);
        if let Some(before) = self.place {
            let commits = store.touching(&self.keys, before, index);
            assert_eq!(commits, 1, "commits from {before} to {index}");
        }
        self.index = index;
    }

    fn apply(&mut self, store: &Store, events: &Events<Key, Change>) {
        let commit = store.commit(self.index).iter();
        let all: Vec<_> = { commit.filter(|(key, _)| self.keys.contains(key)) }
            .filter(|(_, change)| self.sees(change.0))
            .map(|(key, change)| (key, change))
            .collect();
        let seen: Vec<_> = events.with_keys().collect();
        if self.place.is_some() {
            assert_eq!(seen, all, "a commit arrives whole and in order");
        } else {
            // Events that are part of a snapshot are omitted.
            let mut all = all.iter();
            assert!(seen.iter().all(|event| all.any(|other| other == event)));
        }
        for (key, change) in seen {
            apply(&mut self.state, *key, change);
        }
    }

    /// Checks that the state is the store's at the place.
    fn advance(&mut self, store: &Store, place: Option<u64>) {
        assert!(place.is_none_or(|place| place >= self.index));
        assert!(
            place.is_some() || self.keys.len() > 1,
            "a single key has one index"
        );
        self.place = place;
        if let Some(place) = place {
            let mut state = store.state(&self.keys, place);
            state.retain(|(_, entity), _| self.sees(*entity));
            assert_eq!(self.state, state, "keys {:?} as of {place}", self.keys);
        }
    }

    /// Checks that no update is missing.
    fn check_complete(&self, store: &Store) {
        if !self.ended {
            let place = self.place.expect("the snapshot is complete");
            let missed = store.touching(&self.keys, place, u64::MAX - 1);
            assert_eq!(missed, 0, "not received");
        }
    }
}

/// The behaviour of a snapshot handler.
#[derive(Clone, Copy, Debug)]
struct Behaviour {
    /// How often it yields before it reads the store, and before each part.
    waits: usize,
    /// The number of entities in a part.
    part: usize,
    fails: bool,
    /// Whether it returns the index of the newest commit to its key, not of the newest commit.
    own: bool,
}

async fn wait(times: usize) {
    for _ in 0..times {
        let mut waited = false;
        poll_fn(|cx| {
            cx.waker().wake_by_ref();
            if std::mem::replace(&mut waited, true) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

fn handler(
    store: Arc<Mutex<Store>>,
    behaviour: impl Fn() -> Behaviour + Send + Sync,
) -> impl Fn(Key, SnapshotAppender<Change>) -> BoxedSnapshot + Send + Sync {
    move |key, snapshot| {
        let (store, behaviour) = (Arc::clone(&store), behaviour());
        Box::pin(async move {
            wait(behaviour.waits).await;
            let (index, state) = {
                let store = store.lock().unwrap();
                let newest = store.newest();
                let index = if behaviour.own {
                    store.newest_of(key)
                } else {
                    newest
                };
                (index, store.state(&BTreeSet::from([key]), newest))
            };
            let changes: Vec<Change> = { state.into_iter() }
                .map(|((_, entity), value)| (entity, Some(value)))
                .collect();
            for part in changes.chunks(behaviour.part.max(1)) {
                wait(behaviour.waits).await;
                snapshot.append(part.iter().copied())?;
            }
            if behaviour.fails {
                return Err("as planned".into());
            }
            Ok(index)
        })
    }
}

type BoxedSnapshot = std::pin::Pin<Box<dyn Future<Output = Result<u64, BoxError>> + Send>>;

#[derive(Clone, Debug)]
enum Step {
    /// Commits to the store; publishing comes later.
    Commit(Vec<(Key, Change)>),
    Publish(usize),
    /// Watches these keys: whether filtered, the token, and a limit.
    Subscribe(BTreeSet<Key>, bool, u8, Option<u64>),
    /// Polls a watch this many times.
    Poll(usize, usize),
    Drop(usize),
    /// Resumes with the state and the resume point of a watch that was dropped.
    Resume(usize),
    /// How often handlers yield, how large their parts are, and whether they fail.
    Behaviour(usize, usize, bool),
    Mark,
    Refresh(Key),
    Forget(Key),
    CloseToken(u8),
    CloseKey(Key),
    CloseAll,
    Reset,
    /// Starts a publisher in the same epoch, without knowledge of earlier commits.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0..3_u8;
    let keys = || proptest::collection::btree_set(key(), 1..4);
    let change = (0..6_u8, proptest::option::weighted(0.8, 0..100_u32));
    let limit = || proptest::option::weighted(0.2, 1..6_u64);
    prop_oneof![
        8 => vec((key(), change), 0..4).prop_map(Step::Commit),
        8 => (1..4_usize).prop_map(Step::Publish),
        4 => (keys(), any::<bool>(), 0..2_u8, limit())
            .prop_map(|(keys, filtered, token, limit)| {
                Step::Subscribe(keys, filtered, token, limit)
            }),
        16 => (0..16_usize, 1..12_usize).prop_map(|(w, n)| Step::Poll(w, n)),
        2 => (0..16_usize).prop_map(Step::Drop),
        3 => (0..16_usize).prop_map(Step::Resume),
        2 => (0..4_usize, 1..4_usize, proptest::bool::weighted(0.2))
            .prop_map(|(waits, part, fails)| Step::Behaviour(waits, part, fails)),
        2 => Just(Step::Mark),
        1 => key().prop_map(Step::Refresh),
        1 => key().prop_map(Step::Forget),
        1 => (0..2_u8).prop_map(Step::CloseToken),
        1 => key().prop_map(Step::CloseKey),
        1 => Just(Step::CloseAll),
        1 => Just(Step::Reset),
        3 => Just(Step::Restart),
    ]
}

struct World {
    store: Arc<Mutex<Store>>,
    behaviour: Arc<Mutex<Behaviour>>,
    history: usize,
    ttl: Duration,
    publisher: Publisher<Key, Change>,
    epoch: u64,
    /// A progress mark also applies to later watches that have not reached its index.
    marked: bool,
    watches: Vec<(Watch<Key, Change>, View)>,
    /// The views of dropped watches, with resume points of the current epoch.
    left: Vec<(Resume, View)>,
}

impl World {
    fn new(history: usize, ttl: Duration, own: bool) -> Self {
        let store = Arc::new(Mutex::new(Store::default()));
        let behaviour = Behaviour {
            waits: 0,
            part: 2,
            fails: false,
            own,
        };
        let mut world = Self {
            store,
            behaviour: Arc::new(Mutex::new(behaviour)),
            history,
            ttl,
            publisher: Publisher::builder().build(),
            epoch: 0,
            marked: false,
            watches: Vec::new(),
            left: Vec::new(),
        };
        world.start();
        world
    }

    fn start(&mut self) {
        self.marked = false;
        let how = Arc::clone(&self.behaviour);
        let handler = handler(Arc::clone(&self.store), move || *how.lock().unwrap());
        self.publisher = Publisher::builder()
            .history(self.history)
            .snapshot_ttl(self.ttl)
            .epoch(self.epoch)
            .start_at(self.store.lock().unwrap().last())
            .snapshot(handler)
            .build();
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Commit(commit) => self.store.lock().unwrap().commits.push(commit),
            Step::Publish(commits) => (0..commits).for_each(|_| self.publish()),
            Step::Subscribe(keys, filtered, token, limit) => {
                self.subscribe(View::new(keys, filtered), None, token, limit);
            }
            Step::Poll(which, times) if !self.watches.is_empty() => {
                let which = which % self.watches.len();
                for _ in 0..times {
                    self.poll(which);
                }
            }
            Step::Drop(which) if !self.watches.is_empty() => {
                let watch = self.watches.swap_remove(which % self.watches.len());
                self.leave(watch);
            }
            Step::Resume(which) if !self.left.is_empty() => {
                let (point, view) = self.left.swap_remove(which % self.left.len());
                let view = View {
                    is_new: true,
                    resumes: true,
                    refreshed: false,
                    ended: false,
                    ..view
                };
                self.subscribe(view, Some(point), 0, None);
            }
            Step::Poll(..) | Step::Drop(_) | Step::Resume(_) => {}
            Step::Behaviour(waits, part, fails) => {
                let mut behaviour = self.behaviour.lock().unwrap();
                *behaviour = Behaviour {
                    waits,
                    part,
                    fails,
                    ..*behaviour
                };
            }
            Step::Mark => {
                self.publisher.mark_progress();
                self.marked = true;
                self.watches
                    .iter_mut()
                    .for_each(|(_, view)| view.marked = true);
            }
            Step::Refresh(key) => {
                self.publisher.refresh(&key);
                for (_, view) in &mut self.watches {
                    view.refreshed |= view.keys.contains(&key);
                }
            }
            Step::Forget(key) => self.publisher.forget(&key),
            Step::CloseToken(token) => self.publisher.close_token(token.to_string()),
            Step::CloseKey(key) => self.publisher.close_key(&key),
            Step::CloseAll => self.publisher.close_all(),
            Step::Reset => {
                self.epoch += 1;
                *self.store.lock().unwrap() = Store::default();
                self.publisher.reset(self.epoch);
                self.marked = false;
                self.left.clear();
            }
            Step::Restart => {
                for watch in std::mem::take(&mut self.watches) {
                    self.leave(watch);
                }
                self.start();
            }
        }
        let open = self.watches.iter().filter(|(_, view)| !view.ended).count();
        let stats = self.publisher.stats();
        assert!(stats.subscriptions <= open);
        assert!(stats.retained_items <= self.history);
        let over = stats.snapshots_finished + stats.snapshots_failed + stats.snapshots_given_up;
        assert_eq!(
            stats.snapshots_begun,
            over + stats.snapshots_in_flight as u64
        );
    }

    fn leave(&mut self, (watch, mut view): (Watch<Key, Change>, View)) {
        let point = watch.resume_point();
        if let Some(point) = point.filter(|point| point.epoch == self.epoch) {
            assert_eq!(Some(point.index), view.place);
            view.parts = None;
            view.limited = false;
            self.left.push((point, view));
        }
    }

    fn publish(&mut self) {
        let next = self.store.lock().unwrap().publish_next();
        if let Some((index, commit)) = next {
            self.publisher.publish(index, commit).unwrap();
        }
    }

    fn subscribe(&mut self, mut view: View, after: Option<Resume>, token: u8, limit: Option<u64>) {
        let keys = view.keys.iter().copied();
        let mut request = Request::keys(keys).after(after).token(token.to_string());
        if view.filtered {
            request = request.filter(|(entity, _): &Change| entity % 2 == 0);
        }
        if let Some(limit) = limit {
            request = request.limit(LagLimit::items(limit), OverLimit::Reset);
            view.limited = true;
        }
        view.marked = self.marked;
        self.watches.push((self.publisher.subscribe(request), view));
    }

    fn poll(&mut self, which: usize) {
        let (watch, view) = &mut self.watches[which];
        let update = watch.poll_next_unpin(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(Some(update)) = update {
            let place = watch.resume_point().map(|point| point.index);
            view.receive(&self.store.lock().unwrap(), update, place);
        }
    }

    fn finish(mut self) {
        let commits = self.store.lock().unwrap().commits.len();
        (0..commits).for_each(|_| self.publish());
        for which in 0..self.watches.len() {
            // More polls than any handler yields and any watch has updates.
            (0..1_000).for_each(|_| self.poll(which));
            // All remaining commits were part of the snapshots of a watch of several keys.
            if self.watches[which].1.place.is_none() {
                self.step(Step::Mark);
                (0..10).for_each(|_| self.poll(which));
            }
            self.watches[which]
                .1
                .check_complete(&self.store.lock().unwrap());
        }
        drop(self.watches);
    }
}

proptest! {
    #![proptest_config(crate::cases(2048))]

    #[test]
    fn every_view_is_the_state_as_of_its_index(
        history in prop_oneof![Just(0), 1..6_usize, Just(usize::MAX)],
        ttl in prop_oneof![Just(0), Just(1), Just(u64::MAX / 4)].prop_map(Duration::from_nanos),
        own in any::<bool>(),
        steps in vec(step(), 0..150),
    ) {
        let _watchdog = watchdog();
        let mut world = World::new(history, ttl, own);
        for step in steps {
            world.step(step);
        }
        world.finish();
    }
}

/// Watchers and a producer run as tasks on several threads, in many schedules.
#[test]
fn every_view_is_the_state_as_of_its_index_in_ten_thousand_schedules() {
    const SCHEDULES: u64 = 10_000;
    const COMMITS: usize = 8;

    fn random(seed: &mut u64, below: u8) -> u8 {
        *seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        u8::try_from((*seed >> 33) % u64::from(below)).unwrap()
    }

    async fn jitter(seed: &mut u64) {
        for _ in 0..random(seed, 4) {
            tokio::task::yield_now().await;
        }
    }

    async fn watch(publisher: Publisher<Key, Change>, store: Arc<Mutex<Store>>, mut seed: u64) {
        let keys = match random(&mut seed, 3) {
            2 => BTreeSet::from([0, 1]),
            key => BTreeSet::from([key]),
        };
        let filtered = random(&mut seed, 4) == 0;
        let mut view = View::new(keys, filtered);
        let mut resume = None;
        // Until it has received the last commit, which touches all keys.
        while view.index != Store::index(COMMITS) {
            let mut request = Request::keys(view.keys.iter().copied()).after(resume);
            if filtered {
                request = request.filter(|(entity, _): &Change| entity % 2 == 0);
            }
            jitter(&mut seed).await;
            let mut watch = publisher.subscribe(request);
            (view.is_new, view.resumes, view.parts) = (true, resume.is_some(), None);
            for _ in 0..=random(&mut seed, 12) {
                jitter(&mut seed).await;
                let Some(update) = watch.next().await else {
                    panic!("ended")
                };
                let place = watch.resume_point();
                let index = place.map(|place| place.index);
                view.receive(&store.lock().unwrap(), update, index);
                if view.parts.is_none() && view.index == Store::index(COMMITS) {
                    return;
                }
                // The previous state remains valid until the snapshot is complete.
                if view.parts.is_none() {
                    resume = place;
                }
            }
            // Disconnect and resume; without a resume point, start anew.
            if resume.is_none() {
                view = View::new(view.keys, filtered);
            }
        }
    }

    let _watchdog = watchdog();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .build()
        .unwrap();
    for schedule in 0..SCHEDULES {
        let mut seed = schedule.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let store = Arc::new(Mutex::new(Store::default()));
        let behaviour = Behaviour {
            waits: random(&mut seed, 3).into(),
            part: 2,
            fails: false,
            own: false,
        };
        let publisher = Publisher::builder()
            .history(random(&mut seed, 5).into())
            .snapshot_ttl(Duration::from_secs(random(&mut seed, 2).into()))
            .snapshot(handler(Arc::clone(&store), move || behaviour))
            .build();
        runtime.block_on(async {
            let watches: Vec<_> = (0..3)
                .map(|n| {
                    let seed = seed.wrapping_add(n);
                    tokio::spawn(watch(publisher.clone(), Arc::clone(&store), seed))
                })
                .collect();
            for n in 0..=COMMITS {
                let change = |seed: &mut u64| {
                    let value = (random(seed, 4) > 0).then(|| u32::try_from(n).unwrap());
                    (random(seed, 6), value)
                };
                let mut commit = vec![(random(&mut seed, 2), change(&mut seed))];
                if n == COMMITS {
                    commit = vec![(0, change(&mut seed)), (1, change(&mut seed))];
                }
                store.lock().unwrap().commits.push(commit);
                jitter(&mut seed).await;
                let next = store.lock().unwrap().publish_next();
                let (index, commit) = next.expect("just committed");
                publisher.publish(index, commit).unwrap();
                jitter(&mut seed).await;
            }
            for watch in watches {
                watch.await.unwrap();
            }
        });
        assert_eq!(publisher.stats().subscriptions, 0);
    }
}
