//! Many viewers of many jobs.

use std::process::Command;
use std::sync::Arc;

use futures::future::join_all;

use crate::support::{Events, Server, View, size, socket, surely};

/// Each is the command of five jobs.
const COMMANDS: [&str; 4] = ["find /usr", "seq 1 200000", "dpkg -l", "ls -la /usr/bin"];

/// What a command writes when it is run here.
fn output(line: &str) -> Arc<Vec<String>> {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap())
        .args(words)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Arc::new(text.lines().map(str::to_owned).collect())
}

/// Follows a job to its end. With a seed it is cut off again and again.
async fn follow(server: std::net::SocketAddr, key: String, mut view: View, seed: u64) -> View {
    let mut random = seed;
    // Not for ever: one who is cut off within each snapshot never comes to its end.
    let mut cuts = if seed == 0 { 0 } else { 30 };
    while !view.is_complete {
        let place = view.place.clone();
        let events = Events::watch(server, &format!("key={key}"), place.as_deref()).await;
        let mut events = events.unwrap();
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let mut left = if cuts == 0 {
            u64::MAX
        } else {
            2 + (random >> 33) % 10
        };
        cuts = cuts.max(1) - 1;
        while left > 0 && !view.is_complete {
            let Some(message) = events.next().await else {
                break;
            };
            view.receive(message);
            left -= 1;
        }
    }
    view
}

#[tokio::test(flavor = "multi_thread")]
async fn each_viewer_gets_each_line_once_and_in_order() {
    let viewers = size("LIVE_VIEWERS", 300);
    let server = Server::start(&[]).await;
    let outputs = COMMANDS.map(output);
    let mut following = Vec::new();
    for job in 0..20 {
        let key = server.job(COMMANDS[job % 4]).await;
        for viewer in (job..viewers).step_by(20) {
            // A third of them, spread over the jobs.
            let seed = if (viewer / 20 + job) % 3 == 0 {
                viewer as u64 + 1
            } else {
                0
            };
            let view = View::of(&outputs[job % 4]);
            let follow = follow(server.address, key.clone(), view, seed);
            following.push(tokio::spawn(follow));
        }
    }
    let (mut resumed, mut resets, mut lines) = (0, 0, 0);
    for view in surely(join_all(following)).await {
        let view = view.unwrap();
        resumed += view.resumed;
        resets += view.resets;
        lines += view.received;
    }
    println!(
        "{viewers} viewers of 20 jobs got {lines} lines: resumed {resumed} times, started over \
         {resets} times, memory {} KiB",
        server.resident()
    );
    assert!(resumed > 0, "no viewer came back");
}

#[tokio::test]
async fn a_late_viewer_gets_the_output_and_its_end_over_websocket() {
    let server = Server::start(&[]).await;
    let key = server.job("seq 1 1000").await;
    let expected = output("seq 1 1000");
    for _ in 0..2 {
        let (messages, code) = socket(server.address, &format!("key={key}")).await;
        let mut view = View::of(&expected);
        for message in messages {
            view.receive(message);
        }
        assert!(view.is_complete);
        assert_eq!(code, Some(1000));
    }
}

#[tokio::test]
async fn a_viewer_that_is_cut_off_before_the_end_gets_it_however_late() {
    let server = Server::start(&[]).await;
    let key = server.job("echo first").await;
    let mut view = View::of(&output("echo first"));
    socket(server.address, &format!("key={key}")).await;
    let mut events = { Events::watch(server.address, &format!("key={key}"), None).await }.unwrap();
    // Cut off between the snapshot and the end.
    while view.is_empty() {
        view.receive(events.next().await.unwrap());
    }
    drop(events);
    // The end leaves the history, in which each commit has at most a hundred lines.
    let long = server.job("seq 1 210000").await;
    socket(server.address, &format!("key={long}")).await;
    let followed = surely(follow(server.address, key, view, 0)).await;
    assert!(followed.is_complete);
}

#[tokio::test]
async fn a_session_that_is_closed_resumes() {
    let server = Server::start(&[]).await;
    let query = "key=jobs&session=mine";
    let mut events = Events::watch(server.address, query, None).await.unwrap();
    let mut place = None;
    while place.is_none() {
        place = events.next().await.unwrap().id;
    }
    let closed = crate::support::request(server.address, "DELETE", "/sessions/mine", "").await;
    assert_eq!(closed.0, 204);
    while let Some(message) = events.next().await {
        place = message.id.or(place);
    }
    let after = place.as_deref();
    let mut events = Events::watch(server.address, query, after).await.unwrap();
    assert_eq!(events.next().await.unwrap().event, "resumed");
}
