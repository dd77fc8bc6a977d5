//! What does a lag limit cost the writer and the reader?
//!
//! The peers are those that drop the oldest: tokio, and async-broadcast in overflow mode, whose
//! ring is the limit, and a bounded channel for each reader. The others have no such feature: they
//! make the writer wait, or keep everything.

use std::hint::black_box;
use std::time::{Duration, Instant};
use std::vec::Drain;

use event_buffer::{ByteSize, LagLimit};

use crate::bench::{Bench, Plan};
use crate::harness::Contestant;
use crate::payload::Payload;
use crate::peer::Role;
use crate::peers::ours::{Cloned, Extend, Limited, Ours, Push, Write, Writer};
use crate::peers::{self, AsyncBroadcast, Peer, TokioRecv, TokioStream, Visitor};

const SECTION: &str = "lag limit";
/// Events published in one go.
const BURST: usize = 1_000;
/// Items that a reader may lag.
const ITEMS: u64 = 1_000;
/// The capacity of the peers; tokio's is a power of two.
const ROOM: usize = 1_024;

pub fn run(bench: &mut Bench) {
    for readers in [1, 100] {
        publish::<u64>(bench, readers, "1,000 items", LagLimit::items(ITEMS));
        publish::<String>(bench, readers, "1,000 items", LagLimit::items(ITEMS));
        let bytes = LagLimit::bytes(ITEMS * String::make(0).byte_size() as u64);
        publish::<String>(bench, readers, "the bytes of 1,000", bytes);
    }
    different::<u64>(bench);
    bench.timed(
        Plan::new::<u64>(SECTION, "1,000 ready, received one by one", "ns/delivery"),
        BURST,
        || {
            let mut ready = Ready(Vec::new());
            Visitor::<u64>::visit::<Ours<Push, Limited>>(&mut ready);
            Visitor::<u64>::visit::<Ours<Push, Cloned>>(&mut ready);
            peers::channels::<u64>(&mut ready);
            Visitor::<u64>::visit::<TokioStream>(&mut ready);
            peers::by_hand::<u64>(&mut ready);
            ready.0
        },
    );
}

/// Publishes beside a number of readers that never read, with this limit.
fn publish<T: Payload>(bench: &mut Bench, readers: usize, of: &str, limit: LagLimit<T>) {
    let stuck = match readers {
        1 => "a stuck reader".to_owned(),
        _ => format!("{readers} stuck readers"),
    };
    bench.timed(
        Plan::new::<T>(
            SECTION,
            format!("publish, {stuck} limited to {of}"),
            "ns/event",
        ),
        BURST,
        || {
            let mut overflowing = AsyncBroadcast::channel(ROOM, readers);
            overflowing.0.set_overflow(true);
            vec![
                limited::<T, Push>(readers, limit),
                limited::<T, Extend>(readers, limit),
                peer::<T, TokioRecv>(TokioRecv::channel(ROOM, readers)),
                peer::<T, AsyncBroadcast>(overflowing),
                by_hand::<T>(readers),
            ]
        },
    );
}

/// Like [`publish`], but each reader has a different limit.
fn different<T: Payload>(bench: &mut Bench) {
    bench.timed(
        Plan::new::<T>(
            SECTION,
            "publish, 100 stuck readers limited to 1,000, 1,001, … items",
            "ns/event",
        ),
        BURST,
        || {
            let limits = (0..100).map(|n| LagLimit::items(ITEMS + n));
            vec![
                limited_each::<T, Push>(limits.clone()),
                limited_each::<T, Extend>(limits),
                peer::<T, TokioRecv>(TokioRecv::channel(ROOM, 100)),
            ]
        },
    );
}

fn limited<T: Payload, W: Write>(readers: usize, limit: LagLimit<T>) -> Contestant {
    limited_each::<T, W>(std::iter::repeat_n(limit, readers))
}

fn limited_each<T: Payload, W: Write>(limits: impl Iterator<Item = LagLimit<T>>) -> Contestant {
    let buffer = W::writer::<T>();
    let stuck: Vec<_> = limits
        .map(|limit| buffer.subscribe().limited(limit))
        .collect();
    writer(W::NAME, Role::Ours, buffer, stuck, |buffer, events| {
        W::send_all(buffer, events);
    })
}

fn peer<T: Payload, P: Peer<T>>(channel: (P::Sender, Vec<P::Receiver>)) -> Contestant {
    let (sender, stuck) = channel;
    writer(P::NAME, P::ROLE, sender, stuck, |sender, events| {
        P::send_all(sender, events);
    })
}

/// A channel for each reader, which evicts its oldest event. The last one gets the event itself.
fn by_hand<T: Payload>(readers: usize) -> Contestant {
    let (senders, stuck): (Vec<_>, Vec<_>) =
        (0..readers).map(|_| async_channel::bounded(ROOM)).unzip();
    writer(
        "async-channel each, force_send",
        Role::Peer,
        senders,
        stuck,
        |senders, events: Drain<'_, T>| {
            let Some((last, others)) = senders.split_last() else {
                return;
            };
            for event in events {
                for sender in others {
                    let _ = sender.force_send(event.clone());
                }
                let _ = last.force_send(event);
            }
        },
    )
}

fn writer<T: Payload, S: 'static>(
    name: &'static str,
    role: Role,
    mut sender: S,
    stuck: impl Sized + 'static,
    publish: impl Fn(&mut S, Drain<'_, T>) + 'static,
) -> Contestant {
    Contestant::new(name, role, move |times| {
        // The readers stay.
        black_box(&stuck);
        let round = |_| {
            let mut events: Vec<T> = (0..BURST as u64).map(T::make).collect();
            let start = Instant::now();
            publish(&mut sender, events.drain(..));
            start.elapsed()
        };
        (0..times).map(round).sum()
    })
}

/// A burst is published, which is not timed; then it is read.
struct Ready(Vec<Contestant>);

impl<T: Payload> Visitor<T> for Ready {
    fn visit<P: Peer<T>>(&mut self) {
        let (mut sender, mut receivers) = P::channel(ROOM, 1);
        self.0.push(Contestant::of::<T, P>(move |times| {
            let round = |_| -> Duration {
                P::send_all(&mut sender, (0..BURST as u64).map(T::make));
                let start = Instant::now();
                peers::drain::<T, P>(&mut receivers[0], BURST);
                start.elapsed()
            };
            (0..times).map(round).sum()
        }));
    }
}
