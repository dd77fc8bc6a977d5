//! Snapshots that are kept for later watches, until they expire.

use std::future;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use event_buffer::publisher::{Publisher, Request, ResetReason, Resume, SnapshotAppender};
use futures::{FutureExt, StreamExt};

use super::seen::Seen::{End, Events, Part};
use super::seen::{all, anew, watch};
use super::store::{FOREVER, MOMENT, Store};
use crate::support::watchdog;

/// The rule: evict both or neither.
#[test]
fn a_kept_snapshot_does_not_lead_to_a_freed_buffer() {
    let _watchdog = watchdog();
    let store = Store::default();
    let publisher = store.publisher(0, FOREVER);
    all(&mut watch(&publisher, "a"));
    // No watch is left, but the cached snapshot keeps the buffer that it leads to.
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
fn publishing_while_a_cached_snapshot_expires_does_not_panic() {
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
    assert_eq!(all(&mut reset), [anew(ResetReason::TooOld), End(8)]);
    // From now on the newer one is kept.
    index.store(9, Relaxed);
    assert_eq!(all(&mut watch(&publisher, "a")), [End(8)]);
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
