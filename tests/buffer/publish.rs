//! Publishing, retention, replay and counts.

use std::sync::{Arc, OnceLock};
use std::thread;

use event_buffer::{
    BufferItem, EventBuffer, Indexed, RecvError, Replay, ResumeError, SharedBuffer, TryRecvError,
};
use futures::{Sink, SinkExt, StreamExt, stream};
use tokio_test::{assert_pending, assert_ready, task};

use crate::support::{events, retaining, watchdog};

#[test]
fn an_item_is_delivered_whole_and_once() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut reader = buffer.subscribe();
    buffer.append([1, 2, 3]);
    buffer.push(4);
    buffer.extend([5, 6]);
    let items: Vec<Vec<i32>> =
        std::iter::from_fn(|| reader.try_recv().ok().map(|item| item.to_vec())).collect();
    assert_eq!(items, [vec![1, 2, 3], vec![4], vec![5], vec![6]]);
    assert_eq!(reader.try_recv(), Err(TryRecvError::Empty));
}

#[test]
fn appending_nothing_publishes_nothing() {
    let _watchdog = watchdog();
    let mut buffer = retaining::<u8>(Replay::All);
    let mut reader = task::spawn(buffer.subscribe());
    assert_pending!(reader.poll_next());
    buffer.append([]);
    buffer.extend([]);
    assert!(!reader.is_woken());
    assert_eq!((buffer.retained(), reader.lag()), (0, 0));
    assert!(buffer.latest().is_none());
}

#[test]
fn by_default_the_newest_item_stays_readable() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    assert!(buffer.latest().is_none());
    for n in 0..5 {
        buffer.push(n);
        assert_eq!(buffer.latest().unwrap().events(), [n]);
        assert_eq!(buffer.retained(), 1);
    }
    assert_eq!(events(buffer.subscribe_from_start()), [4]);
    assert_eq!(events(buffer.subscribe()), []);
}

#[test]
fn a_window_of_n_keeps_the_newest_n() {
    let _watchdog = watchdog();
    for n in 0..6 {
        let settings = EventBuffer::builder().replay(Replay::Last(n));
        let mut buffer = settings.clone().build();
        for published in 1..=10_usize {
            // Alternately one by one and as a batch.
            if published % 2 == 0 {
                buffer.push(published - 1);
            } else {
                buffer.extend([published - 1]);
            }
            let kept = n.min(published);
            assert_eq!(buffer.retained(), kept);
            let expected: Vec<_> = (published - kept..published).collect();
            assert_eq!(events(buffer.subscribe_from_start()), expected);
        }
        buffer.extend(10..20);
        let expected: Vec<_> = (20 - n..20).collect();
        assert_eq!(events(buffer.subscribe_from_start()), expected);
    }
}

#[test]
fn an_item_is_freed_as_soon_as_it_is_unreachable() {
    let _watchdog = watchdog();
    let mut buffer = retaining(Replay::None);
    let payload = Arc::new(());
    let held = || Arc::strong_count(&payload) - 1;

    buffer.push(payload.clone());
    assert_eq!(held(), 0, "no reader, no window");

    let mut items = buffer.subscribe();
    let mut cloned = buffer.subscribe().cloned();
    buffer.extend([payload.clone(), payload.clone(), payload.clone()]);
    assert_eq!(held(), 3);
    for left in (0..3).rev() {
        drop(items.try_recv().unwrap());
        drop(cloned.try_recv().unwrap());
        // In the middle of a backlog, `cloned` may keep items that it has passed.
        assert!(held() >= left);
    }
    assert_eq!(held(), 0, "both readers have passed it");

    buffer.push(payload.clone());
    let item = items.try_recv().unwrap();
    drop(cloned);
    assert_eq!(held(), 1);
    drop(item);
    assert_eq!(held(), 0);

    buffer.push(payload.clone());
    drop(items);
    assert_eq!(held(), 0, "the last reader is gone");
}

#[test]
fn reading_items_frees_each_one_at_once() {
    let _watchdog = watchdog();
    let mut buffer = retaining(Replay::None);
    let payload = Arc::new(());
    let mut reader = buffer.subscribe();
    buffer.extend(std::iter::repeat_n(payload.clone(), 100));
    for left in (0..100).rev() {
        drop(reader.try_recv().unwrap());
        assert_eq!(Arc::strong_count(&payload) - 1, left);
    }
}

