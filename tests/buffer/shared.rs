//! Several producers: each can end the buffer, and the others get their events back.

use std::cell::RefCell;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Barrier};
use std::thread;

use event_buffer::{
    EventBuffer, Indexed, LagLimit, RecvError, Replay, ResumeError, SharedBuffer, SpliceCycle,
    TryRecvError, WeakBuffer,
};
use futures::executor::block_on;
use futures::{FutureExt, SinkExt, StreamExt, stream};

use crate::support::{events, watchdog};

static_assertions::assert_impl_all!(SharedBuffer<u8>: Send, Sync, Unpin);
static_assertions::assert_impl_all!(WeakBuffer<u8>: Send, Sync, Unpin, Clone);
static_assertions::assert_not_impl_any!(SharedBuffer<std::cell::Cell<u8>>: Send, Sync);

/// Not `Debug`.
#[derive(Clone, PartialEq)]
struct Plain(u8);

fn all<T>() -> SharedBuffer<T> {
    EventBuffer::builder().replay(Replay::All).build().into()
}

const ENDS: [fn(&SharedBuffer<u8>); 4] = [
    |shared| shared.close(),
    |shared| shared.fail("out of luck"),
    |shared| shared.splice(EventBuffer::new().tail()),
    |shared| drop(shared.finish()),
];

#[test]
fn after_the_end_publishing_returns_the_events() {
    let _watchdog = watchdog();
    for end in ENDS {
        let shared = all();
        let other = shared.clone();
        shared.push(1).unwrap();
        end(&shared);
        assert_eq!(other.push(2).unwrap_err().into_events(), [2]);
        assert_eq!(other.append([3, 4]).unwrap_err().into_events(), [3, 4]);
        let many: Vec<u8> = (0..200).collect();
        assert_eq!(other.extend(many.clone()).unwrap_err().into_events(), many);
        let mut sink = other.clone();
        let sent = sink.send(5).now_or_never().unwrap();
        assert_eq!(sent.unwrap_err().events(), [5]);
        assert!(other.append(None).is_ok() && other.extend(None).is_ok());
    }
}

#[test]
fn the_error_requires_no_traits_of_the_events() {
    let _watchdog = watchdog();
    let shared = SharedBuffer::new();
    shared.close();
    let ended = shared.push(Plain(1)).unwrap_err();
    let error: &dyn std::error::Error = &ended;
    assert!(error.to_string().contains('1') && !format!("{error:?}").is_empty());
    assert!(ended.into_events() == [Plain(1)]);
}

/// `forward` stops at the first event that is not accepted, and returns it in the error.
#[test]
fn forward_fails_with_the_event_that_came_too_late() {
    let _watchdog = watchdog();
    let shared = all();
    let other = shared.clone();
    let source = stream::iter(1..=3).inspect(move |n| {
        if *n == 2 {
            other.close();
        }
    });
    let mut reader = shared.subscribe().cloned();
    let forwarded = block_on(source.map(Ok).forward(shared));
    assert_eq!(forwarded.unwrap_err().into_events(), [2]);
    assert_eq!(reader.try_recv(), Ok(1));
    assert_eq!(reader.try_recv(), Err(TryRecvError::Closed));
}

#[test]
fn only_the_first_end_counts() {
    let _watchdog = watchdog();
    for first in ENDS {
        let shared = all();
        let mut reader = shared.subscribe();
        first(&shared);
        let expected = reader.try_recv();
        for then in ENDS {
            then(&shared);
        }
        let mut late = shared.subscribe();
        assert_eq!(late.try_recv(), expected);
        assert_eq!(late.is_closed(), expected.is_err());
    }
}

#[test]
fn closing_the_sink_does_not_end_the_buffer_but_close_does() {
    let _watchdog = watchdog();
    let mut shared = SharedBuffer::new();
    block_on(SinkExt::close(&mut shared)).unwrap();
    assert!(shared.push(1).is_ok());
    // The inherent method wins even though `SinkExt` is in scope.
    let () = shared.close();
    assert!(shared.push(2).is_err());
}

