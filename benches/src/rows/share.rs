//! What does it cost to share a stream among many followers?

use std::hint::black_box;
use std::time::Instant;

use event_buffer::{Replay, ShareExt};
use futures::stream::{self, Stream};
use futures::{FutureExt, StreamExt};
use futures_rx::RxExt;

use crate::bench::{Bench, Plan};
use crate::harness::Contestant;
use crate::peer::Role;

/// The number of items of the stream.
const ITEMS: usize = 1_000;

pub fn run(bench: &mut Bench) {
    for followers in [1, 10, 100] {
        bench.timed(
            Plan::new::<u64>(
                "share",
                format!("a stream of 1,000 that is ready, {followers} followers"),
                "ns/delivery",
            ),
            ITEMS * followers,
            || {
                vec![
                    followed("share, Replay::None", Role::Ours, followers, || {
                        let source = ShareExt::share(source(), Replay::None);
                        move || source.subscribe()
                    }),
                    followed("share, Replay::All", Role::Ours, followers, || {
                        let source = ShareExt::share(source(), Replay::All);
                        move || source.subscribe()
                    }),
                    followed("futures-rx share", Role::Peer, followers, || {
                        let source = RxExt::share(source());
                        move || source.clone()
                    }),
                    followed("futures-rx share_replay", Role::Peer, followers, || {
                        let source = source().share_replay();
                        move || source.clone()
                    }),
                ]
            },
        );
    }
}

fn source() -> impl Stream<Item = u64> {
    stream::iter(0..ITEMS as u64)
}

/// All followers subscribe before the first item is pulled; then each reads the whole stream.
fn followed<S, F>(
    name: &'static str,
    role: Role,
    followers: usize,
    share: impl Fn() -> F + 'static,
) -> Contestant
where
    S: Stream + Unpin,
    F: Fn() -> S,
{
    Contestant::new(name, role, move |times| {
        let round = |_| {
            let start = Instant::now();
            let subscribe = share();
            let mut followers: Vec<S> = (0..followers).map(|_| subscribe()).collect();
            for follower in &mut followers {
                for _ in 0..ITEMS {
                    black_box(follower.next().now_or_never().flatten().is_some());
                }
            }
            drop(followers);
            start.elapsed()
        };
        (0..times).map(round).sum()
    })
}
