//! Recordings: ended buffers that late readers can replay.

use std::sync::Arc;
use std::thread;

use event_buffer::{
    EventBuffer, LagLimit, Recording, RecvError, Replay, SharedBuffer, TryRecvError,
};
use tokio_test::{assert_pending, assert_ready_eq, task};

use crate::support::{events, retaining, watchdog};

static_assertions::assert_impl_all!(Recording<u8>: Send, Sync, Unpin, Clone);
static_assertions::assert_not_impl_any!(Recording<std::cell::Cell<u8>>: Send, Sync);

#[test]
fn late_readers_replay_all_and_end() {
    let _watchdog = watchdog();
    let mut buffer = retaining(Replay::All);
    buffer.push(1);
    buffer.append([2, 3]);
    let recording = buffer.finish();
    assert_eq!(recording.len(), 2);
    for _ in 0..3 {
        let mut late = recording.subscribe();
        assert!(late.is_closed());
        assert_eq!(late.lag(), 2);
        assert_eq!(late.try_recv().unwrap().events(), [1]);
        assert_eq!(late.try_recv().unwrap().events(), [2, 3]);
        assert_eq!(late.try_recv(), Err(TryRecvError::Closed));
    }
    let limited = recording.subscribe().limited(LagLimit::items(1));
    assert_eq!(limited.lag(), 1);
}

#[test]
fn a_recording_has_what_the_window_retained() {
    let _watchdog = watchdog();
    for (window, expected) in [(Replay::None, vec![]), (Replay::Last(2), vec![4, 5])] {
        let mut buffer = EventBuffer::builder().replay(window).build();
        buffer.extend(1..=5);
        let recording = buffer.finish();
        assert_eq!(recording.len(), expected.len());
        assert_eq!(recording.is_empty(), expected.is_empty());
        assert_eq!(events(recording.subscribe()), expected);
    }
}

#[test]
fn finish_ends_running_readers_as_close_does() {
    let _watchdog = watchdog();
    let mut buffer = retaining(Replay::All);
    let mut reader = buffer.subscribe().cloned();
    buffer.push(1);
    assert_eq!(reader.try_recv(), Ok(1));
    let mut waits = task::spawn(reader.recv());
    assert_pending!(waits.poll());
    let recording = buffer.finish();
    assert!(waits.is_woken());
    assert_ready_eq!(waits.poll(), Err(RecvError::Closed));
    drop(recording);
}

#[test]
fn a_recording_is_freed_with_its_last_handle_and_reader() {
    let _watchdog = watchdog();
    let event = Arc::new(());
    let mut buffer = retaining(Replay::All);
    buffer.extend(vec![event.clone(); 100]);
    let recording = buffer.finish();
    let clone = recording.clone();
    drop(recording);
    let mut late = clone.subscribe();
    drop(clone);
    assert_eq!(Arc::strong_count(&event), 101);
    drop(late.try_recv());
    drop(late);
    assert_eq!(Arc::strong_count(&event), 1);
}

#[test]
fn a_shared_buffer_can_be_finished_while_other_handles_exist() {
    let _watchdog = watchdog();
    let shared = SharedBuffer::from(retaining(Replay::All));
    let other = shared.clone();
    shared.extend([1, 2]).unwrap();
    let recording = shared.finish();
    assert!(other.push(3).is_err());
    assert_eq!(events(recording.subscribe()), [1, 2]);
    assert_eq!(events(other.subscribe_from_start()), [1, 2]);
    assert_eq!(other.finish().len(), 2, "`finish` can be called again");
    other.close();
    assert!(other.retained() == 0 && other.finish().is_empty());
    assert_eq!(events(recording.subscribe()), [1, 2]);
}

#[test]
fn a_recording_of_a_failed_buffer_ends_with_its_failure() {
    let _watchdog = watchdog();
    let shared = SharedBuffer::<u8>::new();
    shared.fail("out of luck");
    let mut late = shared.finish().subscribe();
    assert!(matches!(late.recv_blocking(), Err(RecvError::Failed(_))));
}

#[test]
fn a_recording_is_not_counted_as_a_reader() {
    let _watchdog = watchdog();
    let shared = SharedBuffer::from(retaining(Replay::All));
    shared.push(1).unwrap();
    let recording = shared.finish();
    assert_eq!(shared.subscriber_count(), 0);
    let late = recording.subscribe();
    assert_eq!(shared.subscriber_count(), 1);
    drop(late);
}

#[test]
fn several_threads_replay_a_recording() {
    let _watchdog = watchdog();
    let mut buffer = retaining(Replay::All);
    buffer.extend(0..10_000);
    let recording = buffer.finish();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut late = recording.subscribe().cloned();
                let received: Result<Vec<_>, _> = late.iter().collect();
                assert_eq!(received.unwrap(), (0..10_000).collect::<Vec<_>>());
            });
        }
    });
}
