//! Readers that start at an item or at a place.

use crate::list::Cursor;
use crate::read::item::BufferItem;
use crate::read::position::Position;
use crate::read::subscription::Subscription;

impl<T> Position<T> {
    /// Returns a reader that starts here. O(1), or O(splices ahead); does not allocate.
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    ///
    /// let mut buffer = EventBuffer::new();
    /// let here = buffer.tail();
    /// buffer.push("event");
    /// for _ in 0..2 {
    ///     assert_eq!(here.subscribe().try_recv()?.events(), ["event"]);
    /// }
    /// # Ok::<(), event_buffer::TryRecvError>(())
    /// ```
    pub fn subscribe(&self) -> Subscription<T> {
        Subscription::new(Cursor::new(self.0.clone()))
    }
}

impl<T> BufferItem<T> {
    /// Returns a reader that receives this item first. O(1), or O(splices ahead).
    ///
    /// ```
    /// use event_buffer::EventBuffer;
    ///
    /// let mut buffer = EventBuffer::new();
    /// buffer.push(1);
    /// let item = buffer.latest().unwrap();
    /// buffer.push(2);
    /// let mut reader = item.subscribe().cloned();
    /// assert_eq!((reader.try_recv(), reader.try_recv()), (Ok(1), Ok(2)));
    /// ```
    pub fn subscribe(&self) -> Subscription<T> {
        self.position().subscribe()
    }
}
