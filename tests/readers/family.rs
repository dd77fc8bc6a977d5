//! The methods that every kind of reader has.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;

use event_buffer::{
    ByteSize, Cloned, EventBuffer, Iter, LagExceeded, LagLimit, Limited, OnLag, RecvError, Replay,
    ShareExt, SharedBuffer, Subscription, TryRecvError,
};
use futures::executor::block_on;
use futures::stream::{self, FusedStream, StreamExt};

use crate::support::{events, unretained, watchdog};

static_assertions::assert_impl_all!(Iter<'static, Cloned<u8>>: Send, Sync, Unpin, Iterator);
static_assertions::assert_impl_all!(Limited<u8>: Clone, Send, Sync, Unpin);

/// An event of eight bytes.
#[derive(Clone, Debug, PartialEq)]
struct Sized8(u64, Option<Arc<()>>);

impl ByteSize for Sized8 {
    fn byte_size(&self) -> usize {
        8
    }
}

/// One reader of each kind, all at the same place.
fn kinds(reader: &Subscription<u8>) -> (Subscription<u8>, Cloned<u8>, Limited<u8>) {
    let limited = reader.clone().limited(LagLimit::items(100));
    (reader.clone(), reader.clone().cloned(), limited)
}

#[test]
fn a_reader_is_closed_once_its_buffer_has_ended() {
    let _watchdog = watchdog();
    let ends: [fn(EventBuffer<u8>); 4] = [
        EventBuffer::close,
        |buffer| buffer.fail("out of luck"),
        |buffer| drop(buffer.finish()),
        |buffer| {
            let ended = EventBuffer::new();
            let place = ended.tail();
            ended.close();
            buffer.splice(place);
        },
    ];
    for end in ends {
        let mut buffer = unretained();
        let (items, clones, limited) = kinds(&buffer.subscribe());
        buffer.push(1);
        assert!(!items.is_closed() && !clones.is_closed() && !limited.is_closed());
        end(buffer);
        assert!(items.is_closed() && clones.is_closed() && limited.is_closed());
        assert_eq!(
            (items.lag(), clones.lag(), limited.lag()),
            (1, 1, 1),
            "still to be read"
        );
    }
}

#[test]
fn a_reader_of_a_spliced_buffer_is_closed_with_the_live_one() {
    let _watchdog = watchdog();
    let (snapshot, live) = (unretained(), unretained());
    let (items, clones, limited) = kinds(&snapshot.subscribe());
    snapshot.splice(live.tail());
    assert!(!items.is_closed() && !clones.is_closed() && !limited.is_closed());
    drop(live);
    assert!(items.is_closed() && clones.is_closed() && limited.is_closed());
}

#[test]
fn a_reader_closed_by_a_closer_or_its_limit_is_closed() {
    let _watchdog = watchdog();
    let mut buffer = unretained();
    let (items, clones, limited) = kinds(&buffer.subscribe());
    let closers = [items.closer(), clones.closer(), limited.closer()];
    assert!(closers.iter().all(|closer| closer.close("enough")));
    assert!(items.is_closed() && clones.is_closed() && limited.is_closed());
    let limit = LagLimit::items(1).on_lag(OnLag::Close);
    let mut stuck = buffer.subscribe().limited(limit);
    buffer.extend([1, 2]);
    assert!(stuck.try_recv().is_err());
    assert!(stuck.is_closed());
    // A reader that fell behind stays open until the buffer ends.
    let behind = buffer.subscribe().limited(LagLimit::items(1));
    buffer.extend(0..100);
    assert!(!behind.is_closed());
    buffer.close();
    assert!(behind.is_closed());
}

#[test]
fn iterators_block_for_items_and_end_with_the_buffer() {
    let _watchdog = watchdog();
    let mut buffer = unretained();
    let (mut items, mut clones, mut limited) = kinds(&buffer.subscribe());
    let writer = thread::spawn(move || {
        for n in 0..50 {
            buffer.push(n);
            thread::yield_now();
        }
        buffer.fail("out of luck");
    });
    let received: Vec<_> = items.iter().take(50).map(|item| item.unwrap()[0]).collect();
    assert_eq!(received, (0..50).collect::<Vec<_>>());
    assert!(matches!(
        items.iter().next(),
        Some(Err(RecvError::Failed(_)))
    ));
    assert!(items.iter().next().is_none());
    assert_eq!(clones.iter().flatten().count(), 50);
    assert_eq!(limited.iter().flatten().count(), 50);
    writer.join().unwrap();
}

#[test]
fn dropping_an_iterator_loses_no_events() {
    let _watchdog = watchdog();
    let mut buffer = unretained();
    let mut reader = buffer.subscribe().cloned();
    buffer.append([1, 2, 3]);
    assert_eq!(reader.iter().next(), Some(Ok(1)));
    assert_eq!(reader.try_recv(), Ok(2));
}

#[test]
fn the_bookmark_of_a_limited_reader_covers_what_it_has_not_received() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::builder().replay(Replay::All).build();
    let mut reader = buffer.subscribe().limited(LagLimit::items(2));
    let resumed = |buffer: &EventBuffer<u8>, reader: &Limited<u8>| {
        events(buffer.upgrade(&reader.bookmark()).unwrap())
    };
    buffer.append([1, 2]);
    buffer.push(3);
    assert_eq!(resumed(&buffer, &reader), [1, 2, 3]);
    assert_eq!(reader.try_recv(), Ok(1));
    assert_eq!(
        resumed(&buffer, &reader),
        [1, 2, 3],
        "the item is not finished"
    );
    assert_eq!(resumed(&buffer, &reader.clone()), [1, 2, 3]);
    assert_eq!(reader.try_recv(), Ok(2));
    assert_eq!(resumed(&buffer, &reader), [3]);
    buffer.extend(4..10);
    assert_eq!(resumed(&buffer, &reader), [8, 9], "what the limit allows");
    assert_eq!(reader.try_recv(), Err(TryRecvError::Lagged(5)));
    assert_eq!(resumed(&buffer, &reader), [8, 9]);
    assert_eq!(
        events(reader.position().subscribe()),
        [9],
        "8 has been taken already"
    );
    assert_eq!(reader.try_recv(), Ok(8));
    assert_eq!(resumed(&buffer, &reader), [9]);
}

