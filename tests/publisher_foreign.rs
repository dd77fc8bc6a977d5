//! What a publisher's keys, events and wakers do when they panic, block or use the publisher: it costs
//! nobody else anything.
#![cfg(all(not(loom), feature = "publisher"))]

mod support;

use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex, OnceLock};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

use event_buffer::publisher::{
    CloseReason, Publisher, Request, SnapshotAppender, Update, Watch, WatchError, WeakPublisher,
};
use futures::channel::oneshot;
use futures::{FutureExt, StreamExt};
use support::{PanicsWhenWoken, watchdog};
use tokio_test::task;

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

/// Its drop waits to be let go, unless it is calm.
struct Blocks(Option<Arc<(Barrier, Barrier)>>);

impl Drop for Blocks {
    fn drop(&mut self) {
        if let Some(barriers) = &self.0 {
            barriers.0.wait();
            barriers.1.wait();
        }
    }
}

/// Makes a snapshot of one part, and ends it once the gate is open. It is to be kept until then, and given up at the end
/// since more commits have followed than it has parts.
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

/// What is answered next, maybe after a panic.
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
fn a_drop_that_panics_costs_nobody_the_end_of_a_snapshot() {
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
fn a_drop_that_blocks_keeps_nobody_from_the_end_of_a_snapshot() {
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
            let is_told = other.poll_next().is_ready();
            barriers.1.wait();
            assert!(is_told);
        });
    }
}

/// A second panic while the first one unwinds would abort the process.
#[test]
fn a_waker_and_drops_that_panic_in_one_commit_are_no_abort() {
    let _watchdog = watchdog();
    let publisher = Publisher::builder().build();
    let mut watch = publisher.subscribe(Request::new("a"));
    let waker = Waker::from(Arc::new(PanicsWhenWoken));
    let mut cx = Context::from_waker(&waker);
    while watch.poll_next_unpin(&mut cx).is_ready() {}
    let events = [
        ("a", Bomb::calm()),
        ("nobody", Bomb::armed()),
        ("neither", Bomb::armed()),
    ];
    let publish = || publisher.publish(1, events);
    assert!(catch_unwind(AssertUnwindSafe(publish)).is_err());
    let Some(Some(Ok(Update::Events(commit)))) = watch.next().now_or_never() else {
        panic!("it was published all the same");
    };
    assert_eq!(commit.index(), Some(1));
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
fn a_hash_that_panics_in_a_sweep_is_no_deadlock() {
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
fn a_hash_that_panics_where_a_watch_is_dropped_in_unwinding_is_no_abort() {
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
fn a_hash_that_panics_as_a_snapshot_fails_is_no_abort() {
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
fn a_key_whose_drop_panics_costs_no_other() {
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
