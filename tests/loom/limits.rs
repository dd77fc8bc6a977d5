//! Limits, which the writer enforces.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use event_buffer::{ByteSize, EventBuffer, LagLimit, OnLag, RecvError, SharedBuffer, TryRecvError};
use loom::future::block_on;
use loom::sync::Arc;
use loom::thread;

use super::buffer;

/// The writer moves the reader forward during its reads: received and skipped items must add up to
/// the published ones.
fn limit_is_enforced_during_reads(
    limit: LagLimit<Number>,
    publish: fn(EventBuffer<Number>, [Number; 3]),
) {
    loom::model(move || {
        let buffer = buffer();
        let mut reader = buffer.subscribe().limited(limit);
        let writer = thread::spawn(move || publish(buffer, [1, 2, 3].map(Number)));
        let (mut accounted, mut newest) = (0, 0);
        let mut look = || match reader.try_recv() {
            Ok(Number(n)) => {
                accounted += 1;
                assert_eq!(n, accounted);
                newest = n;
                true
            }
            Err(TryRecvError::Lagged(items)) => {
                accounted += items;
                true
            }
            Err(_) => false,
        };
        look();
        writer.join().unwrap();
        while look() {}
        // The newest item is never skipped.
        assert_eq!((accounted, newest), (3, 3));
    });
}

fn push_each<const N: usize>(mut buffer: EventBuffer<Number>, events: [Number; N]) {
    events.into_iter().for_each(|event| buffer.push(event));
}

#[derive(Clone)]
struct Number(u64);

impl ByteSize for Number {
    fn byte_size(&self) -> usize {
        1
    }
}

#[test]
fn enforced_limit_against_recv() {
    limit_is_enforced_during_reads(LagLimit::items(1), push_each);
}

#[test]
fn enforced_limit_in_bytes_against_recv() {
    limit_is_enforced_during_reads(LagLimit::bytes(1), push_each);
}

#[test]
fn append_against_limited_wait() {
    loom::model(|| {
        let mut buffer = buffer();
        let mut reader = buffer.subscribe().limited(LagLimit::items(1));
        let writer = thread::spawn(move || {
            buffer.push(Arc::new(1));
            buffer
        });
        assert_eq!(*block_on(reader.recv()).unwrap(), 1);
        drop(writer.join().unwrap());
    });
}

#[test]
fn enforced_close_against_recv() {
    loom::model(|| {
        let mut buffer = buffer();
        let limit = LagLimit::items(1).on_lag(OnLag::Close);
        let mut reader = buffer.subscribe().limited(limit);
        let writer = thread::spawn(move || {
            buffer.push(Arc::new(1));
            buffer.push(Arc::new(2));
            buffer
        });
        match block_on(reader.recv()) {
            Ok(event) => assert_eq!(*event, 1),
            Err(RecvError::ForceClosed(_)) => {}
            Err(other) => panic!("{other}"),
        }
        drop(writer.join().unwrap());
    });
}

#[test]
fn enforced_limit_against_reader_drop() {
    loom::model(|| {
        let mut buffer = buffer();
        let reader = buffer.subscribe().limited(LagLimit::items(1));
        let other = thread::spawn(move || drop(reader));
        (1..=3).for_each(|n| buffer.push(Arc::new(n)));
        other.join().unwrap();
        assert!(!buffer.is_observed());
    });
}

/// The writer of the live buffer enforces the limit, whether it is set before or after the splice.
#[test]
fn limit_against_splice() {
    loom::model(|| {
        let mut live = buffer();
        let snapshot = buffer();
        let reader = snapshot.subscribe();
        let tail = live.tail();
        let other = thread::spawn(move || reader.limited(LagLimit::items(1)));
        snapshot.splice(tail);
        let stuck = other.join().unwrap();
        let alive = std::sync::Arc::new(());
        (0..8).for_each(|_| live.push(alive.clone()));
        // At most the items that the limit allows and those of the last block.
        assert!(std::sync::Arc::strong_count(&alive) - 1 < 8);
        drop(stuck);
    });
}

