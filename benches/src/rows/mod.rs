//! The rows, grouped by the question that they answer.

pub mod allocations;
pub mod crowd;
pub mod curves;
pub mod drain;
pub mod late_join;
pub mod latency;
pub mod limits;
pub mod memory;
pub mod producers;
pub mod publish;
pub mod publisher;
pub mod share;
pub mod wake;

use std::sync::Arc;

use crate::bench::Bench;
use crate::payload::{Payload, Wide};

/// The subscribers that `barrage` can drop in reasonable time: each drop visits all others.
const BARRAGE: usize = 10_000;

/// A question asked for each payload.
trait ForPayload {
    fn ask<T: Payload>(&self, bench: &mut Bench);
}

fn each_payload(bench: &mut Bench, question: &impl ForPayload) {
    question.ask::<u64>(bench);
    question.ask::<Wide>(bench);
    question.ask::<String>(bench);
    question.ask::<Arc<[u8]>>(bench);
}
