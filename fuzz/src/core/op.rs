//! The steps of an input.
//!
//! A step is a byte and its arguments. Unknown bytes are skipped, so that new steps can be added
//! without changing the meaning of kept inputs.

use crate::bytes::Bytes;
use crate::user_code::{Misbehaviour, SPOTS, Spot};
use event_buffer::{OnLag, Replay};

/// The number of a buffer, a reader, and so on.
pub(super) type N = u8;

#[derive(Clone, Copy, Debug)]
pub(super) enum Publish {
    Append,
    Extend,
    Push,
    AppendDeferred,
    PushDeferred,
    /// Sends the events into the sink, one by one.
    Send,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Ending {
    Drop,
    Close,
    Fail,
    /// Splices to the place that the number chooses.
    Splice(N),
    SpliceToItem(N),
}

/// How a read is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadMode {
    Try,
    /// Polls a future once and drops it.
    PollOnce,
    /// Polls a future and keeps it.
    PollAndKeep,
    Stream,
    /// Calls `recv_blocking` if something is ready, otherwise `recv_timeout`.
    Block,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    Open(Replay),
    /// Publishes a number of events. The last argument chooses the iterator's size hint.
    Publish(Publish, N, u8, u8),
    /// Flushes and closes the sink, which does nothing.
    Flush(N),
    DropDeferred(N),
    End(Ending, N),
    Share(N),
    CloneHandle(N),
    DropHandle(N, u8),
    IntoInner(N, u8),
    /// Keeps the newest item.
    Latest(N),
    Subscribe(N),
    SubscribeFromStart(N),
    /// Subscribes after an index: one of those published, or beyond, as the second number chooses.
    SubscribeAfter(N, u8),
    Tail(N),
    /// Waits until there are no readers, while a number of readers, from the chosen one on, are
    /// dropped.
    Unobserved(N, N, u8),

    /// Reads a number of times.
    Read(ReadMode, N, u8),
    /// Reads a number of events of a chunk; the loop may panic at the last one.
    Chunk(ReadMode, N, u8),
    /// Skips a number of events.
    SkipEvents(N, u8),
    /// Reads an item and keeps it.
    Keep(N),
    PollKept(N),
    DropKept(N),
    /// Continues with single events.
    IntoCloned(N),
    CloneReader(N),
    Resubscribe(N),
    PositionOf(N),
    DropReader(N),
    CloserOf(N),
    Close(N),
    CloneCloser(N),
    DropCloser(N),

    CloneItem(N),
    NextOfItem(N),
    WaitForNext(N),
    PollWait(N),
    DropWait(N),
    SubscribeAtItem(N),
    AfterItem(N),
    PositionOfItem(N),
    DropItem(N),

    SubscribeAt(N),
    ClonePlace(N),
    DropPlace(N),

    Misbehave(Spot, Misbehaviour),

    /// Limits a reader in items, bytes, or both.
    IntoLimited(N, Option<u64>, Option<u64>, OnLag),
    BookmarkOf(N),
    BookmarkOfPlace(N),
    Upgrade(N, N),
    DropBookmark(N),
}

impl Op {
    /// The next step; `None` at the end.
    pub(super) fn next(bytes: &mut Bytes<'_>) -> Option<Self> {
        loop {
            let code = bytes.next()?;
            if let Some(op) = Self::decode(code, bytes) {
                return Some(op);
            }
        }
    }

