//! What does publishing cost if two threads publish to one channel at the same time?
//!
//! A channel for each subscriber is left out: two producers would fill the channels in different
//! orders.

use std::sync::atomic::{AtomicUsize, Ordering::AcqRel, Ordering::Acquire};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::publish::tasks;
use crate::bench::{Bench, Plan};
use crate::harness::Contestant;
use crate::payload::Payload;
use crate::peers::ours::{Items, Ours, Shared, SharedRetaining};
use crate::peers::{self, AsyncBroadcast, Asyncband, Barrage, Peer, Postage, TokioRecv};
use crate::task::Task;

const SECTION: &str = "two producers on two threads";
const UNIT: &str = "ns/event";
const PRODUCERS: usize = 2;
/// Events that each producer publishes in one burst.
const BURST: usize = 1_000;
/// Waiting subscribers, of several channels.
const WAITING: usize = 1_000;

pub fn run(bench: &mut Bench) {
    for (subscribers, scenario) in [(0, "no subscriber"), (1, "a subscriber behind")] {
        bench.timed(
            Plan::new::<u64>(SECTION, scenario, UNIT),
            PRODUCERS * BURST,
            || each(Behind { subscribers }),
        );
    }
    for (subscribers, scenario) in [
        (1, "a waiting subscriber, which one of two events wakes"),
        (10, "ten waiting subscribers, which one of two events wakes"),
    ] {
        let channels = WAITING / subscribers;
        bench.timed(
            Plan::new::<u64>(SECTION, scenario, UNIT),
            PRODUCERS * channels,
            || {
                each(Waiting {
                    channels,
                    subscribers,
                })
            },
        );
    }
}

/// A job for contestants that several producers can share.
trait Job {
    fn contestant<P: Peer<u64, Sender: Clone>>(&self) -> Contestant;
}

fn each(job: impl Job) -> Vec<Contestant> {
    vec![
        job.contestant::<Ours<Shared, Items>>(),
        job.contestant::<Ours<SharedRetaining, Items>>(),
        job.contestant::<TokioRecv>(),
        job.contestant::<AsyncBroadcast>(),
        job.contestant::<Postage>(),
        job.contestant::<Asyncband>(),
        job.contestant::<Barrage>(),
    ]
}

/// Any subscribers read between the bursts.
struct Behind {
    subscribers: usize,
}

impl Job for Behind {
    fn contestant<P: Peer<u64, Sender: Clone>>(&self) -> Contestant {
        let room = PRODUCERS * BURST;
        let (sender, mut receivers) = P::channel(room, self.subscribers);
        let mut senders = [sender.clone(), sender];
        Contestant::writer::<u64, P>(move |times| {
            let publish = |sender: &mut P::Sender| P::send_all(sender, 0..BURST as u64);
            at_once(times, &mut senders, publish, || {
                for receiver in &mut receivers {
                    peers::drain::<u64, P>(receiver, room);
                }
            })
        })
    }
}

/// Each producer sends an event to each channel. Its subscribers wait for the first of the two.
struct Waiting {
    channels: usize,
    /// The number of subscribers of each channel.
    subscribers: usize,
}

impl Job for Waiting {
    fn contestant<P: Peer<u64, Sender: Clone>>(&self) -> Contestant {
        let channel = |_| P::channel(PRODUCERS, self.subscribers);
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..self.channels).map(channel).unzip();
        let mut senders = [senders.clone(), senders];
        let mut tasks = tasks::<u64, P>(receivers.into_iter().flatten());
        tasks.iter_mut().for_each(Task::poll);
        Contestant::writer::<u64, P>(move |times| {
            let publish = |senders: &mut Vec<P::Sender>| {
                for sender in senders {
                    P::send(sender, u64::make(0));
                }
            };
            at_once(times, &mut senders, publish, || {
                tasks.iter_mut().for_each(Task::poll);
            })
        })
    }
}

/// Makes two threads publish at the same time, repeatedly. Returns the sum of the times from
/// the first start to the last end. Between the bursts the subscribers run, which is not timed.
fn at_once<S: Send>(
    times: u32,
    [here, there]: &mut [S; PRODUCERS],
    publish: impl Fn(&mut S) + Sync,
    mut turn: impl FnMut(),
) -> Duration {
    let meeting = Meeting::default();
    let (report, reports) = mpsc::channel();
    let work = |senders: &mut S| {
        meeting.wait();
        let start = Instant::now();
        publish(senders);
        (start, Instant::now())
    };
    thread::scope(|scope| {
        scope.spawn(|| (0..times).for_each(|_| report.send(work(there)).expect("it is read")));
        let round = |_| {
            let ours = work(here);
            let theirs = reports.recv().expect("the other thread does not panic");
            turn();
            ours.1.max(theirs.1) - ours.0.min(theirs.0)
        };
        (0..times).map(round).sum()
    })
}

/// A spinning barrier: waking a thread would take longer than the measured work.
#[derive(Default)]
struct Meeting(AtomicUsize);

impl Meeting {
    fn wait(&self) {
        let arrived = self.0.fetch_add(1, AcqRel) + 1;
        let all = arrived.next_multiple_of(PRODUCERS);
        while self.0.load(Acquire) < all {
            thread::yield_now();
        }
    }
}
