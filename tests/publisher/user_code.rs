//! Keys, events and wakers that panic, block or use the publisher, and do not affect other watches.

use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Barrier, Mutex, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use event_buffer::publisher::{
    CloseReason, Publisher, Request, Resume, SnapshotAppender, Update, Watch, WatchError,
    WeakPublisher,
};
use futures::channel::oneshot;
use futures::stream::FusedStream;
use futures::{FutureExt, StreamExt};
use tokio_test::{assert_ready, task};

use super::seen::Seen::{End, Events, Part};
use super::seen::{all, next, watch};
use super::store::{FOREVER, MOMENT, Store};
use crate::support::{PanicsWhenWoken, panics, watchdog};

/// Its drop panics, once, if it is armed.
struct Bomb(Arc<AtomicBool>);

impl Bomb {
    fn armed() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    fn calm() -> Self {
        Self(Arc::default())
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(!self.0.swap(false, SeqCst), "as planned");
    }
}

/// An event whose drop waits at two barriers, if it has any.
struct Blocks(Option<Arc<(Barrier, Barrier)>>);

impl Drop for Blocks {
    fn drop(&mut self) {
        if let Some(barriers) = &self.0 {
            barriers.0.wait();
            barriers.1.wait();
        }
    }
}

/// Makes a snapshot of one part, and ends it once the gate is open. It is cached until then,
/// and given up at its end, because more commits have followed than it has parts.
fn gated<T: Send + Sync + 'static>(
    part: T,
    end: Result<u64, &'static str>,
) -> (Publisher<&'static str, T>, oneshot::Sender<()>) {
    let (gate, opened) = oneshot::channel::<()>();
    let once = Mutex::new(Some((part, opened)));
    let publisher = Publisher::builder()
        .snapshot_ttl(Duration::from_secs(1_000_000))
        .snapshot(move |_: &str, snapshot: SnapshotAppender<T>| {
            let once = once.lock().unwrap().take();
            async move {
                let (part, opened) = once.ok_or("made twice")?;
                snapshot.push(part)?;
                opened.await?;
                Ok(end?)
            }
        })
        .build();
    (publisher, gate)
}

/// Returns what the watch delivers next, polling again if the first poll panics.
fn after_a_panic<T>(watch: &mut Watch<&str, T>) -> Result<u64, String> {
    let mut next = None;
    let _ = catch_unwind(AssertUnwindSafe(|| next = watch.next().now_or_never()));
    match next.or_else(|| watch.next().now_or_never()) {
        Some(Some(Ok(Update::EndOfSnapshot { index }))) => Ok(index),
        Some(Some(Err(WatchError::Snapshot(error)))) => Err(error.to_string()),
        _ => Err("something else".to_owned()),
    }
}

#[test]
fn a_panicking_drop_does_not_prevent_the_end_of_a_snapshot() {
    let _watchdog = watchdog();
    for end in [Ok(7), Err("no such key")] {
        let armed = Arc::new(AtomicBool::new(true));
        let (publisher, gate) = gated(Bomb(armed.clone()), end);
        let mut watch = publisher.subscribe(Request::new("a"));
        while watch.next().now_or_never().is_some() {}
        for index in 8..=10 {
            publisher.publish(index, [("a", Bomb::calm())]).unwrap();
        }
        gate.send(()).unwrap();
        assert_eq!(after_a_panic(&mut watch), end.map_err(str::to_owned));
        assert!(!armed.load(SeqCst));
    }
}

#[test]
fn a_blocking_drop_does_not_delay_the_end_of_a_snapshot() {
    let _watchdog = watchdog();
    for end in [Ok(7), Err("no such key")] {
        let barriers = Arc::new((Barrier::new(2), Barrier::new(2)));
        let (publisher, gate) = gated(Blocks(Some(barriers.clone())), end);
        let [mut one, mut other] =
            [(); 2].map(|()| task::spawn(publisher.subscribe(Request::new("a"))));
        for watch in [&mut one, &mut other] {
            while watch.poll_next().is_ready() {}
        }
        for index in 8..=10 {
            publisher.publish(index, [("a", Blocks(None))]).unwrap();
        }
        gate.send(()).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| one.poll_next().is_ready());
            barriers.0.wait();
            let is_ready = other.poll_next().is_ready();
            barriers.1.wait();
            assert!(is_ready);
        });
    }
}

