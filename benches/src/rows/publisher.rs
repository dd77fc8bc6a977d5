//! What do topics cost, compared with a buffer for each key and a map to find it?

use std::collections::HashMap;
use std::hash::Hash;
use std::hint::black_box;
use std::iter;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use event_buffer::publisher::{Publisher, Request, Resume, Watch};
use event_buffer::{EventBuffer, Replay, Subscription};
use futures::{FutureExt, Stream, StreamExt};

use crate::bench::{Bench, Plan};
use crate::harness::{Contestant, Measured};
use crate::peer::Role;
use crate::task::{self, Flag, Task};

const SECTION: &str = "publisher";
const UNIT: &str = "ns/event";
/// The minimum that publishing under keys requires.
const BY_HAND: &str = "lock, lookup and push";
/// Commits that a publisher with a history retains.
const HISTORY: usize = 100;

/// Events published in one burst, unless there are more keys.
const BURST: u64 = 1_000;
/// The number of keys in rows that do not vary it.
const KEYS: u64 = 1_000;
/// Keys in one commit.
const COMMIT: usize = 10;
/// Events after which a buffer allocates as seldom as in the long run.
const SETTLED: u64 = 32;
/// Watches created in one burst.
const WATCHES: usize = 1_000;
/// Long enough for any run.
const TTL: Duration = Duration::from_secs(100_000);

const SNAPSHOT: &str = "snapshot of 100 parts";
const SHORT_SNAPSHOT: &str = "snapshot of one part";

pub fn run(bench: &mut Bench) {
    each_count::<u64>(bench);
    each_count::<String>(bench);
    unwatched::<u64>(bench);
    unwatched::<String>(bench);

    let scene = Scene::<u64> {
        commit: COMMIT,
        ..Scene::watched(KEYS)
    };
    row(bench, "commits of 10 of 1,000 keys (u64)", &scene);

    let scene = Scene::<u64>::watched(KEYS);
    bench.timed(
        Plan::new::<u64>(SECTION, "1,000 keys (u64), a snapshot kept", UNIT),
        scene.published.len(),
        || {
            vec![
                behind(&scene, Topics::with_snapshot_kept()),
                behind(&scene, ByHand::default()),
            ]
        },
    );

    never_seen(bench);
    woken(bench);
    hot_key(bench);
    subscribe(bench);
}

fn each_count<K: Key>(bench: &mut Bench) {
    row(
        bench,
        format!("1 key ({})", K::NAME),
        &Scene::<K>::watched(1),
    );
    row(
        bench,
        format!("1,000 keys ({})", K::NAME),
        &Scene::<K>::watched(1_000),
    );
    if !bench.quick {
        row(
            bench,
            format!("100,000 keys ({})", K::NAME),
            &Scene::<K>::watched(100_000),
        );
    }
}

fn unwatched<K: Key>(bench: &mut Bench) {
    let elsewhere = shuffled(KEYS).map(|number| K::make(KEYS + number));
    let scene = Scene::<K> {
        published: elsewhere.collect(),
        read: 0,
        ..Scene::watched(KEYS)
    };
    row(
        bench,
        format!("unwatched keys, beside 1,000 ({})", K::NAME),
        &scene,
    );
}

fn row<K: Key>(bench: &mut Bench, scenario: impl Into<String>, scene: &Scene<K>) {
    bench.timed(
        Plan::new::<u64>(SECTION, scenario, UNIT),
        scene.published.len(),
        || {
            vec![
                behind(scene, Topics::default()),
                behind(scene, WithHistory::default()),
                behind(scene, ByHand::default()),
            ]
        },
    );
}

/// A type of keys.
trait Key: Clone + Eq + Hash + Send + Sync + 'static {
    const NAME: &'static str;

    fn make(number: u64) -> Self;
}

impl Key for u64 {
    const NAME: &'static str = "u64";

    fn make(number: u64) -> Self {
        number
    }
}

impl Key for String {
    const NAME: &'static str = "String";

    fn make(number: u64) -> Self {
        format!("/devices/{number:08}/state")
    }
}

