//! What is kept in memory? Bytes that were allocated and not freed.

use std::hint::black_box;
use std::iter;

use super::{BARRAGE, ForPayload};
use crate::alloc;
use crate::bench::{Bench, Plan};
use crate::harness::Measured;
use crate::payload::Payload;
use crate::peer::Role;
use crate::peers::ours::{Cloned, Items, Ours, Push};
use crate::peers::{self, Peer, TokioStream, Visitor};
use crate::plot::{self, Curve};
use crate::task;

const SECTION: &str = "memory";
/// The backlog of each subscriber in the plot of memory by subscribers.
const BACKLOG: usize = 100;
/// The maximum number of subscribers in the plot, a tenth of the events.
const MOST: usize = 100_000;

pub fn run(bench: &mut Bench) {
    super::each_payload(bench, &Retained);
    for count in counts(bench) {
        bench.counted(
            Plan::new::<u64>(SECTION, format!("an idle subscriber of {count}"), "bytes"),
            || each_contestant(with_distinct_handles, count, Kept::Idle),
        );
        bench.counted(
            Plan::new::<u64>(
                SECTION,
                format!("a waiting subscriber of {count}, its task included"),
                "bytes",
            ),
            || each_contestant(peers::waiters::<u64>, count, Kept::Waiting),
        );
    }
}

fn counts(bench: &Bench) -> Vec<usize> {
    if bench.quick {
        vec![1_000, 100_000]
    } else {
        vec![1_000, 10_000, 100_000, 1_000_000]
    }
}

struct Retained;

impl ForPayload for Retained {
    fn ask<T: Payload>(&self, bench: &mut Bench) {
        for count in counts(bench) {
            bench.counted(
                Plan::new::<T>(SECTION, format!("an event retained of {count}"), "bytes"),
                || {
                    let mut bytes = Bytes {
                        count,
                        kept: Kept::Event,
                        measured: Vec::new(),
                    };
                    Visitor::<T>::visit::<Ours<Push, Items>>(&mut bytes);
                    peers::channels::<T>(&mut bytes);
                    peers::by_hand::<T>(&mut bytes);
                    bytes.measured
                },
            );
        }
    }
}

/// All contestants with a distinct type of handle.
fn with_distinct_handles(bytes: &mut Bytes) {
    Visitor::<u64>::visit::<Ours<Push, Items>>(bytes);
    Visitor::<u64>::visit::<Ours<Push, Cloned>>(bytes);
    peers::channels::<u64>(bytes);
    Visitor::<u64>::visit::<TokioStream>(bytes);
    peers::by_hand::<u64>(bytes);
}

#[derive(Clone, Copy)]
enum Kept {
    Event,
    Idle,
    Waiting,
}

struct Bytes {
    count: usize,
    kept: Kept,
    measured: Vec<Measured>,
}

fn each_contestant(
    contestants: impl FnOnce(&mut Bytes),
    count: usize,
    kept: Kept,
) -> Vec<Measured> {
    let mut bytes = Bytes {
        count,
        kept,
        measured: Vec::new(),
    };
    contestants(&mut bytes);
    bytes.measured
}

impl<T: Payload> Visitor<T> for Bytes {
    fn visit<P: Peer<T>>(&mut self) {
        if P::NAME == "barrage" && self.count > BARRAGE && !matches!(self.kept, Kept::Event) {
            return;
        }
        let bytes = match self.kept {
            Kept::Event => backlog::<T, P>(1, self.count),
            Kept::Idle => idle::<T, P>(self.count),
            Kept::Waiting => waiting::<T, P>(self.count),
        };
        self.measured
            .push(Measured::counted::<T, P>(bytes / self.count as f64));
    }
}

/// A channel with its subscribers, and events that none of them has read.
fn backlog<T: Payload, P: Peer<T>>(subscribers: usize, events: usize) -> f64 {
    let (channel, usage) = alloc::count(|| {
        let (mut sender, receivers) = P::channel(events, subscribers);
        for event in 0..events as u64 {
            P::send(&mut sender, T::make(event));
        }
        (sender, receivers)
    });
    drop(black_box(channel));
    usage.live_bytes
}

/// Idle subscribers, including their handles.
fn idle<T: Payload, P: Peer<T>>(subscribers: usize) -> f64 {
    let (channel, usage) = alloc::count(|| P::channel(1, subscribers));
    drop(black_box(channel));
    usage.live_bytes
}

/// Subscribers as waiting tasks, without the runtime's own part of a task.
fn waiting<T: Payload, P: Peer<T>>(subscribers: usize) -> f64 {
    let waker = task::waker();
    let (channel, usage) = alloc::count(|| {
        let (sender, receivers) = P::channel(1, subscribers);
        let mut tasks: Vec<_> = receivers
            .into_iter()
            .map(|receiver| task::follow::<T, P>(receiver, waker.clone()))
            .collect();
        tasks.iter_mut().for_each(|task| task.poll());
        (sender, tasks)
    });
    drop(black_box(channel));
    usage.live_bytes
}

/// Memory by subscribers, and by backlog.
pub fn draw() -> [(&'static str, String); 1] {
    let mut curves = Curves::default();
    Visitor::<u64>::visit::<Ours<Push, Items>>(&mut curves);
    peers::channels::<u64>(&mut curves);
    peers::by_hand::<u64>(&mut curves);
    let picture = plot::picture(
        "Memory by subscribers and by backlog",
        &[
            (
                "bytes, by subscribers, each 100 u64 events behind",
                &curves.with_subscribers,
            ),
            (
                "bytes, by u64 events that one subscriber has not read",
                &curves.with_backlog,
            ),
        ],
    );
    [("memory.svg", picture)]
}

#[derive(Default)]
struct Curves {
    with_subscribers: Vec<Curve>,
    with_backlog: Vec<Curve>,
}

impl Visitor<u64> for Curves {
    fn visit<P: Peer<u64>>(&mut self) {
        let most_subscribers = if P::NAME == "barrage" { BARRAGE } else { MOST };
        let curve = |most, bytes: &dyn Fn(usize) -> f64| Curve {
            name: if P::ROLE == Role::Ours {
                "event-buffer"
            } else {
                P::NAME
            },
            points: iter::successors(Some(1), |count| Some(count * 10))
                .take_while(|count| *count <= most)
                .map(|count| (count as f64, bytes(count)))
                .collect(),
        };
        let by_subscribers = curve(most_subscribers, &|count| backlog::<u64, P>(count, BACKLOG));
        self.with_subscribers.push(by_subscribers);
        let by_backlog = curve(10 * MOST, &|count| backlog::<u64, P>(1, count));
        self.with_backlog.push(by_backlog);
    }
}
