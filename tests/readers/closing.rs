//! A close wakes each task once, frees at once what only the reader kept, and gives up a handler
//! that hangs.

use std::future;
use std::pin::Pin;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use event_buffer::publisher::{CloseReason, Publisher, Request, Update, Watch, WatchError};
use event_buffer::{Closer, EventBuffer, LagLimit, Replay, TryRecvError};
use futures::{FutureExt, Stream};

use crate::support::{PanicsWhenDropped, watchdog};

#[derive(Default)]
struct Woken(AtomicU32);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// Polls until nothing is ready; returns a counter of the wake-ups after that.
fn wait<S: Stream + Unpin>(stream: &mut S) -> Arc<Woken> {
    let woken = Arc::<Woken>::default();
    let waker = Waker::from(woken.clone());
    let mut cx = Context::from_waker(&waker);
    while let Poll::Ready(item) = Pin::new(&mut *stream).poll_next(&mut cx) {
        assert!(item.is_some(), "the stream has ended");
    }
    woken.0.store(0, SeqCst);
    woken
}

fn next<S: Stream + Unpin>(stream: &mut S) -> Poll<Option<S::Item>> {
    Pin::new(stream).poll_next(&mut Context::from_waker(Waker::noop()))
}

/// The first update of a watch after `Begin`.
fn after_begin<T>(
    watch: &mut Watch<&'static str, T>,
) -> Poll<Option<Result<Update<&'static str, T>, WatchError>>> {
    let begin = next(watch);
    assert!(matches!(begin, Poll::Ready(Some(Ok(Update::Begin(_))))));
    next(watch)
}

type Way<T> = fn(&Publisher<&'static str, T>);

/// All ways in which a publisher can close a watch of `key` with the token `token`.
fn ways<T: Send + Sync + 'static>() -> [Way<T>; 5] {
    [
        |publisher| publisher.close_key(&"key"),
        Publisher::close_all,
        |publisher| publisher.close_token("token"),
        |publisher| publisher.reset(7),
        Publisher::shutdown,
    ]
}

/// Their buffer ends with their key, which must not wake a closed watch again.
#[test]
fn closing_a_key_wakes_each_watch_once() {
    let _watchdog = watchdog();
    for close in ways::<u32>() {
        let publisher = Publisher::builder().build();
        let mut watches = [(); 3].map(|()| publisher.subscribe(Request::new("key").token("token")));
        let woken = watches.each_mut().map(wait);
        close(&publisher);
        drop(publisher);
        for (watch, woken) in watches.iter_mut().zip(woken) {
            assert_eq!(woken.0.load(SeqCst), 1);
            assert!(matches!(
                next(watch),
                Poll::Ready(Some(Err(WatchError::Closed(_))))
            ));
        }
    }
}

/// Later publishes, closes and ends do not wake it again before it is polled.
#[test]
fn closing_a_reader_wakes_its_task_once() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut items = buffer.subscribe();
    let mut cloned = buffer.subscribe().cloned();
    let mut limited = buffer.subscribe().limited(LagLimit::items(10));
    // One closer is made before its reader waits, the others afterwards.
    let early = cloned.closer();
    let woken = [wait(&mut items), wait(&mut cloned), wait(&mut limited)];
    let closers = [items.closer(), early, limited.closer()];
    for (closer, woken) in closers.iter().zip(&woken) {
        assert_eq!(woken.0.load(SeqCst), 0);
        assert!(closer.close("enough"));
        assert!(!closer.close("again"));
    }
    buffer.push(1);
    drop(buffer);
    for woken in woken {
        assert_eq!(woken.0.load(SeqCst), 1);
    }

    // Publish first, then close.
    let mut buffer = EventBuffer::new();
    let mut items = buffer.subscribe();
    let closer = items.closer();
    let woken = wait(&mut items);
    buffer.push(1);
    closer.close("enough");
    assert_eq!(woken.0.load(SeqCst), 1);
}

/// The task may be doing something else by then.
#[test]
fn a_close_does_not_wake_the_task_of_a_cancelled_recv() {
    let _watchdog = watchdog();
    let buffer = EventBuffer::<u32>::new();
    let mut reader = buffer.subscribe();
    let closer = reader.closer();
    let woken = Arc::<Woken>::default();
    {
        let waker = Waker::from(woken.clone());
        let mut recv = std::pin::pin!(reader.recv());
        let poll = recv.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(poll.is_pending());
    }
    closer.close("enough");
    assert_eq!(woken.0.load(SeqCst), 0);
    assert_eq!(Arc::strong_count(&woken), 1);
}

