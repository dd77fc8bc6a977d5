//! Events that carry an index.

/// An event that carries an index: the version, revision or offset that it made.
///
/// [`EventBuffer::subscribe_after`](crate::EventBuffer::subscribe_after) requires it. References
/// and [`Arc`](std::sync::Arc)s to such events implement it, too.
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
/// assert!(buffer.latest().is_some_and(|item| item.has_index(7)));
/// ```
pub trait Indexed {
    /// Returns the event's index.
    ///
    /// It should be cheap, and return the same index each time.
    ///
    /// ```
    /// use event_buffer::Indexed;
    /// use std::sync::Arc;
    ///
    /// struct Offset(u64);
    /// impl Indexed for Offset {
    ///     fn index(&self) -> u64 { self.0 }
    /// }
    /// assert_eq!(Arc::new(Offset(7)).index(), 7);
    /// ```
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
