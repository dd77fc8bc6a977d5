//! The publisher: snapshots, caching, resuming, closing, what is hidden, what is kept.
//!
//! Where a test is for a bug that others had, it is named after what must not happen.
#![cfg(all(not(loom), feature = "publisher"))]

mod support;

use std::future;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use event_buffer::publisher::{
    Begin, CloseReason, PublishError, Publisher, Request, ResetReason, Resume, SnapshotAppender,
    SnapshotPanicked, Update, Watch, WatchError, WeakPublisher,
};
use futures::channel::oneshot;
use futures::stream::FusedStream;
use futures::{FutureExt, StreamExt};
use support::{PanicsWhenWoken, watchdog};
use tokio_test::task;

static_assertions::assert_impl_all!(Publisher<String, Vec<u8>>: Send, Sync, Clone);
static_assertions::assert_impl_all!(Watch<String, Vec<u8>>: Send, Unpin);
static_assertions::assert_impl_all!(Update<String, Vec<u8>>: Send, Sync, Clone);
static_assertions::assert_not_impl_any!(Publisher<String, std::cell::Cell<u8>>: Send, Sync);

const FOREVER: Duration = Duration::from_secs(1_000_000);
/// Over by the time of the next look.
const MOMENT: Duration = Duration::from_nanos(1);

/// An update, in few letters.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Reset(ResetReason),
    Part(Vec<u32>),
    End(u64),
    Events(u64, Vec<u32>),
    Progress(u64),
    Completed,
    Failed(String),
    Closed(CloseReason),
    Over,
    Nothing,
}
use Seen::{Closed, Completed, End, Events, Failed, Nothing, Over, Part, Progress, Reset};

/// What the watch has to say now.
fn next<K>(watch: &mut Watch<K, u32>) -> Seen {
    let events = |events: &event_buffer::publisher::Events<K, u32>| {
        let seen: Vec<u32> = events.iter().copied().collect();
        assert_eq!(events.len(), seen.len());
        seen
    };
    match watch.next().now_or_never() {
        None => Nothing,
        Some(None) => Over,
        Some(Some(Err(WatchError::Closed(reason)))) => Closed(reason),
        Some(Some(Err(WatchError::Snapshot(error)))) => Failed(error.to_string()),
        Some(Some(Err(other))) => panic!("{other}"),
        Some(Some(Ok(update))) => match update {
            // How it begins is another test's business, unless it is why it begins anew.
            Update::Begin(Begin::Reset(reason)) => Reset(reason),
            Update::Begin(Begin::Fresh | Begin::Resumed) => next(watch),
            Update::Snapshot(part) => Part(events(&part)),
            Update::EndOfSnapshot { index } => End(index),
            Update::Events(commit) => Events(commit.index().unwrap(), events(&commit)),
            Update::Progress { index } => Progress(index),
            Update::Completed(_) => Completed,
        },
    }
}

/// All that it has to say now.
fn all<K>(watch: &mut Watch<K, u32>) -> Vec<Seen> {
    std::iter::from_fn(|| Some(next(watch)).filter(|seen| *seen != Nothing && *seen != Over))
        .collect()
}

fn watch(publisher: &Publisher<&'static str, u32>, key: &'static str) -> Watch<&'static str, u32> {
    publisher.subscribe(Request::new(key))
}

/// A handler of which the test decides when it goes on, and that counts its runs.
#[derive(Clone, Default)]
struct Store {
    runs: Arc<AtomicUsize>,
    /// One for each run, in order.
    gates: Arc<Mutex<Vec<oneshot::Receiver<u64>>>>,
}

impl Store {
    /// The next run waits for the answer.
    fn gate(&self) -> oneshot::Sender<u64> {
        let (gate, opened) = oneshot::channel();
        self.gates.lock().unwrap().push(opened);
        gate
    }

    fn runs(&self) -> usize {
        self.runs.load(Relaxed)
    }

    /// A part before the gate, and one after it; the gate says as of which index.
    fn publisher(&self, history: usize, ttl: Duration) -> Publisher<&'static str, u32> {
        let store = self.clone();
        Publisher::builder()
            .history(history)
            .snapshot_ttl(ttl)
            .epoch(1)
            .snapshot(move |_key, snapshot: SnapshotAppender<u32>| {
                store.runs.fetch_add(1, Relaxed);
                let gate = store.gates.lock().unwrap().pop();
                async move {
                    snapshot.append([100, 101])?;
                    let index = match gate {
                        Some(gate) => gate.await?,
                        None => 0,
                    };
                    snapshot.push(102)?;
                    Ok(index)
                }
            })
            .build()
    }
}

#[test]
fn a_snapshot_streams_before_it_is_complete() {
    let _watchdog = watchdog();
    let store = Store::default();
    let publisher = store.publisher(0, Duration::ZERO);
    let gate = store.gate();
    let mut watch = watch(&publisher, "a");
    assert_eq!(watch.resume_point(), None);
    assert_eq!(next(&mut watch), Part(vec![100, 101]));
    assert_eq!(next(&mut watch), Nothing);
    gate.send(0).unwrap();
    assert_eq!(all(&mut watch), [Part(vec![102]), End(0)]);
    assert_eq!(watch.resume_point(), Some(Resume { epoch: 1, index: 0 }));
}

/// Consul 7128 and 10355.
#[test]
fn what_is_published_while_a_snapshot_is_made_is_not_lost() {
    let _watchdog = watchdog();
    // The snapshot contains the commits up to any of those published meanwhile.
    for contained in 4..=9 {
        let store = Store::default();
        let publisher = store.publisher(10, FOREVER);
        publisher.publish(4, [("a", 4)]).unwrap();
        let gate = store.gate();
        let mut first = watch(&publisher, "a");
        assert_eq!(next(&mut first), Part(vec![100, 101]));
        publisher.publish(5, [("a", 5), ("b", 50)]).unwrap();
        publisher.publish(7, [("a", 70), ("a", 71)]).unwrap();
        publisher.publish(8, [("b", 80)]).unwrap();
        gate.send(contained).unwrap();
        let mut expected = vec![Part(vec![102]), End(contained)];
        for (index, events) in [
            (5, vec![5]),
            (7, vec![70, 71]),
            (9, vec![9]),
            (10, vec![10]),
        ] {
            if index > contained {
                expected.push(Events(index, events));
            }
        }
        let mut seen = all(&mut first);
        // The snapshot was ahead of what was published: that is not given again.
        publisher.publish(9, [("a", 9)]).unwrap();
        publisher.publish(10, [("a", 10)]).unwrap();
        seen.extend(all(&mut first));
        assert_eq!(seen, expected, "snapshot of index {contained}");
        assert_eq!(publisher.slowest(1)[0].lag, 0);

        // Who gets the kept snapshot sees the same.
        let mut late = watch(&publisher, "a");
        expected.insert(0, Part(vec![100, 101]));
        assert_eq!(all(&mut late), expected);
        assert_eq!(store.runs(), 1);
    }
}