/// The numbers below `count`, in a fixed order that no cache can predict.
fn shuffled(count: u64) -> impl Iterator<Item = u64> + Clone {
    let size = count.next_power_of_two();
    // A linear congruential generator of full period: the increment is odd, and the multiplier
    // one more than a multiple of 4.
    iter::successors(Some(0), move |number| {
        Some((number * 1_664_525 + 1_013_904_223) % size)
    })
    .take(size as usize)
    .filter(move |number| *number < count)
}

/// The keys that are watched, and what happens in each round.
struct Scene<K> {
    /// The watched keys; each has one reader.
    watched: Vec<K>,
    /// The keys that are published to, in this order.
    published: Vec<K>,
    /// The number of keys in a commit.
    commit: usize,
    /// The number of events that each reader then reads.
    read: u64,
}

impl<K: Key> Scene<K> {
    /// A scene in which all keys that are published to are watched.
    fn watched(count: u64) -> Self {
        let events = BURST.max(count);
        let published = shuffled(count).cycle().take(events as usize);
        Self {
            watched: (0..count).map(K::make).collect(),
            published: published.map(K::make).collect(),
            commit: 1,
            read: events / count,
        }
    }
}

/// A way to publish under keys.
trait Way<K>: 'static {
    const NAME: &'static str;
    const ROLE: Role;

    type Reader: Stream + Unpin + 'static;

    fn follow(&mut self, key: K) -> Self::Reader;
    fn publish(&mut self, key: K, event: u64);
    fn commit(&mut self, events: impl Iterator<Item = (K, u64)>);
}

struct Topics<K> {
    publisher: Publisher<K, u64>,
    index: u64,
}

impl<K: Key> Default for Topics<K> {
    fn default() -> Self {
        let publisher = Publisher::builder().build();
        Self {
            publisher,
            index: 0,
        }
    }
}

impl<K: Key> Topics<K> {
    /// Keeps the snapshot of a key that nothing is published to.
    fn with_snapshot_kept() -> Self {
        let publisher = Publisher::builder()
            .snapshot_ttl(TTL)
            .snapshot(async |_, _| Ok(0))
            .build();
        let mut watch = publisher.subscribe(Request::new(K::make(u64::MAX)));
        // `Begin`, and the end of the snapshot.
        (0..2).for_each(|_| ready(&mut watch));
        Self {
            publisher,
            index: 0,
        }
    }
}

impl<K: Key> Way<K> for Topics<K> {
    const NAME: &'static str = "Publisher";
    const ROLE: Role = Role::Ours;

    type Reader = Watch<K, u64>;

    /// Follows a key from now on, without a snapshot, which `ByHand` does not have.
    fn follow(&mut self, key: K) -> Watch<K, u64> {
        let now = Resume {
            epoch: self.publisher.epoch(),
            index: self.index,
        };
        let mut watch = self.publisher.subscribe(Request::new(key).after(now));
        // `Begin`.
        ready(&mut watch);
        watch
    }

    #[inline]
    fn publish(&mut self, key: K, event: u64) {
        self.index += 1;
        let published = self.publisher.publish(self.index, [(key, event)]);
        published.expect("the indexes grow");
    }

    #[inline]
    fn commit(&mut self, events: impl Iterator<Item = (K, u64)>) {
        self.index += 1;
        let published = self.publisher.publish(self.index, events);
        published.expect("the indexes grow");
    }
}

/// A publisher that retains commits.
struct WithHistory<K>(Topics<K>);

impl<K: Key> Default for WithHistory<K> {
    fn default() -> Self {
        let publisher = Publisher::builder().history(HISTORY).build();
        Self(Topics {
            publisher,
            index: 0,
        })
    }
}

impl<K: Key> Way<K> for WithHistory<K> {
    const NAME: &'static str = "Publisher with a history";
    const ROLE: Role = Role::Ours;

    type Reader = Watch<K, u64>;

    fn follow(&mut self, key: K) -> Watch<K, u64> {
        self.0.follow(key)
    }

    #[inline]
    fn publish(&mut self, key: K, event: u64) {
        self.0.publish(key, event);
    }

    #[inline]
    fn commit(&mut self, events: impl Iterator<Item = (K, u64)>) {
        self.0.commit(events);
    }
}

/// The minimum that finds a key's buffer and publishes to it, without indexes.
struct ByHand<K>(Mutex<HashMap<K, EventBuffer<u64>>>);