#[test]
fn a_cloned_reader_keeps_few_of_the_items_it_has_passed() {
    let _watchdog = watchdog();
    let mut buffer = retaining(Replay::None);
    let payload = Arc::new(());
    let mut reader = buffer.subscribe().cloned();
    buffer.extend(std::iter::repeat_n(payload.clone(), 1_000));
    for left in (0..1_000).rev() {
        drop(reader.try_recv().unwrap());
        let held = Arc::strong_count(&payload) - 1;
        assert!(
            held - left <= if left > 0 { 32 } else { 0 },
            "{held} for {left}"
        );
    }
}

#[test]
fn reading_on_frees_what_a_chunk_lent() {
    let _watchdog = watchdog();
    let mut buffer = retaining(Replay::None);
    let payload = Arc::new(());
    let mut reader = buffer.subscribe();
    buffer.extend(std::iter::repeat_n(payload.clone(), 100));
    let chunk = futures::executor::block_on(reader.next_chunk()).unwrap();
    assert_eq!(chunk.take(50).count(), 50);
    assert_eq!(Arc::strong_count(&payload) - 1, 100);
    let mut reader = reader.cloned();
    drop(reader.try_recv().unwrap());
    // A `Cloned` may keep up to 32 items that it has passed.
    assert!(Arc::strong_count(&payload) - 1 <= 49 + 32);
}

#[test]
fn events_may_be_of_any_size() {
    fn of<const WORDS: usize>() {
        for replay in [Replay::None, Replay::Last(1), Replay::All] {
            let mut buffer = retaining(replay);
            let reader = buffer.subscribe();
            for n in 0..100_u64 {
                buffer.push([n; WORDS]);
            }
            buffer.extend((100..200).map(|n| [n; WORDS]));
            let expected: Vec<_> = (0..200).map(|n| [n; WORDS]).collect();
            assert_eq!(events(reader), expected);
        }
    }
    let _watchdog = watchdog();
    // Several, two, one, or not even one of these fit in a block.
    let sizes: [fn(); 5] = [of::<0>, of::<1>, of::<60>, of::<100>, of::<200>];
    for size in sizes {
        size();
    }
}

#[test]
fn items_are_equal_if_their_events_are() {
    let _watchdog = watchdog();
    let item = |events: &[u8]| {
        let mut buffer = EventBuffer::new();
        buffer.append(events.iter().copied());
        buffer.latest().unwrap()
    };
    assert_eq!(item(&[1, 2]), item(&[1, 2]));
    assert_ne!(item(&[1, 2]), item(&[1, 3]));
}

#[test]
fn an_item_handle_keeps_later_items_alive() {
    let _watchdog = watchdog();
    let mut buffer = retaining(Replay::Last(1));
    buffer.push(0);
    let cache = buffer.latest().unwrap();
    buffer.extend(1..100);
    assert_eq!(events(cache.subscribe()), (0..100).collect::<Vec<_>>());
    assert_eq!(
        events(cache.after().subscribe()),
        (1..100).collect::<Vec<_>>()
    );
    assert_eq!(cache.try_next().unwrap().events(), [1]);
}