/// What it could not clone is left to a later read.
#[test]
fn a_bookmark_of_a_limited_reader_is_before_the_item_that_it_has_cloned_in_part() {
    #[derive(Debug, PartialEq)]
    struct Event(u8);

    impl Clone for Event {
        fn clone(&self) -> Self {
            assert_ne!(self.0, 4, "asked for");
            Self(self.0)
        }
    }

    let _watchdog = watchdog();
    let mut buffer = EventBuffer::builder().replay(Replay::All).build();
    let mut reader = buffer.subscribe().limited(LagLimit::items(9));
    buffer.push(Event(1));
    buffer.append([Event(2), Event(3), Event(4)]);
    assert_eq!(reader.try_recv(), Ok(Event(1)));
    assert_eq!(reader.try_recv(), Ok(Event(2)));
    let mut resumed = buffer.upgrade(&reader.bookmark()).unwrap();
    let item = resumed.try_recv().unwrap();
    assert_eq!(item.events(), [Event(2), Event(3), Event(4)]);
    // The item counts once, although it is both in its hand and in the buffer.
    assert_eq!((reader.lag(), reader.clone().lag()), (1, 1));
}

#[test]
fn a_clone_of_a_limited_reader_receives_the_same() {
    let _watchdog = watchdog();
    let mut buffer = unretained();
    let mut reader = buffer.subscribe().limited(LagLimit::items(3));
    buffer.append([1, 2, 3]);
    assert_eq!(reader.try_recv(), Ok(1));
    let mut in_the_midst = reader.clone();
    assert_eq!(in_the_midst.lag(), reader.lag());
    buffer.extend(4..200);
    let mut behind = reader.clone();
    for reader in [&mut in_the_midst, &mut behind, &mut reader] {
        assert_eq!(reader.try_recv(), Ok(2));
        assert_eq!(reader.try_recv(), Ok(3));
        assert_eq!(reader.try_recv(), Err(TryRecvError::Lagged(193)));
        let rest: Vec<_> = std::iter::from_fn(|| reader.try_recv().ok()).collect();
        assert_eq!(rest, [197, 198, 199]);
    }
    assert_eq!(buffer.subscriber_count(), 3);
}

#[test]
fn a_clone_of_a_limited_reader_reports_what_was_skipped_before_an_event_it_left_out() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut reader = buffer.subscribe().limited(LagLimit::items(2));
    buffer.extend(0..5);
    assert!(reader.skip_event());
    let mut clone = reader.clone();
    for reader in [&mut reader, &mut clone] {
        assert_eq!(reader.try_recv(), Err(TryRecvError::Lagged(3)));
        assert_eq!(reader.try_recv(), Ok(4));
    }
}

