//! Reading: the `recv` family, streams, waiting, cancellation, force-close.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use event_buffer::{
    BufferItem, Closer, EventBuffer, Indexed, RecvError, RecvTimeoutError, Replay, Subscription,
    TryRecvError,
};
use futures::StreamExt;
use futures::stream::FusedStream;
use tokio_test::{assert_pending, assert_ready, task};

use crate::support::{Task, watchdog};

static_assertions::assert_impl_all!(Subscription<Vec<u8>>: Send, Sync, Unpin, Clone);
static_assertions::assert_impl_all!(BufferItem<Vec<u8>>: Send, Sync, Unpin, Clone);
static_assertions::assert_impl_all!(EventBuffer<Vec<u8>>: Send, Sync, Unpin);
static_assertions::assert_impl_all!(event_buffer::SharedBuffer<u8>: Send, Sync, Unpin, Clone);
static_assertions::assert_impl_all!(event_buffer::Position<u8>: Send, Sync, Unpin, Clone);
static_assertions::assert_impl_all!(event_buffer::Cloned<u8>: Send, Sync, Unpin, Clone);
static_assertions::assert_impl_all!(event_buffer::Chunk<'static, u8>: Send, Sync, Unpin);
static_assertions::assert_impl_all!(Closer: Send, Sync, Unpin, Clone);
static_assertions::assert_impl_all!(RecvError: std::error::Error, Send, Sync, Clone);
static_assertions::assert_not_impl_any!(EventBuffer<u8>: Clone);
static_assertions::assert_not_impl_any!(Subscription<std::cell::Cell<u8>>: Send, Sync);
static_assertions::assert_not_impl_any!(BufferItem<std::cell::Cell<u8>>: Send, Sync);
static_assertions::assert_not_impl_any!(EventBuffer<std::rc::Rc<u8>>: Send, Sync);

/// An event that is not `Clone`.
#[derive(Debug, PartialEq)]
struct Plain(u8);

#[test]
fn events_need_not_be_clone() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut reader = buffer.subscribe();
    let mut other = reader.clone();
    buffer.push(Plain(1));
    assert_eq!(reader.recv_blocking().unwrap().events(), [Plain(1)]);
    assert_eq!(other.recv_blocking().unwrap().events(), [Plain(1)]);
}

#[test]
fn a_waiting_reader_is_woken_by_the_next_item() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut stream = task::spawn(buffer.subscribe());
    let mut cloned = task::spawn(buffer.subscribe().cloned());
    let mut reader = buffer.subscribe();
    for n in 0..5 {
        let mut recv = task::spawn(reader.recv());
        assert_pending!(recv.poll());
        assert_pending!(stream.poll_next());
        assert_pending!(stream.poll_next());
        assert_pending!(cloned.poll_next());
        buffer.push(n);
        assert!(recv.is_woken() && stream.is_woken() && cloned.is_woken());
        assert_eq!(assert_ready!(recv.poll()).unwrap()[0], n);
        assert_eq!(assert_ready!(stream.poll_next()).unwrap().unwrap()[0], n);
        assert_eq!(assert_ready!(cloned.poll_next()), Some(Ok(n)));
    }
}

#[test]
fn extend_wakes_a_reader_once() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut reader = task::spawn(buffer.subscribe().cloned());
    assert_pending!(reader.poll_next());
    buffer.extend(0..100);
    assert!(reader.is_woken());
    assert_eq!(assert_ready!(reader.poll_next()), Some(Ok(0)));
    for n in 1..100 {
        assert_eq!(assert_ready!(reader.poll_next()), Some(Ok(n)));
        assert!(!reader.is_woken());
    }
}

#[test]
fn a_cancelled_recv_loses_nothing() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut reader = buffer.subscribe();
    for n in 0..10 {
        {
            let mut recv = task::spawn(reader.recv());
            assert_pending!(recv.poll());
            buffer.push(n);
        }
        assert_eq!(reader.try_recv().unwrap()[0], n);
    }
}