/// Consul 9772.
#[test]
fn what_is_meant_for_one_watch_is_not_in_the_kept_snapshot() {
    let _watchdog = watchdog();
    let store = Store::default();
    let publisher = store.publisher(0, FOREVER);
    let elsewhere = Resume { epoch: 2, index: 5 };
    let mut resumed = publisher.subscribe(Request::new("a").after(elsewhere));
    assert_eq!(next(&mut resumed), Reset(ResetReason::OtherEpoch));
    let fresh = [Part(vec![100, 101]), Part(vec![102]), End(0)];
    assert_eq!(all(&mut resumed), fresh);
    assert_eq!(all(&mut watch(&publisher, "a")), fresh);
    assert_eq!(store.runs(), 1);
}

/// Consul 8799.
#[test]
fn a_herd_does_not_build_the_same_snapshot_many_times() {
    const HERD: usize = 10_000;
    let _watchdog = watchdog();
    let store = Store::default();
    let publisher = store.publisher(0, Duration::ZERO);
    let gate = store.gate();
    let mut herd: Vec<_> = (0..HERD).map(|_| watch(&publisher, "a")).collect();
    for watch in &mut herd {
        assert_eq!(next(watch), Part(vec![100, 101]));
    }
    assert_eq!(publisher.stats().snapshots_in_flight, 1);
    gate.send(0).unwrap();
    for watch in &mut herd {
        assert_eq!(all(watch), [Part(vec![102]), End(0)]);
    }
    assert_eq!(store.runs(), 1);
    assert_eq!(publisher.stats().subscriptions, HERD);
}

/// Consul 12080.
#[test]
fn a_publish_does_not_wake_watchers_of_other_keys() {
    let _watchdog = watchdog();
    let publisher = Publisher::<u32, u32>::builder().build();
    let mut watches: Vec<_> = (0..100)
        .map(|key| task::spawn(publisher.subscribe(Request::new(key))))
        .collect();
    for watch in &mut watches {
        while watch.poll_next().is_ready() {}
    }
    publisher
        .publish(1, [(7, 1), (9, 1), (200, 1), (7, 2)])
        .unwrap();
    let woken: Vec<_> = (0..100).filter(|&n| watches[n].is_woken()).collect();
    assert_eq!(woken, [7, 9]);
    publisher.publish(2, [(11, 1)]).unwrap();
    assert!(watches[11].is_woken());
}

/// The rule: evict both or neither.
#[test]
fn a_kept_snapshot_does_not_lead_to_a_freed_buffer() {
    let _watchdog = watchdog();
    let store = Store::default();
    let publisher = store.publisher(0, FOREVER);
    all(&mut watch(&publisher, "a"));
    // Nobody watches any more, but the snapshot is kept, and with it what it leads to.
    let figures = publisher.stats();
    assert_eq!(
        (
            figures.keys,
            figures.cached_snapshots,
            figures.subscriptions
        ),
        (1, 1, 0)
    );
    publisher.publish(1, [("a", 1)]).unwrap();
    let mut late = watch(&publisher, "a");
    publisher.publish(2, [("a", 2)]).unwrap();
    assert_eq!(publisher.slowest(1)[0].lag, 2);
    let fresh = [Part(vec![100, 101]), Part(vec![102]), End(0)];
    let expected = [&fresh[..], &[Events(1, vec![1]), Events(2, vec![2])]].concat();
    assert_eq!(all(&mut late), expected);
    drop(late);

    // Whatever becomes void takes both along.
    publisher.reset(2);
    assert_eq!(publisher.stats().keys, 0);
    let mut later = watch(&publisher, "a");
    assert_eq!(all(&mut later), fresh);
    publisher.publish(1, [("a", 1)]).unwrap();
    assert_eq!(all(&mut later), [Events(1, vec![1])]);
    assert_eq!(store.runs(), 2);
}

#[test]
fn an_expired_snapshot_is_not_given_and_frees_its_key() {
    let _watchdog = watchdog();
    let store = Store::default();
    let publisher = store.publisher(0, MOMENT);
    all(&mut watch(&publisher, "a"));
    all(&mut watch(&publisher, "a"));
    assert_eq!(store.runs(), 2);
    let figures = publisher.stats();
    assert_eq!((figures.keys, figures.cached_snapshots), (0, 0));
}

#[test]
fn publishing_to_a_key_whose_snapshot_expires_meanwhile_does_not_panic() {
    let _watchdog = watchdog();
    let store = Store::default();
    let publisher = store.publisher(0, MOMENT);
    let indexes = std::cell::RefCell::new(1..);
    let index = || indexes.borrow_mut().next().unwrap();
    let many = || publisher.publish(index(), [("a", 1), ("a", 2)]);
    let one = || publisher.publish(index(), [("a", 1)]);
    for publish in [&many as &dyn Fn() -> _, &one] {
        all(&mut watch(&publisher, "a"));
        (0..200).for_each(|_| publish().unwrap());
        assert_eq!(publisher.stats().keys, 0);
    }
}

/// Consul 8809 and 9978.
#[test]
fn an_abandoned_snapshot_is_not_kept_and_removes_no_other() {
    let _watchdog = watchdog();
    let store = Store::default();
    let publisher = store.publisher(0, FOREVER);
    let never = store.gate();
    let mut abandoning = watch(&publisher, "a");
    assert_eq!(next(&mut abandoning), Part(vec![100, 101]));
    drop(abandoning);
    let figures = publisher.stats();
    assert_eq!(
        (
            figures.keys,
            figures.cached_snapshots,
            figures.snapshots_in_flight
        ),
        (0, 0, 0)
    );
    assert!(never.is_canceled(), "its future is gone too");

    // One that is closed while it flies, as another one is made for the next epoch.
    let old = store.gate();
    let mut closed = watch(&publisher, "a");
    assert_eq!(next(&mut closed), Part(vec![100, 101]));
    publisher.reset(2);
    all(&mut watch(&publisher, "a"));
    assert_eq!(publisher.stats().cached_snapshots, 1);
    let _ = old.send(77);
    assert_eq!(
        all(&mut closed),
        [Closed(CloseReason::StateReset { epoch: 2 })]
    );
    drop(closed);
    assert_eq!(publisher.stats().cached_snapshots, 1);
    all(&mut watch(&publisher, "a"));
    assert_eq!(store.runs(), 3);
}

