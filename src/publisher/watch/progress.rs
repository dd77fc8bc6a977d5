//! How far a watch has read the chain of a topic.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The number in the topic's chain of the item that a watch reads next.
#[derive(Clone)]
pub(crate) struct Progress(Arc<AtomicU64>);

impl Progress {
    pub(crate) fn new(number: u64) -> Self {
        Self(Arc::new(AtomicU64::new(number)))
    }

    pub(crate) fn advance(&self) {
        // Relaxed: it is only a figure, and only the watch writes it.
        self.0.store(self.0.load(Relaxed) + 1, Relaxed);
    }

    /// Takes into account entries that are to be read before those of the chain.
    pub(crate) fn retreat(&self, entries: usize) {
        self.0
            .store(self.0.load(Relaxed).saturating_sub(entries as u64), Relaxed);
    }

    /// Takes into account that nothing more is to be read.
    pub(crate) fn finish(&self) {
        self.0.store(u64::MAX, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::Progress;

    #[test]
    fn progress_counts_early_entries_and_ends_beyond_all() {
        let progress = Progress::new(5);
        let seen_by_the_hub = progress.clone();
        progress.advance();
        assert_eq!(seen_by_the_hub.get(), 6);
        progress.retreat(2);
        assert_eq!(seen_by_the_hub.get(), 4);
        progress.retreat(9);
        assert_eq!(seen_by_the_hub.get(), 0);
        progress.finish();
        assert_eq!(seen_by_the_hub.get(), u64::MAX);
    }
}
