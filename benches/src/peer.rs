//! What every contestant is: a way to send events from one place to many.

use crate::payload::Payload;

/// How a contestant is related to this crate.
#[derive(Clone, Copy, PartialEq)]
pub enum Role {
    Ours,
    Peer,
    /// What nobody can beat; no peer.
    Bound,
}

/// One way to send events from one place to many.
pub trait Peer<T: Payload>: 'static {
    const NAME: &'static str;
    const ROLE: Role = Role::Peer;
    /// The name where nothing is read.
    const WRITES: &'static str = Self::NAME;

    type Sender: Send + 'static;
    type Receiver: Send + 'static;

    /// A channel that can keep `capacity` events, with so many receivers.
    fn channel(capacity: usize, receivers: usize) -> (Self::Sender, Vec<Self::Receiver>);

    /// Sends one event, without waiting. Without a receiver it may be refused.
    fn send(sender: &mut Self::Sender, event: T);

    /// Sends several events.
    #[inline]
    fn send_all(sender: &mut Self::Sender, events: impl Iterator<Item = T>) {
        for event in events {
            Self::send(sender, event);
        }
    }

    /// Receives what is ready, by one call of the peer: how many events that were.
    fn try_receive(receiver: &mut Self::Receiver) -> usize;

    /// The same, after waiting for something.
    fn receive(receiver: &mut Self::Receiver) -> impl Future<Output = usize> + Send;
}
