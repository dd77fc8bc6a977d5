//! A future that several tasks drive together.

use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use event_buffer::publisher::models::Flight;
use loom::future::block_on;
use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use loom::sync::atomic::Ordering::{Acquire, Release};
use loom::thread;

/// The future wakes itself once and yields. Three tasks drive it; two are polled once and dropped.
#[test]
fn flight_against_passengers_that_leave() {
    loom::model(|| {
        let mut yielded = false;
        let mut stays = Flight::new(Box::pin(poll_fn(move |cx| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })));
        let leaving = [(); 2].map(|()| {
            let mut leaves = stays.join().unwrap();
            thread::spawn(move || _ = leaves.poll(&Context::from_waker(Waker::noop())))
        });
        block_on(poll_fn(|cx| stays.poll(cx)));
        for leaving in leaving {
            leaving.join().unwrap();
        }
    });
}

/// Another thread wakes the future.
#[test]
fn flight_against_a_wake_up_from_outside() {
    loom::model(|| {
        let (open, gate) = (
            Arc::new(loom::future::AtomicWaker::new()),
            Arc::new(AtomicU64::new(0)),
        );
        let (waker, is_open) = (open.clone(), gate.clone());
        let mut stays = Flight::new(Box::pin(poll_fn(move |cx| {
            waker.register_by_ref(cx.waker());
            if is_open.load(Acquire) == 1 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })));
        let mut leaves = stays.join().unwrap();
        let leaving = thread::spawn(move || _ = leaves.poll(&Context::from_waker(Waker::noop())));
        let opening = thread::spawn(move || {
            gate.store(1, Release);
            open.wake();
        });
        block_on(poll_fn(|cx| stays.poll(cx)));
        leaving.join().unwrap();
        opening.join().unwrap();
    });
}

/// The future is given up before, while or after it is polled: it is dropped, and so ends.
#[test]
fn flight_against_give_up() {
    loom::model(|| {
        let held = Arc::new(());
        let holds = held.clone();
        let mut first = Flight::new(Box::pin(poll_fn(move |_| {
            _ = &holds;
            Poll::Pending
        })));
        let gives_up = first.join().unwrap();
        let giving_up = thread::spawn(move || gives_up.give_up());
        block_on(poll_fn(|cx| first.poll(cx)));
        giving_up.join().unwrap();
        assert_eq!(Arc::strong_count(&held), 1);
    });
}

/// The future also finishes by itself: it is dropped once, and both passengers see the end.
#[test]
fn flight_that_finishes_against_give_up() {
    loom::model(|| {
        let held = Arc::new(());
        let holds = held.clone();
        let mut first = Flight::new(Box::pin(poll_fn(move |cx| {
            _ = &holds;
            cx.waker().wake_by_ref();
            Poll::Ready(())
        })));
        let mut second = first.join().unwrap();
        let other = thread::spawn(move || {
            second.give_up();
            assert!(second.poll(&Context::from_waker(Waker::noop())).is_ready());
        });
        block_on(poll_fn(|cx| first.poll(cx)));
        other.join().unwrap();
        assert_eq!(Arc::strong_count(&held), 1);
    });
}
