//! The count of items in memory, compared with the items that are alive.

use std::sync::Arc;

use event_buffer::{BufferItem, Replay, Subscription};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::{retaining, watchdog};

/// Freed items that may still be counted: at most one block of memory.
const BLOCK: u64 = 64;

#[derive(Clone, Debug)]
enum Step {
    Push,
    Append(usize),
    Extend(usize),
    Subscribe,
    Read(usize, usize),
    Hold(usize),
    Release(usize),
    Leave(usize),
    Clear,
    Splice,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Push),
        2 => (0..5_usize).prop_map(Step::Append),
        2 => (0..200_usize).prop_map(Step::Extend),
        3 => Just(Step::Subscribe),
        6 => (0..8_usize, 0..150_usize).prop_map(|(reader, n)| Step::Read(reader, n)),
        2 => (0..8_usize).prop_map(Step::Hold),
        1 => (0..8_usize).prop_map(Step::Release),
        2 => (0..8_usize).prop_map(Step::Leave),
        1 => Just(Step::Clear),
        1 => Just(Step::Splice),
    ]
}

/// An event whose `Arc` counts the items of its buffer that are alive.
#[derive(Clone)]
struct Event(#[expect(dead_code)] Arc<()>);

proptest! {
    #![proptest_config(crate::cases(256))]

    /// The backlog counts the items that are alive, and at most a block more.
    #[test]
    fn the_backlog_counts_the_items_that_are_alive(
        window in prop_oneof![Just(0), Just(1), Just(5), Just(usize::MAX)],
        steps in vec(step(), 1..60),
    ) {
        let _watchdog = watchdog();
        let replay = if window == usize::MAX { Replay::All } else { Replay::Last(window) };
        let mut live = retaining(replay);
        // Cloned once for each item of the live buffer: one of its events has a clone.
        let mut alive = Arc::new(());
        let mut readers: Vec<Subscription<Event>> = Vec::new();
        let mut held: Vec<BufferItem<Event>> = Vec::new();
        for step in steps {
            let event = || Event(alive.clone());
            match step {
                Step::Push => live.push(event()),
                // The other events of the item have an `Arc` of their own.
                Step::Append(n) if n > 0 => {
                    let others = (1..n).map(|_| Event(Arc::new(())));
                    live.append(std::iter::once(event()).chain(others));
                }
                Step::Append(_) => live.append(None),
                Step::Extend(n) => live.extend((0..n).map(|_| event())),
                Step::Subscribe => readers.push(live.subscribe()),
                Step::Read(reader, n) => {
                    let count = readers.len().max(1);
                    if let Some(reader) = readers.get_mut(reader % count) {
                        (0..n).for_each(|_| drop(reader.try_recv()));
                    }
                }
                Step::Hold(reader) => {
                    let count = readers.len().max(1);
                    if let Some(reader) = readers.get_mut(reader % count) {
                        held.extend(reader.try_recv());
                    }
                }
                Step::Release(item) if !held.is_empty() => {
                    held.swap_remove(item % held.len());
                }
                Step::Leave(reader) if !readers.is_empty() => {
                    readers.swap_remove(reader % readers.len());
                }
                Step::Release(_) | Step::Leave(_) => {}
                Step::Clear => live.clear_window(),
                Step::Splice => {
                    let next = retaining(replay);
                    std::mem::replace(&mut live, next).splice(live.tail());
                    alive = Arc::new(());
                }
            }
            let items = Arc::strong_count(&alive) as u64 - 1;
            let backlog = live.backlog();
            prop_assert!((items..=items + BLOCK).contains(&backlog), "{backlog} for {items}");
            prop_assert!(backlog >= live.retained() as u64);
        }
    }
}
