//! What an input says. As in `core`, a byte that says nothing is passed over.

use super::store::{Commit, Key, Manner};
use crate::bytes::Bytes;
use crate::foreign::{Mischief, SPOTS, Spot};

/// A number of a watch.
type N = u8;

#[derive(Clone, Debug)]
pub(super) enum Op {
    /// Commits to the store; publishing comes later.
    Commit(Commit),
    Publish(u8),
    /// At indexes that are too low, the last one among them.
    PublishBackwards,
    /// With a filter, or not; a token.
    Subscribe(Key, bool, u8),
    /// So many times, if it was woken.
    Poll(N, u8),
    /// Also where it was not.
    PollUnasked(N),
    Drop(N),
    /// With the state and the resume point of a watch that was dropped.
    Resume(N),
    /// With a point of a former epoch, or ahead of all.
    ResumeWrongly(Key, bool),
    Manner(Manner),
    CloseToken(u8),
    CloseKey(Key),
    CloseAll,
    Reset,
    Misbehave(Spot, Mischief),
}

impl Op {
    pub(super) fn next(bytes: &mut Bytes<'_>) -> Option<Self> {
        loop {
            let code = bytes.next()?;
            if let Some(op) = Self::decode(code, bytes) {
                return Some(op);
            }
        }
    }

    fn decode(code: u8, bytes: &mut Bytes<'_>) -> Option<Self> {
        // Numbers are not to change: kept inputs are made of them.
        Some(match code % 32 {
            0..=2 => Self::Commit(commit(bytes)),
            3..=5 => Self::Publish(1 + bytes.byte() % 3),
            6 => Self::PublishBackwards,
            7 | 8 => {
                let n = bytes.byte();
                Self::Subscribe(n % 3, n & 16 != 0, n >> 6)
            }
            9..=11 => Self::Poll(bytes.byte(), 1 + bytes.byte() % 12),
            12 => Self::PollUnasked(bytes.byte()),
            13 => Self::Drop(bytes.byte()),
            14 => Self::Resume(bytes.byte()),
            15 => {
                let n = bytes.byte();
                Self::ResumeWrongly(n % 3, n >= 128)
            }
            16 => {
                let n = bytes.byte();
                Self::Manner(Manner {
                    waits: usize::from(n % 4),
                    part: 1 + usize::from(n / 4 % 3),
                    fails: n >= 200,
                })
            }
            17 => Self::CloseToken(bytes.byte() % 4),
            18 => Self::CloseKey(bytes.byte() % 3),
            19 => Self::CloseAll,
            20 => Self::Reset,
            21 => misbehave(bytes),
            _ => return None,
        })
    }
}

fn commit(bytes: &mut Bytes<'_>) -> Commit {
    let count = bytes.byte() % 4;
    (0..count)
        .map(|_| {
            let n = bytes.byte();
            (n % 3, (n / 3 % 6, (n < 200).then_some(u32::from(n))))
        })
        .collect()
}

fn misbehave(bytes: &mut Bytes<'_>) -> Op {
    let spot = SPOTS[bytes.number() % SPOTS.len()];
    let mischief = match bytes.byte() {
        n @ 0..4 if spot == Spot::Wake => {
            if n == 0 {
                Mischief::PanicAlways
            } else {
                Mischief::PanicAfter(0)
            }
        }
        n => Mischief::PanicAfter(n % 8),
    };
    Op::Misbehave(spot, mischief)
}
