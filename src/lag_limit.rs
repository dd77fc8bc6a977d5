//! The limit of a reader's lag, and the size of events.

use std::fmt;

use crate::unwind::Steps;

/// The greatest lag that a reader may have, and what happens beyond it.
///
/// Passed to [`Subscription::limited`](crate::Subscription::limited). It does not affect other
/// readers of the same buffer.
///
/// ```
/// use event_buffer::{EventBuffer, LagLimit, OnLag, TryRecvError};
///
/// let mut buffer = EventBuffer::new();
/// let newest = LagLimit::items(100).on_lag(OnLag::SkipToNewest);
/// let mut reader = buffer.subscribe().limited(newest);
/// buffer.extend(0..=100);
/// assert_eq!(reader.try_recv(), Err(TryRecvError::Lagged(100)));
/// assert_eq!(reader.try_recv(), Ok(100));
/// ```
pub struct LagLimit<T> {
    /// The greatest number of items, at least 1.
    pub(crate) items: u64,
    /// The greatest number of bytes, if they are limited.
    pub(crate) bytes: Option<Bytes<T>>,
    /// What happens beyond either of them.
    pub(crate) on_lag: OnLag,
}

/// A limit in bytes.
pub(crate) struct Bytes<T> {
    pub(crate) limit: u64,
    pub(crate) size_of: SizeOf<T>,
}

/// The function that returns the size of an event.
pub(crate) struct SizeOf<T>(fn(&T) -> usize);

/// The greatest size that an item counts for. Without it, sums of sizes could overflow.
const MAX_SIZE: u64 = 1 << 48;

impl<T> SizeOf<T> {
    #[cfg(feature = "publisher")]
    pub(crate) fn new(size_of: fn(&T) -> usize) -> Self {
        Self(size_of)
    }

    /// Returns the size of one event. Runs user code.
    #[cfg(feature = "publisher")]
    pub(crate) fn of(self, event: &T) -> usize {
        (self.0)(event)
    }

    /// Returns the size of an item. Runs user code.
    ///
    /// If that panics, the item counts for one byte.
    pub(crate) fn of_item(self, events: &[T], steps: &mut Steps) -> u64 {
        let size = |event| (self.0)(event) as u64;
        let sum = || events.iter().map(size).fold(0, u64::saturating_add);
        steps.take(sum).unwrap_or(0).clamp(1, MAX_SIZE)
    }
}

impl<T> LagLimit<T> {
    pub(crate) fn bytes_allowed(&self) -> Option<u64> {
        self.bytes.map(|bytes| bytes.limit)
    }

    /// Limits the number of items that are published and not received.
    ///
    /// Zero is the same as one: the newest item can always be received.
    ///
    /// ```
    /// use event_buffer::{EventBuffer, LagLimit, TryRecvError};
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe().limited(LagLimit::items(2));
    /// buffer.extend([1, 2, 3]);
    /// assert_eq!(reader.try_recv(), Err(TryRecvError::Lagged(1)));
    /// assert_eq!(reader.try_recv(), Ok(2));
    /// ```
    pub fn items(items: u64) -> Self {
        Self {
            items: items.max(1),
            bytes: None,
            on_lag: OnLag::default(),
        }
    }

    /// Limits the bytes of items that are published and not received.
    ///
    /// Events report their size by [`ByteSize`]. The newest item can always be received, whatever
    /// its size.
    ///
    /// ```
    /// use event_buffer::{EventBuffer, LagLimit, TryRecvError};
    ///
    /// let mut buffer = EventBuffer::new();
    /// let mut reader = buffer.subscribe().limited(LagLimit::bytes(1_000));
    /// buffer.push(vec![1_u8; 700]);
    /// buffer.push(vec![2_u8; 700]);
    /// assert_eq!(reader.try_recv(), Err(TryRecvError::Lagged(1)));
    /// assert_eq!(reader.try_recv().unwrap()[0], 2);
    /// ```
    pub fn bytes(bytes: u64) -> Self
    where
        T: ByteSize,
    {
        Self::items(u64::MAX).and_bytes(bytes)
    }

    /// Adds a limit in bytes to this one; the reader must keep both.
    ///
    /// ```
    /// use event_buffer::LagLimit;
    ///
    /// let limit = LagLimit::<String>::items(1_000).and_bytes(1 << 20);
    /// ```
    #[must_use]
    pub fn and_bytes(self, bytes: u64) -> Self
    where
        T: ByteSize,
    {
        Self {
            bytes: Some(Bytes {
                limit: bytes,
                size_of: SizeOf(T::byte_size),
            }),
            ..self
        }
    }

