//! Wakers and events that use the buffer while it runs them.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use event_buffer::{EventBuffer, Replay, SharedBuffer, Subscription};
use futures::StreamExt;

use crate::support::watchdog;

/// A waker that owns the reader it wakes, and runs a function on it when woken or dropped.
struct Reenter {
    reader: Mutex<Option<Subscription<u32>>>,
    wake: fn(&mut Option<Subscription<u32>>, Waker),
    woken: Mutex<u32>,
}

impl Wake for Reenter {
    fn wake(self: Arc<Self>) {
        *self.woken.lock().unwrap() += 1;
        let waker = Waker::from(Arc::clone(&self));
        (self.wake)(&mut self.reader.lock().unwrap(), waker);
    }
}

fn reentering(
    reader: Subscription<u32>,
    wake: fn(&mut Option<Subscription<u32>>, Waker),
) -> Arc<Reenter> {
    let reenter = Arc::new(Reenter {
        reader: Mutex::new(Some(reader)),
        wake,
        woken: Mutex::new(0),
    });
    let waker = Waker::from(Arc::clone(&reenter));
    let poll = poll(reenter.reader.lock().unwrap().as_mut().unwrap(), &waker);
    assert!(poll.is_pending());
    reenter
}

fn poll(reader: &mut Subscription<u32>, waker: &Waker) -> Poll<Option<u32>> {
    let poll = reader.poll_next_unpin(&mut Context::from_waker(waker));
    poll.map(|item| item.map(|item| item.unwrap()[0]))
}

/// tokio 5429.
#[test]
fn a_wake_that_polls_the_reader_does_not_deadlock() {
    let _watchdog = watchdog();
    let shared = SharedBuffer::new();
    let polls = |reader: &mut Option<Subscription<u32>>, waker: Waker| {
        let reader = reader.as_mut().unwrap();
        while let Poll::Ready(item) = poll(reader, &waker) {
            if item.is_none() {
                break;
            }
        }
    };
    let reenter = reentering(shared.subscribe(), polls);
    shared.push(1).unwrap();
    shared.extend([2, 3]).unwrap();
    shared.append([4, 5]).unwrap();
    assert_eq!(*reenter.woken.lock().unwrap(), 3);
    drop(shared);
    assert_eq!(*reenter.woken.lock().unwrap(), 4);
    reenter.reader.lock().unwrap().take();
}

/// tokio 5429.
#[test]
fn a_wake_that_drops_the_reader_does_not_deadlock() {
    let _watchdog = watchdog();
    let shared = SharedBuffer::new();
    let drops = |reader: &mut Option<Subscription<u32>>, _| drop(reader.take());
    let one = reentering(shared.subscribe(), drops);
    let other = reentering(shared.subscribe(), drops);
    shared.push(1).unwrap();
    assert_eq!(
        (*one.woken.lock().unwrap(), *other.woken.lock().unwrap()),
        (1, 1)
    );
    assert!(!shared.is_observed());
}

/// tokio 5429.
#[test]
fn dropping_a_waker_that_publishes_does_not_deadlock() {
    struct PublishOnDrop(SharedBuffer<u32>);
    impl Wake for PublishOnDrop {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for PublishOnDrop {
        fn drop(&mut self) {
            self.0.push(99).unwrap();
        }
    }
    let _watchdog = watchdog();
    let shared = SharedBuffer::new();
    let mut reader = shared.subscribe();
    for _ in 0..2 {
        // The second one takes the first one's place in the listener.
        let waker = Waker::from(Arc::new(PublishOnDrop(shared.clone())));
        assert!(poll(&mut reader, &waker).is_pending() || shared.latest().is_some());
    }
    shared.push(1).unwrap();
    drop(reader);
    assert!(shared.latest().is_some());
}

#[test]
fn a_payload_that_uses_the_buffer_when_dropped_does_not_deadlock() {
    struct Reenters(Option<SharedBuffer<Reenters>>);
    impl Drop for Reenters {
        fn drop(&mut self) {
            if let Some(shared) = self.0.take() {
                shared.push(Reenters(None)).unwrap();
            }
        }
    }
    let _watchdog = watchdog();
    let shared = SharedBuffer::new();
    shared.push(Reenters(Some(shared.clone()))).unwrap();
    shared.push(Reenters(None)).unwrap(); // The first leaves the window.
    assert_eq!(shared.retained(), 1);
    let nothing: SharedBuffer<Reenters> =
        EventBuffer::builder().replay(Replay::None).build().into();
    nothing.push(Reenters(Some(nothing.clone()))).unwrap();
    nothing.extend([Reenters(Some(nothing.clone()))]).unwrap();
}
