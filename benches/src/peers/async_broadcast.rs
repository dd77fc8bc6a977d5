//! `async-broadcast`, by `recv_direct`, its faster receive: `recv` allocates a box each time.

use std::hint::black_box;

use async_broadcast::{Receiver, Sender, TryRecvError, TrySendError};

use crate::payload::Payload;
use crate::peer::Peer;

pub struct AsyncBroadcast;

impl<T: Payload> Peer<T> for AsyncBroadcast {
    const NAME: &'static str = "async-broadcast";

    type Sender = Sender<T>;
    type Receiver = Receiver<T>;

    fn channel(capacity: usize, receivers: usize) -> (Self::Sender, Vec<Self::Receiver>) {
        let (sender, receiver) = async_broadcast::broadcast(capacity);
        let receivers = (0..receivers).map(|_| receiver.new_receiver()).collect();
        (sender, receivers)
    }

    #[inline]
    fn send(sender: &mut Self::Sender, event: T) {
        // Refused where there is no receiver.
        if let Err(TrySendError::Full(_)) = sender.try_broadcast(event) {
            panic!("the channel is full");
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
        black_box(receiver.recv_direct().await.expect("nothing is lost"));
        1
    }
}
