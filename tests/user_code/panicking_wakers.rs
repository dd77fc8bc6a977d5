//! Wakers that panic when they are woken or dropped.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use event_buffer::{EventBuffer, Replay, Subscription, TryRecvError};
use futures::{FutureExt, SinkExt, StreamExt};
use tokio_test::{assert_ready, task};

use crate::support::{Hook, PanicsWhenDropped, PanicsWhenWoken, Task, Use, panics, watchdog};

fn poll(reader: &mut Subscription<u32>, waker: &Waker) -> Poll<Option<u32>> {
    let poll = reader.poll_next_unpin(&mut Context::from_waker(waker));
    poll.map(|item| item.map(|item| item.unwrap()[0]))
}

#[test]
fn a_panicking_waker_does_not_stop_other_wake_ups() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut first = buffer.subscribe();
    let mut second = task::spawn(buffer.subscribe());
    assert!(poll(&mut first, &Waker::from(Arc::new(PanicsWhenWoken))).is_pending());
    assert!(second.poll_next().is_pending());
    let push = std::panic::AssertUnwindSafe(|| buffer.push(1));
    assert!(std::panic::catch_unwind(push).is_err());
    assert!(second.is_woken());
    assert_eq!(first.try_recv().unwrap().events(), [1]);
    buffer.push(2);
    assert_eq!(first.try_recv().unwrap().events(), [2]);
}

/// A second panic that leaves a drop would abort the process.
#[test]
fn a_panicking_waker_during_unwinding_does_not_abort() {
    fn while_panicking<T>(dropped: T) {
        let panics = std::panic::AssertUnwindSafe(|| {
            let _dropped = dropped;
            panic!("as planned");
        });
        assert!(std::panic::catch_unwind(panics).is_err());
    }
    let _watchdog = watchdog();
    let waker = Waker::from(Arc::new(PanicsWhenWoken));
    for readers in [1, 2, 10] {
        let buffer = EventBuffer::<u32>::new();
        let mut readers: Vec<_> = (0..readers).map(|_| buffer.subscribe()).collect();
        for reader in &mut readers {
            assert!(poll(reader, &waker).is_pending());
        }
        while_panicking(buffer);
        for reader in &mut readers {
            assert_eq!(reader.try_recv(), Err(TryRecvError::Closed));
        }
    }
    let buffer = EventBuffer::<u32>::new();
    let reader = buffer.subscribe();
    let unobserved = std::pin::pin!(buffer.unobserved());
    let polled = unobserved.poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    while_panicking(reader);
}

/// What was published is published, and what comes after it is delivered.
#[test]
fn a_panicking_waker_does_not_change_the_continuation_of_a_buffer() {
    let _watchdog = watchdog();
    let panics = |f: &mut dyn FnMut()| {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).unwrap_err();
    };
    let awaited = || {
        let buffer = EventBuffer::new();
        let mut reader = buffer.subscribe();
        assert!(poll(&mut reader, &Waker::from(Arc::new(PanicsWhenWoken))).is_pending());
        (buffer, reader)
    };
    let ways: [fn(&mut EventBuffer<u32>); 4] = [
        |buffer| buffer.push(1),
        |buffer| buffer.append([1]),
        |buffer| buffer.extend([1]),
        |buffer| assert_ready!(task::spawn(buffer.feed(1)).poll()).unwrap(),
    ];
    for publish in ways {
        let (mut buffer, mut reader) = awaited();
        panics(&mut || publish(&mut buffer));
        buffer.push(2);
        assert_eq!(reader.try_recv().unwrap().events(), [1]);
        assert_eq!(reader.try_recv().unwrap().events(), [2]);
    }

    let (buffer, mut reader) = awaited();
    let mut buffer = Some(buffer);
    panics(&mut || buffer.take().unwrap().fail("truncated"));
    assert!(matches!(reader.try_recv(), Err(TryRecvError::Failed(_))));

    let (buffer, mut reader) = awaited();
    let mut buffer = Some(buffer);
    let mut live = EventBuffer::new();
    panics(&mut || buffer.take().unwrap().splice(live.tail()));
    live.push(1);
    assert_eq!(reader.try_recv().unwrap().events(), [1]);
}

/// A wait drops a waker whose drop panics. A panic out of a drop during unwinding would abort.
#[test]
fn a_wait_that_ends_during_unwinding_does_not_abort() {
    fn panic_during(wait: impl Future) {
        let hook = Hook::new();
        let waker = hook.waker();
        panics(|| {
            let mut wait = std::pin::pin!(wait);
            let poll = wait.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(poll.is_pending());
            hook.run_at(Use::Drop, || panic!("as planned"));
            panic!("as planned");
        });
        assert!(hook.has_run());
    }

    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    buffer.push(1);
    let item = buffer.latest().unwrap();
    let limited = || buffer.subscribe().limited(event_buffer::LagLimit::items(1));
    panic_during(buffer.subscribe().recv());
    panic_during(async { buffer.subscribe().next().await });
    panic_during(async { buffer.subscribe().cloned().next().await });
    panic_during(async { buffer.subscribe().next_chunk().await.map(drop) });
    panic_during(async { limited().next().await });
    panic_during(async { limited().recv().await });
    panic_during(item.next());
    let _reader = buffer.subscribe();
    panic_during(buffer.unobserved());
}