/// Consul 8809 and 9978, by a handler that has its own state replaced while it runs.
#[test]
fn a_stale_snapshot_neither_replaces_nor_removes_another() {
    let _watchdog = watchdog();
    for fails in [false, true] {
        let within = Arc::new(OnceLock::<WeakPublisher<&'static str, u32>>::new());
        let next_watch = Arc::new(Mutex::new(None));
        let (publisher, later) = (Arc::clone(&within), Arc::clone(&next_watch));
        let handler = move |key, snapshot: SnapshotAppender<u32>| {
            let publisher = publisher.get().unwrap().upgrade().unwrap();
            let later = Arc::clone(&later);
            async move {
                if publisher.epoch() == 1 {
                    publisher.reset(2);
                    // The other one, of the new epoch.
                    *later.lock().unwrap() = Some(publisher.subscribe(Request::new(key)));
                    if fails {
                        return Err("as planned".into());
                    }
                }
                snapshot.push(2)?;
                Ok(0)
            }
        };
        let publisher = Publisher::builder()
            .epoch(1)
            .snapshot_ttl(FOREVER)
            .snapshot(handler)
            .build();
        within.set(publisher.downgrade()).unwrap();
        let mut old = watch(&publisher, "a");
        assert_eq!(
            all(&mut old),
            [Closed(CloseReason::StateReset { epoch: 2 })]
        );
        let figures = publisher.stats();
        assert_eq!(
            (figures.cached_snapshots, figures.snapshots_in_flight),
            (0, 1)
        );
        let mut other = next_watch.lock().unwrap().take().unwrap();
        assert_eq!(all(&mut other), [Part(vec![2]), End(0)]);
        assert_eq!(publisher.stats().cached_snapshots, 1);
    }
}

#[test]
fn a_snapshot_survives_the_one_that_began_it() {
    let _watchdog = watchdog();
    let store = Store::default();
    let publisher = store.publisher(0, Duration::ZERO);
    let gate = store.gate();
    let mut first = task::spawn(watch(&publisher, "a"));
    let mut second = task::spawn(watch(&publisher, "a"));
    for watch in [&mut first, &mut second] {
        while watch.poll_next().is_ready() {}
    }
    drop(first);
    gate.send(3).unwrap();
    assert!(second.is_woken());
    let mut second = second.into_inner();
    assert_eq!(all(&mut second), [Part(vec![102]), End(3)]);
    assert_eq!(store.runs(), 1);
}

#[test]
fn a_failed_snapshot_is_told_to_all_who_waited_and_not_kept() {
    let _watchdog = watchdog();
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let publisher = Publisher::builder()
        .snapshot_ttl(FOREVER)
        .snapshot(move |_: &'static str, snapshot: SnapshotAppender<u32>| {
            let run = counted.fetch_add(1, Relaxed);
            async move {
                snapshot.push(1)?;
                match run {
                    0 => Err("database gone".into()),
                    1 => panic!("as planned"),
                    _ => Ok(9),
                }
            }
        })
        .build();
    let (mut one, mut other) = (watch(&publisher, "a"), watch(&publisher, "a"));
    for watch in [&mut one, &mut other] {
        assert_eq!(all(watch), [Part(vec![1]), Failed("database gone".into())]);
        assert_eq!(next(watch), Over);
        assert!(watch.is_terminated());
    }
    assert_eq!(publisher.stats().keys, 0);

    let mut panicking = watch(&publisher, "a");
    assert_eq!(next(&mut panicking), Part(vec![1]));
    let error = panicking
        .next()
        .now_or_never()
        .unwrap()
        .unwrap()
        .unwrap_err();
    let WatchError::Snapshot(error) = error else {
        panic!("{error}")
    };
    assert!(error.downcast_ref::<SnapshotPanicked>().is_some());

    assert_eq!(all(&mut watch(&publisher, "a")), [Part(vec![1]), End(9)]);
    assert_eq!(runs.load(Relaxed), 3);
}