#[test]
fn a_panicking_waker_does_not_stop_other_wake_ups() {
    type Change = fn(&mut Option<Publisher<&'static str, u32>>);

    let _watchdog = watchdog();
    let changes: [Change; 7] = [
        |publisher| {
            let publisher = publisher.as_ref().unwrap();
            publisher.publish(1, [("a", 1), ("b", 1)]).unwrap();
        },
        |publisher| {
            let publisher = publisher.as_ref().unwrap();
            publisher.publish(1, [("elsewhere", 1)]).unwrap();
            publisher.mark_progress();
        },
        |publisher| publisher.as_ref().unwrap().close_all(),
        |publisher| publisher.as_ref().unwrap().close_token("all"),
        |publisher| publisher.as_ref().unwrap().reset(1),
        |publisher| publisher.as_ref().unwrap().shutdown(),
        |publisher| drop(publisher.take()),
    ];
    for change in changes {
        let publisher = Publisher::builder().build();
        let request = |keys: &[&'static str]| Request::keys(keys.iter().copied()).token("all");
        let mut panicking = publisher.subscribe(request(&["a"]));
        let others: [&[&str]; 2] = [&["b"], &["a", "b"]];
        let mut others = others.map(|keys| task::spawn(publisher.subscribe(request(keys))));
        let waker = Waker::from(Arc::new(PanicsWhenWoken));
        let mut cx = Context::from_waker(&waker);
        while panicking.poll_next_unpin(&mut cx).is_ready() {}
        for other in &mut others {
            while other.poll_next().is_ready() {}
        }
        let mut publisher = Some(publisher);
        panics(|| change(&mut publisher));
        for other in &others {
            assert!(other.is_woken());
        }
    }
}

/// More watches than are visited at a time.
#[test]
fn a_panicking_waker_does_not_withhold_a_progress_mark_from_others() {
    let _watchdog = watchdog();
    let publisher = Publisher::<&str, u32>::builder().build();
    let mut panicking = publisher.subscribe(Request::new("a"));
    let waker = Waker::from(Arc::new(PanicsWhenWoken));
    let mut cx = Context::from_waker(&waker);
    while panicking.poll_next_unpin(&mut cx).is_ready() {}
    let subscribe = |_| task::spawn(publisher.subscribe(Request::new("a")));
    let mut others: Vec<_> = (0..1_100).map(subscribe).collect();
    for other in &mut others {
        while other.poll_next().is_ready() {}
    }
    publisher.publish(1, [("elsewhere", 1)]).unwrap();
    panics(|| publisher.mark_progress());
    assert!(others.iter().all(task::Spawn::is_woken));
}

/// A key whose hash panics while the switch is on.
#[derive(Clone)]
struct Fragile(Arc<AtomicBool>);

impl PartialEq for Fragile {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Fragile {}

impl Hash for Fragile {
    fn hash<H: Hasher>(&self, _: &mut H) {
        assert!(!self.0.load(SeqCst), "as planned");
    }
}

/// Uses its publisher when it is dropped.
struct Reenters<K: Hash + Eq + Clone + Send + Sync + 'static>(
    Arc<OnceLock<WeakPublisher<K, Self>>>,
);

impl<K: Hash + Eq + Clone + Send + Sync + 'static> Drop for Reenters<K> {
    fn drop(&mut self) {
        if let Some(publisher) = self.0.get().and_then(WeakPublisher::upgrade) {
            publisher.stats();
        }
    }
}

#[test]
fn a_panicking_hash_in_a_sweep_does_not_deadlock() {
    let _watchdog = watchdog();
    let on = Arc::new(AtomicBool::new(false));
    let within = Arc::new(OnceLock::new());
    let weak = within.clone();
    let publisher = Publisher::builder()
        .snapshot_ttl(Duration::from_nanos(1))
        .snapshot(move |_: Fragile, snapshot: SnapshotAppender<_>| {
            let event = Reenters(weak.clone());
            async move {
                snapshot.push(event)?;
                Ok(0)
            }
        })
        .build();
    within.set(publisher.downgrade()).ok().unwrap();
    let mut watch = publisher.subscribe(Request::new(Fragile(on.clone())));
    while watch.next().now_or_never().is_some() {}
    drop(watch);
    on.store(true, SeqCst);
    let _ = catch_unwind(AssertUnwindSafe(|| publisher.stats()));
    on.store(false, SeqCst);
}

#[test]
fn a_panicking_hash_does_not_abort_when_unwinding_drops_a_watch() {
    let _watchdog = watchdog();
    let on = Arc::new(AtomicBool::new(false));
    let publisher = Publisher::<Fragile, u32>::builder().build();
    let watch = publisher.subscribe(Request::new(Fragile(on.clone())));
    let unwinds = || {
        let _watch = watch;
        on.store(true, SeqCst);
        panic!("as planned");
    };
    assert!(catch_unwind(AssertUnwindSafe(unwinds)).is_err());
    on.store(false, SeqCst);
}

/// The handler closes all, and fails: the topic goes, for which its key is hashed.
#[test]
fn a_panicking_hash_does_not_abort_when_a_snapshot_fails() {
    let _watchdog = watchdog();
    let on = Arc::new(AtomicBool::new(false));
    let within = Arc::new(OnceLock::<WeakPublisher<Fragile, u32>>::new());
    let (weak, switch) = (within.clone(), on.clone());
    let publisher = Publisher::builder()
        .snapshot(move |_, _| {
            let publisher = weak.get().and_then(WeakPublisher::upgrade);
            let switch = switch.clone();
            async move {
                publisher.ok_or("gone")?.close_all();
                switch.store(true, SeqCst);
                Err("as planned".into())
            }
        })
        .build();
    within.set(publisher.downgrade()).ok().unwrap();
    let mut watch = publisher.subscribe(Request::new(Fragile(on.clone())));
    let _ = catch_unwind(AssertUnwindSafe(|| watch.next().now_or_never()));
    on.store(false, SeqCst);
}

#[test]
fn a_panicking_drop_of_a_key_does_not_affect_other_keys() {
    #[derive(Clone)]
    struct Key(u8, Arc<AtomicBool>, #[expect(dead_code)] Arc<()>);

    impl PartialEq for Key {
        fn eq(&self, other: &Self) -> bool {
            self.0 == other.0
        }
    }

    impl Eq for Key {}

    impl Hash for Key {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.0.hash(state);
        }
    }

    impl Drop for Key {
        fn drop(&mut self) {
            assert!(self.0 != 3 || !self.1.swap(false, SeqCst), "as planned");
        }
    }

    let _watchdog = watchdog();
    let ends: [fn(Publisher<Key, u32>); 3] = [
        |publisher| publisher.reset(1),
        |publisher| publisher.shutdown(),
        drop,
    ];
    for end in ends {
        let armed = Arc::new(AtomicBool::new(false));
        let alive = Arc::new(());
        let publisher = Publisher::builder().build();
        let key = |n| Key(n, armed.clone(), alive.clone());
        let subscribe = |n| publisher.subscribe(Request::new(key(n)));
        let watches: Vec<_> = (0..20).map(subscribe).collect();
        armed.store(true, SeqCst);
        assert!(catch_unwind(AssertUnwindSafe(|| end(publisher))).is_err());
        drop(watches);
        assert_eq!(Arc::strong_count(&alive), 1);
    }
}

/// A waker may poll another watch that is closed just now, as an executor does that runs in place.
#[test]
fn all_are_closed_before_any_is_woken() {
    type Other = Mutex<Option<Watch<&'static str, u32>>>;

    #[derive(Default)]
    struct Polls(Other, OnceLock<Option<WatchError>>);

    impl Wake for Polls {
        fn wake(self: Arc<Self>) {
            let other = self.0.lock().unwrap().take();
            let next = other.and_then(|mut other| match other.next().now_or_never() {
                Some(Some(Err(error))) => Some(error),
                _ => None,
            });
            let _ = self.1.set(next);
        }
    }

    let _watchdog = watchdog();
    let publisher = Publisher::builder().build();
    let mut watches = [(); 2].map(|()| publisher.subscribe(Request::new("a").token("alice")));
    let polls = [(); 2].map(|()| Arc::new(Polls::default()));
    for (watch, polls) in watches.iter_mut().zip(&polls) {
        let waker = Waker::from(polls.clone());
        let mut cx = Context::from_waker(&waker);
        while watch.poll_next_unpin(&mut cx).is_ready() {}
    }
    for (watch, polls) in watches.into_iter().rev().zip(&polls) {
        *polls.0.lock().unwrap() = Some(watch);
    }
    publisher.close_token("alice");
    for polls in polls {
        let closed = polls.1.get().and_then(Option::as_ref);
        assert!(matches!(
            closed,
            Some(WatchError::Closed(CloseReason::AccessChanged))
        ));
    }
}

/// tokio 5429, for watches that wait for a snapshot.
#[test]
fn a_wake_by_a_snapshot_that_polls_or_drops_the_watch_does_not_deadlock() {
    type Held = Mutex<Option<Watch<&'static str, u32>>>;
    struct Reenters(Held, bool);
    impl std::task::Wake for Reenters {
        fn wake(self: Arc<Self>) {
            // Woken by what it does itself.
            let Ok(mut held) = self.0.try_lock() else {
                return;
            };
            if self.1 {
                drop(held.take());
            } else if let Some(watch) = &mut *held {
                let waker = std::task::Waker::from(Arc::clone(&self));
                let mut cx = std::task::Context::from_waker(&waker);
                while let Poll::Ready(Some(_)) = watch.poll_next_unpin(&mut cx) {}
            }
        }
    }
    let _watchdog = watchdog();
    for drops in [false, true] {
        let store = Store::default();
        let publisher = store.publisher(0, Duration::ZERO);
        let gate = store.gate();
        let mut other = watch(&publisher, "a");
        let mut mine = watch(&publisher, "a");
        assert_eq!(all(&mut other), [Part(vec![100, 101])]);
        assert_eq!(all(&mut mine), [Part(vec![100, 101])]);
        let reenters = Arc::new(Reenters(Mutex::new(Some(mine)), drops));
        {
            let waker = std::task::Waker::from(Arc::clone(&reenters));
            let mut cx = std::task::Context::from_waker(&waker);
            let mut held = reenters.0.lock().unwrap();
            assert!(held.as_mut().unwrap().poll_next_unpin(&mut cx).is_pending());
        }
        gate.send(3).unwrap();
        assert_eq!(all(&mut other), [Part(vec![102]), End(3)]);
        reenters.0.lock().unwrap().take();
    }
}

#[test]
fn a_waker_that_panics_does_not_take_the_snapshot_from_others() {
    let _watchdog = watchdog();
    let store = Store::default();
    let publisher = store.publisher(0, FOREVER);
    let gate = store.gate();
    let mut first = watch(&publisher, "a");
    let mut second = watch(&publisher, "a");
    for watch in [&mut first, &mut second] {
        assert_eq!(all(watch), [Part(vec![100, 101])]);
    }
    let waker = std::task::Waker::from(Arc::new(PanicsWhenWoken));
    let mut cx = std::task::Context::from_waker(&waker);
    assert!(first.poll_next_unpin(&mut cx).is_pending());
    let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| gate.send(3)));
    assert!(opened.is_err(), "it wakes the one that panics");
    assert_eq!(all(&mut second), [Part(vec![102]), End(3)]);
    assert_eq!(all(&mut first), [Part(vec![102]), End(3)]);
    publisher.publish(4, [("a", 4)]).unwrap();
    let mut late = watch(&publisher, "a");
    let whole = [
        Part(vec![100, 101]),
        Part(vec![102]),
        End(3),
        Events(4, vec![4]),
    ];
    assert_eq!(all(&mut late), whole);
}