#[test]
fn a_reader_resumes_after_an_index() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct At(u64);
    impl Indexed for At {
        fn index(&self) -> u64 {
            self.0
        }
    }
    fn subscribed_after_7<T: Indexed + Clone>(events_at: [T; 2]) -> Vec<T> {
        let mut buffer = retaining(Replay::All);
        buffer.extend(events_at);
        events(buffer.subscribe_after(7).unwrap())
    }
    let _watchdog = watchdog();
    let mut buffer = retaining(Replay::Last(3));
    let ahead = |index, newest| Err(ResumeError::Ahead { index, newest });
    let too_old = |index, oldest| Err(ResumeError::TooOld { index, oldest });
    let after = |buffer: &EventBuffer<At>, index| buffer.subscribe_after(index).map(events);
    assert_eq!(after(&buffer, 7), ahead(7, None), "the buffer is empty");
    assert_eq!(after(&buffer, 0), ahead(0, None), "zero is not special");
    buffer.extend([At(10), At(20), At(30)]);
    assert_eq!(after(&buffer, 31), ahead(31, Some(30)));
    assert_eq!(events(buffer.subscribe_after(5).unwrap()).len(), 3);
    buffer.push(At(40));
    assert_eq!(after(&buffer, 10), too_old(10, Some(20)));
    assert_eq!(
        events(buffer.subscribe_after(20).unwrap()),
        [At(30), At(40)]
    );
    assert_eq!(
        events(buffer.subscribe_after(25).unwrap()),
        [At(30), At(40)]
    );
    assert_eq!(events(buffer.subscribe_after(40).unwrap()), []);
    assert_eq!(after(&buffer, u64::MAX), ahead(u64::MAX, Some(40)));
    assert!(buffer.latest().unwrap().has_index(40));
    assert!(!buffer.latest().unwrap().has_index(0));

    // The newest item has replaced an older one in its node: the older one is gone, too.
    let mut buffer = retaining(Replay::Last(1));
    buffer.push(At(10));
    assert!(buffer.subscribe_after(5).is_ok());
    buffer.push(At(20));
    assert_eq!(after(&buffer, 5), too_old(5, Some(20)));

    // An item that no reader saw was dropped nevertheless.
    let mut buffer = retaining(Replay::None);
    buffer.push(At(10));
    assert_eq!(after(&buffer, 7), too_old(7, None));
    assert_eq!(
        after(&buffer, 10),
        too_old(10, None),
        "there may have been later ones"
    );

    // An item that contains a later event is delivered whole, wherever it is in the window.
    let mut buffer = retaining(Replay::Last(2));
    buffer.append([At(1), At(2)]);
    buffer.append([At(4), At(6), At(8)]);
    buffer.push(At(9));
    let item = [4, 6, 8, 9].map(At);
    for index in [4, 5, 6, 7] {
        assert_eq!(after(&buffer, index).unwrap(), item, "after {index}");
    }
    assert_eq!(after(&buffer, 8).unwrap(), [At(9)]);
    assert_eq!(after(&buffer, 3), too_old(3, Some(4)));
    let mut buffer = retaining(Replay::Last(1));
    buffer.append([At(4), At(6), At(8)]);
    assert_eq!(after(&buffer, 7).unwrap(), [4, 6, 8].map(At));
    assert_eq!(after(&buffer, 8).unwrap(), []);
    assert_eq!(after(&buffer, 9), ahead(9, Some(8)));

    // A pointer to an event has the index of that event.
    assert_eq!(subscribed_after_7([&At(7), &At(8)]), [&At(8)]);
    assert_eq!(
        subscribed_after_7([7, 8].map(|n| Arc::new(At(n)))),
        [Arc::new(At(8))]
    );
}

#[test]
fn an_index_from_which_nothing_can_be_resumed_is_explained() {
    let _watchdog = watchdog();
    let too_old = |oldest| ResumeError::TooOld { index: 7, oldest }.to_string();
    let ahead = |newest| ResumeError::Ahead { index: 7, newest }.to_string();
    let lost = "events after index 7 may not be retained any more";
    assert_eq!(too_old(None), format!("{lost}; nothing is retained"));
    let oldest = "the oldest retained one has index 9";
    assert_eq!(too_old(Some(9)), format!("{lost}; {oldest}"));
    let unpublished = "index 7 is ahead of everything published";
    assert_eq!(
        ahead(None),
        format!("{unpublished}; nothing has been published")
    );
    let newest = "the newest event has index 5";
    assert_eq!(ahead(Some(5)), format!("{unpublished}; {newest}"));
}

#[test]
fn the_producer_learns_when_there_are_no_readers() {
    let _watchdog = watchdog();
    let buffer = EventBuffer::<u8>::new();
    assert!(!buffer.is_observed());
    assert_ready!(task::spawn(buffer.unobserved()).poll());
    let one = buffer.subscribe();
    let other = one.clone();
    let mut unobserved = task::spawn(buffer.unobserved());
    assert_pending!(unobserved.poll());
    drop(one);
    assert!(!unobserved.is_woken());
    assert!(buffer.is_observed());
    drop(other);
    assert!(unobserved.is_woken());
    assert_ready!(unobserved.poll());
}

#[test]
fn lag_counts_unread_items() {
    let _watchdog = watchdog();
    let mut buffer = retaining(Replay::None);
    let mut reader = buffer.subscribe();
    let place = buffer.tail();
    buffer.extend(0..10);
    assert_eq!((reader.lag(), place.lag()), (10, 10));
    reader.try_recv().unwrap();
    assert_eq!(reader.clone().lag(), 9);
    let item = reader.try_recv().unwrap();
    assert_eq!((item.position().lag(), item.after().lag()), (9, 8));

    for replay in [Replay::Last(1), Replay::Last(3), Replay::All] {
        let mut buffer = retaining(replay);
        for n in 0..5 {
            // The second item may reuse the node of the first.
            for many in [1, 1, 2] {
                match many {
                    1 => buffer.push(n),
                    _ => buffer.append([n, n]),
                }
                let newest = buffer.latest().unwrap();
                assert_eq!((newest.position().lag(), newest.after().lag()), (1, 0));
            }
        }
        buffer.extend([5, 6]);
        assert_eq!(buffer.latest().unwrap().position().lag(), 1);
    }
    assert_eq!(reader.resubscribe().lag(), 0);
}

