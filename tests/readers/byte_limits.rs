//! Readers with a limit in bytes.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;

use event_buffer::{ByteSize, EventBuffer, LagLimit, Limited, OnLag, SharedBuffer, TryRecvError};

use super::limits::drain;
use crate::support::counted::{BLOCK, Counted};
use crate::support::{unretained, watchdog};

#[test]
fn bytes_are_counted_by_the_events_byte_size() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let size = |n: usize| vec![0_u8; n];
    let each = size(100).byte_size() as u64;
    let mut reader = buffer.subscribe().limited(LagLimit::bytes(3 * each));
    let mut both = buffer
        .subscribe()
        .limited(LagLimit::items(2).and_bytes(3 * each));
    for _ in 0..5 {
        buffer.push(size(100));
    }
    assert_eq!(drain(&mut reader).len(), 1 + 3);
    assert_eq!(drain(&mut both).len(), 1 + 2);
    buffer.push(size(10_000));
    buffer.push(size(1));
    assert_eq!(drain(&mut reader), [Err(1), Ok(size(1))]);
    assert_eq!(drain(&mut both), [Err(1), Ok(size(1))]);
}

#[test]
fn a_limit_in_bytes_is_exceeded_by_an_eighth_at_most() {
    let _watchdog = watchdog();
    let alive = Arc::new(AtomicUsize::new(0));
    let mut buffer = unretained();
    let _stuck = buffer.subscribe().limited(LagLimit::bytes(1_000));
    for n in 0..BLOCK as u64 {
        buffer.push(Counted::new(n, &alive));
    }
    for n in 0..1_000 {
        buffer.push(Counted::new(n, &alive));
        let kept = alive.load(SeqCst);
        assert!((10..=11).contains(&kept), "{kept}");
    }
}

#[test]
fn a_limit_in_bytes_holds_after_a_batch_too() {
    let _watchdog = watchdog();
    let alive = Arc::new(AtomicUsize::new(0));
    let mut buffer = unretained();
    let _stuck = buffer.subscribe().limited(LagLimit::bytes(1_000));
    (0..BLOCK as u64).for_each(|n| buffer.push(Counted::new(n, &alive)));
    for batch in 2..40 {
        buffer.extend((0..batch).map(|n| Counted::new(n, &alive)));
        for n in 0..40 {
            buffer.push(Counted::new(n, &alive));
            assert!(alive.load(SeqCst) <= 11, "after a batch of {batch}");
        }
    }
}

#[test]
fn a_reader_closed_by_its_byte_limit_keeps_nothing() {
    let _watchdog = watchdog();
    for by_its_own_read in [false, true] {
        let alive = Arc::new(AtomicUsize::new(0));
        let mut buffer = unretained();
        let limit = LagLimit::bytes(1_000).on_lag(OnLag::Close);
        let mut closed = buffer.subscribe().limited(limit);
        if by_its_own_read {
            buffer.extend((0..11).map(|n| Counted::new(n, &alive)));
            assert!(matches!(
                closed.try_recv(),
                Err(TryRecvError::ForceClosed(_))
            ));
        }
        (0..1_000).for_each(|n| buffer.push(Counted::new(n, &alive)));
        assert_eq!(alive.load(SeqCst), 0);

        // The buffer stopped measuring events with that reader. The next reader starts it again.
        let next = buffer.subscribe().limited(LagLimit::bytes(1_000));
        (0..1_000).for_each(|n| buffer.push(Counted::new(n, &alive)));
        assert!((10..=11).contains(&alive.load(SeqCst)));
        drop((closed, next));
    }
}

#[test]
fn items_published_while_none_was_asked_count_for_the_next_limit() {
    let _watchdog = watchdog();
    let alive = Arc::new(AtomicUsize::new(0));
    let mut buffer = unretained();
    let reader = buffer.subscribe();
    let first = buffer.subscribe().limited(LagLimit::bytes(1_000));
    buffer.push(Counted::new(0, &alive));
    drop(first);
    (1..100).for_each(|n| buffer.push(Counted::new(n, &alive)));
    let mut reader = reader.limited(LagLimit::bytes(1_000));
    assert_eq!(alive.load(SeqCst), 10);
    assert!(matches!(reader.try_recv(), Err(TryRecvError::Lagged(90))));
}

