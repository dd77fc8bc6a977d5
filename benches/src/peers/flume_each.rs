//! By hand: an unbounded `flume` channel for each receiver.

use std::hint::black_box;

use flume::{Receiver, Sender, TryRecvError};

use crate::payload::Payload;
use crate::peer::Peer;

pub struct FlumeEach;

impl<T: Payload> Peer<T> for FlumeEach {
    const NAME: &'static str = "flume each";

    type Sender = Vec<Sender<T>>;
    type Receiver = Receiver<T>;

    fn channel(_: usize, receivers: usize) -> (Self::Sender, Vec<Self::Receiver>) {
        (0..receivers).map(|_| flume::unbounded()).unzip()
    }

    #[inline]
    fn send(senders: &mut Self::Sender, event: T) {
        if let Some((last, others)) = senders.split_last() {
            for sender in others {
                sender.send(event.clone()).expect("the channel is open");
            }
            last.send(event).expect("the channel is open");
        }
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
        black_box(receiver.recv_async().await.expect("the channel is open"));
        1
    }
}