/// A key may own what uses the publisher, and panic.
#[test]
fn keys_are_not_dropped_under_the_lock() {
    #[derive(Clone)]
    struct Key(u8, Arc<OnceLock<WeakPublisher<Key, u32>>>);
    impl PartialEq for Key {
        fn eq(&self, other: &Self) -> bool {
            self.0 == other.0
        }
    }
    impl Eq for Key {}
    impl std::hash::Hash for Key {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            self.0.hash(state);
        }
    }
    impl Drop for Key {
        fn drop(&mut self) {
            if let Some(publisher) = self.1.get().and_then(WeakPublisher::upgrade) {
                publisher.epoch();
            }
        }
    }
    let _watchdog = watchdog();
    let within = Arc::new(OnceLock::new());
    let key = |n| Key(n, Arc::clone(&within));
    let publisher = Publisher::builder().snapshot_ttl(MOMENT).build();
    within.set(publisher.downgrade()).ok().unwrap();
    let watches: Vec<_> = (0..3)
        .map(|n| publisher.subscribe(Request::new(key(n % 2))))
        .collect();
    publisher.publish(1, [(key(0), 1)]).unwrap();
    publisher
        .publish(2, [(key(0), 1), (key(1), 1), (key(9), 1)])
        .unwrap();
    // A new key that occurs twice, in a commit and in a request.
    publisher.publish(3, [(key(8), 1), (key(8), 2)]).unwrap();
    drop(publisher.subscribe(Request::keys([key(0), key(0), key(7), key(7)])));
    assert_eq!(publisher.stats().keys, 2);
    publisher.close_key(&key(0));
    drop(watches);
    let _watch = publisher.subscribe(Request::new(key(4)));
    publisher.reset(2);
    let _watch = publisher.subscribe(Request::new(key(4)));
    publisher.shutdown();
}