/// A `select!` may create a `recv` and take another branch, in a task that waits for the stream.
#[test]
fn dropping_an_unpolled_recv_leaves_the_stream_waiting() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut reader = task::spawn(buffer.subscribe());
    let mut cloned = task::spawn(buffer.subscribe().cloned());
    for _ in 0..2 {
        assert_pending!(reader.poll_next());
        assert_pending!(cloned.poll_next());
        drop((reader.recv(), cloned.recv()));
        drop(reader.next_chunk());
        buffer.push(1);
        assert!(reader.is_woken() && cloned.is_woken());
        assert!(reader.try_recv().is_ok() && cloned.try_recv().is_ok());
        // A `recv` that was polled replaced the stream's registration, and ended it when dropped.
        assert_pending!(reader.poll_next());
        assert_pending!(task::spawn(reader.recv()).poll());
        buffer.push(2);
        assert!(!reader.is_woken());
        assert!(reader.try_recv().is_ok() && cloned.try_recv().is_ok());
    }
}

#[test]
fn a_moved_stream_wakes_its_new_task() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut first = task::spawn(buffer.subscribe());
    assert_pending!(first.poll_next());
    let mut second = task::spawn(first.into_inner());
    assert_pending!(second.poll_next());
    buffer.push(1);
    assert!(second.is_woken());
}

#[test]
fn a_chunk_lends_everything_that_is_ready() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut reader = buffer.subscribe();
    {
        let mut chunk = task::spawn(reader.next_chunk());
        assert_pending!(chunk.poll());
        buffer.append([Plain(1), Plain(2)]);
        buffer.push(Plain(3));
        let chunk = assert_ready!(chunk.poll()).unwrap();
        // The references outlive the chunk.
        let seen: Vec<&Plain> = chunk.collect();
        assert_eq!(seen, [&Plain(1), &Plain(2), &Plain(3)]);
    }
    buffer.push(Plain(4));
    drop(buffer);
    assert_eq!(
        futures::executor::block_on(reader.next_chunk())
            .unwrap()
            .count(),
        1
    );
    let end = futures::executor::block_on(reader.next_chunk());
    assert_eq!(end.unwrap_err(), RecvError::Closed);
}

#[test]
fn events_that_a_loop_over_a_chunk_did_not_reach_are_read_again() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut reader = buffer.subscribe();
    buffer.extend(0..10);
    let chunk = assert_ready!(task::spawn(reader.next_chunk()).poll()).unwrap();
    assert_eq!(chunk.take(4).copied().collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(reader.lag(), 6);
    assert_eq!(reader.try_recv().unwrap()[0], 4);
    let chunk = assert_ready!(task::spawn(reader.next_chunk()).poll()).unwrap();
    assert_eq!(chunk.count(), 5);
}

#[test]
fn a_chunk_holds_what_was_ready_when_it_was_created() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut reader = buffer.subscribe();
    buffer.extend([1, 2]);
    let mut chunk = assert_ready!(task::spawn(reader.next_chunk()).poll()).unwrap();
    buffer.push(3);
    assert_eq!(chunk.by_ref().copied().collect::<Vec<_>>(), [1, 2]);
    assert_eq!(
        chunk.next(),
        None,
        "otherwise a fast writer could extend it for ever"
    );
    assert_eq!(reader.try_recv().unwrap()[0], 3);
}

#[test]
fn chunks_items_and_clones_can_be_mixed() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::builder().replay(Replay::All).build();
    let mut reader = buffer.subscribe();
    buffer.extend(0..200);
    assert_eq!(reader.try_recv().unwrap()[0], 0);
    let mut cloned = reader.clone().cloned();
    for n in 1..100 {
        assert_eq!(cloned.try_recv(), Ok(n));
    }
    assert_eq!(cloned.lag(), 100);
    let mut again = cloned.clone();
    assert_eq!(again.try_recv(), Ok(100));
    assert_eq!(cloned.try_recv(), Ok(100));
    let sum: i32 = futures::executor::block_on(reader.next_chunk())
        .unwrap()
        .sum();
    assert_eq!(sum, (1..200).sum());
    assert_eq!(reader.try_recv(), Err(TryRecvError::Empty));
}

#[test]
fn an_item_of_several_events_is_cloned_one_by_one() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut reader = buffer.subscribe().cloned();
    buffer.append([1, 2, 3]);
    assert_eq!(reader.try_recv(), Ok(1));
    let mut copy = reader.clone();
    for reader in [&mut reader, &mut copy] {
        assert_eq!(reader.try_recv(), Ok(2));
        assert_eq!(reader.try_recv(), Ok(3));
        assert_eq!(reader.try_recv(), Err(TryRecvError::Empty));
    }
}

