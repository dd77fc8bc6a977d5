//! What a live service needs of a publisher: one history for all keys, places to resume from, limits, snapshots
//! that are given up, keys that are refreshed and completed, and several keys in one watch.
#![cfg(all(not(loom), feature = "publisher"))]

mod support;

use std::future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use event_buffer::publisher::{
    Begin, BoxError, CloseReason, OverLimit, PublishError, Publisher, Request, ResetReason, Resume,
    SnapshotAppender, SnapshotGivenUp, SnapshotOver, Update, Watch, WatchError, WeakPublisher,
};
use event_buffer::{LagLimit, RecvError, TryRecvError};
use futures::{FutureExt, StreamExt};
use support::watchdog;
use tokio_test::task;

/// An update, in few letters.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Begin(Begin),
    Part(Vec<u32>),
    End(u64),
    Events(u64, Vec<u32>),
    Progress(u64),
    Completed(&'static str),
    Failed(WatchError),
    Over,
}
use Begin::{Fresh, Resumed};
use Seen::{Completed, End, Events, Failed, Over, Part, Progress};

const REFRESHED: Seen = Seen::Begin(Begin::Reset(ResetReason::Refreshed));
const TOO_OLD: Seen = Seen::Begin(Begin::Reset(ResetReason::TooOld));
const LAGGED: Seen = Seen::Begin(Begin::Reset(ResetReason::Lagged));

type Key = &'static str;

fn seen(next: Option<Result<Update<Key, u32>, WatchError>>) -> Seen {
    let Some(next) = next else { return Over };
    match next {
        Err(error) => Failed(error),
        Ok(Update::Begin(begin)) => Seen::Begin(begin),
        Ok(Update::Snapshot(part)) => Part(part.iter().copied().collect()),
        Ok(Update::EndOfSnapshot { index }) => End(index),
        Ok(Update::Events(commit)) => {
            let events = commit.iter().copied().collect();
            Events(commit.index().expect("of a commit"), events)
        }
        Ok(Update::Progress { index }) => Progress(index),
        Ok(Update::Completed(key)) => Completed(key),
    }
}

/// All that the watch has to deliver now, its end once.
fn all(watch: &mut Watch<Key, u32>) -> Vec<Seen> {
    let mut all = Vec::new();
    while let Some(next) = watch.next().now_or_never() {
        all.push(seen(next));
        if all.last() == Some(&Over) {
            break;
        }
    }
    all
}

fn resume(publisher: &Publisher<Key, u32>, key: Key, index: u64) -> Vec<Seen> {
    let epoch = publisher.epoch();
    let request = Request::new(key).after(Resume { epoch, index });
    all(&mut publisher.subscribe(request))
}

fn publish(publisher: &Publisher<Key, u32>, key: Key, event: u32) -> u64 {
    publisher
        .publish_next([(key, event)])
        .expect("indexes are left")
}

/// A publisher with a handler that returns this index, and counts its calls.
fn with_snapshots(index: u64) -> (Publisher<Key, u32>, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let publisher = Publisher::builder()
        .history(10)
        .snapshot(move |_: Key, snapshot: SnapshotAppender<u32>| {
            counted.fetch_add(1, SeqCst);
            async move {
                snapshot.push(100)?;
                Ok(index)
            }
        })
        .build();
    (publisher, calls)
}