#[test]
fn a_handler_may_publish_and_subscribe() {
    let _watchdog = watchdog();
    let within = Arc::new(OnceLock::<WeakPublisher<&'static str, u32>>::new());
    let handler = Arc::clone(&within);
    let publisher = Publisher::builder()
        .snapshot(move |key, snapshot: SnapshotAppender<u32>| {
            let publisher = handler.get().unwrap().upgrade().unwrap();
            async move {
                let index = if key == "other" { 6 } else { 5 };
                publisher.publish(index, [(key, 5), ("other", 6)])?;
                let mut same = publisher.subscribe(Request::new(key));
                assert_eq!(next(&mut same), Nothing, "it waits for this very snapshot");
                let mut other = publisher.subscribe(Request::new("other").after(None));
                if key != "other" {
                    let expected = [Part(vec![1]), End(4), Events(6, vec![5, 6])];
                    assert_eq!(all(&mut other), expected);
                }
                publisher.stats();
                snapshot.push(1)?;
                Ok(4)
            }
        })
        .build();
    within.set(publisher.downgrade()).unwrap();
    let mut watch = watch(&publisher, "a");
    assert_eq!(all(&mut watch), [Part(vec![1]), End(4), Events(5, vec![5])]);
}

#[test]
fn an_index_that_does_not_grow_publishes_nothing() {
    let _watchdog = watchdog();
    let publisher = Publisher::builder().build();
    let mut watch = watch(&publisher, "a");
    let error = publisher.publish(0, [("a", 0)]).unwrap_err();
    assert_eq!(error, PublishError::IndexNotGreater { index: 0, last: 0 });
    publisher.publish(5, [("a", 1)]).unwrap();
    let error = publisher.publish(4, [("a", 2), ("b", 2)]).unwrap_err();
    assert_eq!(error, PublishError::IndexNotGreater { index: 4, last: 5 });
    assert_eq!(publisher.publish(4, [("a", 3)]), Err(error));
    assert_eq!(publisher.publish(4, []), Err(error));
    let error = publisher.publish(5, [("a", 4)]).unwrap_err();
    assert_eq!(error, PublishError::IndexNotGreater { index: 5, last: 5 });
    publisher.publish(u64::MAX, [("a", 5)]).unwrap();
    assert!(publisher.publish(u64::MAX, [("a", 6)]).is_err());
    assert_eq!(
        all(&mut watch),
        [End(0), Events(5, vec![1]), Events(u64::MAX, vec![5])]
    );
}

#[test]
fn a_watch_resumes_strictly_after_what_it_saw() {
    let _watchdog = watchdog();
    let store = Store::default();
    let publisher = store.publisher(3, Duration::ZERO);
    let mut first = watch(&publisher, "a");
    for index in [10, 20, 30] {
        publisher.publish(index, [("a", 1), ("a", 2)]).unwrap();
    }
    while first.resume_point().is_none_or(|point| point.index < 10) {
        next(&mut first);
    }
    let point = first.resume_point();
    assert_eq!(
        point,
        Some(Resume {
            epoch: 1,
            index: 10
        })
    );
    drop(first);

    // Others than those it has seen: between, at, and after all commits.
    let events = |index| Events(index, vec![1, 2]);
    for (index, expected) in [
        (0, vec![events(10), events(20), events(30)]),
        (10, vec![events(20), events(30)]),
        (15, vec![events(20), events(30)]),
        (29, vec![events(30)]),
        (30, vec![]),
    ] {
        let resume = Resume { epoch: 1, index };
        let mut resumed = publisher.subscribe(Request::new("a").after(resume));
        assert_eq!(resumed.resume_point(), Some(resume));
        assert_eq!(all(&mut resumed), expected);
    }

    // The window goes on: what came after 10 is still all there, what came after 9 is not.
    publisher.publish(40, [("a", 1), ("a", 2)]).unwrap();
    let mut resumed = publisher.subscribe(Request::new("a").after(point));
    assert_eq!(all(&mut resumed), [events(20), events(30), events(40)]);
    assert_eq!(store.runs(), 1, "no snapshot was needed");
    let nine = Resume { epoch: 1, index: 9 };
    let mut reset = publisher.subscribe(Request::new("a").after(nine));
    assert_eq!(next(&mut reset), Reset(ResetReason::TooOld));
    assert_eq!(reset.resume_point(), None);
}

/// Consul 8354 among them.
#[test]
fn a_watch_that_cannot_resume_is_told_why_and_starts_anew() {
    let _watchdog = watchdog();
    let store = Store::default();
    let publisher = store.publisher(0, Duration::ZERO);
    let fresh = [Part(vec![100, 101]), Part(vec![102]), End(0)];
    publisher.publish(5, [("a", 1)]).unwrap();
    for (epoch, index, reason) in [
        (1, 4, ResetReason::TooOld),
        (1, 6, ResetReason::Ahead),
        (2, 5, ResetReason::OtherEpoch),
    ] {
        let request = Request::new("a").after(Resume { epoch, index });
        let mut watch = publisher.subscribe(request);
        assert_eq!(watch.resume_point(), None);
        assert_eq!(next(&mut watch), Reset(reason));
        assert_eq!(all(&mut watch), fresh);
    }
    // Nothing came since, though nobody watched.
    let request = Request::new("a").after(Resume { epoch: 1, index: 5 });
    let mut resumed = publisher.subscribe(request);
    assert_eq!(all(&mut resumed), []);
    publisher.publish(6, [("a", 2)]).unwrap();
    assert_eq!(all(&mut resumed), [Events(6, vec![2])]);
}

#[test]
fn a_watch_that_resumes_is_not_given_a_snapshot_older_than_what_it_has() {
    let _watchdog = watchdog();
    let store = Store::default();
    let publisher = store.publisher(2, FOREVER);
    store.gate().send(5).unwrap();
    let mut first = watch(&publisher, "a");
    let parts = [Part(vec![100, 101]), Part(vec![102])];
    assert_eq!(all(&mut first), [&parts[..], &[End(5)]].concat());
    publisher.publish(7, [("a", 7)]).unwrap();
    for index in 8..=10 {
        publisher.publish(index, [("other", 1)]).unwrap();
    }
    let resume = |index| {
        let point = Resume { epoch: 1, index };
        let mut watch = publisher.subscribe(Request::new("a").after(point));
        all(&mut watch)
    };
    // It is kept, and the commit that follows it is, too.
    let reset = [Reset(ResetReason::TooOld)];
    let kept = [&parts[..], &[End(5), Events(7, vec![7])]].concat();
    assert_eq!(resume(4), [&reset[..], &kept].concat());
    assert_eq!(store.runs(), 1);
    store.gate().send(10).unwrap();
    let made = [&parts[..], &[End(10)]].concat();
    assert_eq!(resume(6), [&reset[..], &made].concat());
    assert_eq!(store.runs(), 2);
}

/// The epoch is the same, but another process may have published what this one knows nothing of.
#[test]
fn nobody_resumes_from_before_what_a_restarted_publisher_knows() {
    let _watchdog = watchdog();
    let publisher = Publisher::<&str, u32>::builder()
        .epoch(1)
        .start_at(20)
        .history(usize::MAX)
        .build();
    assert_eq!(publisher.index(), 20);
    let backwards = PublishError::IndexNotGreater {
        index: 20,
        last: 20,
    };
    assert_eq!(publisher.publish(20, [("a", 1)]), Err(backwards));
    for published in [20, 21] {
        let resumed = |index| {
            let point = Resume { epoch: 1, index };
            next(&mut publisher.subscribe(Request::new("a").after(point)))
        };
        assert_eq!(resumed(15), Reset(ResetReason::TooOld));
        assert_eq!(resumed(20), Nothing);
        assert_eq!(resumed(published), Nothing);
        assert_eq!(resumed(25), Reset(ResetReason::Ahead));
        publisher.publish(published + 1, [("other", 1)]).unwrap();
    }
}

/// After a restart in the same epoch: the watch saw index 5 of the former process.
#[test]
fn a_kept_snapshot_older_than_what_a_watch_has_is_not_given_to_it() {
    let _watchdog = watchdog();
    let index = Arc::new(AtomicUsize::new(3));
    let state = Arc::clone(&index);
    let publisher = Publisher::<&str, u32>::builder()
        .epoch(1)
        .start_at(6)
        .snapshot_ttl(FOREVER)
        .snapshot(move |_, _| future::ready(Ok(state.load(Relaxed) as u64)))
        .build();
    assert_eq!(all(&mut watch(&publisher, "a")), [End(3)]);
    index.store(8, Relaxed);
    assert_eq!(all(&mut watch(&publisher, "b")), [End(8)]);
    let point = Resume { epoch: 1, index: 5 };
    let mut reset = publisher.subscribe(Request::new("a").after(point));
    assert_eq!(all(&mut reset), [Reset(ResetReason::TooOld), End(8)]);
    // From now on the newer one is kept.
    index.store(9, Relaxed);
    assert_eq!(all(&mut watch(&publisher, "a")), [End(8)]);
}

#[test]
fn a_shut_down_publisher_leaves_a_watcher_its_place() {
    let _watchdog = watchdog();
    let publisher = Publisher::<&str, u32>::builder().epoch(1).build();
    publisher.shutdown();
    let point = Resume { epoch: 1, index: 7 };
    let watch = publisher.subscribe(Request::new("a").after(point));
    assert_eq!(watch.resume_point(), Some(point));
}

/// tokio 5429: of those who wait for a snapshot, too.
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
    assert_eq!(publisher.stats().keys, 2);
    publisher.close_key(&key(0));
    drop(watches);
    let _watch = publisher.subscribe(Request::new(key(4)));
    publisher.reset(2);
    let _watch = publisher.subscribe(Request::new(key(4)));
    publisher.shutdown();
}

