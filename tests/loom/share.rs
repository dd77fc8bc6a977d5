//! Shared streams.

use std::task::{Context, Waker};

use event_buffer::{LagLimit, Replay, ShareExt};
use futures::StreamExt;
use loom::future::block_on;
use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use loom::sync::atomic::Ordering::{Acquire, Release};
use loom::thread;

/// A source that waits for a wake-up once, then yields two items and ends.
fn woken_once() -> (
    impl futures::Stream<Item = u32> + Send,
    impl FnOnce() + Send,
) {
    let gate = Arc::new((loom::future::AtomicWaker::new(), AtomicU64::new(0)));
    let opens = gate.clone();
    let mut n = 0;
    let source = futures::stream::poll_fn(move |cx| {
        gate.0.register_by_ref(cx.waker());
        if gate.1.load(Acquire) == 0 {
            return std::task::Poll::Pending;
        }
        n += 1;
        std::task::Poll::Ready((n <= 2).then_some(n))
    });
    let open = move || {
        opens.1.store(1, Release);
        opens.0.wake();
    };
    (source, open)
}

/// One follower drives the source and is dropped; the other receives every item.
#[test]
fn shared_source_against_a_follower_drop() {
    loom::model(|| {
        let (source, open) = woken_once();
        let source = source.share(Replay::None);
        let mut stays = source.subscribe();
        let mut leaves = source.subscribe();
        drop(source);
        let leaving = thread::spawn(move || {
            open();
            _ = leaves.poll_next_unpin(&mut Context::from_waker(Waker::noop()));
        });
        block_on(async {
            assert_eq!(stays.next().await, Some(1));
            assert_eq!(stays.next().await, Some(2));
            assert_eq!(stays.next().await, None);
        });
        leaving.join().unwrap();
    });
}

/// Two followers wait for the same item: one of them pulls it, and neither pulls another.
#[test]
fn shared_source_against_followers_that_want_the_same_item() {
    for are_limited in [false, true] {
        loom::model(move || {
            let pulled = Arc::new(AtomicU64::new(0));
            let counter = pulled.clone();
            let endless = futures::stream::repeat_with(move || counter.fetch_add(1, Release));
            let source = endless.share(Replay::None);
            let follower = || match source.subscribe() {
                limited if are_limited => {
                    let limited = limited.limited(LagLimit::items(9));
                    limited.map(Result::unwrap).boxed()
                }
                unlimited => unlimited.boxed(),
            };
            let (mut one, mut other) = (follower(), follower());
            let following = thread::spawn(move || block_on(other.next()));
            assert_eq!(block_on(one.next()), Some(0));
            assert_eq!(following.join().unwrap(), Some(0));
            assert_eq!(pulled.load(Acquire), 1);
        });
    }
}

/// The handle is dropped, then the last two followers at the same time: the source is dropped once.
/// Its waker, which another thread still has, does not own it.
#[test]
fn shared_source_against_follower_drops_and_a_wake_up() {
    loom::model(|| {
        let held = Arc::new(());
        let holds = held.clone();
        let (source, open) = woken_once();
        let source = source.inspect(move |_| _ = &holds).share(Replay::None);
        let leaving = [source.subscribe(), source.subscribe()].map(|mut leaves| {
            thread::spawn(move || {
                _ = leaves.poll_next_unpin(&mut Context::from_waker(Waker::noop()));
            })
        });
        drop(source);
        open();
        for leaving in leaving {
            leaving.join().unwrap();
        }
        assert_eq!(Arc::strong_count(&held), 1);
    });
}

/// A late follower receives all items from some place on, and the end.
#[test]
fn shared_source_against_subscribe() {
    loom::model(|| {
        let source = futures::stream::iter([1, 2]).share(Replay::Last(1));
        let mut follower = source.subscribe();
        let subscribing = thread::spawn(move || source.subscribe());
        block_on(async {
            assert_eq!(follower.next().await, Some(1));
            assert_eq!(follower.next().await, Some(2));
            assert_eq!(follower.next().await, None);
        });
        let late: Vec<u32> = block_on(subscribing.join().unwrap().collect());
        assert!([&[1, 2][..], &[2]].contains(&&late[..]), "{late:?}");
    });
}
