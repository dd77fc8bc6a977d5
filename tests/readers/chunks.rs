//! Chunks that are dropped in the middle of an item, and events that cannot be cloned.

use std::panic::{AssertUnwindSafe, catch_unwind};

use event_buffer::{EventBuffer, LagLimit, RecvError, Replay, Subscription, TryRecvError};
use futures::FutureExt;

use crate::support::{panics, watchdog};

/// Two items of three events and two of one: 0 1 2 | 3 | 4 5 6 | 7.
fn items() -> (EventBuffer<u32>, Subscription<u32>) {
    let mut buffer = EventBuffer::builder().replay(Replay::All).build();
    let reader = buffer.subscribe();
    buffer.append(0..3);
    buffer.push(3);
    buffer.append(4..7);
    buffer.push(7);
    (buffer, reader)
}

fn chunk(reader: &mut Subscription<u32>) -> event_buffer::Chunk<'_, u32> {
    reader.next_chunk().now_or_never().unwrap().unwrap()
}

/// The events after the first `events`.
fn after(events: usize) -> impl Iterator<Item = u32> {
    (0..8).skip(events)
}

/// Ways to leave a chunk after a number of events.
const LEAVE: [fn(&mut Subscription<u32>, usize); 4] = [
    |reader, events| chunk(reader).take(events).for_each(drop),
    |reader, events| {
        let mut chunk = chunk(reader);
        (0..events).for_each(|_| _ = chunk.next());
    },
    // A panic in the body of a loop, and in the closure of a fold.
    |reader, events| {
        let body = AssertUnwindSafe(|| {
            for (n, _) in chunk(reader).enumerate() {
                assert!(n + 1 < events, "as planned");
            }
        });
        assert_eq!(catch_unwind(body).is_err(), events > 0);
    },
    |reader, events| {
        let mut left = events;
        let body = AssertUnwindSafe(|| {
            chunk(reader).for_each(|_| {
                left -= 1;
                assert!(left > 0, "as planned");
            });
        });
        catch_unwind(body).unwrap_err();
    },
];

#[test]
fn events_that_a_loop_did_not_reach_are_in_the_next_chunk() {
    let _watchdog = watchdog();
    for leave in LEAVE {
        for events in 1..8 {
            let (_buffer, mut reader) = items();
            leave(&mut reader, events);
            let rest: Vec<u32> = chunk(&mut reader).copied().collect();
            assert!(rest.into_iter().eq(after(events)));
            assert_eq!(reader.lag(), 0);
        }
    }
}

#[test]
fn events_that_a_loop_did_not_reach_are_cloned() {
    let _watchdog = watchdog();
    for leave in LEAVE {
        for events in 1..8 {
            let (_buffer, mut reader) = items();
            leave(&mut reader, events);
            let copy = reader.clone().cloned();
            let limited = reader.clone().limited(LagLimit::items(100));
            let rest: Vec<u32> = after(events).collect();
            let (mut reader, mut copy, mut limited) = (reader.cloned(), copy, limited);
            let all = std::iter::from_fn(|| reader.try_recv().ok());
            assert_eq!(all.collect::<Vec<_>>(), rest);
            let all = std::iter::from_fn(|| copy.try_recv().ok());
            assert_eq!(all.collect::<Vec<_>>(), rest);
            let all = std::iter::from_fn(|| limited.try_recv().ok());
            assert_eq!(all.collect::<Vec<_>>(), rest);
        }
    }
}

/// A handle cannot hold half of an item.
#[test]
fn a_partly_read_item_is_received_whole() {
    let _watchdog = watchdog();
    for (events, whole, lag) in [
        (1, &[0, 1, 2][..], 4),
        (3, &[3], 3),
        (4, &[4, 5, 6], 2),
        (6, &[4, 5, 6], 2),
        (7, &[7], 1),
    ] {
        let (_buffer, mut reader) = items();
        chunk(&mut reader).take(events).for_each(drop);
        assert_eq!(reader.lag(), lag, "after {events}");
        assert_eq!(reader.position().lag(), lag);
        assert_eq!(reader.try_recv().unwrap().events(), whole);
        assert_eq!(reader.lag(), lag - 1);
    }
}

#[test]
fn events_yielded_by_a_leaked_chunk_are_received() {
    let _watchdog = watchdog();
    let (_buffer, mut reader) = items();
    let mut leaked = chunk(&mut reader);
    leaked.by_ref().take(5).for_each(drop);
    #[allow(clippy::forget_non_drop, reason = "it might have a drop")]
    std::mem::forget(leaked);
    assert_eq!(chunk(&mut reader).next(), Some(&5));
}

/// An event whose `clone` panics if it is 13.
#[derive(Debug, PartialEq)]
struct Fragile(u32);

impl Clone for Fragile {
    fn clone(&self) -> Self {
        assert!(self.0 != 13, "as planned");
        Self(self.0)
    }
}

