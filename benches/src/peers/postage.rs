//! `postage::broadcast`.

use std::hint::black_box;

use postage::broadcast::{self, Receiver, Sender};
use postage::sink::{Sink, TrySendError};
use postage::stream::{Stream, TryRecvError};

use crate::payload::Payload;
use crate::peer::Peer;

pub struct Postage;

impl<T: Payload> Peer<T> for Postage {
    const NAME: &'static str = "postage";

    type Sender = Sender<T>;
    type Receiver = Receiver<T>;

    fn channel(capacity: usize, receivers: usize) -> (Self::Sender, Vec<Self::Receiver>) {
        let (sender, _) = broadcast::channel(capacity);
        let receivers = (0..receivers).map(|_| sender.subscribe()).collect();
        (sender, receivers)
    }

    #[inline]
    fn send(sender: &mut Self::Sender, event: T) {
        // Refused where there is no receiver.
        if let Err(TrySendError::Pending(_)) = sender.try_send(event) {
            panic!("the channel is full");
        }
    }

    #[inline]
    fn try_receive(receiver: &mut Self::Receiver) -> usize {
        match black_box(receiver.try_recv()) {
            Ok(_) => 1,
            Err(TryRecvError::Pending) => 0,
            Err(error) => panic!("{error}"),
        }
    }

    #[inline]
    async fn receive(receiver: &mut Self::Receiver) -> usize {
        black_box(receiver.recv().await.expect("the channel is open"));
        1
    }
}
