//! Lending what is ready.

use std::slice;

use super::cursor::Cursor;
use super::place::{Continuation, NodePtr, NodeState};

/// An iterator over the events that were ready when it began, which it lends.
///
/// The cursor moves with it, event by event, so the walk can be left anywhere. The anchor stays
/// where the walk began, which keeps everything that was lent alive.
pub(crate) struct Walk<'a, T, L> {
    cursor: &'a mut Cursor<T, L>,
    /// The rest of the item at the cursor while its events are being lent; otherwise empty.
    item: slice::Iter<'a, T>,
    /// The node after that item.
    next: NodePtr<T, L>,
    /// How many more items of the cursor's buffer were ready.
    left: u64,
    /// The walk has come to an empty slot. It ends there even if the slot is filled meanwhile.
    over: bool,
}

impl<T, L> Cursor<T, L> {
    /// Starts a walk over everything that is ready now.
    pub(crate) fn walk(&mut self) -> Walk<'_, T, L> {
        self.stop_waiting();
        self.anchor_here();
        // So that the next read moves the anchor, which frees what was lent.
        self.progress.be_far_ahead();
        Walk::new(self)
    }
}

impl<'a, T, L> Iterator for Walk<'a, T, L> {
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

impl<'a, T, L> Walk<'a, T, L> {
    /// Starts at a cursor whose anchor is at its place, and stays there during the walk.
    pub(super) fn new(cursor: &'a mut Cursor<T, L>) -> Self {
        let left = cursor.at.shared().published_since(cursor.at.seq());
        Walk {
            item: [].iter(),
            next: cursor.at.node(),
            cursor,
            left,
            over: false,
        }
    }

    /// Returns the first event that is left of the item at the cursor.
    #[inline]
    fn next_item(&mut self) -> Option<&'a T> {
        loop {
            // SAFETY: the cursor is borrowed for `'a`, and a walk does not move its anchor.
            match unsafe { self.cursor.at.read_for() } {
                NodeState::Item(events, next) => {
                    self.left = self.left.checked_sub(1)?;
                    if let [event] = events {
                        self.cursor.step(next);
                        return Some(event);
                    }
                    // An earlier read may have given some events of this item.
                    self.next = next;
                    self.item = events[self.cursor.progress.given()..].iter();
                    let event = self.item.next();
                    self.give();
                    return event;
                }
                NodeState::Nothing => {
                    // The item may be counted as published, but it is not linked yet.
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

    /// Like [`Cursor::follow_splice`], but the anchor stays.
    #[cold]
    fn follow_splice(&mut self, next: NodePtr<T, L>) -> Option<()> {
        if self.over {
            return None;
        }
        match self.cursor.at.follow(next) {
            Continuation::Splice(_) => {
                let at = &self.cursor.at;
                self.left = at.shared().published_since(at.seq());
                Some(())
            }
            Continuation::End(_) => None,
        }
    }
}
