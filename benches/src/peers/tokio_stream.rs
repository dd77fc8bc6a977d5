//! `tokio::sync::broadcast`, as a `Stream`: `tokio_stream::wrappers::BroadcastStream`.

use std::hint::black_box;

use futures::{FutureExt, StreamExt};
use tokio::sync::broadcast::{self, Sender};
use tokio_stream::wrappers::BroadcastStream;

use crate::payload::Payload;
use crate::peer::Peer;

pub struct TokioStream;

impl<T: Payload> Peer<T> for TokioStream {
    const NAME: &'static str = "BroadcastStream";

    type Sender = Sender<T>;
    type Receiver = BroadcastStream<T>;

    fn channel(capacity: usize, receivers: usize) -> (Self::Sender, Vec<Self::Receiver>) {
        let sender = broadcast::Sender::new(capacity);
        let receivers = (0..receivers).map(|_| BroadcastStream::new(sender.subscribe()));
        (sender.clone(), receivers.collect())
    }

    #[inline]
    fn send(sender: &mut Self::Sender, event: T) {
        // Refused where there is no receiver.
        let _ = sender.send(event);
    }

    #[inline]
    fn try_receive(receiver: &mut Self::Receiver) -> usize {
        Self::receive(receiver).now_or_never().unwrap_or(0)
    }

    #[inline]
    async fn receive(receiver: &mut Self::Receiver) -> usize {
        let event = receiver.next().await.expect("the channel is open");
        black_box(event.expect("nothing is lost"));
        1
    }
}