#[test]
fn an_item_of_many_events_is_followed_by_the_next_one() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut reader = buffer.subscribe().cloned();
    buffer.append(0..1_000);
    buffer.append([1_000, 1_001]);
    buffer.push(1_002);
    for n in 0..1_003 {
        assert_eq!(reader.try_recv(), Ok(n));
    }
    assert_eq!(reader.try_recv(), Err(TryRecvError::Empty));
}

#[test]
fn blocking_reads_wait_and_time_out() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut reader = buffer.subscribe();
    let mut other = buffer.subscribe().cloned();
    let received = reader.recv_timeout(Duration::from_millis(1));
    assert_eq!(received, Err(RecvTimeoutError::Timeout));
    std::thread::scope(|scope| {
        let blocked = scope.spawn(|| reader.recv_blocking().unwrap()[0]);
        let timed = scope.spawn(|| other.recv_timeout(Duration::MAX));
        buffer.push(5);
        assert_eq!(blocked.join().unwrap(), 5);
        assert_eq!(timed.join().unwrap(), Ok(5));
    });
    drop(buffer);
    assert_eq!(reader.recv_blocking(), Err(RecvError::Closed));
    assert_eq!(
        reader.recv_timeout(Duration::MAX),
        Err(RecvTimeoutError::Closed)
    );
}

#[test]
fn an_item_waits_for_the_next_one() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    buffer.push(1);
    let item = buffer.latest().unwrap();
    let mut next = task::spawn(item.next());
    assert_pending!(next.poll());
    buffer.push(2);
    assert!(next.is_woken());
    let second = assert_ready!(next.poll()).unwrap();
    assert_eq!(second.events(), [2]);
    drop(buffer);
    assert_eq!(
        assert_ready!(task::spawn(second.next()).poll()),
        Err(RecvError::Closed)
    );
    assert_eq!(second.try_next(), Err(TryRecvError::Closed));
}

#[test]
fn a_stream_is_fused() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut reader = task::spawn(buffer.subscribe());
    buffer.push(1);
    drop(buffer);
    assert!(assert_ready!(reader.poll_next()).unwrap().is_ok());
    assert!(!reader.is_terminated());
    assert_eq!(assert_ready!(reader.poll_next()), None);
    assert!(reader.is_terminated());
    assert_eq!(assert_ready!(reader.poll_next()), None);

    let mut buffer = EventBuffer::new();
    let mut reader = task::spawn(buffer.subscribe().cloned());
    buffer.push(1);
    drop(buffer);
    assert_eq!(assert_ready!(reader.poll_next()), Some(Ok(1)));
    assert!(!reader.is_terminated());
    assert_eq!(assert_ready!(reader.poll_next()), None);
    assert!(reader.is_terminated());
}

#[test]
fn a_force_close_wakes_the_reader_and_delivers_nothing_more() {
    #[derive(Debug, PartialEq)]
    struct AccessChanged;
    impl std::fmt::Display for AccessChanged {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("access changed")
        }
    }
    impl std::error::Error for AccessChanged {}

    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut reader = task::spawn(buffer.subscribe());
    let mut other = task::spawn(buffer.subscribe());
    let closer = reader.closer();
    assert_pending!(reader.poll_next());
    assert_pending!(other.poll_next());
    assert!(!closer.is_closed());
    assert!(closer.clone().close(AccessChanged));
    assert!(closer.is_closed() && !closer.close("a later reason"));
    assert!(reader.is_woken() && !other.is_woken());
    buffer.push(1);

    let end = assert_ready!(reader.poll_next()).unwrap().unwrap_err();
    let RecvError::ForceClosed(reason) = end else {
        panic!("{end:?}")
    };
    assert_eq!(reason.downcast_ref(), Some(&AccessChanged));
    assert_eq!(assert_ready!(reader.poll_next()), None);

    // The reason stays, and clones report it too.
    let sticky = TryRecvError::ForceClosed(reason);
    assert_eq!(reader.try_recv(), Err(sticky.clone()));
    assert_eq!(reader.try_recv(), Err(sticky.clone()));
    assert_eq!(reader.clone().try_recv(), Err(sticky.clone()));
    assert_eq!(reader.resubscribe().try_recv(), Err(sticky));
    assert!(assert_ready!(other.poll_next()).unwrap().is_ok());
}

