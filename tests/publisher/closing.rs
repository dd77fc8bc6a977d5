//! How a watch ends, and the reason it reports.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use event_buffer::publisher::{
    Begin, CloseReason, PublishError, Publisher, Request, ResetReason, Resume, SnapshotPanicked,
    Update, Watch, WatchError,
};
use event_buffer::{RecvError, TryRecvError};
use futures::stream::FusedStream;
use futures::{FutureExt, StreamExt};
use tokio_test::task;

use super::seen::Seen::{End, Events, Failed, Over};
use super::seen::{Key, all, anew, closed_by, next, publish, updates, watch};
use super::store::Store;
use crate::support::watchdog;

/// Consul 20876.
#[test]
fn each_kind_of_close_reports_its_own_reason() {
    let _watchdog = watchdog();
    let publisher = Publisher::builder().epoch(1).build();
    let subscribe = |key: &'static str, token: &'static str| {
        let mut watch = publisher.subscribe(Request::new(key).token(token));
        assert_eq!(all(&mut watch), [End(0)]);
        watch
    };
    let mut bystander = subscribe("b", "bob");
    let mut alice = subscribe("a", "alice");
    let mut too = subscribe("b", "alice");
    publisher.publish(1, [("a", 1), ("b", 1)]).unwrap();
    publisher.close_token("alice");
    // What it had not received is not delivered.
    assert_eq!(all(&mut alice), [closed_by(CloseReason::AccessChanged)]);
    assert_eq!(all(&mut too), [closed_by(CloseReason::AccessChanged)]);
    assert_eq!((next(&mut alice), next(&mut too)), (Over, Over));
    assert_eq!(all(&mut bystander), [Events(1, vec![1])]);

    let mut keyed = publisher.subscribe(Request::new("a"));
    publisher.close_key(&"a");
    assert_eq!(all(&mut keyed), [closed_by(CloseReason::KeyClosed)]);
    publisher.close_all();
    assert_eq!(all(&mut bystander), [closed_by(CloseReason::AllClosed)]);

    let request = Request::new("a").after(Resume { epoch: 1, index: 7 });
    let mut resetting = publisher.subscribe(request);
    publisher.reset(2);
    assert_eq!(publisher.epoch(), 2);
    assert_eq!(
        all(&mut resetting),
        [closed_by(CloseReason::StateReset { epoch: 2 })]
    );
    publisher.publish(1, [("a", 1)]).unwrap();

    let mut last = watch(&publisher, "a");
    publisher.shutdown();
    assert_eq!(all(&mut last), [closed_by(CloseReason::ShutDown)]);
    assert_eq!(
        all(&mut watch(&publisher, "a")),
        [closed_by(CloseReason::ShutDown)]
    );
    assert_eq!(
        publisher.publish(9, [("a", 1)]),
        Err(PublishError::ShutDown)
    );
}

#[test]
fn closing_a_watch_wakes_its_task() {
    let _watchdog = watchdog();
    let store = Store::default();
    let publisher = store.publisher(0, Duration::ZERO);
    let _closed = store.gate();
    let waiting_for_events = Publisher::<&str, u32>::builder().build();
    let mut events = task::spawn(watch(&waiting_for_events, "a"));
    let mut snapshot = task::spawn(watch(&publisher, "a"));
    for watch in [&mut events, &mut snapshot] {
        while watch.poll_next().is_ready() {}
    }
    waiting_for_events.close_all();
    publisher.close_key(&"a");
    assert!(events.is_woken() && snapshot.is_woken());
}

/// Nomad 27312.
#[test]
fn a_closed_watch_does_not_stay_registered() {
    let _watchdog = watchdog();
    let publisher = Publisher::builder().build();
    let one = publisher.subscribe(Request::new("a").token("alice"));
    let other = watch(&publisher, "a");
    assert_eq!(publisher.stats().subscriptions, 2);
    publisher.close_token("alice");
    assert_eq!(publisher.stats().subscriptions, 1);
    drop(other);
    assert_eq!(
        (publisher.stats().subscriptions, publisher.stats().keys),
        (0, 0)
    );
    // Its drop finds nothing to remove, not even from a topic that stands in its place.
    let fresh = watch(&publisher, "b");
    drop(one);
    assert_eq!(
        (publisher.stats().subscriptions, publisher.stats().keys),
        (1, 1)
    );
    drop(fresh);
    let _: Publisher<&str, u32> = publisher;
}

