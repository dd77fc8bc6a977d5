//! Heap use, measured by a counting allocator. There is one test: others would disturb the count.
#![cfg(not(loom))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use event_buffer::{EventBuffer, LagLimit, OnLag, Replay};
use tokio_test::{assert_pending, assert_ready, task};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on unchanged to the system allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Relaxed);
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller guarantees the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller guarantees the same.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn live() -> usize {
    LIVE.load(Relaxed)
}

/// The number of allocations that `f` makes.
fn allocations(f: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.load(Relaxed);
    f();
    ALLOCATIONS.load(Relaxed) - before
}

#[test]
fn memory_is_bounded_by_the_slowest_reader_and_is_freed() {
    const MANY: u64 = 1_000_000;
    /// The test harness allocates a little now and then on a thread of its own.
    const SLACK: usize = 4096;

    // Without readers and a window, appending leaves memory flat, and does not even allocate.
    let mut buffer = EventBuffer::builder().replay(Replay::None).build();
    let empty = live();
    let made = allocations(|| {
        for n in 0..MANY {
            buffer.push(n);
        }
    });
    assert!(
        live().abs_diff(empty) < SLACK && made < 10,
        "{made} allocations"
    );

    // A million unread items are all freed when the reader is dropped.
    let reader = buffer.subscribe();
    for n in 0..MANY {
        buffer.push(n);
    }
    let per_event = (live() - empty) as u64 / MANY;
    assert!(per_event <= 8 + 48, "{per_event} bytes per event of 8");
    drop(reader);
    assert!(live().abs_diff(empty) < SLACK);

    // In the steady state there is far less than one allocation per publish, and none per delivery.
    let mut items = buffer.subscribe();
    let mut cloned = buffer.subscribe().cloned();
    let mut steady = || {
        let (mut publish, mut deliver) = (0, 0);
        for n in 0..1_000 {
            publish += allocations(|| buffer.push(n));
            deliver += allocations(|| {
                assert!(items.try_recv().is_ok());
                assert!(cloned.try_recv().is_ok());
            });
        }
        (publish, deliver)
    };
    steady();
    let (publish, deliver) = steady();
    assert!(
        publish <= 1_000 / 16 + 1,
        "{publish} allocations in 1,000 publishes"
    );
    assert_eq!(deliver, 0);

    // A link that tasks wait for takes two allocations, its event and a listener, for any number of
    // tasks.
    let mut stream = task::spawn(cloned);
    let mut waits = 0;
    for round in 0..1_000 {
        let mut recv = task::spawn(items.recv());
        waits += allocations(|| {
            assert_pending!(recv.poll());
            assert_pending!(stream.poll_next());
        });
        buffer.push(round);
        waits += allocations(|| {
            assert!(assert_ready!(recv.poll()).is_ok());
            assert!(assert_ready!(stream.poll_next()).is_some());
        });
        if round < 10 {
            waits = 0;
        }
    }
    assert_eq!(
        waits,
        2 * 990,
        "allocations of 990 links that two tasks wait for"
    );

    a_stuck_reader_keeps_no_more_than_its_limit();
    dropped_limited_readers_leave_memory_flat();
    a_dropped_crowd_of_limited_readers_leaves_nothing();
    ended_buffers_free_their_blocks();
    items_dropped_one_by_one_free_their_blocks();
    a_crowd_that_has_waited_leaves_memory_flat();
    a_crowd_that_left_while_waiting_leaves_memory_flat();
    limited_readers_that_come_and_go_among_others_leave_memory_flat();
    waiting_for_a_link_allocates_the_same_for_any_number_of_readers();
    #[cfg(feature = "publisher")]
    of_a_publisher::all();
}