#[test]
fn byte_limited_readers_share_the_meter_but_not_the_limit() {
    let _watchdog = watchdog();
    let alive = Arc::new(AtomicUsize::new(0));
    let mut buffer = unretained();
    let mut behind = buffer.subscribe();
    let mut one = buffer.subscribe().limited(LagLimit::bytes(10_000));
    for n in 0..50 {
        buffer.push(Counted::new(n, &alive));
    }
    let mut other = buffer.subscribe().limited(LagLimit::bytes(1_000));
    // A limit that is set with a backlog applies at once.
    let mut late = behind.clone().limited(LagLimit::bytes(2_000));
    assert_eq!(late.lag(), 20);
    while behind.try_recv().is_ok() {}
    for n in 50..150 {
        buffer.push(Counted::new(n, &alive));
        drop(behind.try_recv());
        assert!(late.lag() <= 22 && other.lag() <= 11 && one.lag() <= 112);
    }
    assert!(matches!(one.try_recv(), Err(TryRecvError::Lagged(50))));
    assert!(matches!(other.try_recv(), Err(TryRecvError::Lagged(90))));
    assert!(matches!(late.try_recv(), Err(TryRecvError::Lagged(130))));
    drop((one, late, behind));
    for n in 0..100 {
        buffer.push(Counted::new(n, &alive));
        assert!(n < BLOCK as u64 || alive.load(SeqCst) <= 12);
    }
}

#[test]
fn the_byte_size_includes_what_the_event_owns() {
    fn size<T: ByteSize + ?Sized>(event: &T) -> usize {
        event.byte_size()
    }

    let _watchdog = watchdog();
    let mut text = String::with_capacity(100);
    text.push('a');
    let mut bytes = Vec::<u8>::with_capacity(100);
    bytes.push(1);
    assert_eq!(size(&text), size_of::<String>() + text.capacity());
    assert_eq!(size(&bytes), size_of::<Vec<u8>>() + bytes.capacity());
    assert_eq!(size(&Box::<str>::from("seven__")), 16 + 7);
    assert_eq!(size(&Box::<[u8]>::from([0; 7])), 16 + 7);
    assert_eq!(size("seven__"), 7);
    assert_eq!(size(&[0_u8; 7][..]), 7);
    assert_eq!(size(&"seven__"), 7);
    assert_eq!(size(&Arc::<str>::from("seven__")), 7);
}

/// An event that may publish others when it is measured.
struct Nested {
    size: usize,
    asked: Arc<AtomicUsize>,
    /// Taken from the end at each measurement: the buffer that receives two events of size 1.
    others: std::sync::Mutex<Vec<Option<SharedBuffer<Nested>>>>,
}

impl Nested {
    fn new(size: usize, asked: &Arc<AtomicUsize>) -> Self {
        Self {
            size,
            asked: asked.clone(),
            others: std::sync::Mutex::default(),
        }
    }
}

impl Clone for Nested {
    fn clone(&self) -> Self {
        Self::new(self.size, &self.asked)
    }
}

impl ByteSize for Nested {
    fn byte_size(&self) -> usize {
        self.asked.fetch_add(1, SeqCst);
        let shared = self.others.lock().unwrap().pop().flatten();
        if let Some(shared) = shared {
            // A batch, with which the writer checks limits.
            shared
                .extend([1, 1].map(|size| Self::new(size, &self.asked)))
                .unwrap();
        }
        self.size
    }
}