#[test]
fn watches_end_with_the_last_handle() {
    let _watchdog = watchdog();
    let publisher = Publisher::builder().build();
    let mut watch = watch(&publisher, "a");
    let handle = publisher.clone();
    drop(publisher);
    handle.publish(1, [("a", 1)]).unwrap();
    drop(handle);
    assert_eq!(all(&mut watch), [End(0), Events(1, vec![1])]);
    assert_eq!(next(&mut watch), Over);
    assert!(watch.is_terminated());
}

#[test]
fn an_event_whose_filter_panicked_is_not_delivered_after_a_close() {
    let _watchdog = watchdog();
    let publisher = Publisher::builder().build();
    let panics = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&panics);
    let mut watch = publisher.subscribe(Request::new("a").filter(move |_: &u32| {
        assert!(counted.fetch_add(1, Relaxed) > 0, "as planned");
        true
    }));
    assert_eq!(next(&mut watch), End(0));
    publisher.publish(1, [("a", 1)]).unwrap();
    let panicking = std::panic::AssertUnwindSafe(|| next(&mut watch));
    std::panic::catch_unwind(panicking).unwrap_err();
    publisher.close_key(&"a");
    assert_eq!(all(&mut watch), [closed_by(CloseReason::KeyClosed)]);
    assert_eq!(panics.load(Relaxed), 1, "it is not asked again");
}

#[test]
fn a_watch_is_terminated_only_once_it_has_ended() {
    let _watchdog = watchdog();
    let publisher = Publisher::<&str, u32>::builder().build();
    let mut watch = watch(&publisher, "a");
    assert!(!watch.is_terminated());
    all(&mut watch);
    assert!(!watch.is_terminated(), "it waits");
    drop(publisher);
    assert_eq!(next(&mut watch), Over);
    assert!(watch.is_terminated());
}

#[test]
fn each_error_of_a_watch_describes_its_reason() {
    use std::error::Error;
    let _watchdog = watchdog();
    let reasons = [
        (CloseReason::AccessChanged, "access"),
        (CloseReason::KeyClosed, "key"),
        (CloseReason::AllClosed, "all watches"),
        (CloseReason::StateReset { epoch: 7 }, "epoch 7"),
        (CloseReason::ShutDown, "shut down"),
    ];
    for (reason, text) in reasons {
        assert!(reason.to_string().contains(text));
        let error = WatchError::Closed(reason);
        assert!(error.to_string().contains(text) && error.source().is_none());
    }
    assert!(PublishError::ShutDown.to_string().contains("shut down"));
    let backwards = PublishError::IndexNotGreater { index: 4, last: 5 };
    assert!(backwards.to_string().contains("index 4") && backwards.to_string().contains("index 5"));

    let publisher = Publisher::<&str, u32>::builder()
        .snapshot(|_, snapshot| {
            drop(snapshot);
            async { panic!("as planned") }
        })
        .build();
    let mut failed = watch(&publisher, "a");
    failed.next().now_or_never();
    let failed = failed.next().now_or_never();
    let Some(Some(Err(error))) = failed else {
        panic!("no snapshot")
    };
    assert!(error.to_string().contains("snapshot"));
    let source = error.source().unwrap();
    assert!(source.is::<SnapshotPanicked>() && source.to_string().contains("panicked"));
}

/// The close is reported even if a waker removes the topic during it.
#[test]
fn a_closed_watch_reports_the_close_even_if_its_topic_is_removed() {
    type Place = Mutex<Option<Watch<&'static str, u32>>>;

    /// Drops the watch that stays open, the last to need the topic, and then polls the others.
    struct Meddles {
        other: Place,
        closed: [Place; 2],
    }

    impl Wake for Meddles {
        fn wake(self: Arc<Self>) {
            let other = self.other.lock().unwrap().take();
            drop(other);
            let mut cx = Context::from_waker(Waker::noop());
            for watch in &self.closed {
                let mut watch = watch.lock().unwrap();
                let Some(open) = watch.as_mut() else { continue };
                if let Poll::Ready(end) = open.poll_next_unpin(&mut cx) {
                    assert!(matches!(end, Some(Err(WatchError::Closed(_)))));
                    // Reported once.
                    *watch = None;
                }
            }
        }
    }

    let _watchdog = watchdog();
    let publisher = Publisher::builder().history(0).build();
    let watch = |token| {
        let mut watch = publisher.subscribe(Request::new("key").token(token));
        assert_eq!(all(&mut watch), [End(0)]);
        Mutex::new(Some(watch))
    };
    let meddles = Arc::new(Meddles {
        other: watch("stays"),
        closed: [watch("goes"), watch("goes")],
    });
    let waker = Waker::from(meddles.clone());
    let mut cx = Context::from_waker(&waker);
    for watch in &meddles.closed {
        let mut watch = watch.lock().unwrap();
        assert!(
            watch
                .as_mut()
                .unwrap()
                .poll_next_unpin(&mut cx)
                .is_pending()
        );
    }
    publisher.close_token("goes");
    assert_eq!(publisher.stats().keys, 0);
}

