//! What does publishing cost the writer?

use std::time::{Duration, Instant};

use super::ForPayload;
use crate::bench::{Bench, Plan};
use crate::harness::Contestant;
use crate::payload::Payload;
use crate::peers::ours::{Extend, Items, Ours, Push, PushRetaining, Shared, SharedRetaining};
use crate::peers::{self, Peer, Visitor};
use crate::task::{self, Task};

const SECTION: &str = "publish";
const UNIT: &str = "ns/event";
/// Events published in one burst.
const BURST: usize = 1_000;
/// Waiting subscribers, of several channels: one event is published to each in one burst.
const WAITING: usize = 250;

pub fn run(bench: &mut Bench) {
    super::each_payload(bench, &Publish);
}

struct Publish;

impl ForPayload for Publish {
    fn ask<T: Payload>(&self, bench: &mut Bench) {
        bench.timed(
            Plan::new::<T>(SECTION, "no subscriber", UNIT),
            BURST,
            || {
                let mut unobserved = Unobserved(Vec::new());
                Visitor::<T>::visit::<Ours<Push, Items>>(&mut unobserved);
                Visitor::<T>::visit::<Ours<PushRetaining, Items>>(&mut unobserved);
                Visitor::<T>::visit::<Ours<Shared, Items>>(&mut unobserved);
                Visitor::<T>::visit::<Ours<SharedRetaining, Items>>(&mut unobserved);
                peers::channels::<T>(&mut unobserved);
                unobserved.0
            },
        );
        bench.timed(
            Plan::new::<T>(SECTION, "a subscriber behind", UNIT),
            BURST,
            || {
                let mut behind = Behind(Vec::new());
                Visitor::<T>::visit::<Ours<Extend, Items>>(&mut behind);
                writers::<T, _>(behind).0
            },
        );
        bench.timed(
            Plan::new::<T>(SECTION, "a subscriber woken, not yet polled", UNIT),
            BURST,
            || {
                let mut woken = Woken(Vec::new());
                Visitor::<T>::visit::<Ours<Extend, Items>>(&mut woken);
                writers::<T, _>(woken).0
            },
        );
        for (subscribers, scenario) in
            [(1, "a waiting subscriber"), (10, "ten waiting subscribers")]
        {
            let channels = WAITING / subscribers;
            bench.timed(Plan::new::<T>(SECTION, scenario, UNIT), channels, || {
                let waiting = Waiting {
                    channels,
                    subscribers,
                    contestants: Vec::new(),
                };
                writers::<T, _>(waiting).contestants
            });
        }
    }
}

fn writers<T: Payload, V: Visitor<T>>(mut visitor: V) -> V {
    visitor.visit::<Ours<Push, Items>>();
    visitor.visit::<Ours<PushRetaining, Items>>();
    visitor.visit::<Ours<Shared, Items>>();
    visitor.visit::<Ours<SharedRetaining, Items>>();
    peers::channels(&mut visitor);
    peers::by_hand(&mut visitor);
    visitor
}

/// There are no subscribers. A channel for each subscriber then means no channel and no work.
struct Unobserved(Vec<Contestant>);

impl<T: Payload> Visitor<T> for Unobserved {
    fn visit<P: Peer<T>>(&mut self) {
        let (mut sender, _) = P::channel(BURST, 0);
        self.0.push(Contestant::writer::<T, P>(move |times| {
            (0..times).map(|_| publish::<T, P>(&mut sender)).sum()
        }));
    }
}

/// A subscriber reads now and then, and never waits.
struct Behind(Vec<Contestant>);

impl<T: Payload> Visitor<T> for Behind {
    fn visit<P: Peer<T>>(&mut self) {
        let (mut sender, mut receivers) = P::channel(BURST, 1);
        self.0.push(Contestant::writer::<T, P>(move |times| {
            let round = |_| {
                let elapsed = publish::<T, P>(&mut sender);
                peers::drain::<T, P>(&mut receivers[0], BURST);
                elapsed
            };
            (0..times).map(round).sum()
        }));
    }
}

/// A subscriber waits when the first event comes, and is polled after the last.
struct Woken(Vec<Contestant>);

impl<T: Payload> Visitor<T> for Woken {
    fn visit<P: Peer<T>>(&mut self) {
        let (mut sender, receivers) = P::channel(BURST, 1);
        let mut tasks = tasks::<T, P>(receivers);
        self.0.push(Contestant::writer::<T, P>(move |times| {
            let round = |_| {
                tasks[0].poll();
                publish::<T, P>(&mut sender)
            };
            let elapsed = (0..times).map(round).sum();
            tasks[0].poll();
            elapsed
        }));
    }
}

/// Subscribers wait for each event.
struct Waiting {
    channels: usize,
    /// The number of subscribers of each channel.
    subscribers: usize,
    contestants: Vec<Contestant>,
}

impl<T: Payload> Visitor<T> for Waiting {
    fn visit<P: Peer<T>>(&mut self) {
        let &mut Self {
            channels,
            subscribers,
            ..
        } = self;
        let (mut senders, receivers): (Vec<_>, Vec<_>) =
            (0..channels).map(|_| P::channel(1, subscribers)).unzip();
        let mut tasks = tasks::<T, P>(receivers.into_iter().flatten());
        self.contestants
            .push(Contestant::writer::<T, P>(move |times| {
                let round = |_| {
                    tasks.iter_mut().for_each(Task::poll);
                    let mut events: Vec<T> = (0..channels as u64).map(T::make).collect();
                    let start = Instant::now();
                    for (sender, event) in senders.iter_mut().zip(events.drain(..)) {
                        P::send(sender, event);
                    }
                    start.elapsed()
                };
                (0..times).map(round).sum()
            }));
    }
}

/// The time to publish a burst.
fn publish<T: Payload, P: Peer<T>>(sender: &mut P::Sender) -> Duration {
    let mut events: Vec<T> = (0..BURST as u64).map(T::make).collect();
    let start = Instant::now();
    P::send_all(sender, events.drain(..));
    start.elapsed()
}

pub(super) fn tasks<T: Payload, P: Peer<T>>(
    receivers: impl IntoIterator<Item = P::Receiver>,
) -> Vec<Task<impl Future<Output = ()>>> {
    receivers
        .into_iter()
        .map(|it| task::follow::<T, P>(it, task::waker()))
        .collect()
}
