//! The operations of a publisher.

use std::hint::black_box;

use event_buffer::publisher::{Publisher, Request, Watch};
use futures::StreamExt;

use crate::job::{Job, TIMES, Task, waiting};

fn publisher(history: usize) -> Publisher<u64, u64> {
    Publisher::builder().history(history).build()
}

fn commit(publisher: &Publisher<u64, u64>, event: u64) {
    let published = publisher.publish_next([(black_box(0), event)]);
    published.expect("indexes are left");
}

pub(crate) fn commit_unwatched() -> Job {
    let publisher = publisher(0);
    Box::new(move || (0..TIMES).for_each(|event| commit(&publisher, event)))
}

pub(crate) fn commit_watched() -> Job {
    let publisher = publisher(0);
    let watch = publisher.subscribe(Request::new(0));
    Box::new(move || {
        (0..TIMES).for_each(|event| commit(&publisher, event));
        black_box(&watch);
    })
}

pub(crate) fn wait(history: usize) -> Job {
    async fn follow(mut watch: Watch<u64, u64>) {
        while black_box(watch.next().await).is_some() {}
    }
    let publisher = publisher(history);
    let task = Task::new(follow(publisher.subscribe(Request::new(0))));
    waiting(task, move |event| commit(&publisher, event))
}

pub(crate) fn subscribe() -> Job {
    let publisher = publisher(100);
    Box::new(move || {
        (0..TIMES).for_each(|key| drop(black_box(publisher.subscribe(Request::new(key)))));
    })
}
