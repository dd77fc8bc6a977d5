//! Waiting by blocking a thread.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel, Ordering::Release};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::error::{RecvError, RecvTimeoutError};
use crate::sync::Instant;

/// Runs a `recv` on this thread.
pub(crate) fn recv_blocking<R>(
    recv: impl Future<Output = Result<R, RecvError>>,
) -> Result<R, RecvError> {
    // Without a deadline it always completes.
    block_on(recv, None).unwrap_or(Err(RecvError::Closed))
}

/// Runs a `recv` on this thread, for at most `timeout`.
pub(crate) fn recv_timeout<R>(
    recv: impl Future<Output = Result<R, RecvError>>,
    timeout: Duration,
) -> Result<R, RecvTimeoutError> {
    match block_on(recv, Some(timeout)) {
        Some(received) => received.map_err(RecvTimeoutError::from),
        None => Err(RecvTimeoutError::Timeout),
    }
}

/// Runs a future on this thread. Returns `None` if the timeout passes first.
///
/// This is not an executor's `block_on`: like any blocking call, it may be used inside an executor.
/// The clock is read only if the future is not ready at once.
pub(crate) fn block_on<R>(future: impl Future<Output = R>, timeout: Option<Duration>) -> Option<R> {
    struct Unpark {
        thread: Thread,
        /// Set by a wake-up. The thread's own token is not enough: another call that parks the
        /// thread could consume it.
        woken: AtomicBool,
    }

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.wake_by_ref();
        }

        fn wake_by_ref(self: &Arc<Self>) {
            // Release: pairs with the `swap` below.
            self.woken.store(true, Release);
            self.thread.unpark();
        }
    }

    let mut future = pin!(future);
    let unpark = Arc::new(Unpark {
        thread: thread::current(),
        woken: AtomicBool::new(false),
    });
    let waker = Waker::from(Arc::clone(&unpark));
    let mut cx = Context::from_waker(&waker);
    if let Poll::Ready(received) = future.as_mut().poll(&mut cx) {
        return Some(received);
    }
    // Without threads, nothing can be published while this thread waits.
    if cfg!(all(target_family = "wasm", target_os = "unknown")) {
        assert!(
            timeout.is_some(),
            "blocking on a target without threads never ends"
        );
        return None;
    }
    // A deadline too far away to be represented is no deadline.
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        while !unpark.woken.swap(false, AcqRel) {
            match deadline {
                None => thread::park(),
                Some(deadline) => match deadline.checked_duration_since(Instant::now()) {
                    Some(left) if !left.is_zero() => thread::park_timeout(left),
                    _ => return None,
                },
            }
        }
        if let Poll::Ready(received) = future.as_mut().poll(&mut cx) {
            return Some(received);
        }
    }
}
