//! Viewers that stop reading.

use std::sync::Arc;
use std::time::Instant;

use crate::support::{Events, Server, View, request, size};

/// Follows a job to its end, and calls `at` after each message, with the view.
async fn follow(server: &Server, key: &str, view: &mut View, mut at: impl FnMut()) {
    while !view.is_complete {
        let query = format!("key={key}");
        let events = Events::watch(server.address, &query, view.place.as_deref()).await;
        let mut events = events.unwrap();
        while !view.is_complete {
            let Some(message) = events.next().await else {
                break;
            };
            view.receive(message);
            at();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_that_stop_reading_cost_no_memory_and_come_back() {
    let lines = size("LIVE_LINES", 1_000_000);
    let expected: Vec<String> = (1..=lines).map(|n| n.to_string()).collect();
    let expected = Arc::new(expected);
    let server = Server::start(&[]).await;
    let key = server.job(&format!("seq 1 {lines}")).await;
    let mut stuck = Vec::new();
    for _ in 0..20 {
        let events = Events::watch(server.address, &format!("key={key}"), None).await;
        let (mut events, mut view) = (events.unwrap(), View::of(&expected));
        view.receive(events.next().await.unwrap());
        stuck.push((events, view));
    }
    let mut resident = Vec::new();
    let mut view = View::of(&expected);
    follow(&server, &key, &mut view, || {
        resident.push(server.resident());
    })
    .await;
    let half = resident[..resident.len() / 2].iter().max().unwrap();
    let peak = resident.iter().max().unwrap();
    println!("{lines} lines: {half} KiB at most in the first half, {peak} KiB in all");
    // A line in the memory of each stuck viewer would be 20 times as many as these.
    assert!(peak - half < 24 * 1_024, "{half} KiB grew to {peak} KiB");

    // One of them reads on: what it was sent before it was closed, and what it has missed.
    let (mut events, mut view) = stuck.pop().unwrap();
    while let Some(message) = events.next().await {
        view.receive(message);
    }
    assert!(!view.is_complete, "it was never closed");
    follow(&server, &key, &mut view, || {}).await;

    let (status, metrics) = request(server.address, "GET", "/metrics", "").await;
    assert!(
        status == 200 && metrics.contains("\nlive_viewers "),
        "{metrics}"
    );

    let mut server = server;
    server.signal("TERM").await;
    let signalled = Instant::now();
    let ended = server.process.wait().await.unwrap();
    let took = signalled.elapsed();
    println!(
        "ended {took:?} after SIGTERM, with {} stuck viewers",
        stuck.len()
    );
    assert!(ended.success());
    // Less than the half minute after which a connection that takes nothing is given up.
    assert!(took.as_secs() < 10, "{took:?}");
}