#[test]
fn a_quiet_key_resumes_exactly_until_something_of_it_has_left() {
    let _watchdog = watchdog();
    let publisher = Publisher::builder().history(3).build();
    for (index, key) in (1..).zip(["quiet", "a", "quiet", "a", "a"]) {
        publisher.publish(index, [(key, 0)]).unwrap();
    }
    // 3, 4 and 5 are retained; 1 of "quiet" has left, and 2 of "a".
    assert_eq!(resume(&publisher, "quiet", 0), [TOO_OLD, End(5)]);
    assert_eq!(
        resume(&publisher, "quiet", 1),
        [Seen::Begin(Resumed), Events(3, vec![0])]
    );
    assert_eq!(resume(&publisher, "a", 1), [TOO_OLD, End(5)]);
    let since = [Seen::Begin(Resumed), Events(4, vec![0]), Events(5, vec![0])];
    assert_eq!(resume(&publisher, "a", 2), since);
    // Nothing is known of a key without a topic but what has left of any key.
    assert_eq!(resume(&publisher, "new", 1), [TOO_OLD, End(5)]);
    assert_eq!(resume(&publisher, "new", 2), [Seen::Begin(Resumed)]);
    // A watch keeps the topic, and its figure with it: what leaves of others does not count.
    let watch = publisher.subscribe(Request::new("quiet"));
    for _ in 0..100 {
        publish(&publisher, "a", 0);
    }
    assert_eq!(resume(&publisher, "quiet", 3), [Seen::Begin(Resumed)]);
    assert_eq!(resume(&publisher, "quiet", 2), [TOO_OLD, End(105)]);
    drop(watch);
    assert_eq!(publisher.stats().keys, 1);
}

#[test]
fn a_commit_without_events_moves_the_index_and_takes_no_place() {
    let _watchdog = watchdog();
    let publisher = Publisher::builder().history(1).build();
    publisher.publish(1, [("a", 1)]).unwrap();
    for index in 2..=100 {
        publisher.publish(index, []).unwrap();
    }
    assert_eq!(
        (publisher.index(), publisher.stats().retained_items),
        (100, 1)
    );
    assert_eq!(
        resume(&publisher, "a", 0),
        [Seen::Begin(Resumed), Events(1, vec![1])]
    );
}

#[test]
fn the_place_after_the_last_update_is_as_far_as_the_publisher() {
    let _watchdog = watchdog();
    let (publisher, _) = with_snapshots(7);
    publisher.publish(7, [("a", 7)]).unwrap();
    for _ in 0..1_000 {
        publish(&publisher, "other", 0);
    }
    let mut watch = publisher.subscribe(Request::new("a"));
    // What has left of the key is part of the snapshot.
    assert_eq!(
        all(&mut watch),
        [Seen::Begin(Fresh), Part(vec![100]), End(7)]
    );
    let place = watch.resume_point().unwrap();
    assert_eq!(place.index, 1_007);
    drop(watch);
    assert_eq!(resume(&publisher, "a", place.index), [Seen::Begin(Resumed)]);
}

#[test]
fn a_snapshot_of_the_keys_own_index_is_not_outdated_by_other_keys() {
    let _watchdog = watchdog();
    let (publisher, _) = with_snapshots(7);
    let mut early = publisher.subscribe(Request::new("a"));
    all(&mut early);
    publisher.publish(7, [("a", 7)]).unwrap();
    for _ in 0..1_000 {
        publish(&publisher, "other", 0);
    }
    let mut late = publisher.subscribe(Request::new("a"));
    assert_eq!(
        all(&mut late),
        [Seen::Begin(Fresh), Part(vec![100]), End(7)]
    );
    publish(&publisher, "a", 8);
    for _ in 0..10 {
        publish(&publisher, "other", 0);
    }
    let mut outdated = publisher.subscribe(Request::new("a"));
    assert!(matches!(
        all(&mut outdated)[..],
        [.., Failed(WatchError::Snapshot(_)), Over]
    ));
}

#[test]
fn commits_are_numbered_to_the_end_of_the_numbers() {
    let _watchdog = watchdog();
    let publisher = Publisher::builder().start_at(u64::MAX - 1).build();
    assert_eq!(publisher.publish_next([("a", 1)]), Ok(u64::MAX));
    assert_eq!(
        publisher.publish_next([("a", 1)]),
        Err(PublishError::IndexesExhausted)
    );
    assert_eq!(publisher.index(), u64::MAX);
    let zero = Publisher::builder().build().publish(0, [("a", 1)]);
    assert_eq!(
        zero,
        Err(PublishError::IndexNotGreater { index: 0, last: 0 })
    );
}