#[test]
fn a_cyclic_splice_fails_the_buffer() {
    let _watchdog = watchdog();
    let shared = SharedBuffer::<u8>::new();
    let mut reader = shared.subscribe();
    shared.splice(shared.tail());
    let Err(RecvError::Failed(error)) = reader.recv_blocking() else {
        panic!("the cycle was not detected");
    };
    assert!(error.downcast_ref::<SpliceCycle>().is_some());
}

#[test]
fn handles_of_a_spliced_buffer_keep_nothing_of_the_live_one() {
    let _watchdog = watchdog();
    let mut live = EventBuffer::builder().replay(Replay::None).build();
    let shared = all();
    let mut reader = shared.subscribe().cloned();
    shared.push(0).unwrap();
    let mut unobserved = tokio_test::task::spawn(shared.unobserved());
    assert!(unobserved.poll().is_pending());
    shared.splice(live.tail());
    assert!(unobserved.is_woken() && unobserved.poll().is_ready());
    live.push(1);
    assert_eq!((reader.try_recv(), reader.try_recv()), (Ok(0), Ok(1)));
    assert_eq!((shared.subscriber_count(), live.subscriber_count()), (0, 1));
    drop(reader);
    live.extend(0..1_000);
    assert_eq!(live.backlog(), 0);
    assert_eq!(shared.subscribe().try_recv(), Err(TryRecvError::Closed));
    assert!(shared.finish().is_empty() && !shared.is_observed());
}

#[test]
fn a_weak_handle_keeps_neither_the_buffer_nor_an_item() {
    let _watchdog = watchdog();
    let shared = SharedBuffer::new();
    let event = Arc::new(());
    shared.push(event.clone()).unwrap();
    let weak = shared.downgrade();
    let mut reader = shared.subscribe();
    assert!(weak.upgrade().unwrap().same_buffer(&shared));
    assert!(!shared.same_buffer(&SharedBuffer::new()));
    drop(shared);
    assert!(weak.upgrade().is_none() && weak.clone().upgrade().is_none());
    assert_eq!(reader.try_recv(), Err(TryRecvError::Closed));
    assert_eq!(Arc::strong_count(&event), 1);
}

#[test]
fn into_inner_returns_nothing_once_the_buffer_has_ended() {
    let _watchdog = watchdog();
    let event = Arc::new(());
    let shared = all();
    shared.push(event.clone()).unwrap();
    drop(shared.finish());
    assert!(shared.into_inner().is_none());
    assert_eq!(Arc::strong_count(&event), 1);
}

#[test]
fn ending_a_buffer_frees_its_window() {
    let _watchdog = watchdog();
    let ends: [fn(&SharedBuffer<Arc<()>>); 3] = [
        |shared| shared.close(),
        |shared| shared.fail("out of luck"),
        |shared| shared.splice(EventBuffer::new().tail()),
    ];
    for end in ends {
        let event = Arc::new(());
        let shared = all();
        shared.extend(vec![event.clone(); 100]).unwrap();
        assert_eq!((shared.retained(), shared.backlog()), (100, 100));
        end(&shared);
        assert_eq!(Arc::strong_count(&event), 1);
        assert_eq!(shared.retained(), 0);
    }
}

#[test]
fn a_resumed_reader_starts_after_its_index() {
    #[derive(Clone)]
    struct Revision(u64);

    impl Indexed for Revision {
        fn index(&self) -> u64 {
            self.0
        }
    }

    let _watchdog = watchdog();
    let shared: SharedBuffer<_> = EventBuffer::builder()
        .replay(Replay::Last(3))
        .build()
        .into();
    shared.extend((1..=5).map(Revision)).unwrap();
    let resumed = shared.subscribe_after(3).unwrap();
    assert_eq!(
        events(resumed)
            .iter()
            .map(Indexed::index)
            .collect::<Vec<_>>(),
        [4, 5]
    );
    let too_old = shared.subscribe_after(1).unwrap_err();
    assert!(matches!(
        too_old,
        ResumeError::TooOld {
            oldest: Some(3),
            ..
        }
    ));
    let ahead = shared.subscribe_after(6).unwrap_err();
    assert!(matches!(
        ahead,
        ResumeError::Ahead {
            newest: Some(5),
            ..
        }
    ));
    shared.clear_window();
    assert!(matches!(
        shared.subscribe_after(5),
        Err(ResumeError::TooOld { oldest: None, .. })
    ));
}

