//! Splices and ends.

use event_buffer::{RecvError, SharedBuffer, TryRecvError};
use loom::future::block_on;
use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use loom::sync::atomic::Ordering::{Acquire, Release};
use loom::thread;

use super::buffer;

#[test]
fn close_against_last_append() {
    loom::model(|| {
        let mut buffer = buffer();
        let mut reader = buffer.subscribe();
        let writer = thread::spawn(move || {
            buffer.push(1);
            buffer.close();
        });
        assert_eq!(block_on(reader.recv()).unwrap()[0], 1);
        assert_eq!(block_on(reader.recv()), Err(RecvError::Closed));
        writer.join().unwrap();
    });
}

#[test]
fn splice_against_recv() {
    loom::model(|| {
        let mut live = buffer();
        let snapshot = buffer();
        let mut reader = snapshot.subscribe();
        let tail = live.tail();
        let writer = thread::spawn(move || {
            snapshot.splice(tail);
        });
        live.push(Arc::new(1));
        assert_eq!(*block_on(reader.recv()).unwrap()[0], 1);
        writer.join().unwrap();
    });
}

#[test]
fn splice_against_lag_and_drop() {
    loom::model(|| {
        let live = buffer::<Arc<u8>>();
        let snapshot = buffer();
        let reader = snapshot.subscribe();
        let tail = live.tail();
        let other = thread::spawn(move || {
            assert_eq!(reader.lag(), 0);
            drop(reader);
        });
        snapshot.splice(tail);
        drop(live);
        other.join().unwrap();
    });
}

/// The publisher's hand-over from a snapshot to the live buffer: it takes the place, then the
/// state, and splices at the first commit that the state does not contain.
#[test]
fn snapshot_and_splice_against_publish() {
    loom::model(|| {
        let live = SharedBuffer::from(buffer());
        let state = Arc::new(AtomicU64::new(0));
        let writer = {
            let (live, state) = (live.clone(), Arc::clone(&state));
            thread::spawn(move || {
                for index in 1..=2 {
                    state.store(index, Release);
                    live.push(index).unwrap();
                }
            })
        };
        let tail = live.tail();
        let contained = state.load(Acquire);
        let mut onward = tail.clone();
        let mut seen = tail.subscribe();
        while let Ok(item) = seen.try_recv() {
            if item[0] > contained {
                break;
            }
            onward = item.after();
        }
        drop((tail, seen));
        let snapshot = buffer();
        let mut watch = snapshot.subscribe().cloned();
        snapshot.splice(onward);
        writer.join().unwrap();
        drop(live);
        let mut view = contained;
        while let Ok(index) = watch.try_recv() {
            if index > contained {
                assert_eq!(index, view + 1, "lost, duplicated or stale");
                view = index;
            }
        }
        assert_eq!(view, 2);
    });
}

#[test]
fn splice_against_splice_back() {
    loom::model(|| {
        let (one, other) = (buffer::<u8>(), buffer());
        let (to_one, to_other) = (one.tail(), other.tail());
        let mut readers = [one.subscribe(), other.subscribe()];
        let splicing = thread::spawn(move || one.splice(to_other));
        other.splice(to_one);
        splicing.join().unwrap();
        // One of the splices is refused, and the other leads to the failed buffer.
        for reader in &mut readers {
            assert!(matches!(reader.try_recv(), Err(TryRecvError::Failed(_))));
        }
    });
}

#[test]
fn splice_against_splice_of_its_target() {
    loom::model(|| {
        let (one, two, three) = (buffer::<u8>(), buffer(), buffer::<u8>());
        let (to_two, to_three) = (two.tail(), three.tail());
        let reader = one.subscribe();
        let splicing = thread::spawn(move || one.splice(to_two));
        two.splice(to_three);
        splicing.join().unwrap();
        assert!(three.is_observed());
        drop(reader);
        assert!(!three.is_observed());
    });
}
