//! Destructors that panic: what is in memory afterwards.

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::{Arc, Mutex};
use std::thread;

use event_buffer::{EventBuffer, Replay};
use futures::FutureExt;

use crate::support::{panics, retaining, watchdog};

/// An event counted by its `Arc`, with a drop that panics if its flag is set.
#[derive(Clone)]
struct Event(#[expect(dead_code)] Arc<()>, bool);

impl Drop for Event {
    fn drop(&mut self) {
        assert!(!self.1 || thread::panicking(), "as planned");
    }
}

#[test]
fn a_panicking_drop_does_not_change_the_length_of_the_window() {
    let _watchdog = watchdog();
    let event = Arc::new(());
    let mut buffer = EventBuffer::builder().replay(Replay::Last(2)).build();
    panics(|| buffer.extend((0..10).map(|n| Event(event.clone(), n == 0))));
    assert_eq!(buffer.retained(), 2);
    assert_eq!(Arc::strong_count(&event), 1 + 2);
}

#[test]
fn a_panicking_drop_does_not_leak_other_events_a_reader_has_passed() {
    let _watchdog = watchdog();
    let event = Arc::new(());
    let mut buffer = EventBuffer::builder().replay(Replay::None).build();
    let mut reader = buffer.subscribe();
    buffer.extend((0..10).map(|n| Event(event.clone(), n == 0)));
    let chunk = reader.next_chunk().now_or_never().unwrap();
    assert_eq!(chunk.unwrap().count(), 10);
    panics(|| drop(reader.try_recv()));
    assert_eq!(Arc::strong_count(&event), 1);
}

/// A second reader stands between the events that the first one passes.
#[test]
fn a_panicking_drop_does_not_leak_events_another_reader_passes_later() {
    let _watchdog = watchdog();
    let event = Arc::new(());
    let mut buffer = EventBuffer::builder().replay(Replay::None).build();
    let mut reader = buffer.subscribe();
    buffer.extend((0..5).map(|n| Event(event.clone(), n == 0)));
    let other = buffer.subscribe();
    buffer.extend((5..10).map(|_| Event(event.clone(), false)));
    let chunk = reader.next_chunk().now_or_never().unwrap();
    assert_eq!(chunk.unwrap().count(), 10);
    panics(|| drop(reader.try_recv()));
    drop(other);
    assert_eq!(Arc::strong_count(&event), 1);
}

/// An event that records its drop, which panics if its number is below 100.
struct Bomb(u32, Arc<Mutex<Vec<u32>>>);

impl Drop for Bomb {
    fn drop(&mut self) {
        self.1.lock().unwrap().push(self.0);
        assert!(self.0 >= 100 || std::thread::panicking(), "as planned");
    }
}

fn caught(f: impl FnOnce()) {
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
}

#[test]
fn a_panicking_drop_leaves_the_right_events_in_the_window() {
    let _watchdog = watchdog();
    let windows = [(1, 1), (1, 2), (2, 1), (2, 3), (3, 2)];
    let cases = windows.map(|case| [(case, false), (case, true)]);
    for ((window, batch), followed) in cases.into_iter().flatten() {
        let dropped = Arc::new(Mutex::new(Vec::new()));
        let mut buffer = retaining(Replay::Last(window));
        let mut reader = followed.then(|| buffer.subscribe());
        let mut next = 0;
        let mut bombs = |n: u32| {
            let from = next;
            next += n;
            (from..next)
                .map(|n| Bomb(n, dropped.clone()))
                .collect::<Vec<_>>()
        };
        for round in 0..20 {
            caught(|| buffer.extend(bombs(batch)));
            caught(|| buffer.push(bombs(1).remove(0)));
            if round % 3 == 0 {
                caught(|| reader = reader.is_some().then(|| buffer.subscribe()));
            }
            let newest = (round + 1) * (batch + 1) - 1;
            assert_eq!(buffer.latest().unwrap()[0].0, newest);
            // Events that a panic kept from being freed are freed by the next call.
            let kept = buffer.subscribe_from_start().lag();
            assert_eq!(kept, buffer.retained() as u64);
        }
        caught(|| drop(reader));
        for n in 100..150 {
            caught(|| buffer.push(Bomb(n, dropped.clone())));
            assert_eq!(buffer.latest().unwrap()[0].0, n);
            assert!(!dropped.lock().unwrap().contains(&n), "it is retained");
        }
        assert_eq!(buffer.retained(), window);
        caught(|| drop(buffer));
        let mut dropped = std::mem::take(&mut *dropped.lock().unwrap());
        dropped.retain(|n| *n < 100);
        dropped.sort_unstable();
        assert_eq!(dropped, (0..next).collect::<Vec<_>>(), "each once");
    }
}

/// What a panic carries may panic when it is dropped.
#[test]
fn an_event_and_a_panic_payload_that_both_panic_lose_no_other_event() {
    struct Carried;

    impl Drop for Carried {
        fn drop(&mut self) {
            if !thread::panicking() {
                // Without an allocation, which would be leaked.
                panic_any(());
            }
        }
    }

    struct Event(bool, #[expect(dead_code)] Arc<()>);

    impl Drop for Event {
        fn drop(&mut self) {
            if self.0 && !thread::panicking() {
                panic_any(Carried);
            }
        }
    }

    let _watchdog = watchdog();
    let alive = Arc::new(());
    let mut buffer = EventBuffer::builder().replay(Replay::None).build();
    let reader = buffer.subscribe();
    for panics in [true, true, false, true, false] {
        buffer.push(Event(panics, alive.clone()));
    }
    let panic = catch_unwind(AssertUnwindSafe(|| drop(reader))).unwrap_err();
    assert!(catch_unwind(AssertUnwindSafe(|| drop(panic))).is_err());
    drop(buffer);
    assert_eq!(Arc::strong_count(&alive), 1);
}

/// When it is dropped.
struct Panics(#[expect(dead_code)] Arc<()>);

impl Drop for Panics {
    fn drop(&mut self) {
        panic!("asked for");
    }
}

#[test]
fn an_unobserved_batch_is_dropped_entirely_even_if_drops_panic() {
    let _watchdog = watchdog();
    let alive = Arc::new(());
    let mut buffer = EventBuffer::builder().replay(Replay::None).build();
    let events = [(); 5].map(|()| Panics(alive.clone()));
    assert!(catch_unwind(AssertUnwindSafe(|| buffer.extend(events))).is_err());
    assert_eq!(Arc::strong_count(&alive), 1);
}

/// A second panic that leaves a drop would abort the process.
#[test]
fn a_panicking_drop_during_unwinding_does_not_abort() {
    let _watchdog = watchdog();
    let alive = Arc::new(());
    let mut buffer = retaining(Replay::None);
    let reader = buffer.subscribe();
    buffer.extend([(); 5].map(|()| Panics(alive.clone())));
    let panics = AssertUnwindSafe(|| {
        let _reader = reader;
        panic!("asked for");
    });
    assert!(catch_unwind(panics).is_err());
    assert_eq!(Arc::strong_count(&alive), 1);
}
