//! Readers with a limit on their lag.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::task::Context;
use std::thread;
use std::time::Duration;

use event_buffer::{
    EventBuffer, LagExceeded, LagLimit, Limited, OnLag, RecvError, RecvTimeoutError, SharedBuffer,
    TryRecvError,
};
use futures::stream::FusedStream;
use futures::{FutureExt, StreamExt};
use tokio_test::{assert_pending, assert_ready, assert_ready_eq, task};

use crate::support::counted::{BLOCK, Counted};
use crate::support::{Task, unretained, watchdog};

static_assertions::assert_impl_all!(Limited<Vec<u8>>: Send, Sync, Unpin);
static_assertions::assert_impl_all!(LagLimit<std::rc::Rc<u8>>: Send, Sync, Copy);

/// Everything that is ready: events, and the counts of skipped items.
pub(super) fn drain<T: Clone>(reader: &mut Limited<T>) -> Vec<Result<T, u64>> {
    let mut all = Vec::new();
    loop {
        match reader.try_recv() {
            Ok(event) => all.push(Ok(event)),
            Err(TryRecvError::Lagged(items)) => all.push(Err(items)),
            Err(_) => return all,
        }
    }
}

#[test]
fn a_reader_within_its_limit_loses_nothing() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut reader = buffer.subscribe().limited(LagLimit::items(10));
    for round in 0..100 {
        buffer.extend(round * 10..(round + 1) * 10);
        let expected: Vec<_> = (round * 10..(round + 1) * 10).map(Ok).collect();
        assert_eq!(drain(&mut reader), expected);
    }
}

#[test]
fn skip_to_oldest_reports_the_exact_number_of_items() {
    let _watchdog = watchdog();
    for published in [11, 12, 25, 26, 27, 100, 1_000] {
        let mut buffer = EventBuffer::new();
        let mut reader = buffer.subscribe().limited(LagLimit::items(10));
        (0..published).for_each(|n| buffer.push(n));
        let kept = published - 10..published;
        let expected: Vec<_> = std::iter::once(Err(published - 10))
            .chain(kept.map(Ok))
            .collect();
        assert_eq!(drain(&mut reader), expected);
        buffer.push(7);
        assert_eq!(drain(&mut reader), [Ok(7)]);
    }
}

#[test]
fn skip_to_newest_returns_the_newest_item_at_the_time_of_the_read() {
    let _watchdog = watchdog();
    for published in [11, 12, 25, 26, 27, 100, 1_000] {
        let mut buffer = EventBuffer::new();
        let limit = LagLimit::items(10).on_lag(OnLag::SkipToNewest);
        let mut reader = buffer.subscribe().limited(limit);
        (0..published).for_each(|n| buffer.push(n));
        assert_eq!(drain(&mut reader), [Err(published - 1), Ok(published - 1)]);
        buffer.push(7);
        buffer.push(8);
        assert_eq!(drain(&mut reader), [Ok(7), Ok(8)]);
    }
}

#[test]
fn a_lagging_reader_is_closed_with_a_typed_reason() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let limit = LagLimit::items(10).on_lag(OnLag::Close);
    let mut reader = buffer.subscribe().limited(limit);
    buffer.extend(0..10);
    assert_eq!(reader.try_recv(), Ok(0));
    buffer.extend(10..12);
    for _ in 0..2 {
        let Err(TryRecvError::ForceClosed(reason)) = reader.try_recv() else {
            panic!()
        };
        let LagExceeded { items, .. } = reason.downcast_ref().unwrap();
        assert_eq!(*items, 11);
    }
    let mut stream = task::spawn(reader);
    let item = assert_ready!(stream.poll_next());
    assert!(matches!(item, Some(Err(RecvError::ForceClosed(_)))));
    assert!(stream.is_terminated());
    assert_ready_eq!(stream.poll_next(), None);
}

#[test]
fn a_limit_of_zero_still_delivers_the_newest_item() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut none = buffer.subscribe().limited(LagLimit::items(0));
    let mut no_bytes = buffer.subscribe().limited(LagLimit::bytes(0));
    for n in 0..3 {
        buffer.push(n.to_string());
        assert_eq!(none.try_recv(), Ok(n.to_string()));
        assert_eq!(no_bytes.try_recv(), Ok(n.to_string()));
    }
}