/// The producer of an item measures it, even while another item is being measured.
#[test]
fn items_published_while_another_is_measured_are_counted_once() {
    let _watchdog = watchdog();
    let asked = Arc::new(AtomicUsize::new(0));
    let shared = SharedBuffer::from(unretained());
    let mut reader = shared.subscribe().limited(LagLimit::bytes(16));
    let first = Nested::new(9, &asked);
    first.others.lock().unwrap().push(Some(shared.clone()));
    shared.push(first).unwrap();
    let sizes: Vec<_> = std::iter::from_fn(|| reader.try_recv().ok()).collect();
    let sizes: Vec<_> = sizes.iter().map(|event| event.size).collect();
    assert_eq!(sizes, [9, 1, 1], "all are within the limit");
    assert_eq!(asked.load(SeqCst), 3);

    // The sizes of the nested items count towards the lag behind later items, too.
    let first = Nested::new(9, &asked);
    first.others.lock().unwrap().push(Some(shared.clone()));
    shared.push(first).unwrap();
    (0..5).for_each(|_| shared.push(Nested::new(1, &asked)).unwrap());
    assert_eq!(reader.lag(), 8);
    shared.push(Nested::new(1, &asked)).unwrap();
    assert!(matches!(reader.try_recv(), Err(TryRecvError::Lagged(1))));
    assert_eq!(reader.lag(), 8);
}

#[test]
fn items_published_while_one_of_a_batch_is_asked_are_asked_once() {
    let _watchdog = watchdog();
    let asked = Arc::new(AtomicUsize::new(0));
    let shared = SharedBuffer::from(unretained());
    let reader = shared.subscribe().limited(LagLimit::bytes(100));
    let first = Nested::new(9, &asked);
    first.others.lock().unwrap().push(Some(shared.clone()));
    shared.extend([first, Nested::new(9, &asked)]).unwrap();
    assert_eq!((reader.lag(), asked.load(SeqCst)), (4, 4));
}

/// Readers of a crowd are removed from the lists when they are dropped; the stuck one is not.
#[test]
fn a_limit_in_bytes_holds_while_other_readers_come_and_go() {
    let _watchdog = watchdog();
    let alive = Arc::new(AtomicUsize::new(0));
    let mut buffer = unretained();
    let _stuck = buffer.subscribe().limited(LagLimit::bytes(1_000));
    for _ in 0..100 {
        drop(buffer.subscribe().limited(LagLimit::items(10)));
    }
    for n in 0..1_000 {
        buffer.push(Counted::new(n, &alive));
        assert!(n < BLOCK as u64 || alive.load(SeqCst) <= 11, "after {n}");
    }
}

#[test]
fn an_event_is_measured_once_for_any_number_of_readers() {
    let _watchdog = watchdog();
    let asked = Arc::new(AtomicUsize::new(0));
    let mut buffer = unretained();
    let crowd = (0..10).map(|_| buffer.subscribe().limited(LagLimit::bytes(1_000)));
    let _crowd: Vec<_> = crowd.collect();
    buffer.push(Nested::new(1, &asked));
    assert_eq!(asked.load(SeqCst), 1);
}

#[test]
fn an_event_is_not_asked_once_no_reader_is_limited_in_bytes() {
    let _watchdog = watchdog();
    let ends: [fn(Limited<Nested>); 4] = [
        drop,
        |reader| assert!(reader.closer().close("enough")),
        |mut reader| reader.set_limit(LagLimit::items(9)),
        |mut reader| while reader.skip_event() {},
    ];
    for (end, on_lag) in ends
        .into_iter()
        .flat_map(|end| [(end, OnLag::SkipToOldest), (end, OnLag::Close)])
    {
        for published in [1, 100] {
            let asked = Arc::new(AtomicUsize::new(0));
            let mut buffer = unretained();
            let observer = buffer.subscribe();
            let limit = LagLimit::bytes(9).on_lag(on_lag);
            let limited = [(); 2].map(|()| buffer.subscribe().limited(limit));
            (0..published).for_each(|_| buffer.push(Nested::new(1, &asked)));
            assert!(asked.load(SeqCst) > 0);
            limited.into_iter().for_each(end);
            let before = asked.load(SeqCst);
            buffer.push(Nested::new(1, &asked));
            assert_eq!(asked.load(SeqCst), before, "{on_lag:?} after {published}");
            drop(observer);
        }
    }
}

