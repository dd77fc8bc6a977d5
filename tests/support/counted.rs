//! Events that count how many of them are alive.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use event_buffer::ByteSize;

/// The items of one block, which the writer may publish before it checks limits.
pub(crate) const BLOCK: usize = 64;

/// An event that adds itself to a count while it is alive.
#[derive(Debug)]
pub(crate) struct Counted(pub(crate) u64, pub(crate) Arc<AtomicUsize>);

impl Counted {
    pub(crate) fn new(n: u64, alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, SeqCst);
        Self(n, alive.clone())
    }
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        Self::new(self.0, &self.1)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_sub(1, SeqCst);
    }
}

impl ByteSize for Counted {
    fn byte_size(&self) -> usize {
        100
    }
}
