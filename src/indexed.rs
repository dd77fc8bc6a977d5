//! Events that carry an index.

/// An event that carries an index: the version, revision or offset at which it came to be.
///
/// Implemented for references and [`Arc`](std::sync::Arc)s to such events too.
///
/// ```
/// use event_buffer::{EventBuffer, Indexed};
///
/// struct Change { revision: u64 }
///
/// impl Indexed for Change {
///     fn index(&self) -> u64 { self.revision }
/// }
///
/// let mut buffer = EventBuffer::new();
/// buffer.push(Change { revision: 7 });
/// assert!(buffer.head().is_some_and(|item| item.has_index(7)));
/// ```
pub trait Indexed {
    /// The event's index.
    fn index(&self) -> u64;
}

impl<T: Indexed + ?Sized> Indexed for &T {
    fn index(&self) -> u64 {
        (**self).index()
    }
}

impl<T: Indexed + ?Sized> Indexed for std::sync::Arc<T> {
    fn index(&self) -> u64 {
        (**self).index()
    }
}
