//! Tests of the crate on `wasm32-unknown-unknown`, which has one thread, and whose `std` has
//! neither a clock nor random numbers.
//!
//! `run.mjs` calls every export whose name starts with `test_`, each in an instance of its own,
//! because a panic aborts the instance. A test fails by panicking.

use std::collections::BTreeSet;
use std::iter;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use event_buffer::publisher::{Publisher, Request, Update, Watch};
use event_buffer::{EventBuffer, LagLimit, RecvError, RecvTimeoutError, TryRecvError};
use futures::Stream;
use wasm_bindgen::prelude::wasm_bindgen;

static PANIC: Mutex<String> = Mutex::new(String::new());

/// Records the messages of panics, which would otherwise be lost: there is no stderr.
#[wasm_bindgen(start)]
pub fn record_panics() {
    std::panic::set_hook(Box::new(|panic| {
        if let Ok(mut message) = PANIC.try_lock() {
            *message = panic.to_string();
        }
    }));
}

/// The message of the panic that ended the instance; empty if there was none.
#[wasm_bindgen]
pub fn panic_message() -> String {
    PANIC.lock().unwrap().clone()
}

/// Remembers that it was woken.
#[derive(Default)]
struct Flag(AtomicBool);

impl Flag {
    fn is_set(&self) -> bool {
        self.0.load(Relaxed)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

/// Polls a stream once; returns `None` if it has nothing to yield yet.
fn poll<S: Stream + Unpin>(stream: &mut S) -> Option<Option<S::Item>> {
    let mut cx = Context::from_waker(Waker::noop());
    match Pin::new(stream).poll_next(&mut cx) {
        Poll::Ready(item) => Some(item),
        Poll::Pending => None,
    }
}

/// Polls a stream that has nothing to yield yet. Returns the flag that its wake-up will set.
fn wait(stream: &mut (impl Stream + Unpin)) -> Arc<Flag> {
    let flag = Arc::new(Flag::default());
    let waker = Waker::from(flag.clone());
    let mut cx = Context::from_waker(&waker);
    assert!(Pin::new(stream).poll_next(&mut cx).is_pending());
    flag
}

#[wasm_bindgen]
pub fn test_publish_and_receive() {
    let mut buffer = EventBuffer::new();
    let mut items = buffer.subscribe();
    let mut clones = buffer.subscribe().cloned();
    assert_eq!(clones.try_recv(), Err(TryRecvError::Empty));
    buffer.push(1);
    buffer.append([2, 3]);
    assert_eq!(items.try_recv().unwrap().events(), [1]);
    assert_eq!(items.try_recv().unwrap().events(), [2, 3]);
    for event in 1..=3 {
        assert_eq!(clones.try_recv(), Ok(event));
    }
    buffer.extend(0..1_000);
    buffer.close();
    for event in 0..1_000 {
        assert_eq!(clones.try_recv(), Ok(event));
    }
    assert_eq!(clones.try_recv(), Err(TryRecvError::Closed));
}

#[wasm_bindgen]
pub fn test_splice() {
    let mut live = EventBuffer::new();
    let tail = live.tail();
    let mut snapshot = EventBuffer::new();
    let mut reader = snapshot.subscribe().cloned();
    snapshot.append(["state 1", "state 2"]);
    live.push("event");
    snapshot.splice(tail);
    for expected in ["state 1", "state 2", "event"] {
        assert_eq!(reader.try_recv(), Ok(expected));
    }
    assert_eq!(reader.try_recv(), Err(TryRecvError::Empty));
}

#[wasm_bindgen]
pub fn test_limited() {
    let mut buffer = EventBuffer::new();
    let mut reader = buffer.subscribe().limited(LagLimit::items(10));
    buffer.extend(0..1_000);
    assert_eq!(reader.try_recv(), Err(TryRecvError::Lagged(990)));
    assert_eq!(reader.try_recv(), Ok(990));
}

#[wasm_bindgen]
pub fn test_push_wakes_a_waiting_reader() {
    let mut buffer = EventBuffer::new();
    let (mut items, mut clones) = (buffer.subscribe(), buffer.subscribe().cloned());
    let (first, second) = (wait(&mut items), wait(&mut clones));
    assert!(!first.is_set() && !second.is_set());
    buffer.push(1);
    assert!(first.is_set() && second.is_set());
    assert_eq!(poll(&mut items).unwrap().unwrap().unwrap().events(), [1]);
    assert_eq!(poll(&mut clones), Some(Some(Ok(1))));
}

#[wasm_bindgen]
pub fn test_closer_wakes_a_waiting_reader() {
    let buffer = EventBuffer::<u8>::new();
    let mut reader = buffer.subscribe();
    let closer = reader.closer();
    let flag = wait(&mut reader);
    assert!(closer.close("access changed"));
    assert!(flag.is_set());
    let Some(Some(Err(RecvError::ForceClosed(reason)))) = poll(&mut reader) else {
        panic!("not closed");
    };
    assert_eq!(reason.to_string(), "access changed");
}

#[wasm_bindgen]
pub fn test_recv_timeout_returns_a_ready_event() {
    let timeout = Duration::from_secs(10);
    let mut buffer = EventBuffer::new();
    let mut items = buffer.subscribe();
    let mut clones = buffer.subscribe().cloned();
    let mut limited = buffer.subscribe().limited(LagLimit::items(10));
    buffer.push(1);
    assert_eq!(items.recv_timeout(timeout).unwrap().events(), [1]);
    assert_eq!(clones.recv_timeout(timeout), Ok(1));
    assert_eq!(limited.recv_timeout(timeout), Ok(1));
}

#[wasm_bindgen]
pub fn test_recv_timeout_without_an_event_ends() {
    let buffer = EventBuffer::<u8>::new();
    let mut reader = buffer.subscribe().cloned();
    for timeout in [0, 1, 10] {
        let received = reader.recv_timeout(Duration::from_millis(timeout));
        assert_eq!(received, Err(RecvTimeoutError::Timeout));
    }
}

/// A publisher whose snapshots are one event, 5, as of index 7.
fn publisher(ttl: Option<Duration>) -> Publisher<&'static str, u32> {
    let builder = Publisher::builder().snapshot(|_key, snapshot| async move {
        snapshot.push(5)?;
        Ok(7)
    });
    match ttl {
        None => builder.build(),
        Some(ttl) => builder.snapshot_ttl(ttl).build(),
    }
}

/// Reads a snapshot of [`publisher`] to its end.
fn read_snapshot(watch: &mut Watch<&'static str, u32>) {
    let Some(Some(Ok(Update::Begin(_)))) = poll(watch) else {
        panic!("no beginning");
    };
    let Some(Some(Ok(Update::Snapshot(part)))) = poll(watch) else {
        panic!("no snapshot");
    };
    assert!(part.iter().eq([&5]));
    let end = poll(watch);
    let Some(Some(Ok(Update::EndOfSnapshot { index: 7 }))) = end else {
        panic!("no end of the snapshot: {end:?}");
    };
    assert!(poll(watch).is_none());
}

#[wasm_bindgen]
pub fn test_publisher_with_a_snapshot() {
    let publisher = publisher(None);
    let mut watch = publisher.subscribe(Request::new("key"));
    read_snapshot(&mut watch);
    publisher.publish(8, [("key", 6)]).unwrap();
    let Some(Some(Ok(Update::Events(commit)))) = poll(&mut watch) else {
        panic!("no event");
    };
    assert_eq!(commit.index(), Some(8));
    assert!(commit.iter().eq([&6]));
    assert_eq!(watch.resume_point().map(|point| point.index), Some(8));
}

#[wasm_bindgen]
pub fn test_publisher_keeps_a_snapshot_for_its_ttl() {
    let hour = Duration::from_secs(3_600);
    for (ttl, kept) in [(hour, 1), (Duration::MAX, 1), (Duration::ZERO, 0)] {
        let publisher = publisher(Some(ttl));
        read_snapshot(&mut publisher.subscribe(Request::new("key")));
        assert_eq!(publisher.stats().cached_snapshots, kept);
        read_snapshot(&mut publisher.subscribe(Request::new("key")));
    }
}

/// The epoch of a publisher built without one.
#[wasm_bindgen]
pub fn epoch() -> u64 {
    Publisher::<u8, u8>::builder().build().epoch()
}

#[wasm_bindgen]
pub fn test_epochs_differ_within_an_instance() {
    let epochs: BTreeSet<u64> = iter::repeat_with(epoch).take(100).collect();
    assert_eq!(epochs.len(), 100);
}
