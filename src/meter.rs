//! Asks events for their sizes, for the writer.
//!
//! A reader that is limited in bytes asks what is ahead of it before each read. If the writer had every
//! such reader ask with every item, a crowd of them would ask the same item once each, and mostly for
//! nothing. So one meter for those of a buffer asks each item once as it is published, and sums up. It
//! knows at which sum each reader may have passed its limit, and has only those look:
//!
//! ```text
//!      up to                   bytes: 4,711
//!   ─▶[ item ]─▶[ new ]─▶ …    [4,800: a] [5,020: b] [9,000: c]     Weak<Limiter>
//! ```
//!
//! The readers own the meter, and the buffer's record knows it: it is a limit that is always due. That each
//! publish looks at it, it asks for in the slot that is written next. What is asked is foreign code, which runs under no lock.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Arc, Weak};

use crate::lag_limit::SizeOf;
use crate::limiter::Limiter;
use crate::raw::{Limit, Next, Slot, put_off_due};
use crate::sync::Mutex;
use crate::unwind::{
    Panic, both_even_if_one_panics, for_each_even_if_one_panics, keep_first, resume,
};

pub(crate) struct Meter<T> {
    size_of: SizeOf<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    /// After the last item that was asked. `None` once it has no readers any more.
    up_to: Option<Slot<T>>,
    /// How many items were asked, and the sum of what they said.
    asked: u64,
    bytes: u128,
    limiters: BTreeMap<Key, Weak<Limiter<T>>>,
    /// At so many, those that are gone are taken out.
    sweep_at: usize,
}

/// At which sum it is due, and which it is: the address, which is no other's as long as the entry is
/// there.
type Key = (u128, usize);

struct Measured<T> {
    /// The sum.
    bytes: u128,
    due: Vec<(Key, Weak<Limiter<T>>)>,
    /// The first panic of those asked.
    panicked: Option<Panic>,
}

impl<T> State<T> {
    /// Those that are due. They stay, due with the next item.
    fn due(&mut self) -> Vec<(Key, Weak<Limiter<T>>)> {
        put_off_due(&mut self.limiters, self.bytes, self.bytes + 1)
    }
}

impl<T> Meter<T> {
    /// Asks what comes from that place on.
    pub(crate) fn new(size_of: SizeOf<T>, from: Slot<T>) -> Self {
        Self {
            size_of,
            state: Mutex::new(State {
                up_to: Some(from),
                asked: 0,
                bytes: 0,
                limiters: BTreeMap::new(),
                sweep_at: 0,
            }),
        }
    }

    /// Has `limiter` look when it may have passed its limit, and once before; false where the meter has
    /// been given up.
    pub(crate) fn join(&self, limiter: &Arc<Limiter<T>>) -> bool {
        let mut state = self.state.lock();
        let goes_on = state.up_to.is_some();
        if goes_on {
            let key = (0, Arc::as_ptr(limiter) as usize);
            state.limiters.insert(key, Arc::downgrade(limiter));
            if state.limiters.len() > state.sweep_at {
                state
                    .limiters
                    .retain(|_, limiter| limiter.strong_count() > 0);
                state.sweep_at = 2 * state.limiters.len() + 16;
            }
        }
        goes_on
    }

    /// Asks what is new. `None` where the meter has been given up.
    fn measure(&self) -> Option<Measured<T>> {
        let mut first_panic = None;
        loop {
            let (from, asked) = {
                let state = self.state.lock();
                (state.up_to.clone()?, state.asked)
            };
            let (mut items, mut bytes) = (0, 0);
            let (mut up_to, panicked) = self.size_of.ask(&from, from.lag(), |size| {
                items += 1;
                bytes += u128::from(size);
            });
            if let Some(panic) = panicked {
                keep_first(&mut first_panic, panic);
            }
            // The next is to be asked by whoever publishes it, unless it is there already.
            let is_last = !up_to.request_limits();
            let mut state = self.state.lock();
            // Where others have asked meanwhile there may be more that they have not.
            if state.asked == asked {
                let passed = mem::replace(state.up_to.as_mut()?, up_to);
                state.asked += items;
                state.bytes += bytes;
                let measured = is_last.then(|| Measured {
                    bytes: state.bytes,
                    due: state.due(),
                    panicked: first_panic.take(),
                });
                drop(state);
                drop((passed, from));
                if measured.is_some() {
                    return measured;
                }
            }
        }
    }

    /// One that has looked is due after so many more bytes, or has no place any more.
    fn put_off(&self, known: Key, due_at: Option<u128>) {
        let mut state = self.state.lock();
        // Where it is not there others have looked too.
        if let (Some(limiter), Some(due_at)) = (state.limiters.remove(&known), due_at) {
            state.limiters.insert((due_at, known.1), limiter);
        }
    }

    /// With no readers it keeps nothing.
    fn give_up_unless_joined(&self) -> Next {
        let mut state = self.state.lock();
        if !state.limiters.is_empty() {
            return Next::Always;
        }
        let up_to = state.up_to.take();
        drop(state);
        drop(up_to);
        Next::Never
    }
}

impl<T: Send + Sync> Limit for Meter<T> {
    fn enforce(&self) -> Next {
        let Some(Measured {
            bytes,
            due,
            panicked,
        }) = self.measure()
        else {
            return Next::Never;
        };
        if due.is_empty() && panicked.is_none() {
            return Next::Always;
        }
        let look = |(key, limiter): (Key, Weak<Limiter<T>>)| {
            let room = limiter.upgrade().and_then(|limiter| limiter.look());
            self.put_off(key, room.map(|room| bytes + room.bytes));
        };
        both_even_if_one_panics(
            || for_each_even_if_one_panics(due.into_iter(), look),
            || resume(panicked),
        );
        self.give_up_unless_joined()
    }
}
