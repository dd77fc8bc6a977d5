//! How long does a publish block the writer?

use std::time::Duration;

use crate::bench::{Bench, Plan};
use crate::fan_out::{FanOut, Threads};
use crate::harness::Measured;
use crate::peer::Role;
use crate::peers::{self, Peer, Visitor};

/// Tasks that wait for each event.
const SUBSCRIBERS: usize = 1_000;

pub fn run(bench: &mut Bench) {
    let plan = Plan::new::<u64>("publish latency", format!("{SUBSCRIBERS} waiting"), "µs");
    let Some(plan) = bench.begin(plan) else {
        return;
    };
    let (rounds, events) = if bench.quick { (3, 20) } else { (7, 300) };

    let mut writers = Writers(Vec::new());
    peers::waiters::<u64>(&mut writers);
    let mut writers = writers.0;
    for writer in &mut writers {
        (writer.publish)(events);
    }
    for round in 0..rounds {
        for turn in 0..writers.len() {
            let count = writers.len();
            let writer = &mut writers[(round + turn) % count];
            let mut latencies = (writer.publish)(events);
            latencies.sort();
            writer.rounds.push(latencies);
        }
    }

    for (name, at) in [("median", 0.5), ("99th percentile", 0.99), ("longest", 1.0)] {
        let measured: Vec<Measured> = writers.iter().map(|writer| writer.at(at)).collect();
        let plan = Plan {
            scenario: format!("{}: {name}", plan.scenario),
            ..plan
        };
        bench.add(plan, &measured);
    }
}

struct Writers(Vec<Writer>);

struct Writer {
    name: &'static str,
    role: Role,
    publish: Box<dyn FnMut(u32) -> Vec<Duration>>,
    /// The sorted publish times of each round.
    rounds: Vec<Vec<Duration>>,
}

impl Writer {
    /// The latency in microseconds at this fraction of each round's sorted latencies.
    fn at(&self, part: f64) -> Measured {
        let at = |round: &Vec<Duration>| {
            let latency = round[((round.len() - 1) as f64 * part) as usize];
            latency.as_nanos() as f64 / 1e3
        };
        Measured {
            name: self.name,
            role: self.role,
            rounds: self.rounds.iter().map(at).collect(),
        }
    }
}

impl Visitor<u64> for Writers {
    fn visit<P: Peer<u64>>(&mut self) {
        let mut fan_out = FanOut::<u64, P>::new(Threads::One, SUBSCRIBERS, 1);
        self.0.push(Writer {
            name: P::NAME,
            role: P::ROLE,
            publish: Box::new(move |events| fan_out.latencies(events)),
            rounds: Vec::new(),
        });
    }
}
