//! Keys: that they are independent, refreshed, forgotten and completed, and several in one watch.

use std::sync::Arc;
use std::time::Duration;

use event_buffer::publisher::{CloseReason, Publisher, Request, SnapshotAppender, WatchError};
use futures::FutureExt;
use tokio_test::task;

use super::seen::Seen::{Completed, End, Events, Failed, Over, Part, Progress};
use super::seen::{FRESH, Key, REFRESHED, RESUMED, all, publish, resume, updates};
use crate::support::watchdog;

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

/// The tables of a crowd of keys are given up, but not with keys in them.
#[test]
fn remaining_keys_receive_events_after_most_were_removed() {
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

#[test]
fn forgetting_a_key_closes_its_watches_and_no_others() {
    let _watchdog = watchdog();
    let publisher = Publisher::builder().history(10).build();
    publish(&publisher, "a", 1);
    let mut both = publisher.subscribe(Request::keys(["a", "b"]));
    let mut other = publisher.subscribe(Request::new("b"));
    publisher.forget(&"a");
    let forgotten = WatchError::Closed(CloseReason::KeyForgotten);
    assert_eq!(updates(&mut both), [Failed(forgotten), Over]);
    assert_eq!(updates(&mut other), [FRESH, End(1)]);
    assert_eq!(resume(&publisher, "a", 1), [REFRESHED, End(1)]);
}

#[test]
fn a_completed_key_is_replayed_to_its_end() {
    let _watchdog = watchdog();
    let publisher = Publisher::builder().history(10).build();
    let mut early = publisher.subscribe(Request::new("job"));
    updates(&mut early);
    publish(&publisher, "job", 1);
    publish(&publisher, "job", 2);
    publisher.complete(&"job");
    publisher.complete(&"job");
    let end = [Completed("job"), Over];
    let events = [Events(1, vec![1]), Events(2, vec![2])];
    assert_eq!(updates(&mut early), [&events[..], &end].concat());
    // All of it, as nothing of it has left; or what came after a place.
    let mut late = publisher.subscribe(Request::new("job"));
    let begin = [FRESH, End(0)];
    assert_eq!(updates(&mut late), [&begin[..], &events, &end].concat());
    let resumed = [RESUMED, Events(2, vec![2]), Completed("job"), Over];
    assert_eq!(resume(&publisher, "job", 1), resumed);
    assert_eq!(
        resume(&publisher, "job", 2),
        [RESUMED, Completed("job"), Over]
    );
    // Once something has left, the end alone.
    for _ in 0..9 {
        publish(&publisher, "other", 0);
    }
    let mut later = publisher.subscribe(Request::new("job"));
    assert_eq!(
        updates(&mut later),
        [FRESH, End(11), Completed("job"), Over]
    );
    // And it begins anew.
    publish(&publisher, "job", 3);
    assert_eq!(resume(&publisher, "job", 2), [REFRESHED, End(12)]);
    assert_eq!(resume(&publisher, "job", 11), [REFRESHED, End(12)]);
}

#[test]
fn a_handler_completes_a_key_that_has_left_the_history() {
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
        let whole = [FRESH, Part(vec![1]), End(7), Completed("job"), Over];
        assert_eq!(updates(&mut watch), whole);
    }
    assert_eq!(publisher.stats().snapshots_begun, 1);
}

#[test]
fn a_watch_of_several_keys_ends_with_the_last_of_them() {
    let _watchdog = watchdog();
    let publisher = Publisher::builder().build();
    let mut watch = publisher.subscribe(Request::keys(["a", "b", "a"]));
    assert_eq!(updates(&mut watch), [FRESH, End(0)]);
    publish(&publisher, "a", 1);
    publisher.complete(&"a");
    publish(&publisher, "a", 2);
    publish(&publisher, "b", 3);
    // What begins anew is no part of this watch.
    assert_eq!(
        updates(&mut watch),
        [Events(1, vec![1]), Completed("a"), Events(3, vec![3])]
    );
    publisher.complete(&"b");
    assert_eq!(updates(&mut watch), [Completed("b"), Over]);
}

#[test]
fn a_watch_of_no_keys_gets_progress_only() {
    let _watchdog = watchdog();
    let publisher = Publisher::<Key, u32>::builder().build();
    let mut watch = publisher.subscribe(Request::keys([]));
    assert_eq!(updates(&mut watch), [FRESH, End(0)]);
    publish(&publisher, "a", 1);
    assert_eq!(updates(&mut watch), []);
    publisher.mark_progress();
    assert_eq!(updates(&mut watch), [Progress(1)]);
    drop(publisher);
    assert_eq!(updates(&mut watch), [Over]);
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

#[test]
fn a_key_that_is_complete_already_does_not_end_a_watch_of_others() {
    let _watchdog = watchdog();
    for keys in [&["open", "done"], &["done", "open"]] {
        let publisher = Publisher::builder()
            .history(10)
            .snapshot(async |key: Key, snapshot: SnapshotAppender<u32>| {
                if key == "done" {
                    snapshot.complete()?;
                }
                Ok(2)
            })
            .build();
        publish(&publisher, "open", 1);
        publish(&publisher, "done", 1);
        publisher.complete(&"done");
        let mut watch = publisher.subscribe(Request::keys(keys.iter().copied()));
        let begun = updates(&mut watch);
        assert_eq!(begun, [FRESH, End(2), Completed("done")]);
        let index = publish(&publisher, "open", 7);
        assert_eq!(updates(&mut watch), [Events(index, vec![7])]);
    }
}
