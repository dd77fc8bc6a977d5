//! Readers of ended buffers: they keep no items, and do not hang.

use std::sync::Arc;

use event_buffer::{EventBuffer, RecvError, TryRecvError};
use futures::FutureExt;
use tokio_test::{assert_ready, task};

use crate::support::watchdog;

/// tokio 4814.
#[test]
fn resubscribing_to_an_ended_buffer_does_not_hang() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let reader = buffer.subscribe();
    buffer.push(1);
    buffer.close();
    let mut late = reader.resubscribe();
    assert_eq!(
        assert_ready!(task::spawn(late.recv()).poll()),
        Err(RecvError::Closed)
    );

    let buffer = EventBuffer::<u8>::new();
    let reader = buffer.subscribe();
    buffer.fail("broken");
    let mut late = reader.resubscribe();
    assert!(matches!(late.try_recv(), Err(TryRecvError::Failed(_))));
    assert_eq!(late.try_recv(), Err(TryRecvError::Closed));
}

#[test]
fn a_cloned_reader_at_the_end_keeps_nothing() {
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
fn the_read_that_returns_closed_frees_the_chunk() {
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
fn resubscribing_to_an_ended_buffer_keeps_nothing() {
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
