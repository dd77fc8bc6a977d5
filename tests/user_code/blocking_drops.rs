//! An event whose drop blocks keeps alive only itself and what is dropped along with it, whichever
//! thread runs the drop and whatever is published meanwhile.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Barrier};
use std::thread;

use event_buffer::{ByteSize, EventBuffer, LagLimit, OnLag, Replay, SharedBuffer};

use crate::support::watchdog;

/// Counted while it is alive. If it has a gate, its drop waits there.
struct Event {
    alive: Arc<AtomicUsize>,
    gate: Option<Arc<Gate>>,
}

struct Gate {
    entered: Barrier,
    may_leave: Barrier,
}

impl Clone for Event {
    fn clone(&self) -> Self {
        event(&self.alive)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if let Some(gate) = &self.gate {
            gate.entered.wait();
            gate.may_leave.wait();
        }
        self.alive.fetch_sub(1, SeqCst);
    }
}

impl ByteSize for Event {
    fn byte_size(&self) -> usize {
        1
    }
}

fn event(alive: &Arc<AtomicUsize>) -> Event {
    alive.fetch_add(1, SeqCst);
    Event {
        alive: alive.clone(),
        gate: None,
    }
}

/// What one test needs: the buffer, the number of events alive, and the gate of the blocking one.
struct World {
    shared: SharedBuffer<Event>,
    alive: Arc<AtomicUsize>,
    gate: Arc<Gate>,
}

impl World {
    /// The number of earlier events decides how large blocks are, and the positions in them.
    fn new(replay: Replay, before: usize) -> Self {
        let shared = SharedBuffer::from(EventBuffer::builder().replay(replay).build());
        let alive = Arc::default();
        let reader = shared.subscribe();
        (0..before).for_each(|_| shared.push(event(&alive)).unwrap());
        drop(reader);
        let gate = Gate {
            entered: Barrier::new(2),
            may_leave: Barrier::new(2),
        };
        Self {
            shared,
            alive,
            gate: Arc::new(gate),
        }
    }

    fn event(&self) -> Event {
        event(&self.alive)
    }

    fn blocking_event(&self) -> Event {
        let mut event = self.event();
        event.gate = Some(self.gate.clone());
        event
    }

    fn push(&self, events: usize) {
        (0..events).for_each(|_| self.shared.push(self.event()).unwrap());
    }

    /// Runs `block` on another thread until the drop of the blocking event begins, and publishes
    /// meanwhile. Returns the largest number of events alive after any of these.
    fn publish_while_blocked(&self, block: impl FnOnce() + Send) -> usize {
        thread::scope(|scope| {
            scope.spawn(block);
            self.gate.entered.wait();
            let alive = |_| {
                self.push(1);
                self.alive.load(SeqCst)
            };
            let most = (0..10_000).map(alive).max();
            self.gate.may_leave.wait();
            most.unwrap_or_default()
        })
    }
}

/// Numbers of earlier events, so that the blocking one gets each position in its block.
fn befores() -> impl Iterator<Item = usize> {
    (0..70).step_by(if cfg!(event_buffer_no_blocks) { 69 } else { 1 })
}

#[test]
fn a_blocking_drop_at_a_limit_keeps_no_later_events_alive() {
    let _watchdog = watchdog();
    let limits = [LagLimit::items(100), LagLimit::bytes(100)];
    for (before, limit) in befores().flat_map(|before| limits.map(|limit| (before, limit))) {
        let world = World::new(Replay::None, before);
        let stuck = world.shared.subscribe().limited(limit);
        let most = world.publish_while_blocked(|| {
            world.shared.push(world.blocking_event()).unwrap();
            world.push(1_000);
        });
        assert!(most < 300, "{before}: {most}");
        drop(stuck);
    }
}

