//! What the fuzz targets (`fuzz/`) found: retention at an end, and what a panic of foreign code left behind.
#![cfg(not(loom))]

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::thread;

use event_buffer::{EventBuffer, Replay, TryRecvError};
use futures::{FutureExt, StreamExt};
use support::watchdog;

fn panics(f: impl FnOnce()) {
    assert!(catch_unwind(AssertUnwindSafe(f)).is_err(), "as planned");
}

/// An event that counts, by the `Arc`, how many there are, and whose drop may panic.
#[derive(Clone)]
struct Event(#[expect(dead_code)] Arc<()>, bool);

impl Drop for Event {
    fn drop(&mut self) {
        assert!(!self.1 || thread::panicking(), "as planned");
    }
}

struct PanicsWhenWoken;

impl Wake for PanicsWhenWoken {
    fn wake(self: Arc<Self>) {
        panic!("as planned");
    }
}

struct Task;

impl Wake for Task {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn a_reader_of_clones_that_was_told_of_the_end_holds_nothing() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut reader = buffer.subscribe().cloned();
    let event = Arc::new(());
    buffer.push(Arc::clone(&event));
    buffer.close();
    drop(reader.try_recv());
    assert_eq!(reader.try_recv(), Err(TryRecvError::Closed));
    assert_eq!(Arc::strong_count(&event), 1);
}

#[test]
fn what_a_chunk_lent_goes_with_the_read_that_says_closed() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut reader = buffer.subscribe();
    let event = Arc::new(());
    buffer.extend((0..100).map(|_| Arc::clone(&event)));
    buffer.close();
    let chunk = reader.next_chunk().now_or_never().unwrap();
    assert_eq!(chunk.unwrap().count(), 100);
    assert!(reader.next_chunk().now_or_never().unwrap().is_err());
    assert_eq!(Arc::strong_count(&event), 1);
}

#[test]
fn resubscribing_to_an_ended_buffer_holds_nothing() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let reader = buffer.subscribe();
    let event = Arc::new(());
    buffer.push(Arc::clone(&event));
    buffer.close();
    let late = reader.resubscribe();
    drop(reader);
    assert_eq!(Arc::strong_count(&event), 1);
    drop(late);
}

#[test]
fn a_waker_that_panics_leaves_the_window_as_long_as_it_is_to_be() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::builder().replay(Replay::Last(2)).build();
    let mut reader = buffer.subscribe();
    let waker = Waker::from(Arc::new(PanicsWhenWoken));
    let mut cx = Context::from_waker(&waker);
    assert!(reader.poll_next_unpin(&mut cx).is_pending());
    panics(|| buffer.extend(0..10));
    assert_eq!(buffer.retained(), 2);
}

#[test]
fn a_drop_that_panics_leaves_the_window_as_long_as_it_is_to_be() {
    let _watchdog = watchdog();
    let event = Arc::new(());
    let mut buffer = EventBuffer::builder().replay(Replay::Last(2)).build();
    panics(|| buffer.extend((0..10).map(|n| Event(event.clone(), n == 0))));
    assert_eq!(buffer.retained(), 2);
    assert_eq!(Arc::strong_count(&event), 1 + 2);
}

#[test]
fn a_drop_that_panics_does_not_keep_the_others_that_a_reader_has_passed() {
    let _watchdog = watchdog();
    let event = Arc::new(());
    let mut buffer = EventBuffer::builder().replay(Replay::None).build();
    let mut reader = buffer.subscribe();
    buffer.extend((0..10).map(|n| Event(event.clone(), n == 0)));
    let chunk = reader.next_chunk().now_or_never().unwrap();
    assert_eq!(chunk.unwrap().count(), 10);
    panics(|| drop(reader.try_recv()));
    assert_eq!(Arc::strong_count(&event), 1);
}

/// The same where another one stands in the midst of them.
#[test]
fn a_drop_that_panics_does_not_keep_those_that_another_reader_leaves_later() {
    let _watchdog = watchdog();
    let event = Arc::new(());
    let mut buffer = EventBuffer::builder().replay(Replay::None).build();
    let mut reader = buffer.subscribe();
    buffer.extend((0..5).map(|n| Event(event.clone(), n == 0)));
    let other = buffer.subscribe();
    buffer.extend((5..10).map(|_| Event(event.clone(), false)));
    let chunk = reader.next_chunk().now_or_never().unwrap();
    assert_eq!(chunk.unwrap().count(), 10);
    panics(|| drop(reader.try_recv()));
    drop(other);
    assert_eq!(Arc::strong_count(&event), 1);
}

#[test]
fn a_reader_whose_drop_wakes_one_that_panics_leaves_the_list() {
    let _watchdog = watchdog();
    let buffer = EventBuffer::<u8>::new();
    let mut reader = buffer.subscribe();
    let task = Arc::new(Task);
    let waker = Waker::from(task.clone());
    let mut cx = Context::from_waker(&waker);
    assert!(reader.poll_next_unpin(&mut cx).is_pending());
    drop(waker);
    let waker = Waker::from(Arc::new(PanicsWhenWoken));
    let mut unobserved = Box::pin(buffer.unobserved());
    let mut cx = Context::from_waker(&waker);
    assert!(unobserved.poll_unpin(&mut cx).is_pending());
    panics(|| drop(reader));
    assert_eq!(Arc::strong_count(&task), 1);
}

#[cfg(feature = "publisher")]
mod publisher {
    use super::*;
    use event_buffer::publisher::{Publisher, Request, Update};
    use futures::stream::FusedStream;
    use tokio_test::assert_ready;

    #[test]
    fn a_watch_that_is_closed_says_why_also_where_a_drop_panics() {
        let _watchdog = watchdog();
        let publisher = Publisher::builder().build();
        let mut watch = publisher.subscribe(Request::new("key"));
        let event = Event(Arc::new(()), true);
        publisher.publish(1, [("key", event)]).unwrap();
        // It frees what only the watch kept.
        panics(|| publisher.close_all());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(!watch.is_terminated());
        let why = assert_ready!(watch.poll_next_unpin(&mut cx));
        assert!(matches!(why, Some(Err(_))));
        assert!(watch.is_terminated());
    }

    #[test]
    fn a_progress_mark_is_not_lost_to_a_drop() {
        let _watchdog = watchdog();
        let publisher = Publisher::builder().build();
        let mut watch = publisher.subscribe(Request::new("key").filter(|_: &Event| false));
        let mut cx = Context::from_waker(Waker::noop());
        let mut next = || {
            assert_ready!(watch.poll_next_unpin(&mut cx))
                .unwrap()
                .unwrap()
        };
        assert!(matches!(next(), Update::Begin(_)));
        assert!(matches!(next(), Update::EndOfSnapshot { .. }));
        let event = Event(Arc::new(()), true);
        publisher.publish(1, [("key", event)]).unwrap();
        panics(|| drop(next()));
        assert!(matches!(next(), Update::Progress { .. }));
    }
}
