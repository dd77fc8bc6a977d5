//! Splices and ends.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Wake, Waker};

use event_buffer::{
    EventBuffer, Position, RecvError, Replay, SpliceCycle, Subscription, TryRecvError,
};
use futures::StreamExt;
use tokio_test::{assert_pending, assert_ready, task};

use crate::support::{events, retaining, watchdog};

/// A buffer of the items 0 to 9, and the position of each.
fn ten() -> (EventBuffer<u32>, Vec<Position<u32>>) {
    let mut buffer = retaining(Replay::All);
    let mut places = Vec::new();
    for n in 0..10 {
        places.push(buffer.tail());
        buffer.push(n);
    }
    (buffer, places)
}

#[test]
fn a_splice_continues_with_the_item_at_its_position() {
    let _watchdog = watchdog();
    let (mut live, places) = ten();
    for (n, place) in (0..).zip(&places) {
        let mut snapshot = retaining(Replay::All);
        let waiting = snapshot.subscribe();
        snapshot.push(100);
        snapshot.splice(place);
        let expected: Vec<u32> = std::iter::once(100).chain(n..10).collect();
        assert_eq!(u64::from(10 - n) + 1, waiting.lag());
        assert_eq!(events(waiting), expected);
    }
    // Positions from an item handle: at the item (inclusive) and after it.
    let head = live.latest().unwrap();
    for (place, expected) in [(head.position(), vec![9, 10]), (head.after(), vec![10])] {
        let snapshot = retaining(Replay::All);
        let reader = snapshot.subscribe();
        snapshot.splice(place);
        if live.retained() == 10 {
            live.push(10);
        }
        assert_eq!(events(reader), expected);
    }
}

#[test]
fn a_splice_at_an_empty_tail_continues_with_later_items() {
    let _watchdog = watchdog();
    let mut live = EventBuffer::new();
    let mut snapshot = EventBuffer::new();
    let mut reader = task::spawn(snapshot.subscribe().cloned());
    snapshot.push(1);
    snapshot.splice(live.tail());
    assert_eq!(assert_ready!(reader.poll_next()), Some(Ok(1)));
    assert_pending!(reader.poll_next());
    live.push(2);
    assert!(reader.is_woken());
    assert_eq!(assert_ready!(reader.poll_next()), Some(Ok(2)));
    drop(live);
    assert_eq!(assert_ready!(reader.poll_next()), None);
}

#[test]
fn a_splice_wakes_a_waiting_reader() {
    let _watchdog = watchdog();
    let mut live = EventBuffer::new();
    let snapshot = EventBuffer::new();
    let place = live.tail();
    live.push(1);
    let mut reader = task::spawn(snapshot.subscribe().cloned());
    assert_pending!(reader.poll_next());
    snapshot.splice(place);
    assert!(reader.is_woken());
    assert_eq!(assert_ready!(reader.poll_next()), Some(Ok(1)));
}

#[test]
fn a_splice_into_an_ended_buffer_drains_it_and_ends() {
    let _watchdog = watchdog();
    let (live, places) = ten();
    live.close();
    let snapshot = EventBuffer::new();
    let mut reader = snapshot.subscribe().cloned();
    snapshot.splice(&places[8]);
    assert_eq!(reader.try_recv(), Ok(8));
    assert_eq!(reader.try_recv(), Ok(9));
    assert_eq!(reader.try_recv(), Err(TryRecvError::Closed));

    let (live, places) = ten();
    let end = live.tail();
    live.fail("broken");
    for place in [&places[9], &end] {
        let snapshot = EventBuffer::new();
        let mut reader = snapshot.subscribe().cloned();
        snapshot.splice(place);
        while reader.try_recv().is_ok() {}
        assert_eq!(
            reader.try_recv(),
            Err(TryRecvError::Closed),
            "the failure has been reported"
        );
        let mut late = place.subscribe();
        let failure = std::iter::repeat_with(|| late.try_recv()).find_map(Result::err);
        assert!(
            matches!(failure, Some(TryRecvError::Failed(error)) if error.to_string() == "broken")
        );
    }
}

#[test]
fn a_snapshot_spliced_to_a_live_buffer_delivers_each_event_once() {
    let _watchdog = watchdog();
    for published_meanwhile in 0..4 {
        let mut live = EventBuffer::builder().replay(Replay::None).build();
        let tail = live.tail();
        let mut snapshot = EventBuffer::new();
        let reader = snapshot.subscribe();
        snapshot.append([0, 1]);
        live.extend(2..2 + published_meanwhile);
        snapshot.splice(tail);
        live.extend(2 + published_meanwhile..10);
        assert_eq!(events(reader), (0..10).collect::<Vec<_>>());
    }
}

#[test]
fn a_chain_of_splices_is_one_stream() {
    let _watchdog = watchdog();
    let buffers: Vec<EventBuffer<u32>> = (0..100).map(|_| EventBuffer::new()).collect();
    let reader = buffers[0].subscribe();
    let tails: Vec<_> = buffers.iter().map(EventBuffer::tail).collect();
    for (n, mut buffer) in (0..).zip(buffers) {
        buffer.push(n);
        if let Some(next) = tails.get(n as usize + 1) {
            buffer.splice(next);
        }
    }
    assert_eq!(reader.lag(), 100);
    assert_eq!(events(reader), (0..100).collect::<Vec<_>>());
}