#[test]
fn two_closes_with_one_reason_are_not_equal() {
    let _watchdog = watchdog();
    let buffer = EventBuffer::<u8>::new();
    let close = || {
        let mut reader = buffer.subscribe();
        reader.closer().close("enough");
        [reader.try_recv(), reader.try_recv()].map(Result::unwrap_err)
    };
    let ([one, again], [other, _]) = (close(), close());
    assert_eq!(one, again);
    assert_ne!(one, other);
}

#[test]
fn a_force_close_ends_a_blocking_read() {
    let _watchdog = watchdog();
    let buffer = EventBuffer::<u8>::new();
    let mut reader = buffer.subscribe();
    let closer = reader.closer();
    std::thread::scope(|scope| {
        let blocked = scope.spawn(|| reader.recv_blocking());
        closer.close("enough");
        assert!(matches!(
            blocked.join().unwrap(),
            Err(RecvError::ForceClosed(_))
        ));
    });
}

#[test]
fn a_closer_created_while_a_stream_waits_can_wake_it() {
    let _watchdog = watchdog();
    let buffer = EventBuffer::<u8>::new();
    let mut reader = task::spawn(buffer.subscribe());
    assert_pending!(reader.poll_next());
    let closer = reader.closer();
    assert!(!reader.is_woken(), "creating a closer wakes nothing");
    closer.close("enough");
    assert!(reader.is_woken());
    assert!(matches!(
        assert_ready!(reader.poll_next()),
        Some(Err(RecvError::ForceClosed(_)))
    ));

    // It is also woken if it has been polled again in between.
    let mut reader = task::spawn(buffer.subscribe());
    assert_pending!(reader.poll_next());
    let closer = reader.closer();
    assert_pending!(reader.poll_next());
    closer.close("enough");
    assert!(reader.is_woken());
}

#[test]
fn a_closer_does_not_keep_the_task_of_a_dropped_reader() {
    let _watchdog = watchdog();
    let buffer = EventBuffer::<u8>::new();
    let mut reader = buffer.subscribe();
    let closer = reader.closer();
    let task = std::sync::Arc::new(Task);
    let waker = std::task::Waker::from(std::sync::Arc::clone(&task));
    let mut cx = std::task::Context::from_waker(&waker);
    assert!(futures::StreamExt::poll_next_unpin(&mut reader, &mut cx).is_pending());
    drop((waker, reader));
    assert_eq!(std::sync::Arc::strong_count(&task), 1);
    drop(closer);
}

#[test]
fn a_chunk_is_fused_even_if_a_splice_brings_more() {
    let _watchdog = watchdog();
    let mut live = EventBuffer::new();
    let tail = live.tail();
    live.push(2);
    let mut first = EventBuffer::new();
    let mut reader = first.subscribe();
    first.push(1);
    let mut chunk = assert_ready!(task::spawn(reader.next_chunk()).poll()).unwrap();
    assert_eq!((chunk.next(), chunk.next()), (Some(&1), None));
    first.splice(tail);
    assert_eq!(chunk.next(), None);
    assert_eq!(reader.try_recv().unwrap()[0], 2);
}

/// A `Cloned` drops the items that it has passed before it takes the next event, not after.
#[test]
fn a_panicking_drop_of_an_older_event_loses_no_other() {
    struct Explosive(u32, bool);

    impl Clone for Explosive {
        fn clone(&self) -> Self {
            Self(self.0, false)
        }
    }

    impl Drop for Explosive {
        fn drop(&mut self) {
            assert!(!self.1 || std::thread::panicking(), "asked for");
        }
    }

    let _watchdog = watchdog();
    let mut buffer = EventBuffer::builder().replay(Replay::None).build();
    let mut reader = buffer.subscribe().cloned();
    // The last one must not panic: an event whose own `drop` panics has not been received.
    buffer.extend((0..100).map(|n| Explosive(n, n % 7 == 0 && n < 99)));
    let (mut received, mut panics) = (Vec::new(), 0);
    loop {
        let read = std::panic::AssertUnwindSafe(|| reader.try_recv().map(|event| event.0));
        match std::panic::catch_unwind(read) {
            Ok(Ok(n)) => received.push(n),
            Ok(Err(_)) => break,
            Err(_) => panics += 1,
        }
    }
    assert_eq!(received, (0..100).collect::<Vec<_>>());
    assert!(panics > 0);
}