/// When a task leaves its group of waiting tasks, another task takes over its entry.
#[test]
fn closing_a_reader_that_stopped_waiting_wakes_no_other() {
    let _watchdog = watchdog();
    let buffer = EventBuffer::<u32>::new();
    let [mut stays, mut leaves, mut other] = [(); 3].map(|()| buffer.subscribe());
    let closer = leaves.closer();
    // Keeps the group alive.
    wait(&mut stays);
    {
        let mut cancelled = std::pin::pin!(leaves.recv());
        let poll = cancelled
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        assert!(poll.is_pending());
    }
    let woken = wait(&mut other);
    closer.close("enough");
    assert_eq!(woken.0.load(SeqCst), 0);
    drop(buffer);
    assert_eq!(woken.0.load(SeqCst), 1);
}

/// The reader waited for a link whose wake-up is late, and then waits for the next link.
#[test]
fn a_waker_whose_drop_panics_in_a_read_leaves_one_registration() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut reader = buffer.subscribe().limited(LagLimit::items(1));
    {
        let waker = Waker::from(Arc::new(PanicsWhenDropped));
        let poll = Pin::new(&mut reader).poll_next(&mut Context::from_waker(&waker));
        assert!(poll.is_pending());
    }
    let late = buffer.push_deferred(1);
    // The read ends the registration first, which drops the waker.
    let read = std::panic::AssertUnwindSafe(|| reader.try_recv());
    assert!(std::panic::catch_unwind(read).is_err());
    assert_eq!(reader.try_recv(), Ok(1));
    let woken = Arc::<Woken>::default();
    let waker = Waker::from(woken.clone());
    let mut poll = || Pin::new(&mut reader).poll_next(&mut Context::from_waker(&waker));
    assert!(poll().is_pending());
    buffer.push(2);
    assert_eq!(woken.0.load(SeqCst), 1);
    drop((waker, reader));
    assert_eq!(Arc::strong_count(&woken), 1);
    drop(late);
}

/// The closed watches are neither polled nor dropped, and refer to the snapshot that hangs
/// (souin 849).
#[test]
fn closing_gives_up_a_snapshot_whose_handler_hangs() {
    let _watchdog = watchdog();
    let ways: [fn(&Publisher<&'static str, u32>); 3] = [
        |publisher| publisher.close_key(&"key"),
        Publisher::close_all,
        |publisher| publisher.close_token("token"),
    ];
    for close in ways {
        let runs = AtomicU32::new(0);
        let publisher = Publisher::builder()
            .snapshot(move |_, _| {
                let hangs = runs.fetch_add(1, SeqCst) == 0;
                async move {
                    if hangs {
                        future::pending::<()>().await;
                    }
                    Ok(3)
                }
            })
            .build();
        let subscribe = || publisher.subscribe(Request::new("key").token("token"));
        let mut stuck: [Watch<_, _>; 2] = [subscribe(), subscribe()];
        for watch in &mut stuck {
            wait(watch);
        }
        close(&publisher);
        let first = after_begin(&mut subscribe());
        assert!(matches!(
            first,
            Poll::Ready(Some(Ok(Update::EndOfSnapshot { index: 3 })))
        ));
        for watch in &mut stuck {
            let Poll::Ready(Some(Err(WatchError::Closed(reason)))) = next(watch) else {
                panic!()
            };
            assert_ne!(reason, CloseReason::ShutDown);
        }
    }
}

/// A publisher whose first handler hangs. Later ones return at once, with the number of handlers
/// that ran before as their index.
fn first_handler_hangs() -> Publisher<&'static str, u32> {
    let runs = AtomicU32::new(0);
    Publisher::builder()
        .epoch(1)
        .snapshot(move |_, _| {
            let run = runs.fetch_add(1, SeqCst);
            async move {
                if run == 0 {
                    future::pending::<()>().await;
                }
                Ok(u64::from(run))
            }
        })
        .build()
}

fn is_snapshot_of_run(
    update: &Poll<Option<Result<Update<&str, u32>, WatchError>>>,
    run: u64,
) -> bool {
    matches!(update, Poll::Ready(Some(Ok(Update::EndOfSnapshot { index }))) if *index == run)
}

