//! A shared stream whose followers run under different executors.

use std::thread;

use event_buffer::{Replay, ShareExt, SharedStream};
use futures::channel::mpsc;
use futures::executor::block_on;
use futures::{FutureExt, StreamExt, stream};

use crate::support::watchdog;

#[test]
fn followers_on_several_executors_share_one_source() {
    const ITEMS: u64 = 2_000;
    let _watchdog = watchdog();
    let (sender, receiver) = mpsc::unbounded();
    let source = receiver.share(Replay::None);
    let expected = ITEMS * (ITEMS - 1) / 2;
    let follow = |follower: SharedStream<_>| follower.fold(0, async |sum, n: u64| sum + n);
    let multi = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let spawned: Vec<_> = (0..4)
        .map(|_| multi.spawn(follow(source.subscribe())))
        .collect();
    let followers: Vec<_> = (0..6).map(|_| source.subscribe()).collect();
    thread::scope(|scope| {
        for (n, follower) in followers.into_iter().enumerate() {
            scope.spawn(move || {
                let sum = match n % 3 {
                    0 => block_on(follow(follower)),
                    1 => smol::block_on(smol::spawn(follow(follower))),
                    _ => {
                        let current = tokio::runtime::Builder::new_current_thread();
                        let runtime = { current }.build().unwrap();
                        runtime.block_on(follow(follower))
                    }
                };
                assert_eq!(sum, expected);
            });
        }
        scope.spawn(|| {
            for n in 0..ITEMS {
                sender.unbounded_send(n).unwrap();
                if n % 16 == 0 {
                    thread::yield_now();
                }
            }
            drop(sender);
        });
    });
    for follower in spawned {
        assert_eq!(multi.block_on(follower).unwrap(), expected);
    }
}

/// A source that needs a runtime may be polled by any executor, so it enters the runtime itself.
#[test]
fn a_source_that_enters_its_runtime_can_be_driven_by_another() {
    let _watchdog = watchdog();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let handle = runtime.handle().clone();
    let mut task = None;
    let mut n = 0;
    let source = stream::poll_fn(move |cx| {
        // Otherwise `tokio::spawn` would panic.
        let _entered = handle.enter();
        n += u32::from(task.is_none());
        let running = task.get_or_insert_with(|| tokio::spawn(std::future::ready(n)));
        running.poll_unpin(cx).map(|joined| {
            task = None;
            joined.ok()
        })
    });
    let source = source.take(3).share(Replay::None);
    assert_eq!(block_on(source.subscribe().collect::<Vec<_>>()), [1, 2, 3]);
}