#[test]
fn ten_million_unread_items_are_dropped_without_recursion() {
    let _watchdog = watchdog();
    let mut buffer = retaining(Replay::None);
    let reader = buffer.subscribe();
    buffer.extend(0..10_000_000_u64);
    assert_eq!(reader.lag(), 10_000_000);
    // On a small stack, which recursion would soon overflow.
    let small = std::thread::Builder::new().stack_size(64 * 1024);
    small.spawn(move || drop(reader)).unwrap().join().unwrap();
    drop(buffer);
}

#[test]
fn without_readers_nothing_is_kept() {
    let _watchdog = watchdog();
    let payload = Arc::new(());
    let mut buffer = retaining(Replay::None);
    for _ in 0..10_000 {
        buffer.push(payload.clone());
        buffer.append([payload.clone(), payload.clone()]);
        assert_eq!(Arc::strong_count(&payload), 1);
    }
}

#[test]
fn a_panic_in_the_iterator_publishes_nothing() {
    let _watchdog = watchdog();
    let mut buffer = retaining(Replay::All);
    let panics = || (0..5).map(|n| if n == 3 { panic!("as planned") } else { n });
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| buffer.extend(panics())));
    assert!(result.is_err());
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| buffer.append(panics())));
    assert!(result.is_err());
    buffer.push(7);
    assert_eq!(events(buffer.subscribe_from_start()), [7]);
}

#[test]
fn several_producers_share_a_buffer() {
    let _watchdog = watchdog();
    let shared = SharedBuffer::from(retaining(Replay::All));
    assert!(shared.retained() == 0 && !shared.is_observed());
    let mut reader = shared.subscribe();
    std::thread::scope(|scope| {
        for producer in 0..4 {
            let shared = shared.clone();
            scope.spawn(move || {
                for n in 0..100 {
                    shared.push((producer, n)).unwrap();
                }
            });
        }
    });
    assert_eq!(shared.retained(), 400);
    assert!(shared.is_observed());
    shared.clone().into_inner().ok_or(()).unwrap_err();
    shared.into_inner().unwrap().close();
    let mut next = [0; 4];
    while let Ok(item) = reader.recv_blocking() {
        let (producer, n) = item[0];
        assert_eq!(n, next[producer]);
        next[producer] += 1;
    }
    assert_eq!(next, [100; 4]);
    assert_eq!(reader.recv_blocking(), Err(RecvError::Closed));
}

/// A source that is always ready is received while it runs, and items before its error are not lost
/// (futures 2552, vector 5058).
#[test]
fn a_sink_publishes_each_event_at_once() {
    fn forward<S: Sink<u32, Error: std::fmt::Debug> + Unpin>(
        mut sink: S,
        mut reader: task::Spawn<event_buffer::Cloned<u32>>,
    ) -> (S, task::Spawn<event_buffer::Cloned<u32>>) {
        assert_pending!(reader.poll_next());
        assert_ready!(task::spawn(sink.feed(1)).poll()).unwrap();
        assert!(reader.is_woken(), "even though nothing was flushed");
        assert_eq!(assert_ready!(reader.poll_next()), Some(Ok(1)));

        // Events are received while the source is still being read.
        let mut seen = Vec::new();
        let endless = stream::iter(2..1_000).inspect(|_| {
            seen.extend(std::iter::from_fn(|| reader.try_recv().ok()));
        });
        assert_ready!(task::spawn(endless.map(Ok).forward(&mut sink)).poll()).unwrap();
        assert_eq!(seen, (2..999).collect::<Vec<_>>());
        assert_eq!(reader.try_recv(), Ok(999));

        // The source fails, and the task that reads it is cancelled.
        assert_pending!(reader.poll_next());
        let fails = stream::iter([Ok(1_000), Err("broke")]);
        let sent = task::spawn(fails.forward((&mut sink).sink_map_err(|_| "full"))).poll();
        assert_eq!(assert_ready!(sent), Err("broke"));
        assert!(reader.is_woken());
        assert_eq!(assert_ready!(reader.poll_next()), Some(Ok(1_000)));
        {
            let mut never_ends = stream::iter([1_001]).chain(stream::pending()).map(Ok);
            let mut cancelled = task::spawn(sink.send_all(&mut never_ends));
            assert_pending!(cancelled.poll());
        }
        assert_eq!(reader.try_recv(), Ok(1_001));
        (sink, reader)
    }

    let _watchdog = watchdog();
    let buffer = EventBuffer::new();
    let reader = task::spawn(buffer.subscribe().cloned());
    let (buffer, reader) = forward(buffer, reader);
    let shared = SharedBuffer::from(buffer);
    let (shared, mut reader) = forward(shared, reader);
    drop(shared);
    assert_eq!(assert_ready!(reader.poll_next()), None);
}