fn a_stuck_reader_keeps_no_more_than_its_limit() {
    const MANY: u64 = 1_000_000;
    /// The size of a few blocks.
    const SLACK: usize = 8192;
    let policies = [OnLag::SkipToOldest, OnLag::SkipToNewest, OnLag::Close];
    let limits = policies.map(|on_lag| LagLimit::<u64>::items(100).on_lag(on_lag));
    for limit in limits {
        let mut buffer = EventBuffer::new();
        let empty = live();
        let stuck = buffer.subscribe().limited(limit);
        let mut most = 0;
        for n in 0..MANY {
            buffer.push(n);
            if n % 1_000 == 0 {
                most = most.max(live());
            }
        }
        assert!(most - empty < 100 * 40 + SLACK, "{} bytes", most - empty);
        assert!(stuck.lag() <= 100 + 100 / 8 + 16);
    }

    // A limit in bytes: the heap holds about that much.
    let mut buffer = EventBuffer::new();
    let empty = live();
    let stuck = buffer.subscribe().limited(LagLimit::bytes(1 << 20));
    for n in 0..100_000 {
        buffer.push(vec![0_u8; n % 10_000]);
    }
    assert!(live() - empty < (1 << 20) / 8 * 9 + 10_000 + 2 * SLACK);
    // Readers that come and go leave nothing, whether another one stays or not.
    for _ in 0..2 {
        let before = live();
        for _ in 0..10_000 {
            drop(buffer.subscribe().limited(LagLimit::bytes(1 << 20)));
        }
        assert!(live() - before < 2 * SLACK);
        buffer = EventBuffer::new();
    }
    drop(stuck);

    // The limit holds over splices of empty and other buffers, and for a reader that has waited.
    for (items, waits) in [(0, false), (20, false), (20, true)] {
        let next = || EventBuffer::builder().replay(Replay::None).build();
        let mut buffer = next();
        let mut stuck = task::spawn(buffer.subscribe().limited(LagLimit::items(10)));
        assert!(!waits || stuck.poll_next().is_pending());
        let empty = live();
        for _ in 0..10_000 {
            buffer.extend(0..items);
            let onto = next();
            let tail = onto.tail();
            mem::replace(&mut buffer, onto).splice(tail);
        }
        assert!(live() - empty < 2 * SLACK, "{items} {waits}");
    }

    // A reader without a limit keeps everything, and its lag shows it.
    let mut buffer = EventBuffer::new();
    let empty = live();
    let stuck = buffer.subscribe();
    (0..MANY).for_each(|n| buffer.push(n));
    assert!(live() - empty > 8 * 1_000_000);
    assert_eq!(stuck.lag(), MANY);
}

fn a_dropped_crowd_of_limited_readers_leaves_nothing() {
    let mut buffer = EventBuffer::new();
    let before = live();
    let limit = LagLimit::items(10);
    let crowd: Vec<_> = (0..50_000)
        .map(|_| buffer.subscribe().limited(limit))
        .collect();
    drop(crowd);
    (0..1_000_000).for_each(|n: u64| buffer.push(n));
    assert!(live() - before < 8192, "{} bytes", live() - before);
}

fn dropped_limited_readers_leave_memory_flat() {
    let mut buffer = EventBuffer::new();
    let before = live();
    for n in 0..100_000 {
        let reader = buffer.subscribe().limited(LagLimit::items(100));
        if n % 100 == 0 {
            buffer.push(n);
        }
        drop(reader);
    }
    assert!(live().abs_diff(before) < 100_000);
}

#[cfg(feature = "publisher")]
mod of_a_publisher {
    use std::time::Duration;

    use event_buffer::publisher::{OverLimit, Publisher, Request, Update, Watch};
    use futures::{FutureExt, StreamExt};

    use super::*;

    pub(super) fn all() {
        unwatched_keys_leave_memory_flat();
        a_key_that_only_the_history_knows_is_small();
        a_kept_snapshot_of_a_hot_key_leaves_memory_flat();
        an_update_keeps_no_later_ones();
        a_limit_holds_while_a_handler_hangs();
        tasks_that_waited_for_a_watch_leave_memory_flat();
    }

    const MANY: u64 = 20_000;

    fn drain<T>(watch: &mut Watch<u64, T>) {
        while watch.next().now_or_never().is_some() {}
    }

    fn unwatched_keys_leave_memory_flat() {
        const KEYS: u64 = 20_000;
        let publisher = Publisher::<u64, u64>::builder().build();
        publisher.publish(1, [(0, 0)]).unwrap();
        let empty = live();
        for key in 0..KEYS {
            publisher.publish(key + 2, [(key, key)]).unwrap();
        }
        assert!(live().abs_diff(empty) < 4096, "published but not watched");

        // Watched keys are freed, except for the tables of the map and the registry.
        for key in 0..KEYS {
            let mut watch = publisher.subscribe(Request::new(key));
            while watch.next().now_or_never().is_some() {}
            publisher.publish(KEYS + 2 + key, [(key, key)]).unwrap();
        }
        assert!(live().abs_diff(empty) < 4096, "watched one by one");

        // The tables of a crowd shrink again, too.
        let publisher = Publisher::<u64, u64>::builder().build();
        let _watch = publisher.subscribe(Request::new(0));
        let empty = live();
        let crowd = (0..KEYS).map(|_| publisher.subscribe(Request::new(0)));
        drop(crowd.collect::<Vec<_>>());
        assert!(live().abs_diff(empty) < 4096, "a crowd of one key");
        let publisher = Publisher::<u64, u64>::builder().build();
        let empty = live();
        let crowd = (0..KEYS).map(|key| publisher.subscribe(Request::new(key)));
        drop(crowd.collect::<Vec<_>>());
        assert!(live().abs_diff(empty) < 65_536, "a crowd of keys");
    }

