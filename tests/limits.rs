//! Readers whose lag is limited.
#![cfg(not(loom))]

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake};
use std::thread;
use std::time::Duration;

use event_buffer::{
    ByteSize, EventBuffer, LagExceeded, LagLimit, Limited, OnLag, RecvError, RecvTimeoutError,
    Replay, SharedBuffer, TryRecvError,
};
use futures::stream::FusedStream;
use futures::{FutureExt, StreamExt};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use support::{PanicsWhenDropped, PanicsWhenWoken, watchdog};
use tokio_test::{assert_pending, assert_ready, assert_ready_eq, task};

static_assertions::assert_impl_all!(Limited<Vec<u8>>: Send, Sync, Unpin);
static_assertions::assert_impl_all!(LagLimit<std::rc::Rc<u8>>: Send, Sync, Copy);

/// More than what the writer may let pass before it looks: the items of one block.
const BLOCK: usize = 64;

fn unretained<T>() -> EventBuffer<T> {
    EventBuffer::builder().replay(Replay::None).build()
}

/// All that is ready: events, and how many items were skipped in front of each.
fn drain<T: Clone>(reader: &mut Limited<T>) -> Vec<Result<T, u64>> {
    let mut all = Vec::new();
    loop {
        match reader.try_recv() {
            Ok(event) => all.push(Ok(event)),
            Err(TryRecvError::Lagged(items)) => all.push(Err(items)),
            Err(_) => return all,
        }
    }
}

/// Counts those that are alive.
#[derive(Debug)]
struct Counted(u64, Arc<AtomicUsize>);

impl Counted {
    fn new(n: u64, alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, SeqCst);
        Self(n, alive.clone())
    }
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        Self::new(self.0, &self.1)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_sub(1, SeqCst);
    }
}

impl ByteSize for Counted {
    fn byte_size(&self) -> usize {
        100
    }
}

#[test]
fn within_its_limit_a_reader_loses_nothing() {
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
fn skips_to_the_oldest_allowed_and_tells_the_exact_count() {
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
fn skips_to_what_is_newest_when_it_reads() {
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
fn closes_with_a_typed_reason_that_sticks() {
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
    let answer = assert_ready!(stream.poll_next());
    assert!(matches!(answer, Some(Err(RecvError::ForceClosed(_)))));
    assert!(stream.is_terminated());
    assert_ready_eq!(stream.poll_next(), None);
}

#[test]
fn the_newest_item_may_always_be_received() {
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
fn an_item_counts_once_however_many_its_events_and_comes_whole() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut reader = buffer.subscribe().limited(LagLimit::items(2));
    for n in 0..4 {
        buffer.append([10 * n, 10 * n + 1, 10 * n + 2]);
    }
    assert_eq!(reader.try_recv(), Err(TryRecvError::Lagged(2)));
    assert_eq!(reader.try_recv(), Ok(20));
    // What has begun is received to its end.
    buffer.extend(40..=100);
    assert_eq!(reader.try_recv(), Ok(21));
    assert_eq!(reader.try_recv(), Ok(22));
    assert_eq!(reader.try_recv(), Err(TryRecvError::Lagged(60)));
    assert_eq!(reader.try_recv(), Ok(99));
}

#[test]
fn bytes_are_those_that_the_events_say() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let size = |n: usize| vec![0_u8; n];
    let each = size(100).byte_size() as u64;
    let mut reader = buffer.subscribe().limited(LagLimit::bytes(3 * each));
    let mut both = buffer
        .subscribe()
        .limited(LagLimit::items(2).and_bytes(3 * each));
    for _ in 0..5 {
        buffer.push(size(100));
    }
    assert_eq!(drain(&mut reader).len(), 1 + 3);
    assert_eq!(drain(&mut both).len(), 1 + 2);
    buffer.push(size(10_000));
    buffer.push(size(1));
    assert_eq!(drain(&mut reader), [Err(1), Ok(size(1))]);
    assert_eq!(drain(&mut both), [Err(1), Ok(size(1))]);
}

#[test]
fn bounds_memory_of_who_is_never_polled() {
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
            // Items come in batches, too, of which all but what is allowed is dropped at once.
            buffer.extend((0..1_000).map(|n| Counted::new(n, &alive)));
            assert!(alive.load(SeqCst) <= 10, "{on_lag:?} {limit:?}");
            assert_eq!(buffer.is_observed(), on_lag != OnLag::Close);
            drop(stuck);
            assert_eq!(alive.load(SeqCst), 0);
        }
    }
}

#[test]
fn a_limit_in_bytes_is_passed_by_an_eighth_at_most() {
    let _watchdog = watchdog();
    let alive = Arc::new(AtomicUsize::new(0));
    let mut buffer = unretained();
    let _stuck = buffer.subscribe().limited(LagLimit::bytes(1_000));
    for n in 0..BLOCK as u64 {
        buffer.push(Counted::new(n, &alive));
    }
    for n in 0..1_000 {
        buffer.push(Counted::new(n, &alive));
        let kept = alive.load(SeqCst);
        assert!((10..=11).contains(&kept), "{kept}");
    }
}

