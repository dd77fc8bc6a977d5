//! The payload, every copy of which is watched.

use std::cell::{Cell, RefCell};

use event_buffer::{ByteSize, Indexed};

use crate::foreign::{Spot, trip};

/// An event, or a clone of one.
pub(crate) struct Event {
    id: u32,
    /// The same number for the original.
    copy: u32,
}

thread_local! {
    /// Which copies are alive, by number.
    static ALIVE: RefCell<Vec<bool>> = const { RefCell::new(Vec::new()) };
    static CLONES: Cell<usize> = const { Cell::new(0) };
    /// Set where something is wrong: a panic in there might be swallowed.
    static FAULT: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Forgets all events of the last run.
pub(crate) fn reset() {
    ALIVE.with_borrow_mut(Vec::clear);
    CLONES.set(0);
    FAULT.set(None);
}

/// How many events and clones have been made.
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

    /// Looks at the event, as readers do.
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

/// The ids of what has been read.
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

/// What an event says of its size.
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

/// Makes so many events, one at a time. May say how many there will be, or not, or too many.
pub(crate) struct Making {
    left: usize,
    hint: usize,
}

/// The ids that they will have, and the events yet to be made.
pub(crate) fn making(count: usize, hint: usize) -> (Vec<u32>, Making) {
    let start = made();
    let ids = (start..).take(count).collect();
    (ids, Making { left: count, hint })
}

impl Iterator for Making {
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