#[test]
fn an_item_counts_once_and_is_delivered_whole() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut reader = buffer.subscribe().limited(LagLimit::items(2));
    for n in 0..4 {
        buffer.append([10 * n, 10 * n + 1, 10 * n + 2]);
    }
    assert_eq!(reader.try_recv(), Err(TryRecvError::Lagged(2)));
    assert_eq!(reader.try_recv(), Ok(20));
    // An item that has been begun is received to its end.
    buffer.extend(40..=100);
    assert_eq!(reader.try_recv(), Ok(21));
    assert_eq!(reader.try_recv(), Ok(22));
    assert_eq!(reader.try_recv(), Err(TryRecvError::Lagged(60)));
    assert_eq!(reader.try_recv(), Ok(99));
}

#[test]
fn a_limit_bounds_memory_even_if_the_reader_is_never_polled() {
    let _watchdog = watchdog();
    for on_lag in [OnLag::SkipToOldest, OnLag::SkipToNewest, OnLag::Close] {
        for limit in [LagLimit::items(10), LagLimit::bytes(1_000)] {
            let alive = Arc::new(AtomicUsize::new(0));
            let mut buffer = unretained();
            let stuck = buffer.subscribe().limited(limit.on_lag(on_lag));
            for n in 0..10_000 {
                buffer.push(Counted::new(n, &alive));
                let most = if n < 100 { 10 + BLOCK } else { 10 + 32 };
                assert!(alive.load(SeqCst) <= most, "{on_lag:?} {limit:?}");
            }
            // Of a batch, all items beyond the limit are dropped at once.
            buffer.extend((0..1_000).map(|n| Counted::new(n, &alive)));
            assert!(alive.load(SeqCst) <= 10, "{on_lag:?} {limit:?}");
            assert_eq!(buffer.is_observed(), on_lag != OnLag::Close);
            drop(stuck);
            assert_eq!(alive.load(SeqCst), 0);
        }
    }
}

#[test]
fn a_limit_bounds_memory_after_the_reader_has_waited() {
    let _watchdog = watchdog();
    let alive = Arc::new(AtomicUsize::new(0));
    let mut buffer = unretained();
    let mut stuck = task::spawn(buffer.subscribe().limited(LagLimit::items(10)));
    assert_pending!(stuck.poll_next());
    (0..1_000).for_each(|n| buffer.push(Counted::new(n, &alive)));
    assert!(stuck.is_woken());
    assert!(alive.load(SeqCst) <= 10 + BLOCK);
}

#[test]
fn readers_without_a_limit_lose_nothing() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut all = buffer.subscribe().cloned();
    let _stuck = buffer.subscribe().limited(LagLimit::items(1));
    let _closed = buffer
        .subscribe()
        .limited(LagLimit::items(1).on_lag(OnLag::Close));
    for n in 0..1_000 {
        buffer.push(n);
    }
    for n in 0..1_000 {
        assert_eq!(all.try_recv(), Ok(n));
    }
}

#[test]
fn a_limit_is_carried_over_splices() {
    let _watchdog = watchdog();
    let limits = [LagLimit::items(10), LagLimit::bytes(1_000)];
    let cases = limits.map(|limit| [(limit, true), (limit, false)]);
    for (limit, registered_first) in cases.into_iter().flatten() {
        let alive = Arc::new(AtomicUsize::new(0));
        let mut live = unretained();
        let mut middle = unretained();
        let mut snapshot = unretained();
        let reader = snapshot.subscribe();
        let mut reader = Some(reader);
        let mut stuck = registered_first.then(|| reader.take().unwrap().limited(limit));
        // The check that was due far ahead in the snapshot is due at once in the next buffer.
        for _ in 0..10_000 {
            snapshot.push(Counted::new(0, &alive));
            if let Some(reader) = &mut reader {
                assert!(reader.try_recv().is_ok());
            }
            if let Some(stuck) = &mut stuck {
                assert!(stuck.try_recv().is_ok());
            }
        }
        snapshot.push(Counted::new(0, &alive));
        middle.push(Counted::new(1, &alive));
        snapshot.splice(middle.tail());
        middle.push(Counted::new(2, &alive));
        middle.splice(live.tail());
        let mut stuck = stuck
            .take()
            .unwrap_or_else(|| reader.take().unwrap().limited(limit));
        for n in 3..1_000 {
            live.push(Counted::new(n, &alive));
            let kept = alive.load(SeqCst);
            assert!(
                kept <= 10 + BLOCK,
                "{kept} at {n}, {limit:?}, {registered_first}"
            );
        }
        // Item 1 precedes the splice.
        assert_eq!(stuck.try_recv().unwrap_err(), TryRecvError::Lagged(989));
        assert_eq!(stuck.try_recv().unwrap().0, 990);
    }
}