/// Two threads publish; each measures the new items, or leaves them to the other.
#[test]
fn shared_append_against_shared_append_with_a_limit_in_bytes() {
    #[derive(Clone)]
    struct Item(#[expect(dead_code)] Arc<()>);

    impl ByteSize for Item {
        fn byte_size(&self) -> usize {
            1
        }
    }

    loom::model(|| {
        let alive = Arc::new(());
        let shared = SharedBuffer::from(buffer());
        let stuck = shared.subscribe().limited(LagLimit::bytes(1));
        let pushing = {
            let (other, item) = (shared.clone(), Item(alive.clone()));
            thread::spawn(move || other.push(item))
        };
        shared.push(Item(alive.clone())).unwrap();
        pushing.join().unwrap().unwrap();
        assert_eq!(Arc::strong_count(&alive), 1 + 1);
        drop(stuck);
    });
}

/// One thread enforces the limit while the other's batch is counted but not yet linked.
#[test]
fn enforced_limit_against_batch_in_flight() {
    loom::model(|| {
        let shared = SharedBuffer::from(buffer());
        let stuck = shared.subscribe().limited(LagLimit::items(1));
        let alive = std::sync::Arc::new(());
        (0..2).for_each(|_| shared.push(alive.clone()).unwrap());
        let (other, event) = (shared.clone(), alive.clone());
        let other = thread::spawn(move || other.extend((0..40).map(|_| event.clone())));
        shared.push(alive.clone()).unwrap();
        other.join().unwrap().unwrap();
        let left = std::sync::Arc::strong_count(&alive) - 1;
        assert!(
            left <= 4,
            "{left} items kept by a reader with a limit of one"
        );
        drop(stuck);
    });
}

/// The reader is over its limit at once, but cannot move on until the batch is linked.
#[test]
fn limit_against_batch_in_flight() {
    loom::model(|| {
        let mut buffer = buffer();
        let reader = buffer.subscribe();
        let alive = std::sync::Arc::new(());
        let events = vec![alive.clone(); 40];
        let writer = thread::spawn(move || {
            buffer.extend(events);
            buffer
        });
        let stuck = reader.limited(LagLimit::items(1));
        let buffer = writer.join().unwrap();
        let left = std::sync::Arc::strong_count(&alive) - 1;
        assert!(left <= 4, "{left} kept by a reader that may have one");
        drop((stuck, buffer));
    });
}

/// All items of a batch are counted before the first is linked.
#[test]
fn enforced_limit_against_extend() {
    let extend = |mut buffer: EventBuffer<_>, events| buffer.extend(events);
    limit_is_enforced_during_reads(LagLimit::items(1), extend);
}

/// Explores a model that has too many steps for the default bound.
fn with_one_preemption(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(1);
    builder.check(model);
}

/// The limit is set while items are published: either thread measures them.
#[test]
fn limit_in_bytes_against_append() {
    with_one_preemption(|| {
        let mut buffer = buffer();
        let reader = buffer.subscribe();
        let other = thread::spawn(move || reader.limited(LagLimit::bytes(1)));
        buffer.extend((1..=3).map(Number));
        assert_eq!(other.join().unwrap().lag(), 1);
    });
}

/// Another reader has set the slot's waiting bit before.
#[test]
fn limit_in_bytes_against_append_with_the_waiting_bit_set() {
    with_one_preemption(|| {
        let mut buffer = buffer();
        let reader = buffer.subscribe();
        let mut waiting = buffer.subscribe();
        {
            let mut recv = pin!(waiting.recv());
            let mut cx = Context::from_waker(Waker::noop());
            assert!(recv.as_mut().poll(&mut cx).is_pending());
        }
        drop(waiting);
        let other = thread::spawn(move || reader.limited(LagLimit::bytes(1)));
        buffer.extend((1..=3).map(Number));
        assert_eq!(other.join().unwrap().lag(), 1);
    });
}
