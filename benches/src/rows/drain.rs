//! What does it cost to read what is ready?

use std::time::Instant;

use super::ForPayload;
use crate::bench::{Bench, Plan};
use crate::harness::Contestant;
use crate::payload::Payload;
use crate::peers::{self, Peer, Visitor};

/// Events published in one go.
const BURST: usize = 1_000;

pub fn run(bench: &mut Bench) {
    super::each_payload(bench, &Drain);
}

struct Drain;

impl ForPayload for Drain {
    fn ask<T: Payload>(&self, bench: &mut Bench) {
        for subscribers in [1, 10, 100, 1_000] {
            // Some peers take most of a second for this.
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
            );
        }
    }
}

/// A burst is published; then each subscriber reads it. Publishing and freeing are timed, too.
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
