//! How far a reader may be behind.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::unwind::{Panic, keep_first};

/// How far a reader may be behind, and what happens to one that is further.
///
/// Given to [`Subscription::limited`](crate::Subscription::limited). Other readers of the same buffer
/// are not touched by it.
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
    /// At least 1.
    pub(crate) items: u64,
    pub(crate) bytes: Option<Bytes<T>>,
    pub(crate) on_lag: OnLag,
}

/// A limit in bytes.
pub(crate) struct Bytes<T> {
    pub(crate) limit: u64,
    pub(crate) size_of: SizeOf<T>,
}

/// How an event is asked for its size.
pub(crate) struct SizeOf<T>(fn(&T) -> usize);

/// No item counts for more, so that sums do not overflow.
const MAX_SIZE: u64 = 1 << 48;

impl<T> SizeOf<T> {
    #[cfg(feature = "publisher")]
    pub(crate) fn new(size_of: fn(&T) -> usize) -> Self {
        Self(size_of)
    }

    /// The size of one event. User code.
    #[cfg(feature = "publisher")]
    pub(crate) fn of(self, event: &T) -> usize {
        (self.0)(event)
    }

    /// The size of an item. An event whose size panics makes it count for as little as can be; the first panic is
    /// kept.
    pub(crate) fn of_item(self, events: &[T], panicked: &mut Option<Panic>) -> u64 {
        let size = |event| (self.0)(event) as u64;
        let sum = || events.iter().map(size).fold(0, u64::saturating_add);
        let sum = catch_unwind(AssertUnwindSafe(sum)).unwrap_or_else(|panic| {
            keep_first(panicked, panic);
            0
        });
        sum.clamp(1, MAX_SIZE)
    }
}

impl<T> LagLimit<T> {
    pub(crate) fn bytes_allowed(&self) -> Option<u64> {
        self.bytes.map(|bytes| bytes.limit)
    }

    /// At most so many items that are published and not received. Zero is the same as one: the newest
    /// item may always be received.
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

    /// At most so many bytes in items that are published and not received, as the events
    /// [say](ByteSize). The newest item may always be received, whatever its size.
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

    /// Another limit beside the one that is set.
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

    /// What happens to a reader that is further behind. [`OnLag::SkipToOldest`] if not set.
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

/// What happens to a reader that is further behind than its [`LagLimit`] says.
///
/// ```
/// use event_buffer::OnLag;
///
/// assert_eq!(OnLag::default(), OnLag::SkipToOldest);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnLag {
    /// It goes on with the oldest item that it may still have: what is skipped is as little as can
    /// be. It is told how many were skipped by [`RecvError::Lagged`](crate::RecvError::Lagged).
    #[default]
    SkipToOldest,
    /// It goes on with the item that is the newest when it reads next. It is told how many were skipped
    /// by [`RecvError::Lagged`](crate::RecvError::Lagged).
    SkipToNewest,
    /// It is closed. It first receives the remaining events of an item that it has begun, then only
    /// [`RecvError::ForceClosed`](crate::RecvError::ForceClosed) with [`LagExceeded`](crate::LagExceeded).
    Close,
}

/// An event that says how much memory it takes.
///
/// It is what [`LagLimit::bytes`] asks for. Implemented for what owns text or bytes, and for
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
    /// The bytes that this event takes: itself and what it owns. Should be the same each time, and
    /// cheap to tell: it is asked once by the writer, while readers are limited in bytes, and seldom again by a
    /// limited reader. If it panics the item counts for one byte, and the caller that asked gets the panic. More than
    /// 2^48 count as that. It runs under no lock.
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
