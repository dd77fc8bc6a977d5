//! What does joining late cost?

use std::hint::black_box;
use std::sync::Mutex;
use std::time::Instant;

use event_buffer::{EventBuffer, Replay};
use futures::FutureExt;
use replay_channel::ReplayChannel;

use crate::alloc;
use crate::bench::{Bench, Plan};
use crate::harness::Contestant;
use crate::peer::Role;
use crate::peers::ours::{Chunks, Cloned, Items, Read};
use crate::peers::{self, AsyncBroadcast, Peer, Postage, Visitor};

const MEMORY: &str = "as many bytes, read in a row";
const SECTION: &str = "late join";
/// Events retained for late subscribers.
const RETAINED: usize = 1_000_000;
/// Events between a lagging place and the newest one.
const LAG: usize = 100_000;
/// Events of a snapshot.
const SNAPSHOT: usize = 100_000;
/// Clones made in one burst.
const CLONES: usize = 100;

pub fn run(bench: &mut Bench) {
    bench.timed(
        Plan::new::<u64>(SECTION, "replay of 1,000,000", "ns/event"),
        RETAINED,
        || {
            vec![
                replay::<Chunks>("next_chunk"),
                replay::<Items>("items"),
                replay::<Cloned>("cloned"),
                replay_channel(),
                left_behind::<AsyncBroadcast>(),
                left_behind::<Postage>(),
                vec_kept_by_hand(),
                bare_memory(),
            ]
        },
    );
    bench.timed(
        Plan::new::<u64>(SECTION, "clone of a place 100,000 behind", "ns/clone"),
        CLONES,
        || {
            let mut buffer = EventBuffer::builder().replay(Replay::None).build();
            let position = buffer.tail();
            let subscription = buffer.subscribe();
            buffer.extend(0..LAG as u64);
            vec![
                clones("Position", Role::Ours, position),
                clones("Subscription", Role::Ours, subscription),
                clone_behind::<AsyncBroadcast>(),
                clone_behind::<Postage>(),
            ]
        },
    );
    bench.timed(
        Plan::new::<u64>(
            SECTION,
            "snapshot of 100,000, then the live tail",
            "ns/event",
        ),
        SNAPSHOT,
        || {
            let mut by_hand = SentByHand(Vec::new());
            by_hand.0.push(spliced::<Chunks>(
                "extend, splice, next_chunk",
                |snapshot, events| {
                    snapshot.extend(events.iter().copied());
                },
            ));
            by_hand.0.push(spliced::<Cloned>(
                "extend, splice, cloned",
                |snapshot, events| {
                    snapshot.extend(events.iter().copied());
                },
            ));
            by_hand.0.push(spliced::<Cloned>(
                "append, splice, cloned",
                |snapshot, events| {
                    snapshot.append(events.iter().copied());
                },
            ));
            peers::channels::<u64>(&mut by_hand);
            peers::by_hand::<u64>(&mut by_hand);
            by_hand.0.push(one_vec());
            by_hand.0
        },
    );
}

fn timed(name: &'static str, role: Role, mut job: impl FnMut() + 'static) -> Contestant {
    Contestant::new(name, role, move |times| {
        let start = Instant::now();
        (0..times).for_each(|_| job());
        start.elapsed()
    })
}

/// All retained events are read from the start.
fn replay<R: Read<u64>>(name: &'static str) -> Contestant {
    let mut buffer = EventBuffer::builder().replay(Replay::All).build();
    (0..RETAINED as u64).for_each(|event| buffer.push(event));
    timed(name, Role::Ours, move || {
        let mut reader = R::reader(buffer.subscribe_from_start());
        let mut received = 0;
        while received < RETAINED {
            received += R::try_receive(&mut reader);
        }
    })
}

/// `replay-channel` always replays everything.
fn replay_channel() -> Contestant {
    let channel = ReplayChannel::new();
    let sender = channel.sender();
    (0..RETAINED as u64).for_each(|event| sender.send(event));
    timed("replay-channel", Role::Peer, move || {
        let receiver = channel.receiver();
        for _ in 0..RETAINED {
            black_box(receiver.receive().now_or_never());
        }
    })
}

