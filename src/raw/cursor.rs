//! A reader's place: an anchor that is counted and a walk ahead of it that is not.

use std::mem;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::link::Link;
use super::node::{Found, Hold, NodePtr};
use super::record::RecordRef;
use super::slot::{Onward, Place, Read, Slot, take_waker_of};
use crate::error::{RecvError, TryRecvError};
use crate::link::{Registration, TakeWaker};
use crate::unwind::{both_even_if_one_panics, even_if_it_panics};

/// How many slots a reader may be ahead of its anchor. Bounds what a reader in the middle of a
/// backlog pins behind itself; a reader that has caught up pins nothing.
const STRIDE: u32 = 32;

/// A reader's place. Every cursor counts as an observer of the buffers it will pass.
pub(crate) struct Cursor<T> {
    /// Keeps all that follows alive, `at` included.
    anchor: Hold<T>,
    at: Place<T>,
    ahead: u32,
    /// While the task waits for `at` to be written. It ends before `at` moves.
    registration: Option<Registration<RecordRef>>,
}

// SAFETY: the anchor is `Send + Sync` under these bounds, and `at` is a place that it keeps alive.
unsafe impl<T: Send + Sync> Send for Cursor<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Cursor<T> {}

impl<T> Cursor<T> {
    pub(crate) fn new(slot: Slot<T>) -> Self {
        slot.record().join();
        Self {
            at: slot.place(),
            anchor: slot.into_hold(),
            ahead: 0,
            registration: None,
        }
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
            match unsafe { self.at.node.read() } {
                Found::Item(events, _) => return Read::Item(events),
                Found::Nothing => return Read::Empty,
                Found::Last(next) => match self.go_on(next) {
                    Ok(()) => {}
                    Err(end) => return Read::End(end),
                },
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

    /// Shows the item here to `visit`, and goes on where that answers true. Nothing has happened
    /// if it panics.
    #[inline]
    pub(crate) fn visit<R>(
        &mut self,
        visit: impl FnOnce(&[T]) -> (R, bool),
    ) -> Result<R, TryRecvError> {
        loop {
            // SAFETY: the anchor keeps `at` alive.
            match unsafe { self.at.node.read() } {
                Found::Item(events, next) => {
                    // First: it may drop a waker, which is foreign.
                    self.stop_waiting();
                    // Anchor again now and then, and where the reader has caught up: it may wait
                    // long for the next item, or not come back soon. Before the visit: what is
                    // dropped here may panic.
                    // SAFETY: the anchor keeps what follows alive.
                    let is_last = !unsafe { next.is_written() };
                    if is_last || self.ahead >= STRIDE {
                        self.anchor_here();
                    }
                    let (answer, done) = visit(events);
                    if done {
                        self.at.node = next;
                        self.at.seq += 1;
                        self.ahead += 1;
                        if is_last {
                            self.anchor_here();
                        }
                    }
                    return Ok(answer);
                }
                Found::Nothing => return Err(TryRecvError::Empty),
                Found::Last(next) => self.go_on(next)?,
            }
        }
    }

    /// Goes over the splice that the buffer ends with here, to what it leads to.
    #[cold]
    fn go_on(&mut self, next: NodePtr<T>) -> Result<(), RecvError> {
        // SAFETY: the anchor keeps `at` alive.
        match unsafe { self.at.onward(next) } {
            Onward::Splice(place) => {
                self.stop_waiting();
                self.at = place;
                self.anchor_here();
                Ok(())
            }
            Onward::End(end) => {
                // It may be kept for long, and reads nothing more.
                self.stop_waiting();
                self.anchor_here();
                Err(end)
            }
        }
    }

    /// Goes over the item here without taking it.
    pub(crate) fn skip(&mut self) {
        // SAFETY: the anchor keeps `at` alive.
        if let Found::Item(_, next) = unsafe { self.at.node.read() } {
            self.stop_waiting();
            self.at.node = next;
            self.at.seq += 1;
            self.ahead += 1;
            if self.ahead >= STRIDE || !self.is_written() {
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
            match unsafe { self.at.node.read() } {
                Found::Item(_, next) => {
                    self.stop_waiting();
                    // SAFETY: the anchor keeps what follows alive.
                    let anchor = unsafe { next.hold() };
                    let taken = Slot::from_hold(mem::replace(&mut self.anchor, anchor), self.at);
                    self.at.node = next;
                    self.at.seq += 1;
                    return Ok(taken);
                }
                Found::Nothing => return Err(TryRecvError::Empty),
                Found::Last(next) => self.go_on(next)?,
            }
        }
    }

    /// Whether the buffer has ended here and goes on in another.
    pub(crate) fn is_at_a_splice(&self) -> bool {
        // SAFETY: the anchor keeps `at` alive.
        let found = unsafe { self.at.node.read() };
        matches!(found, Found::Last(next) if next != self.at.node)
    }

    /// Goes to a place further on, and answers the one left, which keeps all in between alive.
    pub(crate) fn jump(&mut self, to: Slot<T>) -> Slot<T> {
        let left = self.slot();
        self.stop_waiting();
        self.ahead = 0;
        self.at = to.place();
        self.anchor = to.into_hold();
        left
    }

    /// A walk over all that is ready now.
    pub(crate) fn walk(&mut self) -> Walk<'_, T> {
        self.stop_waiting();
        self.anchor_here();
        Walk {
            // SAFETY: the anchor keeps `at` alive.
            left: unsafe { self.at.record() }.behind(self.at.seq),
            cursor: self,
            over: false,
        }
    }

    /// Moves the anchor to the place of reading, which frees what only it kept alive.
    #[inline]
    pub(crate) fn anchor_here(&mut self) {
        if self.anchor.as_ptr() != self.at.node {
            self.move_anchor();
        }
    }

    #[inline(never)]
    fn move_anchor(&mut self) {
        self.ahead = 0;
        if mem::needs_drop::<T>() {
            // Each step drops payloads, and leaves the anchor further on also where one panics.
            even_if_it_panics(|| self.move_anchor_on());
        } else {
            self.move_anchor_on();
        }
    }

    #[inline]
    fn move_anchor_on(&mut self) {
        let here = self.at.node;
        // Where we are the last reader we take over the links' references.
        while self.anchor.as_ptr() != here && self.anchor.consume() {}
        if self.anchor.as_ptr() != here {
            // SAFETY: the anchor keeps `at` alive.
            let anchor = unsafe { here.hold() };
            drop(mem::replace(&mut self.anchor, anchor));
        }
    }

    #[inline]
    fn is_written(&self) -> bool {
        // SAFETY: the anchor keeps `at` alive.
        unsafe { self.at.node.is_written() }
    }

    /// Polls the listener of the link that is read next: `Ready` if there is something to read. A reader that
    /// waits keeps nothing behind its place alive.
    pub(crate) fn poll_link(&mut self, waker: &Waker) -> Poll<()> {
        self.anchor_here();
        let hold = &self.anchor;
        // SAFETY: the anchor keeps `at` alive.
        let record = unsafe { self.at.record() };
        // SAFETY: the registration ends before the cursor leaves this buffer (`stop_waiting`) or is dropped; until
        // then the anchor keeps the record alive.
        let host = || unsafe { RecordRef::new(record) };
        Registration::poll(&mut self.registration, &Link { hold, record }, host, waker)
    }

    /// A way to take the waker of the task that waits here, if one does.
    pub(crate) fn take_waker(&self) -> Option<TakeWaker> {
        let ticket = self.registration.as_ref()?.ticket();
        Some(take_waker_of(Arc::downgrade(&self.slot().owner()), ticket))
    }

    /// Ends the registration of a task that waited here.
    #[inline]
    pub(crate) fn stop_waiting(&mut self) {
        if self.registration.is_some() {
            self.registration = None;
        }
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
        let record = unsafe { self.at.record() };
        let Some(registration) = self.registration.take() else {
            return record.leave();
        };
        // One may wake tasks that wait for the last observer to leave, the other drops a waker: both may panic.
        both_even_if_one_panics(|| record.leave(), || drop(registration));
    }
}

/// A walk over the items that were ready when it began, lending them. The cursor goes along; its
/// anchor stays where the walk began, so that what was lent stays alive.
pub(crate) struct Walk<'a, T> {
    cursor: &'a mut Cursor<T>,
    /// How many items of the buffer that the cursor is in were ready.
    left: u64,
    /// It has come to a slot that is empty: nothing more, whatever comes.
    over: bool,
}

impl<'a, T> Iterator for Walk<'a, T> {
    type Item = &'a [T];

