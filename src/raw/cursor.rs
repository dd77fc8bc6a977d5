//! A reader's place: an anchor that is counted and a walk ahead of it that is not.

use std::mem;

use event_listener::Event;

use crate::error::TryRecvError;

use super::slot::{Place, Read, Slot, Step};

/// How many slots a reader may be ahead of its anchor. Bounds what a reader in the middle of a
/// backlog pins behind itself; a reader that has caught up pins nothing.
const STRIDE: u32 = 32;

/// A reader's place. Every cursor counts as an observer of the buffers it will pass.
pub(crate) struct Cursor<T> {
    /// Keeps itself and all that follows alive, `at` included.
    anchor: Slot<T>,
    at: Place<T>,
    ahead: u32,
}

// SAFETY: the anchor is `Send + Sync` under these bounds, and `at` is a place that it keeps alive.
unsafe impl<T: Send + Sync> Send for Cursor<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Cursor<T> {}

impl<T> Cursor<T> {
    pub(crate) fn new(anchor: Slot<T>) -> Self {
        anchor.record().join();
        let at = anchor.place();
        let ahead = 0;
        Self { anchor, at, ahead }
    }

    /// The slot that is read next, counted.
    pub(crate) fn slot(&self) -> Slot<T> {
        // SAFETY: the anchor keeps `at` alive.
        unsafe { Slot::new(self.at) }
    }

    /// What stands here. Goes over splices.
    #[inline]
    pub(crate) fn read(&mut self) -> Read<'_, T> {
        loop {
            // SAFETY: the anchor keeps `at` alive.
            match unsafe { self.at.read() } {
                Step::Empty => return Read::Empty,
                Step::Item(events, _) => return Read::Item(events),
                Step::End(error) => return Read::End(error),
                Step::Splice(place) => self.cross(place),
            }
        }
    }

    /// The item here; `None` where there is none (yet).
    pub(crate) fn peek_item(&mut self) -> Option<&[T]> {
        match self.read() {
            Read::Item(events) => Some(events),
            Read::Empty | Read::End(_) => None,
        }
    }

    #[cold]
    fn cross(&mut self, place: Place<T>) {
        // SAFETY: the anchor keeps `at` alive.
        unsafe { self.at.record() }.cross();
        self.at = place;
        self.anchor_here();
    }

    /// Goes over the item here without taking it.
    #[inline]
    pub(crate) fn skip(&mut self) {
        // SAFETY: the anchor keeps `at` alive.
        if let Step::Item(_, next) = unsafe { self.at.read() } {
            self.at = next;
            self.ahead += 1;
            // Anchor again now and then, and at once where the reader has caught up: it may wait
            // long for the next item, or not come back soon.
            // SAFETY: the anchor keeps `at` alive.
            if self.ahead >= STRIDE || unsafe { self.at.node.read() }.is_none() {
                self.anchor_here();
            }
        }
    }

    /// Takes the item here and goes on; the cursor's reference becomes the item's.
    #[inline]
    pub(crate) fn take(&mut self) -> Result<Slot<T>, TryRecvError> {
        self.anchor_here();
        loop {
            // SAFETY: the anchor keeps `at` alive.
            match unsafe { self.at.read() } {
                Step::Item(_, next) => {
                    self.at = next;
                    // SAFETY: the anchor keeps what follows alive.
                    let anchor = unsafe { Slot::new(next) };
                    return Ok(mem::replace(&mut self.anchor, anchor));
                }
                Step::Empty => return Err(TryRecvError::Empty),
                Step::End(error) => return Err(error.into()),
                Step::Splice(place) => self.cross(place),
            }
        }
    }

    /// Goes over all that is ready, lending it. What is lent stays alive as long as the borrow.
    pub(crate) fn take_ready(&mut self) -> Walk<'_, T> {
        self.anchor_here();
        let start = self.at;
        let mut walk = self.at;
        loop {
            // SAFETY: the anchor keeps all that follows it alive.
            match unsafe { walk.read() } {
                Step::Item(_, next) => walk = next,
                Step::Splice(place) => {
                    // SAFETY: as above.
                    unsafe { walk.record() }.cross();
                    walk = place;
                }
                Step::Empty | Step::End(_) => break,
            }
        }
        self.at = walk;
        // The anchor stays where the walk begins until the next call.
        Walk {
            at: start,
            end: walk,
            _anchor: self,
        }
    }

    /// Moves the anchor to the place of reading, which frees what only it kept alive.
    #[inline]
    pub(crate) fn anchor_here(&mut self) {
        if self.anchor.place().node != self.at.node {
            // In two steps: dropping the old anchor may run (and panic in) a `T`'s drop.
            let anchor = self.slot();
            let passed = mem::replace(&mut self.anchor, anchor);
            self.ahead = 0;
            drop(passed);
        }
    }

    #[inline]
    pub(crate) fn is_written(&self) -> bool {
        // SAFETY: the anchor keeps `at` alive.
        unsafe { self.at.node.read() }.is_some()
    }

    /// The event to listen to. After listening look at [`is_written`](Self::is_written) again.
    /// To be called after [`anchor_here`](Self::anchor_here), so that waiting pins nothing.
    pub(crate) fn announce_waiter(&self) -> &Event {
        debug_assert!(self.anchor.place().node == self.at.node);
        self.anchor.announce_waiter()
    }

    pub(crate) fn lag(&self) -> u64 {
        // SAFETY: the anchor keeps `at` alive.
        unsafe { self.at.record() }.lag(self.at.seq)
    }
}

impl<T> Clone for Cursor<T> {
    fn clone(&self) -> Self {
        Self::new(self.slot())
    }
}

impl<T> Drop for Cursor<T> {
    fn drop(&mut self) {
        // SAFETY: the anchor keeps `at` alive.
        unsafe { self.at.record() }.leave();
    }
}

/// A walk over items that a borrowed cursor keeps alive.
pub(crate) struct Walk<'a, T> {
    at: Place<T>,
    end: Place<T>,
    _anchor: &'a Cursor<T>,
}

impl<T> Clone for Walk<'_, T> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

// SAFETY: a walk gives `&T`s and holds places that the borrowed cursor keeps alive.
unsafe impl<T: Sync + Send> Send for Walk<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Sync + Send> Sync for Walk<'_, T> {}

impl<'a, T> Iterator for Walk<'a, T> {
    type Item = &'a [T];

    #[inline]
    fn next(&mut self) -> Option<&'a [T]> {
        while self.at.node != self.end.node {
            // SAFETY: the anchor of the cursor borrowed for 'a keeps the walk alive.
            match unsafe { self.at.read() } {
                Step::Item(events, next) => {
                    self.at = next;
                    return Some(events);
                }
                Step::Splice(place) => self.at = place,
                Step::Empty | Step::End(_) => return None,
            }
        }
        None
    }
}
