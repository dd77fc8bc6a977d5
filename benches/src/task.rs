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

/// A waker that wakes nothing, but is counted and written to like a task's.
#[derive(Default)]
pub struct Flag(AtomicBool);

impl Flag {
    /// Returns whether it was woken since the last call.
    pub fn take(&self) -> bool {
        self.0.swap(false, Relaxed)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

pub fn waker() -> Waker {
    Waker::from(Arc::<Flag>::default())
}

/// A task that follows a channel for ever.
pub fn follow<T: Payload, P: Peer<T>>(
    receiver: P::Receiver,
    waker: Waker,
) -> Task<impl Future<Output = ()>> {
    Task::new(peers::follow::<T, P>(receiver), waker)
}

impl<F: Future<Output = ()>> Task<F> {
    pub fn new(future: F, waker: Waker) -> Self {
        let future = Box::pin(future);
        Self { future, waker }
    }

    /// Lets the task receive everything that is ready, and wait.
    pub fn poll(&mut self) {
        let poll = self
            .future
            .as_mut()
            .poll(&mut Context::from_waker(&self.waker));
        assert_eq!(poll, Poll::Pending, "it follows for ever");
    }
}
