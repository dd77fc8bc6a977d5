//! A state that is published, and what it was at each index.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use event_buffer::publisher::Publisher;
use serving::Change;
use tokio::task::yield_now;

/// The items of a key. A change that is lost or comes twice is seen for ever.
pub(crate) type Stock = BTreeMap<String, i64>;

/// All keys, as of each index.
pub(crate) struct Shop(Mutex<Vec<BTreeMap<String, Stock>>>);

pub(crate) fn change(item: impl Into<String>, by: i64) -> Change {
    let item = item.into();
    Change { item, by }
}

impl Shop {
    /// Items in a part of a snapshot.
    pub(crate) const PART: usize = 3;

    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(vec![BTreeMap::new()])))
    }

    /// A publisher of the shop, which retains the last `history` commits.
    pub(crate) fn publisher(self: &Arc<Self>, history: usize) -> Publisher<String, Change> {
        let shop = Arc::clone(self);
        Publisher::builder()
            .history(history)
            .epoch(1)
            .snapshot(move |key: String, snapshot| {
                let shop = Arc::clone(&shop);
                async move {
                    let index = shop.index();
                    let stock: Vec<_> = shop.stock(&key, index).into_iter().collect();
                    for part in stock.chunks(Self::PART) {
                        snapshot.append(part.iter().map(|(item, by)| change(item, *by)))?;
                        yield_now().await;
                    }
                    Ok(index)
                }
            })
            .build()
    }

    /// Changes the state, then publishes.
    pub(crate) fn commit(
        &self,
        publisher: &Publisher<String, Change>,
        changes: Vec<(String, Change)>,
    ) -> u64 {
        // One lock around both: so indexes are in the order of the changes.
        let mut versions = self.0.lock().unwrap();
        let mut next = versions[versions.len() - 1].clone();
        for (key, Change { item, by }) in &changes {
            *next
                .entry(key.clone())
                .or_default()
                .entry(item.clone())
                .or_default() += by;
        }
        versions.push(next);
        let index = publisher.publish_next(changes).unwrap();
        assert_eq!(index, u64::try_from(versions.len() - 1).unwrap());
        index
    }

    pub(crate) fn index(&self) -> u64 {
        u64::try_from(self.0.lock().unwrap().len() - 1).unwrap()
    }

    pub(crate) fn stock(&self, key: &str, index: u64) -> Stock {
        let versions = self.0.lock().unwrap();
        let version = &versions[usize::try_from(index).unwrap()];
        version.get(key).cloned().unwrap_or_default()
    }
}
