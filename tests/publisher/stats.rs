//! Statistics, and which watch is the slowest.

use std::future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use event_buffer::publisher::{
    BoxError, Publisher, Request, Resume, SnapshotAppender, SnapshotOver, Watch,
};

use super::seen::Seen::{End, Events, Part};
use super::seen::{FRESH, Key, all, next, updates, watch};
use super::store::{FOREVER, Store};
use crate::support::watchdog;

#[test]
fn stats_report_slow_watches_and_what_is_retained() {
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

#[test]
fn stats_count_from_the_position_after_a_cached_snapshot() {
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
fn stats_count_from_the_start_of_a_watch() {
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
fn the_slowest_of_many_watches_is_found_at_any_position() {
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

type Leave = fn(&Publisher<Key, u32>, Watch<Key, u32>);

#[test]
fn a_snapshot_that_no_watch_waits_for_any_more_counts_as_given_up() {
    let _watchdog = watchdog();
    let ways: [Leave; 3] = [
        |_, watch| drop(watch),
        |publisher, _watch| publisher.close_all(),
        |_, mut watch| {
            watch.closer().close("enough");
            assert_eq!(updates(&mut watch).len(), 2);
        },
    ];
    for leave in ways {
        let kept = Arc::new(Mutex::new(None));
        let by_handler = Arc::clone(&kept);
        let handler = move |_, snapshot: SnapshotAppender<u32>| {
            *by_handler.lock().unwrap() = Some(snapshot);
            future::pending()
        };
        let publisher = Publisher::builder().snapshot(handler).build();
        let mut watch = publisher.subscribe(Request::new("a"));
        assert_eq!(updates(&mut watch), [FRESH]);
        leave(&publisher, watch);
        let stats = publisher.stats();
        let counted = (stats.snapshots_begun, stats.snapshots_given_up);
        assert_eq!((counted, stats.snapshots_in_flight), ((1, 1), 0));
        assert_eq!(
            kept.lock().unwrap().as_ref().unwrap().push(1),
            Err(SnapshotOver)
        );
    }
}

#[test]
fn a_handler_that_panics_when_it_is_dropped_counts_as_failed() {
    struct Handler;

    impl Future for Handler {
        type Output = Result<u64, BoxError>;

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
            Poll::Pending
        }
    }

    impl Drop for Handler {
        fn drop(&mut self) {
            panic!("as planned");
        }
    }

    let _watchdog = watchdog();
    let handler = |_, _: SnapshotAppender<u32>| Handler;
    let publisher = Publisher::builder().snapshot(handler).build();
    let mut watch = publisher.subscribe(Request::new("a"));
    assert_eq!(updates(&mut watch), [FRESH]);
    assert!(catch_unwind(AssertUnwindSafe(|| drop(watch))).is_err());
    let stats = publisher.stats();
    let counted = (stats.snapshots_begun, stats.snapshots_failed);
    assert_eq!((counted, stats.snapshots_in_flight), ((1, 1), 0));
}
