//! Reading and waiting against publishing.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use event_buffer::{EventBuffer, SharedBuffer, TryRecvError};
use loom::future::block_on;
use loom::sync::Arc;
use loom::sync::atomic::Ordering::Acquire;
use loom::thread;

use super::{Woken, buffer, is_pending, pushing};

#[test]
fn append_against_advance() {
    loom::model(|| {
        let mut buffer = buffer();
        let mut reader = buffer.subscribe();
        let writer = thread::spawn(move || {
            buffer.push(Arc::new(1));
            buffer.push(Arc::new(2));
            buffer
        });
        let mut seen = Vec::new();
        while seen.len() < 2 {
            match reader.try_recv() {
                Ok(item) => seen.push(*item[0]),
                Err(TryRecvError::Empty) => thread::yield_now(),
                Err(end) => panic!("{end}"),
            }
        }
        assert_eq!(seen, [1, 2]);
        drop(writer.join().unwrap());
    });
}

#[test]
fn extend_against_advance() {
    loom::model(|| {
        let mut buffer = buffer();
        let mut reader = buffer.subscribe().cloned();
        let writer = thread::spawn(move || buffer.extend([Arc::new(1), Arc::new(2)]));
        let first = reader.try_recv();
        if first.is_ok() {
            // The batch becomes visible at once: if the first is there, so is the second.
            assert_eq!(*reader.try_recv().unwrap(), 2);
        }
        writer.join().unwrap();
    });
}

#[test]
fn append_against_wait() {
    loom::model(|| {
        let buffer = buffer();
        let mut reader = buffer.subscribe();
        let writer = pushing(buffer);
        assert_eq!(block_on(reader.recv()).unwrap()[0], 1);
        drop(writer.join().unwrap());
    });
}

/// If the newest item is retained, the writer's reference becomes the window's.
#[test]
fn retaining_append_against_wait() {
    loom::model(|| {
        let mut buffer = EventBuffer::new();
        buffer.push(Arc::new(0));
        let mut reader = buffer.subscribe();
        let writer = thread::spawn(move || {
            buffer.push(Arc::new(1));
            buffer.push(Arc::new(2));
        });
        assert_eq!(*block_on(reader.recv()).unwrap()[0], 1);
        assert_eq!(*block_on(reader.recv()).unwrap()[0], 2);
        writer.join().unwrap();
    });
}

#[test]
fn append_against_two_waiters() {
    loom::model(|| {
        let buffer = buffer();
        let mut one = buffer.subscribe();
        let mut other = buffer.subscribe();
        let reader = thread::spawn(move || block_on(one.recv()).unwrap()[0]);
        let writer = pushing(buffer);
        assert_eq!(block_on(other.recv()).unwrap()[0], 1);
        assert_eq!(reader.join().unwrap(), 1);
        drop(writer.join().unwrap());
    });
}

#[test]
fn append_against_cancelled_wait() {
    loom::model(|| {
        let mut buffer = buffer::<Arc<i32>>();
        let mut reader = buffer.subscribe();
        let other = thread::spawn(move || {
            // The wait is polled once and dropped, at any step of the writer.
            let mut cx = Context::from_waker(Waker::noop());
            let poll = pin!(reader.recv()).poll(&mut cx);
            poll.map(|item| *item.unwrap()[0]).is_ready()
                || *block_on(reader.recv()).unwrap()[0] == 1
        });
        buffer.push(Arc::new(1));
        assert!(other.join().unwrap());
    });
}

/// A task that has left has set the waiting bit before.
#[test]
fn append_against_wait_after_another_task_has_left() {
    loom::model(|| {
        let buffer = buffer();
        let mut left = buffer.subscribe();
        assert!(is_pending(left.recv(), &Default::default()));
        drop(left);
        let mut reader = buffer.subscribe();
        let writer = pushing(buffer);
        assert_eq!(block_on(reader.recv()).unwrap()[0], 1);
        drop(writer.join().unwrap());
    });
}

/// A task leaves the group, and removes the listener if it is the last, while another one joins.
#[test]
fn append_against_leave_and_join() {
    loom::model(|| {
        let buffer = buffer();
        let mut one = buffer.subscribe();
        let mut other = buffer.subscribe();
        let leaving = thread::spawn(move || {
            let _ = is_pending(one.recv(), &Default::default());
        });
        let writer = pushing(buffer);
        assert_eq!(block_on(other.recv()).unwrap()[0], 1);
        leaving.join().unwrap();
        drop(writer.join().unwrap());
    });
}

/// One producer notifies the next link before the other has notified its own.
#[test]
fn two_producers_against_two_readers_at_neighbouring_links() {
    loom::model(|| {
        let shared = SharedBuffer::from(buffer());
        let mut one = shared.subscribe();
        let mut other = shared.subscribe();
        let waits = std::sync::Arc::<Woken>::default();
        let mut poll = one.recv();
        let mut cx = std::task::Waker::from(waits.clone());
        let mut first = pin!(&mut poll);
        assert!(
            first
                .as_mut()
                .poll(&mut Context::from_waker(&cx))
                .is_pending()
        );
        cx.clone_from(Waker::noop());
        let producers: [_; 2] = [1, 2].map(|n| {
            let shared = shared.clone();
            thread::spawn(move || shared.push(n))
        });
        let sum = block_on(other.recv()).unwrap()[0] + block_on(other.recv()).unwrap()[0];
        assert_eq!(sum, 3);
        for producer in producers {
            producer.join().unwrap().unwrap();
        }
        assert!(waits.0.load(Acquire));
    });
}

#[test]
fn append_against_next_of_an_item() {
    loom::model(|| {
        let mut buffer = EventBuffer::new();
        buffer.push(1);
        let item = buffer.latest().unwrap();
        let writer = thread::spawn(move || buffer.push(2));
        assert_eq!(block_on(item.next()).unwrap()[0], 2);
        writer.join().unwrap();
    });
}

/// The reader skips to the place that the writer recorded, while the writer moves on.
#[test]
fn append_against_resubscribe() {
    loom::model(|| {
        let mut buffer = buffer();
        let reader = buffer.subscribe();
        buffer.extend([0, 1]);
        let writer = thread::spawn(move || {
            (2..5).for_each(|n| buffer.push(n));
            buffer
        });
        let mut late = reader.resubscribe().cloned();
        let mut buffer = writer.join().unwrap();
        buffer.push(5);
        let rest: Vec<u64> = std::iter::from_fn(|| late.try_recv().ok()).collect();
        let expected: Vec<u64> = (6 - rest.len() as u64..6).collect();
        assert!(!rest.is_empty() && rest == expected, "{rest:?}");
        assert_eq!(late.lag(), 0);
        assert_eq!(reader.lag(), 6);
    });
}
