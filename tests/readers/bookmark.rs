//! Bookmarks: places in a buffer that keep no items alive.

use std::sync::Arc;

use event_buffer::{Bookmark, BookmarkError, EventBuffer, LagLimit, Replay, TryRecvError};

use crate::support::{events, retaining, watchdog};

static_assertions::assert_impl_all!(Bookmark<std::rc::Rc<u8>>: Send, Sync, Unpin, Clone);

#[test]
fn a_bookmark_keeps_no_items_alive() {
    let _watchdog = watchdog();
    let mut buffer = retaining(Replay::Last(0));
    let event = Arc::new(());
    let reader = buffer.subscribe();
    buffer.push(event.clone());
    let bookmark = reader.bookmark();
    assert_eq!(Arc::strong_count(&event), 2);
    drop(reader);
    assert_eq!(Arc::strong_count(&event), 1);
    assert!(!buffer.is_observed());
    assert_eq!(
        buffer.upgrade(&bookmark).unwrap_err(),
        BookmarkError::Lost(1)
    );
}

#[test]
fn a_bookmark_at_the_tail_is_upgraded_with_any_window() {
    let _watchdog = watchdog();
    for window in [0, 1, 5] {
        let mut buffer = retaining(Replay::Last(window));
        buffer.extend(0..10);
        let bookmark = buffer.tail().bookmark();
        let mut reader = buffer.upgrade(&bookmark).unwrap();
        assert_eq!(reader.try_recv(), Err(TryRecvError::Empty));
        buffer.push(10);
        assert_eq!(reader.try_recv().unwrap().events(), [10]);
    }
}

#[test]
fn items_kept_by_another_reader_do_not_count_as_retained() {
    let _watchdog = watchdog();
    let mut buffer = retaining(Replay::Last(0));
    let slow = buffer.subscribe();
    let bookmark = slow.bookmark();
    buffer.push(1);
    assert_eq!(
        buffer.upgrade(&bookmark).unwrap_err(),
        BookmarkError::Lost(1)
    );
    assert_eq!(slow.lag(), 1);
}

#[test]
fn a_bookmark_is_carried_over_splices() {
    let _watchdog = watchdog();
    let mut live = retaining(Replay::Last(2));
    live.push(0);
    let mut snapshot = retaining(Replay::Last(10));
    let at_start = snapshot.tail().bookmark();
    snapshot.extend([1, 2, 3]);
    let at_end = snapshot.tail().bookmark();
    snapshot.splice(live.tail());

    // Only the live events follow the end of the snapshot.
    live.push(4);
    let mut reader = live.upgrade(&at_end).unwrap().cloned();
    assert_eq!(reader.try_recv(), Ok(4));
    // The live buffer cannot deliver the snapshot's items.
    assert_eq!(live.upgrade(&at_start).unwrap_err(), BookmarkError::Lost(3));
    live.extend([5, 6]);
    assert_eq!(live.upgrade(&at_end).unwrap_err(), BookmarkError::Lost(1));
    assert_eq!(live.upgrade(&at_start).unwrap_err(), BookmarkError::Lost(4));
}

#[test]
fn items_that_no_reader_saw_are_lost_too() {
    let _watchdog = watchdog();
    let mut live = retaining(Replay::Last(1));
    let mut snapshot = retaining(Replay::Last(0));
    let bookmark = snapshot.tail().bookmark();
    snapshot.extend([1, 2, 3]);
    assert_eq!(
        snapshot.upgrade(&bookmark).unwrap_err(),
        BookmarkError::Lost(3)
    );
    snapshot.splice(live.tail());
    live.push(4);
    assert_eq!(live.upgrade(&bookmark).unwrap_err(), BookmarkError::Lost(3));
}

#[test]
fn a_bookmark_knows_its_buffer() {
    let _watchdog = watchdog();
    let buffer = retaining::<u8>(Replay::Last(1));
    let other = retaining::<u8>(Replay::Last(1));
    let bookmark = other.tail().bookmark();
    assert_eq!(
        buffer.upgrade(&bookmark).unwrap_err(),
        BookmarkError::OtherBuffer
    );
    other.close();
    // Nor is it upgraded by a buffer that reuses the address of its own.
    for _ in 0..100 {
        let buffer = retaining::<u8>(Replay::Last(1));
        assert_eq!(
            buffer.upgrade(&bookmark).unwrap_err(),
            BookmarkError::OtherBuffer
        );
    }
}

#[test]
fn of_a_reader_that_was_closed_while_it_lagged_has_what_it_could_have_received() {
    let _watchdog = watchdog();
    let mut buffer = retaining(Replay::All);
    let stuck = buffer.subscribe().limited(LagLimit::items(10));
    for n in 0..10 {
        buffer.extend(10 * n..10 * (n + 1));
    }
    assert!(stuck.closer().close("enough"));
    let resumed = buffer.upgrade(&stuck.bookmark()).unwrap();
    assert_eq!(events(resumed), (90..100).collect::<Vec<_>>());
}

#[test]
fn the_error_reports_the_loss_or_the_other_buffer() {
    let _watchdog = watchdog();
    let lost = BookmarkError::Lost(3).to_string();
    assert_eq!(lost, "3 items after the bookmark are lost");
    let other = BookmarkError::OtherBuffer.to_string();
    assert_eq!(other, "the bookmark is in another buffer");
}

#[test]
fn the_bookmark_of_a_cloned_reader_precedes_a_partly_received_item() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::builder().replay(Replay::All).build();
    let mut reader = buffer.subscribe().cloned();
    buffer.append([1, 2]);
    buffer.push(3);
    assert_eq!(reader.try_recv(), Ok(1));
    let bookmark = reader.bookmark();
    assert_eq!(reader.try_recv(), Ok(2));
    let mut again = buffer.upgrade(&bookmark).unwrap().cloned();
    assert_eq!(again.try_recv(), Ok(1));
    let after = buffer.upgrade(&reader.bookmark()).unwrap();
    assert_eq!(after.lag(), 1);
}

#[test]
fn a_cloned_reader_resubscribes_at_the_tail() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut reader = buffer.subscribe().cloned();
    buffer.append([1, 2]);
    assert_eq!(reader.try_recv(), Ok(1));
    let mut late = reader.resubscribe();
    assert_eq!(late.lag(), 0);
    buffer.append([3, 4]);
    assert_eq!(late.try_recv(), Ok(3));
    assert_eq!(reader.try_recv(), Ok(2));
}