#[test]
fn a_mark_of_progress_wakes_only_who_has_not_come_to_its_index() {
    let _watchdog = watchdog();
    let publisher = Publisher::builder().history(10).build();
    let watch = |key| task::spawn(publisher.subscribe(Request::new(key)));
    let (mut behind, mut busy) = (watch("quiet"), watch("busy"));
    for watch in [&mut behind, &mut busy] {
        while watch.poll_next().is_ready() {}
    }
    publish(&publisher, "busy", 1);
    while busy.poll_next().is_ready() {}
    let mut fresh = watch("quiet");
    while fresh.poll_next().is_ready() {}
    publisher.mark_progress();
    assert_eq!(
        [&behind, &busy, &fresh].map(task::Spawn::is_woken),
        [true, false, false]
    );
    let mut behind = behind.into_inner();
    assert_eq!(all(&mut behind), [Progress(1)]);
    assert_eq!(behind.resume_point().unwrap().index, 1);
    // Nothing is left of it.
    publisher.mark_progress();
    assert_eq!(all(&mut behind), []);
    assert_eq!(publisher.stats().retained_items, 1);
}

#[test]
fn a_watch_has_the_methods_of_a_reader() {
    let _watchdog = watchdog();
    let publisher = Publisher::builder().build();
    let mut watch = publisher.subscribe(Request::new("a"));
    assert!(matches!(watch.try_recv(), Ok(Update::Begin(Fresh))));
    assert!(matches!(
        watch.recv_blocking(),
        Ok(Update::EndOfSnapshot { index: 0 })
    ));
    assert_eq!(watch.try_recv().unwrap_err(), TryRecvError::Empty);
    publish(&publisher, "a", 1);
    assert!(matches!(
        watch.recv_timeout(Duration::ZERO),
        Ok(Update::Events(_))
    ));
    assert!(!watch.is_closed());
    assert!(watch.closer().close("enough"));
    assert!(!watch.closer().close("again"));
    assert!(watch.is_closed());
    let Some(Err(RecvError::ForceClosed(reason))) = watch.recv().now_or_never() else {
        panic!("it was closed");
    };
    assert_eq!(reason.to_string(), "enough");
    assert_eq!(watch.try_recv().unwrap_err(), TryRecvError::Closed);
}

#[test]
fn a_watch_over_its_limit_is_closed_or_begins_anew() {
    let _watchdog = watchdog();
    let (publisher, calls) = with_snapshots(1_000);
    let limited = |over| {
        let request = Request::new("a").limit(LagLimit::items(10), over);
        let mut watch = publisher.subscribe(request);
        assert_eq!(all(&mut watch).len(), 3);
        watch
    };
    let (mut closed, mut reset) = (limited(OverLimit::Close), limited(OverLimit::Reset));
    for _ in 0..11 {
        publish(&publisher, "a", 1);
    }
    assert_eq!(all(&mut closed), [Failed(WatchError::Lagged(11)), Over]);
    assert_eq!(all(&mut reset), [LAGGED, Part(vec![100]), End(1_000)]);
    assert_eq!(
        (calls.load(SeqCst), publisher.stats().resets.lagged),
        (3, 1)
    );
}

#[test]
fn a_watch_that_cannot_resume_within_its_limit_begins_anew() {
    let _watchdog = watchdog();
    let publisher = Publisher::builder().history(100).build();
    for _ in 0..20 {
        publish(&publisher, "a", 1);
    }
    let epoch = publisher.epoch();
    for keys in [&["a"][..], &["a", "b"]] {
        for over in [OverLimit::Close, OverLimit::Reset] {
            let resume = |index| {
                let request = Request::keys(keys.iter().copied()).after(Resume { epoch, index });
                all(&mut publisher.subscribe(request.limit(LagLimit::items(10), over)))
            };
            // It would never get ahead if it were closed each time.
            assert_eq!(resume(9), [LAGGED, End(20)]);
            let near = resume(10);
            assert_eq!((near.len(), &near[0]), (11, &Seen::Begin(Resumed)));
        }
    }
    assert_eq!(publisher.stats().resets.lagged, 4);
}

