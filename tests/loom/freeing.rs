//! An item is freed by a reader, the window or the writer.

use event_buffer::EventBuffer;
use loom::sync::Arc;
use loom::thread;

use super::buffer;

#[test]
fn last_reader_drop_against_writer_drop() {
    loom::model(|| {
        let mut buffer = EventBuffer::new();
        let reader = buffer.subscribe();
        buffer.push(Arc::new(1));
        let other = thread::spawn(move || drop(reader));
        buffer.push(Arc::new(2));
        drop(buffer);
        other.join().unwrap();
    });
}

/// Without readers and handles, the next item replaces the retained one in its node.
#[test]
fn held_item_drop_against_trim() {
    loom::model(|| {
        let mut buffer = EventBuffer::new();
        buffer.push(Arc::new(1));
        let item = buffer.latest().unwrap();
        let other = thread::spawn(move || {
            assert_eq!(*item[0], 1);
            drop(item);
        });
        buffer.push(Arc::new(2));
        buffer.push(Arc::new(3));
        assert_eq!(*buffer.latest().unwrap()[0], 3);
        other.join().unwrap();
    });
}

#[test]
fn unseen_append_against_reader_drop() {
    loom::model(|| {
        let mut buffer = buffer();
        let mut reader = buffer.subscribe();
        let other = thread::spawn(move || {
            let _ = reader.try_recv();
            drop(reader);
        });
        buffer.push(Arc::new(1));
        buffer.push(Arc::new(2));
        other.join().unwrap();
    });
}

#[test]
fn reader_against_reader_freeing_the_same_items() {
    loom::model(|| {
        let mut buffer = buffer();
        let mut one = buffer.subscribe().cloned();
        let mut other = buffer.subscribe();
        buffer.extend([Arc::new(1), Arc::new(2), Arc::new(3)]);
        drop(buffer);
        let reading = thread::spawn(move || {
            let item = other.try_recv().unwrap();
            assert_eq!(*item[0], 1);
            drop(other);
            drop(item);
        });
        for n in 1..=3 {
            assert_eq!(*one.try_recv().unwrap(), n);
        }
        drop(one);
        reading.join().unwrap();
    });
}

/// Both copy events out of a partly freed block; one of them frees the block.
#[test]
fn two_threads_drop_items_of_one_block() {
    loom::model(|| {
        let mut buffer = buffer();
        let mut reader = buffer.subscribe();
        let all = Arc::new(0);
        (0..9).for_each(|_| buffer.push(all.clone()));
        let mut items: Vec<_> = (0..9).map(|_| reader.try_recv().unwrap()).collect();
        drop(reader);
        let b = items.remove(6);
        let a = items.remove(4);
        drop(items);
        let one = thread::spawn(move || drop(a));
        let two = thread::spawn(move || drop(b));
        drop(buffer);
        one.join().unwrap();
        two.join().unwrap();
        assert_eq!(Arc::strong_count(&all), 1);
    });
}
