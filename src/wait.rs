//! Waiting for a slot to be written: listen, look again, then wait.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

use event_listener::{Event, listener};

use crate::wake::RelaySlot;

/// Polls a listener through the relay, unless that was done for the same task already.
pub(crate) fn poll_listener(
    listener: Pin<&mut impl Future<Output = ()>>,
    registered: &mut bool,
    relay: &mut RelaySlot,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let old = relay.aim(cx.waker());
    if *registered && old.is_ok() {
        return Poll::Pending;
    }
    *registered = true;
    let answer = listener.poll(&mut Context::from_waker(relay.waker()));
    drop(old);
    answer
}

/// Waits until `ready` answers true, which somebody makes known by the event.
///
/// The listener is dropped as soon as `ready` is seen, without polling it again.
pub(crate) async fn until(
    event: &Event,
    relay: &mut RelaySlot,
    mut ready: impl FnMut(&mut Context<'_>) -> bool,
) {
    listener!(event => listener);
    let mut registered = false;
    poll_fn(|cx| {
        if ready(cx) {
            return Poll::Ready(());
        }
        poll_listener(Pin::new(&mut listener), &mut registered, relay, cx)
    })
    .await;
}

/// Runs a future on this thread; `None` if the deadline passes first.
///
/// Not an executor's `block_on`: it may be used inside of one, as any blocking call may.
pub(crate) fn block_on<R>(future: impl Future<Output = R>, deadline: Option<Instant>) -> Option<R> {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(answer) = future.as_mut().poll(&mut cx) {
            return Some(answer);
        }
        match deadline {
            None => thread::park(),
            Some(deadline) => match deadline.checked_duration_since(Instant::now()) {
                Some(left) if !left.is_zero() => thread::park_timeout(left),
                _ => return None,
            },
        }
    }
}