#[test]
fn a_limited_stream_continues_after_it_has_lagged() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut stream = task::spawn(buffer.subscribe().limited(LagLimit::items(2)));
    for round in 0..3 {
        assert_pending!(stream.poll_next());
        assert!(!stream.is_woken());
        buffer.extend([round, round, round, 7]);
        assert!(stream.is_woken());
        assert_ready_eq!(stream.poll_next(), Some(Err(RecvError::Lagged(2))));
        assert!(!stream.is_terminated());
        assert_ready_eq!(stream.poll_next(), Some(Ok(round)));
        assert_ready_eq!(stream.poll_next(), Some(Ok(7)));
    }
    assert_pending!(stream.poll_next());
    drop(buffer);
    assert!(stream.is_woken());
    assert_ready_eq!(stream.poll_next(), None);
    assert!(stream.is_terminated());
}

#[test]
fn a_cancelled_limited_recv_loses_nothing_and_keeps_no_waker() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut reader = buffer.subscribe().limited(LagLimit::items(2));
    let task = Arc::new(Task);
    let waker = task.clone().into();
    let mut recv = Box::pin(reader.recv());
    assert!(
        recv.poll_unpin(&mut Context::from_waker(&waker))
            .is_pending()
    );
    assert_eq!(Arc::strong_count(&task), 3);
    drop(recv);
    assert_eq!(Arc::strong_count(&task), 2);
    buffer.push(1);
    assert_eq!(reader.recv_blocking(), Ok(1));
    let timeout = reader.recv_timeout(Duration::ZERO);
    assert_eq!(timeout, Err(RecvTimeoutError::Timeout));
    buffer.extend([2, 3, 4]);
    assert_eq!(
        reader.recv_timeout(Duration::ZERO),
        Err(RecvTimeoutError::Lagged(1))
    );
    assert_eq!(reader.recv_timeout(Duration::ZERO), Ok(3));
}

#[test]
fn a_limited_reader_waits_beyond_a_splice() {
    let _watchdog = watchdog();
    let mut live = EventBuffer::new();
    let snapshot = EventBuffer::new();
    let mut stream = task::spawn(snapshot.subscribe().limited(LagLimit::items(2)));
    assert_pending!(stream.poll_next());
    snapshot.splice(live.tail());
    assert_pending!(stream.poll_next());
    live.push(1);
    assert!(stream.is_woken());
    assert_ready_eq!(stream.poll_next(), Some(Ok(1)));
}

#[test]
fn the_end_follows_the_remaining_items() {
    let _watchdog = watchdog();
    for bytes in [u64::MAX, 0] {
        let limit = if bytes == 0 {
            LagLimit::items(2)
        } else {
            LagLimit::items(2).and_bytes(bytes)
        };
        let mut buffer = EventBuffer::new();
        let mut reader = buffer.subscribe().limited(limit);
        buffer.extend(["a", "b", "c"].map(str::to_string));
        buffer.fail("out of luck");
        assert_eq!(reader.try_recv(), Err(TryRecvError::Lagged(1)));
        assert!(reader.try_recv().is_ok());
        assert!(reader.try_recv().is_ok());
        assert!(matches!(reader.try_recv(), Err(TryRecvError::Failed(_))));
        assert_eq!(reader.try_recv(), Err(TryRecvError::Closed));
    }
}

#[test]
fn a_closer_closes_a_limited_reader_at_once() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut stream = task::spawn(buffer.subscribe().limited(LagLimit::items(2)));
    buffer.append([1, 2]);
    assert_ready_eq!(stream.poll_next(), Some(Ok(1)));
    stream.closer().close("enough");
    let item = assert_ready!(stream.poll_next());
    assert!(matches!(item, Some(Err(RecvError::ForceClosed(_)))));

    // A waiting reader is woken, even if its first closer is made while it waits.
    let mut stream = task::spawn(buffer.subscribe().limited(LagLimit::items(2)));
    assert_pending!(stream.poll_next());
    let closer = stream.closer();
    assert!(!stream.is_woken());
    closer.close("enough");
    assert!(stream.is_woken());

    // A closer made before the limit was set closes it, too.
    let reader = buffer.subscribe();
    let closer = reader.closer();
    let mut reader = reader.limited(LagLimit::items(2));
    closer.close("enough");
    assert!(matches!(
        reader.try_recv(),
        Err(TryRecvError::ForceClosed(_))
    ));
}

