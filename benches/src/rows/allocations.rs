//! How many allocator calls are there in the steady state?

use crate::alloc;
use crate::bench::{Bench, Plan};
use crate::harness::Measured;
use crate::peers::{self, Peer, Visitor};
use crate::task::{self, Task};

const SECTION: &str = "allocations";
/// Events measured, after the same number to warm up.
const EVENTS: u64 = 1_000;

pub fn run(bench: &mut Bench) {
    bench.counted(
        Plan::new::<u64>(
            SECTION,
            "per publish, bursts of 1,000, a subscriber behind",
            "allocations",
        ),
        || counted(peers::readers::<u64>, Part::Publish),
    );
    bench.counted(
        Plan::new::<u64>(SECTION, "per delivery of what is ready", "allocations"),
        || counted(peers::readers::<u64>, Part::Deliver),
    );
    bench.counted(
        Plan::new::<u64>(
            SECTION,
            "per publish to a waiting subscriber",
            "allocations",
        ),
        || counted(peers::waiters::<u64>, Part::Wake),
    );
    bench.counted(
        Plan::new::<u64>(SECTION, "per wait, with the delivery before", "allocations"),
        || counted(peers::waiters::<u64>, Part::Wait),
    );
}

#[derive(Clone, Copy)]
enum Part {
    Publish,
    Deliver,
    Wake,
    Wait,
}

struct Counted {
    part: Part,
    measured: Vec<Measured>,
}

fn counted(contestants: impl FnOnce(&mut Counted), part: Part) -> Vec<Measured> {
    let mut counted = Counted {
        part,
        measured: Vec::new(),
    };
    contestants(&mut counted);
    counted.measured
}

impl Visitor<u64> for Counted {
    fn visit<P: Peer<u64>>(&mut self) {
        let allocations = match self.part {
            Part::Publish => bursts::<P>().0,
            Part::Deliver => bursts::<P>().1,
            Part::Wake => waits::<P>().0,
            Part::Wait => waits::<P>().1,
        };
        self.measured.push(Measured::counted::<u64, P>(allocations));
    }
}

/// Allocations per publish and per delivery, if everything is published and then read.
fn bursts<P: Peer<u64>>() -> (f64, f64) {
    let (mut sender, mut receivers) = P::channel(EVENTS as usize, 1);
    let mut publish = || P::send_all(&mut sender, 0..EVENTS);
    let mut deliver = || peers::drain::<u64, P>(&mut receivers[0], EVENTS as usize);
    publish();
    deliver();
    let ((), publishing) = alloc::count(publish);
    let ((), delivering) = alloc::count(deliver);
    let per_event = |usage: alloc::Usage| usage.allocations / EVENTS as f64;
    (per_event(publishing), per_event(delivering))
}

/// Allocations per publish and per delivery, if a task waits for each event.
fn waits<P: Peer<u64>>() -> (f64, f64) {
    let (mut sender, receivers) = P::channel(1, 1);
    let receiver = receivers.into_iter().next().expect("one was requested");
    let mut task = task::follow::<u64, P>(receiver, task::waker());
    task.poll();
    let (mut publishing, mut waiting) = (0.0, 0.0);
    for event in 0..2 * EVENTS {
        let ((), publish) = alloc::count(|| P::send(&mut sender, event));
        let ((), wait) = alloc::count(|| Task::poll(&mut task));
        if event >= EVENTS {
            publishing += publish.allocations;
            waiting += wait.allocations;
        }
    }
    (publishing / EVENTS as f64, waiting / EVENTS as f64)
}
