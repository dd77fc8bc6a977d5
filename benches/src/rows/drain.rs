//! What does it cost to read what is ready?

use std::time::Instant;

use super::ForPayload;
use crate::bench::{Bench, Plan};
use crate::harness::Contestant;
use crate::payload::Payload;
use crate::peers::{self, Peer, Visitor};
use crate::target::Target;

/// Events published in one go.
const BURST: usize = 1_000;

pub fn run(bench: &mut Bench) {
    super::each_payload(bench, &Drain);
}

struct Drain;

impl ForPayload for Drain {
    fn ask<T: Payload>(&self, bench: &mut Bench) {
        for subscribers in [1, 10, 100, 1_000] {
            // Some peers take most of a second for it.
            if bench.quick && subscribers == 1_000 && T::NAME != u64::NAME {
                continue;
            }
            bench.timed(
                Plan::new::<T>(
                    "drain",
                    format!("{subscribers} on one thread"),
                    "ns/delivery",
                ),
                BURST * subscribers,
                || {
                    let mut burst = Burst {
                        subscribers,
                        contestants: Vec::new(),
                    };
                    peers::readers::<T>(&mut burst);
                    burst.contestants
                },
                |variant| targets::<T>(variant, subscribers),
            );
        }
    }
}

fn targets<T: Payload>(variant: &str, subscribers: usize) -> Vec<Target> {
    let limit = match variant {
        "cloned" if subscribers == 1 => 0.45,
        "cloned" => 0.2,
        "extend, cloned" if subscribers == 1 => 0.3,
        "extend, cloned" => 0.15,
        "items" | "extend, items" if T::ALLOCATES_ON_CLONE => 0.5,
        "items" | "extend, items" if T::NAME == u64::NAME => 1.0,
        _ => return vec![],
    };
    vec![Target::OfBest(limit)]
}

/// A burst is published; then each subscriber reads all of it. Publishing and freeing count.
struct Burst {
    subscribers: usize,
    contestants: Vec<Contestant>,
}

impl<T: Payload> Visitor<T> for Burst {
    fn visit<P: Peer<T>>(&mut self) {
        let (mut sender, mut receivers) = P::channel(BURST, self.subscribers);
        self.contestants.push(Contestant::of::<T, P>(move |times| {
            let round = |_| {
                let mut events: Vec<T> = (0..BURST as u64).map(T::make).collect();
                let start = Instant::now();
                P::send_all(&mut sender, events.drain(..));
                for receiver in &mut receivers {
                    peers::drain::<T, P>(receiver, BURST);
                }
                start.elapsed()
            };
            (0..times).map(round).sum()
        }));
    }
}
