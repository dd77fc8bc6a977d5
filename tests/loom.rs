//! Models of every hand-over between threads: loom runs each through all interleavings.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --test loom`
#![cfg(loom)]

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use event_buffer::{
    ByteSize, Closer, EventBuffer, LagLimit, OnLag, RecvError, Replay, SharedBuffer, TryRecvError,
};
use loom::future::block_on;
use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use loom::sync::atomic::Ordering::{Acquire, Release};
use loom::thread;

fn buffer<T>() -> EventBuffer<T> {
    EventBuffer::builder().replay(Replay::None).build()
}

/// Publishes an event on a thread of its own, which returns the buffer: it does not end meanwhile.
fn pushing(mut buffer: EventBuffer<u32>) -> thread::JoinHandle<EventBuffer<u32>> {
    thread::spawn(move || {
        buffer.push(1);
        buffer
    })
}

#[test]
fn append_against_advance() {
    loom::model(|| {
        let mut buffer = buffer();
        let mut reader = buffer.subscribe();
        let writer = thread::spawn(move || {
            buffer.push(Arc::new(1));
            buffer.push(Arc::new(2));
            buffer
        });
        let mut seen = Vec::new();
        while seen.len() < 2 {
            match reader.try_recv() {
                Ok(item) => seen.push(*item[0]),
                Err(TryRecvError::Empty) => thread::yield_now(),
                Err(end) => panic!("{end}"),
            }
        }
        assert_eq!(seen, [1, 2]);
        drop(writer.join().unwrap());
    });
}

#[test]
fn extend_against_advance() {
    loom::model(|| {
        let mut buffer = buffer();
        let mut reader = buffer.subscribe().cloned();
        let writer = thread::spawn(move || buffer.extend([Arc::new(1), Arc::new(2)]));
        let first = reader.try_recv();
        if first.is_ok() {
            // All at once: where the first is, the second is.
            assert_eq!(*reader.try_recv().unwrap(), 2);
        }
        writer.join().unwrap();
    });
}

#[test]
fn append_against_wait() {
    loom::model(|| {
        let buffer = buffer();
        let mut reader = buffer.subscribe();
        let writer = pushing(buffer);
        assert_eq!(block_on(reader.recv()).unwrap()[0], 1);
        drop(writer.join().unwrap());
    });
}

/// Where the newest item is retained, the writer's reference becomes the window's.
#[test]
fn retaining_append_against_wait() {
    loom::model(|| {
        let mut buffer = EventBuffer::new();
        buffer.push(Arc::new(0));
        let mut reader = buffer.subscribe();
        let writer = thread::spawn(move || {
            buffer.push(Arc::new(1));
            buffer.push(Arc::new(2));
        });
        assert_eq!(*block_on(reader.recv()).unwrap()[0], 1);
        assert_eq!(*block_on(reader.recv()).unwrap()[0], 2);
        writer.join().unwrap();
    });
}

#[test]
fn append_against_two_waiters() {
    loom::model(|| {
        let buffer = buffer();
        let mut one = buffer.subscribe();
        let mut other = buffer.subscribe();
        let reader = thread::spawn(move || block_on(one.recv()).unwrap()[0]);
        let writer = pushing(buffer);
        assert_eq!(block_on(other.recv()).unwrap()[0], 1);
        assert_eq!(reader.join().unwrap(), 1);
        drop(writer.join().unwrap());
    });
}

#[test]
fn last_reader_drop_against_writer_drop() {
    loom::model(|| {
        let mut buffer = EventBuffer::new();
        let reader = buffer.subscribe();
        buffer.push(Arc::new(1));
        let other = thread::spawn(move || drop(reader));
        buffer.push(Arc::new(2));
        drop(buffer);
        other.join().unwrap();
    });
}

/// Where nobody follows, and nobody holds the retained item any more, the next takes its place.
#[test]
fn held_item_drop_against_trim() {
    loom::model(|| {
        let mut buffer = EventBuffer::new();
        buffer.push(Arc::new(1));
        let item = buffer.latest().unwrap();
        let other = thread::spawn(move || {
            assert_eq!(*item[0], 1);
            drop(item);
        });
        buffer.push(Arc::new(2));
        buffer.push(Arc::new(3));
        assert_eq!(*buffer.latest().unwrap()[0], 3);
        other.join().unwrap();
    });
}

