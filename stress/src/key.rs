//! The identity of items and events.

use std::fmt;

/// The identity of an item: its stream, its producer, and its number among the producer's items.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) stream: u16,
    pub(crate) producer: u16,
    pub(crate) n: u32,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}#{}", self.stream, self.producer, self.n)
    }
}

/// The identity of an event: its item, its number in that, and the number of events of the item.
pub(crate) type Part = (Key, u16, u16);
