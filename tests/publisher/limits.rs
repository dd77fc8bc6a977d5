//! Watches whose lag is limited.

use std::sync::atomic::Ordering::SeqCst;

use event_buffer::publisher::{OverLimit, Publisher, Request, Resume, Update, Watch, WatchError};
use event_buffer::{ByteSize, LagLimit, TryRecvError};
use futures::{FutureExt, StreamExt};

use super::seen::Seen::{End, Failed, Over, Part};
use super::seen::{Key, LAGGED, RESUMED, publish, updates, with_snapshots};
use crate::support::watchdog;

#[test]
fn a_watch_over_its_limit_is_closed_or_begins_anew() {
    let _watchdog = watchdog();
    let (publisher, calls) = with_snapshots(1_000);
    let limited = |over| {
        let request = Request::new("a").limit(LagLimit::items(10), over);
        let mut watch = publisher.subscribe(request);
        assert_eq!(updates(&mut watch).len(), 3);
        watch
    };
    let (mut closed, mut reset) = (limited(OverLimit::Close), limited(OverLimit::Reset));
    for _ in 0..11 {
        publish(&publisher, "a", 1);
    }
    assert_eq!(updates(&mut closed), [Failed(WatchError::Lagged(11)), Over]);
    assert_eq!(updates(&mut reset), [LAGGED, Part(vec![100]), End(1_000)]);
    assert_eq!(
        (calls.load(SeqCst), publisher.stats().resets.lagged),
        (3, 1)
    );
}

#[test]
fn a_limit_in_bytes_counts_those_of_the_events() {
    let _watchdog = watchdog();
    let publisher = Publisher::<Key, Box<[u8]>>::builder().build();
    let event = Box::<[u8]>::from([0; 84]);
    assert_eq!(event.byte_size(), 100);
    let request = Request::new("a").limit(LagLimit::bytes(1_000), OverLimit::Close);
    let mut watch = publisher.subscribe(request);
    let mut received = |commits| {
        for _ in 0..commits {
            publisher.publish_next([("a", event.clone())]).unwrap();
        }
        let ready = || watch.next().now_or_never().flatten();
        std::iter::from_fn(ready).collect::<Result<Vec<_>, _>>()
    };
    assert!(received(0).is_ok());
    assert_eq!(received(10).unwrap().len(), 10);
    assert!(matches!(received(11), Err(WatchError::Lagged(11))));
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
    let seen = updates(&mut watch);
    assert_eq!((seen.len(), seen.last()), (1_002, Some(&End(0))));
}

/// Otherwise a client that was closed for its lag could never resume.
#[test]
fn what_a_resumed_watch_missed_does_not_count_until_it_is_received() {
    let _watchdog = watchdog();
    for keys in [&["a"][..], &["a", "b"]] {
        for over in [OverLimit::Close, OverLimit::Reset] {
            let publisher = Publisher::builder().history(100).build();
            let publish = |n| (0..n).for_each(|_| _ = publish(&publisher, "a", 1));
            publish(50);
            let (epoch, index) = (publisher.epoch(), 5);
            let resume = || {
                let request = Request::keys(keys.iter().copied()).after(Resume { epoch, index });
                publisher.subscribe(request.limit(LagLimit::items(10), over))
            };

            let mut watch = resume();
            publish(10); // As many as the limit allows on top.
            let seen = updates(&mut watch);
            assert_eq!((seen.len(), &seen[0]), (56, &RESUMED));
            publish(11);
            let seen = updates(&mut watch);
            let expected = match over {
                OverLimit::Reset => [LAGGED, End(71)],
                _ => [Failed(WatchError::Lagged(11)), Over],
            };
            assert_eq!(seen, expected);

            let mut stuck = resume();
            publish(11);
            assert!(matches!(updates(&mut stuck)[1], Failed(_) | LAGGED));
        }
    }
}

#[test]
fn the_bytes_that_a_resumed_watch_missed_do_not_count_until_they_are_received() {
    let _watchdog = watchdog();
    let publisher = Publisher::builder().history(100).build();
    let publish = |n| {
        for _ in 0..n {
            publisher.publish_next([("a", vec![0_u8; 100])]).unwrap();
        }
    };
    let limited = || Request::new("a").limit(LagLimit::bytes(2_000), OverLimit::Close);
    // Events are measured from the first watch on that is limited in bytes.
    drop(publisher.subscribe(limited()));
    publish(50);
    let (epoch, index) = (publisher.epoch(), 5);
    let resume = || publisher.subscribe(limited().after(Resume { epoch, index }));
    let received = |watch: &mut Watch<&str, Vec<u8>>| {
        let updates = std::iter::from_fn(|| watch.try_recv().ok());
        updates
            .filter(|update| matches!(update, Update::Events(_)))
            .count()
    };

    let mut watch = resume();
    publish(10);
    assert_eq!(received(&mut watch), 55);
    publish(25);
    assert_eq!(received(&mut watch), 0);
    assert!(matches!(watch.try_recv(), Err(TryRecvError::Closed)));

    let mut stuck = resume();
    publish(25);
    assert_eq!(received(&mut stuck), 0);
}