    fn decode(code: u8, bytes: &mut Bytes<'_>) -> Option<Self> {
        // These numbers must not change, since kept inputs contain them.
        Some(match code % 96 {
            0 => Self::Open(replay(bytes)),
            1 | 2 => publish(Publish::Append, bytes),
            3 | 4 => publish(Publish::Extend, bytes),
            5 | 6 => publish(Publish::Push, bytes),
            7 => publish(Publish::AppendDeferred, bytes),
            8 => publish(Publish::PushDeferred, bytes),
            9 => publish(Publish::Send, bytes),
            10 => Self::Flush(bytes.byte()),
            11 => Self::DropDeferred(bytes.byte()),
            12 => Self::End(Ending::Drop, bytes.byte()),
            13 => Self::End(Ending::Close, bytes.byte()),
            14 => Self::End(Ending::Fail, bytes.byte()),
            15 => Self::End(Ending::Splice(bytes.byte()), bytes.byte()),
            16 => Self::End(Ending::SpliceToItem(bytes.byte()), bytes.byte()),
            17 => Self::Share(bytes.byte()),
            18 => Self::CloneHandle(bytes.byte()),
            19 => Self::DropHandle(bytes.byte(), bytes.byte()),
            20 => Self::IntoInner(bytes.byte(), bytes.byte()),
            21 => Self::Latest(bytes.byte()),
            22 => Self::Subscribe(bytes.byte()),
            23 => Self::SubscribeFromStart(bytes.byte()),
            24 => Self::SubscribeAfter(bytes.byte(), bytes.byte()),
            25 => Self::Tail(bytes.byte()),
            26 => Self::Unobserved(bytes.byte(), bytes.byte(), bytes.byte()),
            27 => Self::Read(ReadMode::Try, bytes.byte(), 1),
            28 => Self::Read(ReadMode::Try, bytes.byte(), bytes.byte()),
            29 => Self::Read(ReadMode::PollOnce, bytes.byte(), 1),
            30 => Self::Read(ReadMode::PollAndKeep, bytes.byte(), 1),
            31 => Self::Read(ReadMode::Stream, bytes.byte(), 1),
            32 => Self::Read(ReadMode::Stream, bytes.byte(), bytes.byte()),
            33 => Self::Read(ReadMode::Block, bytes.byte(), 1),
            34 => Self::Chunk(ReadMode::PollOnce, bytes.byte(), bytes.byte()),
            35 => Self::Chunk(ReadMode::PollAndKeep, bytes.byte(), bytes.byte()),
            36 => Self::Keep(bytes.byte()),
            37 => Self::PollKept(bytes.byte()),
            38 => Self::DropKept(bytes.byte()),
            39 => Self::IntoCloned(bytes.byte()),
            40 => Self::CloneReader(bytes.byte()),
            41 => Self::Resubscribe(bytes.byte()),
            42 => Self::PositionOf(bytes.byte()),
            43 => Self::DropReader(bytes.byte()),
            44 => Self::CloserOf(bytes.byte()),
            45 => Self::Close(bytes.byte()),
            46 => Self::CloneCloser(bytes.byte()),
            47 => Self::DropCloser(bytes.byte()),
            48 => Self::CloneItem(bytes.byte()),
            49 => Self::NextOfItem(bytes.byte()),
            50 => Self::WaitForNext(bytes.byte()),
            51 => Self::PollWait(bytes.byte()),
            52 => Self::DropWait(bytes.byte()),
            53 => Self::SubscribeAtItem(bytes.byte()),
            54 => Self::AfterItem(bytes.byte()),
            55 => Self::PositionOfItem(bytes.byte()),
            56 => Self::DropItem(bytes.byte()),
            57 => Self::SubscribeAt(bytes.byte()),
            58 => Self::ClonePlace(bytes.byte()),
            59 => Self::DropPlace(bytes.byte()),
            60 => {
                // A buffer has no filters and handlers.
                let spot = SPOTS[bytes.number() % 6];
                misbehave(spot, bytes)
            }
            61 | 62 => limited(bytes),
            63 => Self::BookmarkOf(bytes.byte()),
            64 => Self::BookmarkOfPlace(bytes.byte()),
            65 => Self::Upgrade(bytes.byte(), bytes.byte()),
            66 => Self::DropBookmark(bytes.byte()),
            67 => misbehave(Spot::ByteSize, bytes),
            68 => Self::SkipEvents(bytes.byte(), 1),
            69 => Self::SkipEvents(bytes.byte(), bytes.byte()),
            _ => return None,
        })
    }
}

fn publish(how: Publish, bytes: &mut Bytes<'_>) -> Op {
    let buffer = bytes.byte();
    let (count, beyond) = match how {
        Publish::Push | Publish::PushDeferred => (1, 0),
        // Sometimes more than the 32 passed items that a `Cloned` may keep alive.
        _ => match bytes.byte() {
            n @ 0..200 => (n % 4, n / 4 % 3),
            n => (n - 200, 0),
        },
    };
    Op::Publish(how, buffer, count, beyond)
}

fn replay(bytes: &mut Bytes<'_>) -> Replay {
    match bytes.byte() {
        0 => Replay::Last(1),
        1 => Replay::None,
        2 => Replay::All,
        n => Replay::Last(usize::from(n) % 40),
    }
}

fn limited(bytes: &mut Bytes<'_>) -> Op {
    let reader = bytes.byte();
    let what = bytes.byte();
    let items = (what % 4 != 1).then(|| u64::from(bytes.byte() % 40));
    let most = (what % 4 == 2 || items.is_none()).then(|| u64::from(bytes.byte()) * 2 % 400);
    let on_lag = match what / 4 % 3 {
        0 => OnLag::SkipToOldest,
        1 => OnLag::SkipToNewest,
        _ => OnLag::Close,
    };
    Op::IntoLimited(reader, items, most, on_lag)
}

fn misbehave(spot: Spot, bytes: &mut Bytes<'_>) -> Op {
    let misbehaviour = match bytes.byte() {
        0 => Misbehaviour::PanicAlways,
        1 => Misbehaviour::Reenter,
        n => Misbehaviour::PanicAfter((n - 2) % 8),
    };
    Op::Misbehave(spot, misbehaviour)
}
