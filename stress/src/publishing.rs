//! A world of topics: a publisher, its producers, and watches that come, go, resume and are closed.
//!
//! The state of a key is the number of commits to it. A snapshot contains that number, so the
//! history of the key shows what a watch should have received up to each index.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use event_buffer::publisher::{
    Begin, BoxError, CloseReason, Publisher, Request, SnapshotAppender, Update, Watch, WatchError,
};
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;

use crate::event::{Bomb, Event};
use crate::fault::{Fault, caught, injected, raise};
use crate::key::Key;
use crate::reader::{DELIVERED, READERS, attempt};
use crate::rng::{Rng, mix};
use crate::venue::{Handle, Venue};
use crate::world::PUBLISHED;

const KEYS: u16 = 3;
/// The stream number of the first key's snapshots.
const SNAPSHOTS: u16 = 100;

/// What has been published. It is changed before each publish, as snapshot handlers require.
#[derive(Default)]
struct History {
    index: u64,
    /// The commits to each key: their indexes and numbers of events.
    commits: [Vec<(u64, u16)>; KEYS as usize],
}

struct World {
    publisher: Publisher<u16, Event>,
    history: Arc<Mutex<History>>,
    /// Held while the history is changed and a commit published, since indexes must grow.
    turn: Mutex<()>,
    calm: bool,
}

/// An update of a watch.
#[derive(Debug)]
enum Seen {
    /// A snapshot of this many commits, as of this index.
    Snapshot(u64, u64),
    /// A commit at this index with this many events; a hidden one has none.
    Commit(u64, u16),
    /// The watch starts anew.
    Restarted,
    /// The publisher has ended, and everything was delivered.
    End,
}

pub(crate) fn run(mut rng: Rng) {
    let calm = rng.one_in(4);
    let history = Arc::new(Mutex::new(History::default()));
    let dice = Mutex::new(rng.fork());
    let states = Arc::clone(&history);
    let ttl = [
        Duration::ZERO,
        Duration::from_micros(500),
        Duration::from_secs(10),
    ];
    let publisher = Publisher::builder()
        .snapshot(move |key, snapshot| {
            state(key, snapshot, Arc::clone(&states), dice.lock().fork(), calm)
        })
        .snapshot_ttl(rng.pick(&ttl))
        .history(rng.pick(&[0, 5, 100, usize::MAX]))
        .epoch(1)
        .build();
    let turn = Mutex::new(());
    let world = Arc::new(World {
        publisher,
        history,
        turn,
        calm,
    });
    // Watches keep only weak handles, so that dropping this one ends the publisher.
    let watching: Vec<_> = (0..2 + rng.below(6))
        .map(|_| watcher(&world, rng.fork()))
        .collect();
    let producing: Vec<_> = (0..=rng.below(2))
        .map(|producer| {
            let (world, rng) = (Arc::clone(&world), rng.fork());
            thread::spawn(move || produce(&world, u16::try_from(producer).expect("few"), rng))
        })
        .collect();
    let late: Vec<_> = producing
        .into_iter()
        .flat_map(|thread| thread.join().expect("caught"))
        .collect();
    if rng.one_in(4) {
        _ = caught(|| world.publisher.shutdown());
    }
    let history = Arc::clone(&world.history);
    _ = caught(|| drop(world));
    let seen: Vec<_> = watching.into_iter().chain(late).map(Handle::join).collect();
    let history = history.lock();
    PUBLISHED.fetch_add(history.index, Relaxed);
    for (key, seen) in &seen {
        verify(&history.commits[usize::from(*key)], seen);
    }
}

/// Checks that each index came in order and none was omitted, from the snapshot or the resume point
/// on.
fn verify(commits: &[(u64, u16)], seen: &[Seen]) {
    // The next commit, if it is known.
    let mut next = None;
    for (number, one) in seen.iter().enumerate() {
        let right = match *one {
            Seen::Restarted => {
                next = None;
                true
            }
            Seen::Snapshot(count, index) => {
                let count_at_index = commits.partition_point(|(commit, _)| *commit <= index);
                next = Some(count_at_index);
                count_at_index as u64 == count
            }
            Seen::Commit(index, events) => {
                let at = next.expect("a commit after a snapshot");
                next = Some(at + 1);
                commits
                    .get(at)
                    .is_some_and(|(commit, of)| *commit == index && (events == 0 || *of == events))
            }
            Seen::End => next.is_none_or(|next| next == commits.len()),
        };
        let around = &seen[number.saturating_sub(5)..=number];
        assert!(
            right,
            "{one:?} after {around:?}, next {:?} of {}",
            next,
            commits.len()
        );
    }
}

