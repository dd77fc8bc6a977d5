//! Readers with a limit, compared with a naive reader written from the documentation.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;

use event_buffer::{ByteSize, LagLimit, Limited, OnLag, RecvError, TryRecvError};
use futures::StreamExt;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::{PanicsWhenDropped, PanicsWhenWoken, Task, unretained, watchdog};

#[derive(Clone, Debug)]
enum Step {
    Push(u8),
    Append(u8, usize),
    Extend(u8, usize),
    /// Makes this many of the next events panic when they are dropped.
    Bomb(usize),
    /// Adds a reader with a limit in items, in bytes, or both.
    Subscribe(Option<u64>, Option<u64>, OnLag),
    Read(usize, usize),
    /// Registers a waker, which may panic when it is woken or dropped.
    Wait(usize, Panics),
    Close(usize),
    Leave(usize),
    Clone(usize),
    SetLimit(usize, Option<u64>, Option<u64>, OnLag),
    /// Continues in a new buffer.
    Splice,
}

#[derive(Clone, Copy, Debug)]
enum Panics {
    Never,
    Woken,
    Dropped,
}

fn step() -> impl Strategy<Value = Step> {
    let on_lag = select(vec![OnLag::SkipToOldest, OnLag::SkipToNewest, OnLag::Close]);
    let items = prop_oneof![Just(None), (0..40_u64).prop_map(Some)];
    let bytes = prop_oneof![Just(None), (0..400_u64).prop_map(Some)];
    prop_oneof![
        10 => (0..40_u8).prop_map(Step::Push),
        3 => (0..40_u8, 0..4_usize).prop_map(|(size, n)| Step::Append(size, n)),
        3 => (0..40_u8, 0..60_usize).prop_map(|(size, n)| Step::Extend(size, n)),
        2 => (items.clone(), bytes.clone(), on_lag.clone())
            .prop_map(|(i, b, l)| Step::Subscribe(i, b, l)),
        1 => (0..8_usize, items, bytes, on_lag).prop_map(|(r, i, b, l)| Step::SetLimit(r, i, b, l)),
        1 => (0..8_usize).prop_map(Step::Clone),
        1 => (0..20_usize).prop_map(Step::Bomb),
        10 => (0..8_usize, 0..50_usize).prop_map(|(reader, n)| Step::Read(reader, n)),
        4 => (0..8_usize, select(vec![Panics::Never, Panics::Woken, Panics::Dropped]))
            .prop_map(|(reader, panics)| Step::Wait(reader, panics)),
        1 => (0..8_usize).prop_map(Step::Close),
        1 => (0..8_usize).prop_map(Step::Leave),
        1 => Just(Step::Splice),
    ]
}

/// An event: its number, its size, and whether its drop panics.
#[derive(Debug)]
struct Event(usize, u8, bool);

impl Clone for Event {
    fn clone(&self) -> Self {
        Self(self.0, self.1, false)
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        assert!(!self.2 || thread::panicking(), "asked for");
    }
}

impl ByteSize for Event {
    fn byte_size(&self) -> usize {
        usize::from(self.1)
    }
}

/// Ignores panics, which are on purpose.
fn caught<R>(f: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(f)).ok()
}

/// A naive reader written from the documentation.
#[derive(Clone)]
struct Naive {
    items: u64,
    bytes: Option<u64>,
    on_lag: OnLag,
    at: usize,
    /// The number of items skipped, which is yet to be reported.
    skipped: usize,
    rest: Vec<Event>,
    closed: bool,
}

impl Naive {
    fn is_within(&self, items: &[Vec<Event>]) -> bool {
        let bytes = |item: &Vec<Event>| item.iter().map(|event| u64::from(event.1)).sum::<u64>();
        let sum: u64 = items.iter().map(|item| bytes(item).max(1)).sum();
        items.len() <= 1
            || (items.len() as u64 <= self.items && self.bytes.is_none_or(|most| sum <= most))
    }

    /// Enforces the limit.
    fn catch_up(&mut self, published: &[Vec<Event>]) {
        let mut oldest = self.at;
        while !self.is_within(&published[oldest..]) {
            oldest += 1;
        }
        match self.on_lag {
            OnLag::Close => {
                self.closed |= oldest > self.at;
                return;
            }
            OnLag::SkipToNewest if oldest > self.at => {
                oldest = oldest.max(published.len() - 1);
            }
            _ => {}
        }
        self.skipped += oldest - self.at;
        self.at = oldest;
    }

    fn read(&mut self, published: &[Vec<Event>]) -> Result<Event, TryRecvError> {
        if !self.rest.is_empty() {
            return Ok(self.rest.remove(0));
        }
        self.catch_up(published);
        let skipped = std::mem::take(&mut self.skipped);
        if skipped > 0 && !self.closed {
            self.rest.clone_from(&published[self.at]);
            self.at += 1;
            return Err(TryRecvError::Lagged(skipped as u64));
        }
        let item = published.get(self.at).filter(|_| !self.closed);
        let Some(item) = item else {
            return Err(TryRecvError::Empty);
        };
        self.at += 1;
        self.rest.clone_from(item);
        Ok(self.rest.remove(0))
    }
}

fn limit_of(items: Option<u64>, bytes: Option<u64>, on_lag: OnLag) -> LagLimit<Event> {
    let limit = LagLimit::items(items.unwrap_or(u64::MAX)).on_lag(on_lag);
    match bytes {
        Some(bytes) => limit.and_bytes(bytes),
        None => limit,
    }
}