/// Peers that do not replay: a receiver that never reads is kept, and cloned.
fn left_behind<P: Peer<u64, Receiver: Clone>>() -> Contestant {
    let (mut sender, receivers) = P::channel(RETAINED, 1);
    P::send_all(&mut sender, 0..RETAINED as u64);
    timed(P::NAME, Role::Peer, move || {
        // The sender stays; otherwise the channel would be closed.
        black_box(&sender);
        peers::drain::<u64, P>(&mut receivers[0].clone(), RETAINED);
    })
}

/// The usual workaround beside a channel that does not replay.
fn vec_kept_by_hand() -> Contestant {
    let history: Mutex<Vec<u64>> = Mutex::new((0..RETAINED as u64).collect());
    timed("a Vec kept by hand, cloned", Role::Peer, move || {
        let events = history.lock().expect("never poisoned").clone();
        for event in events {
            black_box(event);
        }
    })
}

/// The bound: memory of the size of our retained events is read from start to end.
fn bare_memory() -> Contestant {
    let (buffer, usage) = alloc::count(|| {
        let mut buffer = EventBuffer::builder().replay(Replay::All).build();
        (0..RETAINED as u64).for_each(|event| buffer.push(event));
        buffer
    });
    drop(buffer);
    let memory = vec![1_u64; usage.live_bytes as usize / size_of::<u64>()];
    timed(MEMORY, Role::Bound, move || {
        black_box(black_box(&memory).iter().sum::<u64>());
    })
}

/// Clones are made in sequence, then dropped; both are timed.
fn clones<C: Clone + 'static>(name: &'static str, role: Role, original: C) -> Contestant {
    timed(name, role, move || {
        drop(black_box(
            vec![&original; CLONES]
                .into_iter()
                .cloned()
                .collect::<Vec<C>>(),
        ));
    })
}

fn clone_behind<P: Peer<u64, Receiver: Clone>>() -> Contestant {
    let (mut sender, mut receivers) = P::channel(LAG, 1);
    P::send_all(&mut sender, 0..LAG as u64);
    clones(P::NAME, Role::Peer, receivers.remove(0))
}

/// The snapshot is put into a buffer of its own, spliced to the live tail, and read.
fn spliced<R: Read<u64>>(
    name: &'static str,
    publish: impl Fn(&mut EventBuffer<u64>, &[u64]) + 'static,
) -> Contestant {
    let live = EventBuffer::new();
    let events: Vec<u64> = (0..SNAPSHOT as u64).collect();
    timed(name, Role::Ours, move || {
        let tail = live.tail();
        let mut snapshot = EventBuffer::new();
        let mut reader = R::reader(snapshot.subscribe());
        publish(&mut snapshot, &events);
        snapshot.splice(tail);
        let mut received = 0;
        while received < SNAPSHOT {
            received += R::try_receive(&mut reader);
        }
    })
}

/// The snapshot is sent as one message and read, the counterpart of one item.
fn one_vec() -> Contestant {
    let events: Vec<u64> = (0..SNAPSHOT as u64).collect();
    timed("flume, one Vec", Role::Peer, move || {
        let (sender, receiver) = flume::unbounded();
        sender.send(events.clone()).expect("it is open");
        for event in receiver.try_recv().expect("it is there") {
            black_box(event);
        }
    })
}

/// The snapshot is sent event by event through a channel for the new subscriber, and read.
struct SentByHand(Vec<Contestant>);

impl Visitor<u64> for SentByHand {
    fn visit<P: Peer<u64>>(&mut self) {
        let events: Vec<u64> = (0..SNAPSHOT as u64).collect();
        self.0.push(timed(P::NAME, P::ROLE, move || {
            let (mut sender, mut receivers) = P::channel(SNAPSHOT, 1);
            P::send_all(&mut sender, events.iter().copied());
            peers::drain::<u64, P>(&mut receivers[0], SNAPSHOT);
        }));
    }
}