/// Each waker subscribes again before the other watches have been woken or dropped.
#[test]
fn a_watch_that_resubscribes_on_close_does_not_wait_for_the_old_handler() {
    struct Resubscribes(
        Publisher<&'static str, u32>,
        Mutex<Option<Watch<&'static str, u32>>>,
    );
    impl Wake for Resubscribes {
        fn wake(self: Arc<Self>) {
            *self.1.lock().unwrap() = Some(self.0.subscribe(Request::new("key")));
        }
    }

    let _watchdog = watchdog();
    let publisher = first_handler_hangs();
    let mut stuck = [(); 2].map(|()| publisher.subscribe(Request::new("key")));
    let again = [(); 2].map(|()| Arc::new(Resubscribes(publisher.clone(), Mutex::default())));
    for (watch, again) in stuck.iter_mut().zip(&again) {
        let waker = Waker::from(again.clone());
        let mut cx = Context::from_waker(&waker);
        while Pin::new(&mut *watch).poll_next(&mut cx).is_ready() {}
    }
    publisher.close_key(&"key");
    for again in &again {
        let watch = again.1.lock().unwrap().take();
        assert!(is_snapshot_of_run(&after_begin(&mut watch.unwrap()), 1));
    }
}

/// A resumed watch needs no snapshot, so it does not keep the handler running.
#[test]
fn a_watch_without_a_snapshot_does_not_keep_one_alive() {
    let _watchdog = watchdog();
    let publisher = first_handler_hangs();
    let mut stuck = publisher.subscribe(Request::new("key").token("token"));
    wait(&mut stuck);
    publisher.publish(1, [("key", 1)]).unwrap();
    let resume = event_buffer::publisher::Resume { epoch: 1, index: 1 };
    let resumed = publisher.subscribe(Request::new("key").after(resume));
    publisher.close_token("token");
    let mut fresh = publisher.subscribe(Request::new("key"));
    assert!(is_snapshot_of_run(&after_begin(&mut fresh), 1));
    drop((stuck, resumed));

    // Nor does a dropped watch.
    let publisher = first_handler_hangs();
    let [mut stuck, mut dropped] = [(); 2].map(|()| publisher.subscribe(Request::new("key")));
    wait(&mut stuck);
    wait(&mut dropped);
    drop(dropped);
    assert!(after_begin(&mut publisher.subscribe(Request::new("key"))).is_pending());
    drop(stuck);
    let mut fresh = publisher.subscribe(Request::new("key"));
    assert!(is_snapshot_of_run(&after_begin(&mut fresh), 1));
}

/// A buffer, and an event whose strong count shows what a reader keeps.
fn unread() -> (EventBuffer<Arc<u32>>, Arc<u32>) {
    let buffer = EventBuffer::builder().replay(Replay::None).build();
    (buffer, Arc::new(1))
}

/// Another thread closes it, and the reader is neither polled nor dropped.
#[test]
fn a_close_frees_at_once_what_only_that_reader_kept() {
    let _watchdog = watchdog();
    let (mut buffer, event) = unread();
    let items = buffer.subscribe();
    let mut clones = buffer.subscribe().cloned();
    let within = buffer.subscribe().limited(LagLimit::items(1_000));
    let behind = buffer.subscribe().limited(LagLimit::items(3));
    let mut waits = buffer.subscribe();
    wait(&mut waits);
    buffer.extend((0..100).map(|_| event.clone()));
    drop(clones.try_recv());
    let closers = [
        items.closer(),
        clones.closer(),
        within.closer(),
        behind.closer(),
        waits.closer(),
    ];
    assert!(buffer.is_observed());
    std::thread::scope(|scope| {
        for closer in &closers {
            scope.spawn(|| assert!(closer.close("enough")));
        }
    });
    assert_eq!(Arc::strong_count(&event), 1);
    assert!(!buffer.is_observed(), "a closed reader is not counted");
    assert_eq!((items.lag(), clones.lag()), (0, 0));
    assert_eq!((within.lag(), behind.lag()), (0, 0));
    drop((items, clones, within, behind, waits));
}

#[test]
fn an_item_of_a_closed_reader_keeps_later_items() {
    let _watchdog = watchdog();
    let (mut buffer, event) = unread();
    let mut reader = buffer.subscribe();
    buffer.extend((0..3).map(|_| event.clone()));
    let item = reader.try_recv().unwrap();
    reader.closer().close("enough");
    assert_eq!(Arc::strong_count(&event), 4);
    assert!(item.try_next().is_ok());
    drop(item);
    assert_eq!(Arc::strong_count(&event), 1);
}