/// The events beside it are delivered, wherever it is in its item.
#[test]
fn a_poison_event_can_be_skipped() {
    let _watchdog = watchdog();
    for poison in 0..3 {
        let mut buffer = EventBuffer::new();
        let mut cloned = buffer.subscribe().cloned();
        let mut limited = buffer.subscribe().limited(LagLimit::items(100));
        assert!(!cloned.skip_event() && !limited.skip_event());
        let events = |n| if n == poison { 13 } else { n };
        buffer.append((0..3).map(events).map(Fragile));
        buffer.push(Fragile(3));
        for n in 0..4 {
            if n == poison {
                for _ in 0..3 {
                    panics(|| cloned.try_recv());
                    panics(|| limited.try_recv());
                }
                assert_eq!((cloned.lag(), limited.lag()), (2, 2));
                assert!(cloned.skip_event() && limited.skip_event());
            } else {
                assert_eq!(cloned.try_recv(), Ok(Fragile(n)));
                assert_eq!(limited.try_recv(), Ok(Fragile(n)));
            }
            let lag = [2, 2, 1, 0][n as usize];
            assert_eq!((cloned.lag(), limited.lag()), (lag, lag), "after {n}");
        }
        assert_eq!((cloned.lag(), limited.lag()), (0, 0));
        assert!(!cloned.skip_event() && !limited.skip_event());
        // Skipping it freed the items after it.
        drop(buffer);
        assert_eq!(cloned.try_recv(), Err(TryRecvError::Closed));
    }
}

/// The reader is in the middle of an item when the writer moves it forward.
#[test]
fn a_limited_reader_that_is_moved_starts_with_a_whole_item() {
    let _watchdog = watchdog();
    let (mut buffer, mut reader) = items();
    chunk(&mut reader).take(2).for_each(drop);
    let mut limited = reader.limited(LagLimit::items(2));
    buffer.extend(8..50);
    let Err(TryRecvError::Lagged(items)) = limited.try_recv() else {
        panic!()
    };
    assert_eq!(items, 4 + 42 - 2);
    assert_eq!((limited.try_recv(), limited.try_recv()), (Ok(48), Ok(49)));
}

/// An error is not skipped.
#[test]
fn skip_event_consumes_no_errors() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut limited = buffer.subscribe().limited(LagLimit::items(2));
    buffer.extend((0..5).map(Fragile));
    assert!(limited.skip_event());
    assert_eq!(limited.try_recv(), Err(TryRecvError::Lagged(3)));
    assert_eq!(limited.try_recv(), Ok(Fragile(4)));

    let mut cloned = buffer.subscribe().cloned();
    buffer.fail("broke");
    assert!(!cloned.skip_event() && !limited.skip_event());
    assert!(matches!(cloned.try_recv(), Err(TryRecvError::Failed(_))));
    assert!(matches!(limited.try_recv(), Err(TryRecvError::Failed(_))));

    let mut buffer = EventBuffer::new();
    let mut cloned = buffer.subscribe().cloned();
    buffer.push(Fragile(1));
    cloned.closer().close("enough");
    assert!(!cloned.skip_event());
}

#[test]
fn the_lag_of_a_limited_reader_includes_a_partly_read_item() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut reader = buffer.subscribe().limited(LagLimit::items(2));
    buffer.extend([1, 2, 3, 4]);
    assert_eq!(reader.lag(), 2, "two were skipped");
    assert_eq!(reader.try_recv(), Err(TryRecvError::Lagged(2)));
    assert_eq!(reader.lag(), 2, "3 and 4");
    assert_eq!(reader.try_recv(), Ok(3));
    assert_eq!(reader.lag(), 1);
    assert_eq!(reader.try_recv(), Ok(4));
    assert_eq!(reader.lag(), 0);

    buffer.append([5, 6]);
    assert_eq!(reader.try_recv(), Ok(5));
    assert_eq!(reader.lag(), 1, "6 is still to come");
    assert_eq!(reader.try_recv(), Ok(6));
    assert_eq!(reader.lag(), 0);
}

/// Such a loop must not spin for ever.
#[test]
fn a_loop_over_errors_ends_at_a_final_error() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let limited = || buffer.subscribe().limited(LagLimit::items(1));
    let [mut lagging, mut closed] = [limited(), limited()];
    let mut failed = buffer.subscribe().cloned();
    buffer.extend([1, 2]);
    closed.closer().close("enough");
    buffer.fail("broke");
    let count = |recv: &mut dyn FnMut() -> Result<u32, RecvError>| {
        let mut errors = 0;
        loop {
            match recv() {
                Ok(_) => {}
                Err(error) => {
                    errors += 1;
                    if error.is_final() {
                        return errors;
                    }
                }
            }
        }
    };
    assert_eq!(count(&mut || lagging.recv_blocking()), 2, "lagged, failed");
    assert_eq!(count(&mut || closed.recv_blocking()), 1);
    assert_eq!(count(&mut || failed.recv_blocking()), 1);
}
