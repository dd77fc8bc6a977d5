//! A reader's place: an anchor that is counted and a walk ahead of it that is not.

use std::mem;
use std::slice;
use std::task::{Poll, Waker};

use super::node::{NodePtr, NodeRef, NodeState};
use super::node_link::Link;
use super::place::{Continuation, Place, PlaceRef, Read};
use super::weak_place::WeakPlace;
use crate::error::{RecvError, TryRecvError};
use crate::link::Ticket;
use crate::unwind::{both_even_if_one_panics, even_if_it_panics};

/// How many slots a reader may be ahead of its anchor. Bounds what a reader in the middle of a
/// backlog pins behind itself; a reader that has caught up pins nothing.
const STRIDE: u64 = 32;

/// A reader's place. Every cursor counts as an observer of the buffers it will pass.
pub(crate) struct Cursor<T> {
    /// Keeps all that follows alive, `at` included.
    anchor: NodeRef<T>,
    at: Place<T>,
    progress: Advance,
    /// While the task waits for `at` to be written, among the waiters of the record. It ends before `at` moves.
    ticket: Option<Ticket>,
}

/// Two numbers in one word: how many events of the item at a cursor have been given already, less than it has, and how
/// many steps the cursor is ahead of its anchor, at most [`STRIDE`].
#[derive(Clone, Copy, Default)]
struct Advance(u64);

impl Advance {
    const ONE_GIVEN: u64 = 1 << 8;

    fn new(given: usize) -> Self {
        Self(given as u64 * Self::ONE_GIVEN)
    }

    #[inline]
    fn given(self) -> usize {
        // It was one.
        #[allow(clippy::cast_possible_truncation)]
        let given = (self.0 / Self::ONE_GIVEN) as usize;
        given
    }

    #[inline]
    fn give(&mut self, events: usize) {
        self.0 += events as u64 * Self::ONE_GIVEN;
    }

    /// None of the events of the item here have been given.
    #[inline]
    fn begin_item(&mut self) {
        self.0 %= Self::ONE_GIVEN;
    }

    #[inline]
    fn step(&mut self) {
        debug_assert_eq!(self.given(), 0);
        self.0 += 1;
    }

    /// Has come as far from the anchor as it may.
    fn be_far_ahead(&mut self) {
        self.anchor();
        self.0 += STRIDE;
    }

    #[inline]
    fn is_far_ahead(self) -> bool {
        self.0 % Self::ONE_GIVEN >= STRIDE
    }

    #[inline]
    fn anchor(&mut self) {
        self.0 -= self.0 % Self::ONE_GIVEN;
    }
}

// SAFETY: the anchor is `Send + Sync` under these bounds, and `at` is a place that it keeps alive.
unsafe impl<T: Send + Sync> Send for Cursor<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Cursor<T> {}

impl<T> Cursor<T> {
    pub(crate) fn new(place: PlaceRef<T>) -> Self {
        place.shared().add_observer();
        Self {
            at: place.place(),
            anchor: place.into_node_ref(),
            progress: Advance::default(),
            ticket: None,
        }
    }

    /// A reader in the midst of an item, of which it has been given that many events.
    pub(crate) fn at(place: PlaceRef<T>, given: usize) -> Self {
        let mut cursor = Self::new(place);
        cursor.progress = Advance::new(given);
        cursor
    }

    /// The slot that is read next, and how many events of its item have been given.
    pub(crate) fn place(&self) -> (PlaceRef<T>, usize) {
        (self.slot(), self.progress.given())
    }

    /// The item of which events were given last.
    pub(crate) fn item_in_hand(&self) -> WeakPlace<T> {
        let here = self.slot().mark();
        if self.progress.given() > 0 {
            here
        } else {
            here.before()
        }
    }

    /// The slot that is read next, counted.
    pub(crate) fn slot(&self) -> PlaceRef<T> {
        // SAFETY: the anchor keeps `at` alive.
        unsafe { PlaceRef::new(self.at) }
    }

    /// What stands here. Goes over splices.
    #[inline]
    pub(crate) fn read(&mut self) -> Read {
        loop {
            // SAFETY: the anchor keeps `at` alive.
            match unsafe { self.at.node.read() } {
                NodeState::Item(..) => return Read::Item,
                NodeState::Nothing => return Read::Empty,
                NodeState::Last(next) => match self.follow_splice(next) {
                    Ok(()) => {}
                    Err(end) => return Read::End(end),
                },
            }
        }
    }

