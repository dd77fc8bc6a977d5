//! Bugs that others had, each with a test named after what must not happen.

#![cfg(not(loom))]

mod support;

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use event_buffer::{EventBuffer, RecvError, Replay, SharedBuffer, Subscription, TryRecvError};
use futures::{SinkExt, StreamExt};
use support::{Hook, PanicsWhenDropped, PanicsWhenWoken, Use, patient_watchdog, watchdog};
use tokio_test::{assert_ready, task};

/// tokio 4814.
#[test]
fn resubscribing_to_an_ended_buffer_does_not_hang() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let reader = buffer.subscribe();
    buffer.push(1);
    buffer.close();
    let mut late = reader.resubscribe();
    assert_eq!(
        assert_ready!(task::spawn(late.recv()).poll()),
        Err(RecvError::Closed)
    );

    let buffer = EventBuffer::<u8>::new();
    let reader = buffer.subscribe();
    buffer.fail("broken");
    let mut late = reader.resubscribe();
    assert!(matches!(late.try_recv(), Err(TryRecvError::Failed(_))));
    assert_eq!(late.try_recv(), Err(TryRecvError::Closed));
}

/// A waker that owns the reader it wakes, and does as told with it when woken or dropped.
struct Reenter {
    reader: Mutex<Option<Subscription<u32>>>,
    wake: fn(&mut Option<Subscription<u32>>, Waker),
    woken: Mutex<u32>,
}

impl Wake for Reenter {
    fn wake(self: Arc<Self>) {
        *self.woken.lock().unwrap() += 1;
        let waker = Waker::from(Arc::clone(&self));
        (self.wake)(&mut self.reader.lock().unwrap(), waker);
    }
}

fn reentering(
    reader: Subscription<u32>,
    wake: fn(&mut Option<Subscription<u32>>, Waker),
) -> Arc<Reenter> {
    let reenter = Arc::new(Reenter {
        reader: Mutex::new(Some(reader)),
        wake,
        woken: Mutex::new(0),
    });
    let waker = Waker::from(Arc::clone(&reenter));
    let poll = poll(reenter.reader.lock().unwrap().as_mut().unwrap(), &waker);
    assert!(poll.is_pending());
    reenter
}

fn poll(reader: &mut Subscription<u32>, waker: &Waker) -> Poll<Option<u32>> {
    let poll = reader.poll_next_unpin(&mut Context::from_waker(waker));
    poll.map(|item| item.map(|item| item.unwrap()[0]))
}

/// tokio 5429.
#[test]
fn a_wake_that_polls_the_reader_does_not_deadlock() {
    let _watchdog = watchdog();
    let shared = SharedBuffer::new();
    let polls = |reader: &mut Option<Subscription<u32>>, waker: Waker| {
        let reader = reader.as_mut().unwrap();
        while let Poll::Ready(item) = poll(reader, &waker) {
            if item.is_none() {
                break;
            }
        }
    };
    let reenter = reentering(shared.subscribe(), polls);
    shared.push(1).unwrap();
    shared.extend([2, 3]).unwrap();
    shared.append([4, 5]).unwrap();
    assert_eq!(*reenter.woken.lock().unwrap(), 3);
    drop(shared);
    assert_eq!(*reenter.woken.lock().unwrap(), 4);
    reenter.reader.lock().unwrap().take();
}

/// tokio 5429.
#[test]
fn a_wake_that_drops_the_reader_does_not_deadlock() {
    let _watchdog = watchdog();
    let shared = SharedBuffer::new();
    let drops = |reader: &mut Option<Subscription<u32>>, _| drop(reader.take());
    let one = reentering(shared.subscribe(), drops);
    let other = reentering(shared.subscribe(), drops);
    shared.push(1).unwrap();
    assert_eq!(
        (*one.woken.lock().unwrap(), *other.woken.lock().unwrap()),
        (1, 1)
    );
    assert!(!shared.is_observed());
}

