//! Indexes, places to resume from, and progress.

use std::future;
use std::time::Duration;

use event_buffer::publisher::{
    PublishError, Publisher, Request, ResetReason, Resume, SnapshotAppender,
};
use futures::FutureExt;
use tokio_test::task;

use super::seen::Seen::{Completed, End, Events, Nothing, Over, Part, Progress};
use super::seen::{
    FRESH, Key, REFRESHED, RESUMED, TOO_OLD, all, anew, next, publish, resume, updates, watch,
    with_snapshots,
};
use super::store::{FOREVER, Store};
use crate::support::watchdog;

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

    // The window has moved: it still has all commits after 10, but not all after 9.
    publisher.publish(40, [("a", 1), ("a", 2)]).unwrap();
    let mut resumed = publisher.subscribe(Request::new("a").after(point));
    assert_eq!(all(&mut resumed), [events(20), events(30), events(40)]);
    assert_eq!(store.runs(), 1, "no snapshot was needed");
    let nine = Resume { epoch: 1, index: 9 };
    let mut reset = publisher.subscribe(Request::new("a").after(nine));
    assert_eq!(next(&mut reset), anew(ResetReason::TooOld));
    assert_eq!(reset.resume_point(), None);
}

/// Consul 8354 among them.
#[test]
fn a_watch_that_cannot_resume_receives_the_reason_and_a_snapshot() {
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
        assert_eq!(next(&mut watch), anew(reason));
        assert_eq!(all(&mut watch), fresh);
    }
    // There were no commits while there was no watch.
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
    let reset = [anew(ResetReason::TooOld)];
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
fn a_restarted_publisher_resumes_no_watch_from_before_its_start() {
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
        assert_eq!(resumed(15), anew(ResetReason::TooOld));
        assert_eq!(resumed(20), Nothing);
        assert_eq!(resumed(published), Nothing);
        assert_eq!(resumed(25), anew(ResetReason::Ahead));
        publisher.publish(published + 1, [("other", 1)]).unwrap();
    }
}

#[test]
fn a_watch_keeps_its_resume_point_when_the_publisher_shuts_down() {
    let _watchdog = watchdog();
    let publisher = Publisher::<&str, u32>::builder().epoch(1).build();
    publisher.shutdown();
    let point = Resume { epoch: 1, index: 7 };
    let watch = publisher.subscribe(Request::new("a").after(point));
    assert_eq!(watch.resume_point(), Some(point));
}