    /// A key in the history costs a count, an index, the key and the event.
    fn a_key_that_only_the_history_knows_is_small() {
        // A number at which the tables are about as full as they get.
        const MANY: u64 = 100_000;
        let publisher = Publisher::<u64, u64>::builder().history(usize::MAX).build();
        let empty = live();
        for key in 0..MANY {
            publisher.publish_next([(key, key)]).unwrap();
        }
        let per_key = (live() - empty) / usize::try_from(MANY).unwrap();
        assert!(per_key <= 256, "{per_key} bytes");
        // Keys that were watched once are no larger.
        for key in 0..MANY {
            drain(&mut publisher.subscribe(Request::new(key)));
        }
        let per_key = (live() - empty) / usize::try_from(MANY).unwrap();
        assert!(per_key <= 256, "{per_key} bytes once watched");
    }

    fn a_kept_snapshot_of_a_hot_key_leaves_memory_flat() {
        for history in [0, 10] {
            let publisher = Publisher::<u64, u64>::builder()
                .history(history)
                .snapshot_ttl(Duration::from_secs(1_000_000))
                .snapshot(|_, snapshot| async move {
                    snapshot.push(0)?;
                    Ok(0)
                })
                .build();
            drain(&mut publisher.subscribe(Request::new(0)));
            let before = live();
            for _ in 0..10 * MANY {
                publisher.publish_next([(0, 0)]).unwrap();
            }
            assert!(live().saturating_sub(before) < 16_384);
        }
    }

    fn an_update_keeps_no_later_ones() {
        for closes in [false, true] {
            let publisher = Publisher::<u64, Box<[u8; 1024]>>::builder().build();
            let publish = || publisher.publish_next([(0, Box::new([0; 1024]))]).unwrap();
            let request = Request::new(0).token("token");
            let mut watch = publisher.subscribe(if closes {
                request
            } else {
                request.limit(LagLimit::items(10), OverLimit::Close)
            });
            drain(&mut watch);
            publish();
            let last = watch.next().now_or_never().unwrap().unwrap().unwrap();
            assert!(matches!(last, Update::Events(_)));
            if closes {
                publisher.close_token("token");
            }
            let before = live();
            for _ in 0..MANY {
                publish();
            }
            // The items that the limit allows, and a block of nodes.
            assert!(
                live().saturating_sub(before) < 40 * 1024,
                "closed: {closes}"
            );
            drop((last, watch));
        }
    }

    fn a_limit_holds_while_a_handler_hangs() {
        let publisher = Publisher::<u64, Box<[u8; 64]>>::builder()
            .snapshot(|_, _| std::future::pending())
            .build();
        for over in [OverLimit::Close, OverLimit::Reset] {
            let request = Request::new(0).limit(LagLimit::items(100), over);
            let mut watch = publisher.subscribe(request);
            drain(&mut watch);
            let before = live();
            for _ in 0..10 * MANY {
                publisher.publish_next([(0, Box::new([0; 64]))]).unwrap();
            }
            assert!(live().saturating_sub(before) < 65_536, "{over:?}");
            drop(watch);
        }
    }

    fn tasks_that_waited_for_a_watch_leave_memory_flat() {
        let publisher = Publisher::<u64, u64>::builder().build();
        let before = live();
        for key in 0..MANY {
            assert!(publisher.watched(&(key % 100)).now_or_never().is_none());
        }
        assert!(live().abs_diff(before) < 16_384);
    }
}

fn a_crowd_that_has_waited_leaves_memory_flat() {
    let mut buffer = EventBuffer::new();
    let mut one = task::spawn(buffer.subscribe());
    assert_pending!(one.poll_next());
    buffer.push(0);
    let before = live();
    let mut crowd: Vec<_> = (0..100_000)
        .map(|_| task::spawn(buffer.subscribe()))
        .collect();
    for reader in &mut crowd {
        assert_pending!(reader.poll_next());
    }
    buffer.push(1);
    drop(crowd);
    for n in 0..10 {
        while one.poll_next().is_ready() {}
        buffer.push(n);
    }
    assert!(live().abs_diff(before) < 100_000);
}