#[test]
fn across_threads_received_and_skipped_items_add_up() {
    const EACH: u64 = 5_000;
    let _watchdog = watchdog();
    for on_lag in [OnLag::SkipToOldest, OnLag::SkipToNewest] {
        let shared = SharedBuffer::from(unretained());
        let limits = [
            LagLimit::items(3),
            LagLimit::items(100),
            LagLimit::bytes(640),
        ];
        let readers = limits.map(|limit| shared.subscribe().limited(limit.on_lag(on_lag)));
        thread::scope(|scope| {
            for mut reader in readers {
                scope.spawn(move || {
                    let mut accounted = 0;
                    loop {
                        match reader.recv_blocking() {
                            Ok(_) => accounted += 1,
                            Err(RecvError::Lagged(items)) => accounted += items,
                            Err(RecvError::Closed) => return assert_eq!(accounted, 2 * EACH),
                            Err(other) => panic!("{other}"),
                        }
                    }
                });
            }
            for _ in 0..2 {
                let shared = shared.clone();
                scope.spawn(move || {
                    let text = |n: u64| Arc::<str>::from(n.to_string());
                    (0..EACH).for_each(|n| shared.push(text(n)).unwrap());
                });
            }
            drop(shared);
        });
    }
}

/// The stream's waker and a chunk's items must not end up behind the lock.
#[test]
fn setting_a_limit_drops_the_waker_and_the_chunk() {
    let _watchdog = watchdog();
    let alive = Arc::new(AtomicUsize::new(0));
    let mut buffer = unretained();
    let mut stream = buffer.subscribe();
    let task = Arc::new(Task);
    let waker = task.clone().into();
    let mut cx = Context::from_waker(&waker);
    assert!(stream.poll_next_unpin(&mut cx).is_pending());
    assert_eq!(Arc::strong_count(&task), 3);
    let limited = stream.limited(LagLimit::items(1));
    assert_eq!(Arc::strong_count(&task), 2);
    drop(limited);

    let mut reader = buffer.subscribe();
    buffer.extend((0..10).map(|n| Counted::new(n, &alive)));
    let chunk = reader.next_chunk().now_or_never();
    assert_eq!(chunk.unwrap().unwrap().count(), 10);
    let _limited = reader.limited(LagLimit::items(1));
    assert_eq!(alive.load(SeqCst), 0);
}

#[test]
fn a_splice_enforces_the_limits_of_its_readers() {
    let _watchdog = watchdog();
    for ended in [false, true] {
        let alive = Arc::new(AtomicUsize::new(0));
        let (mut live, snapshot) = (unretained(), unretained());
        let tail = live.tail();
        let stuck = snapshot.subscribe().limited(LagLimit::items(10));
        live.extend((0..10_000).map(|n| Counted::new(n, &alive)));
        let live = (!ended).then_some(live);
        snapshot.splice(tail);
        assert_eq!(alive.load(SeqCst), 10, "ended: {ended}");
        drop((stuck, live));
    }
}

#[test]
fn a_reader_that_always_lags_still_receives_items() {
    let _watchdog = watchdog();
    for on_lag in [OnLag::SkipToOldest, OnLag::SkipToNewest] {
        let mut buffer = EventBuffer::new();
        let mut reader = buffer
            .subscribe()
            .limited(LagLimit::items(1).on_lag(on_lag));
        for n in 0..100 {
            buffer.extend([n, n]);
            assert_eq!(reader.try_recv(), Err(TryRecvError::Lagged(1)));
            buffer.push(1_000);
            assert_eq!(reader.try_recv(), Ok(n));
            buffer.push(1_000);
            assert_eq!(reader.try_recv(), Err(TryRecvError::Lagged(1)));
            assert_eq!(reader.try_recv(), Ok(1_000));
        }
    }
}

#[test]
fn a_reader_closed_for_lagging_keeps_its_first_reason() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let limit = LagLimit::items(1).on_lag(OnLag::Close);
    let mut reader = buffer.subscribe().limited(limit);
    buffer.extend([1, 2]);
    let first = reader.try_recv().unwrap_err();
    reader.closer().close("second");
    for reader in [&mut reader.clone(), &mut reader] {
        assert_eq!(reader.try_recv().unwrap_err(), first);
    }
}

