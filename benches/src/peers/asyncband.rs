//! `asyncband::broadcast::mpmc::unbounded`: like ours, lossless and without a bound.

use std::hint::black_box;

use asyncband::broadcast::mpmc::{TryRecvError, UnboundedReceiver, UnboundedSender, unbounded};

use crate::payload::Payload;
use crate::peer::Peer;

pub struct Asyncband;

impl<T: Payload> Peer<T> for Asyncband {
    const NAME: &'static str = "asyncband";

    type Sender = UnboundedSender<T>;
    type Receiver = UnboundedReceiver<T>;

    fn channel(_: usize, receivers: usize) -> (Self::Sender, Vec<Self::Receiver>) {
        let (sender, _) = unbounded();
        let receivers = (0..receivers).map(|_| sender.subscribe()).collect();
        (sender, receivers)
    }

    #[inline]
    fn send(sender: &mut Self::Sender, event: T) {
        sender.send(event);
    }

    #[inline]
    fn try_receive(receiver: &mut Self::Receiver) -> usize {
        match black_box(receiver.try_recv()) {
            Ok(_) => 1,
            Err(TryRecvError::Empty) => 0,
            Err(error) => panic!("{error}"),
        }
    }

    #[inline]
    async fn receive(receiver: &mut Self::Receiver) -> usize {
        black_box(receiver.recv().await.expect("the channel is open"));
        1
    }
}