    /// Shows the next event to `visit`, and counts it as given. Nothing has happened if it panics.
    ///
    /// In the midst of a backlog of single events, which is nothing but a step for most of them, and where nothing is
    /// ready, this is a few instructions.
    #[inline]
    pub(crate) fn visit<R>(&mut self, visit: impl FnOnce(&T) -> R) -> Result<R, TryRecvError> {
        if self.ticket.is_none() {
            // SAFETY: the anchor keeps `at` alive.
            match unsafe { self.at.node.read() } {
                NodeState::Item([event], next)
                    if !self.progress.is_far_ahead()
                        // SAFETY: the anchor keeps what follows alive.
                        && unsafe { next.is_written() } =>
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

    /// Shows the events of the item here that have not been given to `visit`, which says how many of these it takes:
    /// at least one. Nothing has happened if it panics.
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
            // SAFETY: the anchor keeps `at` alive.
            match unsafe { self.at.node.read() } {
                NodeState::Item(events, next) => {
                    // First: it may drop a waker, which is user code.
                    self.stop_waiting();
                    // Anchor again now and then, and where the reader has caught up: it may wait
                    // long for the next item, or not come back soon. Before the visit: what is
                    // dropped here may panic.
                    // SAFETY: the anchor keeps what follows alive.
                    let is_last = !unsafe { next.is_written() };
                    if is_last || self.progress.is_far_ahead() {
                        self.anchor_here();
                    }
                    // Mostly an item is one event.
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
                    if is_last {
                        self.anchor_here();
                    }
                    return Ok(visited);
                }
                NodeState::Nothing => return Err(TryRecvError::Empty),
                NodeState::Last(next) => self.follow_splice(next)?,
            }
        }
    }

    /// Leaves the item here, of which no events count as given any more, for the one at `next`.
    #[inline]
    fn step(&mut self, next: NodePtr<T>) {
        debug_assert_eq!(self.progress.given(), 0);
        self.at.node = next;
        self.at.seq += 1;
    }

    /// Goes over the splice that the buffer ends with here, to what it leads to.
    #[cold]
    fn follow_splice(&mut self, next: NodePtr<T>) -> Result<(), RecvError> {
        // SAFETY: the anchor keeps `at` alive.
        match unsafe { self.at.continuation(next) } {
            Continuation::Splice(place) => {
                self.stop_waiting();
                self.at = place;
                self.anchor_here();
                Ok(())
            }
            Continuation::End(end) => {
                // It may be kept for long, and reads nothing more.
                self.stop_waiting();
                self.anchor_here();
                Err(end)
            }
        }
    }

    /// Goes over everything that is ready without taking it: O(items in a block of memory) for each buffer that it
    /// comes through.
    pub(crate) fn skip_ready(&mut self) {
        self.stop_waiting();
        loop {
            // SAFETY: the anchor keeps `at` alive.
            if let Some(recent) = unsafe { self.at.recent() } {
                self.at = recent;
            }
            self.progress.begin_item();
            let next = loop {
                // SAFETY: the anchor keeps `at` alive, and what comes after it.
                match unsafe { self.at.node.read() } {
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

    /// Takes the item here, whole even if some of its events were given, and leaves it; the cursor's reference becomes
    /// the item's.
    #[inline(always)]
    #[allow(
        clippy::inline_always,
        reason = "a third of a read of what is ready, measured"
    )]
    pub(crate) fn take(&mut self) -> Result<PlaceRef<T>, TryRecvError> {
        self.anchor_here();
        loop {
            // SAFETY: the anchor keeps `at` alive.
            match unsafe { self.at.node.read() } {
                NodeState::Item(_, next) => {
                    self.stop_waiting();
                    // SAFETY: the anchor keeps what follows alive.
                    let anchor = unsafe { next.acquire() };
                    let taken =
                        PlaceRef::from_node_ref(mem::replace(&mut self.anchor, anchor), self.at);
                    self.at.node = next;
                    self.at.seq += 1;
                    self.progress = Advance::default();
                    return Ok(taken);
                }
                NodeState::Nothing => return Err(TryRecvError::Empty),
                NodeState::Last(next) => self.follow_splice(next)?,
            }
        }
    }

    /// Whether the buffer has ended here and goes on in another.
    pub(crate) fn is_at_a_splice(&self) -> bool {
        // SAFETY: the anchor keeps `at` alive.
        let found = unsafe { self.at.node.read() };
        matches!(found, NodeState::Last(next) if next != self.at.node)
    }

    /// Goes to a place further on. No task waits here. Returns what kept the place that was left, and all up to the new
    /// one: dropping it runs user code.
    pub(super) fn jump(&mut self, to: PlaceRef<T>) -> NodeRef<T> {
        debug_assert!(self.ticket.is_none());
        self.progress = Advance::default();
        self.at = to.place();
        mem::replace(&mut self.anchor, to.into_node_ref())
    }

    /// A walk over all that is ready now.
    pub(crate) fn walk(&mut self) -> Walk<'_, T> {
        self.stop_waiting();
        self.anchor_here();
        // The next read frees what was lent.
        self.progress.be_far_ahead();
        // SAFETY: the anchor keeps `at` alive.
        let left = unsafe { self.at.shared() }.published_since(self.at.seq);
        Walk {
            item: [].iter(),
            next: self.at.node,
            cursor: self,
            left,
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
        self.progress.anchor();
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
            let anchor = unsafe { here.acquire() };
            drop(mem::replace(&mut self.anchor, anchor));
        }
    }

    /// Polls the listener of the link that is read next: `Ready` if there is something to read. A reader that
    /// waits keeps nothing behind its place alive.
    pub(crate) fn poll_link(&mut self, waker: &Waker) -> Poll<()> {
        self.anchor_here();
        let node = &self.anchor;
        // SAFETY: the anchor keeps `at` alive.
        let shared = unsafe { self.at.shared() };
        Ticket::poll(&mut self.ticket, &Link { node, shared }, waker)
    }

    /// Ends the registration of the task that waits here, and returns its waker.
    pub(crate) fn take_waker(&mut self) -> Option<Waker> {
        let ticket = self.ticket.take()?;
        // SAFETY: the anchor keeps `at` alive.
        let waiters = unsafe { self.at.shared() }.waiters();
        let waker = waiters.take_waker(ticket);
        // Nothing of the user is dropped with the task now.
        waiters.leave(ticket);
        Some(waker)
    }

    /// Ends the registration of a task that waited here.
    #[inline]
    pub(crate) fn stop_waiting(&mut self) {
        // Not `take`, which would store to it each time.
        let Some(ticket) = self.ticket else { return };
        self.ticket = None;
        // SAFETY: the anchor keeps `at` alive, which has not moved since the task was registered.
        unsafe { self.at.shared() }.waiters().leave(ticket);
    }

    /// Returns `true` if nothing more will be published where it leads to.
    pub(crate) fn has_ended(&self) -> bool {
        // SAFETY: the anchor keeps `at` alive.
        unsafe { self.at.shared() }.has_ended()
    }

    pub(crate) fn lag(&self) -> u64 {
        // SAFETY: the anchor keeps `at` alive.
        unsafe { self.at.shared() }.lag(self.at.seq)
    }
}

impl<T> Drop for Cursor<T> {
    fn drop(&mut self) {
        // SAFETY: the anchor keeps `at` alive.
        let shared = unsafe { self.at.shared() };
        let Some(ticket) = self.ticket.take() else {
            return shared.remove_observer();
        };
        // One may wake tasks that wait for the last observer to leave, the other drops a waker: both may panic.
        both_even_if_one_panics(
            || shared.remove_observer(),
            || shared.waiters().leave(ticket),
        );
    }
}

/// A walk over the events that were ready when it began, lending them. The cursor moves with it, event by event, so
/// that it can be left anywhere; the anchor stays where the walk began, which keeps what was lent alive.
pub(crate) struct Walk<'a, T> {
    cursor: &'a mut Cursor<T>,
    /// What is left of the item that the cursor is at, while its events are being lent; then none.
    item: slice::Iter<'a, T>,
    /// The node after that item.
    next: NodePtr<T>,
    /// How many more items of the buffer that the cursor is in were ready.
    left: u64,
    /// It has come to a slot that is empty: nothing more, whatever comes.
    over: bool,
}

// SAFETY: it lends `&T`s and moves the cursor, which is `Send` under these bounds; `next` is a node that the cursor's
// anchor keeps alive.
unsafe impl<T: Send + Sync> Send for Walk<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Walk<'_, T> {}

impl<'a, T> Iterator for Walk<'a, T> {
    type Item = &'a T;

