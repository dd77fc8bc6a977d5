//! Tasks that wait for the same thing, and waking them all.
//!
//! One lock a wait and one a wake-up, no allocation once the list has grown, and no waker is
//! woken, dropped or cloned while the lock is held: each of these is foreign code that may poll
//! or drop a subscription right there (tokio issue 5429 is the deadlock that comes of it).
//!
//! Whoever waits, waits for the last slot: there is one at a time, so a buffer has one list, in its
//! `Record`, and nodes have none. An `event-listener` `Event` in each link was tried first. A
//! wait then takes three locks (listen, register, remove), allocates the event's list for the first
//! waiter of each slot and a listener for a `Stream`, and wakes under its lock, so that wakers need a
//! stand-in. One event per wake-up to 100 readers cost 121 to 139 ns a delivery that way, stand-in
//! included, and 84 to 88 right after the change to this list (tokio's `recv` 98 to 101 in the same
//! two runs). An item is 8 bytes smaller.
//!
//! ```text
//!   waiting:  wait(ticket, waker)  ─▶ insert            ticket = (round, key)
//!   waking:   wake_all()           ─▶ round += 1, take the list, unlock, wake each
//!   leaving:  leave(ticket)        ─▶ nothing to do if the round is over, else remove
//! ```

use std::mem;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::task::Waker;

use slab::Slab;

use crate::sync::{AtomicU64, Mutex};
use crate::unwind::{even_if_it_panics, for_each_even_if_one_panics};

#[derive(Default)]
pub(crate) struct Waiters {
    /// How often all were woken. Written under the lock.
    round: AtomicU64,
    list: Mutex<List>,
}

#[derive(Default)]
struct List {
    wakers: Slab<Waker>,
    /// The emptied list of an earlier round, kept for its memory.
    spare: Slab<Waker>,
}

impl List {
    fn has_room_for_a_crowd(&self) -> bool {
        self.wakers.capacity().max(self.spare.capacity()) > CROWD
    }
}

/// A task's place in a list of waiters, void once the round is over.
pub(crate) struct Ticket {
    round: u64,
    key: usize,
}

impl Waiters {
    /// Puts the waker on the list, or in the place of the one the ticket stands for.
    ///
    /// After this the caller looks once more at what it waits for: whoever makes that true does
    /// so before calling [`wake_all`](Self::wake_all).
    pub(crate) fn wait(&self, ticket: &mut Option<Ticket>, waker: &Waker) {
        // Outside of the lock, as its drop would be.
        let mut waker = waker.clone();
        let mut list = self.list.lock();
        // Acquire: not needed under the lock that the writing is under, but it costs nothing.
        let round = self.round.load(Acquire);
        match ticket {
            Some(Ticket { round: of, key }) if *of == round => {
                mem::swap(&mut list.wakers[*key], &mut waker);
                drop(list);
                drop(waker);
            }
            _ => {
                let key = list.wakers.insert(waker);
                *ticket = Some(Ticket { round, key });
            }
        }
    }

    /// Orders what the caller did before against [`wake_all`](Self::wake_all): who calls that later sees it,
    /// and what was done before one that came earlier is seen by the caller.
    pub(crate) fn pass(&self) {
        drop(self.list.lock());
    }

    /// Wakes the ticket's task alone, which keeps its place.
    #[cold]
    pub(crate) fn wake_one(&self, ticket: &Ticket) {
        let mut waker = Waker::noop().clone();
        let mut list = self.list.lock();
        if self.round.load(Acquire) == ticket.round {
            mem::swap(&mut list.wakers[ticket.key], &mut waker);
        }
        drop(list);
        waker.wake();
    }

    /// Takes the waker off the list, if it is still there.
    #[inline]
    pub(crate) fn leave(&self, ticket: &mut Option<Ticket>) {
        if let Some(ticket) = ticket.take() {
            // Acquire: pairs with the Release in `wake_all`. Where we miss a round that has just
            // ended, the look under the lock does not.
            if self.round.load(Acquire) == ticket.round {
                self.remove(&ticket);
            }
        }
    }

    #[cold]
    fn remove(&self, ticket: &Ticket) {
        let mut list = self.list.lock();
        let waker = (self.round.load(Acquire) == ticket.round)
            .then(|| list.wakers.try_remove(ticket.key))
            .flatten();
        drop(list);
        drop(waker);
    }

    /// Wakes everybody on the list, each of them even if one panics.
    #[cold]
    pub(crate) fn wake_all(&self) {
        let mut list = self.list.lock();
        // Release: pairs with the Acquire in `leave`.
        self.round.store(self.round.load(Acquire) + 1, Release);
        // Apart from the others since it is so usual: a fifth of such a publish, measured.
        if list.wakers.len() == 1 && !list.has_room_for_a_crowd() {
            let mut waker = list.wakers.drain().next();
            drop(list);
            return even_if_it_panics(|| waker.take().into_iter().for_each(Waker::wake));
        }
        if list.wakers.len() <= FEW {
            let mut few = [const { None }; FEW];
            for (place, waker) in few.iter_mut().zip(list.wakers.drain()) {
                *place = Some(waker);
            }
            // A crowd that came once does not keep its memory for ever.
            let crowds = list.has_room_for_a_crowd().then(|| mem::take(&mut *list));
            drop(list);
            drop(crowds);
            return for_each_even_if_one_panics(few.into_iter().flatten(), Waker::wake);
        }

        let spare = mem::take(&mut list.spare);
        let mut woken = mem::replace(&mut list.wakers, spare);
        drop(list);
        // Neither here, where it is far less.
        let worth_keeping = woken.len() >= woken.capacity() / 4;
        for_each_even_if_one_panics(woken.drain(), Waker::wake);
        if worth_keeping {
            // What was there is dropped after the lock.
            mem::swap(&mut self.list.lock().spare, &mut woken);
        }
    }
}

/// So many are woken without the list changing hands, for which the lock is taken again.
const FEW: usize = 4;
/// A list with room for more is given up where few wait.
const CROWD: usize = 64;