#[test]
fn an_event_whose_clone_panics_is_cloned_again_by_the_next_read() {
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    static PANICS: AtomicBool = AtomicBool::new(true);
    struct Fragile(u8);

    impl Clone for Fragile {
        fn clone(&self) -> Self {
            assert!(!PANICS.load(SeqCst), "asked for");
            Self(self.0)
        }
    }

    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut reader = buffer.subscribe().cloned();
    buffer.append([Fragile(1), Fragile(2)]);
    buffer.push(Fragile(3));
    for n in 1..=3 {
        PANICS.store(true, SeqCst);
        let read = std::panic::AssertUnwindSafe(|| reader.try_recv().is_ok());
        assert!(std::panic::catch_unwind(read).is_err());
        PANICS.store(false, SeqCst);
        assert_eq!(reader.try_recv().map(|event| event.0), Ok(n));
    }
}

#[test]
fn a_cancelled_wait_keeps_no_waker() {
    /// Polls the future repeatedly, as a task that waits for several does, then drops it.
    fn wait_and_cancel(task: &Arc<Task>, future: impl Future) {
        let waker = Waker::from(Arc::clone(task));
        let mut cx = Context::from_waker(&waker);
        let mut future = Box::pin(future);
        for _ in 0..10 {
            assert!(future.as_mut().poll(&mut cx).is_pending());
        }
        drop(waker);
        assert_eq!(Arc::strong_count(task), 2, "it is registered once");
        drop(future);
        assert_eq!(Arc::strong_count(task), 1);
    }

    let _watchdog = watchdog();
    let task = Arc::new(Task);
    let mut buffer = EventBuffer::new();
    buffer.push(1);
    let item = buffer.latest().unwrap();
    wait_and_cancel(&task, buffer.subscribe().into_future());
    let mut reader = buffer.subscribe();
    wait_and_cancel(&task, reader.recv());
    wait_and_cancel(&task, reader.next_chunk());
    let mut cloned = reader.clone().cloned();
    wait_and_cancel(&task, cloned.recv());
    wait_and_cancel(&task, item.next());
    wait_and_cancel(&task, buffer.unobserved());
}

#[test]
fn a_task_that_waits_beside_one_that_has_left_is_let_go() {
    let _watchdog = watchdog();
    let buffer = EventBuffer::<u8>::new();
    let task = Arc::new(Task);
    let waker = Waker::from(Arc::clone(&task));
    let mut cx = Context::from_waker(&waker);
    let mut other = task::spawn(buffer.subscribe());
    assert_pending!(other.poll_next());
    let mut reader = buffer.subscribe();
    assert!(reader.poll_next_unpin(&mut cx).is_pending());
    drop(other);
    assert!(reader.poll_next_unpin(&mut cx).is_pending());
    drop(waker);
    assert_eq!(Arc::strong_count(&task), 2, "it waits in one place");
    drop(reader);
    assert_eq!(Arc::strong_count(&task), 1);
}

#[test]
fn a_late_leaver_does_not_remove_another_waker() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut first = task::spawn(buffer.subscribe());
    let mut second = task::spawn(buffer.subscribe());
    assert_pending!(first.poll_next());
    buffer.push(1);
    while second.poll_next().is_ready() {}
    // The second reader's waker now has the entry that the first one's had.
    assert!(assert_ready!(first.poll_next()).is_some());
    buffer.push(2);
    assert!(second.is_woken());
}

#[test]
fn a_task_that_waits_again_after_a_spurious_wake_up_is_woken_again() {
    let _watchdog = watchdog();
    let buffer = EventBuffer::<u8>::new();
    let mut reader = buffer.subscribe();
    let mut one = task::spawn(buffer.unobserved());
    let mut other = task::spawn(buffer.unobserved());
    assert_pending!(one.poll());
    assert_pending!(other.poll());
    for _ in 0..3 {
        drop(reader);
        assert!(one.is_woken() && other.is_woken());
        // By the time they are polled, there is a reader again.
        reader = buffer.subscribe();
        // Polled in the opposite order, so that they swap their entries.
        std::mem::swap(&mut one, &mut other);
        assert_pending!(one.poll());
        assert!(!one.is_woken() && other.is_woken());
        assert_pending!(other.poll());
    }
    drop(reader);
    assert_ready!(one.poll());
    assert_ready!(other.poll());
}