    #[inline]
    fn next(&mut self) -> Option<&'a T> {
        match self.item.next() {
            Some(event) => {
                self.give();
                Some(event)
            }
            None => self.next_item(),
        }
    }
}

impl<'a, T> Walk<'a, T> {
    /// Gives the first event that is left of the item that the cursor is at.
    #[inline]
    fn next_item(&mut self) -> Option<&'a T> {
        loop {
            // SAFETY: the cursor is borrowed for 'a, and its anchor does not move.
            match unsafe { self.cursor.at.node.read() } {
                NodeState::Item(events, next) => {
                    self.left = self.left.checked_sub(1)?;
                    if let [event] = events {
                        self.cursor.step(next);
                        return Some(event);
                    }
                    self.next = next;
                    self.item = events[self.cursor.progress.given()..].iter();
                    let event = self.item.next();
                    self.give();
                    return event;
                }
                NodeState::Nothing => {
                    // It may be counted, but it is not there yet.
                    self.left = 0;
                    self.over = true;
                    return None;
                }
                NodeState::Last(next) => self.follow_splice(next)?,
            }
        }
    }

    /// Counts one event of an item of several as given.
    fn give(&mut self) {
        if self.item.as_slice().is_empty() {
            self.cursor.progress.begin_item();
            self.cursor.step(self.next);
        } else {
            self.cursor.progress.give(1);
        }
    }

    /// As [`Cursor::go_on`], but the anchor stays.
    #[cold]
    fn follow_splice(&mut self, next: NodePtr<T>) -> Option<()> {
        if self.over {
            return None;
        }
        let at = &mut self.cursor.at;
        // SAFETY: the cursor's anchor keeps `at` alive, and all that follows.
        match unsafe { at.continuation(next) } {
            Continuation::Splice(place) => {
                *at = place;
                // SAFETY: as above.
                self.left = unsafe { at.shared() }.published_since(at.seq);
                Some(())
            }
            Continuation::End(_) => None,
        }
    }
}