#[test]
fn a_filter_that_panics_loses_nothing() {
    let _watchdog = watchdog();
    let publisher = Publisher::builder().epoch(1).build();
    let panics = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&panics);
    let mut watch = publisher.subscribe(Request::new("a").filter(move |n: &u32| {
        assert!(*n != 2 || counted.fetch_add(1, Relaxed) > 0, "as planned");
        true
    }));
    assert_eq!(next(&mut watch), End(0));
    publisher.publish(1, [("a", 1)]).unwrap();
    publisher.publish(2, [("a", 2)]).unwrap();
    assert_eq!(next(&mut watch), Events(1, vec![1]));
    let panicking = std::panic::AssertUnwindSafe(|| next(&mut watch));
    std::panic::catch_unwind(panicking).unwrap_err();
    assert_eq!(watch.resume_point(), Some(Resume { epoch: 1, index: 1 }));
    assert_eq!(all(&mut watch), [Events(2, vec![2])]);
}

#[test]
fn a_key_that_panics_publishes_nothing_and_leaves_nothing_behind() {
    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Key(u8);
    impl std::hash::Hash for Key {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            assert_ne!(self.0, 13, "as planned");
            self.0.hash(state);
        }
    }
    let _watchdog = watchdog();
    let publisher = Publisher::builder().build();
    let mut watch = publisher.subscribe(Request::new(Key(1)));
    assert_eq!(next(&mut watch), End(0));
    let publish = |index, keys: &[u8]| {
        let events = keys.iter().map(|key| (Key(*key), u32::from(*key)));
        let publish = std::panic::AssertUnwindSafe(|| publisher.publish(index, events));
        std::panic::catch_unwind(publish)
    };
    assert!(publish(5, &[1, 13]).is_err());
    assert!(publish(4, &[1, 1]).unwrap().is_ok());
    assert_eq!(all(&mut watch), [Events(4, vec![1, 1])]);
}