/// A former process published 6, 7 and 8, in the same epoch. A snapshot as of a lesser index, be it of
/// nothing or of another key, does not mean that this one knows of them.
#[test]
fn nobody_resumes_over_what_a_former_process_published() {
    let _watchdog = watchdog();
    let old = || Request::new("b").after(Resume { epoch: 1, index: 5 });
    let settings = || {
        Publisher::builder()
            .epoch(1)
            .start_at(8)
            .history(usize::MAX)
    };
    let publisher = settings().build();
    assert_eq!(all(&mut watch(&publisher, "b")), [End(8)]);
    publisher.publish(9, [("b", 9)]).unwrap();
    let mut resumed = publisher.subscribe(old());
    assert_eq!(next(&mut resumed), Reset(ResetReason::TooOld));

    let publisher = settings()
        .snapshot(|key: &str, _| future::ready(Ok(if key == "a" { 3 } else { 8 })))
        .build();
    let mut b = watch(&publisher, "b");
    assert_eq!(all(&mut b), [End(8)]);
    assert_eq!(all(&mut watch(&publisher, "a")), [End(3)]);
    publisher.publish(9, [("b", 9)]).unwrap();
    let mut resumed = publisher.subscribe(old());
    assert_eq!(next(&mut resumed), Reset(ResetReason::TooOld));
    // Who has what this one gave goes on.
    let given = Resume { epoch: 1, index: 8 };
    let mut resumed = publisher.subscribe(Request::new("b").after(given));
    assert_eq!(all(&mut resumed), [Events(9, vec![9])]);
}

#[test]
fn a_watch_resumes_from_a_snapshot_that_was_ahead() {
    let _watchdog = watchdog();
    let store = Store::default();
    let publisher = store.publisher(0, Duration::ZERO);
    store.gate().send(8).unwrap();
    let mut first = watch(&publisher, "a");
    assert_eq!(
        all(&mut first),
        [Part(vec![100, 101]), Part(vec![102]), End(8)]
    );
    let point = first.resume_point();
    drop(first);
    let mut resumed = publisher.subscribe(Request::new("a").after(point));
    // Both are part of the snapshot.
    publisher.publish(7, [("a", 7)]).unwrap();
    publisher.publish(8, [("a", 8)]).unwrap();
    publisher.publish(9, [("a", 9)]).unwrap();
    assert_eq!(all(&mut resumed), [Events(9, vec![9])]);
}

#[test]
fn hidden_events_still_move_the_place_to_resume_from() {
    let _watchdog = watchdog();
    let store = Store::default();
    let publisher = store.publisher(10, FOREVER);
    let request = Request::new("a").filter(|n| n % 2 == 0);
    let mut even = publisher.subscribe(request);
    let mut every = watch(&publisher, "a");
    publisher
        .publish(1, [("a", 1), ("a", 2), ("a", 3)])
        .unwrap();
    publisher.publish(2, [("a", 5)]).unwrap();
    let parts = [Part(vec![100]), Part(vec![102]), End(0)];
    assert_eq!(
        all(&mut even),
        [&parts[..], &[Events(1, vec![2]), Progress(2)]].concat()
    );
    assert_eq!(even.resume_point(), Some(Resume { epoch: 1, index: 2 }));
    // What others see is untouched.
    let parts = [Part(vec![100, 101]), Part(vec![102]), End(0)];
    let rest = [Events(1, vec![1, 2, 3]), Events(2, vec![5])];
    assert_eq!(all(&mut every), [&parts[..], &rest[..]].concat());
    let resumed = Request::new("a").after(even.resume_point());
    assert_eq!(all(&mut publisher.subscribe(resumed)), []);

    let none = Request::new("a").filter(|_| false);
    let mut none = publisher.subscribe(none);
    assert_eq!(all(&mut none), [End(0), Progress(1), Progress(2)]);
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
fn a_snapshot_older_than_a_commit_goes_on_from_the_window_or_fails() {
    let _watchdog = watchdog();
    let publisher = |history| {
        Publisher::builder()
            .history(history)
            .snapshot(
                |_: &'static str, snapshot: SnapshotAppender<u32>| async move {
                    snapshot.push(100)?;
                    Ok(5)
                },
            )
            .build()
    };
    for (replay, complete) in [
        (usize::MAX, true),
        (3, true),
        (2, true),
        (1, false),
        (0, false),
    ] {
        let publisher = publisher(replay);
        // The topic is there, and has seen commits.
        let mut early = watch(&publisher, "a");
        all(&mut early);
        for n in [4, 5, 6, 7] {
            publisher.publish(n.into(), [("a", n)]).unwrap();
        }
        let mut late = watch(&publisher, "a");
        let mut expected = vec![Part(vec![100])];
        if complete {
            expected.extend([End(5), Events(6, vec![6]), Events(7, vec![7])]);
        } else {
            let outdated = "a snapshot as of index 5, after a commit at 7";
            expected.push(Failed(outdated.into()));
        }
        assert_eq!(all(&mut late), expected, "{replay:?}");
    }
}