/// Makes the reader wait with a waker whose drop panics. The buffer then has its only reference.
/// The operation that drops it is still completed.
fn wait_to_panic<R: StreamExt + Unpin>(reader: &mut R) {
    let waker = Waker::from(Arc::new(PanicsWhenDropped));
    let mut cx = Context::from_waker(&waker);
    assert!(reader.poll_next_unpin(&mut cx).is_pending());
}

#[test]
fn a_panicking_drop_of_a_waker_does_not_stop_other_wake_ups() {
    let _watchdog = watchdog();
    // As many as are woken at once, and more.
    for others in [1, 10] {
        let mut buffer = EventBuffer::new();
        let mut reader = buffer.subscribe();
        wait_to_panic(&mut reader);
        let others = (0..others).map(|_| task::spawn(buffer.subscribe()));
        let mut others: Vec<_> = others.collect();
        for other in &mut others {
            assert!(other.poll_next().is_pending());
        }
        panics(|| buffer.push(1));
        assert!(others.iter().all(task::Spawn::is_woken));
        assert_eq!(reader.try_recv().unwrap().events(), [1]);
        buffer.push(2);
        assert_eq!(reader.try_recv().unwrap().events(), [2]);
    }
}

#[test]
fn a_waker_whose_drop_panics_is_replaced_by_the_next() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut reader = buffer.subscribe();
    wait_to_panic(&mut reader);
    let mut reader = task::spawn(reader);
    panics(|| drop(reader.poll_next()));
    buffer.push(1);
    assert!(reader.is_woken());
    assert_eq!(assert_ready!(reader.poll_next()).unwrap().unwrap()[0], 1);

    // The same of one that waits for a close.
    let closer = reader.closer();
    wait_to_panic(&mut *reader);
    // Both lists have it: the first drop does not panic yet.
    panics(|| drop(reader.poll_next()));
    assert!(reader.poll_next().is_pending());
    closer.close("enough");
    assert!(reader.is_woken());
}

#[test]
fn a_waker_whose_drop_panics_does_not_leak_its_reader() {
    let _watchdog = watchdog();
    let payload = Arc::new(());
    let mut buffer = EventBuffer::builder().replay(Replay::None).build();
    let mut reader = buffer.subscribe();
    wait_to_panic(&mut reader);
    let bookmark = buffer.tail();
    panics(|| drop(reader));
    assert!(!buffer.is_observed());
    drop(bookmark);
    buffer.push(Arc::clone(&payload));
    assert_eq!(Arc::strong_count(&payload), 1, "it is released");

    // A `recv` that is cancelled: nothing is lost.
    let mut reader = buffer.subscribe();
    let mut recv = Box::pin(reader.recv());
    {
        let waker = Waker::from(Arc::new(PanicsWhenDropped));
        let poll = std::future::Future::poll(recv.as_mut(), &mut Context::from_waker(&waker));
        assert!(poll.is_pending());
    }
    panics(|| drop(recv));
    buffer.push(Arc::clone(&payload));
    assert!(reader.try_recv().is_ok());
    assert_eq!(reader.try_recv(), Err(TryRecvError::Empty));
}

#[test]
fn a_reader_whose_drop_wakes_one_that_panics_leaves_the_list() {
    let _watchdog = watchdog();
    let buffer = EventBuffer::<u8>::new();
    let mut reader = buffer.subscribe();
    let task = Arc::new(Task);
    let waker = Waker::from(task.clone());
    let mut cx = Context::from_waker(&waker);
    assert!(reader.poll_next_unpin(&mut cx).is_pending());
    drop(waker);
    let waker = Waker::from(Arc::new(PanicsWhenWoken));
    let mut unobserved = Box::pin(buffer.unobserved());
    let mut cx = Context::from_waker(&waker);
    assert!(unobserved.poll_unpin(&mut cx).is_pending());
    panics(|| drop(reader));
    assert_eq!(Arc::strong_count(&task), 1);
}

#[test]
fn a_panicking_waker_does_not_change_the_length_of_the_window() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::builder().replay(Replay::Last(2)).build();
    let mut reader = buffer.subscribe();
    let waker = Waker::from(Arc::new(PanicsWhenWoken));
    let mut cx = Context::from_waker(&waker);
    assert!(reader.poll_next_unpin(&mut cx).is_pending());
    panics(|| buffer.extend(0..10));
    assert_eq!(buffer.retained(), 2);
}
