//! Everything about a buffer and its readers, compared with vectors.

mod errors;
mod item;
mod limit;
mod model;
mod op;
mod reader;
mod wait;
mod world;
mod writer;

use crate::bytes::Bytes;
use crate::{event, user_code};
use op::Op;
use world::World;

/// The rest of a longer input is ignored: it finds nothing new, and takes longer.
const MAX_OPS: usize = 400;

/// Executes the steps of an input.
///
/// # Panics
///
/// If a result of the library differs from the model's.
pub fn run(input: &[u8]) {
    event::reset();
    user_code::reset();
    let mut world = World::default();
    let bytes = &mut Bytes::new(input);
    for _ in 0..MAX_OPS {
        let Some(op) = Op::next(bytes) else { break };
        // A step does nothing if there is nothing that it could choose.
        let _ = world.step(op);
        world.check();
    }
    world.finish();
}

/// The steps of an input, in readable form.
pub fn show(input: &[u8]) -> String {
    let bytes = &mut Bytes::new(input);
    let ops = std::iter::from_fn(|| Op::next(bytes)).take(MAX_OPS);
    ops.map(|op| format!("{op:?}\n")).collect()
}