#[test]
fn closing_the_sink_does_not_end_the_buffer() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut reader = buffer.subscribe().cloned();
    assert_ready!(task::spawn(SinkExt::<u32>::close(&mut buffer)).poll()).unwrap();
    assert_ready!(task::spawn(stream::iter([1]).map(Ok).forward(&mut buffer)).poll()).unwrap();
    buffer.push(2);

    let mut shared = SharedBuffer::from(buffer);
    let other = shared.clone();
    assert_ready!(task::spawn(SinkExt::<u32>::close(&mut shared)).poll()).unwrap();
    drop(shared);
    other.push(3).unwrap();
    for n in 1..=3 {
        assert_eq!(reader.try_recv(), Ok(n));
    }
    assert_eq!(reader.try_recv(), Err(TryRecvError::Empty));
    // `forward` owns the last handle, and drops it.
    assert_ready!(task::spawn(stream::iter([4]).map(Ok).forward(other)).poll()).unwrap();
    assert_eq!(reader.try_recv(), Ok(4));
    assert_eq!(reader.try_recv(), Err(TryRecvError::Closed));
}

/// Each event holds the item that replaces it.
#[test]
fn events_that_hold_the_next_item_are_dropped_without_recursion() {
    struct Version(OnceLock<BufferItem<Version>>, #[expect(dead_code)] Arc<()>);

    let _watchdog = watchdog();
    let alive = Arc::new(());
    let mut buffer = EventBuffer::builder().replay(Replay::None).build();
    let mut reader = buffer.subscribe();
    let first = buffer.tail();
    for _ in 0..200_000 {
        buffer.push(Version(OnceLock::new(), alive.clone()));
    }
    let mut newest: Option<BufferItem<Version>> = None;
    while let Ok(item) = reader.try_recv() {
        if let Some(older) = newest.replace(item.clone()) {
            assert!(older[0].0.set(item).is_ok());
        }
    }
    drop((newest, reader));
    assert_eq!(Arc::strong_count(&alive), 200_001);
    drop(first);
    assert_eq!(Arc::strong_count(&alive), 1);
}

/// The stack is no larger than building the event requires.
#[test]
#[expect(clippy::large_stack_arrays)]
fn a_large_event_is_dropped_without_a_copy_on_the_stack() {
    const SIZE: usize = 1 << 20;
    #[expect(dead_code)]
    struct Large([u8; SIZE], Arc<()>);

    let _watchdog = watchdog();
    let large = |size| thread::Builder::new().stack_size(size);
    let alive = Arc::new(());
    let event = alive.clone();
    let publish = move || {
        let mut buffer = EventBuffer::builder().replay(Replay::None).build();
        let reader = buffer.subscribe();
        buffer.push(Large([1; SIZE], event));
        reader
    };
    let reader = large(64 * SIZE).spawn(publish).unwrap().join().unwrap();
    let dropping = large(SIZE).spawn(|| drop(reader)).unwrap();
    dropping.join().unwrap();
    assert_eq!(Arc::strong_count(&alive), 1);
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
    let (start, bookmark) = (reader.position(), reader.bookmark());
    let small = || std::thread::Builder::new().stack_size(32 * 1024);
    let dropping = small().spawn(move || drop((reader, buffer)));
    dropping.unwrap().join().unwrap();
    // A writer holds the chain last, and outlives it a little.
    let unread = EventBuffer::builder().replay(Replay::None).build();
    let dropping = small().spawn(move || unread.splice(start));
    dropping.unwrap().join().unwrap();
    // A bookmark keeps no item, but it leads from buffer to buffer.
    let dropping = small().spawn(move || drop(bookmark));
    dropping.unwrap().join().unwrap();
}
