//! A snapshot handler whose pace a test decides.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use event_buffer::publisher::{Publisher, SnapshotAppender};
use futures::channel::oneshot;

pub(crate) const FOREVER: Duration = Duration::from_secs(1_000_000);
/// Has passed when the clock is next read.
pub(crate) const MOMENT: Duration = Duration::from_nanos(1);

/// A handler that counts its runs, and that waits until the test lets it continue.
#[derive(Clone, Default)]
pub(crate) struct Store {
    runs: Arc<AtomicUsize>,
    /// One for each run, in order.
    gates: Arc<Mutex<Vec<oneshot::Receiver<u64>>>>,
}

impl Store {
    /// Makes the next run wait until an index is sent.
    pub(crate) fn gate(&self) -> oneshot::Sender<u64> {
        let (gate, opened) = oneshot::channel();
        self.gates.lock().unwrap().push(opened);
        gate
    }

    pub(crate) fn runs(&self) -> usize {
        self.runs.load(Relaxed)
    }

    /// Its snapshots have a part before the gate and one after it, and the index sent to the gate.
    pub(crate) fn publisher(&self, history: usize, ttl: Duration) -> Publisher<&'static str, u32> {
        let store = self.clone();
        Publisher::builder()
            .history(history)
            .snapshot_ttl(ttl)
            .epoch(1)
            .snapshot(move |_key, snapshot: SnapshotAppender<u32>| {
                store.runs.fetch_add(1, Relaxed);
                let gate = store.gates.lock().unwrap().pop();
                async move {
                    snapshot.append([100, 101])?;
                    let index = match gate {
                        Some(gate) => gate.await?,
                        None => 0,
                    };
                    snapshot.push(102)?;
                    Ok(index)
                }
            })
            .build()
    }
}