    #[inline]
    fn next(&mut self) -> Option<&'a [T]> {
        loop {
            // SAFETY: the cursor is borrowed for 'a, and its anchor does not move.
            match unsafe { self.cursor.at.node.read() } {
                Found::Item(events, next) => {
                    self.left = self.left.checked_sub(1)?;
                    self.cursor.at.node = next;
                    self.cursor.at.seq += 1;
                    self.cursor.ahead += 1;
                    return Some(events);
                }
                Found::Nothing => {
                    // Counted, it may be, but not there yet.
                    self.left = 0;
                    self.over = true;
                    return None;
                }
                Found::Last(next) => self.go_on(next)?,
            }
        }
    }
}

impl<T> Walk<'_, T> {
    /// As [`Cursor::go_on`], but the anchor stays.
    #[cold]
    fn go_on(&mut self, next: NodePtr<T>) -> Option<()> {
        if self.over {
            return None;
        }
        let at = &mut self.cursor.at;
        // SAFETY: the cursor's anchor keeps `at` alive, and all that follows.
        match unsafe { at.onward(next) } {
            Onward::Splice(place) => {
                *at = place;
                // SAFETY: as above.
                self.left = unsafe { at.record() }.behind(at.seq);
                Some(())
            }
            Onward::End(_) => None,
        }
    }
}
