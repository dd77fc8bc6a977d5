//! A crowd of watches on one executor.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use event_buffer::publisher::{Publisher, Request, SnapshotAppender, Update};
use futures::StreamExt;

use crate::support::watchdog;

/// Watches that come while the first snapshot frees its parts share a second one.
#[test]
fn at_most_two_handlers_run_for_a_key() {
    let _watchdog = watchdog();
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, peak) = (running.clone(), most.clone());
    let publisher = Publisher::builder()
        .snapshot(move |_: &str, snapshot: SnapshotAppender<u32>| {
            let (running, most) = (now.clone(), peak.clone());
            async move {
                most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                for part in 0..100 {
                    snapshot.push(part)?;
                    tokio::task::yield_now().await;
                }
                running.fetch_sub(1, SeqCst);
                Ok(0)
            }
        })
        .build();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut tasks = Vec::new();
        for _ in 0..1_000 {
            let watch = publisher.subscribe(Request::new("a"));
            tasks.push(tokio::spawn(watch.take(102).collect::<Vec<_>>()));
            tokio::task::yield_now().await;
        }
        for task in tasks {
            let updates = task.await.unwrap();
            assert!(matches!(
                updates[101],
                Ok(Update::EndOfSnapshot { index: 0 })
            ));
        }
    });
    assert_eq!(most.load(SeqCst), 2);
    assert!(
        publisher.stats().snapshots_begun < 100,
        "{:?}",
        publisher.stats()
    );
}