/// Blocks may be full or not, and the last node may be anywhere in a block.
fn ended_buffers_free_their_blocks() {
    const SLACK: usize = 4096;
    type End = fn(EventBuffer<u64>, &EventBuffer<u64>);
    let ends: [End; 3] = [
        |buffer, _| drop(buffer),
        |buffer, _| buffer.fail("broken"),
        |buffer, live| buffer.splice(live.tail()),
    ];
    let live_buffer = EventBuffer::new();
    let mut cases = |many: u64| {
        for (end, replay) in ends
            .into_iter()
            .flat_map(|end| [Replay::None, Replay::Last(3), Replay::All].map(|r| (end, r)))
        {
            let mut buffer = EventBuffer::builder().replay(replay).build();
            let mut reader = buffer.subscribe();
            for n in 0..many {
                buffer.push(n);
            }
            // A batch in a block of its own, with a size hint or without.
            buffer.extend(0..many);
            buffer.extend((0..many).filter(|n| n % 3 != 1));
            buffer.push(many);
            // A batch that is never published.
            let broken = (0..=many).inspect(|n| assert!(*n < many, "as planned"));
            let extend = std::panic::AssertUnwindSafe(|| buffer.extend(broken));
            std::panic::catch_unwind(extend).unwrap_err();
            while many % 2 == 0 && reader.try_recv().is_ok() {}
            end(buffer, &live_buffer);
        }
    };
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    (0..70).for_each(&mut cases);
    let before = live();
    (0..70).for_each(&mut cases);
    std::panic::set_hook(quiet);
    assert!(live().abs_diff(before) < SLACK);
}

/// Each item's successor is still held when the item is dropped, even at the end of a block.
fn items_dropped_one_by_one_free_their_blocks() {
    let mut buffer = EventBuffer::builder().replay(Replay::None).build();
    let before = live();
    let mut reader = buffer.subscribe();
    for n in 0..10_000 {
        buffer.push(Box::new(n));
    }
    let items: Vec<_> = std::iter::from_fn(|| reader.try_recv().ok()).collect();
    drop(reader);
    items.into_iter().for_each(drop);
    assert!(live().abs_diff(before) < 8192);
}

/// A few readers of a waiting crowd are left when it is woken, or more than a few.
fn a_crowd_that_left_while_waiting_leaves_memory_flat() {
    for left in [1, 10] {
        let mut buffer = EventBuffer::new();
        let before = live();
        let readers = (0..100_000).map(|_| task::spawn(buffer.subscribe()));
        let mut crowd: Vec<_> = readers.collect();
        for reader in &mut crowd {
            assert_pending!(reader.poll_next());
        }
        crowd.truncate(left);
        crowd.shrink_to_fit();
        buffer.push(1);
        assert!(crowd.iter().all(task::Spawn::is_woken));
        assert!(live().abs_diff(before) < 100_000);
    }
}

fn waiting_for_a_link_allocates_the_same_for_any_number_of_readers() {
    for few in [4, 10, 100] {
        let mut buffer = EventBuffer::builder().replay(Replay::None).build();
        let readers = (0..few).map(|_| task::spawn(buffer.subscribe()));
        let mut readers: Vec<_> = readers.collect();
        let mut waits = 0;
        for round in 0..100 {
            waits += allocations(|| {
                for reader in &mut readers {
                    while reader.poll_next().is_ready() {}
                }
            });
            buffer.push(round);
            if round < 10 {
                waits = 0;
            }
        }
        assert_eq!(waits, 2 * 90, "allocations of {few} readers that wait");
    }
}

/// Without a publish no limit is checked. The dropped readers are few compared to those that stay.
fn limited_readers_that_come_and_go_among_others_leave_memory_flat() {
    let buffer = EventBuffer::<u64>::new();
    let limited = || buffer.subscribe().limited(LagLimit::items(10));
    let before = live();
    let others: Vec<_> = (0..1_000).map(|_| limited()).collect();
    let each = (live() - before) / 1_000;
    (0..30_000).for_each(|_| drop(limited()));
    assert!(live() - before < 4_000 * each);
    drop(others);
}
