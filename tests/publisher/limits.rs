//! Watches whose lag is limited.

use std::sync::atomic::Ordering::SeqCst;

use event_buffer::publisher::{OverLimit, Publisher, Request, Resume, WatchError};
use event_buffer::{ByteSize, LagLimit};
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
                updates(&mut publisher.subscribe(request.limit(LagLimit::items(10), over)))
            };
            // It would never get ahead if it were closed each time.
            assert_eq!(resume(9), [LAGGED, End(20)]);
            let near = resume(10);
            assert_eq!((near.len(), &near[0]), (11, &RESUMED));
        }
    }
    assert_eq!(publisher.stats().resets.lagged, 4);
}
