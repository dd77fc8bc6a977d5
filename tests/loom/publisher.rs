//! Watches of a publisher.

use event_buffer::publisher::{
    Begin, Publisher, Request, ResetReason, Resume, Update, Watch, WatchError,
};
use futures::{FutureExt, StreamExt};
use loom::future::block_on;
use loom::thread;

type Delivered = Option<Result<Update<u8, u8>, WatchError>>;

/// A watch that waits for its first commit.
fn waiting(publisher: &Publisher<u8, u8>, keys: &[u8]) -> Watch<u8, u8> {
    let mut watch = publisher.subscribe(Request::keys(keys.iter().copied()));
    while watch.next().now_or_never().is_some() {}
    watch
}

fn events(delivered: Delivered) -> (u64, Vec<u8>) {
    let Some(Ok(Update::Events(commit))) = delivered else {
        panic!("no commit: {delivered:?}");
    };
    (commit.index().unwrap(), commit.iter().copied().collect())
}

#[test]
fn progress_mark_against_commit() {
    loom::model(|| {
        let publisher = Publisher::builder().build();
        let mut watch = waiting(&publisher, &[1]);
        publisher.publish_next([(2, 0)]).unwrap();
        let marks = {
            let publisher = publisher.clone();
            thread::spawn(move || publisher.mark_progress())
        };
        let commits = thread::spawn(move || {
            publisher.publish_next([(1, 7)]).unwrap();
            publisher
        });
        let mut next = block_on(watch.next());
        if let Some(Ok(Update::Progress { index })) = next {
            assert_eq!(index, 1, "the mark does not overtake the commit");
            next = block_on(watch.next());
        }
        assert_eq!(events(next), (2, vec![7]));
        marks.join().unwrap();
        drop(commits.join().unwrap());
        assert!(
            block_on(watch.next()).is_none(),
            "a second mark after the commit"
        );
    });
}

#[test]
fn progress_mark_against_wait() {
    loom::model(|| {
        let publisher = Publisher::builder().build();
        let mut watch = waiting(&publisher, &[1]);
        publisher.publish_next([(2, 0)]).unwrap();
        let marks = thread::spawn(move || {
            publisher.mark_progress();
            publisher
        });
        let next = block_on(watch.next());
        assert!(matches!(next, Some(Ok(Update::Progress { index: 1 }))));
        drop(marks.join().unwrap());
    });
}

#[test]
fn commit_of_two_keys_against_poll() {
    loom::model(|| {
        let publisher = Publisher::builder().build();
        let mut watch = waiting(&publisher, &[1, 2]);
        let commits = thread::spawn(move || {
            publisher.publish_next([(1, 1), (2, 2), (1, 3)]).unwrap();
            publisher
        });
        assert_eq!(events(block_on(watch.next())), (1, vec![1, 2, 3]));
        drop(commits.join().unwrap());
        assert!(block_on(watch.next()).is_none());
    });
}

#[test]
fn two_commits_to_two_keys_against_poll() {
    loom::model(|| {
        let publisher = Publisher::builder().build();
        let mut watch = waiting(&publisher, &[1, 2]);
        let commits = thread::spawn(move || {
            publisher.publish_next([(2, 1)]).unwrap();
            publisher.publish_next([(1, 2)]).unwrap();
            publisher
        });
        assert_eq!(events(block_on(watch.next())), (1, vec![1]));
        assert_eq!(events(block_on(watch.next())), (2, vec![2]));
        drop(commits.join().unwrap());
        assert!(block_on(watch.next()).is_none());
    });
}

/// In either order, the watch ends up with a snapshot, and none is in flight.
#[test]
fn refresh_against_finish() {
    loom::model(|| {
        let publisher = Publisher::builder()
            .snapshot(|_: u8, snapshot| async move {
                snapshot.push(1)?;
                Ok(0)
            })
            .build();
        let mut watch = publisher.subscribe(Request::new(1));
        let refreshes = {
            let publisher = publisher.clone();
            thread::spawn(move || publisher.refresh(&1))
        };
        let mut is_complete = false;
        while let Some(Some(next)) = watch.next().now_or_never() {
            is_complete = matches!(next.unwrap(), Update::EndOfSnapshot { .. });
        }
        refreshes.join().unwrap();
        while let Some(Some(next)) = watch.next().now_or_never() {
            let next = next.unwrap();
            let is_reset = |begin| begin == Begin::Reset(ResetReason::Refreshed);
            assert!(!matches!(next, Update::Begin(begin) if !is_reset(begin) && is_complete));
            is_complete = matches!(next, Update::EndOfSnapshot { .. });
        }
        assert!(is_complete);
        let stats = publisher.stats();
        let over = stats.snapshots_finished + stats.snapshots_given_up;
        assert_eq!(
            (stats.snapshots_in_flight, stats.snapshots_begun),
            (0, over)
        );
    });
}

#[test]
fn wait_for_an_index_against_its_commit() {
    loom::model(|| {
        let publisher = Publisher::<u8, u8>::builder().epoch(1).build();
        let commits = {
            let publisher = publisher.clone();
            thread::spawn(move || {
                publisher.publish(2, [(1, 7)]).unwrap();
            })
        };
        block_on(publisher.reached(Resume { epoch: 1, index: 1 }));
        assert_eq!(publisher.index(), 2);
        commits.join().unwrap();
    });
}

#[test]
fn two_waits_for_an_index_against_a_reset() {
    loom::model(|| {
        let publisher = Publisher::<u8, u8>::builder().epoch(1).build();
        let place = Resume { epoch: 1, index: 1 };
        let other = {
            let publisher = publisher.clone();
            thread::spawn(move || {
                // One that leaves in between.
                _ = publisher.reached(place).now_or_never();
                publisher.reset(2);
            })
        };
        block_on(publisher.reached(place));
        assert_eq!(publisher.epoch(), 2);
        other.join().unwrap();
    });
}
