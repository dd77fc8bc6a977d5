//! `event-buffer`: ways to publish, times ways to read.

use std::hint::black_box;
use std::marker::PhantomData;

use event_buffer::{EventBuffer, LagLimit, Replay, Subscription};
use futures::{FutureExt, StreamExt};

use super::Peer;
use crate::harness::Role;
use crate::payload::Payload;

/// A way to publish, with a way to read.
pub struct Ours<W, R>(PhantomData<(W, R)>);

/// One `push` per event, in a buffer that retains nothing for late readers, as no peer does.
pub struct Push;
/// The same in a buffer as `EventBuffer::new` makes it: it retains the newest item.
pub struct PushRetaining;
/// One `extend` per burst.
pub struct Extend;

/// Handles: `try_recv`, `recv`.
pub struct Items;
/// Handles, as a `Stream`.
pub struct ItemStream;
/// Clones: `cloned().try_recv`, `cloned().recv`.
pub struct Cloned;
/// Clones, as a `Stream`.
pub struct ClonedStream;
/// Clones, to a reader whose lag is limited, and who keeps up.
pub struct Limited;
/// Events lent: `next_chunk`.
pub struct Chunks;

pub trait Write: 'static {
    const NAME: &'static str;

    fn buffer<T: Payload>() -> EventBuffer<T> {
        EventBuffer::builder().replay(Replay::None).build()
    }

    #[inline]
    fn send_all<T: Payload>(buffer: &mut EventBuffer<T>, events: impl Iterator<Item = T>) {
        for event in events {
            buffer.push(event);
        }
    }
}

impl Write for Push {
    const NAME: &'static str = "push";
}

impl Write for PushRetaining {
    const NAME: &'static str = "push, newest retained";

    fn buffer<T: Payload>() -> EventBuffer<T> {
        EventBuffer::new()
    }
}

impl Write for Extend {
    const NAME: &'static str = "extend";

    #[inline]
    fn send_all<T: Payload>(buffer: &mut EventBuffer<T>, events: impl Iterator<Item = T>) {
        buffer.extend(events);
    }
}

pub trait Read<T: Payload>: 'static {
    type Reader: Send + 'static;

    fn reader(subscription: Subscription<T>) -> Self::Reader;
    fn try_receive(reader: &mut Self::Reader) -> usize;
    fn receive(reader: &mut Self::Reader) -> impl Future<Output = usize> + Send;
}

impl<T: Payload> Read<T> for Items {
    type Reader = Subscription<T>;

    fn reader(subscription: Subscription<T>) -> Self::Reader {
        subscription
    }

    #[inline]
    fn try_receive(reader: &mut Self::Reader) -> usize {
        black_box(reader.try_recv()).map_or(0, |item| item.len())
    }

    #[inline]
    async fn receive(reader: &mut Self::Reader) -> usize {
        black_box(reader.recv().await).map_or(0, |item| item.len())
    }
}

impl<T: Payload> Read<T> for ItemStream {
    type Reader = Subscription<T>;

    fn reader(subscription: Subscription<T>) -> Self::Reader {
        subscription
    }

    #[inline]
    fn try_receive(reader: &mut Self::Reader) -> usize {
        reader
            .next()
            .now_or_never()
            .flatten()
            .map_or(0, |item| black_box(item).map_or(0, |item| item.len()))
    }

    #[inline]
    async fn receive(reader: &mut Self::Reader) -> usize {
        let item = reader.next().await.expect("the buffer is open");
        black_box(item).map_or(0, |item| item.len())
    }
}

impl<T: Payload> Read<T> for Cloned {
    type Reader = event_buffer::Cloned<T>;

    fn reader(subscription: Subscription<T>) -> Self::Reader {
        subscription.cloned()
    }

    #[inline]
    fn try_receive(reader: &mut Self::Reader) -> usize {
        black_box(reader.try_recv()).is_ok().into()
    }

    #[inline]
    async fn receive(reader: &mut Self::Reader) -> usize {
        black_box(reader.recv().await).is_ok().into()
    }
}

impl<T: Payload> Read<T> for ClonedStream {
    type Reader = event_buffer::Cloned<T>;

    fn reader(subscription: Subscription<T>) -> Self::Reader {
        subscription.cloned()
    }

    #[inline]
    fn try_receive(reader: &mut Self::Reader) -> usize {
        black_box(reader.next().now_or_never().flatten())
            .is_some()
            .into()
    }

    #[inline]
    async fn receive(reader: &mut Self::Reader) -> usize {
        black_box(reader.next().await).is_some().into()
    }
}

impl<T: Payload> Read<T> for Limited {
    type Reader = event_buffer::Limited<T>;

    fn reader(subscription: Subscription<T>) -> Self::Reader {
        subscription.limited(LagLimit::items(1_000))
    }

    #[inline]
    fn try_receive(reader: &mut Self::Reader) -> usize {
        black_box(reader.try_recv()).is_ok().into()
    }

    #[inline]
    async fn receive(reader: &mut Self::Reader) -> usize {
        black_box(reader.recv().await).is_ok().into()
    }
}

impl<T: Payload> Read<T> for Chunks {
    type Reader = Subscription<T>;

    fn reader(subscription: Subscription<T>) -> Self::Reader {
        subscription
    }

    #[inline]
    fn try_receive(reader: &mut Self::Reader) -> usize {
        Self::receive(reader).now_or_never().unwrap_or(0)
    }

    #[inline]
    async fn receive(reader: &mut Self::Reader) -> usize {
        let chunk = reader.next_chunk().await.expect("the buffer is open");
        chunk.fold(0, |events, event| {
            black_box(event);
            events + 1
        })
    }
}

macro_rules! contestants {
    ($($write:ident, $read:ident: $name:literal;)*) => {$(
        impl<T: Payload> Peer<T> for Ours<$write, $read> {
            const NAME: &'static str = $name;
            const ROLE: Role = Role::Ours;
            const WRITES: &'static str = <$write as Write>::NAME;

            type Sender = EventBuffer<T>;
            type Receiver = <$read as Read<T>>::Reader;

            fn channel(_: usize, receivers: usize) -> (Self::Sender, Vec<Self::Receiver>) {
                let buffer = $write::buffer();
                let readers = (0..receivers)
                    .map(|_| <$read as Read<T>>::reader(buffer.subscribe()))
                    .collect();
                (buffer, readers)
            }

            #[inline]
            fn send(sender: &mut Self::Sender, event: T) {
                sender.push(event);
            }

            #[inline]
            fn send_all(sender: &mut Self::Sender, events: impl Iterator<Item = T>) {
                $write::send_all(sender, events);
            }

            #[inline]
            fn try_receive(receiver: &mut Self::Receiver) -> usize {
                <$read as Read<T>>::try_receive(receiver)
            }

            #[inline]
            fn receive(receiver: &mut Self::Receiver) -> impl Future<Output = usize> + Send {
                <$read as Read<T>>::receive(receiver)
            }
        }
    )*};
}

contestants! {
    Push, Items: "items";
    Push, ItemStream: "items as Stream";
    Push, Cloned: "cloned";
    Push, ClonedStream: "cloned as Stream";
    Push, Limited: "limited";
    Push, Chunks: "next_chunk";
    PushRetaining, Items: "newest retained, items";
    Extend, Items: "extend, items";
    Extend, Cloned: "extend, cloned";
    Extend, Chunks: "extend, next_chunk";
}