/// The other one's place is after the event that blocks.
#[test]
fn one_that_the_limits_of_two_readers_drop() {
    let _watchdog = watchdog();
    for limit in [LagLimit::items(100), LagLimit::bytes(100)] {
        let world = World::new(Replay::None, 0);
        let behind = world.shared.subscribe().limited(limit);
        world.shared.push(world.blocking_event()).unwrap();
        world.push(5);
        let ahead = world.shared.subscribe().limited(limit);
        let most = world.publish_while_blocked(|| {
            let events = (0..1_000).map(|_| world.event());
            world.shared.extend(events).unwrap();
        });
        assert!(most < 1_400, "{limit:?}: {most}");
        drop((behind, ahead));
    }
}

#[test]
fn a_blocking_drop_in_a_splice_keeps_no_later_events_alive() {
    let _watchdog = watchdog();
    for before in befores() {
        let world = World::new(Replay::None, before);
        let mut source = EventBuffer::builder().replay(Replay::None).build();
        let stuck = source.subscribe().limited(LagLimit::items(20));
        source.push(world.blocking_event());
        source.extend((0..10).map(|_| world.event()));
        let onto = world.shared.tail();
        world.push(20);
        let most = world.publish_while_blocked(|| source.splice(onto));
        assert!(most < 200, "{before}: {most}");
        drop(stuck);
    }
}

#[test]
fn a_blocking_drop_from_the_window_keeps_no_later_events_alive() {
    let _watchdog = watchdog();
    for before in befores() {
        let world = World::new(Replay::Last(10), before);
        let most = world.publish_while_blocked(|| {
            world.shared.push(world.blocking_event()).unwrap();
            world.push(10);
        });
        assert!(most < 30, "{before}: {most}");
    }
}

#[test]
fn a_blocking_drop_by_the_last_reader_keeps_no_later_events_alive() {
    let _watchdog = watchdog();
    for before in befores() {
        let world = World::new(Replay::None, before);
        let reader = world.shared.subscribe();
        world.push(before % 5);
        world.shared.push(world.blocking_event()).unwrap();
        world.push(before);
        let most = world.publish_while_blocked(|| drop(reader));
        assert!(most < 80 + before, "{before}: {most}");
    }
}

#[test]
fn a_blocking_drop_by_an_item_handle_keeps_no_later_events_alive() {
    let _watchdog = watchdog();
    for before in befores() {
        let world = World::new(Replay::None, before);
        let mut reader = world.shared.subscribe();
        world.shared.push(world.blocking_event()).unwrap();
        let held = reader.try_recv().unwrap();
        world.push(before);
        drop(reader);
        let most = world.publish_while_blocked(|| drop(held));
        assert!(most < 80 + before, "{before}: {most}");
    }
}

#[test]
fn a_blocking_drop_when_lag_closes_a_reader_keeps_no_later_events_alive() {
    let _watchdog = watchdog();
    for limit in [LagLimit::items(3), LagLimit::bytes(3)] {
        let world = World::new(Replay::None, 3);
        let closed = world.shared.subscribe();
        let closed = closed.limited(limit.on_lag(OnLag::Close));
        world.shared.push(world.blocking_event()).unwrap();
        let most = world.publish_while_blocked(|| world.push(100));
        assert!(most < 200, "{limit:?}: {most}");
        drop(closed);
    }
}

#[test]
fn a_blocking_drop_by_a_limited_reader_keeps_no_later_events_alive() {
    let _watchdog = watchdog();
    for limit in [LagLimit::items(1_000), LagLimit::bytes(1_000)] {
        let world = World::new(Replay::None, 3);
        let mut reader = world.shared.subscribe().limited(limit);
        world.push(64);
        while reader.try_recv().is_ok() {}
        world.shared.push(world.blocking_event()).unwrap();
        let most = world.publish_while_blocked(|| drop(reader));
        assert!(most < 200, "{limit:?}: {most}");
    }
}