impl<K> Default for ByHand<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Key> Way<K> for ByHand<K> {
    const NAME: &'static str = BY_HAND;
    const ROLE: Role = Role::Bound;

    type Reader = Subscription<u64>;

    fn follow(&mut self, key: K) -> Subscription<u64> {
        let buffer = || EventBuffer::builder().replay(Replay::None).build();
        self.0
            .lock()
            .unwrap()
            .entry(key)
            .or_insert_with(buffer)
            .subscribe()
    }

    #[inline]
    fn publish(&mut self, key: K, event: u64) {
        if let Some(buffer) = self.0.lock().unwrap().get_mut(&key) {
            buffer.push(event);
        }
    }

    #[inline]
    fn commit(&mut self, events: impl Iterator<Item = (K, u64)>) {
        events.for_each(|(key, event)| self.publish(key, event));
    }
}

/// The readers are always an event behind, and never wait.
fn behind<K: Key, W: Way<K>>(scene: &Scene<K>, mut way: W) -> Contestant {
    let mut readers: Vec<W::Reader> = Vec::new();
    for (number, key) in (0..).zip(&scene.watched) {
        let mut reader = way.follow(key.clone());
        // Each buffer is at a different place in its block of nodes.
        let events = SETTLED + number % SETTLED;
        (0..=events).for_each(|event| way.publish(key.clone(), event));
        (0..events).for_each(|_| ready(&mut reader));
        readers.push(reader);
    }
    let published = scene.published.clone();
    let Scene { commit, read, .. } = *scene;
    Contestant::new(W::NAME, W::ROLE, move |times| {
        let round = |_| {
            let elapsed = publish(&mut way, &published, commit);
            for reader in &mut readers {
                (0..read).for_each(|_| ready(reader));
            }
            elapsed
        };
        (0..times).map(round).sum()
    })
}

/// The time to publish to these keys, `commit` at once. Both implementations consume keys.
fn publish<K: Key, W: Way<K>>(way: &mut W, keys: &[K], commit: usize) -> Duration {
    let mut events: Vec<(K, u64)> = keys.iter().cloned().zip(0..).collect();
    let mut events = events.drain(..);
    let start = Instant::now();
    if commit == 1 {
        for (key, event) in events {
            way.publish(key, event);
        }
    } else {
        while events.len() > 0 {
            way.commit(events.by_ref().take(commit));
        }
    }
    start.elapsed()
}

/// Reads something that is ready.
fn ready(reader: &mut (impl Stream + Unpin)) {
    let next = reader.next().now_or_never().flatten();
    assert!(black_box(next).is_some(), "there is something to read");
}

/// Each event creates a topic, and another topic leaves the history.
fn never_seen(bench: &mut Bench) {
    bench.timed(
        Plan::new::<u64>(SECTION, "keys never seen before (u64)", UNIT),
        BURST as usize,
        || {
            vec![
                new_keys(WithHistory::default()),
                new_keys(ByHand::default()),
            ]
        },
    );
}

fn new_keys<W: Way<u64>>(mut way: W) -> Contestant {
    let mut next = 0;
    let mut round = move |way: &mut W| {
        let keys: Vec<u64> = (next..next + BURST).collect();
        next += BURST;
        publish(way, &keys, 1)
    };
    Contestant::new(W::NAME, W::ROLE, move |times| {
        (0..times).map(|_| round(&mut way)).sum()
    })
}

/// A watch of many keys, only one of which is published to, beside a watch of that key alone.
fn hot_key(bench: &mut Bench) {
    bench.timed(
        Plan::new::<u64>(
            SECTION,
            "read by a watch of 1,000 keys, one of them hot",
            UNIT,
        ),
        BURST as usize,
        || {
            vec![
                read_hot("watch of 1,000 keys", Role::Ours, KEYS),
                read_hot("watch of one key", Role::Bound, 1),
            ]
        },
    );
}

