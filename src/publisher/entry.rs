//! What stands in a topic's buffers.

/// An element of a topic's live buffer, or of a snapshot that is spliced in front of it.
pub(super) enum Entry<T> {
    /// An event, of a commit or of a snapshot. All of an item are of one commit.
    Event {
        /// The commit's index. Of a snapshot: that of the publisher when it was begun.
        index: u64,
        /// The least index from which a watcher may go on with this commit: it has missed none.
        from: u64,
        event: T,
    },
    /// The last item of a snapshot.
    EndOfSnapshot {
        index: u64,
        /// The number, in the live buffer, of the item that follows.
        onward: u64,
    },
}

impl<T> Entry<T> {
    pub(super) fn event(&self) -> Option<&T> {
        match self {
            Self::Event { event, .. } => Some(event),
            Self::EndOfSnapshot { .. } => None,
        }
    }
}