#[test]
fn every_reader_of_a_crowd_is_woken() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    // Sizes around the number woken at once, and around the capacity that an empty list keeps.
    for crowd in [1, 4, 5, 64, 65, 1_000, 5, 4] {
        let readers = (0..crowd).map(|_| task::spawn(buffer.subscribe()));
        let mut readers: Vec<_> = readers.collect();
        for n in 0..3 {
            for reader in &mut readers {
                assert_pending!(reader.poll_next());
            }
            buffer.push(n);
            for reader in &mut readers {
                assert!(reader.is_woken());
                assert!(assert_ready!(reader.poll_next()).is_some());
            }
        }
    }
}

#[test]
fn a_blocking_read_returns_an_item_published_meanwhile() {
    const ROUNDS: u32 = 200;
    let _watchdog = watchdog();
    let (mut there, mut back) = (EventBuffer::new(), EventBuffer::new());
    let (mut reader, mut echoes) = (there.subscribe(), back.subscribe().cloned());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..ROUNDS {
                // Usually called before the other thread has published the item.
                let item = reader.recv_timeout(Duration::from_secs(1_000)).unwrap();
                back.push(item[0]);
            }
        });
        for n in 0..ROUNDS {
            there.push(n);
            assert_eq!(echoes.recv_blocking(), Ok(n));
        }
    });
}

/// The skipped items were pushed, extended or appended.
#[test]
fn a_reader_that_resubscribes_is_at_the_tail() {
    let _watchdog = watchdog();
    let fill: [fn(&mut EventBuffer<u32>); 4] = [
        |buffer| (0..1_000).for_each(|n| buffer.push(n)),
        |buffer| buffer.extend(0..1_000),
        |buffer| (0..10).for_each(|n| buffer.append(n..n + 3)),
        |_| {},
    ];
    for fill in fill {
        for replay in [Replay::None, Replay::Last(1), Replay::All] {
            let mut buffer = EventBuffer::builder().replay(replay).build();
            let reader = buffer.subscribe();
            fill(&mut buffer);
            let behind = reader.lag();
            let mut late = reader.resubscribe();
            assert_eq!((late.lag(), reader.lag()), (0, behind));
            buffer.push(7);
            assert_eq!((late.lag(), reader.lag()), (1, behind + 1));
            assert_eq!(late.try_recv().unwrap().events(), [7]);
        }
    }

    // The newest item replaced an older one in its node.
    let mut buffer = EventBuffer::new();
    buffer.extend([1, 2, 3]);
    buffer.push(4);
    let reader = buffer.subscribe_from_start();
    let mut late = reader.resubscribe();
    assert_eq!((reader.lag(), late.lag()), (1, 0));
    buffer.push(5);
    assert_eq!(late.try_recv().unwrap().events(), [5]);
}

#[test]
fn a_new_subscription_keeps_no_items_that_it_skips() {
    struct Numbered(u64, #[expect(dead_code)] Arc<()>);

    impl Indexed for Numbered {
        fn index(&self) -> u64 {
            self.0
        }
    }

    let _watchdog = watchdog();
    let event = Arc::new(());
    let mut buffer = EventBuffer::builder().replay(Replay::None).build();
    let reader = buffer.subscribe();
    buffer.extend((0..5).map(|n| Numbered(n, event.clone())));
    let late = reader.resubscribe();
    drop(reader);
    assert_eq!(Arc::strong_count(&event) - 1, 0);
    drop(late);

    // Only a few skipped items may be kept if the reader has unread ones.
    let mut buffer = EventBuffer::builder().replay(Replay::All).build();
    buffer.extend((0..1_000).map(|n| Numbered(n, event.clone())));
    let resumed = buffer.subscribe_after(499).unwrap();
    drop(buffer);
    assert!(Arc::strong_count(&event) - 1 < 600);
    drop(resumed);
}