#[test]
fn a_reader_closed_for_lagging_learns_how_far_behind_it_was() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let limit = LagLimit::items(1).on_lag(OnLag::Close);
    let mut reader = buffer.subscribe().limited(limit);
    buffer.extend(0..12);
    let Err(TryRecvError::ForceClosed(reason)) = reader.try_recv() else {
        panic!()
    };
    let expected = "too far behind: 12 items not received";
    assert_eq!(reason.to_string(), expected);
}

/// The batch may exceed the limit by any amount.
#[test]
fn after_a_batch_the_limit_is_exceeded_by_an_eighth_at_most() {
    let _watchdog = watchdog();
    for len in 1..50 {
        let alive = Arc::new(AtomicUsize::new(0));
        let mut buffer = unretained();
        let _stuck = buffer.subscribe().limited(LagLimit::items(16));
        buffer.extend((0..len).map(|n| Counted::new(n, &alive)));
        assert!(alive.load(SeqCst) <= 16 + 2, "after {len}");
    }
}

#[test]
fn skip_to_newest_keeps_only_the_newest_item() {
    let _watchdog = watchdog();
    let alive = Arc::new(AtomicUsize::new(0));
    let mut buffer = unretained();
    let limit = LagLimit::items(10).on_lag(OnLag::SkipToNewest);
    let _stuck = buffer.subscribe().limited(limit);
    buffer.extend((0..1_000).map(|n| Counted::new(n, &alive)));
    assert_eq!(alive.load(SeqCst), 1);
}

/// The check of a limit may be due anywhere in a block.
#[test]
fn the_limit_is_exceeded_by_an_eighth_and_a_block_at_most() {
    let _watchdog = watchdog();
    for limit in 1..70 {
        let alive = Arc::new(AtomicUsize::new(0));
        let mut buffer = unretained();
        let _stuck = buffer.subscribe().limited(LagLimit::items(limit));
        // A block of 16, except the item with which the writer checks the limit.
        let most = usize::try_from(limit + limit / 8 + 15).unwrap();
        for n in 0..300 {
            buffer.push(Counted::new(n, &alive));
            assert!(alive.load(SeqCst) <= most, "{limit}, after {n}");
        }
    }
}

#[test]
fn dropping_a_waiting_limited_stream_drops_its_waker() {
    let _watchdog = watchdog();
    let buffer = EventBuffer::<u8>::new();
    let mut stream = buffer.subscribe().limited(LagLimit::items(2));
    let task = Arc::new(Task);
    let waker = task.clone().into();
    let mut cx = Context::from_waker(&waker);
    assert!(stream.poll_next_unpin(&mut cx).is_pending());
    assert_eq!(Arc::strong_count(&task), 3);
    drop(stream);
    assert_eq!(Arc::strong_count(&task), 2);
}

/// The stream has reported the reason already.
#[test]
fn limiting_an_ended_stream_does_not_restart_it() {
    let _watchdog = watchdog();
    let buffer = EventBuffer::<u8>::new();
    let mut reader = buffer.subscribe();
    reader.closer().close("enough");
    let closed = reader.next().now_or_never();
    assert!(matches!(closed, Some(Some(Err(RecvError::ForceClosed(_))))));
    let mut limited = reader.limited(LagLimit::items(1));
    assert_eq!(limited.next().now_or_never(), Some(None));
    assert!(matches!(
        limited.try_recv(),
        Err(TryRecvError::ForceClosed(_))
    ));
}

#[test]
fn stuck_readers_keep_no_more_than_their_greatest_limit() {
    let _watchdog = watchdog();
    let alive = Arc::new(AtomicUsize::new(0));
    let mut buffer = unretained();
    let readers = (0..100).map(|n| buffer.subscribe().limited(LagLimit::items(1_000 + n)));
    let mut readers: Vec<_> = readers.collect();
    (0..10_000).for_each(|n| buffer.push(Counted::new(n, &alive)));
    assert!(alive.load(SeqCst) <= 1_099 + 1_099 / 8 + BLOCK);
    // The reader with the greatest limit leaves, then others read again, in any order.
    drop(readers.pop());
    for n in [50, 98, 0, 7] {
        let reader = &mut readers[n];
        let kept = 1_000 + n as u64;
        assert_eq!(reader.lag(), kept);
        assert_eq!(
            reader.try_recv().unwrap_err(),
            TryRecvError::Lagged(10_000 - kept)
        );
        assert_eq!(reader.try_recv().unwrap().0, 10_000 - kept);
    }
    drop(readers);
    assert_eq!(alive.load(SeqCst), 0);
    assert!(!buffer.is_observed());
}