/// Uses the buffer when it is dropped, which would deadlock under the buffer's lock.
struct Uses(SharedBuffer<Option<Uses>>, Arc<AtomicUsize>);

impl Drop for Uses {
    fn drop(&mut self) {
        _ = self.0.push(None);
        _ = self.0.subscriber_count() + self.0.retained();
        self.1.fetch_add(1, SeqCst);
    }
}

#[test]
fn destructors_of_events_may_use_the_buffer() {
    let _watchdog = watchdog();
    let ends: [fn(&SharedBuffer<Option<Uses>>); 6] = [
        |shared| shared.close(),
        |shared| shared.fail("out of luck"),
        |shared| shared.splice(EventBuffer::new().tail()),
        // Refused, since it would make a ring.
        |shared| shared.splice(shared.tail()),
        |shared| shared.clear_window(),
        |shared| {
            let place = shared.tail();
            shared.close();
            shared.splice(place);
        },
    ];
    for end in ends {
        let shared = all();
        let dropped = Arc::new(AtomicUsize::new(0));
        let event = || Some(Uses(shared.clone(), dropped.clone()));
        shared.extend((0..3).map(|_| event())).unwrap();
        let limited = shared.subscribe().closer();
        limited.close("enough");
        end(&shared);
        assert_eq!(dropped.load(SeqCst), 3);
    }
}

/// An error's destructor is user code, too.
#[test]
fn an_error_after_the_end_is_dropped_outside_the_lock() {
    #[derive(Debug)]
    struct Uses(SharedBuffer<u8>);

    impl std::fmt::Display for Uses {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            Ok(())
        }
    }

    impl std::error::Error for Uses {}

    impl Drop for Uses {
        fn drop(&mut self) {
            assert!(self.0.push(1).is_err());
        }
    }

    let _watchdog = watchdog();
    let shared = SharedBuffer::new();
    shared.close();
    shared.fail(Uses(shared.clone()));
}

/// Every event is either received or returned to its producer.
#[test]
fn across_threads_each_event_is_published_or_given_back() {
    const EVENTS: usize = 2_000;
    let _watchdog = watchdog();
    for round in 0..20 {
        let shared = all();
        let mut reader = shared.subscribe().cloned();
        let start = Barrier::new(3);
        let given_back: usize = thread::scope(|scope| {
            let producers = [0, 1].map(|producer| {
                let (shared, start) = (shared.clone(), &start);
                scope.spawn(move || {
                    start.wait();
                    let mut given_back = 0;
                    for n in (0..EVENTS).step_by(4) {
                        let event = |k| (producer, n + k);
                        let ended = [
                            shared.push(event(0)).err(),
                            shared.append([event(1)]).err(),
                            shared.extend([event(2), event(3)]).err(),
                        ];
                        let ended = ended.into_iter().flatten();
                        given_back += ended.map(|ended| ended.into_events().len()).sum::<usize>();
                    }
                    given_back
                })
            });
            start.wait();
            for _ in 0..round {
                thread::yield_now();
            }
            shared.close();
            producers
                .map(|producer| producer.join().unwrap())
                .iter()
                .sum()
        });
        let received = reader.iter().map(Result::unwrap).count();
        assert_eq!(received + given_back, 2 * EVENTS);
    }
}

/// Events that a limit discards are dropped outside the buffer's lock.
#[test]
fn events_discarded_by_a_limit_may_use_the_shared_buffer() {
    thread_local! {
        static SHARED: RefCell<Option<SharedBuffer<Event>>> = const { RefCell::new(None) };
    }

    #[derive(Clone)]
    struct Event;

    impl Drop for Event {
        fn drop(&mut self) {
            if let Some(shared) = SHARED.take() {
                assert!(shared.backlog() > 0);
            }
        }
    }

    let _watchdog = watchdog();
    let shared: SharedBuffer<_> = EventBuffer::builder().replay(Replay::None).build().into();
    let _stuck = shared.subscribe().limited(LagLimit::items(1));
    SHARED.set(Some(shared.clone()));
    for _ in 0..100 {
        shared.push(Event).unwrap();
    }
    assert!(SHARED.take().is_none());
}