/// A waker and an event's drop that use the publisher: under its lock they would wait for ever.
#[test]
fn no_user_code_runs_under_the_lock() {
    struct Reenters(Option<Publisher<u8, Arc<Reenters>>>);
    impl Drop for Reenters {
        fn drop(&mut self) {
            if let Some(publisher) = &self.0 {
                publisher.stats();
            }
        }
    }
    impl std::task::Wake for Reenters {
        fn wake(self: Arc<Self>) {
            self.0.as_ref().unwrap().stats();
        }
    }
    let _watchdog = watchdog();
    for history in [0, 1] {
        let publisher = Publisher::builder().history(history).build();
        let event = || Arc::new(Reenters(Some(publisher.clone())));
        publisher.publish(1, [(0, event()), (1, event())]).unwrap();
        let mut watch = publisher.subscribe(Request::new(0));
        let waker = std::task::Waker::from(event());
        let mut cx = std::task::Context::from_waker(&waker);
        while watch.poll_next_unpin(&mut cx).is_ready() {}
        for index in [2, 5, 8] {
            publisher
                .publish(index, [(0, event()), (1, event())])
                .unwrap();
            publisher.publish(index + 1, [(0, event())]).unwrap();
            publisher.publish(index + 2, [(1, event())]).unwrap();
            while let Poll::Ready(update) = watch.poll_next_unpin(&mut cx) {
                drop(update);
            }
        }
        publisher.publish(11, [(0, event())]).unwrap();
        publisher.close_all();
        drop(watch);
        publisher.reset(1);
    }
}

