//! Events, sizes and wakers that panic or use the buffer while a limit is enforced.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::task::Context;
use std::thread;

use event_buffer::{ByteSize, EventBuffer, LagLimit, Limited, SharedBuffer, TryRecvError};
use futures::{FutureExt, StreamExt};

use crate::support::counted::{BLOCK, Counted};
use crate::support::{PanicsWhenDropped, PanicsWhenWoken, unretained, watchdog};

/// An event of one byte whose `byte_size` panics if its flag is set.
#[derive(Clone)]
struct Bomb(bool, #[expect(dead_code)] Counted);

impl ByteSize for Bomb {
    fn byte_size(&self) -> usize {
        assert!(!self.0, "asked for");
        1
    }
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
fn a_panicking_drop_at_a_limit_loses_no_other_event() {
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

    // An event that has been cloned is not lost if the drop of the original panics.
    buffer.push(Explosive(100, true));
    drop(other);
    assert!(catch_unwind(AssertUnwindSafe(|| stuck.try_recv().ok())).is_err());
    assert_eq!(stuck.try_recv().map(|event| event.0).ok(), Some(100));
}

#[test]
fn user_code_may_use_the_buffer_and_the_reader() {
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

#[test]
fn a_panicking_waker_does_not_prevent_a_limit_from_being_enforced() {
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

/// The reader is in the midst of a read then, so it enforces its limit at the end of that.
#[test]
fn a_limit_that_is_exceeded_while_an_event_is_cloned_is_enforced_afterwards() {
    /// Publishes more than the limit while it is cloned, and then panics if so made.
    struct Overtaken(Counted, Option<(SharedBuffer<Overtaken>, bool)>);

    impl Clone for Overtaken {
        fn clone(&self) -> Self {
            if let Some((shared, panics)) = &self.1 {
                publish(shared, &self.0);
                assert!(!panics, "asked for");
            }
            Self(self.0.clone(), None)
        }
    }

    fn publish(shared: &SharedBuffer<Overtaken>, event: &Counted) {
        for _ in 0..1_000 {
            shared.push(Overtaken(event.clone(), None)).unwrap();
        }
    }

    let _watchdog = watchdog();
    for panics in [false, true] {
        let alive = Arc::new(AtomicUsize::new(0));
        let shared = SharedBuffer::from(unretained());
        let mut reader = shared.subscribe().limited(LagLimit::items(10));
        let event = Counted::new(0, &alive);
        let overtaken = Overtaken(event.clone(), Some((shared.clone(), panics)));
        shared.push(overtaken).unwrap();
        let read = catch_unwind(AssertUnwindSafe(|| reader.try_recv().is_ok()));
        assert_eq!(read.is_err(), panics);
        assert!(alive.load(SeqCst) <= 10 + BLOCK);
        // It is never read again, and the writer moves it on.
        publish(&shared, &event);
        assert!(alive.load(SeqCst) <= 10 + BLOCK);
    }
}

#[test]
fn a_size_that_panics_does_not_end_the_limit() {
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

/// A panicking drop of a waker during a read does not lose the event that it read.
#[test]
fn a_panic_in_a_read_does_not_lose_the_event() {
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
    // Published, but no task is woken yet.
    let deferred = buffer.push_deferred(1);
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let read = AssertUnwindSafe(|| drop(stream.poll_next_unpin(&mut cx)));
    assert!(catch_unwind(read).is_err());
    assert_eq!(stream.try_recv(), Ok(1));
    drop(deferred);
}

#[test]
fn a_panicking_drop_while_a_limit_is_set_leaks_nothing() {
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

/// The reader has passed an event whose destructor panics, and drops it when it is limited.
#[test]
fn a_panicking_drop_while_a_byte_limit_is_set_ends_no_other_limit() {
    #[derive(Clone)]
    struct Explosive(bool, #[expect(dead_code)] Arc<()>);

    impl Drop for Explosive {
        fn drop(&mut self) {
            assert!(!self.0 || thread::panicking(), "asked for");
        }
    }

    impl ByteSize for Explosive {
        fn byte_size(&self) -> usize {
            1
        }
    }

    let _watchdog = watchdog();
    let event = Arc::new(());
    let mut buffer = unretained();
    let mut reader = buffer.subscribe();
    buffer.extend([true, false, false].map(|bomb| Explosive(bomb, event.clone())));
    let stuck = buffer.subscribe().limited(LagLimit::bytes(10));
    // By reference, so that the event stays behind the reader.
    reader.next_chunk().now_or_never().unwrap().unwrap().next();
    let limited = AssertUnwindSafe(|| drop(reader.limited(LagLimit::bytes(10))));
    assert!(catch_unwind(limited).is_err());
    for _ in 0..1_000 {
        buffer.push(Explosive(false, event.clone()));
    }
    assert!(
        Arc::strong_count(&event) < 20,
        "the other limit is enforced"
    );
    drop(stuck);
    assert!(!buffer.is_observed());
}

#[test]
fn a_skip_before_a_panicking_clone_is_reported_with_the_event() {
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
fn a_reader_dropped_while_its_limit_is_enforced_is_removed_at_once() {
    type Reader = Arc<std::sync::Mutex<Option<Limited<Leaver>>>>;

    /// Drops the reader in `byte_size`, and records whether the buffer is still observed.
    struct Leaver(SharedBuffer<Leaver>, Reader, Arc<AtomicUsize>);

    impl Clone for Leaver {
        fn clone(&self) -> Self {
            unreachable!("nothing is read");
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

/// But for the eighth more that is allowed.
#[test]
fn a_limit_in_bytes_is_kept_at_each_item_after_a_size_that_panics() {
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
