//! The operations whose instructions `.ci/instructions` counts.
//!
//! ```text
//! instructions          # the names of the operations
//! instructions NAME N   # does the operation N times 1,000 times, for N = 1 or 2
//! ```
//!
//! Everything is prepared for both runs, whatever N is, and the process ends without clean-up, so
//! that the difference between the runs is exactly 1,000 operations.
//!
//! Some operations also exist for `tokio`, under the same name.

mod job;
mod publisher;
mod tokio;

use std::hint::black_box;
use std::process;

use event_buffer::{EventBuffer, LagLimit, Replay, SharedBuffer, Subscription};
use futures::{FutureExt, Stream, StreamExt};

use job::{Job, TIMES, Task, publish_to_each, waiting};

type Operation = (&'static str, fn() -> Job);

const OPERATIONS: [Operation; 30] = [
    ("publish, unobserved, Replay::None", publish_unobserved),
    ("publish, unobserved", publish_unobserved_but_retained),
    ("publish by a shared buffer, unobserved", publish_shared),
    ("tokio: publish, unobserved", tokio::publish_unobserved),
    ("publish, observed, no task waiting", publish_observed),
    (
        "tokio: publish, observed, no task waiting",
        tokio::publish_observed,
    ),
    (
        "publish by extend, observed, no task waiting",
        extend_observed,
    ),
    (
        "publish, observed, beside a stuck limited reader",
        publish_beside_stuck,
    ),
    ("publish to a waiting subscriber", || publish_to_waiting(1)),
    ("tokio: publish to a waiting subscriber", || {
        tokio::publish_to_waiting(1)
    }),
    ("publish to ten waiting subscribers", || {
        publish_to_waiting(10)
    }),
    ("tokio: publish to ten waiting subscribers", || {
        tokio::publish_to_waiting(10)
    }),
    ("try_recv, ready", receive_item),
    ("cloned try_recv, ready", receive_clone),
    ("tokio: cloned try_recv, ready", tokio::receive),
    ("limited try_recv, ready", receive_limited),
    ("resubscribe and drop, 1,000 behind", resubscribe),
    ("next_chunk, ready, per event", receive_chunk),
    ("drain, an event to 1 reader of clones", || drain(1)),
    ("tokio: drain, an event to 1 reader of clones", || {
        tokio::drain(1)
    }),
    ("drain, an event to 100 readers of clones", || drain(100)),
    ("tokio: drain, an event to 100 readers of clones", || {
        tokio::drain(100)
    }),
    ("recv, waiting: publish, wake, receive, wait", wait_in_recv),
    (
        "tokio: recv, waiting: publish, wake, receive, wait",
        tokio::wait_in_recv,
    ),
    (
        "Stream, waiting: publish, wake, receive, wait",
        wait_as_stream,
    ),
    (
        "publisher: commit, unwatched, no history",
        publisher::commit_unwatched,
    ),
    (
        "publisher: commit, watched, no task waiting",
        publisher::commit_watched,
    ),
    ("publisher: commit, wake, receive, wait, no history", || {
        publisher::wait(0)
    }),
    ("publisher: commit, wake, receive, wait", || {
        publisher::wait(100)
    }),
    (
        "publisher: subscribe and drop a watch",
        publisher::subscribe,
    ),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => OPERATIONS.iter().for_each(|(name, _)| println!("{name}")),
        [name, halves @ ("1" | "2")] => {
            let found = OPERATIONS.iter().find(|(known, _)| *known == name);
            let (_, prepare) = found.expect("the operation is one of those listed");
            let (mut first, mut second) = (prepare(), prepare());
            first();
            if halves == "2" {
                second();
            }
            process::exit(0);
        }
        _ => panic!("usage: instructions [NAME 1|2]"),
    }
}

fn publish_unobserved() -> Job {
    let mut buffer = EventBuffer::builder().replay(Replay::None).build();
    Box::new(move || (0..TIMES).for_each(|event| buffer.push(black_box(event))))
}

fn publish_unobserved_but_retained() -> Job {
    let mut buffer = EventBuffer::new();
    Box::new(move || (0..TIMES).for_each(|event| buffer.push(black_box(event))))
}

fn publish_shared() -> Job {
    let buffer = SharedBuffer::new();
    Box::new(move || (0..TIMES).for_each(|event| buffer.push(black_box(event)).unwrap()))
}

