//! The same reading code under every executor, and Consul's fuzz test of its event buffer.

use std::sync::Arc;
use std::thread;

use event_buffer::{EventBuffer, RecvError, Replay, Subscription};
use futures::{StreamExt, TryStreamExt, future};

use crate::support::watchdog;

const EVENTS: u64 = 2_000;

/// The code that every executor runs: the three ways of reading, and operators of `futures`.
async fn read_all(reader: Subscription<u64>) {
    let mut by_recv = reader.clone();
    let by_recv = async move {
        let mut seen = Vec::new();
        while let Ok(item) = by_recv.recv().await {
            seen.extend_from_slice(&item);
        }
        seen
    };
    let mut by_chunk = reader.clone();
    let by_chunk = async move {
        let mut seen: Vec<u64> = Vec::new();
        while let Ok(chunk) = by_chunk.next_chunk().await {
            seen.extend(chunk);
        }
        seen
    };
    let by_stream = reader.cloned().try_collect::<Vec<_>>();
    let (recv, chunk, stream) = future::join3(by_recv, by_chunk, by_stream).await;
    let expected: Vec<u64> = (0..EVENTS).collect();
    assert_eq!(recv, expected);
    assert_eq!(chunk, expected);
    assert_eq!(stream, Ok(expected));
}

/// Starts a producer thread that publishes in every way.
fn produce() -> (Subscription<u64>, thread::JoinHandle<()>) {
    let mut buffer = EventBuffer::builder().replay(Replay::None).build();
    let reader = buffer.subscribe();
    let producer = thread::spawn(move || {
        let mut next = 0;
        while next < EVENTS {
            match next % 3 {
                0 => buffer.push(next),
                1 => buffer.append([next]),
                _ => {
                    let end = (next + 10).min(EVENTS);
                    buffer.extend(next..end);
                    next = end;
                    continue;
                }
            }
            next += 1;
        }
    });
    (reader, producer)
}

#[test]
fn readers_run_on_tokio_current_thread() {
    let _watchdog = watchdog();
    let (reader, producer) = produce();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async { tokio::spawn(read_all(reader)).await.unwrap() });
    producer.join().unwrap();
}

#[test]
fn readers_run_on_tokio_multi_thread() {
    let _watchdog = watchdog();
    let (reader, producer) = produce();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    runtime.block_on(async {
        let tasks = (0..20).map(|_| tokio::spawn(read_all(reader.clone())));
        let tasks: Vec<_> = tasks.collect();
        drop(reader);
        for task in tasks {
            task.await.unwrap();
        }
    });
    producer.join().unwrap();
}

#[test]
fn readers_run_on_smol() {
    let _watchdog = watchdog();
    let (reader, producer) = produce();
    smol::block_on(smol::spawn(read_all(reader)));
    producer.join().unwrap();
}

#[test]
fn readers_run_on_futures() {
    let _watchdog = watchdog();
    let (reader, producer) = produce();
    futures::executor::block_on(read_all(reader));
    producer.join().unwrap();
}

#[test]
fn readers_run_on_plain_threads() {
    let _watchdog = watchdog();
    let (reader, producer) = produce();
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let mut reader = reader.clone();
            thread::spawn(move || {
                for n in 0..EVENTS {
                    assert_eq!(reader.recv_blocking().unwrap().events(), [n]);
                }
                assert_eq!(reader.recv_blocking(), Err(RecvError::Closed));
            })
        })
        .collect();
    for reader in readers {
        reader.join().unwrap();
    }
    producer.join().unwrap();
}

/// `recv_blocking` blocks like any call; the `block_on` of `futures` would panic here.
#[test]
fn a_blocking_read_works_inside_an_executor() {
    let _watchdog = watchdog();
    let (mut reader, producer) = produce();
    let first = futures::executor::block_on(async { reader.recv_blocking() });
    assert_eq!(first.unwrap().events(), [0]);
    producer.join().unwrap();
}

/// Consul's `TestEventBufferFuzz`: 1,000 readers and 1,000 appends, with jitter in between.
#[test]
fn a_thousand_readers_see_a_thousand_appends_in_order() {
    const READERS: usize = 1_000;
    const APPENDS: u64 = 1_000;
    /// A small pseudo-random number for each step.
    fn jitter(seed: u64) -> u64 {
        seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23) % 8
    }

    let _watchdog = watchdog();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .build()
        .unwrap();
    let mut buffer = EventBuffer::<(u64, Arc<()>)>::new();
    let payload = Arc::new(());
    runtime.block_on(async {
        let readers: Vec<_> = (0..READERS as u64)
            .map(|id| {
                let mut reader = buffer.subscribe();
                tokio::spawn(async move {
                    for n in 0..APPENDS {
                        let item = reader.next().await.unwrap().unwrap();
                        assert_eq!(item[0].0, n);
                        for _ in 0..jitter(id * APPENDS + n) / 4 {
                            tokio::task::yield_now().await;
                        }
                    }
                    assert!(reader.next().await.is_none());
                })
            })
            .collect();
        for n in 0..APPENDS {
            buffer.push((n, Arc::clone(&payload)));
            for _ in 0..jitter(n) {
                tokio::task::yield_now().await;
            }
        }
        drop(buffer);
        for reader in readers {
            reader.await.unwrap();
        }
    });
    assert_eq!(Arc::strong_count(&payload), 1, "everything was freed");
}