#[test]
fn unseen_append_against_reader_drop() {
    loom::model(|| {
        let mut buffer = buffer();
        let mut reader = buffer.subscribe();
        let other = thread::spawn(move || {
            let _ = reader.try_recv();
            drop(reader);
        });
        buffer.push(Arc::new(1));
        buffer.push(Arc::new(2));
        other.join().unwrap();
    });
}

#[test]
fn force_close_against_recv() {
    loom::model(|| {
        let buffer = buffer::<u8>();
        let mut reader = buffer.subscribe();
        let closer = reader.closer();
        let other = thread::spawn(move || closer.close("enough"));
        assert!(matches!(
            block_on(reader.recv()),
            Err(RecvError::ForceClosed(_))
        ));
        assert!(other.join().unwrap());
    });
}

#[test]
fn close_against_last_append() {
    loom::model(|| {
        let mut buffer = buffer();
        let mut reader = buffer.subscribe();
        let writer = thread::spawn(move || {
            buffer.push(1);
            buffer.close();
        });
        assert_eq!(block_on(reader.recv()).unwrap()[0], 1);
        assert_eq!(block_on(reader.recv()), Err(RecvError::Closed));
        writer.join().unwrap();
    });
}

#[test]
fn splice_against_recv() {
    loom::model(|| {
        let mut live = buffer();
        let snapshot = buffer();
        let mut reader = snapshot.subscribe();
        let tail = live.tail();
        let writer = thread::spawn(move || {
            snapshot.splice(tail);
        });
        live.push(Arc::new(1));
        assert_eq!(*block_on(reader.recv()).unwrap()[0], 1);
        writer.join().unwrap();
    });
}

#[test]
fn unobserved_against_splice_and_reader_drop() {
    loom::model(|| {
        let live = buffer::<u8>();
        let snapshot = buffer();
        let reader = snapshot.subscribe();
        let tail = live.tail();
        let other = thread::spawn(move || drop(reader));
        snapshot.splice(tail);
        block_on(live.unobserved());
        other.join().unwrap();
    });
}

#[test]
fn append_against_cancelled_wait() {
    loom::model(|| {
        let mut buffer = buffer::<Arc<i32>>();
        let mut reader = buffer.subscribe();
        let other = thread::spawn(move || {
            // Polled once, then dropped, wherever the writer is by then.
            let mut cx = Context::from_waker(Waker::noop());
            let poll = pin!(reader.recv()).poll(&mut cx);
            poll.map(|item| *item.unwrap()[0]).is_ready()
                || *block_on(reader.recv()).unwrap()[0] == 1
        });
        buffer.push(Arc::new(1));
        assert!(other.join().unwrap());
    });
}

#[test]
fn reader_against_reader_freeing_the_same_items() {
    loom::model(|| {
        let mut buffer = buffer();
        let mut one = buffer.subscribe().cloned();
        let mut other = buffer.subscribe();
        buffer.extend([Arc::new(1), Arc::new(2), Arc::new(3)]);
        drop(buffer);
        let reading = thread::spawn(move || {
            let item = other.try_recv().unwrap();
            assert_eq!(*item[0], 1);
            drop(other);
            drop(item);
        });
        for n in 1..=3 {
            assert_eq!(*one.try_recv().unwrap(), n);
        }
        drop(one);
        reading.join().unwrap();
    });
}

#[test]
fn shared_append_against_shared_append() {
    loom::model(|| {
        let shared = SharedBuffer::new();
        let other = shared.clone();
        // Each pushes what the other one had published out of the window.
        let pushing = thread::spawn(move || other.push(Arc::new(1)));
        shared.push(Arc::new(2)).unwrap();
        pushing.join().unwrap().unwrap();
        assert_eq!(shared.retained(), 1);
    });
}

#[test]
fn splice_against_lag_and_drop() {
    loom::model(|| {
        let live = buffer::<Arc<u8>>();
        let snapshot = buffer();
        let reader = snapshot.subscribe();
        let tail = live.tail();
        let other = thread::spawn(move || {
            assert_eq!(reader.lag(), 0);
            drop(reader);
        });
        snapshot.splice(tail);
        drop(live);
        other.join().unwrap();
    });
}