#[test]
fn a_key_that_panics_publishes_nothing_and_leaves_nothing_behind() {
    #[derive(Clone, PartialEq, Eq)]
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

/// Consul 20876.
#[test]
fn each_reason_to_close_is_told_as_itself() {
    let _watchdog = watchdog();
    let publisher = Publisher::builder().epoch(1).build();
    let subscribe = |key: &'static str, token: &'static str| {
        let mut watch = publisher.subscribe(Request::new(key).token(token));
        assert_eq!(all(&mut watch), [End(0)]);
        watch
    };
    let mut bystander = subscribe("b", "bob");
    let mut alice = subscribe("a", "alice");
    let mut too = subscribe("b", "alice");
    publisher.publish(1, [("a", 1), ("b", 1)]).unwrap();
    publisher.close_token("alice");
    // What it had not received is not delivered.
    assert_eq!(all(&mut alice), [Closed(CloseReason::AccessChanged)]);
    assert_eq!(all(&mut too), [Closed(CloseReason::AccessChanged)]);
    assert_eq!((next(&mut alice), next(&mut too)), (Over, Over));
    assert_eq!(all(&mut bystander), [Events(1, vec![1])]);

    let mut keyed = publisher.subscribe(Request::new("a"));
    publisher.close_key(&"a");
    assert_eq!(all(&mut keyed), [Closed(CloseReason::KeyClosed)]);
    publisher.close_all();
    assert_eq!(all(&mut bystander), [Closed(CloseReason::AllClosed)]);

    let request = Request::new("a").after(Resume { epoch: 1, index: 7 });
    let mut resetting = publisher.subscribe(request);
    publisher.reset(2);
    assert_eq!(publisher.epoch(), 2);
    assert_eq!(
        all(&mut resetting),
        [Closed(CloseReason::StateReset { epoch: 2 })]
    );
    publisher.publish(1, [("a", 1)]).unwrap();

    let mut last = watch(&publisher, "a");
    publisher.shutdown();
    assert_eq!(all(&mut last), [Closed(CloseReason::ShutDown)]);
    assert_eq!(
        all(&mut watch(&publisher, "a")),
        [Closed(CloseReason::ShutDown)]
    );
    assert_eq!(
        publisher.publish(9, [("a", 1)]),
        Err(PublishError::ShutDown)
    );
}

/// The lock is released now and then while so many are closed.
#[test]
fn a_crowd_is_closed_to_the_last_watch() {
    type Close = fn(&Publisher<u8, u32>);
    let _watchdog = watchdog();
    let ways: [(Close, CloseReason); 5] = [
        (|p| p.close_token("all"), CloseReason::AccessChanged),
        (|p| p.close_key(&1), CloseReason::KeyClosed),
        (|p| p.forget(&1), CloseReason::KeyForgotten),
        (|p| p.close_all(), CloseReason::AllClosed),
        (|p| p.close_where(|_| true), CloseReason::AccessChanged),
    ];
    for (close, reason) in ways {
        let publisher = Publisher::<u8, u32>::builder().build();
        let request = || Request::new(1).token("all");
        let mut watches: Vec<_> = (0..3_000).map(|_| publisher.subscribe(request())).collect();
        close(&publisher);
        assert_eq!(publisher.stats().subscriptions, 0);
        for watch in &mut watches {
            assert_eq!(next(watch), Closed(reason));
        }
    }
}

#[test]
fn a_crowd_is_refreshed_to_the_last_watch() {
    let _watchdog = watchdog();
    let publisher = Publisher::<u8, u32>::builder().history(10).build();
    let mut watches: Vec<_> = (0..3_000)
        .map(|_| publisher.subscribe(Request::new(1)))
        .collect();
    for watch in &mut watches {
        assert_eq!(next(watch), End(0));
    }
    publisher.refresh(&1);
    for watch in &mut watches {
        assert_eq!(next(watch), Reset(ResetReason::Refreshed));
    }
}

#[test]
fn a_close_wakes_at_once() {
    let _watchdog = watchdog();
    let store = Store::default();
    let publisher = store.publisher(0, Duration::ZERO);
    let _closed = store.gate();
    let waiting_for_events = Publisher::<&str, u32>::builder().build();
    let mut events = task::spawn(watch(&waiting_for_events, "a"));
    let mut snapshot = task::spawn(watch(&publisher, "a"));
    for watch in [&mut events, &mut snapshot] {
        while watch.poll_next().is_ready() {}
    }
    waiting_for_events.close_all();
    publisher.close_key(&"a");
    assert!(events.is_woken() && snapshot.is_woken());
}

/// Nomad 27312.
#[test]
fn a_closed_watch_does_not_stay_registered() {
    let _watchdog = watchdog();
    let publisher = Publisher::builder().build();
    let one = publisher.subscribe(Request::new("a").token("alice"));
    let other = watch(&publisher, "a");
    assert_eq!(publisher.stats().subscriptions, 2);
    publisher.close_token("alice");
    assert_eq!(publisher.stats().subscriptions, 1);
    drop(other);
    assert_eq!(
        (publisher.stats().subscriptions, publisher.stats().keys),
        (0, 0)
    );
    // Its drop finds nothing to remove, not even from a topic that stands in its place.
    let fresh = watch(&publisher, "b");
    drop(one);
    assert_eq!(
        (publisher.stats().subscriptions, publisher.stats().keys),
        (1, 1)
    );
    drop(fresh);
    let _: Publisher<&str, u32> = publisher;
}

#[test]
fn watches_end_with_the_last_handle() {
    let _watchdog = watchdog();
    let publisher = Publisher::builder().build();
    let mut watch = watch(&publisher, "a");
    let handle = publisher.clone();
    drop(publisher);
    handle.publish(1, [("a", 1)]).unwrap();
    drop(handle);
    assert_eq!(all(&mut watch), [End(0), Events(1, vec![1])]);
    assert_eq!(next(&mut watch), Over);
    assert!(watch.is_terminated());
}

#[test]
fn the_figures_tell_who_is_slow_and_what_is_kept() {
    let _watchdog = watchdog();
    let publisher = Publisher::builder().history(2).build();
    let mut fast = publisher.subscribe(Request::new("a").token("fast"));
    let slow = publisher.subscribe(Request::new("a").token("slow"));
    let other = publisher.subscribe(Request::new("b").token("other"));
    for index in 1..=5 {
        publisher.publish(index, [("a", 1)]).unwrap();
    }
    all(&mut fast);
    let figures = publisher.stats();
    assert_eq!(
        (figures.keys, figures.subscriptions, figures.retained_items),
        (2, 3, 2)
    );
    let slowest = &publisher.slowest(1)[0];
    assert_eq!((&slowest.keys[..], slowest.lag), (&["a"][..], 5));
    assert_eq!(&*slowest.tokens[0], "slow");
    assert_eq!((fast.lag(), other.lag()), (0, 1), "the end of its snapshot");
    drop(slow);
    assert_eq!(publisher.slowest(1)[0].lag, 0);
}

/// The tables of a crowd of keys are given up, but not with keys in them.
#[test]
fn keys_that_are_left_of_a_crowd_are_followed_still() {
    let _watchdog = watchdog();
    let publisher = Publisher::<u64, u32>::builder().epoch(1).build();
    let mut crowd: Vec<_> = (0..200)
        .map(|key| publisher.subscribe(Request::new(key)))
        .collect();
    crowd.truncate(1);
    publisher.publish(1, [(0, 1)]).unwrap();
    assert_eq!(all(&mut crowd[0]), [End(0), Events(1, vec![1])]);
    drop(crowd);
    assert_eq!(publisher.stats().keys, 0);
    let mut again = publisher.subscribe(Request::new(7));
    publisher.publish(2, [(7, 2)]).unwrap();
    assert_eq!(all(&mut again), [End(1), Events(2, vec![2])]);
}

/// Without a history it may keep as many commits as it has parts.
#[test]
fn a_kept_snapshot_that_retains_more_than_the_history_is_given_up() {
    let _watchdog = watchdog();
    for (history, most) in [(0, 2), (5, 5)] {
        let store = Store::default();
        let publisher = store.publisher(history, FOREVER);
        all(&mut watch(&publisher, "a"));
        let kept = || publisher.stats().cached_snapshots;
        for index in 1..=most {
            publisher.publish(2 * index, [("a", 1)]).unwrap();
            publisher.publish(2 * index + 1, [("b", 1)]).unwrap();
            assert_eq!(kept(), 1, "after {index} commits");
        }
        publisher.publish(100, [("a", 1)]).unwrap();
        assert_eq!(kept(), 0);
    }
}

#[test]
fn unwatched_keys_keep_nothing() {
    let _watchdog = watchdog();
    let publisher = Publisher::builder().history(0).build();
    for key in 0..100_000_u32 {
        publisher
            .publish(u64::from(key) + 1, [(key, Arc::new(key))])
            .unwrap();
    }
    assert_eq!(publisher.stats().keys, 0);
    let payload = Arc::new(0);
    publisher
        .publish(
            100_001,
            [(1, Arc::clone(&payload)), (2, Arc::clone(&payload))],
        )
        .unwrap();
    assert_eq!(Arc::strong_count(&payload), 1);
}

/// A waker and an event's drop that use the publisher: under its lock they would wait for ever.
#[test]
fn nothing_foreign_runs_under_the_lock() {
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

#[test]
fn a_snapshot_is_over_once_its_handler_has_returned() {
    let _watchdog = watchdog();
    let kept = Arc::new(Mutex::new(None));
    let keeps = Arc::clone(&kept);
    let publisher = Publisher::builder()
        .snapshot(move |_: &'static str, snapshot: SnapshotAppender<u32>| {
            *keeps.lock().unwrap() = Some(snapshot);
            future::ready(Ok(0))
        })
        .build();
    let mut watch = watch(&publisher, "a");
    assert_eq!(all(&mut watch), [End(0)]);
    let appender = kept.lock().unwrap().take().unwrap();
    let over = appender.push(1).unwrap_err();
    assert!(over.to_string().contains("over"));
    assert_eq!(all(&mut watch), []);
}

#[test]
fn the_figures_count_from_where_a_kept_snapshot_leads_to() {
    let _watchdog = watchdog();
    let store = Store::default();
    let publisher = store.publisher(0, FOREVER);
    let gate = store.gate();
    let mut first = watch(&publisher, "a");
    assert_eq!(next(&mut first), Part(vec![100, 101]));
    publisher.publish(1, [("a", 1)]).unwrap();
    publisher.publish(2, [("a", 2)]).unwrap();
    gate.send(2).unwrap();
    all(&mut first);
    publisher.publish(3, [("a", 3)]).unwrap();
    drop(first);
    // The first two are part of it.
    let mut late = watch(&publisher, "a");
    let lag = || publisher.slowest(1)[0].lag;
    assert_eq!(lag(), 1);
    let parts = [Part(vec![100, 101]), Part(vec![102]), End(2)];
    assert_eq!(all(&mut late), [&parts[..], &[Events(3, vec![3])]].concat());
    assert_eq!(lag(), 0);
}

#[test]
fn the_figures_count_from_where_a_watch_begins() {
    let _watchdog = watchdog();
    let store = Store::default();
    let publisher = store.publisher(usize::MAX, Duration::ZERO);
    let lag = || publisher.slowest(1)[0].lag;
    all(&mut watch(&publisher, "a"));
    let mut early = watch(&publisher, "a");
    for n in 1..=5 {
        publisher.publish(n.into(), [("a", n)]).unwrap();
    }
    assert_eq!(lag(), 5);
    drop(early);

    // In the midst of the window.
    let point = Resume { epoch: 1, index: 2 };
    let mut resumed = publisher.subscribe(Request::new("a").after(point));
    assert_eq!(lag(), 3);
    all(&mut resumed);
    assert_eq!(lag(), 0);
    drop(resumed);

    // By a snapshot that is as of the third of what the window holds.
    store.gate().send(3).unwrap();
    early = watch(&publisher, "a");
    assert_eq!(lag(), 0, "nothing came since");
    while next(&mut early) != End(3) {}
    assert_eq!(lag(), 2);
    publisher.publish(6, [("a", 6)]).unwrap();
    assert_eq!(lag(), 3);
}

#[test]
fn the_slowest_of_many_is_found_wherever_it_stands() {
    let _watchdog = watchdog();
    for slowest in 0..3 {
        let publisher = Publisher::<usize, u32>::builder().build();
        let mut watches: Vec<_> = (0..3)
            .map(|key| publisher.subscribe(Request::new(key)))
            .collect();
        for watch in &mut watches {
            all(watch);
        }
        for (index, behind) in (1..).zip([0, 1, 1, 2, 2, 2]) {
            let key = (slowest + 1 + behind) % 3;
            publisher.publish(index, [(key, 1)]).unwrap();
        }
        let found = &publisher.slowest(1)[0];
        assert_eq!((found.keys[0], found.lag), (slowest, 3));
    }
}

#[test]
fn an_expired_snapshot_is_freed_by_publishing_alone() {
    let _watchdog = watchdog();
    let payload = Arc::new(());
    let state = Arc::clone(&payload);
    let publisher = Publisher::builder()
        .snapshot_ttl(MOMENT)
        .snapshot(move |_: &str, snapshot: SnapshotAppender<Arc<()>>| {
            let state = Arc::clone(&state);
            async move {
                snapshot.push(state)?;
                Ok(0)
            }
        })
        .build();
    let mut watch = publisher.subscribe(Request::new("a"));
    while watch.next().now_or_never().is_some() {}
    drop(watch);
    assert_eq!(Arc::strong_count(&payload), 3, "kept");
    for index in 1..=100 {
        publisher.publish(index, []).unwrap();
    }
    assert_eq!(Arc::strong_count(&payload), 2);
}

#[test]
fn a_window_that_reaches_further_back_than_a_snapshot_is_resumed_from() {
    let _watchdog = watchdog();
    let store = Store::default();
    let publisher = store.publisher(usize::MAX, FOREVER);
    let gate = store.gate();
    let mut first = watch(&publisher, "a");
    assert_eq!(next(&mut first), Part(vec![100, 101]));
    for n in 1..=4 {
        publisher.publish(n.into(), [("a", n)]).unwrap();
    }
    gate.send(3).unwrap();
    all(&mut first);
    let point = Resume { epoch: 1, index: 1 };
    let mut resumed = publisher.subscribe(Request::new("a").after(point));
    let expected = [2, 3, 4].map(|n| Events(n.into(), vec![n]));
    assert_eq!(all(&mut resumed), expected);
}

#[test]
fn a_watch_that_resumes_at_the_newest_commit_follows_the_next() {
    let _watchdog = watchdog();
    let publisher = Publisher::builder().epoch(1).build();
    publisher.publish(5, [("a", 1)]).unwrap();
    let point = Resume { epoch: 1, index: 5 };
    let mut resumed = publisher.subscribe(Request::new("a").after(point));
    assert_eq!(all(&mut resumed), []);
    publisher.publish(6, [("a", 2)]).unwrap();
    assert_eq!(all(&mut resumed), [Events(6, vec![2])]);
}

#[test]
fn what_a_filter_panicked_on_is_not_delivered_after_a_close() {
    let _watchdog = watchdog();
    let publisher = Publisher::builder().build();
    let panics = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&panics);
    let mut watch = publisher.subscribe(Request::new("a").filter(move |_: &u32| {
        assert!(counted.fetch_add(1, Relaxed) > 0, "as planned");
        true
    }));
    assert_eq!(next(&mut watch), End(0));
    publisher.publish(1, [("a", 1)]).unwrap();
    let panicking = std::panic::AssertUnwindSafe(|| next(&mut watch));
    std::panic::catch_unwind(panicking).unwrap_err();
    publisher.close_key(&"a");
    assert_eq!(all(&mut watch), [Closed(CloseReason::KeyClosed)]);
    assert_eq!(panics.load(Relaxed), 1, "it is not asked again");
}

