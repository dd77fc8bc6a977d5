//! The counts of readers and of items in memory, and waiting for readers.

use std::sync::Arc;
use std::task::Wake;

use event_buffer::{EventBuffer, LagLimit, OnLag, Replay, SharedBuffer, Subscription};
use tokio_test::{assert_pending, assert_ready, task};

use crate::support::{retaining, watchdog};

/// Freed items that may still be counted: at most one block of memory.
const BLOCK: u64 = 64;

#[test]
fn without_readers_only_the_window_is_in_memory() {
    let _watchdog = watchdog();
    let mut unretained = retaining(Replay::None);
    let mut newest = EventBuffer::new();
    let mut last = retaining(Replay::Last(1_000));
    for n in 0..1_000_000_u64 {
        unretained.push(n);
        newest.push(n);
        last.push(n);
    }
    assert_eq!(unretained.backlog(), 0);
    assert_eq!(newest.backlog(), 1);
    assert!((1_000..=1_000 + BLOCK).contains(&last.backlog()));
    last.clear_window();
    assert!(last.backlog() <= BLOCK);
}

#[test]
fn unread_items_are_in_memory() {
    let _watchdog = watchdog();
    let mut buffer = retaining(Replay::None);
    let mut reader = buffer.subscribe();
    buffer.extend(0..500);
    (500..1_000).for_each(|n| buffer.push(n));
    assert!((1_000..=1_000 + BLOCK).contains(&buffer.backlog()));
    for left in (0..1_000).rev() {
        drop(reader.try_recv());
        assert!(
            (left..=left + BLOCK).contains(&buffer.backlog()),
            "{left} left"
        );
    }
}

#[test]
fn an_unpublished_batch_is_not_counted() {
    let _watchdog = watchdog();
    let mut buffer = retaining(Replay::None);
    let reader = buffer.subscribe();
    let panics = (0..1_000).inspect(|n| assert!(*n < 999, "asked for"));
    let extend = std::panic::AssertUnwindSafe(|| buffer.extend(panics));
    assert!(std::panic::catch_unwind(extend).is_err());
    assert_eq!(buffer.backlog(), 0);
    buffer.extend(0..1_000);
    assert!((1_000..=1_000 + BLOCK).contains(&buffer.backlog()));
    drop(reader);
    assert_eq!(buffer.backlog(), 0);
}

#[test]
fn large_items_are_counted_exactly() {
    let _watchdog = watchdog();
    let mut buffer = retaining(Replay::Last(3));
    let mut reader = buffer.subscribe();
    for _ in 0..10 {
        buffer.push([0_u8; 4_096]);
    }
    assert_eq!(buffer.backlog(), 10);
    for left in [9, 8, 7, 6, 5, 4, 3, 3, 3, 3] {
        drop(reader.try_recv());
        assert_eq!(buffer.backlog(), left);
    }
}

#[test]
fn a_splice_does_not_add_to_the_backlog_of_the_live_buffer() {
    let _watchdog = watchdog();
    let mut live = retaining(Replay::None);
    let mut snapshot = retaining(Replay::None);
    let mut reader = snapshot.subscribe();
    snapshot.extend(0..1_000);
    snapshot.splice(live.tail());
    assert_eq!(live.subscriber_count(), 1);
    assert!(live.backlog() <= 1);
    live.extend(0..100);
    assert!((100..=100 + BLOCK).contains(&live.backlog()));
    for _ in 0..1_000 {
        drop(reader.try_recv());
        assert!((100..=100 + BLOCK).contains(&live.backlog()));
    }
    drop(reader);
    assert_eq!(live.backlog(), 0);
}

#[test]
fn readers_are_counted_until_they_are_dropped_or_closed() {
    let _watchdog = watchdog();
    let mut buffer = retaining(Replay::None);
    let reader = buffer.subscribe();
    let clone = reader.clone();
    let closed = reader.resubscribe();
    let limited = reader
        .clone()
        .limited(LagLimit::items(1).on_lag(OnLag::Close));
    let other = limited.clone();
    assert_eq!(buffer.subscriber_count(), 5);
    closed.closer().close("enough");
    assert_eq!(buffer.subscriber_count(), 4);
    drop((reader, other));
    assert_eq!(buffer.subscriber_count(), 2);
    buffer.extend(0..1_000);
    assert_eq!(buffer.subscriber_count(), 1, "one was closed for lagging");
    drop((clone, limited));
    assert_eq!(buffer.subscriber_count(), 0);
}

#[test]
fn observed_completes_with_the_first_reader() {
    let _watchdog = watchdog();
    let buffer = EventBuffer::<u8>::new();
    let place = buffer.tail();
    let mut observed = task::spawn(buffer.observed());
    assert_pending!(observed.poll());
    let reader = place.subscribe();
    assert!(observed.is_woken());
    assert_ready!(observed.poll());
    drop(observed);
    let mut unobserved = task::spawn(buffer.unobserved());
    assert_pending!(unobserved.poll());
    let second = place.subscribe();
    drop(reader);
    assert!(!unobserved.is_woken(), "one is left");
    drop(second);
    assert_ready!(unobserved.poll());
}

#[test]
fn a_splice_can_bring_the_first_reader() {
    let _watchdog = watchdog();
    let (live, snapshot) = (SharedBuffer::<u8>::new(), EventBuffer::new());
    let _reader = snapshot.subscribe();
    let mut observed = task::spawn(live.observed());
    assert_pending!(observed.poll());
    snapshot.splice(live.tail());
    assert!(observed.is_woken());
    assert_ready!(observed.poll());
}

type Subscribe = fn(&SharedBuffer<u8>) -> Subscription<u8>;

/// A waker that uses the buffer, which would deadlock if it ran under the buffer's lock.
struct Uses(SharedBuffer<u8>);

impl Wake for Uses {
    fn wake(self: Arc<Self>) {
        self.0.push(1).unwrap();
    }
}

#[test]
fn a_task_that_waits_for_readers_may_use_the_buffer_when_woken() {
    let _watchdog = watchdog();
    let shared = SharedBuffer::new();
    let waker = Arc::new(Uses(shared.clone())).into();
    let mut cx = std::task::Context::from_waker(&waker);
    let ways: [Subscribe; 3] = [
        SharedBuffer::subscribe,
        SharedBuffer::subscribe_from_start,
        |shared| shared.upgrade(&shared.tail().bookmark()).unwrap(),
    ];
    for subscribe in ways {
        let before = shared.latest().map(|item| item.len());
        let mut observed = Box::pin(shared.observed());
        assert!(observed.as_mut().poll(&mut cx).is_pending());
        let mut reader = subscribe(&shared);
        assert!(observed.as_mut().poll(&mut cx).is_ready());
        drop(observed);
        assert!(
            reader.try_recv().is_ok(),
            "published by the waker, after {before:?}"
        );
    }
    // A splice wakes it too, while it holds the lock of all splices.
    let snapshot = SharedBuffer::new();
    let _reader = snapshot.subscribe();
    let mut observed = Box::pin(shared.observed());
    assert!(observed.as_mut().poll(&mut cx).is_pending());
    snapshot.splice(shared.tail());
    assert!(observed.as_mut().poll(&mut cx).is_ready());
}