/// One after the other gives up its place, to share one that was moved for the others.
#[test]
fn a_reader_that_joins_stuck_readers_may_receive_what_its_own_limit_allows() {
    let _watchdog = watchdog();
    let bytes = |items: u64| LagLimit::bytes(100 * items);
    for limit in [LagLimit::items, bytes] {
        for published in 60..200 {
            let alive = Arc::new(AtomicUsize::new(0));
            let mut buffer = unretained();
            let mut readers = Vec::new();
            for allowed in [70, 120, 64, 100, 127] {
                readers.push((buffer.subscribe().limited(limit(allowed)), allowed));
            }
            (0..published).for_each(|n| buffer.push(Counted::new(n, &alive)));
            for (mut reader, allowed) in readers {
                let received: Vec<_> = drain(&mut reader)
                    .into_iter()
                    .map(|event| event.map(|event| event.0))
                    .collect();
                let lost = published.saturating_sub(allowed);
                let lagged = (lost > 0).then_some(Err(lost));
                let expected: Vec<_> = lagged
                    .into_iter()
                    .chain((lost..published).map(Ok))
                    .collect();
                assert_eq!(received, expected);
            }
        }
    }
}

/// Each starts in a buffer of its own; all are spliced to the same buffer.
#[test]
fn stuck_readers_that_splices_bring_together_share_a_place() {
    let _watchdog = watchdog();
    let alive = Arc::new(AtomicUsize::new(0));
    let mut live = unretained();
    let mut stuck = Vec::new();
    for n in 0..1_000 {
        let mut snapshot = unretained();
        let limit = if n % 2 == 0 {
            LagLimit::items(10)
        } else {
            LagLimit::bytes(1_000)
        };
        let items = 20 + n % 7;
        stuck.push((snapshot.subscribe().limited(limit), items));
        snapshot.extend((0..items).map(|n| Counted::new(n, &alive)));
        snapshot.splice(live.tail());
    }
    (0..1_000).for_each(|n| live.push(Counted::new(n, &alive)));
    assert!(alive.load(SeqCst) <= 10 + 1 + BLOCK);
    for (reader, items) in &mut stuck {
        let lagged = TryRecvError::Lagged(*items + 1_000 - 10);
        assert_eq!(reader.try_recv().unwrap_err(), lagged);
        assert_eq!(reader.try_recv().unwrap().0, 990);
    }
    drop(stuck);
    assert_eq!(alive.load(SeqCst), 0);
}

/// The smaller limit has moved its place further on than the other one allows.
#[test]
fn stuck_readers_with_different_limits_that_meet_by_a_splice_lose_no_more() {
    let _watchdog = watchdog();
    let (mut live, mut snapshot) = (unretained(), unretained());
    let start = live.tail();
    let mut ahead = live.subscribe().limited(LagLimit::items(8));
    let mut behind = snapshot.subscribe().limited(LagLimit::items(15));
    for n in 0..10 {
        live.extend(10 * n..10 * (n + 1));
        snapshot.extend([0; 10]);
    }
    snapshot.splice(start);
    let expected = |lost, first| std::iter::once(Err(lost)).chain((first..100).map(Ok));
    assert!(drain(&mut behind).into_iter().eq(expected(185, 85)));
    assert!(drain(&mut ahead).into_iter().eq(expected(92, 92)));
}

#[test]
fn a_clone_does_not_count_what_a_previous_limit_skipped_as_lag() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let subscription = buffer.subscribe();
    buffer.extend(0..8);
    let mut reader = subscription.limited(LagLimit::items(2));
    reader.set_limit(LagLimit::items(100).on_lag(OnLag::SkipToNewest));
    let mut clone = reader.clone();
    for reader in [&mut reader, &mut clone] {
        assert_eq!(reader.try_recv(), Err(TryRecvError::Lagged(6)));
        assert_eq!((reader.try_recv(), reader.try_recv()), (Ok(6), Ok(7)));
    }
}
