//! A reader's position in the list.

use std::task::{Poll, Waker};

use super::anchored::Anchored;
use super::place::{Continuation, NodePtr, NodeRef, NodeState, PlaceRef, Read};
use super::weak_place::WeakPlace;
use crate::error::{RecvError, TryRecvError};
use crate::link::Ticket;
use crate::unwind::Steps;

/// How many slots a reader may be ahead of its anchor.
///
/// This bounds what a reader in the middle of a backlog keeps alive behind itself. A reader that
/// has caught up keeps nothing behind itself.
const STRIDE: u64 = 32;

/// A reader's position: the slot it reads next, and how much of that item it has received.
///
/// Each cursor counts as an observer of the buffer it is in, and of those which that leads to.
///
/// The fields stay in this order. Each step adds one to `progress` and to the number in `at`. Side
/// by side, the compiler would add to both as to a vector and wait for the stores of the step
/// before, which doubles the time of a step.
#[repr(C)]
pub(crate) struct Cursor<T, L> {
    pub(super) progress: Advance,
    pub(super) at: Anchored<T, L>,
    /// The task's registration with the waiters of this buffer, while the task waits for the slot
    /// at `at`. It ends before `at` moves.
    ticket: Option<Ticket>,
}

/// How many events of the current item have been given, and how far the anchor is behind.
///
/// Both in one word: the events given, fewer than the item has, in the upper bits, and the steps
/// taken since the last anchoring, at most [`STRIDE`], in the lowest eight.
#[derive(Clone, Copy, Default)]
pub(super) struct Advance(u64);

impl Advance {
    const ONE_GIVEN: u64 = 1 << 8;

    fn new(given: usize) -> Self {
        Self(given as u64 * Self::ONE_GIVEN)
    }

    #[inline]
    pub(super) fn given(self) -> usize {
        // It was made of a `usize`.
        #[allow(clippy::cast_possible_truncation)]
        let given = (self.0 / Self::ONE_GIVEN) as usize;
        given
    }

    #[inline]
    pub(super) fn give(&mut self, events: usize) {
        self.0 += events as u64 * Self::ONE_GIVEN;
    }

    /// Counts no event of the current item as given.
    #[inline]
    pub(super) fn begin_item(&mut self) {
        self.0 %= Self::ONE_GIVEN;
    }

    #[inline]
    fn step(&mut self) {
        debug_assert_eq!(self.given(), 0);
        self.0 += 1;
    }

    /// Makes the next read move the anchor.
    pub(super) fn be_far_ahead(&mut self) {
        self.anchor();
        self.0 += STRIDE;
    }

    #[inline]
    fn is_far_ahead(self) -> bool {
        self.0 % Self::ONE_GIVEN >= STRIDE
    }

    /// Notes that the anchor is at the place now.
    #[inline]
    fn anchor(&mut self) {
        self.0 -= self.0 % Self::ONE_GIVEN;
    }
}

impl<T, L> Cursor<T, L> {
    /// Places a reader at `place`, which counts it as an observer.
    pub(crate) fn new(place: PlaceRef<T, L>) -> Self {
        place.shared().add_observer();
        Self {
            at: Anchored::new(place),
            progress: Advance::default(),
            ticket: None,
        }
    }

    /// Places a reader in the middle of an item, of which it has received `given` events.
    pub(crate) fn at(place: PlaceRef<T, L>, given: usize) -> Self {
        let mut cursor = Self::new(place);
        cursor.progress = Advance::new(given);
        cursor
    }

    /// Returns the slot that is read next, and how many events of its item have been given.
    pub(crate) fn place(&self) -> (PlaceRef<T, L>, usize) {
        (self.place_ref(), self.progress.given())
    }

    /// Returns the place of the item of which events were given last.
    pub(crate) fn item_in_hand(&self) -> WeakPlace<L> {
        let here = self.place_ref().downgrade();
        if self.progress.given() > 0 {
            here
        } else {
            here.before()
        }
    }

    /// Returns the slot that is read next, with a reference of its own.
    pub(crate) fn place_ref(&self) -> PlaceRef<T, L> {
        self.at.place_ref()
    }

    /// Returns what there is to read. Follows splices.
    #[inline]
    pub(crate) fn read(&mut self) -> Read {
        loop {
            match self.at.read() {
                NodeState::Item(..) => return Read::Item,
                NodeState::Nothing => return Read::Empty,
                NodeState::Last(next) => match self.follow_splice(next) {
                    Ok(()) => {}
                    Err(end) => return Read::End(end),
                },
            }
        }
    }

