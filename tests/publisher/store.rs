//! A snapshot handler whose pace a test decides.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use event_buffer::publisher::{Publisher, SnapshotAppender};
use futures::channel::oneshot;

pub(crate) const FOREVER: Duration = Duration::from_secs(1_000_000);
/// Over by the time of the next look.
pub(crate) const MOMENT: Duration = Duration::from_nanos(1);

/// A handler of which the test decides when it goes on, and that counts its runs.
#[derive(Clone, Default)]
pub(crate) struct Store {
    runs: Arc<AtomicUsize>,
    /// One for each run, in order.
    gates: Arc<Mutex<Vec<oneshot::Receiver<u64>>>>,
}

impl Store {
    /// The next run waits for the answer.
    pub(crate) fn gate(&self) -> oneshot::Sender<u64> {
        let (gate, opened) = oneshot::channel();
        self.gates.lock().unwrap().push(opened);
        gate
    }

    pub(crate) fn runs(&self) -> usize {
        self.runs.load(Relaxed)
    }

    /// A part before the gate, and one after it; the gate says as of which index.
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
