//! The counts of readers and of items in memory.

use loom::future::block_on;
use loom::thread;

use super::buffer;

#[test]
fn unobserved_against_splice_and_reader_drop() {
    loom::model(|| {
        let live = buffer::<u8>();
        let snapshot = buffer();
        let reader = snapshot.subscribe();
        let tail = live.tail();
        let other = thread::spawn(move || drop(reader));
        snapshot.splice(tail);
        block_on(live.unobserved());
        other.join().unwrap();
    });
}

/// A reader that stays is counted all the time, even while others leave.
#[test]
fn observed_against_splice_and_leave() {
    loom::model(|| {
        let live = buffer::<u8>();
        let _stays = live.subscribe();
        let snapshot = buffer();
        let reader = snapshot.subscribe();
        let tail = live.tail();
        let other = thread::spawn(move || snapshot.splice(tail));
        drop(reader);
        assert!(live.is_observed());
        other.join().unwrap();
        assert!(live.is_observed());
    });
}

#[test]
fn observed_against_splice_and_join() {
    loom::model(|| {
        let live = buffer::<u8>();
        let snapshot = buffer();
        let reader = snapshot.subscribe();
        let tail = live.tail();
        let other = thread::spawn(move || snapshot.splice(tail));
        let second = reader.clone();
        drop(reader);
        other.join().unwrap();
        assert!(live.is_observed());
        drop(second);
        assert!(!live.is_observed());
    });
}

#[test]
fn observed_against_subscribe() {
    loom::model(|| {
        let buffer = buffer::<u8>();
        let place = buffer.tail();
        let subscribing = thread::spawn(move || place.subscribe());
        block_on(buffer.observed());
        assert_eq!(buffer.subscriber_count(), 1);
        drop(subscribing.join().unwrap());
        assert_eq!(buffer.subscriber_count(), 0);
    });
}

#[test]
fn observed_against_splice() {
    loom::model(|| {
        let live = buffer::<u8>();
        let snapshot = buffer();
        let _reader = snapshot.subscribe();
        let tail = live.tail();
        let other = thread::spawn(move || snapshot.splice(tail));
        block_on(live.observed());
        assert!(live.is_observed());
        other.join().unwrap();
    });
}

#[test]
fn unobserved_against_drop() {
    loom::model(|| {
        let buffer = buffer::<u8>();
        let reader = buffer.subscribe();
        let other = thread::spawn(move || drop(reader));
        block_on(buffer.unobserved());
        other.join().unwrap();
    });
}

/// The writer and the reader of a block both access its counts.
#[test]
fn backlog_against_advance() {
    loom::model(|| {
        let mut buffer = buffer();
        let mut reader = buffer.subscribe();
        buffer.extend([1, 2, 3]);
        let reading = thread::spawn(move || {
            while reader.try_recv().is_ok() {}
            reader
        });
        assert!(buffer.backlog() <= 3);
        buffer.push(4);
        drop(reading.join().unwrap());
        assert_eq!(buffer.backlog(), 0);
    });
}
