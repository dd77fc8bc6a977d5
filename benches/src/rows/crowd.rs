//! What if there are very many subscribers, and very many events that none of them has read?
//!
//! Peers that cannot handle this scale are left out. barrage, and a channel for each subscriber,
//! keep an entry per event and subscriber: 10^11 of them. postage scans its whole ring for each
//! subscriber that joins or leaves.

use std::hint::black_box;
use std::time::Instant;

use event_buffer::EventBuffer;
use futures::FutureExt;

use crate::alloc;
use crate::bench::{Bench, Plan};
use crate::harness::Measured;
use crate::peer::Role;
use crate::peers::ours::{Chunks, Cloned, Extend, Items, Ours, Push, Read};
use crate::peers::{self, AsyncBroadcast, Asyncband, Peer, TokioRecv};

const SECTION: &str = "crowd";
/// Events that each subscriber reads.
const READ: usize = 10;

pub fn run(bench: &mut Bench) {
    let scale = if bench.quick {
        Scale {
            subscribers: 10_000,
            events: 100_000,
        }
    } else {
        Scale {
            subscribers: 100_000,
            events: 1_000_000,
        }
    };
    let wanted: Vec<(Part, Plan)> = PARTS
        .into_iter()
        .filter_map(|part| {
            let plan = Plan::new::<u64>(SECTION, part.scenario(scale), part.unit());
            Some((part, bench.begin(plan)?))
        })
        .collect();
    if wanted.is_empty() {
        return;
    }

    let mut crowds = [
        Crowd::of::<Ours<Push, Items>>(scale),
        Crowd::of::<Ours<Push, Cloned>>(scale),
        Crowd::of::<Ours<Push, Chunks>>(scale),
        Crowd::of::<Ours<Extend, Items>>(scale),
        Crowd::of::<TokioRecv>(scale),
        Crowd::of::<AsyncBroadcast>(scale),
        Crowd::of::<Asyncband>(scale),
    ];
    for crowd in &mut crowds {
        crowd.bytes = (crowd.weigh)();
    }
    for round in 0..bench.harness.rounds {
        for turn in 0..crowds.len() {
            let count = crowds.len();
            let crowd = &mut crowds[(round + turn) % count];
            crowd.rounds.push((crowd.live)());
        }
    }

    for (part, plan) in wanted {
        let measured: Vec<Measured> = crowds.iter().filter_map(|it| it.measured(part)).collect();
        bench.add(plan, &measured);
    }
}

#[derive(Clone, Copy)]
struct Scale {
    subscribers: usize,
    events: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Part {
    Subscribe,
    Publish,
    Memory,
    Read,
    Leave,
    Drop,
}

const PARTS: [Part; 6] = [
    Part::Subscribe,
    Part::Publish,
    Part::Memory,
    Part::Read,
    Part::Leave,
    Part::Drop,
];

impl Part {
    fn scenario(self, scale: Scale) -> String {
        let Scale {
            subscribers,
            events,
        } = scale;
        match self {
            Self::Subscribe => format!("{subscribers} subscribe"),
            Self::Publish => format!("{events} published, all {subscribers} behind"),
            Self::Memory => format!("{subscribers} subscribers and {events} events in all"),
            Self::Read => format!("each of {subscribers} reads {READ} of {events}"),
            Self::Leave => format!("one of {subscribers} leaves, {events} unread"),
            Self::Drop => format!("all {subscribers} leave, {events} freed"),
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Publish => "ns/event",
            Self::Memory => "MB",
            Self::Read => "ns/delivery",
            Self::Subscribe | Self::Leave | Self::Drop => "ns/subscriber",
        }
    }

    /// Whether the part is measured for a variant of ours, which it is only if variants differ.
    fn shows(self, variant: &str) -> bool {
        match self {
            Self::Publish => variant == "items" || variant == "extend, items",
            Self::Read => true,
            Self::Subscribe | Self::Memory | Self::Leave | Self::Drop => {
                variant == "items" || variant == "cloned"
            }
        }
    }
}

/// A contestant that can handle this scale.
trait Crowded: Peer<u64> + Sized {
    /// Whether a subscriber that leaves visits all events that it has not read. For all subscribers
    /// that would take minutes (async-broadcast 5, tokio 20), so they are leaked.
    const WALKS_ON_DROP: bool;
    /// Subscribers that leave while the others stay.
    const LEAVING: usize = if Self::WALKS_ON_DROP { 10 } else { 1_000 };

    fn subscribe(sender: &Self::Sender) -> Self::Receiver;

    #[inline]
    fn read_first(receiver: &mut Self::Receiver) {
        peers::drain::<u64, Self>(receiver, READ);
    }
}

impl Crowded for TokioRecv {
    const WALKS_ON_DROP: bool = true;

    fn subscribe(sender: &Self::Sender) -> Self::Receiver {
        sender.subscribe()
    }
}

impl Crowded for AsyncBroadcast {
    const WALKS_ON_DROP: bool = true;

