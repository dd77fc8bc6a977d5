//! The buffer, its readers and all there is to it, against vectors.

mod answer;
mod item;
mod limit;
mod model;
mod op;
mod reader;
mod wait;
mod world;
mod writer;

use crate::bytes::Bytes;
use crate::{event, foreign};
use op::Op;
use world::World;

/// Longer inputs say nothing new, only slower.
const MOST_OPS: usize = 400;

/// Does what the input says.
///
/// # Panics
///
/// If the library does not answer as the model does.
pub fn run(input: &[u8]) {
    event::reset();
    foreign::reset();
    let mut world = World::default();
    let bytes = &mut Bytes::new(input);
    for _ in 0..MOST_OPS {
        let Some(op) = Op::next(bytes) else { break };
        // Nothing happens where there is nothing that the step could choose.
        let _ = world.step(op);
        world.check();
    }
    world.finish();
}

/// The steps of an input, for people.
pub fn show(input: &[u8]) -> String {
    let bytes = &mut Bytes::new(input);
    let ops = std::iter::from_fn(|| Op::next(bytes)).take(MOST_OPS);
    ops.map(|op| format!("{op:?}\n")).collect()
}