#[test]
fn a_watch_has_the_methods_of_a_reader() {
    let _watchdog = watchdog();
    let publisher = Publisher::builder().build();
    let mut watch = publisher.subscribe(Request::new("a"));
    assert!(matches!(watch.try_recv(), Ok(Update::Begin(Begin::Fresh))));
    assert!(matches!(
        watch.recv_blocking(),
        Ok(Update::EndOfSnapshot { index: 0 })
    ));
    assert_eq!(watch.try_recv().unwrap_err(), TryRecvError::Empty);
    publish(&publisher, "a", 1);
    assert!(matches!(
        watch.recv_timeout(Duration::ZERO),
        Ok(Update::Events(_))
    ));
    assert!(!watch.is_closed());
    assert!(watch.closer().close("enough"));
    assert!(!watch.closer().close("again"));
    assert!(watch.is_closed());
    let Some(Err(RecvError::ForceClosed(reason))) = watch.recv().now_or_never() else {
        panic!("it was closed");
    };
    assert_eq!(reason.to_string(), "enough");
    assert_eq!(watch.try_recv().unwrap_err(), TryRecvError::Closed);
}

/// Its state is void, and there will be no other: that is not the end of what was published.
#[test]
fn a_watch_due_for_a_reset_does_not_end_cleanly_with_the_publisher() {
    let _watchdog = watchdog();
    let publisher = Publisher::builder().build();
    let mut watch = publisher.subscribe(Request::new("a"));
    updates(&mut watch);
    publish(&publisher, "a", 1);
    publisher.refresh(&"a");
    drop(publisher);
    let shut_down = WatchError::Closed(CloseReason::ShutDown);
    assert_eq!(updates(&mut watch), [Failed(shut_down), Over]);
}

#[test]
fn watches_are_closed_by_any_of_their_tokens() {
    let _watchdog = watchdog();
    let publisher = Publisher::<Key, u32>::builder().build();
    let watch = |user: &str, connection: &str| {
        publisher.subscribe(Request::new("a").token(user).token(connection))
    };
    let watches = [watch("alice", "1"), watch("alice", "2"), watch("bob", "3")];
    let closed = || watches.each_ref().map(Watch::is_closed);
    publisher.close_token("2");
    assert_eq!(closed(), [false, true, false]);
    // The predicate may use the publisher.
    publisher.close_where(|tokens| {
        publisher.stats();
        tokens.iter().any(|token| &**token == "bob")
    });
    assert_eq!(closed(), [false, true, true]);
    publisher.close_token("alice");
    assert_eq!(closed(), [true; 3]);
}

/// The lock is released now and then while many watches are closed.
#[test]
fn closing_many_watches_closes_all_of_them() {
    type Close = fn(&Publisher<u8, u32>);
    let _watchdog = watchdog();
    let ways: [(Close, CloseReason); 5] = [
        (|p| p.close_token("all"), CloseReason::AccessChanged),
        (|p| p.close_key(&1), CloseReason::KeyClosed),
        (|p| p.forget(&1), CloseReason::KeyForgotten),
        (|p| p.close_all(), CloseReason::AllClosed),
        (|p| p.close_where(|_| true), CloseReason::AccessChanged),
    ];
    for (close, reason) in ways {
        let publisher = Publisher::<u8, u32>::builder().build();
        let request = || Request::new(1).token("all");
        let mut watches: Vec<_> = (0..3_000).map(|_| publisher.subscribe(request())).collect();
        close(&publisher);
        assert_eq!(publisher.stats().subscriptions, 0);
        for watch in &mut watches {
            assert_eq!(next(watch), closed_by(reason));
        }
    }
}

#[test]
fn refreshing_a_key_resets_all_of_its_watches() {
    let _watchdog = watchdog();
    let publisher = Publisher::<u8, u32>::builder().history(10).build();
    let mut watches: Vec<_> = (0..3_000)
        .map(|_| publisher.subscribe(Request::new(1)))
        .collect();
    for watch in &mut watches {
        assert_eq!(next(watch), End(0));
    }
    publisher.refresh(&1);
    for watch in &mut watches {
        assert_eq!(next(watch), anew(ResetReason::Refreshed));
    }
}
