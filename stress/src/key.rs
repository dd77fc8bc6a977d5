//! Which item, and which event of it.

use std::fmt;

/// An item: the stream it was published in, by which of its producers, and the how-many-th it is of that
/// one.
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

/// An event: its item, and which of so many events of that it is.
pub(crate) type Part = (Key, u16, u16);
