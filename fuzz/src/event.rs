//! An event type that tracks every copy.

use std::cell::{Cell, RefCell};

use event_buffer::{ByteSize, Indexed};

use crate::user_code::{Spot, trip};

/// An event, or a clone of one.
pub(crate) struct Event {
    id: u32,
    /// The number of this copy, which for an original is its `id`.
    copy: u32,
}

thread_local! {
    /// Whether each copy is alive, by number.
    static ALIVE: RefCell<Vec<bool>> = const { RefCell::new(Vec::new()) };
    static CLONES: Cell<usize> = const { Cell::new(0) };
    /// A violation, which is not reported by a panic, since that might be swallowed.
    static FAULT: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Forgets all events of the last run.
pub(crate) fn reset() {
    ALIVE.with_borrow_mut(Vec::clear);
    CLONES.set(0);
    FAULT.set(None);
}

/// The number of events and clones that have been made.
pub(crate) fn made() -> u32 {
    ALIVE.with_borrow(|alive| alive.len() as u32)
}

pub(crate) fn is_alive(id: u32) -> bool {
    ALIVE.with_borrow(|alive| alive[id as usize])
}

pub(crate) fn any_alive() -> bool {
    ALIVE.with_borrow(|alive| alive.contains(&true))
}

pub(crate) fn clones_alive() -> usize {
    CLONES.get()
}

pub(crate) fn check() {
    if let Some(fault) = FAULT.get() {
        panic!("{fault}");
    }
}

fn next_copy() -> u32 {
    ALIVE.with_borrow_mut(|alive| {
        alive.push(true);
        alive.len() as u32 - 1
    })
}

impl Event {
    pub(crate) fn new() -> Self {
        let id = next_copy();
        Self { id, copy: id }
    }

    /// Reads the event, as readers do.
    pub(crate) fn id(&self) -> u32 {
        if !ALIVE.with_borrow(|alive| alive.get(self.copy as usize).copied().unwrap_or(false)) {
            FAULT.set(Some("an event was read after its drop"));
        }
        self.id
    }

    fn is_clone(&self) -> bool {
        self.copy != self.id
    }
}

/// The ids of events.
pub(crate) fn ids(events: &[Event]) -> Vec<u32> {
    events.iter().map(Event::id).collect()
}

impl Clone for Event {
    fn clone(&self) -> Self {
        let id = self.id();
        trip(Spot::Clone);
        CLONES.set(CLONES.get() + 1);
        Self {
            id,
            copy: next_copy(),
        }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let was_alive = ALIVE.with_borrow_mut(|alive| {
            let alive = alive.get_mut(self.copy as usize);
            alive.is_some_and(std::mem::take)
        });
        if !was_alive {
            FAULT.set(Some("an event was dropped twice"));
        }
        if self.is_clone() {
            CLONES.set(CLONES.get().wrapping_sub(1));
        }
        trip(Spot::Drop);
    }
}

/// The size that an event reports.
pub(crate) fn size(id: u32) -> u64 {
    (id * 7 % 40).into()
}

impl ByteSize for Event {
    fn byte_size(&self) -> usize {
        let size = size(self.id()) as usize;
        trip(Spot::ByteSize);
        size
    }
}

impl Indexed for Event {
    fn index(&self) -> u64 {
        self.id().into()
    }
}

/// Creates a number of events, one at a time. Its size hint may be exact, too low or too high.
pub(crate) struct NewEvents {
    left: usize,
    hint: usize,
}

/// Events yet to be created, and the ids that they will have.
pub(crate) fn new_events(count: usize, hint: usize) -> (Vec<u32>, NewEvents) {
    let start = made();
    let ids = (start..).take(count).collect();
    (ids, NewEvents { left: count, hint })
}

impl Iterator for NewEvents {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.left = self.left.checked_sub(1)?;
        trip(Spot::Iterator);
        Some(Event::new())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.hint, None)
    }
}