/// What the publisher does to hand over from a snapshot to the live buffer: first the place, then
/// the state, then the splice at the first commit that is not part of it.
#[test]
fn snapshot_and_splice_against_publish() {
    loom::model(|| {
        let live = SharedBuffer::from(buffer());
        let state = Arc::new(AtomicU64::new(0));
        let writer = {
            let (live, state) = (live.clone(), Arc::clone(&state));
            thread::spawn(move || {
                for index in 1..=2 {
                    state.store(index, Release);
                    live.push(index).unwrap();
                }
            })
        };
        let tail = live.tail();
        let contained = state.load(Acquire);
        let mut onward = tail.clone();
        let mut seen = tail.subscribe();
        while let Ok(item) = seen.try_recv() {
            if item[0] > contained {
                break;
            }
            onward = item.after();
        }
        drop((tail, seen));
        let snapshot = buffer();
        let mut watch = snapshot.subscribe().cloned();
        snapshot.splice(onward);
        writer.join().unwrap();
        drop(live);
        let mut view = contained;
        while let Ok(index) = watch.try_recv() {
            if index > contained {
                assert_eq!(index, view + 1, "lost, doubled or older");
                view = index;
            }
        }
        assert_eq!(view, 2);
    });
}

/// What leaves the buffer under a lock is dropped after it (here, one that uses the buffer).
#[test]
fn shared_append_against_last_reader_drop() {
    struct Uses(Option<SharedBuffer<Uses>>);
    impl Drop for Uses {
        fn drop(&mut self) {
            if let Some(shared) = self.0.take() {
                let _ = shared.retained();
            }
        }
    }
    loom::model(|| {
        let shared: SharedBuffer<Uses> = SharedBuffer::from(buffer());
        let reader = shared.subscribe();
        let other = thread::spawn(move || drop(reader));
        shared.push(Uses(Some(shared.clone()))).unwrap();
        other.join().unwrap();
    });
}

/// Whoever follows all the time is counted all the time, whatever others leave.
#[test]
fn observed_against_splice_and_leave() {
    loom::model(|| {
        let live = buffer::<u8>();
        let _stays = live.subscribe();
        let snapshot = buffer();
        let reader = snapshot.subscribe();
        let tail = live.tail();
        let other = thread::spawn(move || snapshot.splice(tail));
        drop(reader);
        assert!(live.is_observed());
        other.join().unwrap();
        assert!(live.is_observed());
    });
}

#[test]
fn observed_against_splice_and_join() {
    loom::model(|| {
        let live = buffer::<u8>();
        let snapshot = buffer();
        let reader = snapshot.subscribe();
        let tail = live.tail();
        let other = thread::spawn(move || snapshot.splice(tail));
        let second = reader.clone();
        drop(reader);
        other.join().unwrap();
        assert!(live.is_observed());
        drop(second);
        assert!(!live.is_observed());
    });
}

#[test]
fn observed_against_subscribe() {
    loom::model(|| {
        let buffer = buffer::<u8>();
        let place = buffer.tail();
        let subscribing = thread::spawn(move || place.subscribe());
        block_on(buffer.observed());
        assert_eq!(buffer.subscriber_count(), 1);
        drop(subscribing.join().unwrap());
        assert_eq!(buffer.subscriber_count(), 0);
    });
}

#[test]
fn observed_against_splice() {
    loom::model(|| {
        let live = buffer::<u8>();
        let snapshot = buffer();
        let _reader = snapshot.subscribe();
        let tail = live.tail();
        let other = thread::spawn(move || snapshot.splice(tail));
        block_on(live.observed());
        assert!(live.is_observed());
        other.join().unwrap();
    });
}

/// Both the writer and the reader of a block look at its numbers.
#[test]
fn backlog_against_advance() {
    loom::model(|| {
        let mut buffer = buffer();
        let mut reader = buffer.subscribe();
        buffer.extend([1, 2, 3]);
        let reading = thread::spawn(move || {
            while reader.try_recv().is_ok() {}
            reader
        });
        assert!(buffer.backlog() <= 3);
        buffer.push(4);
        drop(reading.join().unwrap());
        assert_eq!(buffer.backlog(), 0);
    });
}

/// Either the event is published, and received before the end, or it is given back.
#[test]
fn shared_close_against_push() {
    loom::model(|| {
        let shared = SharedBuffer::from(buffer());
        let mut reader = shared.subscribe().cloned();
        let other = shared.clone();
        let closing = thread::spawn(move || other.close());
        let published = shared.push(1).is_ok();
        closing.join().unwrap();
        assert_eq!(reader.try_recv().is_ok(), published);
        assert_eq!(reader.try_recv(), Err(TryRecvError::Closed));
    });
}

