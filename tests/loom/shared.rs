//! Several producers.

use event_buffer::{EventBuffer, RecvError, SharedBuffer, TryRecvError};
use loom::future::block_on;
use loom::sync::Arc;
use loom::thread;

use super::buffer;

#[test]
fn shared_append_against_shared_append() {
    loom::model(|| {
        let shared = SharedBuffer::new();
        let other = shared.clone();
        // Each push may evict the other's item from the window.
        let pushing = thread::spawn(move || other.push(Arc::new(1)));
        shared.push(Arc::new(2)).unwrap();
        pushing.join().unwrap().unwrap();
        assert_eq!(shared.retained(), 1);
    });
}

/// An event that is removed under a lock is dropped afterwards; here its `drop` uses the buffer.
#[test]
fn shared_append_against_last_reader_drop() {
    struct Uses(Option<SharedBuffer<Uses>>);
    impl Drop for Uses {
        fn drop(&mut self) {
            if let Some(shared) = self.0.take() {
                let _ = shared.retained();
            }
        }
    }
    loom::model(|| {
        let shared: SharedBuffer<Uses> = SharedBuffer::from(buffer());
        let reader = shared.subscribe();
        let other = thread::spawn(move || drop(reader));
        shared.push(Uses(Some(shared.clone()))).unwrap();
        other.join().unwrap();
    });
}

/// The event is either published, and received before the end, or returned.
#[test]
fn shared_close_against_push() {
    loom::model(|| {
        let shared = SharedBuffer::from(buffer());
        let mut reader = shared.subscribe().cloned();
        let other = shared.clone();
        let closing = thread::spawn(move || other.close());
        let published = shared.push(1).is_ok();
        closing.join().unwrap();
        assert_eq!(reader.try_recv().is_ok(), published);
        assert_eq!(reader.try_recv(), Err(TryRecvError::Closed));
    });
}

#[test]
fn finish_against_recv() {
    loom::model(|| {
        let shared = SharedBuffer::from(EventBuffer::new());
        let mut reader = shared.subscribe().cloned();
        shared.push(1).unwrap();
        let finishing = thread::spawn(move || shared.finish());
        assert_eq!(block_on(reader.recv()), Ok(1));
        assert_eq!(block_on(reader.recv()), Err(RecvError::Closed));
        let recording = finishing.join().unwrap();
        assert_eq!(recording.subscribe().cloned().try_recv(), Ok(1));
    });
}