#[test]
fn a_clone_of_a_closed_limited_reader_is_closed_for_the_same_reason() {
    let _watchdog = watchdog();
    let mut buffer = unretained();
    let limit = LagLimit::items(1).on_lag(OnLag::Close);
    let lagged = buffer.subscribe().limited(limit);
    let closed = buffer.subscribe().limited(LagLimit::items(9));
    closed.closer().close("enough");
    buffer.extend([1, 2, 3]);
    for (mut reader, for_its_lag) in [(lagged.clone(), true), (closed.clone(), false)] {
        let Err(TryRecvError::ForceClosed(reason)) = reader.try_recv() else {
            panic!("it was not closed");
        };
        assert_eq!(reason.downcast_ref::<LagExceeded>().is_some(), for_its_lag);
    }
    assert!(lagged.resubscribe().is_closed() && closed.resubscribe().is_closed());
}

#[test]
fn a_new_limit_applies_from_then_on() {
    let _watchdog = watchdog();
    let number = |n| Sized8(n, None);
    let mut buffer = unretained();
    let mut reader = buffer.subscribe().limited(LagLimit::items(2));
    buffer.extend((0..10).map(number));
    reader.set_limit(LagLimit::items(1_000));
    buffer.extend((10..20).map(number));
    assert_eq!(
        reader.try_recv(),
        Err(TryRecvError::Lagged(8)),
        "skipped by the previous limit"
    );
    assert_eq!(reader.lag(), 12);
    reader.set_limit(LagLimit::bytes(1));
    assert_eq!(
        reader.try_recv(),
        Ok(number(8)),
        "it had been taken already"
    );
    assert_eq!(reader.try_recv(), Err(TryRecvError::Lagged(10)));
    assert_eq!(reader.try_recv(), Ok(number(19)));
    reader.set_limit(LagLimit::items(1).on_lag(OnLag::Close));
    buffer.extend((20..30).map(number));
    assert!(matches!(
        reader.try_recv(),
        Err(TryRecvError::ForceClosed(_))
    ));
    reader.set_limit(LagLimit::items(1_000));
    assert!(reader.is_closed(), "a close is final");
    assert!(!buffer.is_observed());
}

#[test]
fn changing_the_limit_wakes_a_waiting_task() {
    let _watchdog = watchdog();
    let mut buffer = unretained();
    let mut reader = tokio_test::task::spawn(buffer.subscribe().limited(LagLimit::items(2)));
    assert!(reader.poll_next().is_pending());
    reader.set_limit(LagLimit::items(3));
    assert!(reader.is_woken());
    assert!(reader.poll_next().is_pending());
    buffer.push(1);
    assert!(reader.is_woken());
}

#[test]
fn items_skipped_by_a_previous_limit_do_not_count_towards_the_new_one() {
    let _watchdog = watchdog();
    let mut buffer = unretained();
    let mut reader = buffer.subscribe().limited(LagLimit::items(10));
    buffer.extend(0..20);
    reader.set_limit(LagLimit::items(1_000).on_lag(OnLag::SkipToNewest));
    buffer.extend(20..70);
    assert_eq!(reader.lag(), 60);
    assert_eq!(reader.try_recv(), Err(TryRecvError::Lagged(10)));
    assert_eq!(reader.try_recv(), Ok(10));
    buffer.extend(70..2_000);
    assert_eq!(reader.try_recv(), Err(TryRecvError::Lagged(1_988)));
    assert_eq!(reader.try_recv(), Ok(1_999));
}

#[test]
fn changing_limits_leaks_nothing() {
    let _watchdog = watchdog();
    let event = Arc::new(());
    let mut buffer = unretained();
    let mut reader = buffer.subscribe().limited(LagLimit::items(1));
    for n in 1..50 {
        buffer.extend(vec![Sized8(n, Some(event.clone())); 7]);
        reader.set_limit(if n % 3 == 0 {
            LagLimit::bytes(n * 8)
        } else {
            LagLimit::items(n)
        });
    }
    drop(reader);
    assert_eq!(Arc::strong_count(&event), 1);
    assert_eq!(buffer.backlog(), 0);
}

