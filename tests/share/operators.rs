//! Shared streams combined with the operators of the futures crate.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::task::Poll;

use event_buffer::{Replay, ShareExt};
use futures::executor::block_on;
use futures::stream::{self};
use futures::{FutureExt, StreamExt, future};

use super::sources::{channel, poll, ready};
use crate::support::{Hook, watchdog};

/// A source that wakes itself and yields is polled again, but not in a loop within one poll.
#[test]
fn a_source_that_yields_lets_its_follower_yield() {
    let _watchdog = watchdog();
    let polls = Arc::new(AtomicUsize::new(0));
    let counter = polls.clone();
    let yields = stream::poll_fn(move |cx| {
        if counter.fetch_add(1, SeqCst) == 100 {
            return Poll::Ready(Some(1));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    });
    let source = yields.share(Replay::None);
    let (hook, mut follower) = (Hook::new(), source.subscribe());
    let mut rounds = 0;
    while poll(&mut follower, &hook).is_pending() {
        rounds += 1;
        assert!(hook.woken() >= rounds, "the follower's task is woken");
        assert!(polls.load(SeqCst) <= 2 * rounds, "polled in a loop");
    }
}

#[test]
fn a_handle_keeps_the_window_and_no_more() {
    let _watchdog = watchdog();
    let item = Arc::new(());
    for (replay, kept) in [
        (Replay::None, 0),
        (Replay::Last(3), 3),
        (Replay::All, 1_000),
    ] {
        let items = stream::iter(vec![(); 1_000]).map(|()| item.clone());
        let source = items.share(replay);
        assert_eq!(block_on(source.subscribe().count()), 1_000);
        // The source, which owned a clone itself, has been dropped.
        assert_eq!(Arc::strong_count(&item), 1 + kept);
        assert_eq!(block_on(source.subscribe().count()), kept);
        drop(source);
        assert_eq!(Arc::strong_count(&item), 1);
    }
}

#[test]
fn a_handle_alone_does_not_drive_the_source() {
    let _watchdog = watchdog();
    let (sender, source) = channel(Replay::All);
    sender.unbounded_send(1).unwrap();
    let follower = source.subscribe();
    assert_eq!(follower.clone().next().now_or_never(), Some(Some(1)));
    drop(follower);
    sender.unbounded_send(2).unwrap();
    assert_eq!(ready(&mut source.clone().subscribe()), [1, 2]);
}

/// The example of `shared_stream`: each clone continues on its own from where it was cloned.
#[test]
fn clones_take_skip_and_collect_from_the_same_place() {
    let _watchdog = watchdog();
    let shared = stream::iter(1..=3).share(Replay::None).subscribe();
    assert_eq!(block_on(shared.clone().take(1).collect::<Vec<_>>()), [1]);
    assert_eq!(
        block_on(shared.clone().skip(1).take(1).collect::<Vec<_>>()),
        [2]
    );
    let mut half = shared.clone();
    assert_eq!(block_on(half.next()), Some(1));
    assert_eq!(block_on(half.clone().collect::<Vec<_>>()), [2, 3]);
    assert_eq!(block_on(shared.collect::<Vec<_>>()), [1, 2, 3]);
    assert_eq!(block_on(half.collect::<Vec<_>>()), [2, 3]);
}

/// A source of results continues after an error: only `None` ends it.
#[test]
fn error_items_reach_every_follower_and_do_not_end_the_source() {
    let _watchdog = watchdog();
    let items = [Ok(1), Err("broke"), Ok(2)];
    let source = stream::iter(items).share(Replay::None);
    let followers = [source.subscribe(), source.subscribe()];
    for follower in followers {
        assert_eq!(block_on(follower.collect::<Vec<_>>()), items);
    }
}

/// Several operators and sinks follow one source, each at its own pace, without delaying others.
#[test]
fn followers_with_different_operators_share_one_source() {
    let _watchdog = watchdog();
    let runs = AtomicUsize::new(0);
    let source = stream::iter(0..100)
        .inspect(|_| _ = runs.fetch_add(1, SeqCst))
        .share(Replay::None);
    let (even, sum, stalled) = (source.subscribe(), source.subscribe(), source.subscribe());
    let mut sink = Vec::new();
    let (even, sum, sent) = block_on(async {
        future::join3(
            even.filter(|n| future::ready(n % 2 == 0)).count(),
            sum.fold(0, |sum, n| future::ready(sum + n)),
            source.subscribe().map(Ok).forward(&mut sink),
        )
        .await
    });
    assert_eq!((even, sum, sent, sink.len()), (50, 4950, Ok(()), 100));
    assert_eq!(block_on(stalled.count()), 100);
    assert_eq!(runs.load(SeqCst), 100);
}

#[test]
fn an_empty_source_ends_for_every_follower() {
    let _watchdog = watchdog();
    let source = stream::empty::<u32>().share(Replay::All);
    let early = source.subscribe();
    assert_eq!(block_on(early.count()), 0);
    assert_eq!(block_on(source.subscribe().count()), 0);
    let shared_again = source.subscribe().share(Replay::None);
    assert_eq!(block_on(shared_again.subscribe().next()), None);
}
