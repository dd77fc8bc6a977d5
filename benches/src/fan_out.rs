//! Subscriber tasks on a tokio runtime, and a publisher task that waits until all have received.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;

use crate::payload::Payload;
use crate::peers::Peer;

#[derive(Clone, Copy)]
pub enum Threads {
    /// Tokio's current-thread runtime.
    One,
    /// Tokio's multi-thread runtime with two workers.
    Two,
}

pub struct FanOut<T: Payload, P: Peer<T>> {
    runtime: Runtime,
    /// Present while no publisher runs.
    sender: Option<P::Sender>,
    receipts: Arc<Receipts>,
    subscribers: usize,
    burst: usize,
}

/// The number of subscribers that have not received the burst. It costs all contestants the same:
/// one decrement per burst and subscriber, and one notification per burst.
#[derive(Default)]
struct Receipts {
    missing: AtomicUsize,
    complete: Notify,
}

impl<T: Payload, P: Peer<T>> FanOut<T, P> {
    pub fn new(threads: Threads, subscribers: usize, burst: usize) -> Self {
        let mut builder = match threads {
            Threads::One => Builder::new_current_thread(),
            Threads::Two => Builder::new_multi_thread(),
        };
        let runtime = builder
            .worker_threads(2)
            .build()
            .expect("threads can be started");
        let (sender, receivers) = P::channel(burst, subscribers);
        let receipts = Arc::<Receipts>::default();
        for receiver in receivers {
            runtime.spawn(subscriber::<T, P>(receiver, burst, receipts.clone()));
        }
        Self {
            runtime,
            sender: Some(sender),
            receipts,
            subscribers,
            burst,
        }
    }

    /// Publishes bursts, each after all have received the one before. Returns the time from the
    /// first publish to the last receipt.
    pub fn run(&mut self, bursts: u32) -> Duration {
        self.publish(bursts, None).0
    }

    /// Returns the time that the writer takes for each of a number of bursts.
    pub fn latencies(&mut self, bursts: u32) -> Vec<Duration> {
        self.publish(bursts, Some(Vec::new())).1.unwrap_or_default()
    }

    fn publish(
        &mut self,
        bursts: u32,
        mut latencies: Option<Vec<Duration>>,
    ) -> (Duration, Option<Vec<Duration>>) {
        let mut sender = self.sender.take().expect("one publisher at a time");
        let receipts = self.receipts.clone();
        let (subscribers, burst) = (self.subscribers, self.burst as u64);
        // A task, so that it runs on the same threads as the subscribers.
        let publisher = self.runtime.spawn(async move {
            let start = Instant::now();
            for _ in 0..bursts {
                receipts.missing.store(subscribers, Ordering::Relaxed);
                let before = latencies.is_some().then(Instant::now);
                P::send_all(&mut sender, (0..burst).map(T::make));
                if let (Some(before), Some(latencies)) = (before, &mut latencies) {
                    latencies.push(before.elapsed());
                }
                receipts.complete.notified().await;
            }
            (sender, start.elapsed(), latencies)
        });
        let (sender, elapsed, latencies) = self
            .runtime
            .block_on(publisher)
            .expect("the publisher does not panic");
        self.sender = Some(sender);
        (elapsed, latencies)
    }
}

async fn subscriber<T: Payload, P: Peer<T>>(
    mut receiver: P::Receiver,
    burst: usize,
    receipts: Arc<Receipts>,
) {
    loop {
        let mut received = 0;
        while received < burst {
            received += P::receive(&mut receiver).await;
        }
        if receipts.missing.fetch_sub(1, Ordering::AcqRel) == 1 {
            receipts.complete.notify_one();
        }
    }
}
