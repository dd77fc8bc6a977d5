//! `tokio::sync::broadcast`, by `recv`.

use std::hint::black_box;

use tokio::sync::broadcast::error::TryRecvError;
use tokio::sync::broadcast::{self, Receiver, Sender};

use super::Peer;
use crate::payload::Payload;

pub struct TokioRecv;

impl<T: Payload> Peer<T> for TokioRecv {
    const NAME: &'static str = "tokio recv";

    type Sender = Sender<T>;
    type Receiver = Receiver<T>;

    fn channel(capacity: usize, receivers: usize) -> (Self::Sender, Vec<Self::Receiver>) {
        let sender = broadcast::Sender::new(capacity);
        let receivers = (0..receivers).map(|_| sender.subscribe()).collect();
        (sender, receivers)
    }

    #[inline]
    fn send(sender: &mut Self::Sender, event: T) {
        // Refused where there is no receiver.
        let _ = sender.send(event);
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
        black_box(receiver.recv().await.expect("nothing is lost"));
        1
    }
}
