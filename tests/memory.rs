//! What the heap holds, told by a counting allocator. One test: others would disturb the count.
#![cfg(not(loom))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use event_buffer::{EventBuffer, LagLimit, OnLag, Replay};
use tokio_test::{assert_pending, assert_ready, task};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: passes every call on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Relaxed);
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise is the same.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn live() -> usize {
    LIVE.load(Relaxed)
}

/// How many allocations `f` makes.
fn allocations(f: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.load(Relaxed);
    f();
    ALLOCATIONS.load(Relaxed) - before
}

#[test]
fn memory_is_bounded_by_the_slowest_reader_and_comes_back() {
    const MANY: u64 = 1_000_000;
    /// The test harness allocates a little now and then on a thread of its own.
    const SLACK: usize = 4096;

    // With no reader and no window, appending leaves memory flat, and does not even allocate.
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

    // A million unread items, and all of it back when the reader goes.
    let reader = buffer.subscribe();
    for n in 0..MANY {
        buffer.push(n);
    }
    let per_event = (live() - empty) as u64 / MANY;
    assert!(per_event <= 8 + 48, "{per_event} bytes per event of 8");
    drop(reader);
    assert!(live().abs_diff(empty) < SLACK);

    // In the steady state: far less than one allocation per publish, none per delivery.
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

    // Two for each link that is waited for, its event and the listener, however many wait there.
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
    assert_eq!(waits, 2 * 990, "allocations of 990 links that two wait for");

    a_stuck_reader_keeps_what_its_limit_says();
    limited_readers_that_are_gone_leave_memory_flat();
    a_crowd_of_limited_readers_that_is_gone_leaves_nothing();
    whatever_ends_gives_its_blocks_back();
    items_that_are_dropped_one_by_one_give_their_blocks_back();
    a_crowd_that_waited_once_leaves_memory_flat();
    a_crowd_that_left_leaves_memory_flat();
    limited_readers_that_come_and_go_beside_others_leave_memory_flat();
    however_many_wait_for_a_link_allocate_as_one();
    #[cfg(feature = "publisher")]
    of_a_publisher::all();
}

fn a_stuck_reader_keeps_what_its_limit_says() {
    const MANY: u64 = 1_000_000;
    /// A few blocks.
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

    // In bytes, of which the heap holds nearly that many.
    let mut buffer = EventBuffer::new();
    let empty = live();
    let stuck = buffer.subscribe().limited(LagLimit::bytes(1 << 20));
    for n in 0..100_000 {
        buffer.push(vec![0_u8; n % 10_000]);
    }
    assert!(live() - empty < (1 << 20) / 8 * 9 + 10_000 + 2 * SLACK);
    // Others that come and go leave nothing, with one that stays or without.
    for _ in 0..2 {
        let before = live();
        for _ in 0..10_000 {
            drop(buffer.subscribe().limited(LagLimit::bytes(1 << 20)));
        }
        assert!(live() - before < 2 * SLACK);
        buffer = EventBuffer::new();
    }
    drop(stuck);

    // Over splices, of empty buffers and of others, and also of one that has waited once.
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

    // The same reader without a limit keeps all, and says so.
    let mut buffer = EventBuffer::new();
    let empty = live();
    let stuck = buffer.subscribe();
    (0..MANY).for_each(|n| buffer.push(n));
    assert!(live() - empty > 8 * 1_000_000);
    assert_eq!(stuck.lag(), MANY);
}

fn a_crowd_of_limited_readers_that_is_gone_leaves_nothing() {
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

fn limited_readers_that_are_gone_leave_memory_flat() {
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
        an_update_keeps_nothing_that_comes_after_it();
        a_limit_holds_while_a_handler_hangs();
        who_waited_for_a_watch_leaves_memory_flat();
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
        assert!(live().abs_diff(empty) < 4096, "published and not watched");

        // What was watched is freed, but for the map's and the registry's own tables.
        for key in 0..KEYS {
            let mut watch = publisher.subscribe(Request::new(key));
            while watch.next().now_or_never().is_some() {}
            publisher.publish(KEYS + 2 + key, [(key, key)]).unwrap();
        }
        assert!(live().abs_diff(empty) < 4096, "watched one by one");

        // Nor do crowds keep theirs.
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

    /// Beside its commit: a count, an index, the key, and the event.
    fn a_key_that_only_the_history_knows_is_small() {
        // The tables are about as full as they get.
        const MANY: u64 = 100_000;
        let publisher = Publisher::<u64, u64>::builder().history(usize::MAX).build();
        let empty = live();
        for key in 0..MANY {
            publisher.publish_next([(key, key)]).unwrap();
        }
        let per_key = (live() - empty) / usize::try_from(MANY).unwrap();
        assert!(per_key <= 256, "{per_key} bytes");
        // Those that were watched once are no larger.
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

    fn an_update_keeps_nothing_that_comes_after_it() {
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
            // What the limit allows, and a block of places.
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

    fn who_waited_for_a_watch_leaves_memory_flat() {
        let publisher = Publisher::<u64, u64>::builder().build();
        let before = live();
        for key in 0..MANY {
            assert!(publisher.watched(&(key % 100)).now_or_never().is_none());
        }
        assert!(live().abs_diff(before) < 16_384);
    }
}

fn a_crowd_that_waited_once_leaves_memory_flat() {
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

/// Blocks that are full and blocks that are not, wherever the last of their nodes is put.
fn whatever_ends_gives_its_blocks_back() {
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
            // In a block of its own, of a size that was told or not.
            buffer.extend(0..many);
            buffer.extend((0..many).filter(|n| n % 3 != 1));
            buffer.push(many);
            // One that is never published.
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

/// Where somebody else holds the next one, also at the end of a block.
fn items_that_are_dropped_one_by_one_give_their_blocks_back() {
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

/// Of a crowd that waited, so many are left when they are woken: few, and more than a few.
fn a_crowd_that_left_leaves_memory_flat() {
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

fn however_many_wait_for_a_link_allocate_as_one() {
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

/// Nobody publishes, so that no limit is looked at. Those that have gone are few, compared to those that are left.
fn limited_readers_that_come_and_go_beside_others_leave_memory_flat() {
    let buffer = EventBuffer::<u64>::new();
    let limited = || buffer.subscribe().limited(LagLimit::items(10));
    let before = live();
    let others: Vec<_> = (0..1_000).map(|_| limited()).collect();
    let each = (live() - before) / 1_000;
    (0..30_000).for_each(|_| drop(limited()));
    assert!(live() - before < 4_000 * each);
    drop(others);
}
