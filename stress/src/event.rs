//! Events that identify themselves, and a ledger of all events that were created.

use std::fmt;
use std::sync::atomic::{
    AtomicU8, AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
};

use event_buffer::{ByteSize, Indexed};

use crate::fault::{Fault, raise};
use crate::key::{Key, Part};
use crate::rng::mix;

/// What an event does when it is dropped or cloned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bomb {
    None,
    /// Panics when the original is dropped. Clones do not, since they belong to their reader.
    Drop,
    /// Panics at its first clones, this many times.
    Clone(u8),
}

pub(crate) struct Event {
    pub(crate) key: Key,
    /// The event's number in its item, which has `parts` events.
    pub(crate) part: u16,
    pub(crate) parts: u16,
    id: usize,
    drop_bomb: bool,
    clone_bombs: AtomicU8,
    /// On the heap, to detect a use after free, and computed from the other fields, to detect torn
    /// or mixed-up events.
    body: Box<[u64]>,
}

const UNMADE: u8 = 0;
const ALIVE: u8 = 1;
const DROPPED: u8 = 2;

/// The state of each event of this world, including clones.
static LEDGER: [AtomicU8; 1 << 21] = [const { AtomicU8::new(UNMADE) }; 1 << 21];
static MADE: AtomicUsize = AtomicUsize::new(0);

fn enter() -> usize {
    let id = MADE.fetch_add(1, Relaxed);
    let before = LEDGER[id].swap(ALIVE, AcqRel);
    assert_eq!(before, UNMADE, "the ledger's entry {id} is used twice");
    id
}

/// Checks at a world's end that each event was dropped; `drop` checks that it was dropped only
/// once. Returns the number of events.
pub(crate) fn close_ledger() -> usize {
    let made = MADE.swap(0, AcqRel);
    let alive = |entry: &AtomicU8| entry.swap(UNMADE, AcqRel) != DROPPED;
    let leaked = LEDGER[..made].iter().filter(|entry| alive(entry)).count();
    assert_eq!(leaked, 0, "leaked events, of {made}");
    made
}

impl Event {
    pub(crate) fn new(key: Key, (part, parts): (u16, u16), bomb: Bomb) -> Self {
        let len = 1 + word(key, part, 0) % 4;
        Self {
            key,
            part,
            parts,
            id: enter(),
            drop_bomb: bomb == Bomb::Drop,
            clone_bombs: AtomicU8::new(if let Bomb::Clone(times) = bomb {
                times
            } else {
                0
            }),
            body: (0..len).map(|at| word(key, part, at)).collect(),
        }
    }

    fn part(&self) -> Part {
        (self.key, self.part, self.parts)
    }

    /// Checks that the event is alive and intact.
    pub(crate) fn verify(&self) {
        let Self { key, part, .. } = *self;
        let state = LEDGER[self.id].load(Acquire);
        assert_eq!(state, ALIVE, "{self:?} is read after it was dropped");
        let mut body = self.body.iter().zip(0..);
        assert!(
            body.all(|(is, at)| *is == word(key, part, at)),
            "the checksum of {self:?}"
        );
        assert_eq!(
            self.body.len() as u64,
            1 + word(key, part, 0) % 4,
            "the length of {self:?}"
        );
    }
}

/// The expected word at an index of an event's body.
fn word(key: Key, part: u16, at: u64) -> u64 {
    let Key {
        stream,
        producer,
        n,
    } = key;
    let key = u64::from(stream) << 48 | u64::from(producer) << 32 | u64::from(n);
    mix(mix(key) ^ u64::from(part) << 8 ^ at)
}

impl Clone for Event {
    fn clone(&self) -> Self {
        self.verify();
        let one_less = |left: u8| left.checked_sub(1);
        if self
            .clone_bombs
            .fetch_update(Relaxed, Relaxed, one_less)
            .is_ok()
        {
            raise(Fault::Clone, Some(self.part()));
        }
        Self::new(self.key, (self.part, self.parts), Bomb::None)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        self.verify();
        let before = LEDGER[self.id].swap(DROPPED, AcqRel);
        assert_eq!(before, ALIVE, "{self:?} is dropped twice");
        // A later read detects this even without a sanitizer, if the memory is still readable.
        self.body.fill(0xDEAD);
        if self.drop_bomb {
            raise(Fault::Drop, Some(self.part()));
        }
    }
}

/// The distance from the index of an item's first event to that of the next item's.
pub(crate) const INDEXES: u64 = 8;

impl Indexed for Event {
    fn index(&self) -> u64 {
        u64::from(self.key.n) * INDEXES + u64::from(self.part)
    }
}

impl ByteSize for Event {
    fn byte_size(&self) -> usize {
        self.body.len() * 8
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event {} of {} of {:?}", self.part, self.parts, self.key)
    }
}