/// The snapshot handler.
async fn state(
    key: u16,
    snapshot: SnapshotAppender<Event>,
    history: Arc<Mutex<History>>,
    mut rng: Rng,
    calm: bool,
) -> Result<u64, BoxError> {
    let (count, index) = {
        let history = history.lock();
        (history.commits[usize::from(key)].len(), history.index)
    };
    let n = u32::try_from(count).expect("few");
    let parts = 1 + rng.below(3);
    for part in 0..parts {
        let fault = if calm { 9 } else { rng.below(40) };
        match fault {
            0 => raise(Fault::Handler, None),
            1 => return Err("injected".into()),
            _ => {}
        }
        let producer = u16::try_from(part).expect("few");
        let key = Key {
            stream: SNAPSHOTS + key,
            producer,
            n,
        };
        snapshot.append((0..2).map(|at| {
            if at == 1 && fault == 2 {
                raise(Fault::Iterator, None);
            }
            Event::new(key, (at, 2), Bomb::None)
        }))?;
        if rng.one_in(2) {
            pending_once().await;
        }
    }
    Ok(index)
}

/// Yields to other tasks once.
async fn pending_once() {
    let mut polled = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut polled, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

type Watching = Handle<(u16, Vec<Seen>)>;

fn produce(world: &Arc<World>, producer: u16, mut rng: Rng) -> Vec<Watching> {
    let mut late = Vec::new();
    let mut epoch = 1;
    for _ in 0..50 + rng.below(200) {
        publish(world, producer, &mut rng);
        match rng.below(80) {
            0 if late.len() < 4 => late.push(watcher(world, rng.fork())),
            1 => _ = caught(|| world.publisher.close_key(&0)),
            2 => _ = caught(|| world.publisher.close_token("1")),
            3 => _ = caught(|| world.publisher.close_all()),
            4 if producer == 0 => {
                epoch += 1;
                let turn = world.turn.lock();
                _ = caught(|| world.publisher.reset(epoch));
                drop(turn);
            }
            5 => _ = caught(|| (world.publisher.stats(), world.publisher.slowest(1))),
            20 => _ = caught(|| world.publisher.refresh(&1)),
            6..20 => thread::yield_now(),
            _ => {}
        }
    }
    late
}

fn publish(world: &World, producer: u16, rng: &mut Rng) {
    let keys: Vec<u16> = (0..KEYS).filter(|_| rng.one_in(2)).collect();
    let parts = 1 + u16::try_from(rng.below(3)).expect("few");
    let turn = world.turn.lock();
    let index = {
        let mut history = world.history.lock();
        history.index += 1;
        let index = history.index;
        for key in &keys {
            history.commits[usize::from(*key)].push((index, parts));
        }
        index
    };
    let n = u32::try_from(index).expect("few");
    let events: Vec<_> = keys
        .iter()
        .flat_map(|&stream| {
            (0..parts).map(move |part| {
                (
                    Key {
                        stream,
                        producer,
                        n,
                    },
                    part,
                )
            })
        })
        .map(|(key, part)| {
            let bomb = if !world.calm && rng.one_in(40) {
                Bomb::Drop
            } else {
                Bomb::None
            };
            (key.stream, Event::new(key, (part, parts), bomb))
        })
        .collect();
    // A waker or a drop may panic after everything has been published.
    if let Ok(refused) = caught(|| world.publisher.publish(index, events)) {
        refused.expect("the indexes grow");
    }
    drop(turn);
}

fn watcher(world: &Arc<World>, mut rng: Rng) -> Watching {
    READERS.fetch_add(1, Relaxed);
    let key = u16::try_from(rng.below(KEYS.into())).expect("few");
    let publisher = world.publisher.downgrade();
    let calm = world.calm;
    let venue = Venue::any(&mut rng, false);
    let hidden = rng.one_in(3);
    let begin = move |resume: Option<_>| {
        let publisher = publisher.upgrade()?;
        let mut request = Request::new(key)
            .token(format!("{}", key % 2))
            .after(resume);
        if hidden {
            let asked = AtomicU64::new(0);
            request = request.filter(move |event: &Event| {
                if !calm && mix(asked.fetch_add(1, Relaxed)) % 50 == 0 {
                    raise(Fault::Filter, None);
                }
                event.key.stream >= SNAPSHOTS || event.key.n % 3 != 0
            });
        }
        let watch = publisher.subscribe(request);
        // Dropped before the return: if this is the last handle and its drop panics, the result
        // would be leaked (rust-lang/rust#47949).
        drop(publisher);
        Some(watch)
    };
    venue.start(
        async move {
            let mut seen = Vec::new();
            let watching = async {
                let mut resume = None;
                while let Ok(Some(mut watch)) = caught(|| begin(resume)) {
                    if resume.is_none() {
                        seen.push(Seen::Restarted);
                    }
                    let reads = if rng.one_in(2) {
                        u64::MAX
                    } else {
                        rng.below(100)
                    };
                    let resumes = follow(&mut watch, &mut rng, calm, reads, &mut seen).await;
                    resume = watch.resume_point();
                    // It starts anew if its snapshot was not complete.
                    resume = resume.filter(|_| !matches!(seen.last(), Some(Seen::Restarted)));
                    _ = caught(|| drop(watch));
                    if !resumes {
                        break;
                    }
                }
            };
            _ = AssertUnwindSafe(watching)
                .catch_unwind()
                .await
                .map_err(injected);
            (key, seen)
        }
        .boxed(),
    )
}

/// Reads a watch; returns whether to resume it.
async fn follow(
    watch: &mut Watch<u16, Event>,
    rng: &mut Rng,
    calm: bool,
    reads: u64,
    seen: &mut Vec<Seen>,
) -> bool {
    let mut state = None;
    for _ in 0..reads {
        let Ok(update) = attempt(rng, calm, watch.next()).await else {
            continue;
        };
        let update = match update {
            Some(Ok(update)) => update,
            Some(Err(WatchError::Closed(CloseReason::ShutDown))) => return false,
            Some(Err(_)) => return true,
            None => {
                seen.push(Seen::End);
                return false;
            }
        };
        match &update {
            Update::Begin(Begin::Resumed) => {}
            Update::Begin(_) => {
                state = None;
                seen.push(Seen::Restarted);
            }
            Update::Snapshot(part) => {
                // A filter may panic here, too.
                let whole = caught(|| part.iter().inspect(|event| event.verify()).count());
                assert!(
                    whole.is_err() || whole.is_ok_and(|events| events == 2),
                    "the events of a snapshot's part"
                );
                state = caught(|| part.iter().next().map(|event| u64::from(event.key.n)))
                    .ok()
                    .flatten()
                    .or(state);
            }
            Update::EndOfSnapshot { index } => {
                let Some(count) = state.take() else {
                    // The filter has panicked at all of its parts.
                    seen.push(Seen::Restarted);
                    return true;
                };
                seen.push(Seen::Snapshot(count, *index));
            }
            Update::Progress { index } => seen.push(Seen::Commit(*index, 0)),
            Update::Completed(key) => panic!("{key} is not complete"),
            Update::Events(commit) => {
                let events = caught(|| {
                    let whole = commit.iter().zip(0..);
                    whole
                        .inspect(|(event, part)| {
                            event.verify();
                            assert_eq!(
                                (event.key.n.into(), event.part),
                                (commit.index().expect("a commit has one"), *part),
                                "an event of a commit"
                            );
                        })
                        .count()
                });
                let events = events.map_or(0, |events| u16::try_from(events).expect("few"));
                DELIVERED.fetch_add(events.into(), Relaxed);
                seen.push(Seen::Commit(
                    commit.index().expect("a commit has one"),
                    events,
                ));
            }
        }
        _ = caught(|| drop(update));
    }
    true
}
