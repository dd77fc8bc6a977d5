//! Which handles can be sent to other threads, and shared between them.
//!
//! Handles share events, and the last handle drops them on its own thread. So every handle requires
//! events that are `Send` and `Sync`.
#![cfg(not(loom))]

use std::cell::Cell;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::{Arc, MutexGuard};

use event_buffer::{
    Bookmark, BufferItem, Builder, Cloned, Closer, Deferred, EventBuffer, LagLimit, Limited,
    Position, SharedBuffer, Subscription,
};
use static_assertions::{assert_impl_all, assert_not_impl_any};

/// `Send`, but not `Sync`.
type Unshared = Cell<u64>;
/// `Sync`, but not `Send`.
type Unsent = MutexGuard<'static, u64>;
/// Neither `Send` nor `Sync`.
type Local = Rc<u64>;

assert_impl_all!(Unshared: Send);
assert_not_impl_any!(Unshared: Sync);
assert_impl_all!(Unsent: Sync);
assert_not_impl_any!(Unsent: Send);

/// Handles that lead to events, each the name of a type with one parameter.
macro_rules! share_events {
    ($($handle:ident),* $(,)?) => {$(
        assert_impl_all!($handle<u64>: Send, Sync, Unpin);
        assert_impl_all!($handle<Arc<str>>: Send, Sync, Unpin);
        assert_not_impl_any!($handle<Unshared>: Send, Sync);
        assert_not_impl_any!($handle<Unsent>: Send, Sync);
        assert_not_impl_any!($handle<Local>: Send, Sync);
    )*};
}

/// Handles that lead to no events.
macro_rules! hold_no_events {
    ($($handle:ident),* $(,)?) => {$(
        assert_impl_all!($handle<u64>: Send, Sync, Unpin);
        assert_impl_all!($handle<Unshared>: Send, Sync);
        assert_impl_all!($handle<Unsent>: Send, Sync);
        assert_impl_all!($handle<Local>: Send, Sync);
    )*};
}

type Chunk<T> = event_buffer::Chunk<'static, T>;

share_events!(EventBuffer, SharedBuffer);
share_events!(Subscription, Cloned, Limited, BufferItem, Position, Chunk);
// A `Deferred` is owned by the task that publishes; a shared one would be of no use.
assert_impl_all!(Deferred<u64>: Send, Unpin);
assert_not_impl_any!(Deferred<Unshared>: Send, Sync);
assert_not_impl_any!(Deferred<Unsent>: Send, Sync);
assert_not_impl_any!(Deferred<Local>: Send, Sync);
// A position by number, the settings of a buffer, and functions of events.
hold_no_events!(Bookmark, Builder, LagLimit);
assert_impl_all!(Closer: Send, Sync, Unpin);

#[cfg(feature = "publisher")]
mod of_a_publisher {
    use event_buffer::publisher::{self, SnapshotAppender};

    use super::*;

    type Publisher<T> = publisher::Publisher<String, T>;
    type WeakPublisher<T> = publisher::WeakPublisher<String, T>;
    type Watch<T> = publisher::Watch<String, T>;
    type Update<T> = publisher::Update<String, T>;
    type Events<T> = publisher::Events<String, T>;
    type Iter<T> = publisher::Iter<'static, String, T>;
    type Request<T> = publisher::Request<String, T>;
    type PublisherBuilder<T> = publisher::PublisherBuilder<String, T>;

    share_events!(Publisher, WeakPublisher, Watch, SnapshotAppender);
    // An iterator borrows a handle that shares the events.
    share_events!(Update, Events, Iter);
    // They hold functions that are `Send` and `Sync` themselves.
    hold_no_events!(Request, PublisherBuilder);

    /// Watches hold the keys of the events that they deliver, so keys are shared like events.
    type ByKey<K> = publisher::Publisher<K, u64>;
    assert_impl_all!(ByKey<u64>: Send, Sync);
    assert_not_impl_any!(ByKey<Unshared>: Send, Sync);
    assert_not_impl_any!(ByKey<Unsent>: Send, Sync);
    assert_not_impl_any!(ByKey<Local>: Send, Sync);
    type WeakByKey<K> = publisher::WeakPublisher<K, u64>;
    assert_impl_all!(WeakByKey<u64>: Send, Sync);
    assert_not_impl_any!(WeakByKey<Unshared>: Send, Sync);
    assert_not_impl_any!(WeakByKey<Unsent>: Send, Sync);
    assert_not_impl_any!(WeakByKey<Local>: Send, Sync);
    /// A request is `Send` or `Sync` if its key is.
    type RequestOf<K> = publisher::Request<K, u64>;
    assert_impl_all!(RequestOf<Unshared>: Send);
    assert_not_impl_any!(RequestOf<Unshared>: Sync);
    assert_not_impl_any!(RequestOf<Unsent>: Send);
    assert_not_impl_any!(RequestOf<Local>: Send, Sync);
}

/// Implemented twice if the type is `Send`, so that a call would be ambiguous and not compile.
trait NotSend<Ambiguous> {
    fn is_not_send(&self) {}
}

impl<T> NotSend<()> for T {}
impl<T: Send> NotSend<u8> for T {}

/// Like `NotSend`, but for `Sync`.
trait NotSync<Ambiguous> {
    fn is_not_sync(&self) {}
}

impl<T> NotSync<()> for T {}
impl<T: Sync> NotSync<u8> for T {}

/// The type of the future that a method returns, which has no name.
fn future_of<A, F>(_: impl FnOnce(A) -> F) -> PhantomData<F> {
    PhantomData
}

macro_rules! are_send_and_sync {
    ($($future:expr),* $(,)?) => {{
        fn is_send_and_sync<F: Send + Sync>(_: PhantomData<F>) {}
        $(is_send_and_sync(future_of($future));)*
    }};
}

macro_rules! are_neither_send_nor_sync {
    ($($future:expr),* $(,)?) => {$(
        future_of($future).is_not_send();
        future_of($future).is_not_sync();
    )*};
}

/// The futures of all methods that wait.
macro_rules! futures {
    ($assert:ident of $event:ty) => {
        $assert!(
            |reader: &'static mut Subscription<$event>| reader.recv(),
            |reader: &'static mut Subscription<$event>| reader.next_chunk(),
            |reader: &'static mut Cloned<$event>| reader.recv(),
            |reader: &'static mut Limited<$event>| reader.recv(),
            |item: &'static BufferItem<$event>| item.next(),
            |buffer: &'static EventBuffer<$event>| buffer.unobserved(),
        );
    };
}

/// The compiler does the checking.
#[test]
fn futures_are_send_and_sync_if_their_reader_is() {
    futures!(are_send_and_sync of u64);
    futures!(are_send_and_sync of Arc<str>);
    futures!(are_neither_send_nor_sync of Unshared);
    futures!(are_neither_send_nor_sync of Local);
}
