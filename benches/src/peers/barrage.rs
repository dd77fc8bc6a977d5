//! `barrage::unbounded`. By `try_send`, since its `send` prepares to wait, which never happens.

use std::hint::black_box;

use barrage::{Receiver, Sender, TrySendError};

use crate::payload::Payload;
use crate::peer::Peer;

pub struct Barrage;

impl<T: Payload> Peer<T> for Barrage {
    const NAME: &'static str = "barrage";

    type Sender = Sender<T>;
    type Receiver = Receiver<T>;

    fn channel(_: usize, receivers: usize) -> (Self::Sender, Vec<Self::Receiver>) {
        let (sender, receiver) = barrage::unbounded();
        let receivers = (0..receivers).map(|_| receiver.clone()).collect();
        (sender, receivers)
    }

    #[inline]
    fn send(sender: &mut Self::Sender, event: T) {
        // Refused where there is no receiver.
        if let Err(TrySendError::Full(_)) = sender.try_send(event) {
            panic!("the channel is full");
        }
    }

    #[inline]
    fn try_receive(receiver: &mut Self::Receiver) -> usize {
        let event = black_box(receiver.try_recv()).expect("the channel is open");
        event.is_some().into()
    }

    #[inline]
    async fn receive(receiver: &mut Self::Receiver) -> usize {
        black_box(receiver.recv_async().await.expect("the channel is open"));
        1
    }
}