#[test]
fn a_cyclic_splice_is_reported_as_an_error() {
    let _watchdog = watchdog();
    let mut one = retaining(Replay::All);
    one.push(1);
    let start = one.latest().unwrap().position();
    let mut reader = one.subscribe_from_start().cloned();
    one.splice(start);
    assert_eq!(reader.recv_blocking(), Ok(1));
    let Err(RecvError::Failed(error)) = reader.recv_blocking() else {
        panic!("the cycle was not detected");
    };
    assert!(error.downcast_ref::<SpliceCycle>().is_some());
    assert!(error.to_string().contains("leads back"));

    let (one, other) = (retaining::<u8>(Replay::All), retaining::<u8>(Replay::All));
    let (at_one, at_other) = (one.tail(), other.tail());
    let mut reader = one.subscribe();
    one.splice(at_other);
    other.splice(at_one);
    assert!(matches!(reader.recv_blocking(), Err(RecvError::Failed(_))));
}

#[test]
fn a_buffer_is_observed_by_readers_that_will_reach_it() {
    let _watchdog = watchdog();
    let live = EventBuffer::new();
    let mut snapshot = EventBuffer::new();
    let mut reader = snapshot.subscribe();
    snapshot.push(1);
    assert!(!live.is_observed());
    snapshot.splice(live.tail());
    assert!(live.is_observed());
    let second = reader.clone();
    reader.try_recv().unwrap();
    assert_eq!(
        reader.try_recv(),
        Err(TryRecvError::Empty),
        "it has passed the splice"
    );
    drop(reader);
    assert!(live.is_observed());
    let mut unobserved = task::spawn(live.unobserved());
    assert_pending!(unobserved.poll());
    drop(second);
    assert!(unobserved.is_woken());
    assert!(!live.is_observed());

    // It is observed again by a reader that comes after all others have gone.
    let snapshot = EventBuffer::new();
    let place = snapshot.tail();
    snapshot.splice(live.tail());
    assert!(!live.is_observed());
    for _ in 0..2 {
        let late = place.subscribe();
        assert!(live.is_observed());
        drop(late);
        assert!(!live.is_observed());
    }
}

#[test]
fn a_failure_is_reported_once_after_all_items() {
    #[derive(Debug)]
    struct Broken(u8);
    impl std::fmt::Display for Broken {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "broken {}", self.0)
        }
    }
    impl std::error::Error for Broken {}

    let _watchdog = watchdog();
    let mut buffer = retaining(Replay::All);
    let mut reader = task::spawn(buffer.subscribe());
    buffer.push(1);
    let place = buffer.latest().unwrap();
    buffer.fail(Broken(3));
    assert_eq!(assert_ready!(reader.poll_next()).unwrap().unwrap()[0], 1);
    let error = assert_ready!(reader.poll_next()).unwrap().unwrap_err();
    let source = std::error::Error::source(&error).unwrap();
    assert_eq!(source.downcast_ref::<Broken>().unwrap().0, 3);
    assert_eq!(assert_ready!(reader.poll_next()), None);

    assert!(matches!(place.try_next(), Err(TryRecvError::Failed(_))));
    let mut late = place.after().subscribe();
    assert!(matches!(late.try_recv(), Err(TryRecvError::Failed(_))));
    assert_eq!(late.try_recv(), Err(TryRecvError::Closed));
}

/// Records whether a reader had been woken when the event was dropped.
struct DropOrder {
    woken: Arc<Woken>,
    was_woken: Arc<AtomicBool>,
    panics: bool,
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

impl Drop for DropOrder {
    fn drop(&mut self) {
        self.was_woken.store(self.woken.0.load(SeqCst), SeqCst);
        assert!(!self.panics, "asked for");
    }
}

impl DropOrder {
    fn new(panics: bool) -> (Self, Arc<Woken>, Arc<AtomicBool>) {
        let (woken, was_woken) = (Arc::<Woken>::default(), Arc::<AtomicBool>::default());
        let event = Self {
            woken: woken.clone(),
            was_woken: was_woken.clone(),
            panics,
        };
        (event, woken, was_woken)
    }
}

fn wait(reader: &mut Subscription<DropOrder>, woken: Arc<Woken>) {
    let waker = Waker::from(woken);
    assert!(
        reader
            .poll_next_unpin(&mut Context::from_waker(&waker))
            .is_pending()
    );
}

#[test]
fn readers_are_woken_before_the_window_is_dropped() {
    let _watchdog = watchdog();
    let live = EventBuffer::new();
    let mut source = EventBuffer::builder().replay(Replay::Last(1)).build();
    let mut reader = source.subscribe();
    let (event, woken, was_woken) = DropOrder::new(false);
    source.push(event);
    assert!(reader.try_recv().is_ok());
    wait(&mut reader, woken);
    source.splice(live.tail());
    assert!(was_woken.load(SeqCst));
}

/// Dropping the position frees the items that it kept.
#[test]
fn readers_are_woken_before_a_cyclic_splice_drops_its_position() {
    let _watchdog = watchdog();
    for panics in [false, true] {
        let mut buffer = EventBuffer::builder().replay(Replay::None).build();
        let start = buffer.tail();
        let (event, woken, was_woken) = DropOrder::new(panics);
        buffer.push(event);
        let mut reader = buffer.subscribe();
        wait(&mut reader, woken);
        let splice = catch_unwind(AssertUnwindSafe(|| buffer.splice(start)));
        assert_eq!(splice.is_err(), panics);
        assert!(was_woken.load(SeqCst));
        assert!(matches!(reader.try_recv(), Err(TryRecvError::Failed(_))));
    }
}

/// tokio 2425, barrage.
#[test]
fn closing_hides_no_earlier_item() {
    let _watchdog = watchdog();
    let mut buffer = EventBuffer::new();
    let mut reader = buffer.subscribe();
    buffer.push(1);
    buffer.close();
    assert_eq!(reader.try_recv().unwrap().events(), [1]);
    assert_eq!(reader.try_recv(), Err(TryRecvError::Closed));
}
