//! Watchers rebuild a state from what they receive. Whatever happens meanwhile, it must be the
//! state as of their index: nothing lost, nothing doubled, nothing older.
//!
//! Once by random steps on one thread (proptest), once by many schedules on several threads.
#![cfg(all(not(loom), feature = "publisher"))]

mod support;

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use event_buffer::Replay;
use event_buffer::publisher::{
    BoxError, Events, Publisher, Request, ResetReason, Resume, SnapshotAppender, Update, Watch,
    WatchError,
};
use futures::StreamExt;
use proptest::collection::vec;
use proptest::prelude::*;
use support::watchdog;

type Key = u8;
type Entity = u8;
/// An entity's new value; `None` removes it.
type Change = (Entity, Option<u32>);
type State = BTreeMap<Entity, u32>;

/// The truth: every commit of the present epoch, of which the publisher may know only the first.
#[derive(Default)]
struct Store {
    commits: Vec<Vec<(Key, Change)>>,
    published: usize,
}

impl Store {
    /// Indexes leave gaps.
    fn index(commit: usize) -> u64 {
        commit as u64 * 3 + 1
    }

    /// The index that all commits have been made up to.
    fn newest(&self) -> u64 {
        self.commits.len().checked_sub(1).map_or(0, Self::index)
    }

    /// The index that the commits of one key have been made up to.
    fn newest_of(&self, key: Key) -> u64 {
        let mut indexes = (0..self.commits.len()).map(Self::index).rev();
        let newest = indexes.find(|&index| self.touching(key, index - 1, index) > 0);
        newest.unwrap_or(0)
    }

    /// Commits of the key with an index in the range, exclusive and inclusive.
    fn touching(&self, key: Key, after: u64, until: u64) -> usize {
        let commits = self.commits.iter().enumerate();
        let within = commits.filter(|(n, _)| (after + 1..=until).contains(&Self::index(*n)));
        within
            .filter(|(_, commit)| commit.iter().any(|(of, _)| *of == key))
            .count()
    }

