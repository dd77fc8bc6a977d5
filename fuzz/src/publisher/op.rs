//! The steps of an input. As in `core`, unknown bytes are skipped.

use super::store::{Behaviour, Commit, Key};
use crate::bytes::Bytes;
use crate::user_code::{Misbehaviour, SPOTS, Spot};

/// The number of a watch.
type N = u8;

#[derive(Clone, Debug)]
pub(super) enum Op {
    /// Commits to the store; publishing comes later.
    Commit(Commit),
    Publish(u8),
    /// Publishes at indexes that are too low, including the last one.
    PublishBackwards,
    /// Watches a key, with or without a filter, with a token.
    Subscribe(Key, bool, u8),
    /// Polls a number of times, if it was woken.
    Poll(N, u8),
    /// Polls even if it was not woken.
    PollUnwoken(N),
    Drop(N),
    /// Resumes with the state and the resume point of a watch that was dropped.
    Resume(N),
    /// Resumes with a point of another epoch, or ahead of all commits.
    ResumeInvalid(Key, bool),
    Behaviour(Behaviour),
    CloseToken(u8),
    CloseKey(Key),
    CloseAll,
    Reset,
    Misbehave(Spot, Misbehaviour),
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
        // These numbers must not change, since kept inputs contain them.
        Some(match code % 32 {
            0..=2 => Self::Commit(commit(bytes)),
            3..=5 => Self::Publish(1 + bytes.byte() % 3),
            6 => Self::PublishBackwards,
            7 | 8 => {
                let n = bytes.byte();
                Self::Subscribe(n % 3, n & 16 != 0, n >> 6)
            }
            9..=11 => Self::Poll(bytes.byte(), 1 + bytes.byte() % 12),
            12 => Self::PollUnwoken(bytes.byte()),
            13 => Self::Drop(bytes.byte()),
            14 => Self::Resume(bytes.byte()),
            15 => {
                let n = bytes.byte();
                Self::ResumeInvalid(n % 3, n >= 128)
            }
            16 => {
                let n = bytes.byte();
                Self::Behaviour(Behaviour {
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
    let misbehaviour = match bytes.byte() {
        n @ 0..4 if spot == Spot::Wake => {
            if n == 0 {
                Misbehaviour::PanicAlways
            } else {
                Misbehaviour::PanicAfter(0)
            }
        }
        n => Misbehaviour::PanicAfter(n % 8),
    };
    Op::Misbehave(spot, misbehaviour)
}