    /// Sets what happens to a reader over the limit. The default is [`OnLag::SkipToOldest`].
    ///
    /// ```
    /// use event_buffer::{EventBuffer, LagLimit, OnLag, TryRecvError};
    ///
    /// let mut buffer = EventBuffer::new();
    /// let limit = LagLimit::items(10).on_lag(OnLag::Close);
    /// let mut reader = buffer.subscribe().limited(limit);
    /// buffer.extend(0..11);
    /// assert!(matches!(reader.try_recv(), Err(TryRecvError::ForceClosed(_))));
    /// ```
    #[must_use]
    pub fn on_lag(self, on_lag: OnLag) -> Self {
        Self { on_lag, ..self }
    }
}

impl<T> Clone for LagLimit<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for LagLimit<T> {}

impl<T> Clone for Bytes<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Bytes<T> {}

impl<T> Clone for SizeOf<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for SizeOf<T> {}

impl<T> fmt::Debug for LagLimit<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LagLimit")
            .field("items", &self.items)
            .field("bytes", &self.bytes.map(|bytes| bytes.limit))
            .field("on_lag", &self.on_lag)
            .finish()
    }
}

/// What happens to a reader whose lag exceeds its [`LagLimit`].
///
/// ```
/// use event_buffer::OnLag;
///
/// assert_eq!(OnLag::default(), OnLag::SkipToOldest);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnLag {
    /// It continues with the oldest item within the limit.
    ///
    /// As few items as possible are skipped.
    /// [`RecvError::Lagged`](crate::RecvError::Lagged) reports their number.
    #[default]
    SkipToOldest,
    /// It continues with the item that is the newest when it reads next.
    ///
    /// [`RecvError::Lagged`](crate::RecvError::Lagged) reports the number of skipped items.
    SkipToNewest,
    /// It is closed.
    ///
    /// It first receives the remaining events of an item that was delivered in part. After that,
    /// each read returns [`RecvError::ForceClosed`](crate::RecvError::ForceClosed) with
    /// [`LagExceeded`](crate::LagExceeded).
    Close,
}

/// An event that reports how much memory it takes.
///
/// [`LagLimit::bytes`] requires it. Owned and borrowed text and bytes implement it, and so do
/// references and [`Arc`](std::sync::Arc)s to such events.
///
/// ```
/// use event_buffer::ByteSize;
///
/// struct Change { key: u64, value: Vec<u8> }
///
/// impl ByteSize for Change {
///     fn byte_size(&self) -> usize {
///         size_of::<Self>() + self.value.capacity()
///     }
/// }
/// # let change = Change { key: 1, value: Vec::with_capacity(100) };
/// # assert!(change.byte_size() >= 100 && change.key == 1);
/// ```
pub trait ByteSize {
    /// Returns the bytes that this event takes: itself and what it owns.
    ///
    /// It should be cheap, and return the same size each time. The writer calls it once per event
    /// while any reader is limited in bytes, and limited readers seldom call it again. It runs
    /// under no lock. More than 2^48 bytes count as 2^48.
    ///
    /// # Panics
    ///
    /// If it panics, the item counts for one byte, and the panic reaches the caller that publishes
    /// or reads.
    ///
    /// ```
    /// use event_buffer::ByteSize;
    ///
    /// assert_eq!("four".to_string().byte_size(), 4 + size_of::<String>());
    /// ```
    fn byte_size(&self) -> usize;
}

impl ByteSize for String {
    fn byte_size(&self) -> usize {
        size_of::<Self>() + self.capacity()
    }
}

impl ByteSize for Vec<u8> {
    fn byte_size(&self) -> usize {
        size_of::<Self>() + self.capacity()
    }
}

impl ByteSize for Box<str> {
    fn byte_size(&self) -> usize {
        size_of::<Self>() + self.len()
    }
}

impl ByteSize for Box<[u8]> {
    fn byte_size(&self) -> usize {
        size_of::<Self>() + self.len()
    }
}

impl ByteSize for str {
    fn byte_size(&self) -> usize {
        self.len()
    }
}

impl ByteSize for [u8] {
    fn byte_size(&self) -> usize {
        self.len()
    }
}

impl<T: ByteSize + ?Sized> ByteSize for &T {
    fn byte_size(&self) -> usize {
        (**self).byte_size()
    }
}

impl<T: ByteSize + ?Sized> ByteSize for std::sync::Arc<T> {
    fn byte_size(&self) -> usize {
        (**self).byte_size()
    }
}