/// The meter is that of the live buffer, or the snapshot's if the live buffer's readers have left.
#[test]
fn byte_limited_readers_share_the_meter_after_a_splice() {
    let _watchdog = watchdog();
    let (items, bytes) = (LagLimit::items(1_000), LagLimit::bytes(1_000));
    for leaves in [false, true] {
        let asked = Arc::new(AtomicUsize::new(0));
        let (mut live, snapshot) = (unretained(), unretained());
        let in_live = Some(live.subscribe().limited(bytes));
        let in_live = in_live.filter(|_| !leaves);
        let ahead = snapshot
            .subscribe()
            .limited(if leaves { bytes } else { items });
        snapshot.splice(live.tail());
        let late = live.subscribe().limited(bytes);
        live.push(Nested::new(1, &asked));
        assert_eq!(asked.load(SeqCst), 1, "leaves: {leaves}");
        drop((in_live, ahead, late));
    }
}

#[test]
fn the_lag_of_a_reader_that_was_moved_for_its_bytes_counts_what_it_will_receive_for_sure() {
    let _watchdog = watchdog();
    let alive = Arc::new(AtomicUsize::new(0));
    let mut buffer = unretained();
    let stuck = buffer.subscribe().limited(LagLimit::bytes(10_000));
    for n in 0..1_000 {
        buffer.push(Counted::new(n, &alive));
        let least = 100 - 100 / 16 - 1;
        assert!(n < 110 || (least..=100).contains(&stuck.lag()), "after {n}");
    }
}

/// The reader is in a buffer that has ended, and has to go on to the next.
#[test]
fn a_limit_in_bytes_is_kept_after_a_batch_behind_a_splice() {
    let _watchdog = watchdog();
    let alive = Arc::new(AtomicUsize::new(0));
    let (mut snapshot, mut live) = (unretained(), unretained());
    let mut stuck = snapshot.subscribe().limited(LagLimit::bytes(1_000));
    snapshot.extend((0..5).map(|n| Counted::new(n, &alive)));
    snapshot.splice(live.tail());
    live.extend((5..100).map(|n| Counted::new(n, &alive)));
    assert_eq!(alive.load(SeqCst), 10);
    assert!(matches!(stuck.try_recv(), Err(TryRecvError::Lagged(90))));
    assert_eq!(stuck.try_recv().map(|event| event.0), Ok(90));
}

/// Each is asked once, whichever reader is limited first.
#[test]
fn items_that_were_published_before_any_was_asked_count_behind_a_splice() {
    let _watchdog = watchdog();
    let asked = Arc::new(AtomicUsize::new(0));
    let push = |buffer: &mut EventBuffer<_>, items| {
        (0..items).for_each(|_| buffer.push(Nested::new(1, &asked)));
    };
    let (mut snapshot, mut live) = (unretained(), unretained());
    push(&mut live, 5);
    let tail = live.tail();
    push(&mut live, 45);
    let [first, second] = [(); 2].map(|()| live.subscribe());
    let first = first.limited(LagLimit::bytes(1_000));
    push(&mut live, 10);
    let second = second.limited(LagLimit::bytes(1_000));
    assert_eq!(asked.load(SeqCst), 10);
    let reader = snapshot.subscribe();
    push(&mut snapshot, 1);
    snapshot.splice(tail);
    let mut reader = reader.limited(LagLimit::bytes(20));
    assert_eq!(asked.load(SeqCst), 10 + 45 + 1);
    assert!(matches!(reader.try_recv(), Err(TryRecvError::Lagged(36))));
    drop((first, second));
}

/// The item is published before items are measured, and its wake-up comes afterwards.
#[test]
fn an_item_with_a_late_wake_up_is_counted_once() {
    let _watchdog = watchdog();
    let mut buffer = unretained();
    let (stuck, reader) = (buffer.subscribe(), buffer.subscribe());
    buffer.push(vec![0; 20]);
    // This makes the writer of the next item look at limits.
    let _stuck = stuck.limited(LagLimit::items(1));
    let deferred = buffer.push_deferred(vec![0; 20]);
    let two = 2 * vec![0; 20].byte_size() as u64;
    let mut reader = reader.limited(LagLimit::bytes(two));
    drop(deferred);
    assert_eq!(reader.lag(), 2);
    assert!(reader.try_recv().is_ok(), "nothing was skipped");
}