fn publish_observed() -> Job {
    let mut buffer = EventBuffer::new();
    let reader = buffer.subscribe();
    Box::new(move || {
        (0..TIMES).for_each(|event| buffer.push(black_box(event)));
        black_box(&reader);
    })
}

fn extend_observed() -> Job {
    let mut buffer = EventBuffer::new();
    let reader = buffer.subscribe();
    Box::new(move || {
        buffer.extend((0..TIMES).map(black_box));
        black_box(&reader);
    })
}

/// The stuck reader exceeds its limit from the start, so the writer moves it forward. The other
/// reader keeps the events, so that freeing them is not counted.
fn publish_beside_stuck() -> Job {
    let mut buffer = EventBuffer::new();
    let readers = (
        buffer.subscribe(),
        buffer.subscribe().limited(LagLimit::items(TIMES)),
    );
    (0..2 * TIMES).for_each(|event| buffer.push(event));
    Box::new(move || {
        (0..TIMES).for_each(|event| buffer.push(black_box(event)));
        black_box(&readers);
    })
}

/// A buffer with a reader that has 1,000 unread events.
fn filled() -> (EventBuffer<u64>, Subscription<u64>) {
    let mut buffer = EventBuffer::new();
    let reader = buffer.subscribe();
    (0..TIMES).for_each(|event| buffer.push(event));
    (buffer, reader)
}

fn receive_item() -> Job {
    let (buffer, mut reader) = filled();
    Box::new(move || {
        while let Ok(item) = black_box(reader.try_recv()) {
            drop(item);
        }
        black_box(&buffer);
    })
}

fn receive_clone() -> Job {
    let (buffer, reader) = filled();
    let mut reader = reader.cloned();
    Box::new(move || {
        while let Ok(event) = black_box(reader.try_recv()) {
            black_box(event);
        }
        black_box(&buffer);
    })
}

fn resubscribe() -> Job {
    let (buffer, reader) = filled();
    Box::new(move || {
        (0..TIMES).for_each(|_| drop(black_box(reader.resubscribe())));
        black_box(&buffer);
    })
}

fn receive_limited() -> Job {
    let (buffer, reader) = filled();
    let mut reader = reader.limited(LagLimit::items(TIMES));
    Box::new(move || {
        while let Ok(event) = black_box(reader.try_recv()) {
            black_box(event);
        }
        black_box(&buffer);
    })
}

fn receive_chunk() -> Job {
    let (buffer, mut reader) = filled();
    Box::new(move || {
        let chunk = reader.next_chunk().now_or_never();
        let chunk = chunk.expect("it is ready").expect("the buffer is open");
        chunk.for_each(|event| {
            black_box(event);
        });
        black_box(&buffer);
    })
}

/// A burst is published, then each reader reads all of it.
fn drain(readers: usize) -> Job {
    let mut buffer = EventBuffer::builder().replay(Replay::None).build();
    let mut readers: Vec<_> = (0..readers).map(|_| buffer.subscribe().cloned()).collect();
    Box::new(move || {
        (0..TIMES).for_each(|event| buffer.push(black_box(event)));
        for reader in &mut readers {
            while let Ok(event) = black_box(reader.try_recv()) {
                black_box(event);
            }
        }
    })
}

fn publish_to_waiting(tasks: usize) -> Job {
    publish_to_each(|| {
        let mut buffer = EventBuffer::builder().replay(Replay::None).build();
        let tasks = (0..tasks).map(|_| follow(buffer.subscribe())).collect();
        (move |event| buffer.push(event), tasks)
    })
}

fn wait_in_recv() -> Job {
    let mut buffer = EventBuffer::new();
    let task = follow(buffer.subscribe());
    waiting(task, move |event| buffer.push(event))
}

fn wait_as_stream() -> Job {
    async fn follow(mut stream: impl Stream + Unpin) {
        while black_box(stream.next().await).is_some() {}
    }
    let mut buffer = EventBuffer::new();
    let task = Task::new(follow(buffer.subscribe()));
    waiting(task, move |event| buffer.push(event))
}

fn follow(mut reader: Subscription<u64>) -> Task {
    Task::new(async move { while black_box(reader.recv().await).is_ok() {} })
}