#[test]
fn a_watch_is_terminated_only_once_it_has_ended() {
    let _watchdog = watchdog();
    let publisher = Publisher::<&str, u32>::builder().build();
    let mut watch = watch(&publisher, "a");
    assert!(!watch.is_terminated());
    all(&mut watch);
    assert!(!watch.is_terminated(), "it waits");
    drop(publisher);
    assert_eq!(next(&mut watch), Over);
    assert!(watch.is_terminated());
}

#[test]
fn a_watch_that_goes_does_not_leave_its_task_with_the_snapshot() {
    struct Task;
    impl std::task::Wake for Task {
        fn wake(self: Arc<Self>) {}
    }
    let _watchdog = watchdog();
    let store = Store::default();
    let publisher = store.publisher(0, Duration::ZERO);
    let _never = store.gate();
    let mut stays = watch(&publisher, "a");
    let mut goes = watch(&publisher, "a");
    all(&mut stays);
    let task = Arc::new(Task);
    let waker = std::task::Waker::from(Arc::clone(&task));
    let mut cx = std::task::Context::from_waker(&waker);
    for _ in 0..10 {
        while goes.poll_next_unpin(&mut cx).is_ready() {}
    }
    drop((waker, goes));
    assert_eq!(Arc::strong_count(&task), 1);
    assert_eq!(next(&mut stays), Nothing);
}

