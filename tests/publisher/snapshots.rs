//! Snapshots: how they are made, shared, given up, and handed over to commits.

use std::future;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use event_buffer::publisher::{
    Begin, CloseReason, Publisher, Request, ResetReason, Resume, SnapshotAppender, SnapshotGivenUp,
    SnapshotPanicked, Update, WatchError, WeakPublisher,
};
use futures::stream::FusedStream;
use futures::{FutureExt, StreamExt};
use tokio_test::task;

use super::seen::Seen::{End, Events, Failed, Nothing, Over, Part};
use super::seen::{
    FRESH, Key, REFRESHED, all, anew, closed_by, next, publish, updates, watch, with_snapshots,
};
use super::store::{FOREVER, Store};
use crate::support::{Task, watchdog};

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

        // A watch that gets the cached snapshot receives the same.
        let mut late = watch(&publisher, "a");
        expected.insert(0, Part(vec![100, 101]));
        assert_eq!(all(&mut late), expected);
        assert_eq!(store.runs(), 1);
    }
}

/// Consul 9772.
#[test]
fn updates_of_one_watch_are_not_in_the_cached_snapshot() {
    let _watchdog = watchdog();
    let store = Store::default();
    let publisher = store.publisher(0, FOREVER);
    let elsewhere = Resume { epoch: 2, index: 5 };
    let mut resumed = publisher.subscribe(Request::new("a").after(elsewhere));
    assert_eq!(next(&mut resumed), anew(ResetReason::OtherEpoch));
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
        [closed_by(CloseReason::StateReset { epoch: 2 })]
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
            [closed_by(CloseReason::StateReset { epoch: 2 })]
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
fn a_snapshot_survives_the_watch_that_started_it() {
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
fn a_failed_snapshot_fails_all_waiting_watches_and_is_not_cached() {
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
        assert_eq!(next(watch), Part(vec![1]));
        assert_eq!(next(watch).failure(), "database gone");
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
fn a_snapshot_older_than_a_commit_continues_from_the_window_or_fails() {
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
        assert_eq!(next(&mut late), Part(vec![100]));
        if complete {
            let rest = [End(5), Events(6, vec![6]), Events(7, vec![7])];
            assert_eq!(all(&mut late), rest, "{replay:?}");
        } else {
            let outdated = "a snapshot as of index 5, after a commit at 7";
            assert_eq!(next(&mut late).failure(), outdated, "{replay:?}");
        }
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
fn a_dropped_watch_leaves_no_waker_with_the_snapshot() {
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
fn a_snapshot_of_the_keys_own_index_is_not_outdated_by_other_keys() {
    let _watchdog = watchdog();
    let (publisher, _) = with_snapshots(7);
    let mut early = publisher.subscribe(Request::new("a"));
    updates(&mut early);
    publisher.publish(7, [("a", 7)]).unwrap();
    for _ in 0..1_000 {
        publish(&publisher, "other", 0);
    }
    let mut late = publisher.subscribe(Request::new("a"));
    assert_eq!(updates(&mut late), [FRESH, Part(vec![100]), End(7)]);
    publish(&publisher, "a", 8);
    for _ in 0..10 {
        publish(&publisher, "other", 0);
    }
    let mut outdated = publisher.subscribe(Request::new("a"));
    assert!(matches!(
        updates(&mut outdated)[..],
        [.., Failed(WatchError::Snapshot(_)), Over]
    ));
}

#[test]
fn a_handler_that_refreshes_its_own_key_is_called_again() {
    let _watchdog = watchdog();
    let within = Arc::new(OnceLock::<WeakPublisher<Key, u32>>::new());
    let (weak, calls) = (within.clone(), AtomicUsize::new(0));
    let publisher = Publisher::builder()
        .snapshot(move |key: Key, snapshot: SnapshotAppender<u32>| {
            let publisher = weak.get().and_then(WeakPublisher::upgrade);
            let is_first = calls.fetch_add(1, SeqCst) == 0;
            async move {
                if is_first {
                    publisher.ok_or("gone")?.refresh(&key);
                }
                // No watch receives the part of the first run.
                _ = snapshot.push(u32::from(is_first));
                Ok(0)
            }
        })
        .build();
    within.set(publisher.downgrade()).unwrap();
    let mut watch = publisher.subscribe(Request::new("a"));
    assert_eq!(
        updates(&mut watch),
        [FRESH, REFRESHED, Part(vec![0]), End(0)]
    );
    let stats = publisher.stats();
    assert_eq!((stats.snapshots_begun, stats.snapshots_given_up), (2, 1));
    assert_eq!(stats.snapshots_in_flight, 0);
}

/// What it holds goes at once, though no watch is polled.
#[test]
fn closing_or_refreshing_a_key_drops_a_handler_that_hangs() {
    let _watchdog = watchdog();
    let ways: [fn(&Publisher<Key, u32>); 6] = [
        |publisher| publisher.close_key(&"a"),
        |publisher| publisher.refresh(&"a"),
        |publisher| publisher.forget(&"a"),
        Publisher::close_all,
        |publisher| publisher.close_token("token"),
        Publisher::shutdown,
    ];
    for give_up in ways {
        let held = Arc::new(());
        let by_handler = Mutex::new(Some(held.clone()));
        let publisher = Publisher::builder()
            .snapshot(move |_: Key, _: SnapshotAppender<u32>| {
                let held = by_handler.lock().unwrap().take();
                async move {
                    future::pending::<()>().await;
                    drop(held);
                    Ok(0)
                }
            })
            .build();
        let mut watch = publisher.subscribe(Request::new("a").token("token"));
        assert_eq!(updates(&mut watch), [FRESH]);
        assert_eq!(Arc::strong_count(&held), 2);
        give_up(&publisher);
        assert_eq!(Arc::strong_count(&held), 1);
    }
}

#[test]
fn a_snapshot_past_its_deadline_is_given_up_by_a_poll_or_a_new_watch() {
    let _watchdog = watchdog();
    let calls = AtomicUsize::new(0);
    let publisher = Publisher::builder()
        .snapshot_timeout(Duration::ZERO)
        .snapshot(move |_: Key, _: SnapshotAppender<u32>| {
            let hangs = calls.fetch_add(1, SeqCst) == 0;
            async move {
                if hangs {
                    future::pending::<()>().await;
                }
                Ok(7)
            }
        })
        .build();
    let mut waits = publisher.subscribe(Request::new("a"));
    assert!(matches!(
        waits.next().now_or_never(),
        Some(Some(Ok(Update::Begin(Begin::Fresh))))
    ));
    let mut comes = publisher.subscribe(Request::new("a"));
    let gave_up = updates(&mut waits);
    let [Failed(WatchError::Snapshot(error)), Over] = &gave_up[..] else {
        panic!("{gave_up:?}");
    };
    assert!(error.downcast_ref::<SnapshotGivenUp>().is_some());
    comes.next().now_or_never();
    assert_eq!(publisher.stats().snapshots_begun, 2);
}

#[test]
fn a_part_that_all_have_read_is_freed_while_the_snapshot_continues() {
    let _watchdog = watchdog();
    let payload = Arc::new(());
    let part = payload.clone();
    let publisher = Publisher::builder()
        .snapshot(move |_: Key, snapshot: SnapshotAppender<Arc<()>>| {
            let part = part.clone();
            async move {
                snapshot.push(part)?;
                future::pending().await
            }
        })
        .build();
    let mut watch = publisher.subscribe(Request::new("a"));
    while watch.next().now_or_never().is_some() {}
    // The handler's own, that of its future, and ours.
    assert_eq!(Arc::strong_count(&payload), 2);
}

#[test]
fn a_failed_snapshot_names_its_key() {
    let _watchdog = watchdog();
    let publisher = Publisher::builder()
        .snapshot(|key: Key, _: SnapshotAppender<u32>| async move {
            if key == "b" {
                Err("no such key".into())
            } else {
                Ok(0)
            }
        })
        .build();
    let mut watch = publisher.subscribe(Request::keys(["a", "b", "c"]));
    let seen = updates(&mut watch);
    assert!(
        matches!(seen[..], [_, Failed(WatchError::Snapshot(_)), Over]),
        "{seen:?}"
    );
    assert_eq!(watch.failed_key(), Some(&"b"));
}
