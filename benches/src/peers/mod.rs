//! What is compared: `event-buffer` in its forms, and its peers, all behind one trait, [`Peer`].
//!
//! Rows are generic over the trait, so each contestant is compiled for itself; nothing measured
//! goes through a `dyn`.

mod async_broadcast;
mod async_channel_each;
mod asyncband;
mod barrage;
mod flume_each;
pub mod ours;
mod postage;
mod tokio_recv;
mod tokio_stream;

use crate::payload::Payload;

use ours::{Chunks, Cloned, ClonedStream, Extend, ItemStream, Items, Ours, Push};

pub use self::async_broadcast::AsyncBroadcast;
pub use self::async_channel_each::AsyncChannelEach;
pub use self::asyncband::Asyncband;
pub use self::barrage::Barrage;
pub use self::flume_each::FlumeEach;
pub use self::postage::Postage;
pub use self::tokio_recv::{TokioRecv, TokioRecvRoomy};
pub use self::tokio_stream::TokioStream;
pub use crate::peer::Peer;

/// Receives so many events that are ready.
#[inline]
pub fn drain<T: Payload, P: Peer<T>>(receiver: &mut P::Receiver, events: usize) {
    let mut received = 0;
    while received < events {
        let more = P::try_receive(receiver);
        assert!(more > 0, "{} has lost events", P::NAME);
        received += more;
    }
}

/// A task that receives for ever.
pub async fn follow<T: Payload, P: Peer<T>>(mut receiver: P::Receiver) {
    loop {
        P::receive(&mut receiver).await;
    }
}

/// Is shown each contestant.
pub trait Visitor<T: Payload> {
    fn visit<P: Peer<T>>(&mut self);
}

/// Broadcast channels.
pub fn channels<T: Payload>(visitor: &mut impl Visitor<T>) {
    visitor.visit::<TokioRecv>();
    visitor.visit::<AsyncBroadcast>();
    visitor.visit::<Postage>();
    visitor.visit::<Asyncband>();
    visitor.visit::<Barrage>();
}

/// What people do by hand: a channel for each receiver.
pub fn by_hand<T: Payload>(visitor: &mut impl Visitor<T>) {
    visitor.visit::<FlumeEach>();
    visitor.visit::<AsyncChannelEach>();
}

/// Everybody who reads what is ready.
pub fn readers<T: Payload>(visitor: &mut impl Visitor<T>) {
    visitor.visit::<Ours<Push, Items>>();
    visitor.visit::<Ours<Push, Cloned>>();
    visitor.visit::<Ours<Push, Chunks>>();
    visitor.visit::<Ours<Extend, Items>>();
    visitor.visit::<Ours<Extend, Cloned>>();
    visitor.visit::<Ours<Extend, Chunks>>();
    channels(visitor);
    visitor.visit::<TokioRecvRoomy>();
    visitor.visit::<TokioStream>();
    by_hand(visitor);
}

/// Everybody who waits for what comes.
pub fn waiters<T: Payload>(visitor: &mut impl Visitor<T>) {
    visitor.visit::<Ours<Push, Items>>();
    visitor.visit::<Ours<Push, Cloned>>();
    visitor.visit::<Ours<Push, ItemStream>>();
    visitor.visit::<Ours<Push, ClonedStream>>();
    channels(visitor);
    visitor.visit::<TokioStream>();
    by_hand(visitor);
}