    fn subscribe(sender: &Self::Sender) -> Self::Receiver {
        sender.new_receiver()
    }
}

impl Crowded for Asyncband {
    const WALKS_ON_DROP: bool = false;

    fn subscribe(sender: &Self::Sender) -> Self::Receiver {
        sender.subscribe()
    }
}

impl<W, R: ReadFirst> Crowded for Ours<W, R>
where
    Self: Peer<u64, Sender = EventBuffer<u64>, Receiver = R::Reader>,
{
    const WALKS_ON_DROP: bool = false;

    fn subscribe(sender: &Self::Sender) -> Self::Receiver {
        R::reader(sender.subscribe())
    }

    #[inline]
    fn read_first(receiver: &mut Self::Receiver) {
        R::read_first(receiver);
    }
}

trait ReadFirst: Read<u64> {
    #[inline]
    fn read_first(reader: &mut Self::Reader) {
        (0..READ).for_each(|_| assert_eq!(Self::try_receive(reader), 1));
    }
}

impl ReadFirst for Items {}

impl ReadFirst for Cloned {}

impl ReadFirst for Chunks {
    /// The chunk lends all events; the first ones are read.
    #[inline]
    fn read_first(reader: &mut Self::Reader) {
        let chunk = reader.next_chunk().now_or_never();
        let chunk = chunk.expect("it is ready").expect("the buffer is open");
        let read = chunk.take(READ).map(black_box).count();
        assert_eq!(read, READ);
    }
}

struct Crowd {
    name: &'static str,
    writes: &'static str,
    role: Role,
    /// Counts the memory of the whole crowd, which also warms up.
    weigh: Box<dyn Fn() -> f64>,
    bytes: f64,
    live: Box<dyn Fn() -> Vec<(Part, f64)>>,
    rounds: Vec<Vec<(Part, f64)>>,
}

impl Crowd {
    fn of<P: Crowded>(scale: Scale) -> Self {
        Self {
            name: P::NAME,
            writes: P::WRITES,
            role: P::ROLE,
            weigh: Box::new(move || weigh::<P>(scale)),
            bytes: 0.0,
            live: Box::new(move || live::<P>(scale)),
            rounds: Vec::new(),
        }
    }

    fn measured(&self, part: Part) -> Option<Measured> {
        if self.role == Role::Ours && !part.shows(self.name) {
            return None;
        }
        let rounds: Vec<f64> = match part {
            Part::Memory => vec![self.bytes / 1e6],
            _ => {
                let figures = self.rounds.iter().flatten().filter(|it| it.0 == part);
                figures.map(|it| it.1).collect()
            }
        };
        let name = match part {
            Part::Publish => self.writes,
            _ => self.name,
        };
        let role = self.role;
        (!rounds.is_empty()).then_some(Measured { name, role, rounds })
    }
}

fn weigh<P: Crowded>(scale: Scale) -> f64 {
    let (channel, usage) = alloc::count(|| {
        let (mut sender, receivers) = P::channel(scale.events, scale.subscribers);
        P::send_all(&mut sender, 0..scale.events as u64);
        (sender, receivers)
    });
    let (sender, receivers) = black_box(channel);
    depart::<P>(sender, receivers);
    usage.live_bytes
}

/// The subscribers join, fall behind, read a little, and leave.
fn live<P: Crowded>(scale: Scale) -> Vec<(Part, f64)> {
    let Scale {
        subscribers,
        events,
    } = scale;
    let mut figures = Vec::new();
    let mut note = |part, start: Instant, operations| {
        let elapsed = start.elapsed().as_nanos() as f64;
        figures.push((part, elapsed / operations as f64));
    };
    // One subscriber first: without any, some channels would be closed.
    let (mut sender, mut receivers) = P::channel(events, 1);
    receivers.reserve_exact(subscribers);

    let start = Instant::now();
    receivers.extend((1..subscribers).map(|_| P::subscribe(&sender)));
    note(Part::Subscribe, start, subscribers - 1);

    let start = Instant::now();
    P::send_all(&mut sender, 0..events as u64);
    note(Part::Publish, start, events);

    let start = Instant::now();
    receivers.iter_mut().for_each(P::read_first);
    note(Part::Read, start, READ * subscribers);

    let start = Instant::now();
    receivers.truncate(subscribers - P::LEAVING);
    note(Part::Leave, start, P::LEAVING);

    let start = Instant::now();
    depart::<P>(sender, receivers);
    if !P::WALKS_ON_DROP {
        note(Part::Drop, start, subscribers - P::LEAVING);
    }
    figures
}

fn depart<P: Crowded>(sender: P::Sender, receivers: Vec<P::Receiver>) {
    if P::WALKS_ON_DROP {
        receivers.into_iter().for_each(std::mem::forget);
    } else {
        drop(receivers);
    }
    drop(sender);
}