#[test]
fn a_blocking_drop_when_a_limit_is_set_keeps_no_later_events_alive() {
    let _watchdog = watchdog();
    for limit in [LagLimit::items(10), LagLimit::bytes(10)] {
        let world = World::new(Replay::None, 3);
        let reader = world.shared.subscribe();
        world.shared.push(world.blocking_event()).unwrap();
        world.push(20);
        let mut limited = None;
        let most = world.publish_while_blocked(|| limited = Some(reader.limited(limit)));
        assert!(most < 200, "{limit:?}: {most}");
        drop(limited);
    }
}

/// All have been read meanwhile.
#[test]
fn a_blocking_drop_in_a_batch_keeps_no_read_events_alive() {
    let _watchdog = watchdog();
    for (window, batch) in [(1, 1_000), (1_000, 900)] {
        let World { alive, gate, .. } = World::new(Replay::None, 0);
        let mut buffer = EventBuffer::builder().replay(Replay::Last(window)).build();
        let mut reader = buffer.subscribe();
        let mut first = event(&alive);
        first.gate = Some(gate.clone());
        buffer.push(first);
        drop(reader.try_recv());
        buffer.extend((1..window).map(|_| event(&alive)));
        let kept = thread::scope(|scope| {
            let (alive, buffer) = (&alive, &mut buffer);
            scope.spawn(move || buffer.extend((0..batch).map(|_| event(alive))));
            gate.entered.wait();
            while reader.try_recv().is_ok() {}
            let kept = alive.load(SeqCst);
            gate.may_leave.wait();
            kept
        });
        assert!(kept < window + 10, "{kept} alive with a window of {window}");
    }
}

/// Each item also pushes another one out of the window.
#[test]
fn a_blocking_drop_at_a_limit_with_a_window_keeps_no_later_events_alive() {
    let _watchdog = watchdog();
    for before in befores() {
        let world = World::new(Replay::Last(10), before);
        let stuck = world.shared.subscribe().limited(LagLimit::items(100));
        let most = world.publish_while_blocked(|| {
            world.shared.push(world.blocking_event()).unwrap();
            world.push(1_000);
        });
        assert!(most < 300, "{before}: {most}");
        drop(stuck);
    }
}

#[cfg(feature = "publisher")]
mod of_a_publisher {
    use event_buffer::publisher::{Publisher, Request, Watch};
    use tokio_test::task::{self, Spawn};

    use super::*;

    /// A publisher whose window for "a" holds an event that blocks, and a watch of "b" that waits.
    fn with_two_keys(
        world: &World,
    ) -> (
        Publisher<&'static str, Event>,
        Spawn<Watch<&'static str, Event>>,
    ) {
        let publisher = Publisher::builder().history(1).build();
        let watch = publisher.subscribe(Request::new("a"));
        publisher
            .publish(1, [("a", world.blocking_event())])
            .unwrap();
        drop(watch);
        let mut watch = task::spawn(publisher.subscribe(Request::new("b")));
        while watch.poll_next().is_ready() {}
        (publisher, watch)
    }

    #[test]
    fn a_blocking_drop_for_one_key_does_not_delay_wake_ups_of_another() {
        let _watchdog = watchdog();
        let world = World::new(Replay::None, 0);
        let (publisher, watch) = with_two_keys(&world);
        thread::scope(|scope| {
            let events = [("a", world.event()), ("b", world.event())];
            scope.spawn(|| publisher.publish(2, events).unwrap());
            world.gate.entered.wait();
            let is_woken = watch.is_woken();
            world.gate.may_leave.wait();
            assert!(is_woken);
        });
    }

    #[test]
    fn a_blocking_drop_for_one_key_does_not_delay_the_end_of_another() {
        let _watchdog = watchdog();
        let world = World::new(Replay::None, 0);
        let (publisher, watch) = with_two_keys(&world);
        thread::scope(|scope| {
            scope.spawn(|| drop(publisher));
            world.gate.entered.wait();
            let is_woken = watch.is_woken();
            world.gate.may_leave.wait();
            assert!(is_woken);
        });
    }
}