proptest! {
    #![proptest_config(crate::cases(256))]

    /// Readers receive what is documented, whenever the writer checks limits and whatever panics.
    #[test]
    fn limited_readers_agree_with_a_naive_reader(steps in vec(step(), 1..80)) {
        let _watchdog = watchdog();
        let mut buffer = unretained();
        let mut published: Vec<Vec<Event>> = Vec::new();
        let mut readers: Vec<(Limited<Event>, Naive)> = Vec::new();
        let mut bombs = 0;
        for step in steps {
            let mut event = |n, size| {
                let is_bomb = bombs > 0;
                bombs -= usize::from(is_bomb);
                Event(n, size, is_bomb)
            };
            let n = published.len();
            let count = readers.len().max(1);
            match step {
                Step::Push(size) => {
                    let event = event(n, size);
                    published.push(vec![event.clone()]);
                    caught(|| buffer.push(event));
                }
                Step::Append(size, events) => {
                    let item: Vec<_> = (0..events).map(|_| event(n, size)).collect();
                    published.extend((events > 0).then(|| item.clone()));
                    caught(|| buffer.append(item));
                }
                Step::Extend(size, items) => {
                    let items: Vec<_> = (n..n + items).map(|n| event(n, size)).collect();
                    published.extend(items.iter().map(|event| vec![event.clone()]));
                    caught(|| buffer.extend(items));
                }
                Step::Bomb(count) => bombs = count,
                Step::Subscribe(items, bytes, on_lag) => {
                    let limit = limit_of(items, bytes, on_lag);
                    let limited = caught(|| buffer.subscribe().limited(limit));
                    readers.extend(limited.map(|limited| (limited, Naive {
                        items: items.unwrap_or(u64::MAX).max(1),
                        bytes,
                        on_lag,
                        at: n,
                        skipped: 0,
                        rest: Vec::new(),
                        closed: false,
                    })));
                }
                Step::Read(reader, n) => if let Some((reader, naive)) = readers.get_mut(reader % count) {
                    for _ in 0..n {
                        let expected = naive.read(&published);
                        // A read that panics consumes nothing.
                        let mut received = caught(|| reader.try_recv());
                        while received.is_none() {
                            received = caught(|| reader.try_recv());
                        }
                        match received {
                            Some(Err(TryRecvError::ForceClosed(_))) => prop_assert!(naive.closed),
                            received => prop_assert_eq!(received, Some(expected)),
                        }
                    }
                }
                Step::Wait(reader, panics) => if let Some((reader, naive)) = readers.get_mut(reader % count) {
                    let waker = match panics {
                        Panics::Never => Arc::new(Task).into(),
                        Panics::Woken => Arc::new(PanicsWhenWoken).into(),
                        Panics::Dropped => Arc::new(PanicsWhenDropped).into(),
                    };
                    let mut cx = Context::from_waker(&waker);
                    let expected = naive.read(&published);
                    let polled = loop {
                        if let Some(polled) = caught(|| reader.poll_next_unpin(&mut cx)) {
                            break polled;
                        }
                    };
                    caught(|| drop(waker));
                    match polled {
                        Poll::Pending => prop_assert_eq!(expected, Err(TryRecvError::Empty)),
                        Poll::Ready(Some(Ok(event))) => prop_assert_eq!(expected, Ok(event)),
                        Poll::Ready(Some(Err(RecvError::Lagged(n)))) => {
                            prop_assert_eq!(expected, Err(TryRecvError::Lagged(n)));
                        }
                        Poll::Ready(_) => prop_assert!(naive.closed),
                    }
                }
                Step::Close(reader) => if let Some((reader, naive)) = readers.get_mut(reader % count) {
                    caught(|| reader.closer().close("enough"));
                    naive.closed = true;
                    naive.rest.clear();
                }
                Step::Clone(reader) => if let Some((reader, naive)) = readers.get(reader % count) {
                    let clone = caught(|| reader.clone());
                    let naive = naive.clone();
                    readers.extend(clone.map(|clone| (clone, naive)));
                }
                Step::SetLimit(reader, items, bytes, on_lag) if !readers.is_empty() => {
                    let (mut reader, mut naive) = readers.swap_remove(reader % count);
                    let limit = limit_of(items, bytes, on_lag);
                    // If this panics, either limit may be in effect.
                    if caught(|| reader.set_limit(limit)).is_some() {
                        naive.catch_up(&published);
                        if !naive.closed {
                            naive.items = items.unwrap_or(u64::MAX).max(1);
                            (naive.bytes, naive.on_lag) = (bytes, on_lag);
                        }
                        readers.push((reader, naive));
                    } else {
                        caught(|| drop(reader));
                    }
                }
                Step::SetLimit(..) => {}
                Step::Leave(reader) => if !readers.is_empty() {
                    let (reader, _) = readers.swap_remove(reader % count);
                    caught(|| drop(reader));
                }
                Step::Splice => {
                    let next = unretained();
                    let place = next.tail();
                    let ended = std::mem::replace(&mut buffer, next);
                    caught(|| ended.splice(place));
                }
            }
        }
        // Dropping the readers frees everything.
        caught(|| drop(readers));
        prop_assert!(!buffer.is_observed());
        prop_assert_eq!(buffer.retained(), 0);
        caught(|| drop(buffer));
    }
}