#[test]
fn finish_against_recv() {
    loom::model(|| {
        let shared = SharedBuffer::from(EventBuffer::new());
        let mut reader = shared.subscribe().cloned();
        shared.push(1).unwrap();
        let finishing = thread::spawn(move || shared.finish());
        assert_eq!(block_on(reader.recv()), Ok(1));
        assert_eq!(block_on(reader.recv()), Err(RecvError::Closed));
        let recording = finishing.join().unwrap();
        assert_eq!(recording.subscribe().cloned().try_recv(), Ok(1));
    });
}

/// The writer moves the reader's place on while it reads: what it gets and what it is told was
/// skipped make up what was published.
fn limit_is_enforced_while_it_reads(limit: LagLimit<Number>) {
    loom::model(move || {
        let mut buffer = buffer();
        let mut reader = buffer.subscribe().limited(limit);
        let writer = thread::spawn(move || {
            (1..=3).for_each(|n| buffer.push(Number(n)));
        });
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
        // The newest is never skipped.
        assert_eq!((accounted, newest), (3, 3));
    });
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
    limit_is_enforced_while_it_reads(LagLimit::items(1));
}

#[test]
fn enforced_limit_in_bytes_against_recv() {
    limit_is_enforced_while_it_reads(LagLimit::bytes(1));
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

/// Whether the limit is set before or after the splice, the writer who goes on publishing knows of it.
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
        // What the limit allows, and what came into the last block.
        assert!(std::sync::Arc::strong_count(&alive) - 1 < 8);
        drop(stuck);
    });
}

/// Two publish, each of which has what is new asked for its size, or leaves it to the other.
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

/// One enforces while the other's batch is counted and not yet linked.
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
        assert!(left <= 4, "{left} kept by a reader that may have one");
        drop(stuck);
    });
}

/// Copies out of a begun block against whoever frees the block.
#[test]
fn two_drop_items_of_one_block() {
    loom::model(|| {
        let mut buffer = buffer();
        let mut reader = buffer.subscribe();
        let all = Arc::new(0);
        (0..9).for_each(|_| buffer.push(all.clone()));
        let mut items: Vec<_> = (0..9).map(|_| reader.try_recv().unwrap()).collect();
        drop(reader);
        let b = items.remove(6);
        let a = items.remove(4);
        drop(items);
        let one = thread::spawn(move || drop(a));
        let two = thread::spawn(move || drop(b));
        drop(buffer);
        one.join().unwrap();
        two.join().unwrap();
        assert_eq!(Arc::strong_count(&all), 1);
    });
}

