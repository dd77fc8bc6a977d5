//! The publisher on one thread, compared with a store of all commits. A watcher always has the
//! state as of its index, and a watcher that is not woken has received everything.

mod op;
mod store;
mod view;
mod world;

use crate::bytes::Bytes;
use crate::{event, user_code};
use op::Op;
use world::World;

const MAX_OPS: usize = 300;

/// Executes the steps of an input.
///
/// # Panics
///
/// If a watcher receives anything that contradicts the store.
pub fn run(input: &[u8]) {
    event::reset();
    user_code::reset();
    let bytes = &mut Bytes::new(input);
    let mut world = World::new(bytes);
    for _ in 0..MAX_OPS {
        let Some(op) = Op::next(bytes) else { break };
        // A step does nothing if there is nothing that it could choose.
        let _ = world.step(op);
        world.check();
    }
    world.finish();
    assert!(!event::any_alive(), "an event was not dropped");
}

/// The steps of an input, in readable form.
pub fn show(input: &[u8]) -> String {
    let bytes = &mut Bytes::new(input);
    drop(World::new(bytes));
    let ops = std::iter::from_fn(|| Op::next(bytes)).take(MAX_OPS);
    ops.map(|op| format!("{op:?}\n")).collect()
}