#[test]
fn a_limit_counts_commits_and_not_parts() {
    let _watchdog = watchdog();
    let publisher = Publisher::builder()
        .snapshot(|_: Key, snapshot| async move {
            (0..1_000).try_for_each(|part| snapshot.push(part))?;
            Ok(0)
        })
        .build();
    let request = Request::new("a").limit(LagLimit::items(10), OverLimit::Close);
    let mut watch = publisher.subscribe(request);
    let seen = all(&mut watch);
    assert_eq!((seen.len(), seen.last()), (1_002, Some(&End(0))));
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
                // Of the first one nobody hears any more.
                _ = snapshot.push(u32::from(is_first));
                Ok(0)
            }
        })
        .build();
    within.set(publisher.downgrade()).unwrap();
    let mut watch = publisher.subscribe(Request::new("a"));
    assert_eq!(
        all(&mut watch),
        [Seen::Begin(Fresh), REFRESHED, Part(vec![0]), End(0)]
    );
    let stats = publisher.stats();
    assert_eq!((stats.snapshots_begun, stats.snapshots_given_up), (2, 1));
    assert_eq!(stats.snapshots_in_flight, 0);
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
            assert_eq!(all(&mut watch).len(), 2);
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
        assert_eq!(all(&mut watch), [Seen::Begin(Fresh)]);
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
    assert_eq!(all(&mut watch), [Seen::Begin(Fresh)]);
    assert!(catch_unwind(AssertUnwindSafe(|| drop(watch))).is_err());
    let stats = publisher.stats();
    let counted = (stats.snapshots_begun, stats.snapshots_failed);
    assert_eq!((counted, stats.snapshots_in_flight), ((1, 1), 0));
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
        assert_eq!(all(&mut watch), [Seen::Begin(Fresh)]);
        assert_eq!(Arc::strong_count(&held), 2);
        give_up(&publisher);
        assert_eq!(Arc::strong_count(&held), 1);
    }
}

#[test]
fn a_snapshot_that_takes_too_long_is_given_up_by_who_polls_or_comes() {
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
        Some(Some(Ok(Update::Begin(Fresh))))
    ));
    let mut comes = publisher.subscribe(Request::new("a"));
    let gave_up = all(&mut waits);
    let [Failed(WatchError::Snapshot(error)), Over] = &gave_up[..] else {
        panic!("{gave_up:?}");
    };
    assert!(error.downcast_ref::<SnapshotGivenUp>().is_some());
    comes.next().now_or_never();
    assert_eq!(publisher.stats().snapshots_begun, 2);
}

/// Those who come while the first snapshot frees its parts share a second one.
#[test]
fn two_handlers_at_most_run_for_a_key() {
    let _watchdog = watchdog();
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, peak) = (running.clone(), most.clone());
    let publisher = Publisher::builder()
        .snapshot(move |_: Key, snapshot: SnapshotAppender<u32>| {
            let (running, most) = (now.clone(), peak.clone());
            async move {
                most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                for part in 0..100 {
                    snapshot.push(part)?;
                    tokio::task::yield_now().await;
                }
                running.fetch_sub(1, SeqCst);
                Ok(0)
            }
        })
        .build();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut tasks = Vec::new();
        for _ in 0..1_000 {
            let watch = publisher.subscribe(Request::new("a"));
            tasks.push(tokio::spawn(watch.take(102).collect::<Vec<_>>()));
            tokio::task::yield_now().await;
        }
        for task in tasks {
            let updates = task.await.unwrap();
            assert!(matches!(
                updates[101],
                Ok(Update::EndOfSnapshot { index: 0 })
            ));
        }
    });
    assert_eq!(most.load(SeqCst), 2);
    assert!(
        publisher.stats().snapshots_begun < 100,
        "{:?}",
        publisher.stats()
    );
}