/// Of a batch all are counted before the first is there.
#[test]
fn enforced_limit_against_extend() {
    loom::model(|| {
        let mut buffer = buffer();
        let mut reader = buffer.subscribe().limited(LagLimit::items(1));
        let writer = thread::spawn(move || buffer.extend((1..=3).map(Number)));
        let mut accounted = 0;
        let mut look = || match reader.try_recv() {
            Ok(_) => {
                accounted += 1;
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
        assert_eq!(accounted, 3);
    });
}

/// For a model of many steps.
fn with_one_preemption(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(1);
    builder.check(model);
}

/// The limit is set while items are published: either looks.
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

/// The same where the slot has been announced by another reader before.
#[test]
fn limit_in_bytes_against_append_that_is_awaited_already() {
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

/// A flag as a waker: whether a task has been woken.
#[derive(Default)]
struct Woken(loom::sync::atomic::AtomicBool);

impl std::task::Wake for Woken {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.store(true, Release);
    }
}

/// Polls a future once with such a waker; returns whether it is pending.
fn is_pending(future: impl Future, woken: &std::sync::Arc<Woken>) -> bool {
    let waker = Waker::from(woken.clone());
    pin!(future)
        .poll(&mut Context::from_waker(&waker))
        .is_pending()
}

/// The waiting bit is set already, by a task that has left.
#[test]
fn append_against_wait_where_another_task_has_left() {
    loom::model(|| {
        let buffer = buffer();
        let mut left = buffer.subscribe();
        assert!(is_pending(left.recv(), &Default::default()));
        drop(left);
        let mut reader = buffer.subscribe();
        let writer = pushing(buffer);
        assert_eq!(block_on(reader.recv()).unwrap()[0], 1);
        drop(writer.join().unwrap());
    });
}

/// A task leaves the group, and takes the listener along if it is the last, while another one joins it.
#[test]
fn append_against_leave_and_join() {
    loom::model(|| {
        let buffer = buffer();
        let mut one = buffer.subscribe();
        let mut other = buffer.subscribe();
        let leaving = thread::spawn(move || {
            let _ = is_pending(one.recv(), &Default::default());
        });
        let writer = pushing(buffer);
        assert_eq!(block_on(other.recv()).unwrap()[0], 1);
        leaving.join().unwrap();
        drop(writer.join().unwrap());
    });
}

/// While one producer has yet to notify its link, the other one notifies the next.
#[test]
fn two_producers_against_two_readers_at_neighbouring_links() {
    loom::model(|| {
        let shared = SharedBuffer::from(buffer());
        let mut one = shared.subscribe();
        let mut other = shared.subscribe();
        let waits = std::sync::Arc::<Woken>::default();
        let mut poll = one.recv();
        let mut cx = std::task::Waker::from(waits.clone());
        let mut first = pin!(&mut poll);
        assert!(
            first
                .as_mut()
                .poll(&mut Context::from_waker(&cx))
                .is_pending()
        );
        cx.clone_from(Waker::noop());
        let producers: [_; 2] = [1, 2].map(|n| {
            let shared = shared.clone();
            thread::spawn(move || shared.push(n))
        });
        let sum = block_on(other.recv()).unwrap()[0] + block_on(other.recv()).unwrap()[0];
        assert_eq!(sum, 3);
        for producer in producers {
            producer.join().unwrap().unwrap();
        }
        assert!(waits.0.load(Acquire));
    });
}

#[test]
fn append_against_next_of_an_item() {
    loom::model(|| {
        let mut buffer = EventBuffer::new();
        buffer.push(1);
        let item = buffer.latest().unwrap();
        let writer = thread::spawn(move || buffer.push(2));
        assert_eq!(block_on(item.next()).unwrap()[0], 2);
        writer.join().unwrap();
    });
}

#[test]
fn unobserved_against_drop() {
    loom::model(|| {
        let buffer = buffer::<u8>();
        let reader = buffer.subscribe();
        let other = thread::spawn(move || drop(reader));
        block_on(buffer.unobserved());
        other.join().unwrap();
    });
}

/// The first closer of a reader that waits already, and is polled again while it is being closed.
#[test]
fn force_close_against_a_reader_that_waits_already() {
    loom::model(|| {
        let buffer = buffer::<u8>();
        let mut reader = buffer.subscribe();
        let woken = std::sync::Arc::<Woken>::default();
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        let mut poll = |reader: &mut event_buffer::Subscription<u8>| {
            let poll = futures::Stream::poll_next(std::pin::Pin::new(reader), &mut cx);
            poll.is_pending()
        };
        assert!(poll(&mut reader));
        let closer = reader.closer();
        let closing = thread::spawn(move || assert!(closer.close("enough")));
        let pending = poll(&mut reader);
        closing.join().unwrap();
        assert!(!pending || woken.0.load(Acquire), "asleep though closed");
    });
}

#[test]
fn splice_against_splice_back() {
    loom::model(|| {
        let (one, other) = (buffer::<u8>(), buffer());
        let (to_one, to_other) = (one.tail(), other.tail());
        let mut readers = [one.subscribe(), other.subscribe()];
        let splicing = thread::spawn(move || one.splice(to_other));
        other.splice(to_one);
        splicing.join().unwrap();
        // One is refused, and the other one leads there.
        for reader in &mut readers {
            assert!(matches!(reader.try_recv(), Err(TryRecvError::Failed(_))));
        }
    });
}

#[test]
fn splice_against_splice_of_what_it_leads_to() {
    loom::model(|| {
        let (one, two, three) = (buffer::<u8>(), buffer(), buffer::<u8>());
        let (to_two, to_three) = (two.tail(), three.tail());
        let reader = one.subscribe();
        let splicing = thread::spawn(move || one.splice(to_two));
        two.splice(to_three);
        splicing.join().unwrap();
        assert!(three.is_observed());
        drop(reader);
        assert!(!three.is_observed());
    });
}

/// A future that wakes itself once and yields; three drive it, of whom two are polled once and dropped.
#[cfg(feature = "publisher")]
#[test]
fn flight_against_passengers_that_leave() {
    use event_buffer::publisher::models::Flight;
    use std::future::poll_fn;
    use std::task::Poll;

    loom::model(|| {
        let mut yielded = false;
        let mut stays = Flight::new(Box::pin(poll_fn(move |cx| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })));
        let leaving = [(); 2].map(|()| {
            let mut leaves = stays.join().unwrap();
            thread::spawn(move || _ = leaves.poll(&Context::from_waker(Waker::noop())))
        });
        block_on(poll_fn(|cx| stays.poll(cx)));
        for leaving in leaving {
            leaving.join().unwrap();
        }
    });
}

/// A future that is woken by another thread.
#[cfg(feature = "publisher")]
#[test]
fn flight_against_a_wake_up_from_outside() {
    use event_buffer::publisher::models::Flight;
    use std::future::poll_fn;
    use std::task::Poll;

    loom::model(|| {
        let (open, gate) = (
            Arc::new(loom::future::AtomicWaker::new()),
            Arc::new(AtomicU64::new(0)),
        );
        let (waker, is_open) = (open.clone(), gate.clone());
        let mut stays = Flight::new(Box::pin(poll_fn(move |cx| {
            waker.register_by_ref(cx.waker());
            if is_open.load(Acquire) == 1 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })));
        let mut leaves = stays.join().unwrap();
        let leaving = thread::spawn(move || _ = leaves.poll(&Context::from_waker(Waker::noop())));
        let opening = thread::spawn(move || {
            gate.store(1, Release);
            open.wake();
        });
        block_on(poll_fn(|cx| stays.poll(cx)));
        leaving.join().unwrap();
        opening.join().unwrap();
    });
}

/// The future is given up from outside, before, while or after it is polled: it is dropped, and its passenger ends.
#[cfg(feature = "publisher")]
#[test]
fn flight_against_give_up() {
    use event_buffer::publisher::models::Flight;
    use std::future::poll_fn;
    use std::task::Poll;

    loom::model(|| {
        let held = Arc::new(());
        let holds = held.clone();
        let mut first = Flight::new(Box::pin(poll_fn(move |_| {
            _ = &holds;
            Poll::Pending
        })));
        let gives_up = first.join().unwrap();
        let giving_up = thread::spawn(move || gives_up.give_up());
        block_on(poll_fn(|cx| first.poll(cx)));
        giving_up.join().unwrap();
        assert_eq!(Arc::strong_count(&held), 1);
    });
}

/// The future ends by itself at the same time: it is dropped once, and both passengers find the end.
#[cfg(feature = "publisher")]
#[test]
fn flight_that_finishes_against_give_up() {
    use event_buffer::publisher::models::Flight;
    use std::future::poll_fn;
    use std::task::Poll;

    loom::model(|| {
        let held = Arc::new(());
        let holds = held.clone();
        let mut first = Flight::new(Box::pin(poll_fn(move |cx| {
            _ = &holds;
            cx.waker().wake_by_ref();
            Poll::Ready(())
        })));
        let mut second = first.join().unwrap();
        let other = thread::spawn(move || {
            second.give_up();
            assert!(second.poll(&Context::from_waker(Waker::noop())).is_ready());
        });
        block_on(poll_fn(|cx| first.poll(cx)));
        other.join().unwrap();
        assert_eq!(Arc::strong_count(&held), 1);
    });
}

/// A source that is woken from outside once, and then has two items and its end.
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

/// One follower drives and leaves; the other gets every item.
#[test]
fn shared_source_against_a_follower_that_leaves() {
    use event_buffer::ShareExt;
    use futures::StreamExt;

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

/// Two followers want an item each, at the same time: one of them pulls it, and neither pulls another one.
#[test]
fn shared_source_against_followers_that_want_the_same_item() {
    use event_buffer::ShareExt;
    use futures::StreamExt;

    loom::model(|| {
        let pulled = Arc::new(AtomicU64::new(0));
        let counter = pulled.clone();
        let endless = futures::stream::repeat_with(move || counter.fetch_add(1, Release));
        let source = endless.share(Replay::None);
        let mut one = source.subscribe();
        let mut other = source.subscribe();
        let following = thread::spawn(move || block_on(other.next()));
        assert_eq!(block_on(one.next()), Some(0));
        assert_eq!(following.join().unwrap(), Some(0));
        assert_eq!(pulled.load(Acquire), 1);
    });
}

/// The last two followers leave at the same time, the handle before: the source is dropped once, and its waker, which
/// another thread still has, owns no part of it.
#[test]
fn shared_source_against_followers_that_leave_and_a_wake_up() {
    use event_buffer::ShareExt;
    use futures::StreamExt;

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

/// A late follower gets all items from some place on, and the end.
#[test]
fn shared_source_against_subscribe() {
    use event_buffer::ShareExt;
    use futures::StreamExt;

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

/// The place that a reader skips to is noted by the writer, which moves on meanwhile.
#[test]
fn append_against_resubscribe() {
    loom::model(|| {
        let mut buffer = buffer();
        let reader = buffer.subscribe();
        buffer.extend([0, 1]);
        let writer = thread::spawn(move || {
            (2..5).for_each(|n| buffer.push(n));
            buffer
        });
        let mut late = reader.resubscribe().cloned();
        let mut buffer = writer.join().unwrap();
        buffer.push(5);
        let rest: Vec<u64> = std::iter::from_fn(|| late.try_recv().ok()).collect();
        let expected: Vec<u64> = (6 - rest.len() as u64..6).collect();
        assert!(!rest.is_empty() && rest == expected, "{rest:?}");
        assert_eq!(late.lag(), 0);
        assert_eq!(reader.lag(), 6);
    });
}

/// Whatever the reader does meanwhile, everything is freed once both are done, though it is not dropped.
fn close_against(act: impl Fn(&mut event_buffer::Cloned<Arc<u32>>) + Send + Sync + Copy + 'static) {
    loom::model(move || {
        let mut buffer = buffer();
        let mut reader = buffer.subscribe().cloned();
        let closer = reader.closer();
        let event = Arc::new(1);
        buffer.extend([event.clone(), event.clone()]);
        let closing = thread::spawn(move || assert!(closer.close("enough")));
        act(&mut reader);
        closing.join().unwrap();
        assert_eq!(Arc::strong_count(&event), 1);
        assert!(!buffer.is_observed());
        assert!(matches!(
            reader.try_recv(),
            Err(TryRecvError::ForceClosed(_))
        ));
        drop(reader);
    });
}

#[test]
fn force_close_against_read() {
    close_against(|reader| drop(reader.try_recv()));
}

#[test]
fn force_close_against_lag() {
    close_against(|reader| assert!([0, 2].contains(&reader.lag())));
}

#[test]
fn force_close_against_closer() {
    close_against(|reader| drop(reader.closer()));
}

#[test]
fn force_close_against_drop() {
    loom::model(|| {
        let mut buffer = buffer();
        let reader = buffer.subscribe().cloned();
        let closer = reader.closer();
        let event = Arc::new(1);
        buffer.push(event.clone());
        let closing = thread::spawn(move || closer.close("enough"));
        drop(reader);
        closing.join().unwrap();
        assert_eq!(Arc::strong_count(&event), 1);
        assert!(!buffer.is_observed());
    });
}

/// A reader that is inside obeys when it leaves, whoever gave the order.
#[test]
fn force_close_against_a_clone_that_closes_its_own_reader() {
    struct Event(std::sync::Arc<std::sync::OnceLock<Closer>>);

    impl Clone for Event {
        fn clone(&self) -> Self {
            let closer = self.0.get().expect("set before it is published");
            closer.close("from its own event");
            Self(self.0.clone())
        }
    }

    loom::model(|| {
        let mut buffer = buffer();
        let mut reader = buffer.subscribe().cloned();
        let closer = std::sync::Arc::new(std::sync::OnceLock::new());
        assert!(closer.set(reader.closer()).is_ok());
        let other = reader.closer();
        buffer.push(Event(closer.clone()));
        let closing = thread::spawn(move || other.close("enough"));
        let received = reader.try_recv();
        let closed_by_other = closing.join().unwrap();
        assert!(received.is_ok() || closed_by_other);
        drop(received);
        assert_eq!(
            std::sync::Arc::strong_count(&closer),
            1,
            "freed by the close"
        );
        assert!(!buffer.is_observed());
        assert!(matches!(
            reader.try_recv(),
            Err(TryRecvError::ForceClosed(_))
        ));
    });
}

/// The reader that gives up its place is read, dropped, or closed at the same time.
#[test]
fn force_close_against_enforced_limit() {
    loom::model(|| {
        let mut buffer = buffer();
        let reader = buffer.subscribe().limited(LagLimit::items(1));
        let closer = reader.closer();
        let event = Arc::new(1);
        let closing = thread::spawn(move || assert!(closer.close("enough")));
        buffer.extend([event.clone(), event.clone(), event.clone()]);
        closing.join().unwrap();
        assert_eq!(Arc::strong_count(&event), 1);
        assert!(!buffer.is_observed());
        drop(reader);
    });
}

#[cfg(feature = "publisher")]
mod publisher {
    use event_buffer::publisher::{
        Begin, Publisher, Request, ResetReason, Update, Watch, WatchError,
    };
    use futures::{FutureExt, StreamExt};

    use super::*;

    type Delivered = Option<Result<Update<u8, u8>, WatchError>>;

    /// A watch that waits for its first commit.
    fn waiting(publisher: &Publisher<u8, u8>, keys: &[u8]) -> Watch<u8, u8> {
        let mut watch = publisher.subscribe(Request::keys(keys.iter().copied()));
        while watch.next().now_or_never().is_some() {}
        watch
    }

    fn events(delivered: Delivered) -> (u64, Vec<u8>) {
        let Some(Ok(Update::Events(commit))) = delivered else {
            panic!("no commit: {delivered:?}");
        };
        (commit.index().unwrap(), commit.iter().copied().collect())
    }

    #[test]
    fn mark_of_progress_against_commit() {
        loom::model(|| {
            let publisher = Publisher::builder().build();
            let mut watch = waiting(&publisher, &[1]);
            publisher.publish_next([(2, 0)]).unwrap();
            let marks = {
                let publisher = publisher.clone();
                thread::spawn(move || publisher.mark_progress())
            };
            let commits = thread::spawn(move || {
                publisher.publish_next([(1, 7)]).unwrap();
                publisher
            });
            let mut next = block_on(watch.next());
            if let Some(Ok(Update::Progress { index })) = next {
                assert_eq!(index, 1, "it does not overtake the commit");
                next = block_on(watch.next());
            }
            assert_eq!(events(next), (2, vec![7]));
            marks.join().unwrap();
            drop(commits.join().unwrap());
            assert!(block_on(watch.next()).is_none(), "a mark behind the commit");
        });
    }

    #[test]
    fn mark_of_progress_against_wait() {
        loom::model(|| {
            let publisher = Publisher::builder().build();
            let mut watch = waiting(&publisher, &[1]);
            publisher.publish_next([(2, 0)]).unwrap();
            let marks = thread::spawn(move || {
                publisher.mark_progress();
                publisher
            });
            let next = block_on(watch.next());
            assert!(matches!(next, Some(Ok(Update::Progress { index: 1 }))));
            drop(marks.join().unwrap());
        });
    }

    #[test]
    fn commit_of_two_keys_against_poll() {
        loom::model(|| {
            let publisher = Publisher::builder().build();
            let mut watch = waiting(&publisher, &[1, 2]);
            let commits = thread::spawn(move || {
                publisher.publish_next([(1, 1), (2, 2), (1, 3)]).unwrap();
                publisher
            });
            assert_eq!(events(block_on(watch.next())), (1, vec![1, 2, 3]));
            drop(commits.join().unwrap());
            assert!(block_on(watch.next()).is_none());
        });
    }

    #[test]
    fn two_commits_to_two_keys_against_poll() {
        loom::model(|| {
            let publisher = Publisher::builder().build();
            let mut watch = waiting(&publisher, &[1, 2]);
            let commits = thread::spawn(move || {
                publisher.publish_next([(2, 1)]).unwrap();
                publisher.publish_next([(1, 2)]).unwrap();
                publisher
            });
            assert_eq!(events(block_on(watch.next())), (1, vec![1]));
            assert_eq!(events(block_on(watch.next())), (2, vec![2]));
            drop(commits.join().unwrap());
            assert!(block_on(watch.next()).is_none());
        });
    }

    /// Whichever comes first, the watch ends up with a snapshot, and nothing is in flight.
    #[test]
    fn refresh_against_finish() {
        loom::model(|| {
            let publisher = Publisher::builder()
                .snapshot(|_: u8, snapshot| async move {
                    snapshot.push(1)?;
                    Ok(0)
                })
                .build();
            let mut watch = publisher.subscribe(Request::new(1));
            let refreshes = {
                let publisher = publisher.clone();
                thread::spawn(move || publisher.refresh(&1))
            };
            let mut is_complete = false;
            while let Some(Some(next)) = watch.next().now_or_never() {
                is_complete = matches!(next.unwrap(), Update::EndOfSnapshot { .. });
            }
            refreshes.join().unwrap();
            while let Some(Some(next)) = watch.next().now_or_never() {
                let next = next.unwrap();
                let is_reset = |begin| begin == Begin::Reset(ResetReason::Refreshed);
                assert!(!matches!(next, Update::Begin(begin) if !is_reset(begin) && is_complete));
                is_complete = matches!(next, Update::EndOfSnapshot { .. });
            }
            assert!(is_complete);
            let stats = publisher.stats();
            let over = stats.snapshots_finished + stats.snapshots_given_up;
            assert_eq!(
                (stats.snapshots_in_flight, stats.snapshots_begun),
                (0, over)
            );
        });
    }
}
