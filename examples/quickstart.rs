//! One writer, two readers: `cargo run --example quickstart`

use std::thread;

use event_buffer::EventBuffer;
use futures::{StreamExt, executor::block_on};

fn main() {
    let mut buffer = EventBuffer::new();
    let mut blocking = buffer.subscribe().cloned();
    let mut stream = buffer.subscribe().cloned();

    // A stream works with any executor.
    let follower = async move {
        while let Some(Ok(event)) = stream.next().await {
            println!("stream:   {event}");
        }
    };
    let follower = thread::spawn(|| block_on(follower));
    for n in 1..=3 {
        buffer.push(format!("event {n}"));
    }
    buffer.close();

    // This reader starts late, and has missed nothing.
    while let Ok(event) = blocking.recv_blocking() {
        println!("blocking: {event}");
    }
    follower.join().expect("the follower does not panic");
}