#[test]
fn a_closed_reader_frees_a_chunk_when_it_is_read_again() {
    let _watchdog = watchdog();
    let (mut buffer, event) = unread();
    let mut reader = buffer.subscribe();
    let closer = reader.closer();
    buffer.extend((0..3).map(|_| event.clone()));
    {
        let Some(Ok(chunk)) = reader.next_chunk().now_or_never() else {
            panic!()
        };
        let lent: Vec<_> = chunk.collect();
        closer.close("enough");
        buffer.push(event.clone());
        assert!(
            lent.iter().all(|event| ***event == 1),
            "the chunk is still valid"
        );
        assert_eq!(Arc::strong_count(&event), 5);
    }
    assert!(reader.try_recv().is_err());
    assert_eq!(Arc::strong_count(&event), 1);

    // Measuring its lag frees the chunk, too.
    let mut reader = buffer.subscribe();
    let closer = reader.closer();
    buffer.push(event.clone());
    drop(reader.next_chunk().now_or_never());
    closer.close("enough");
    assert_eq!(Arc::strong_count(&event), 2);
    assert_eq!(reader.lag(), 0);
    assert_eq!(Arc::strong_count(&event), 1);
}

/// The `clone` of an event runs in the middle of a read.
#[test]
fn clone_may_close_its_own_reader() {
    struct Closes(Option<Closer>, #[expect(dead_code)] Arc<u32>);

    impl Clone for Closes {
        fn clone(&self) -> Self {
            assert!(self.0.as_ref().is_none_or(|closer| closer.close("enough")));
            Self(None, Arc::new(0))
        }
    }

    let _watchdog = watchdog();
    let event = Arc::new(1);
    for limited in [false, true] {
        let mut buffer = EventBuffer::builder().replay(Replay::None).build();
        let reader = buffer.subscribe();
        let closer = reader.closer();
        buffer.push(Closes(Some(closer), event.clone()));
        buffer.push(Closes(None, event.clone()));
        let (first, second, lag) = if limited {
            let mut reader = reader.limited(LagLimit::items(9));
            (reader.try_recv(), reader.try_recv(), reader.lag())
        } else {
            let mut reader = reader.cloned();
            (reader.try_recv(), reader.try_recv(), reader.lag())
        };
        assert!(first.is_ok());
        assert!(matches!(second, Err(TryRecvError::ForceClosed(_))));
        assert_eq!((lag, Arc::strong_count(&event)), (0, 1));
    }
}

#[test]
fn a_closed_reader_and_all_copies_of_it_return_the_reason() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::builder().replay(Replay::All).build();
    let mut reader = buffer.subscribe();
    buffer.extend([1, 2, 3]);
    assert_eq!(reader.try_recv().unwrap().events(), [1]);
    reader.closer().close("enough");
    let is_closed = |mut reader: event_buffer::Subscription<i32>| {
        matches!(reader.try_recv(), Err(TryRecvError::ForceClosed(_))) && reader.lag() == 0
    };
    assert!(is_closed(reader.clone()) && is_closed(reader.resubscribe()));
    let mut nowhere = reader.position().subscribe();
    let Err(TryRecvError::Failed(reason)) = nowhere.try_recv() else {
        panic!()
    };
    assert_eq!(reason.to_string(), "enough");
    // A bookmark keeps no items, so it still records the reader's place.
    let mut resumed = buffer.upgrade(&reader.bookmark()).unwrap().cloned();
    assert_eq!((resumed.try_recv(), resumed.try_recv()), (Ok(2), Ok(3)));
    assert!(buffer.upgrade(&reader.clone().bookmark()).is_ok());
}

/// The watch is never polled again.
#[test]
fn closing_a_watch_frees_at_once_what_only_it_kept() {
    let _watchdog = watchdog();
    let event = Arc::new(1);
    for close in ways::<Arc<u32>>() {
        let publisher = Publisher::builder().build();
        let watch = publisher.subscribe(Request::new("key").token("token"));
        for index in 1..=100 {
            publisher.publish(index, [("key", event.clone())]).unwrap();
        }
        close(&publisher);
        assert_eq!(Arc::strong_count(&event), 1);
        drop(watch);
    }
}
