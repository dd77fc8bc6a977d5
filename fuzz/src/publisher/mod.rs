//! The publisher on one thread, against a store of all commits: whatever happens, what a watcher knows
//! is the state as of its index, and a watcher that is not woken has nothing to come.

mod op;
mod store;
mod view;
mod world;

use crate::bytes::Bytes;
use crate::{event, foreign};
use op::Op;
use world::World;

const MOST_OPS: usize = 300;

/// Does what the input says.
///
/// # Panics
///
/// If a watcher gets anything but what the store says.
pub fn run(input: &[u8]) {
    event::reset();
    foreign::reset();
    let bytes = &mut Bytes::new(input);
    let mut world = World::new(bytes);
    for _ in 0..MOST_OPS {
        let Some(op) = Op::next(bytes) else { break };
        // Nothing happens where there is nothing that the step could choose.
        let _ = world.step(op);
        world.check();
    }
    world.finish();
    assert!(!event::any_alive(), "an event is never dropped");
}

/// The steps of an input, for people.
pub fn show(input: &[u8]) -> String {
    let bytes = &mut Bytes::new(input);
    drop(World::new(bytes));
    let ops = std::iter::from_fn(|| Op::next(bytes)).take(MOST_OPS);
    ops.map(|op| format!("{op:?}\n")).collect()
}