/// A former process published 6, 7 and 8, in the same epoch. A snapshot as of a lower index,
/// empty or of another key, does not show that this process has those commits.
#[test]
fn no_watch_resumes_across_commits_of_a_former_process() {
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
    assert_eq!(next(&mut resumed), anew(ResetReason::TooOld));

    let publisher = settings()
        .snapshot(|key: &str, _| future::ready(Ok(if key == "a" { 3 } else { 8 })))
        .build();
    let mut b = watch(&publisher, "b");
    assert_eq!(all(&mut b), [End(8)]);
    assert_eq!(all(&mut watch(&publisher, "a")), [End(3)]);
    publisher.publish(9, [("b", 9)]).unwrap();
    let mut resumed = publisher.subscribe(old());
    assert_eq!(next(&mut resumed), anew(ResetReason::TooOld));
    // A client with a resume point of this process continues.
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
fn filtered_events_still_advance_the_resume_point() {
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
fn a_watch_resumes_from_a_window_that_starts_before_the_snapshot() {
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
fn a_quiet_key_resumes_unless_a_later_commit_to_it_was_evicted() {
    let _watchdog = watchdog();
    let publisher = Publisher::builder().history(3).build();
    for (index, key) in (1..).zip(["quiet", "a", "quiet", "a", "a"]) {
        publisher.publish(index, [(key, 0)]).unwrap();
    }
    // 3, 4 and 5 are retained; 1 of "quiet" has left, and 2 of "a".
    assert_eq!(resume(&publisher, "quiet", 0), [TOO_OLD, End(5)]);
    assert_eq!(
        resume(&publisher, "quiet", 1),
        [RESUMED, Events(3, vec![0])]
    );
    assert_eq!(resume(&publisher, "a", 1), [TOO_OLD, End(5)]);
    let since = [RESUMED, Events(4, vec![0]), Events(5, vec![0])];
    assert_eq!(resume(&publisher, "a", 2), since);
    // For a key without a topic, only the last commit evicted for any key is known.
    assert_eq!(resume(&publisher, "new", 1), [TOO_OLD, End(5)]);
    assert_eq!(resume(&publisher, "new", 2), [RESUMED]);
    // A watch keeps the topic, and its figure with it: what leaves of others does not count.
    let watch = publisher.subscribe(Request::new("quiet"));
    for _ in 0..100 {
        publish(&publisher, "a", 0);
    }
    assert_eq!(resume(&publisher, "quiet", 3), [RESUMED]);
    assert_eq!(resume(&publisher, "quiet", 2), [TOO_OLD, End(105)]);
    drop(watch);
    assert_eq!(publisher.stats().keys, 1);
}

#[test]
fn a_commit_without_events_advances_the_index_and_uses_no_history() {
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
    assert_eq!(resume(&publisher, "a", 0), [RESUMED, Events(1, vec![1])]);
}

#[test]
fn the_resume_point_after_the_last_update_is_the_index_of_the_publisher() {
    let _watchdog = watchdog();
    let (publisher, _) = with_snapshots(7);
    publisher.publish(7, [("a", 7)]).unwrap();
    for _ in 0..1_000 {
        publish(&publisher, "other", 0);
    }
    let mut watch = publisher.subscribe(Request::new("a"));
    // What has left of the key is part of the snapshot.
    assert_eq!(updates(&mut watch), [FRESH, Part(vec![100]), End(7)]);
    let place = watch.resume_point().unwrap();
    assert_eq!(place.index, 1_007);
    drop(watch);
    assert_eq!(resume(&publisher, "a", place.index), [RESUMED]);
}

#[test]
fn commits_may_have_indexes_up_to_the_largest_number() {
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
fn a_progress_mark_wakes_only_watches_below_its_index() {
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
    assert_eq!(updates(&mut behind), [Progress(1)]);
    assert_eq!(behind.resume_point().unwrap().index, 1);
    // Nothing is left of it.
    publisher.mark_progress();
    assert_eq!(updates(&mut behind), []);
    assert_eq!(publisher.stats().retained_items, 1);
}

#[test]
fn a_watch_that_resumes_from_before_a_refresh_is_reset() {
    let _watchdog = watchdog();
    for history in [0, 10] {
        let publisher = Publisher::builder().history(history).build();
        let mut watch = publisher.subscribe(Request::new("a"));
        for _ in 0..5 {
            publish(&publisher, "a", 1);
        }
        updates(&mut watch);
        drop(watch);
        // The topic would be gone.
        publisher.refresh(&"a");
        publisher.refresh(&"a");
        assert_eq!(resume(&publisher, "a", 5), [REFRESHED, End(5)]);
        assert_eq!(resume(&publisher, "other", 5), [RESUMED]);
        publish(&publisher, "other", 1);
        assert_eq!(resume(&publisher, "a", 6), [RESUMED]);
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

#[test]
fn a_client_that_is_ahead_resumes_once_its_index_is_reached() {
    let _watchdog = watchdog();
    let publisher = Publisher::builder().history(10).build();
    publish(&publisher, "a", 1);
    let place = |index| Resume {
        epoch: publisher.epoch(),
        index,
    };
    let mut early = task::spawn(publisher.reached(place(3)));
    let mut late = task::spawn(publisher.reached(place(7)));
    assert!(early.poll().is_pending() && late.poll().is_pending());
    publish(&publisher, "other", 1);
    assert!(!early.is_woken());

    // Indexes may leave gaps.
    publisher.publish(5, [("a", 2)]).unwrap();
    assert!(early.is_woken() && !late.is_woken());
    assert!(early.poll().is_ready() && late.poll().is_pending());
    assert_eq!(resume(&publisher, "a", 3), [RESUMED, Events(5, vec![2])]);
    publisher.publish(7, []).unwrap();
    assert!(late.poll().is_ready());
}

#[test]
fn waiting_for_an_index_that_cannot_come_returns() {
    let _watchdog = watchdog();
    let publisher = Publisher::<Key, u32>::builder().epoch(1).build();
    let place = |epoch, index| publisher.reached(Resume { epoch, index });
    assert!(place(1, 0).now_or_never().is_some());
    assert!(place(2, 9).now_or_never().is_some());

    let mut of_former_epoch = task::spawn(place(1, 9));
    assert!(of_former_epoch.poll().is_pending());
    publisher.reset(2);
    assert!(of_former_epoch.is_woken() && of_former_epoch.poll().is_ready());

    let mut last = task::spawn(place(2, 9));
    let mut other = task::spawn(place(2, 9));
    assert!(last.poll().is_pending() && other.poll().is_pending());
    // The other one still waits.
    drop(last);
    publisher.shutdown();
    assert!(other.is_woken() && other.poll().is_ready());
    assert!(place(2, 9).now_or_never().is_some());
}

/// A publisher whose snapshots say that their keys are complete, as of index 9.
fn with_complete_snapshots() -> Publisher<Key, u32> {
    Publisher::builder()
        .history(2)
        .epoch(1)
        .start_at(9)
        .snapshot(|key: Key, snapshot: SnapshotAppender<u32>| async move {
            snapshot.push(100)?;
            if key != "open" {
                snapshot.complete()?;
            }
            Ok(9)
        })
        .build()
}

/// A client that has the state of a complete key could otherwise come back and wait for its end for
/// ever.
#[test]
fn a_complete_snapshot_has_no_resume_point_before_the_end_of_its_key() {
    let _watchdog = watchdog();
    let publisher = with_complete_snapshots();
    let place = Some(Resume { epoch: 1, index: 9 });
    for (keys, ends) in [(&["a"][..], 1), (&["a", "open", "b"], 2)] {
        let mut watch = publisher.subscribe(Request::keys(keys.iter().copied()));
        for _ in keys {
            assert_eq!(next(&mut watch), Part(vec![100]));
        }
        assert_eq!(next(&mut watch), End(9));
        for _ in 0..ends {
            assert_eq!(watch.resume_point(), None);
            assert!(matches!(next(&mut watch), Completed(_)));
        }
        assert_eq!(watch.resume_point(), place);
    }
}

#[test]
fn an_end_that_was_linked_before_the_snapshot_is_delivered_before_there_is_a_resume_point() {
    let _watchdog = watchdog();
    let publisher = with_snapshots(9).0;
    publish(&publisher, "open", 1);
    publisher.complete(&"open");
    let mut watch = watch(&publisher, "open");
    assert_eq!(updates(&mut watch)[..3], [FRESH, Part(vec![100]), End(9)]);
    let mut watch = publisher.subscribe(Request::new("open"));
    assert_eq!(
        [next(&mut watch), next(&mut watch)],
        [Part(vec![100]), End(9)]
    );
    assert_eq!(watch.resume_point(), None);
    assert_eq!(next(&mut watch), Completed("open"));
    assert_eq!(watch.resume_point().unwrap().index, 9);
}

#[test]
fn a_client_that_has_not_received_the_end_of_a_key_gets_it_however_late() {
    let _watchdog = watchdog();
    for is_watched in [false, true] {
        let publisher = Publisher::builder().history(2).build();
        publish(&publisher, "a", 1);
        publish(&publisher, "a", 2);
        publisher.complete(&"a");
        let _other = is_watched.then(|| watch(&publisher, "a"));
        assert_eq!(
            resume(&publisher, "a", 1),
            [RESUMED, Events(2, vec![2]), Completed("a"), Over]
        );
        assert_eq!(resume(&publisher, "a", 2), [RESUMED, Completed("a"), Over]);
        // The end leaves the history, and the key is forgotten.
        for _ in 0..3 {
            publish(&publisher, "b", 1);
        }
        assert_eq!(publisher.stats().keys, 1 + usize::from(is_watched));
        assert_eq!(resume(&publisher, "a", 2)[0], TOO_OLD);
        assert_eq!(resume(&publisher, "a", 3), [RESUMED]);
    }
}