#[test]
fn what_ends_a_watch_says_why() {
    use std::error::Error;
    let _watchdog = watchdog();
    let reasons = [
        (CloseReason::AccessChanged, "access"),
        (CloseReason::KeyClosed, "key"),
        (CloseReason::AllClosed, "all watches"),
        (CloseReason::StateReset { epoch: 7 }, "epoch 7"),
        (CloseReason::ShutDown, "shut down"),
    ];
    for (reason, text) in reasons {
        assert!(reason.to_string().contains(text));
        let error = WatchError::Closed(reason);
        assert!(error.to_string().contains(text) && error.source().is_none());
    }
    assert!(PublishError::ShutDown.to_string().contains("shut down"));
    let backwards = PublishError::IndexNotGreater { index: 4, last: 5 };
    assert!(backwards.to_string().contains("index 4") && backwards.to_string().contains("index 5"));

    let publisher = Publisher::<&str, u32>::builder()
        .snapshot(|_, snapshot| {
            drop(snapshot);
            async { panic!("as planned") }
        })
        .build();
    let mut failed = watch(&publisher, "a");
    failed.next().now_or_never();
    let failed = failed.next().now_or_never();
    let Some(Some(Err(error))) = failed else {
        panic!("no snapshot")
    };
    assert!(error.to_string().contains("snapshot"));
    let source = error.source().unwrap();
    assert!(source.is::<SnapshotPanicked>() && source.to_string().contains("panicked"));
}

/// A key whose `clone` panics when the count given is down to zero.
mod fragile {
    use super::*;

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

/// A watch that is being closed is told so, also where its topic goes before it is.
#[test]
fn a_close_is_not_taken_for_the_end_where_the_topic_goes_meanwhile() {
    type Place = Mutex<Option<Watch<&'static str, u32>>>;

    /// Drops the watch that is not closed, which was the last to need the topic; then polls the others.
    struct Meddles {
        other: Place,
        closed: [Place; 2],
    }

    impl Wake for Meddles {
        fn wake(self: Arc<Self>) {
            let other = self.other.lock().unwrap().take();
            drop(other);
            let mut cx = Context::from_waker(Waker::noop());
            for watch in &self.closed {
                let mut watch = watch.lock().unwrap();
                let Some(open) = watch.as_mut() else { continue };
                if let Poll::Ready(end) = open.poll_next_unpin(&mut cx) {
                    assert!(matches!(end, Some(Err(WatchError::Closed(_)))));
                    // Said once.
                    *watch = None;
                }
            }
        }
    }

    let _watchdog = watchdog();
    let publisher = Publisher::builder().history(0).build();
    let watch = |token| {
        let mut watch = publisher.subscribe(Request::new("key").token(token));
        assert_eq!(all(&mut watch), [End(0)]);
        Mutex::new(Some(watch))
    };
    let meddles = Arc::new(Meddles {
        other: watch("stays"),
        closed: [watch("goes"), watch("goes")],
    });
    let waker = Waker::from(meddles.clone());
    let mut cx = Context::from_waker(&waker);
    for watch in &meddles.closed {
        let mut watch = watch.lock().unwrap();
        assert!(
            watch
                .as_mut()
                .unwrap()
                .poll_next_unpin(&mut cx)
                .is_pending()
        );
    }
    publisher.close_token("goes");
    assert_eq!(publisher.stats().keys, 0);
}