fn read_hot(name: &'static str, role: Role, keys: u64) -> Contestant {
    let mut topics = Topics::<u64>::default();
    let now = Resume {
        epoch: topics.publisher.epoch(),
        index: 0,
    };
    let mut watch = topics
        .publisher
        .subscribe(Request::keys(0..keys).after(now));
    // `Begin`.
    ready(&mut watch);
    Contestant::new(name, role, move |times| {
        let round = |_| {
            (0..BURST).for_each(|event| topics.publish(0, event));
            let start = Instant::now();
            (0..BURST).for_each(|_| ready(&mut watch));
            start.elapsed()
        };
        (0..times).map(round).sum()
    })
}

/// Each key has a waiting watch.
fn woken(bench: &mut Bench) {
    bench.timed(
        Plan::new::<u64>(
            SECTION,
            "one of 1,000 keys (u64) with a waiting watch each",
            UNIT,
        ),
        KEYS as usize,
        || vec![waiting(Topics::default()), waiting(ByHand::default())],
    );
    bench.counted(
        Plan::new::<u64>(
            SECTION,
            "one of 1,000 keys (u64) with a waiting watch each",
            "wakers woken",
        ),
        || {
            vec![Measured {
                name: "Publisher",
                role: Role::Ours,
                rounds: vec![wakers_woken()],
            }]
        },
    );
}

fn waiting<W: Way<u64>>(mut way: W) -> Contestant {
    let task = |key| Task::new(follow(way.follow(key)), task::waker());
    let mut tasks: Vec<_> = (0..KEYS).map(task).collect();
    let keys: Vec<u64> = shuffled(KEYS).collect();
    Contestant::new(W::NAME, W::ROLE, move |times| {
        let round = |_| {
            tasks.iter_mut().for_each(Task::poll);
            publish(&mut way, &keys, 1)
        };
        (0..times).map(round).sum()
    })
}

async fn follow(mut reader: impl Stream + Unpin) {
    while reader.next().await.is_some() {}
}

/// The number of wakers that a publish to one key wakes, including that of the key's own watch.
fn wakers_woken() -> f64 {
    let mut topics = Topics::<u64>::default();
    let flags: Vec<Arc<Flag>> = (0..KEYS).map(|_| Arc::default()).collect();
    let mut tasks: Vec<_> = (0..)
        .zip(&flags)
        .map(|(key, flag)| Task::new(follow(topics.follow(key)), flag.clone().into()))
        .collect();
    tasks.iter_mut().for_each(Task::poll);
    let woken: Vec<usize> = shuffled(KEYS)
        .flat_map(|key| {
            topics.publish(key, 0);
            let woken = (0..KEYS as usize).filter(|number| flags[*number].take());
            let woken: Vec<usize> = woken.collect();
            assert!(woken.contains(&(key as usize)), "it has something to read");
            woken.iter().for_each(|number| tasks[*number].poll());
            woken
        })
        .collect();
    woken.len() as f64 / KEYS as f64
}

/// The time from `subscribe` to the first update, with a cached snapshot.
fn subscribe(bench: &mut Bench) {
    bench.timed(
        Plan::new::<u64>(
            SECTION,
            "subscribe and first update, a snapshot kept",
            "ns/watch",
        ),
        WATCHES,
        || {
            vec![
                subscribers(SNAPSHOT, Role::Ours, 100),
                subscribers(SHORT_SNAPSHOT, Role::Bound, 1),
            ]
        },
    );
}

fn subscribers(name: &'static str, role: Role, parts: u64) -> Contestant {
    let publisher = Publisher::builder()
        .snapshot_ttl(TTL)
        .snapshot(move |_, snapshot| async move {
            for part in 0..parts {
                snapshot.push(part)?;
            }
            Ok(0)
        })
        .build();
    let mut first = publisher.subscribe(Request::new(0_u64));
    // `Begin`, the parts, and the end of the snapshot.
    (0..parts + 2).for_each(|_| ready(&mut first));
    let mut watches = Vec::with_capacity(WATCHES);
    Contestant::new(name, role, move |times| {
        let round = |_| {
            let start = Instant::now();
            for _ in 0..WATCHES {
                let mut watch = publisher.subscribe(Request::new(0));
                (0..2).for_each(|_| ready(&mut watch));
                watches.push(watch);
            }
            let elapsed = start.elapsed();
            watches.clear();
            elapsed
        };
        (0..times).map(round).sum()
    })
}