    /// Shows the next event to `visit`, and counts it as given. If `visit` panics, nothing has
    /// happened.
    ///
    /// In the middle of a backlog of single events, and if nothing is ready, this is a few
    /// instructions: most steps neither move the anchor nor end a registration.
    #[inline(always)]
    #[allow(
        clippy::inline_always,
        reason = "half of a read of what is ready, measured"
    )]
    pub(crate) fn visit<R>(&mut self, visit: impl FnOnce(&T) -> R) -> Result<R, TryRecvError> {
        if self.ticket.is_none() {
            match self.at.read() {
                NodeState::Item([event], next)
                    if !self.progress.is_far_ahead() && self.at.is_written(next) =>
                {
                    let visited = visit(event);
                    self.progress.step();
                    self.step(next);
                    return Ok(visited);
                }
                NodeState::Nothing => return Err(TryRecvError::Empty),
                NodeState::Item(..) | NodeState::Last(_) => {}
            }
        }
        self.visit_next(visit)
    }

    #[inline(never)]
    fn visit_next<R>(&mut self, visit: impl FnOnce(&T) -> R) -> Result<R, TryRecvError> {
        self.visit_rest(|events, taken| {
            *taken = 1;
            visit(&events[0])
        })
    }

    /// Shows `visit` the events of the item here that have not been given. `visit` sets how many of
    /// them it takes, at least one. If it panics, nothing has happened.
    #[inline(always)]
    #[allow(
        clippy::inline_always,
        reason = "a fifth of a read of what is ready, counted"
    )]
    pub(crate) fn visit_rest<R>(
        &mut self,
        visit: impl FnOnce(&[T], &mut usize) -> R,
    ) -> Result<R, TryRecvError> {
        loop {
            // SAFETY: while the events are used, the anchor moves no further than to this slot.
            match unsafe { self.at.read_for() } {
                NodeState::Item(events, next) => {
                    // First, since it may drop a waker, which is user code.
                    self.stop_waiting();
                    // Anchor every STRIDE items, and if this is the newest item: the reader may
                    // then wait for long, or not come back soon. Before the visit, since the drop
                    // of what is freed here may panic, and would cost the visitor's result.
                    let is_newest = !self.at.is_written(next);
                    if is_newest || self.progress.is_far_ahead() {
                        self.anchor_here();
                    }
                    // Most items are one event, of which nothing has been given.
                    let visited = if let [_] = events {
                        visit(events, &mut 0)
                    } else {
                        let mut taken = 0;
                        let visited = visit(&events[self.progress.given()..], &mut taken);
                        self.progress.give(taken);
                        if self.progress.given() < events.len() {
                            return Ok(visited);
                        }
                        self.progress.begin_item();
                        visited
                    };
                    self.progress.step();
                    self.step(next);
                    // A reader that has caught up does not keep the item it has just received.
                    if is_newest {
                        self.anchor_here();
                    }
                    return Ok(visited);
                }
                NodeState::Nothing => return Err(TryRecvError::Empty),
                NodeState::Last(next) => self.follow_splice(next)?,
            }
        }
    }

    /// Leaves the item here, all of whose events are given or skipped, for the slot at `next`.
    #[inline]
    pub(super) fn step(&mut self, next: NodePtr<T, L>) {
        debug_assert_eq!(self.progress.given(), 0);
        self.at.step(next);
    }

    /// Follows the splice with which the buffer ends here.
    ///
    /// # Errors
    ///
    /// How the buffer has ended, if it does not continue in another one.
    #[cold]
    fn follow_splice(&mut self, next: NodePtr<T, L>) -> Result<(), RecvError> {
        // Before the place moves: the ticket belongs to the buffer that is left.
        self.stop_waiting();
        let continuation = self.at.follow(next);
        // At an end, too: a reader may be kept for long after it, and reads nothing more.
        self.anchor_here();
        match continuation {
            Continuation::Splice(_) => Ok(()),
            Continuation::End(end) => Err(end),
        }
    }

    /// Skips everything that is ready.
    ///
    /// # Cost
    ///
    /// O(items in a block of memory) for each buffer on the way, however long the backlog is.
    pub(crate) fn skip_ready(&mut self) {
        self.stop_waiting();
        loop {
            // The writer notes its last slot with each block, so the walk from there is short.
            self.at.jump_to_recent();
            self.progress.begin_item();
            let next = loop {
                match self.at.read() {
                    NodeState::Item(_, next) => self.step(next),
                    NodeState::Nothing => return self.anchor_here(),
                    NodeState::Last(next) => break next,
                }
            };
            if self.follow_splice(next).is_err() {
                return;
            }
        }
    }

    /// Takes the item here and moves past it. The cursor's reference becomes the item's.
    ///
    /// The item is taken whole, even if some of its events have been given.
    #[inline(always)]
    #[allow(
        clippy::inline_always,
        reason = "a third of a read of what is ready, measured"
    )]
    pub(crate) fn take(&mut self) -> Result<PlaceRef<T, L>, TryRecvError> {
        self.anchor_here();
        loop {
            match self.at.read() {
                NodeState::Item(_, next) => {
                    self.stop_waiting();
                    let taken = self.at.split_off(next);
                    self.progress = Advance::default();
                    return Ok(taken);
                }
                NodeState::Nothing => return Err(TryRecvError::Empty),
                NodeState::Last(next) => self.follow_splice(next)?,
            }
        }
    }

    /// Returns `true` if the buffer has ended here and continues in another.
    pub(crate) fn is_at_a_splice(&self) -> bool {
        self.at.is_at_a_splice()
    }

    /// Moves to a place further on, while no task waits here.
    ///
    /// Returns the reference that kept the old place, and everything up to the new one: dropping it
    /// runs user code.
    pub(super) fn jump(&mut self, to: PlaceRef<T, L>) -> NodeRef<T, L> {
        debug_assert!(self.ticket.is_none());
        self.progress = Advance::default();
        self.at.jump(to)
    }

    /// Moves the anchor to the place, which frees what only it kept alive.
    #[inline]
    pub(crate) fn anchor_here(&mut self) {
        if !self.at.is_anchored_here() {
            self.move_anchor();
        }
    }

    #[inline(never)]
    fn move_anchor(&mut self) {
        self.progress.anchor();
        self.at.anchor_here();
    }

    /// Registers the task for the slot that is read next: `Ready` if there is something to read.
    ///
    /// A reader that waits keeps nothing before its place alive.
    pub(crate) fn poll_link(&mut self, waker: &Waker) -> Poll<()> {
        self.anchor_here();
        Ticket::poll(&mut self.ticket, &self.at.link(), waker)
    }

    /// Ends the registration of the task that waits here, and returns its waker.
    pub(crate) fn take_waker(&mut self) -> Option<Waker> {
        let ticket = self.ticket.take()?;
        let waiters = self.at.shared().waiters();
        let waker = waiters.take_waker(ticket);
        // The waker is out, so this drops nothing of the user's.
        waiters.leave(ticket);
        Some(waker)
    }

    /// Ends the registration of a task that has waited here, if there is one.
    #[inline]
    pub(crate) fn stop_waiting(&mut self) {
        // `Option::take` would write to the field each time.
        let Some(ticket) = self.ticket else { return };
        self.ticket = None;
        // The place has not moved since the task was registered, so these are its waiters.
        self.at.shared().waiters().leave(ticket);
    }

    /// Returns `true` if nothing more will be published in the buffers ahead.
    pub(crate) fn has_ended(&self) -> bool {
        self.at.shared().has_ended()
    }

    /// Returns how many items are ready.
    pub(crate) fn lag(&self) -> u64 {
        self.at.shared().lag(self.at.seq())
    }
}

impl<T, L> Cursor<T, L> {
    /// Ends the registration of the task that waits here, and stops being an observer.
    #[cold]
    fn leave_waiting(&self, ticket: Ticket) {
        let shared = self.at.shared();
        // Both run user code: the first may wake tasks that wait for the last observer to leave,
        // the second drops a waker.
        let mut steps = Steps::new();
        steps.take(|| shared.remove_observer());
        steps.take(|| shared.waiters().leave(ticket));
        steps.finish();
    }
}

impl<T, L> Drop for Cursor<T, L> {
    fn drop(&mut self) {
        match self.ticket.take() {
            None => self.at.shared().remove_observer(),
            Some(ticket) => self.leave_waiting(ticket),
        }
    }
}