    fn state(&self, key: Key, index: u64) -> State {
        let mut state = State::new();
        for (n, commit) in self.commits.iter().enumerate() {
            if Self::index(n) <= index {
                for (_, change) in commit.iter().filter(|(of, _)| *of == key) {
                    apply(&mut state, change);
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

fn apply(state: &mut State, (entity, value): &Change) {
    match value {
        Some(value) => state.insert(*entity, *value),
        None => state.remove(entity),
    };
}

/// What a watcher knows.
struct View {
    key: Key,
    state: State,
    /// `None` within a snapshot.
    index: Option<u64>,
    /// Only of even entities.
    filtered: bool,
    /// It has resumed, and received nothing yet.
    may_reset: bool,
    /// What it had when it was reset: it is not given anything older.
    had: u64,
    ended: bool,
}

impl View {
    fn sees(&self, entity: Entity) -> bool {
        !self.filtered || entity % 2 == 0
    }

    fn receive(&mut self, store: &Store, update: Result<Update<Change>, WatchError>) {
        match update {
            Ok(Update::Reset(reason)) => {
                assert!(self.may_reset, "{reason:?}");
                assert_ne!(reason, ResetReason::OtherEpoch, "resumes are of this epoch");
                self.state.clear();
                self.had = self.index.take().expect("resumed");
            }
            Ok(Update::Snapshot(part)) => {
                assert_eq!(self.index, None, "a part of a snapshot after its end");
                self.apply(&part);
            }
            Ok(Update::EndOfSnapshot { index }) => {
                assert_eq!(self.index.replace(index), None, "a snapshot ends once");
                assert!(index >= self.had, "{index} after {}", self.had);
                self.check(store);
            }
            Ok(Update::Events(commit)) => {
                self.advance(store, commit.index());
                self.apply(&commit);
                self.check(store);
            }
            Ok(Update::Progress { index }) => {
                self.advance(store, index);
                self.check(store);
            }
            Err(_) => self.ended = true,
        }
        self.may_reset = false;
    }

    fn apply(&mut self, events: &Events<Change>) {
        for change in events {
            assert!(self.sees(change.0));
            apply(&mut self.state, change);
        }
    }

    fn advance(&mut self, store: &Store, index: u64) {
        let before = self
            .index
            .replace(index)
            .expect("no commit within a snapshot");
        assert!(before < index, "{index} after {before}");
        let commits = store.touching(self.key, before, index);
        assert_eq!(commits, 1, "commits from {before} to {index}");
    }

    fn check(&self, store: &Store) {
        let index = self.index.expect("known");
        let mut state = store.state(self.key, index);
        state.retain(|entity, _| self.sees(*entity));
        assert_eq!(self.state, state, "key {} as of {index}", self.key);
    }

    /// Nothing is to come any more.
    fn check_complete(&self, store: &Store) {
        if !self.ended {
            let index = self.index.expect("the snapshot is complete");
            assert_eq!(
                store.touching(self.key, index, u64::MAX - 1),
                0,
                "not received"
            );
        }
    }
}

/// How a snapshot handler behaves.
#[derive(Clone, Copy, Debug)]
struct Manner {
    /// How often it waits before it looks, and before each part.
    waits: usize,
    /// How many entities make a part.
    part: usize,
    fails: bool,
    /// Whether it says the index of the newest commit of its key, rather than of all.
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
    manner: impl Fn() -> Manner + Send + Sync,
) -> impl Fn(Key, SnapshotAppender<Change>) -> BoxedAnswer + Send + Sync {
    move |key, snapshot| {
        let (store, manner) = (Arc::clone(&store), manner());
        Box::pin(async move {
            wait(manner.waits).await;
            let (index, state) = {
                let store = store.lock().unwrap();
                let newest = store.newest();
                let index = if manner.own {
                    store.newest_of(key)
                } else {
                    newest
                };
                (index, store.state(key, newest))
            };
            let changes: Vec<Change> = state.into_iter().map(|(e, v)| (e, Some(v))).collect();
            for part in changes.chunks(manner.part.max(1)) {
                wait(manner.waits).await;
                snapshot.append(part.iter().copied())?;
            }
            if manner.fails {
                return Err("as planned".into());
            }
            Ok(index)
        })
    }
}

type BoxedAnswer = std::pin::Pin<Box<dyn Future<Output = Result<u64, BoxError>> + Send>>;

#[derive(Clone, Debug)]
enum Step {
    /// Commits to the store; publishing comes later.
    Commit(Vec<(Key, Change)>),
    Publish(usize),
    Subscribe(Key, bool, u8),
    /// Of a watch, so many times.
    Poll(usize, usize),
    Drop(usize),
    /// With the state and the resume point of a watch that was dropped.
    Resume(usize),
    /// How often the handler waits, how large its parts are, and whether it fails.
    Manner(usize, usize, bool),
    CloseToken(u8),
    CloseKey(Key),
    CloseAll,
    Reset,
    /// In the same epoch, but of what was published before the publisher knows nothing.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0..3_u8;
    let change = (0..6_u8, proptest::option::weighted(0.8, 0..100_u32));
    prop_oneof![
        8 => vec((key(), change), 0..4).prop_map(Step::Commit),
        8 => (1..4_usize).prop_map(Step::Publish),
        4 => (key(), any::<bool>(), 0..2_u8).prop_map(|(k, f, t)| Step::Subscribe(k, f, t)),
        16 => (0..16_usize, 1..12_usize).prop_map(|(w, n)| Step::Poll(w, n)),
        2 => (0..16_usize).prop_map(Step::Drop),
        3 => (0..16_usize).prop_map(Step::Resume),
        2 => (0..4_usize, 1..4_usize, proptest::bool::weighted(0.2))
            .prop_map(|(waits, part, fails)| Step::Manner(waits, part, fails)),
        1 => (0..2_u8).prop_map(Step::CloseToken),
        1 => key().prop_map(Step::CloseKey),
        1 => Just(Step::CloseAll),
        1 => Just(Step::Reset),
        3 => Just(Step::Restart),
    ]
}

struct World {
    store: Arc<Mutex<Store>>,
    manner: Arc<Mutex<Manner>>,
    replay: Replay,
    ttl: Duration,
    publisher: Publisher<Key, Change>,
    epoch: u64,
    watches: Vec<(Watch<Key, Change>, View)>,
    /// Of the present epoch.
    left: Vec<(Resume, View)>,
}

impl World {
    fn new(replay: Replay, ttl: Duration, own: bool) -> Self {
        let store = Arc::new(Mutex::new(Store::default()));
        let manner = Manner {
            waits: 0,
            part: 2,
            fails: false,
            own,
        };
        let mut world = Self {
            store,
            manner: Arc::new(Mutex::new(manner)),
            replay,
            ttl,
            publisher: Publisher::builder().build(),
            epoch: 0,
            watches: Vec::new(),
            left: Vec::new(),
        };
        world.start();
        world
    }

    fn start(&mut self) {
        let how = Arc::clone(&self.manner);
        let handler = handler(Arc::clone(&self.store), move || *how.lock().unwrap());
        self.publisher = Publisher::builder()
            .replay(self.replay)
            .snapshot_ttl(self.ttl)
            .epoch(self.epoch)
            .snapshot(handler)
            .build();
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Commit(commit) => self.store.lock().unwrap().commits.push(commit),
            Step::Publish(commits) => (0..commits).for_each(|_| self.publish()),
            Step::Subscribe(key, filtered, token) => {
                let view = View {
                    key,
                    state: State::new(),
                    index: None,
                    filtered,
                    may_reset: false,
                    had: 0,
                    ended: false,
                };
                self.subscribe(view, None, token);
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
                    may_reset: true,
                    ended: false,
                    ..view
                };
                self.subscribe(view, Some(point), 0);
            }
            Step::Poll(..) | Step::Drop(_) | Step::Resume(_) => {}
            Step::Manner(waits, part, fails) => {
                let mut manner = self.manner.lock().unwrap();
                *manner = Manner {
                    waits,
                    part,
                    fails,
                    ..*manner
                };
            }
            Step::CloseToken(token) => self.publisher.close_token(token.to_string()),
            Step::CloseKey(key) => self.publisher.close_key(&key),
            Step::CloseAll => self.publisher.close_all(),
            Step::Reset => {
                self.epoch += 1;
                *self.store.lock().unwrap() = Store::default();
                self.publisher.reset(self.epoch);
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
        assert!(self.publisher.stats().subscriptions <= open);
    }

    fn leave(&mut self, (watch, view): (Watch<Key, Change>, View)) {
        let point = watch.resume_point();
        if let Some(point) = point.filter(|point| point.epoch == self.epoch) {
            assert_eq!(Some(point.index), view.index);
            self.left.push((point, view));
        }
    }

    fn publish(&mut self) {
        let next = self.store.lock().unwrap().publish_next();
        if let Some((index, commit)) = next {
            self.publisher.publish(index, commit).unwrap();
        }
    }

    fn subscribe(&mut self, view: View, after: Option<Resume>, token: u8) {
        let mut request = Request::new(view.key).after(after).token(token.to_string());
        if view.filtered {
            request = request.filter(|(entity, _): &Change| entity % 2 == 0);
        }
        self.watches.push((self.publisher.subscribe(request), view));
    }

    fn poll(&mut self, which: usize) {
        let (watch, view) = &mut self.watches[which];
        let update = watch.poll_next_unpin(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(Some(update)) = update {
            view.receive(&self.store.lock().unwrap(), update);
        }
    }

    fn finish(mut self) {
        let commits = self.store.lock().unwrap().commits.len();
        (0..commits).for_each(|_| self.publish());
        for which in 0..self.watches.len() {
            // More than any handler waits and any watch has to receive.
            (0..1_000).for_each(|_| self.poll(which));
            self.watches[which]
                .1
                .check_complete(&self.store.lock().unwrap());
        }
        drop(self.watches);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_view_is_the_state_as_of_its_index(
        replay in prop_oneof![Just(Replay::None), (1..5_usize).prop_map(Replay::Last), Just(Replay::All)],
        ttl in prop_oneof![Just(0), Just(1), Just(u64::MAX / 4)].prop_map(Duration::from_nanos),
        own in any::<bool>(),
        steps in vec(step(), 0..150),
    ) {
        let _watchdog = watchdog();
        let mut world = World::new(replay, ttl, own);
        for step in steps {
            world.step(step);
        }
        world.finish();
    }
}

/// The same with watchers and producer on tasks of several threads, in many schedules.
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
        let mut view = View {
            key: random(&mut seed, 2),
            state: State::new(),
            index: None,
            filtered: random(&mut seed, 4) == 0,
            may_reset: false,
            had: 0,
            ended: false,
        };
        let mut resume = None;
        let filtered = view.filtered;
        // Until it has seen the last commit, which touches all keys.
        while view.index != Some(Store::index(COMMITS)) {
            let mut request = Request::new(view.key).after(resume);
            if filtered {
                request = request.filter(|(entity, _): &Change| entity % 2 == 0);
            }
            jitter(&mut seed).await;
            let mut watch = publisher.subscribe(request);
            view.may_reset = resume.is_some();
            if resume.is_none() {
                view.state.clear();
                view.index = None;
            }
            for _ in 0..=random(&mut seed, 12) {
                jitter(&mut seed).await;
                let Some(update) = watch.next().await else {
                    panic!("ended")
                };
                view.receive(&store.lock().unwrap(), update);
                if view.index == Some(Store::index(COMMITS)) {
                    return;
                }
            }
            // Off, and on from there; within a snapshot there is nowhere to go on from.
            resume = watch.resume_point();
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
        let manner = Manner {
            waits: random(&mut seed, 3).into(),
            part: 2,
            fails: false,
            own: false,
        };
        let publisher = Publisher::builder()
            .replay(Replay::Last(random(&mut seed, 5).into()))
            .snapshot_ttl(Duration::from_secs(random(&mut seed, 2).into()))
            .snapshot(handler(Arc::clone(&store), move || manner))
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
