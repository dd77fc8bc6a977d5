//! Models of every hand-over between threads; loom runs each of them in all interleavings.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --test loom`
#![cfg(loom)]

mod closing;
mod counts;
#[cfg(feature = "publisher")]
mod flight;
mod freeing;
mod limits;
#[cfg(feature = "publisher")]
mod publisher;
mod share;
mod shared;
mod splice;
mod waiting;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use event_buffer::{EventBuffer, Replay};
use loom::sync::atomic::Ordering::Release;
use loom::thread;

fn buffer<T>() -> EventBuffer<T> {
    EventBuffer::builder().replay(Replay::None).build()
}

/// Publishes an event on another thread, which returns the buffer so that it does not end.
fn pushing(mut buffer: EventBuffer<u32>) -> thread::JoinHandle<EventBuffer<u32>> {
    thread::spawn(move || {
        buffer.push(1);
        buffer
    })
}

/// A waker that records whether it was woken.
#[derive(Default)]
struct Woken(loom::sync::atomic::AtomicBool);

impl std::task::Wake for Woken {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.store(true, Release);
    }
}

/// Polls a future once with the given waker; returns whether it is pending.
fn is_pending(future: impl Future, woken: &std::sync::Arc<Woken>) -> bool {
    let waker = Waker::from(woken.clone());
    pin!(future)
        .poll(&mut Context::from_waker(&waker))
        .is_pending()
}