/// A key whose `clone` panics when the count given is down to zero.
mod fragile {
    use super::*;

    #[derive(Debug)]
    pub(super) struct Key(u8, Arc<AtomicUsize>);

    impl Key {
        pub(super) fn new(n: u8, clones: &Arc<AtomicUsize>) -> Self {
            Self(n, Arc::clone(clones))
        }
    }

    impl Clone for Key {
        fn clone(&self) -> Self {
            let left = self.1.load(Relaxed);
            self.1.store(left.wrapping_sub(1), Relaxed);
            assert_ne!(left, 0, "as planned");
            Self(self.0, Arc::clone(&self.1))
        }
    }

    impl PartialEq for Key {
        fn eq(&self, other: &Self) -> bool {
            self.0 == other.0
        }
    }

    impl Eq for Key {}

    impl std::hash::Hash for Key {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            self.0.hash(state);
        }
    }
}

#[test]
fn a_key_whose_clone_panics_leaves_nothing_behind() {
    use fragile::Key;
    const NEVER: usize = usize::MAX;
    let _watchdog = watchdog();
    let clones = Arc::new(AtomicUsize::new(NEVER));
    let publisher = Publisher::<Key, u32>::builder()
        .snapshot(|_: Key, snapshot: SnapshotAppender<u32>| async move {
            snapshot.push(100)?;
            Ok(0)
        })
        .build();
    let key = |n| Key::new(n, &clones);
    let mut other = publisher.subscribe(Request::new(key(0)));
    assert_eq!(all(&mut other), [Part(vec![100]), End(0)]);
    let mut panics = 0;
    for before in 0..10 {
        clones.store(before, Relaxed);
        let request = Request::new(key(1));
        let subscribe = std::panic::AssertUnwindSafe(|| publisher.subscribe(request));
        let subscribed = std::panic::catch_unwind(subscribe);
        clones.store(NEVER, Relaxed);
        panics += usize::from(subscribed.is_err());
        drop(subscribed);
        let figures = publisher.stats();
        assert_eq!(
            (
                figures.keys,
                figures.subscriptions,
                figures.snapshots_in_flight
            ),
            (1, 1, 0),
            "a panic after {before} clones"
        );
        let mut again = publisher.subscribe(Request::new(key(1)));
        assert_eq!(all(&mut again), [Part(vec![100]), End(0)]);
    }
    assert!(panics > 0);

    // The figures name the slowest key.
    clones.store(0, Relaxed);
    let stats = std::panic::AssertUnwindSafe(|| publisher.slowest(1));
    assert!(std::panic::catch_unwind(stats).is_err());
    clones.store(NEVER, Relaxed);
    publisher.publish(1, [(key(0), 1)]).unwrap();
    assert_eq!(all(&mut other), [Events(1, vec![1])]);
}

#[test]
fn a_closed_watch_reports_its_reason_even_if_a_drop_panics() {
    let _watchdog = watchdog();
    let publisher = Publisher::builder().build();
    let mut watch = publisher.subscribe(Request::new("key"));
    let event = Bomb::armed();
    publisher.publish(1, [("key", event)]).unwrap();
    // It frees what only the watch kept.
    panics(|| publisher.close_all());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(!watch.is_terminated());
    let why = assert_ready!(watch.poll_next_unpin(&mut cx));
    assert!(matches!(why, Some(Err(_))));
    assert!(watch.is_terminated());
}

#[test]
fn a_progress_mark_is_not_lost_to_a_drop() {
    let _watchdog = watchdog();
    let publisher = Publisher::builder().build();
    let mut watch = publisher.subscribe(Request::new("key").filter(|_: &Bomb| false));
    let mut cx = Context::from_waker(Waker::noop());
    let mut next = || {
        assert_ready!(watch.poll_next_unpin(&mut cx))
            .unwrap()
            .unwrap()
    };
    assert!(matches!(next(), Update::Begin(_)));
    assert!(matches!(next(), Update::EndOfSnapshot { .. }));
    let event = Bomb::armed();
    publisher.publish(1, [("key", event)]).unwrap();
    panics(|| drop(next()));
    assert!(matches!(next(), Update::Progress { .. }));
}
