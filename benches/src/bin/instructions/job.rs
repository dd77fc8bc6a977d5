//! Operations with waiting tasks.

use std::hint::black_box;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};

pub(crate) const TIMES: u64 = 1_000;

pub(crate) type Job = Box<dyn FnMut()>;

/// Publishes an event to each of 1,000 channels with waiting tasks. They have waited before, so
/// each buffer allocates as seldom as in the long run, and not all at the same time.
pub(crate) fn publish_to_each<P: FnMut(u64) + 'static>(
    channel: impl Fn() -> (P, Vec<Task>),
) -> Job {
    let mut channels: Vec<_> = (0..TIMES).map(|_| channel()).collect();
    for (place, (publish, tasks)) in channels.iter_mut().enumerate() {
        for event in 0..(32 + place % 16) as u64 {
            tasks.iter_mut().for_each(Task::poll);
            publish(event);
        }
        tasks.iter_mut().for_each(Task::poll);
    }
    Box::new(move || {
        for (publish, _) in &mut channels {
            publish(black_box(0));
        }
    })
}

/// A task that waits, is woken by one event, receives it, and waits again.
pub(crate) fn waiting(mut task: Task, mut publish: impl FnMut(u64) + 'static) -> Job {
    let mut cycle = move |event| {
        task.poll();
        publish(event);
    };
    // The allocations of the first wait are not counted.
    cycle(0);
    Box::new(move || (0..TIMES).for_each(&mut cycle))
}

/// A task that waits for ever.
pub(crate) struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    flag: Arc<Flag>,
    waker: Waker,
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

impl Task {
    pub(crate) fn new(future: impl Future<Output = ()> + 'static) -> Self {
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        Self {
            future: Box::pin(future),
            waker: Waker::from(flag.clone()),
            flag,
        }
    }

    /// Polls the task, which must have been woken.
    pub(crate) fn poll(&mut self) {
        assert!(self.flag.0.swap(false, Relaxed), "an event wakes the task");
        let mut cx = Context::from_waker(&self.waker);
        assert_eq!(self.future.as_mut().poll(&mut cx), Poll::Pending);
    }
}