/// tokio 5429.
#[test]
fn dropping_a_waker_that_publishes_does_not_deadlock() {
    struct PublishOnDrop(SharedBuffer<u32>);
    impl Wake for PublishOnDrop {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for PublishOnDrop {
        fn drop(&mut self) {
            self.0.push(99).unwrap();
        }
    }
    let _watchdog = watchdog();
    let shared = SharedBuffer::new();
    let mut reader = shared.subscribe();
    for _ in 0..2 {
        // The second one takes the first one's place in the listener.
        let waker = Waker::from(Arc::new(PublishOnDrop(shared.clone())));
        assert!(poll(&mut reader, &waker).is_pending() || shared.latest().is_some());
    }
    shared.push(1).unwrap();
    drop(reader);
    assert!(shared.latest().is_some());
}

#[test]
fn a_waker_that_panics_does_not_keep_others_asleep() {
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
fn a_waker_that_panics_where_a_panic_goes_on_already_is_no_abort() {
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

#[test]
fn a_payload_that_uses_the_buffer_when_dropped_does_not_deadlock() {
    struct Reenters(Option<SharedBuffer<Reenters>>);
    impl Drop for Reenters {
        fn drop(&mut self) {
            if let Some(shared) = self.0.take() {
                shared.push(Reenters(None)).unwrap();
            }
        }
    }
    let _watchdog = watchdog();
    let shared = SharedBuffer::new();
    shared.push(Reenters(Some(shared.clone()))).unwrap();
    shared.push(Reenters(None)).unwrap(); // The first leaves the window.
    assert_eq!(shared.retained(), 1);
    let nothing: SharedBuffer<Reenters> =
        EventBuffer::builder().replay(Replay::None).build().into();
    nothing.push(Reenters(Some(nothing.clone()))).unwrap();
    nothing.extend([Reenters(Some(nothing.clone()))]).unwrap();
}

/// rpds 41, concread 142.
#[test]
fn dropping_a_long_chain_does_not_recurse() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::builder().replay(Replay::None).build();
    let reader = buffer.subscribe();
    buffer.extend((0..1_000_000).map(Box::new));
    let small = std::thread::Builder::new().stack_size(32 * 1024);
    let dropping = small.spawn(move || drop((buffer, reader)));
    dropping.unwrap().join().unwrap();
}

#[test]
fn dropping_a_long_chain_of_splices_does_not_recurse() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::builder().replay(Replay::None).build();
    let reader = buffer.subscribe();
    for n in 0..100_000 {
        let next = EventBuffer::builder().replay(Replay::None).build();
        buffer.push(n);
        let tail = next.tail();
        std::mem::replace(&mut buffer, next).splice(tail);
    }
    assert_eq!(reader.lag(), 100_000);
    let start = reader.position();
    let small = || std::thread::Builder::new().stack_size(32 * 1024);
    let dropping = small().spawn(move || drop((reader, buffer)));
    dropping.unwrap().join().unwrap();
    // The last one to hold it is a writer, which outlives all of it by a little.
    let unread = EventBuffer::builder().replay(Replay::None).build();
    let dropping = small().spawn(move || unread.splice(start));
    dropping.unwrap().join().unwrap();
}

/// tokio 2425, barrage.
#[test]
fn closing_does_not_hide_the_last_value() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut reader = buffer.subscribe();
    buffer.push(1);
    buffer.close();
    assert_eq!(reader.try_recv().unwrap().events(), [1]);
    assert_eq!(reader.try_recv(), Err(TryRecvError::Closed));
}

/// tokio 7232.
#[cfg(not(loom))]
#[test]
fn values_that_are_not_sync_are_not_shared() {
    let _watchdog = patient_watchdog();
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}

/// What was published is published, and what comes after it is delivered.
#[test]
fn a_waker_that_panics_does_not_change_how_a_buffer_goes_on() {
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

/// A second panic that leaves a drop would abort the process. Here it is that of the waker that a wait drops.
#[test]
fn a_wait_that_ends_while_a_panic_goes_on_is_no_abort() {
    fn panic_in_the_midst(wait: impl Future) {
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
    panic_in_the_midst(buffer.subscribe().recv());
    panic_in_the_midst(async { buffer.subscribe().next().await });
    panic_in_the_midst(async { buffer.subscribe().cloned().next().await });
    panic_in_the_midst(async { buffer.subscribe().next_chunk().await.map(drop) });
    panic_in_the_midst(async { limited().next().await });
    panic_in_the_midst(async { limited().recv().await });
    panic_in_the_midst(item.next());
    let _reader = buffer.subscribe();
    panic_in_the_midst(buffer.unobserved());
}

/// Lets the reader wait with a waker whose drop panics, of which the buffer has the only one then. What it is dropped
/// for is done all the same.
fn wait_to_panic<R: StreamExt + Unpin>(reader: &mut R) {
    let waker = Waker::from(Arc::new(PanicsWhenDropped));
    let mut cx = Context::from_waker(&waker);
    assert!(reader.poll_next_unpin(&mut cx).is_pending());
}

fn panics(f: impl FnOnce()) {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).unwrap_err();
}

#[test]
fn a_waker_whose_drop_panics_does_not_keep_others_asleep() {
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
fn a_waker_whose_drop_panics_gives_way_to_the_next() {
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
fn a_waker_whose_drop_panics_lets_its_reader_go() {
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
    assert_eq!(Arc::strong_count(&payload), 1, "nobody holds it");

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