#[test]
fn one_that_has_waited_keeps_no_more() {
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
fn others_lose_nothing() {
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
fn a_limit_goes_along_over_splices() {
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
        // What was due in the snapshot, far ahead, is due at once where it goes on.
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
        // Item 1 is in front of the splice.
        assert_eq!(stuck.try_recv().unwrap_err(), TryRecvError::Lagged(989));
        assert_eq!(stuck.try_recv().unwrap().0, 990);
    }
}

#[test]
fn waits_is_woken_and_goes_on_after_it_has_lagged() {
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
fn a_cancelled_recv_loses_nothing_and_leaves_the_list() {
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
fn waits_at_the_end_of_a_buffer_that_goes_on_in_another() {
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
fn an_end_comes_after_what_is_left() {
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
fn is_closed_from_outside_at_once() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut stream = task::spawn(buffer.subscribe().limited(LagLimit::items(2)));
    buffer.append([1, 2]);
    assert_ready_eq!(stream.poll_next(), Some(Ok(1)));
    stream.closer().close("enough");
    let answer = assert_ready!(stream.poll_next());
    assert!(matches!(answer, Some(Err(RecvError::ForceClosed(_)))));

    // One that waits is woken, also where its first closer is made after that.
    let mut stream = task::spawn(buffer.subscribe().limited(LagLimit::items(2)));
    assert_pending!(stream.poll_next());
    let closer = stream.closer();
    assert!(!stream.is_woken());
    closer.close("enough");
    assert!(stream.is_woken());

    // A closer that was made before the limit was set closes, too.
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
fn an_event_whose_clone_panics_has_not_been_received() {
    #[derive(Debug)]
    struct Fragile(u8, Arc<AtomicBool>);

    impl Clone for Fragile {
        fn clone(&self) -> Self {
            assert!(!self.1.load(SeqCst), "asked for");
            Self(self.0, self.1.clone())
        }
    }

    impl ByteSize for Fragile {
        fn byte_size(&self) -> usize {
            1
        }
    }

    let _watchdog = watchdog();
    for limit in [LagLimit::items(2), LagLimit::items(2).and_bytes(1_000)] {
        let panics = Arc::new(AtomicBool::new(true));
        let event = |n| Fragile(n, panics.clone());
        let mut buffer = EventBuffer::new();
        let mut reader = buffer.subscribe().limited(limit);
        buffer.append([event(1), event(2)]);
        buffer.push(event(3));
        for _ in 0..2 {
            assert!(catch_unwind(AssertUnwindSafe(|| reader.try_recv())).is_err());
            assert_eq!(reader.lag(), 2);
        }
        panics.store(false, SeqCst);
        for n in 1..=3 {
            assert_eq!(reader.try_recv().unwrap().0, n);
        }
        assert_eq!(reader.try_recv().unwrap_err(), TryRecvError::Empty);
    }
}

#[test]
fn a_drop_that_panics_leaves_all_in_order() {
    struct Explosive(u8, bool);

    impl Clone for Explosive {
        fn clone(&self) -> Self {
            Self(self.0, false)
        }
    }

    impl Drop for Explosive {
        fn drop(&mut self) {
            assert!(!self.1 || thread::panicking(), "asked for");
        }
    }

    let _watchdog = watchdog();
    let mut buffer = unretained();
    let mut stuck = buffer.subscribe().limited(LagLimit::items(1));
    let mut other = buffer.subscribe().limited(LagLimit::items(1));
    let mut panics = 0;
    for n in 0..100 {
        let push = AssertUnwindSafe(|| buffer.push(Explosive(n, n % 10 == 0)));
        panics += usize::from(catch_unwind(push).is_err());
    }
    assert!(panics > 0);
    for reader in [&mut stuck, &mut other] {
        assert!(matches!(reader.try_recv(), Err(TryRecvError::Lagged(99))));
        assert_eq!(reader.try_recv().map(|event| event.0).ok(), Some(99));
    }

    // An event that has been cloned is not lost where the drop of the original panics.
    buffer.push(Explosive(100, true));
    drop(other);
    assert!(catch_unwind(AssertUnwindSafe(|| stuck.try_recv().ok())).is_err());
    assert_eq!(stuck.try_recv().map(|event| event.0).ok(), Some(100));
}

#[test]
fn foreign_code_may_use_the_buffer_and_the_reader() {
    /// Publishes and reads when it is dropped or asked for its size.
    #[derive(Clone)]
    struct Nosy(Option<Arc<dyn Fn() + Send + Sync>>);

    impl Drop for Nosy {
        fn drop(&mut self) {
            self.0.iter().for_each(|look| look());
        }
    }

    impl ByteSize for Nosy {
        fn byte_size(&self) -> usize {
            self.0.iter().for_each(|look| look());
            1
        }
    }

    let _watchdog = watchdog();
    let shared = SharedBuffer::from(unretained());
    let looked = Arc::new(AtomicUsize::new(0));
    for limit in [LagLimit::items(1), LagLimit::bytes(1)] {
        let reader = Arc::new(std::sync::Mutex::new(shared.subscribe().limited(limit)));
        let look: Arc<dyn Fn() + Send + Sync> = {
            let (shared, reader, looked) =
                (shared.clone(), Arc::downgrade(&reader), looked.clone());
            Arc::new(move || {
                looked.fetch_add(1, SeqCst);
                let _ = shared.is_observed();
                if let Some(reader) = reader.upgrade() {
                    let _ = reader.lock().unwrap().lag();
                }
            })
        };
        for _ in 0..100 {
            shared.push(Nosy(Some(look.clone()))).unwrap();
        }
        drop(reader);
    }
    assert!(looked.load(SeqCst) > 0);
}

/// Over threads, what is received and what is skipped make up what was published.
#[test]
fn over_threads_received_and_skipped_make_up_all() {
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

/// Neither its waker nor what a chunk lent goes along behind the lock.
#[test]
fn nothing_that_is_past_goes_along_where_a_limit_is_set() {
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
fn a_waker_that_panics_does_not_keep_a_limit_from_being_enforced() {
    let _watchdog = watchdog();
    let alive = Arc::new(AtomicUsize::new(0));
    let mut buffer = unretained();
    let _stuck = buffer.subscribe().limited(LagLimit::items(10));
    let mut stream = buffer.subscribe();
    let waker = Arc::new(PanicsWhenWoken).into();
    let mut cx = Context::from_waker(&waker);
    for n in 0..1_000 {
        while stream.poll_next_unpin(&mut cx).is_ready() {}
        let push = AssertUnwindSafe(|| buffer.push(Counted::new(n, &alive)));
        assert!(catch_unwind(push).is_err());
        assert!(alive.load(SeqCst) <= 10 + BLOCK);
    }
}

#[test]
fn what_is_skipped_while_its_clone_panics_is_counted() {
    /// Publishes more than the limit while it is cloned, then panics.
    struct Overtaken(Option<SharedBuffer<Overtaken>>);

    impl Clone for Overtaken {
        fn clone(&self) -> Self {
            if let Some(shared) = &self.0 {
                shared.extend((0..100).map(|_| Self(None))).unwrap();
                panic!("asked for");
            }
            Self(None)
        }
    }

    let _watchdog = watchdog();
    let shared = SharedBuffer::from(unretained());
    let mut reader = shared.subscribe().limited(LagLimit::items(10));
    shared.push(Overtaken(Some(shared.clone()))).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| reader.try_recv().is_ok())).is_err());
    assert!(matches!(reader.try_recv(), Err(TryRecvError::Lagged(91))));
    assert_eq!(std::iter::from_fn(|| reader.try_recv().ok()).count(), 10);
}

#[test]
fn a_splice_enforces_the_limits_that_it_hands_on() {
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
fn a_size_that_panics_does_not_end_the_limit() {
    #[derive(Clone)]
    struct Bomb(bool, #[expect(dead_code)] Counted);

    impl ByteSize for Bomb {
        fn byte_size(&self) -> usize {
            assert!(!self.0, "asked for");
            1
        }
    }

    let _watchdog = watchdog();
    let alive = Arc::new(AtomicUsize::new(0));
    let mut buffer = unretained();
    let mut stuck = buffer
        .subscribe()
        .limited(LagLimit::items(10).and_bytes(10));
    let mut panics = 0;
    for n in 0..1_000 {
        let event = Bomb(n == 100, Counted::new(n, &alive));
        let push = AssertUnwindSafe(|| buffer.push(event));
        panics += usize::from(catch_unwind(push).is_err());
    }
    assert_eq!(panics, 1, "it is asked once");
    assert!(alive.load(SeqCst) <= 12);
    assert!(matches!(stuck.try_recv(), Err(TryRecvError::Lagged(990))));
    assert!(stuck.try_recv().is_ok());
}

#[test]
fn a_size_may_publish() {
    struct Nosy(Option<(SharedBuffer<Nosy>, Arc<AtomicUsize>)>);

    impl Clone for Nosy {
        fn clone(&self) -> Self {
            Self(None)
        }
    }

    impl ByteSize for Nosy {
        fn byte_size(&self) -> usize {
            if let Some((shared, asked)) = &self.0 {
                if asked.fetch_add(1, SeqCst) == 0 {
                    let later = shared.clone();
                    later.push(Nosy(None)).unwrap();
                }
            }
            1
        }
    }

    let _watchdog = watchdog();
    let shared = SharedBuffer::from(unretained());
    let asked = Arc::new(AtomicUsize::new(0));
    let stuck = shared.subscribe().limited(LagLimit::bytes(1));
    shared
        .push(Nosy(Some((shared.clone(), asked.clone()))))
        .unwrap();
    assert_eq!(asked.load(SeqCst), 1);
    drop(stuck);
}

#[test]
fn a_limit_in_bytes_is_kept_after_a_batch_too() {
    let _watchdog = watchdog();
    let alive = Arc::new(AtomicUsize::new(0));
    let mut buffer = unretained();
    let _stuck = buffer.subscribe().limited(LagLimit::bytes(1_000));
    (0..BLOCK as u64).for_each(|n| buffer.push(Counted::new(n, &alive)));
    for batch in 2..40 {
        buffer.extend((0..batch).map(|n| Counted::new(n, &alive)));
        for n in 0..40 {
            buffer.push(Counted::new(n, &alive));
            assert!(alive.load(SeqCst) <= 11, "after a batch of {batch}");
        }
    }
}

#[test]
fn a_reader_that_always_lags_gets_items_all_the_same() {
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

/// What a waker's drop, or an event's, does in the midst of a read does not cost the answer.
#[test]
fn a_panic_in_a_read_does_not_cost_the_answer() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut stream = buffer.subscribe().limited(LagLimit::items(1));
    let waker = Arc::new(PanicsWhenDropped).into();
    assert!(
        stream
            .poll_next_unpin(&mut Context::from_waker(&waker))
            .is_pending()
    );
    let panicked = catch_unwind(AssertUnwindSafe(|| drop(waker)));
    assert!(panicked.is_ok(), "the list has it");
    // Published, and nobody woken yet.
    let deferred = buffer.push_deferred(1);
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let read = AssertUnwindSafe(|| drop(stream.poll_next_unpin(&mut cx)));
    assert!(catch_unwind(read).is_err());
    assert_eq!(stream.try_recv(), Ok(1));
    drop(deferred);
}

#[test]
fn a_drop_that_panics_where_a_limit_is_set_leaks_nothing() {
    #[derive(Clone)]
    struct Explosive(bool, #[expect(dead_code)] Arc<()>);

    impl Drop for Explosive {
        fn drop(&mut self) {
            assert!(!self.0 || thread::panicking(), "asked for");
        }
    }

    let _watchdog = watchdog();
    let event = Arc::new(());
    let mut buffer = unretained();
    let reader = buffer.subscribe();
    buffer.extend([true, false, false].map(|bomb| Explosive(bomb, event.clone())));
    let limited = AssertUnwindSafe(|| drop(reader.limited(LagLimit::items(1))));
    assert!(catch_unwind(limited).is_err());
    assert!(!buffer.is_observed(), "the reader is gone");
    assert_eq!(Arc::strong_count(&event), 1);
}

#[test]
fn the_first_reason_sticks_where_a_reader_was_closed_for_its_lag() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let limit = LagLimit::items(1).on_lag(OnLag::Close);
    let mut reader = buffer.subscribe().limited(limit);
    buffer.extend([1, 2]);
    let first = reader.try_recv().unwrap_err();
    reader.closer().close("second");
    assert_eq!(reader.try_recv().unwrap_err(), first);
}

struct Task;

impl Wake for Task {
    fn wake(self: Arc<Self>) {}
}

#[derive(Clone, Debug)]
enum Step {
    Push(u8),
    Append(u8, usize),
    Extend(u8, usize),
    /// The next that many events panic when they are dropped.
    Bomb(usize),
    /// A reader with a limit in items, one in bytes, or both.
    Subscribe(Option<u64>, Option<u64>, OnLag),
    Read(usize, usize),
    /// Registers a task, whose waker may panic when it is woken or dropped.
    Wait(usize, Panics),
    Close(usize),
    Leave(usize),
    Clone(usize),
    SetLimit(usize, Option<u64>, Option<u64>, OnLag),
    /// Continues in a new buffer.
    Splice,
}

#[derive(Clone, Copy, Debug)]
enum Panics {
    Never,
    Woken,
    Dropped,
}

fn step() -> impl Strategy<Value = Step> {
    let on_lag = select(vec![OnLag::SkipToOldest, OnLag::SkipToNewest, OnLag::Close]);
    let items = prop_oneof![Just(None), (0..40_u64).prop_map(Some)];
    let bytes = prop_oneof![Just(None), (0..400_u64).prop_map(Some)];
    prop_oneof![
        10 => (0..40_u8).prop_map(Step::Push),
        3 => (0..40_u8, 0..4_usize).prop_map(|(size, n)| Step::Append(size, n)),
        3 => (0..40_u8, 0..60_usize).prop_map(|(size, n)| Step::Extend(size, n)),
        2 => (items.clone(), bytes.clone(), on_lag.clone())
            .prop_map(|(i, b, l)| Step::Subscribe(i, b, l)),
        1 => (0..8_usize, items, bytes, on_lag).prop_map(|(r, i, b, l)| Step::SetLimit(r, i, b, l)),
        1 => (0..8_usize).prop_map(Step::Clone),
        1 => (0..20_usize).prop_map(Step::Bomb),
        10 => (0..8_usize, 0..50_usize).prop_map(|(reader, n)| Step::Read(reader, n)),
        4 => (0..8_usize, select(vec![Panics::Never, Panics::Woken, Panics::Dropped]))
            .prop_map(|(reader, panics)| Step::Wait(reader, panics)),
        1 => (0..8_usize).prop_map(Step::Close),
        1 => (0..8_usize).prop_map(Step::Leave),
        1 => Just(Step::Splice),
    ]
}

/// Its number, its size, and whether its drop panics.
#[derive(Debug)]
struct Event(usize, u8, bool);

impl Clone for Event {
    fn clone(&self) -> Self {
        Self(self.0, self.1, false)
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        assert!(!self.2 || thread::panicking(), "asked for");
    }
}

/// Ignores what panics on purpose.
fn caught<R>(f: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(f)).ok()
}

impl ByteSize for Event {
    fn byte_size(&self) -> usize {
        usize::from(self.1)
    }
}

/// A reader that goes by the words of the documentation.
#[derive(Clone)]
struct Naive {
    items: u64,
    bytes: Option<u64>,
    on_lag: OnLag,
    at: usize,
    /// Skipped by a limit that has been replaced.
    skipped: usize,
    rest: Vec<Event>,
    closed: bool,
}

impl Naive {
    fn is_within(&self, items: &[Vec<Event>]) -> bool {
        let bytes = |item: &Vec<Event>| item.iter().map(|event| u64::from(event.1)).sum::<u64>();
        let sum: u64 = items.iter().map(|item| bytes(item).max(1)).sum();
        items.len() <= 1
            || (items.len() as u64 <= self.items && self.bytes.is_none_or(|most| sum <= most))
    }

    /// Keeps the limit.
    fn catch_up(&mut self, published: &[Vec<Event>]) {
        let mut oldest = self.at;
        while !self.is_within(&published[oldest..]) {
            oldest += 1;
        }
        match self.on_lag {
            OnLag::Close => {
                self.closed |= oldest > self.at;
                return;
            }
            OnLag::SkipToNewest if oldest > self.at => {
                oldest = oldest.max(published.len() - 1);
            }
            _ => {}
        }
        self.skipped += oldest - self.at;
        self.at = oldest;
    }

    fn read(&mut self, published: &[Vec<Event>]) -> Result<Event, TryRecvError> {
        if !self.rest.is_empty() {
            return Ok(self.rest.remove(0));
        }
        self.catch_up(published);
        let skipped = std::mem::take(&mut self.skipped);
        if skipped > 0 && !self.closed {
            self.rest.clone_from(&published[self.at]);
            self.at += 1;
            return Err(TryRecvError::Lagged(skipped as u64));
        }
        let item = published.get(self.at).filter(|_| !self.closed);
        let Some(item) = item else {
            return Err(TryRecvError::Empty);
        };
        self.at += 1;
        self.rest.clone_from(item);
        Ok(self.rest.remove(0))
    }
}

fn limit_of(items: Option<u64>, bytes: Option<u64>, on_lag: OnLag) -> LagLimit<Event> {
    let limit = LagLimit::items(items.unwrap_or(u64::MAX)).on_lag(on_lag);
    match bytes {
        Some(bytes) => limit.and_bytes(bytes),
        None => limit,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// What is received is what the documentation says, whenever the writer happens to look and whatever panics.
    #[test]
    fn as_a_naive_reader(steps in vec(step(), 1..80)) {
        let _watchdog = watchdog();
        let mut buffer = unretained();
        let mut published: Vec<Vec<Event>> = Vec::new();
        let mut readers: Vec<(Limited<Event>, Naive)> = Vec::new();
        let mut bombs = 0;
        for step in steps {
            let mut event = |n, size| {
                let is_bomb = bombs > 0;
                bombs -= usize::from(is_bomb);
                Event(n, size, is_bomb)
            };
            let n = published.len();
            let count = readers.len().max(1);
            match step {
                Step::Push(size) => {
                    let event = event(n, size);
                    published.push(vec![event.clone()]);
                    caught(|| buffer.push(event));
                }
                Step::Append(size, events) => {
                    let item: Vec<_> = (0..events).map(|_| event(n, size)).collect();
                    published.extend((events > 0).then(|| item.clone()));
                    caught(|| buffer.append(item));
                }
                Step::Extend(size, items) => {
                    let items: Vec<_> = (n..n + items).map(|n| event(n, size)).collect();
                    published.extend(items.iter().map(|event| vec![event.clone()]));
                    caught(|| buffer.extend(items));
                }
                Step::Bomb(count) => bombs = count,
                Step::Subscribe(items, bytes, on_lag) => {
                    let limit = limit_of(items, bytes, on_lag);
                    let limited = caught(|| buffer.subscribe().limited(limit));
                    readers.extend(limited.map(|limited| (limited, Naive {
                        items: items.unwrap_or(u64::MAX).max(1),
                        bytes,
                        on_lag,
                        at: n,
                        skipped: 0,
                        rest: Vec::new(),
                        closed: false,
                    })));
                }
                Step::Read(reader, n) => if let Some((reader, naive)) = readers.get_mut(reader % count) {
                    for _ in 0..n {
                        let expected = naive.read(&published);
                        // One that panics takes nothing.
                        let mut answer = caught(|| reader.try_recv());
                        while answer.is_none() {
                            answer = caught(|| reader.try_recv());
                        }
                        match answer {
                            Some(Err(TryRecvError::ForceClosed(_))) => prop_assert!(naive.closed),
                            answer => prop_assert_eq!(answer, Some(expected)),
                        }
                    }
                }
                Step::Wait(reader, panics) => if let Some((reader, naive)) = readers.get_mut(reader % count) {
                    let waker = match panics {
                        Panics::Never => Arc::new(Task).into(),
                        Panics::Woken => Arc::new(PanicsWhenWoken).into(),
                        Panics::Dropped => Arc::new(PanicsWhenDropped).into(),
                    };
                    let mut cx = Context::from_waker(&waker);
                    let expected = naive.read(&published);
                    let polled = loop {
                        if let Some(polled) = caught(|| reader.poll_next_unpin(&mut cx)) {
                            break polled;
                        }
                    };
                    caught(|| drop(waker));
                    match polled {
                        Poll::Pending => prop_assert_eq!(expected, Err(TryRecvError::Empty)),
                        Poll::Ready(Some(Ok(event))) => prop_assert_eq!(expected, Ok(event)),
                        Poll::Ready(Some(Err(RecvError::Lagged(n)))) => {
                            prop_assert_eq!(expected, Err(TryRecvError::Lagged(n)));
                        }
                        Poll::Ready(_) => prop_assert!(naive.closed),
                    }
                }
                Step::Close(reader) => if let Some((reader, naive)) = readers.get_mut(reader % count) {
                    caught(|| reader.closer().close("enough"));
                    naive.closed = true;
                    naive.rest.clear();
                }
                Step::Clone(reader) => if let Some((reader, naive)) = readers.get(reader % count) {
                    let clone = caught(|| reader.clone());
                    let naive = naive.clone();
                    readers.extend(clone.map(|clone| (clone, naive)));
                }
                Step::SetLimit(reader, items, bytes, on_lag) if !readers.is_empty() => {
                    let (mut reader, mut naive) = readers.swap_remove(reader % count);
                    let limit = limit_of(items, bytes, on_lag);
                    // Either limit may hold if that panics.
                    if caught(|| reader.set_limit(limit)).is_some() {
                        naive.catch_up(&published);
                        if !naive.closed {
                            naive.items = items.unwrap_or(u64::MAX).max(1);
                            (naive.bytes, naive.on_lag) = (bytes, on_lag);
                        }
                        readers.push((reader, naive));
                    } else {
                        caught(|| drop(reader));
                    }
                }
                Step::SetLimit(..) => {}
                Step::Leave(reader) => if !readers.is_empty() {
                    let (reader, _) = readers.swap_remove(reader % count);
                    caught(|| drop(reader));
                }
                Step::Splice => {
                    let next = unretained();
                    let place = next.tail();
                    let ended = std::mem::replace(&mut buffer, next);
                    caught(|| ended.splice(place));
                }
            }
        }
        // With a reader that goes, everything goes.
        caught(|| drop(readers));
        prop_assert!(!buffer.is_observed());
        prop_assert_eq!(buffer.retained(), 0);
        caught(|| drop(buffer));
    }
}

#[test]
fn a_reader_that_was_closed_for_its_bytes_keeps_nothing() {
    let _watchdog = watchdog();
    for by_its_own_read in [false, true] {
        let alive = Arc::new(AtomicUsize::new(0));
        let mut buffer = unretained();
        let limit = LagLimit::bytes(1_000).on_lag(OnLag::Close);
        let mut closed = buffer.subscribe().limited(limit);
        if by_its_own_read {
            buffer.extend((0..11).map(|n| Counted::new(n, &alive)));
            assert!(matches!(
                closed.try_recv(),
                Err(TryRecvError::ForceClosed(_))
            ));
        }
        (0..1_000).for_each(|n| buffer.push(Counted::new(n, &alive)));
        assert_eq!(alive.load(SeqCst), 0);

        // What asked for sizes was given up with it. The next reader has it done anew.
        let next = buffer.subscribe().limited(LagLimit::bytes(1_000));
        (0..1_000).for_each(|n| buffer.push(Counted::new(n, &alive)));
        assert!((10..=11).contains(&alive.load(SeqCst)));
        drop((closed, next));
    }
}

#[test]
fn readers_limited_in_bytes_share_who_asks_but_not_the_limit() {
    let _watchdog = watchdog();
    let alive = Arc::new(AtomicUsize::new(0));
    let mut buffer = unretained();
    let mut behind = buffer.subscribe();
    let mut one = buffer.subscribe().limited(LagLimit::bytes(10_000));
    for n in 0..50 {
        buffer.push(Counted::new(n, &alive));
    }
    let mut other = buffer.subscribe().limited(LagLimit::bytes(1_000));
    // Of one that is set with a backlog: at once.
    let mut late = behind.clone().limited(LagLimit::bytes(2_000));
    assert_eq!(late.lag(), 20);
    while behind.try_recv().is_ok() {}
    for n in 50..150 {
        buffer.push(Counted::new(n, &alive));
        drop(behind.try_recv());
        assert!(late.lag() <= 22 && other.lag() <= 11 && one.lag() <= 112);
    }
    assert!(matches!(one.try_recv(), Err(TryRecvError::Lagged(50))));
    assert!(matches!(other.try_recv(), Err(TryRecvError::Lagged(90))));
    assert!(matches!(late.try_recv(), Err(TryRecvError::Lagged(130))));
    drop((one, late, behind));
    for n in 0..100 {
        buffer.push(Counted::new(n, &alive));
        assert!(n < BLOCK as u64 || alive.load(SeqCst) <= 12);
    }
}

#[test]
fn what_was_skipped_before_an_event_whose_clone_panics_is_told_with_the_event() {
    struct Fragile(u8, Arc<AtomicBool>);

    impl Clone for Fragile {
        fn clone(&self) -> Self {
            assert!(!self.1.load(SeqCst), "asked for");
            Self(self.0, self.1.clone())
        }
    }

    let _watchdog = watchdog();
    let panics = Arc::new(AtomicBool::new(true));
    let mut buffer = unretained();
    let mut reader = buffer.subscribe().limited(LagLimit::items(1));
    buffer.extend((0..4).map(|n| Fragile(n, panics.clone())));
    for _ in 0..2 {
        assert!(catch_unwind(AssertUnwindSafe(|| reader.try_recv().is_ok())).is_err());
    }
    panics.store(false, SeqCst);
    assert!(matches!(reader.try_recv(), Err(TryRecvError::Lagged(3))));
    assert_eq!(reader.try_recv().ok().map(|event| event.0), Some(3));
}

#[test]
fn who_leaves_while_its_limit_is_enforced_is_gone_at_once() {
    type Reader = Arc<std::sync::Mutex<Option<Limited<Leaver>>>>;

    /// Drops the reader when it is asked for its size, and says whether anybody observes the buffer then.
    struct Leaver(SharedBuffer<Leaver>, Reader, Arc<AtomicUsize>);

    impl Clone for Leaver {
        fn clone(&self) -> Self {
            unreachable!("nobody reads");
        }
    }

    impl ByteSize for Leaver {
        fn byte_size(&self) -> usize {
            drop(self.1.lock().unwrap().take());
            let observed = usize::from(self.0.is_observed());
            self.2.store(1 + observed, SeqCst);
            1_000
        }
    }

    let _watchdog = watchdog();
    let shared = SharedBuffer::from(unretained());
    let observed = Arc::new(AtomicUsize::new(0));
    let limited = shared.subscribe().limited(LagLimit::bytes(1));
    let reader = Reader::new(Some(limited).into());
    shared
        .push(Leaver(shared.clone(), reader, observed.clone()))
        .unwrap();
    assert_eq!(observed.load(SeqCst), 1);
}

#[test]
fn the_size_is_that_of_the_event_and_of_what_it_owns() {
    fn size<T: ByteSize + ?Sized>(event: &T) -> usize {
        event.byte_size()
    }

    let _watchdog = watchdog();
    let mut text = String::with_capacity(100);
    text.push('a');
    let mut bytes = Vec::<u8>::with_capacity(100);
    bytes.push(1);
    assert_eq!(size(&text), size_of::<String>() + text.capacity());
    assert_eq!(size(&bytes), size_of::<Vec<u8>>() + bytes.capacity());
    assert_eq!(size(&Box::<str>::from("seven__")), 16 + 7);
    assert_eq!(size(&Box::<[u8]>::from([0; 7])), 16 + 7);
    assert_eq!(size("seven__"), 7);
    assert_eq!(size(&[0_u8; 7][..]), 7);
    assert_eq!(size(&"seven__"), 7);
    assert_eq!(size(&Arc::<str>::from("seven__")), 7);
}

#[test]
fn a_reader_that_was_closed_for_its_lag_is_told_how_far_behind_it_was() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let limit = LagLimit::items(1).on_lag(OnLag::Close);
    let mut reader = buffer.subscribe().limited(limit);
    buffer.extend(0..12);
    let Err(TryRecvError::ForceClosed(reason)) = reader.try_recv() else {
        panic!()
    };
    let said = "too far behind: 12 items not received";
    assert_eq!(reason.to_string(), said);
}

/// However far it goes over the limit, from not at all on.
#[test]
fn after_a_batch_an_eighth_more_is_kept_at_most() {
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
fn who_skips_to_the_newest_keeps_no_other() {
    let _watchdog = watchdog();
    let alive = Arc::new(AtomicUsize::new(0));
    let mut buffer = unretained();
    let limit = LagLimit::items(10).on_lag(OnLag::SkipToNewest);
    let _stuck = buffer.subscribe().limited(limit);
    buffer.extend((0..1_000).map(|n| Counted::new(n, &alive)));
    assert_eq!(alive.load(SeqCst), 1);
}

/// May publish others when it is asked for its size.
struct Nested {
    size: usize,
    asked: Arc<AtomicUsize>,
    /// Where to publish two of size 1, each time that it is asked, the last first.
    others: std::sync::Mutex<Vec<Option<SharedBuffer<Nested>>>>,
}

impl Nested {
    fn new(size: usize, asked: &Arc<AtomicUsize>) -> Self {
        Self {
            size,
            asked: asked.clone(),
            others: std::sync::Mutex::default(),
        }
    }
}

impl Clone for Nested {
    fn clone(&self) -> Self {
        Self::new(self.size, &self.asked)
    }
}

impl ByteSize for Nested {
    fn byte_size(&self) -> usize {
        self.asked.fetch_add(1, SeqCst);
        let shared = self.others.lock().unwrap().pop().flatten();
        if let Some(shared) = shared {
            // A batch, with which the writer looks.
            shared
                .extend([1, 1].map(|size| Self::new(size, &self.asked)))
                .unwrap();
        }
        self.size
    }
}

/// Each is asked by whoever publishes it, in the midst of another one, too.
#[test]
fn items_published_while_another_is_asked_count_once() {
    let _watchdog = watchdog();
    let asked = Arc::new(AtomicUsize::new(0));
    let shared = SharedBuffer::from(unretained());
    let mut reader = shared.subscribe().limited(LagLimit::bytes(16));
    let first = Nested::new(9, &asked);
    first.others.lock().unwrap().push(Some(shared.clone()));
    shared.push(first).unwrap();
    let sizes: Vec<_> = std::iter::from_fn(|| reader.try_recv().ok()).collect();
    let sizes: Vec<_> = sizes.iter().map(|event| event.size).collect();
    assert_eq!(sizes, [9, 1, 1], "all are within the limit");
    assert_eq!(asked.load(SeqCst), 3);

    // The sizes of those that came in between count for what is after them, too.
    let first = Nested::new(9, &asked);
    first.others.lock().unwrap().push(Some(shared.clone()));
    shared.push(first).unwrap();
    (0..5).for_each(|_| shared.push(Nested::new(1, &asked)).unwrap());
    assert_eq!(reader.lag(), 8);
    shared.push(Nested::new(1, &asked)).unwrap();
    assert!(matches!(reader.try_recv(), Err(TryRecvError::Lagged(1))));
    assert_eq!(reader.lag(), 8);
}

/// But for the eighth more that is allowed.
#[test]
fn a_limit_in_bytes_is_kept_at_each_item_after_a_size_that_panics() {
    #[derive(Clone)]
    struct Bomb(bool, #[expect(dead_code)] Counted);

    impl ByteSize for Bomb {
        fn byte_size(&self) -> usize {
            assert!(!self.0, "asked for");
            1
        }
    }

    let _watchdog = watchdog();
    let alive = Arc::new(AtomicUsize::new(0));
    let mut buffer = unretained();
    let _stuck = buffer.subscribe().limited(LagLimit::bytes(10));
    for n in 0..1_000 {
        let event = Bomb(n % 100 == 99, Counted::new(n, &alive));
        let push = AssertUnwindSafe(|| buffer.push(event));
        let _asked_for = catch_unwind(push);
        if n > BLOCK as u64 {
            assert!(alive.load(SeqCst) <= 11, "after {n}");
        }
    }
}

/// Wherever in a block it is that a limit is due.
#[test]
fn an_eighth_more_and_a_block_is_kept_at_most() {
    let _watchdog = watchdog();
    for limit in 1..70 {
        let alive = Arc::new(AtomicUsize::new(0));
        let mut buffer = unretained();
        let _stuck = buffer.subscribe().limited(LagLimit::items(limit));
        // Of a block all but the item with which it is looked.
        let most = usize::try_from(limit + limit / 8 + 15).unwrap();
        for n in 0..300 {
            buffer.push(Counted::new(n, &alive));
            assert!(alive.load(SeqCst) <= most, "{limit}, after {n}");
        }
    }
}

#[test]
fn a_stream_that_is_dropped_while_it_waits_leaves_the_list() {
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

/// Those of a crowd that are gone are taken out of the lists, and it is not.
#[test]
fn a_limit_in_bytes_is_kept_beside_a_crowd_that_comes_and_goes() {
    let _watchdog = watchdog();
    let alive = Arc::new(AtomicUsize::new(0));
    let mut buffer = unretained();
    let _stuck = buffer.subscribe().limited(LagLimit::bytes(1_000));
    for _ in 0..100 {
        drop(buffer.subscribe().limited(LagLimit::items(10)));
    }
    for n in 0..1_000 {
        buffer.push(Counted::new(n, &alive));
        assert!(n < BLOCK as u64 || alive.load(SeqCst) <= 11, "after {n}");
    }
}

#[test]
fn an_event_is_asked_once_for_a_crowd_that_has_room() {
    let _watchdog = watchdog();
    let asked = Arc::new(AtomicUsize::new(0));
    let mut buffer = unretained();
    let crowd = (0..10).map(|_| buffer.subscribe().limited(LagLimit::bytes(1_000)));
    let _crowd: Vec<_> = crowd.collect();
    buffer.push(Nested::new(1, &asked));
    assert_eq!(asked.load(SeqCst), 1);
}

/// In the buffer spliced to, or in the other where there is nobody any more in that.
#[test]
fn who_is_limited_in_bytes_after_a_splice_shares_who_asks() {
    let _watchdog = watchdog();
    let (items, bytes) = (LagLimit::items(1_000), LagLimit::bytes(1_000));
    for leaves in [false, true] {
        let asked = Arc::new(AtomicUsize::new(0));
        let (mut live, snapshot) = (unretained(), unretained());
        let in_live = Some(live.subscribe().limited(bytes));
        let in_live = in_live.filter(|_| !leaves);
        let ahead = snapshot
            .subscribe()
            .limited(if leaves { bytes } else { items });
        snapshot.splice(live.tail());
        let late = live.subscribe().limited(bytes);
        live.push(Nested::new(1, &asked));
        assert_eq!(asked.load(SeqCst), 1, "leaves: {leaves}");
        drop((in_live, ahead, late));
    }
}

/// It has said the reason already.
#[test]
fn a_stream_that_has_ended_is_over_where_it_is_limited_too() {
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

/// They share a place, at the greatest of their limits.
/// One that was published before sizes were asked, and whose wake-up comes after that.
#[test]
fn an_item_that_is_told_late_counts_once() {
    let _watchdog = watchdog();
    let mut buffer = unretained();
    let (stuck, reader) = (buffer.subscribe(), buffer.subscribe());
    let _stuck = stuck.limited(LagLimit::items(1));
    buffer.push(vec![0; 20]);
    let deferred = buffer.push_deferred(vec![0; 20]);
    let two = 2 * vec![0; 20].byte_size() as u64;
    let mut reader = reader.limited(LagLimit::bytes(two));
    drop(deferred);
    assert_eq!(reader.lag(), 2);
    assert!(reader.try_recv().is_ok(), "nothing was skipped");
}

#[test]
fn stuck_readers_keep_what_the_greatest_of_their_limits_says() {
    let _watchdog = watchdog();
    let alive = Arc::new(AtomicUsize::new(0));
    let mut buffer = unretained();
    let readers = (0..100).map(|n| buffer.subscribe().limited(LagLimit::items(1_000 + n)));
    let mut readers: Vec<_> = readers.collect();
    (0..10_000).for_each(|n| buffer.push(Counted::new(n, &alive)));
    assert!(alive.load(SeqCst) <= 1_099 + 1_099 / 8 + BLOCK);
    // The one with the greatest limit leaves, then others come back in any order.
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

/// Each in a buffer of its own, spliced to one, where they meet.
#[test]
fn stuck_readers_that_meet_by_splices_share_a_place() {
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
        stuck.push(snapshot.subscribe().limited(limit));
        snapshot.extend((0..20).map(|n| Counted::new(n, &alive)));
        snapshot.splice(live.tail());
    }
    (0..1_000).for_each(|n| live.push(Counted::new(n, &alive)));
    assert!(alive.load(SeqCst) <= 10 + 1 + BLOCK);
    for reader in &mut stuck {
        assert_eq!(reader.try_recv().unwrap_err(), TryRecvError::Lagged(1_010));
        assert_eq!(reader.try_recv().unwrap().0, 990);
    }
    drop(stuck);
    assert_eq!(alive.load(SeqCst), 0);
}