#[test]
fn a_part_that_all_have_read_is_freed_while_the_snapshot_goes_on() {
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
fn who_resumes_from_before_a_refresh_begins_anew() {
    let _watchdog = watchdog();
    for history in [0, 10] {
        let publisher = Publisher::builder().history(history).build();
        let mut watch = publisher.subscribe(Request::new("a"));
        for _ in 0..5 {
            publish(&publisher, "a", 1);
        }
        all(&mut watch);
        drop(watch);
        // The topic would be gone.
        publisher.refresh(&"a");
        publisher.refresh(&"a");
        assert_eq!(resume(&publisher, "a", 5), [REFRESHED, End(5)]);
        assert_eq!(resume(&publisher, "other", 5), [Seen::Begin(Resumed)]);
        publish(&publisher, "other", 1);
        assert_eq!(resume(&publisher, "a", 6), [Seen::Begin(Resumed)]);
        // With the history the mark is remembered still.
        let reset = if history == 0 { TOO_OLD } else { REFRESHED };
        assert_eq!(resume(&publisher, "a", 5), [reset, End(6)]);
        for _ in 0..20 {
            publish(&publisher, "other", 1);
        }
        assert_eq!(publisher.stats().keys, usize::from(history > 0));
        assert_eq!(resume(&publisher, "a", 5), [TOO_OLD, End(26)]);
    }
}

/// Its state is void, and there will be no other: that is not the end of what was published.
#[test]
fn a_watch_that_is_to_begin_anew_does_not_end_cleanly_with_the_publisher() {
    let _watchdog = watchdog();
    let publisher = Publisher::builder().build();
    let mut watch = publisher.subscribe(Request::new("a"));
    all(&mut watch);
    publish(&publisher, "a", 1);
    publisher.refresh(&"a");
    drop(publisher);
    let shut_down = WatchError::Closed(CloseReason::ShutDown);
    assert_eq!(all(&mut watch), [Failed(shut_down), Over]);
}

#[test]
fn forgetting_a_key_closes_its_watches_and_no_others() {
    let _watchdog = watchdog();
    let publisher = Publisher::builder().history(10).build();
    publish(&publisher, "a", 1);
    let mut both = publisher.subscribe(Request::keys(["a", "b"]));
    let mut other = publisher.subscribe(Request::new("b"));
    publisher.forget(&"a");
    let forgotten = WatchError::Closed(CloseReason::KeyForgotten);
    assert_eq!(all(&mut both), [Failed(forgotten), Over]);
    assert_eq!(all(&mut other), [Seen::Begin(Fresh), End(1)]);
    assert_eq!(resume(&publisher, "a", 1), [REFRESHED, End(1)]);
}

#[test]
fn a_completed_key_is_replayed_to_its_end() {
    let _watchdog = watchdog();
    let publisher = Publisher::builder().history(10).build();
    let mut early = publisher.subscribe(Request::new("job"));
    all(&mut early);
    publish(&publisher, "job", 1);
    publish(&publisher, "job", 2);
    publisher.complete(&"job");
    publisher.complete(&"job");
    let end = [Completed("job"), Over];
    let events = [Events(1, vec![1]), Events(2, vec![2])];
    assert_eq!(all(&mut early), [&events[..], &end].concat());
    // All of it, as nothing of it has left; or what came after a place.
    let mut late = publisher.subscribe(Request::new("job"));
    let begin = [Seen::Begin(Fresh), End(0)];
    assert_eq!(all(&mut late), [&begin[..], &events, &end].concat());
    let resumed = [
        Seen::Begin(Resumed),
        Events(2, vec![2]),
        Completed("job"),
        Over,
    ];
    assert_eq!(resume(&publisher, "job", 1), resumed);
    assert_eq!(
        resume(&publisher, "job", 2),
        [Seen::Begin(Resumed), Completed("job"), Over]
    );
    // Once something has left, the end alone.
    for _ in 0..9 {
        publish(&publisher, "other", 0);
    }
    let mut later = publisher.subscribe(Request::new("job"));
    assert_eq!(
        all(&mut later),
        [Seen::Begin(Fresh), End(11), Completed("job"), Over]
    );
    // And it begins anew.
    publish(&publisher, "job", 3);
    assert_eq!(resume(&publisher, "job", 2), [REFRESHED, End(12)]);
    assert_eq!(resume(&publisher, "job", 11), [REFRESHED, End(12)]);
}

#[test]
fn a_handler_says_an_end_that_has_left_the_history() {
    let _watchdog = watchdog();
    let publisher = Publisher::builder()
        .snapshot_ttl(Duration::from_secs(1_000))
        .snapshot(|_: Key, snapshot: SnapshotAppender<u32>| async move {
            snapshot.push(1)?;
            snapshot.complete()?;
            Ok(7)
        })
        .build();
    for _ in 0..2 {
        let mut watch = publisher.subscribe(Request::new("job"));
        let whole = [
            Seen::Begin(Fresh),
            Part(vec![1]),
            End(7),
            Completed("job"),
            Over,
        ];
        assert_eq!(all(&mut watch), whole);
    }
    assert_eq!(publisher.stats().snapshots_begun, 1);
}

#[test]
fn a_watch_of_several_keys_ends_with_the_last_of_them() {
    let _watchdog = watchdog();
    let publisher = Publisher::builder().build();
    let mut watch = publisher.subscribe(Request::keys(["a", "b", "a"]));
    assert_eq!(all(&mut watch), [Seen::Begin(Fresh), End(0)]);
    publish(&publisher, "a", 1);
    publisher.complete(&"a");
    publish(&publisher, "a", 2);
    publish(&publisher, "b", 3);
    // What begins anew is no part of this watch.
    assert_eq!(
        all(&mut watch),
        [Events(1, vec![1]), Completed("a"), Events(3, vec![3])]
    );
    publisher.complete(&"b");
    assert_eq!(all(&mut watch), [Completed("b"), Over]);
}

#[test]
fn a_watch_of_no_keys_gets_progress_only() {
    let _watchdog = watchdog();
    let publisher = Publisher::<Key, u32>::builder().build();
    let mut watch = publisher.subscribe(Request::keys([]));
    assert_eq!(all(&mut watch), [Seen::Begin(Fresh), End(0)]);
    publish(&publisher, "a", 1);
    assert_eq!(all(&mut watch), []);
    publisher.mark_progress();
    assert_eq!(all(&mut watch), [Progress(1)]);
    drop(publisher);
    assert_eq!(all(&mut watch), [Over]);
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
    let seen = all(&mut watch);
    assert!(
        matches!(seen[..], [_, Failed(WatchError::Snapshot(_)), Over]),
        "{seen:?}"
    );
    assert_eq!(watch.failed_key(), Some(&"b"));
}

#[test]
fn watches_are_closed_by_any_of_their_tokens() {
    let _watchdog = watchdog();
    let publisher = Publisher::<Key, u32>::builder().build();
    let watch = |user: &str, connection: &str| {
        publisher.subscribe(Request::new("a").token(user).token(connection))
    };
    let watches = [watch("alice", "1"), watch("alice", "2"), watch("bob", "3")];
    let closed = || watches.each_ref().map(Watch::is_closed);
    publisher.close_token("2");
    assert_eq!(closed(), [false, true, false]);
    // The predicate may use the publisher.
    publisher.close_where(|tokens| {
        publisher.stats();
        tokens.iter().any(|token| &**token == "bob")
    });
    assert_eq!(closed(), [false, true, true]);
    publisher.close_token("alice");
    assert_eq!(closed(), [true; 3]);
}

#[test]
fn waiting_for_the_first_watch_of_a_key_leaves_nothing_behind() {
    let _watchdog = watchdog();
    let publisher = Publisher::<Key, u32>::builder().build();
    let mut waits = task::spawn(publisher.watched(&"a"));
    assert!(waits.poll().is_pending());
    let mut other = task::spawn(publisher.watched(&"b"));
    assert!(other.poll().is_pending());
    assert_eq!(publisher.watchers(&"a"), 0);
    let watch = publisher.subscribe(Request::new("a"));
    assert!(waits.is_woken() && !other.is_woken());
    assert!(waits.poll().is_ready());
    assert_eq!(publisher.watchers(&"a"), 1);
    assert!(publisher.watched(&"a").now_or_never().is_some());
    drop(watch);
    assert!(publisher.watched(&"a").now_or_never().is_none());
    publisher.shutdown();
    assert!(other.is_woken());
    assert!(other.poll().is_ready());
}
