//! The growth of costs, for the plots.

use std::iter;
use std::time::{Duration, Instant};

use crate::fan_out::{FanOut, Threads};
use crate::harness::{Contestant, Harness};
use crate::peer::Role;
use crate::peers::ours::{Cloned, ClonedStream, Extend, Items, Ours, Push};
use crate::peers::{self, AsyncBroadcast, FlumeEach, Peer, TokioRecv};
use crate::plot::{self, Curve};

const SUBSCRIBERS: usize = 100_000;
const BACKLOG: usize = 10_000_000;
/// There are many points, each of which may be less exact than a row.
const HARNESS: Harness = Harness {
    rounds: 5,
    sample: Duration::from_millis(10),
};

pub fn draw() -> [(&'static str, String); 2] {
    let drained = [
        curve(
            "event-buffer, push",
            SUBSCRIBERS,
            drain::<Ours<Push, Cloned>>,
        ),
        curve(
            "event-buffer, extend",
            SUBSCRIBERS,
            drain::<Ours<Extend, Cloned>>,
        ),
        curve("tokio recv", SUBSCRIBERS, drain::<TokioRecv>),
        curve("async-broadcast", SUBSCRIBERS, drain::<AsyncBroadcast>),
    ];
    let woken = [
        curve(
            "event-buffer, push",
            SUBSCRIBERS,
            wake::<Ours<Push, ClonedStream>>,
        ),
        curve("tokio recv", SUBSCRIBERS, wake::<TokioRecv>),
        curve("async-broadcast", SUBSCRIBERS, wake::<AsyncBroadcast>),
    ];
    let published = [
        curve("event-buffer, push", BACKLOG, publish::<Ours<Push, Items>>),
        curve(
            "event-buffer, extend",
            BACKLOG,
            publish::<Ours<Extend, Items>>,
        ),
        curve("tokio recv", BACKLOG, publish::<TokioRecv>),
        curve("flume each", BACKLOG, publish::<FlumeEach>),
    ];
    let delivery = plot::picture(
        "What a delivery costs by subscribers",
        &[
            ("ns a delivery of what is ready, by subscribers", &drained),
            ("ns a delivery that wakes a task, by subscribers", &woken),
        ],
    );
    let backlog = plot::picture(
        "What publishing costs by backlog",
        &[("ns an event published, by events not read", &published)],
    );
    [("delivery.svg", delivery), ("backlog.svg", backlog)]
}

/// A contestant's figure for each power of ten.
fn curve(
    name: &'static str,
    most: usize,
    job: impl Fn(usize) -> (usize, Box<dyn FnMut(u32) -> Duration>),
) -> Curve {
    eprintln!("curve: {name}, to {most}");
    let counts = iter::successors(Some(1), |count| Some(count * 10));
    let points = counts.take_while(|count| *count <= most).map(|count| {
        let (operations, run) = job(count);
        let contestant = Contestant::new(name, Role::Peer, run);
        let measured = HARNESS.compete(vec![contestant], operations);
        (count as f64, measured[0].median())
    });
    Curve {
        name,
        points: points.collect(),
    }
}

/// A number of subscribers read a burst that is ready.
fn drain<P: Peer<u64>>(subscribers: usize) -> (usize, Box<dyn FnMut(u32) -> Duration>) {
    let burst = if subscribers > 1_000 { 10 } else { 1_000 };
    let (mut sender, mut receivers) = P::channel(burst, subscribers);
    let run = move |times| {
        let start = Instant::now();
        for _ in 0..times {
            P::send_all(&mut sender, 0..burst as u64);
            for receiver in &mut receivers {
                peers::drain::<u64, P>(receiver, burst);
            }
        }
        start.elapsed()
    };
    (burst * subscribers, Box::new(run))
}

/// A number of tasks wait for an event.
fn wake<P: Peer<u64>>(subscribers: usize) -> (usize, Box<dyn FnMut(u32) -> Duration>) {
    let mut fan_out = FanOut::<u64, P>::new(Threads::One, subscribers, 1);
    (subscribers, Box::new(move |times| fan_out.run(times)))
}

/// A subscriber that does not read has a backlog of events.
fn publish<P: Peer<u64>>(backlog: usize) -> (usize, Box<dyn FnMut(u32) -> Duration>) {
    const BURST: usize = 1_000;
    let run = move |times| {
        let (mut sender, mut receivers) = P::channel(backlog + BURST, 1);
        P::send_all(&mut sender, 0..backlog as u64);
        let round = |_| {
            let start = Instant::now();
            P::send_all(&mut sender, 0..BURST as u64);
            let elapsed = start.elapsed();
            // As many as have been published, so that the backlog stays the same.
            peers::drain::<u64, P>(&mut receivers[0], BURST);
            elapsed
        };
        (0..times).map(round).sum()
    };
    (BURST, Box::new(run))
}