/// Cloning a reader clones the rest of a partly read item.
#[test]
fn a_panicking_clone_leaves_the_reader_unchanged() {
    static PANICS: AtomicBool = AtomicBool::new(false);

    #[derive(Debug, PartialEq)]
    struct Event(u8);

    impl Clone for Event {
        fn clone(&self) -> Self {
            assert!(!PANICS.load(SeqCst), "asked for");
            Self(self.0)
        }
    }

    let _watchdog = watchdog();
    let mut buffer = unretained();
    let mut reader = buffer.subscribe().limited(LagLimit::items(9));
    buffer.append([Event(1), Event(2)]);
    assert_eq!(reader.try_recv(), Ok(Event(1)));
    PANICS.store(true, SeqCst);
    assert!(catch_unwind(AssertUnwindSafe(|| reader.clone())).is_err());
    PANICS.store(false, SeqCst);
    assert_eq!(buffer.subscriber_count(), 1);
    assert_eq!(reader.try_recv(), Ok(Event(2)));
}

/// Other threads may use readers while the writer moves them forward.
#[test]
fn a_limited_reader_is_cloned_while_it_is_moved() {
    let _watchdog = watchdog();
    let shared = SharedBuffer::from(unretained());
    let mut reader = shared.subscribe().limited(LagLimit::items(8));
    let writer = thread::spawn({
        let shared = shared.clone();
        move || {
            for n in 0..20_000_u64 {
                shared.push(n).unwrap();
            }
            shared.close();
        }
    });
    let mut next = 0;
    loop {
        let mut clone = reader.clone();
        let mut expected = next;
        while let Some(received) = clone.iter().next() {
            match received {
                Ok(n) => {
                    assert_eq!(n, expected);
                    expected += 1;
                }
                Err(RecvError::Lagged(items)) => expected += items,
                Err(end) => panic!("{end}"),
            }
            if expected % 7 == 0 {
                break;
            }
        }
        match reader.recv_blocking() {
            Ok(n) => {
                assert_eq!(n, next);
                next += 1;
            }
            Err(RecvError::Lagged(items)) => next += items,
            Err(RecvError::Closed) => break,
            Err(end) => panic!("{end}"),
        }
    }
    assert_eq!(next, 20_000);
    writer.join().unwrap();
}

/// Calls the methods that the crate page's table lists for every reader except the followers of a
/// shared stream. At least six items must be ready.
macro_rules! assert_receives {
    ($reader:expr) => {
        let mut reader = $reader;
        assert!(block_on(reader.recv()).is_ok());
        assert!(reader.try_recv().is_ok());
        assert!(reader.recv_blocking().is_ok());
        assert!(reader.recv_timeout(Duration::ZERO).is_ok());
        assert!(reader.iter().next().is_some_and(|read| read.is_ok()));
        assert!(!reader.is_closed());
        assert_ne!(reader.lag(), 0);
        assert_streams!(reader);
        reader.closer().close("enough");
        assert!(reader.is_closed());
    };
}

/// Reads the reader as a `Stream` that has not terminated.
macro_rules! assert_streams {
    ($reader:expr) => {
        assert!(block_on($reader.next()).is_some());
        assert!(!$reader.is_terminated());
    };
}

/// Calls the methods that the table lists for readers with a place in one buffer.
macro_rules! assert_has_place {
    ($reader:expr, $buffer:expr) => {
        let reader = $reader;
        assert!(reader.clone().try_recv().is_ok());
        assert!(reader.position().subscribe().try_recv().is_ok());
        let resumed = $buffer.upgrade(&reader.bookmark());
        assert!(resumed.unwrap().try_recv().is_ok());
        assert!(reader.resubscribe().try_recv().is_err(), "at the tail");
    };
}

#[test]
fn readers_have_what_the_table_on_the_crate_page_lists() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::builder().replay(Replay::All).build();
    let (items, clones, limited) = kinds(&buffer.subscribe());
    buffer.extend(1..=7);
    assert_has_place!(&items, buffer);
    assert_has_place!(&clones, buffer);
    assert_has_place!(&limited, buffer);
    assert_receives!(items);
    assert_receives!(clones);
    assert_receives!(limited);

    let source = stream::iter(1..=7).share(Replay::All);
    let mut follower = source.subscribe().clone();
    assert_streams!(follower);
    let mut limited = follower.limited(LagLimit::items(100)).clone();
    assert_streams!(limited);
}

#[cfg(feature = "publisher")]
#[test]
fn a_watch_has_what_the_table_on_the_crate_page_lists() {
    use event_buffer::{Publisher, Request, Watch};
    static_assertions::assert_not_impl_any!(Watch<u8, u8>: Clone);

    let _watchdog = watchdog();
    let publisher = Publisher::builder().build();
    let watch = publisher.subscribe(Request::new("key"));
    for index in 1..=7 {
        publisher.publish(index, [("key", index)]).unwrap();
    }
    assert_receives!(watch);
}
