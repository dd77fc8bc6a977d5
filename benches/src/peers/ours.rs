//! `event-buffer`: ways to publish, times ways to read.

use std::hint::black_box;
use std::marker::PhantomData;

use event_buffer::{EventBuffer, LagLimit, Replay, SharedBuffer, Subscription};
use futures::{FutureExt, StreamExt};

use crate::payload::Payload;
use crate::peer::{Peer, Role};

/// A way to publish, with a way to read.
pub struct Ours<W, R>(PhantomData<(W, R)>);

/// One `push` per event, in a buffer that retains nothing for late readers, as no peer does.
pub struct Push;
/// The same in a buffer as `EventBuffer::new` makes it: it retains the newest item.
pub struct PushRetaining;
/// One `extend` per burst.
pub struct Extend;
/// One `push` per event, in a buffer for several producers that retains nothing.
pub struct Shared;
/// The same in one as `SharedBuffer::new` makes it.
pub struct SharedRetaining;

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

/// A writer, for one producer or for several.
pub trait Writer<T>: Send + 'static {
    fn subscribe(&self) -> Subscription<T>;
    fn push(&mut self, event: T);
}

impl<T: Payload> Writer<T> for EventBuffer<T> {
    fn subscribe(&self) -> Subscription<T> {
        Self::subscribe(self)
    }

    #[inline]
    fn push(&mut self, event: T) {
        Self::push(self, event);
    }
}

impl<T: Payload> Writer<T> for SharedBuffer<T> {
    fn subscribe(&self) -> Subscription<T> {
        Self::subscribe(self)
    }

    #[inline]
    fn push(&mut self, event: T) {
        Self::push(self, event).expect("the buffer is open");
    }
}

pub trait Write: 'static {
    const NAME: &'static str;

    type Writer<T: Payload>: Writer<T>;

    fn writer<T: Payload>() -> Self::Writer<T>;

    #[inline]
    fn send_all<T: Payload>(writer: &mut Self::Writer<T>, events: impl Iterator<Item = T>) {
        for event in events {
            writer.push(event);
        }
    }
}

fn unretained<T>() -> EventBuffer<T> {
    EventBuffer::builder().replay(Replay::None).build()
}

impl Write for Push {
    const NAME: &'static str = "push, Replay::None";

    type Writer<T: Payload> = EventBuffer<T>;

    fn writer<T: Payload>() -> EventBuffer<T> {
        unretained()
    }
}

impl Write for PushRetaining {
    const NAME: &'static str = "push, new()";

    type Writer<T: Payload> = EventBuffer<T>;

    fn writer<T: Payload>() -> EventBuffer<T> {
        EventBuffer::new()
    }
}

impl Write for Extend {
    const NAME: &'static str = "extend";

    type Writer<T: Payload> = EventBuffer<T>;

    fn writer<T: Payload>() -> EventBuffer<T> {
        unretained()
    }

    #[inline]
    fn send_all<T: Payload>(writer: &mut EventBuffer<T>, events: impl Iterator<Item = T>) {
        writer.extend(events);
    }
}

impl Write for Shared {
    const NAME: &'static str = "shared push, Replay::None";

    type Writer<T: Payload> = SharedBuffer<T>;

    fn writer<T: Payload>() -> SharedBuffer<T> {
        unretained().into()
    }
}

impl Write for SharedRetaining {
    const NAME: &'static str = "shared push, new()";

    type Writer<T: Payload> = SharedBuffer<T>;

    fn writer<T: Payload>() -> SharedBuffer<T> {
        SharedBuffer::new()
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
            black_box(event.read());
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

            type Sender = <$write as Write>::Writer<T>;
            type Receiver = <$read as Read<T>>::Reader;

            fn channel(_: usize, receivers: usize) -> (Self::Sender, Vec<Self::Receiver>) {
                let writer = $write::writer();
                let readers = (0..receivers)
                    .map(|_| <$read as Read<T>>::reader(Writer::subscribe(&writer)))
                    .collect();
                (writer, readers)
            }

            #[inline]
            fn send(sender: &mut Self::Sender, event: T) {
                Writer::push(sender, event);
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
    PushRetaining, Items: "new(), items";
    Shared, Items: "shared, items";
    SharedRetaining, Items: "shared, new(), items";
    Extend, Items: "extend, items";
    Extend, Cloned: "extend, cloned";
    Extend, Chunks: "extend, next_chunk";
}
