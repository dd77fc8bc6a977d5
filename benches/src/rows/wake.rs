//! How long does it take from publishing to the last receipt, if subscribers wait as tasks?

use std::sync::Arc;

use crate::bench::{Bench, Plan};
use crate::fan_out::{FanOut, Threads};
use crate::harness::Contestant;
use crate::payload::{Payload, Wide};
use crate::peers::{self, Peer, Visitor};

pub fn run(bench: &mut Bench) {
    for threads in [Threads::One, Threads::Two] {
        for burst in [1, 32] {
            for subscribers in [1, 2, 3, 10, 100, 1_000, 10_000] {
                row::<u64>(
                    bench,
                    Wake {
                        threads,
                        subscribers,
                        burst,
                    },
                );
            }
            let among_100 = Wake {
                threads,
                subscribers: 100,
                burst,
            };
            row::<Wide>(bench, among_100);
            row::<String>(bench, among_100);
            row::<Arc<[u8]>>(bench, among_100);
        }
    }
    if !bench.quick {
        let crowd = Wake {
            threads: Threads::One,
            subscribers: 100_000,
            burst: 1,
        };
        row::<u64>(bench, crowd);
    }
}

#[derive(Clone, Copy)]
struct Wake {
    threads: Threads,
    subscribers: usize,
    burst: usize,
}

fn row<T: Payload>(bench: &mut Bench, wake: Wake) {
    let Wake {
        threads,
        subscribers,
        burst,
    } = wake;
    let place = match threads {
        Threads::One => "one thread",
        Threads::Two => "two threads",
    };
    bench.timed(
        Plan::new::<T>(
            "wake",
            format!("{subscribers} on {place}, burst {burst}"),
            "ns/delivery",
        ),
        subscribers * burst,
        || {
            let mut tasks = Tasks {
                wake,
                contestants: Vec::new(),
            };
            peers::waiters::<T>(&mut tasks);
            tasks.contestants
        },
    );
}

struct Tasks {
    wake: Wake,
    contestants: Vec<Contestant>,
}

impl<T: Payload> Visitor<T> for Tasks {
    fn visit<P: Peer<T>>(&mut self) {
        if P::NAME == "barrage" && self.wake.subscribers > super::BARRAGE {
            return;
        }
        let Wake {
            threads,
            subscribers,
            burst,
        } = self.wake;
        let mut fan_out = FanOut::<T, P>::new(threads, subscribers, burst);
        self.contestants
            .push(Contestant::of::<T, P>(move |times| fan_out.run(times)));
    }
}
