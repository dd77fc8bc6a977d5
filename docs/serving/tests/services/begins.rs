//! How a watch begins, and what its messages are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use event_buffer::publisher::Publisher;
use hyper::StatusCode;
use serde_json::{Value, json};
use serving::Change;

use crate::support::{
    Message, Refused, Server, Shop, TRANSPORTS, Transport, View, change, watchdog,
};

const ALICE: (&str, &str) = ("fruit", "alice");

fn message(name: &str, data: Value, place: Option<&str>) -> Message {
    let (name, place) = (name.to_owned(), place.map(str::to_owned));
    Message { name, data, place }
}

/// A shop with `items` items of fruit, as of index `items`.
fn fruit(publisher: &Publisher<String, Change>, shop: &Shop, items: u64) {
    for item in 1..=items {
        shop.commit(
            publisher,
            vec![("fruit".to_owned(), change(format!("fruit {item}"), 1))],
        );
    }
}

async fn refusal(server: &Server, transport: Transport, place: &str) -> (StatusCode, String) {
    let watch = transport.watch(server.connect().await, ALICE, Some(place));
    match watch.await.err() {
        Some(Refused::Status(status, text)) => (status, text),
        refused => panic!("{refused:?}"),
    }
}

#[tokio::test]
async fn the_first_message_says_how_it_begins_and_only_complete_states_have_places() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let shop = Shop::new();
        let server = Server::start(shop.publisher(10)).await;
        let publisher = &server.app.publisher;
        fruit(publisher, &shop, 4);
        let mut watch = transport
            .watch(server.connect().await, ALICE, None)
            .await
            .unwrap();
        let first = json!([{ "item": "fruit 1", "by": 1 }, { "item": "fruit 2", "by": 1 },
            { "item": "fruit 3", "by": 1 }]);
        let snapshot = [
            message("begin", json!("fresh"), None),
            message("snapshot", first, None),
            message("snapshot", json!([{ "item": "fruit 4", "by": 1 }]), None),
            message("end_of_snapshot", Value::Null, Some("1-4")),
        ];
        assert_eq!(watch.until("end_of_snapshot").await, snapshot);
        let both = ["fruit", "tools", "fruit"].map(|key| (key.to_owned(), change(key, 2)));
        shop.commit(publisher, both.to_vec());
        let events = json!([{ "item": "fruit", "by": 2 }, { "item": "fruit", "by": 2 }]);
        let events = || message("events", events.clone(), Some("1-5"));
        assert_eq!(watch.until("events").await, [events()]);
        drop(watch);

        let io = server.connect().await;
        let mut again = transport.watch(io, ALICE, Some("1-4")).await.unwrap();
        let resumed = message("begin", json!("resumed"), Some("1-4"));
        assert_eq!(again.until("events").await, [resumed, events()]);
        publisher.complete("fruit");
        let completed = message("completed", json!("fruit"), Some("1-5"));
        let (rest, close) = again.rest().await;
        assert_eq!(rest, [completed]);
        assert_eq!(close.map(|close| close.code.into()), transport.code(1000));
        server.stop().await;
    }
}

#[tokio::test]
async fn a_place_that_does_not_resume_leads_to_a_reset_and_the_right_view() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let shop = Shop::new();
        let server = Server::start(shop.publisher(3)).await;
        fruit(&server.app.publisher, &shop, 9);
        for (place, why) in [
            ("1-5", "too old"),
            ("1-10", "ahead"),
            ("2-9", "other epoch"),
        ] {
            let io = server.connect().await;
            let mut watch = transport.watch(io, ALICE, Some(place)).await.unwrap();
            let mut view = View::default();
            view.stock.insert("of before".to_owned(), 1);
            let messages = watch.until("end_of_snapshot").await;
            assert_eq!(messages[0], message("begin", json!(why), None));
            for Message { name, data, place } in messages {
                view.receive(&name, data, place);
            }
            assert_eq!(
                (&view.stock, view.place.as_deref()),
                (&shop.stock("fruit", 9), Some("1-9"))
            );
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn a_client_that_is_cut_off_within_a_snapshot_keeps_what_it_had() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let shop = Shop::new();
        let server = Server::start(shop.publisher(3)).await;
        fruit(&server.app.publisher, &shop, 2);
        let mut view = View::default();
        let mut watch = transport
            .watch(server.connect().await, ALICE, None)
            .await
            .unwrap();
        for Message { name, data, place } in watch.until("end_of_snapshot").await {
            view.receive(&name, data, place);
        }
        drop(watch);
        fruit(&server.app.publisher, &shop, 9);
        for end in ["snapshot", "end_of_snapshot"] {
            assert_eq!(
                (&view.stock, view.place.as_deref()),
                (&shop.stock("fruit", 2), Some("1-2"))
            );
            let io = server.connect().await;
            let watch = transport.watch(io, ALICE, view.place.as_deref()).await;
            for Message { name, data, place } in watch.unwrap().until(end).await {
                view.receive(&name, data, place);
            }
        }
        assert_eq!(
            (&view.stock, view.place.as_deref()),
            (&shop.stock("fruit", 11), Some("1-11"))
        );
        server.stop().await;
    }
}

#[tokio::test]
async fn a_place_that_is_none_is_refused_with_what_was_expected() {
    let _watchdog = watchdog();
    let server = Server::start(Shop::new().publisher(3)).await;
    let expected = "not a place to resume from: expected `epoch-index` in decimal";
    for garbage in ["garbage", "1", "-1", "1-2-3", "18446744073709551616-1"] {
        let refused = refusal(&server, Transport::Sse, garbage).await;
        let text = format!("Last-Event-ID: {expected}");
        assert_eq!(refused, (StatusCode::BAD_REQUEST, text));
        let (status, text) = refusal(&server, Transport::WebSocket, garbage).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(text.ends_with(&format!("after: {expected}")), "{text}");
    }
    let refused = refusal(&server, Transport::Sse, "pl\u{e4}ce").await;
    assert_eq!(refused.0, StatusCode::BAD_REQUEST);
    assert_eq!(server.app.publisher.stats().subscriptions, 0);
    server.stop().await;
}

#[tokio::test]
async fn a_client_whose_snapshot_failed_is_told_and_comes_back() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let is_broken = Arc::new(AtomicBool::new(true));
        let broken = Arc::clone(&is_broken);
        let publisher = Publisher::builder().snapshot(move |_: String, snapshot| {
            let is_broken = broken.load(SeqCst);
            async move {
                snapshot.push(change("apple", 1))?;
                if is_broken {
                    Err("postgres://admin:secret@db".into())
                } else {
                    Ok(7)
                }
            }
        });
        let server = Server::start(publisher.epoch(1).build()).await;
        let watch = transport
            .watch(server.connect().await, ALICE, None)
            .await
            .unwrap();
        let (messages, close) = watch.rest().await;
        let told = "the snapshot could not be made";
        let failed = message("failed", json!(told), None);
        assert_eq!(messages.contains(&failed), transport == Transport::Sse);
        assert!(messages.iter().all(|message| message.place.is_none()));
        assert_eq!(
            close.as_ref().map(|close| close.code.into()),
            transport.code(1011)
        );
        assert!(close.is_none_or(|close| close.reason == told));

        is_broken.store(false, SeqCst);
        let mut watch = transport
            .watch(server.connect().await, ALICE, None)
            .await
            .unwrap();
        let messages = watch.until("end_of_snapshot").await;
        assert_eq!(messages.last().unwrap().place.as_deref(), Some("1-7"));
        drop(watch);
        server.stop().await;
    }
}
