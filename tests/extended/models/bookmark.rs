//! Bookmarks, compared with a window of a vector.

use event_buffer::{BookmarkError, Replay, SharedBuffer, TryRecvError};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::{retaining, watchdog};

proptest! {
    #![proptest_config(crate::cases(256))]

    /// A bookmark upgrades exactly if the window still reaches back to it.
    #[test]
    fn bookmarks_agree_with_a_vector(window in 0..20_usize, batches in vec(0..10_usize, 1..20)) {
        let _watchdog = watchdog();
        let shared = SharedBuffer::from(retaining(Replay::Last(window)));
        let mut published = 0;
        let mut bookmarks = Vec::new();
        for batch in batches {
            bookmarks.push((shared.tail().bookmark(), published));
            shared.extend(published..published + batch).unwrap();
            published += batch;
            let oldest = published.saturating_sub(window);
            for (bookmark, at) in &bookmarks {
                match shared.upgrade(bookmark) {
                    Ok(reader) => {
                        prop_assert!(*at >= oldest);
                        let mut reader = reader.cloned();
                        for event in *at..published {
                            prop_assert_eq!(reader.try_recv(), Ok(event));
                        }
                        prop_assert_eq!(reader.try_recv(), Err(TryRecvError::Empty));
                    }
                    Err(lost) => prop_assert_eq!(lost, BookmarkError::Lost((oldest - at) as u64)),
                }
            }
        }
    }
}
