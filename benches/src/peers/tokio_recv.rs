//! `tokio::sync::broadcast`, by `recv`.

use std::hint::black_box;

use tokio::sync::broadcast::error::TryRecvError;
use tokio::sync::broadcast::{self, Receiver, Sender};

use crate::payload::Payload;
use crate::peer::Peer;

/// With a ring of the size that is needed.
pub type TokioRecv = TokioRing<0>;
/// With the ring that one gives it who does not know how far receivers fall behind.
pub type TokioRecvRoomy = TokioRing<65_536>;

/// A ring of at least so many.
pub struct TokioRing<const ROOM: usize>;

impl<T: Payload, const ROOM: usize> Peer<T> for TokioRing<ROOM> {
    const NAME: &'static str = if ROOM > 0 {
        "tokio recv, ring of 65,536"
    } else {
        "tokio recv"
    };

    type Sender = Sender<T>;
    type Receiver = Receiver<T>;

    fn channel(capacity: usize, receivers: usize) -> (Self::Sender, Vec<Self::Receiver>) {
        let sender = broadcast::Sender::new(capacity.max(ROOM));
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
