//! Sources for the tests of shared streams, and functions that poll followers.

use std::sync::Arc;
use std::task::{Context, Poll};

use event_buffer::{Replay, ShareExt, SharedSource};
use futures::channel::mpsc;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt};

use crate::support::Hook;

pub(crate) type Boxed = BoxStream<'static, u32>;

/// A channel whose receiver is shared.
pub(crate) fn channel(replay: Replay) -> (mpsc::UnboundedSender<u32>, SharedSource<Boxed>) {
    let (sender, receiver) = mpsc::unbounded();
    (sender, receiver.boxed().share(replay))
}

pub(crate) fn ready<T>(follower: &mut (impl Stream<Item = T> + Unpin)) -> Vec<T> {
    std::iter::from_fn(|| follower.next().now_or_never().flatten()).collect()
}

pub(crate) fn poll<S: Stream + Unpin>(follower: &mut S, hook: &Arc<Hook>) -> Poll<Option<S::Item>> {
    follower.poll_next_unpin(&mut Context::from_waker(&hook.waker()))
}
