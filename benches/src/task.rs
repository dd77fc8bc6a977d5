//! A task that is polled by hand.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};

use crate::payload::Payload;
use crate::peers::{self, Peer};

pub struct Task<F> {
    future: Pin<Box<F>>,
    waker: Waker,
}

/// Wakes nothing, but is counted and written to, as a task is.
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

pub fn waker() -> Waker {
    Waker::from(Arc::new(Flag(AtomicBool::new(false))))
}

/// A task that follows.
pub fn follow<T: Payload, P: Peer<T>>(
    receiver: P::Receiver,
    waker: Waker,
) -> Task<impl Future<Output = ()>> {
    Task {
        future: Box::pin(peers::follow::<T, P>(receiver)),
        waker,
    }
}

impl<F: Future<Output = ()>> Task<F> {
    /// Lets it receive all there is, and wait.
    pub fn poll(&mut self) {
        let answer = self
            .future
            .as_mut()
            .poll(&mut Context::from_waker(&self.waker));
        assert_eq!(answer, Poll::Pending, "it follows for ever");
    }
}
