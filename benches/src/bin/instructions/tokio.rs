//! The same operations with `tokio::sync::broadcast`.

use std::hint::black_box;

use tokio::sync::broadcast::{Receiver, Sender};

use super::job::{Job, TIMES, Task, publish_to_each, waiting};

/// A channel with room for everything that is sent.
fn filled() -> (Sender<u64>, Receiver<u64>) {
    let (sender, receiver) = tokio::sync::broadcast::channel(TIMES as usize);
    for event in 0..TIMES {
        send(&sender, event);
    }
    (sender, receiver)
}

/// Sends an event, which is refused if there is no receiver.
fn send(sender: &Sender<u64>, event: u64) {
    let _ = black_box(sender.send(black_box(event)));
}

pub(super) fn publish_unobserved() -> Job {
    let sender = Sender::new(TIMES as usize);
    Box::new(move || (0..TIMES).for_each(|event| send(&sender, event)))
}

pub(super) fn publish_observed() -> Job {
    let (sender, receiver) = filled();
    Box::new(move || {
        (0..TIMES).for_each(|event| send(&sender, event));
        black_box(&receiver);
    })
}

pub(super) fn publish_to_waiting(tasks: usize) -> Job {
    publish_to_each(|| {
        let sender = Sender::new(1);
        let tasks = (0..tasks).map(|_| follow(sender.subscribe())).collect();
        (move |event| send(&sender, event), tasks)
    })
}

pub(super) fn receive() -> Job {
    let (sender, mut receiver) = filled();
    Box::new(move || {
        while let Ok(event) = black_box(receiver.try_recv()) {
            black_box(event);
        }
        black_box(&sender);
    })
}

pub(super) fn drain(receivers: usize) -> Job {
    let sender = Sender::new(TIMES as usize);
    let mut receivers: Vec<_> = (0..receivers).map(|_| sender.subscribe()).collect();
    Box::new(move || {
        (0..TIMES).for_each(|event| send(&sender, event));
        for receiver in &mut receivers {
            while let Ok(event) = black_box(receiver.try_recv()) {
                black_box(event);
            }
        }
    })
}

pub(super) fn wait_in_recv() -> Job {
    let sender = Sender::new(1);
    let task = follow(sender.subscribe());
    waiting(task, move |event| send(&sender, event))
}

fn follow(mut receiver: Receiver<u64>) -> Task {
    Task::new(async move { while black_box(receiver.recv().await).is_ok() {} })
}
