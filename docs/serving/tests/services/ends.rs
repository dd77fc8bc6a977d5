//! How a watch ends: by a logout, a shutdown, or its client.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};

use event_buffer::publisher::{Publisher, Watch};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use hyper::StatusCode;
use serving::{App, Change, Sessions, serve};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::yield_now;

use crate::support::{Connection, LoggedIn, Refused, Server, Shop, TRANSPORTS, change, watchdog};

/// Waits until the publisher has that many watches.
async fn watches(server: &Server, number: usize) {
    while server.app.publisher.stats().subscriptions != number {
        yield_now().await;
    }
}

#[tokio::test]
async fn a_logout_closes_the_watches_of_its_session_and_no_other() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let shop = Shop::new();
        let server = Server::start(shop.publisher(10)).await;
        let watch = async |session| {
            let io = server.connect().await;
            let mut watch = transport.watch(io, ("fruit", session), None).await.unwrap();
            watch.until("end_of_snapshot").await;
            watch
        };
        let alice = [watch("alice").await, watch("alice").await];
        let mut bob = watch("bob").await;
        server.app.log_out("alice");
        shop.commit(
            &server.app.publisher,
            vec![("fruit".to_owned(), change("apple", 1))],
        );
        for watch in alice {
            let (rest, close) = watch.rest().await;
            assert_eq!(rest, []);
            assert_eq!(
                close.as_ref().map(|close| close.code.into()),
                transport.code(1008)
            );
            assert!(close.is_none_or(|close| close.reason.contains("access")));
        }
        let io = server.connect().await;
        let refused = transport
            .watch(io, ("fruit", "alice"), Some("1-0"))
            .await
            .err();
        let unauthorized = Refused::Status(StatusCode::UNAUTHORIZED, String::new());
        assert_eq!(refused, Some(unauthorized));
        assert_eq!(bob.until("events").await.len(), 1);
        watches(&server, 1).await;
        drop(bob);
        server.stop().await;
    }
}

/// Sessions where a watch and a logout meet.
struct Meeting {
    sessions: LoggedIn,
    app: OnceLock<App>,
    /// Which of them comes in the midst of the other.
    within: &'static str,
    watch: Mutex<Option<Watch<String, Change>>>,
}

impl Sessions for Meeting {
    fn contains(&self, session: &str) -> bool {
        let contains = self.sessions.contains(session);
        if self.within == "watch" {
            self.app.get().unwrap().log_out(session);
        }
        contains
    }

    fn remove(&self, session: &str) {
        if self.within == "logout" {
            let watch = self
                .app
                .get()
                .unwrap()
                .subscribe("fruit".to_owned(), None, session);
            *self.watch.lock().unwrap() = watch.ok();
        }
        self.sessions.remove(session);
    }
}

#[test]
fn a_logout_that_meets_the_beginning_of_a_watch_leaves_none() {
    let _watchdog = watchdog();
    for within in ["watch", "logout"] {
        let meeting = Arc::new(Meeting {
            sessions: LoggedIn::new(&["alice"]),
            app: OnceLock::new(),
            within,
            watch: Mutex::default(),
        });
        let sessions = Arc::<Meeting>::clone(&meeting);
        let app = App {
            sessions,
            ..Server::app(Shop::new().publisher(10))
        };
        assert!(meeting.app.set(app.clone()).is_ok());
        let watch = if within == "watch" {
            app.subscribe("fruit".to_owned(), None, "alice").ok()
        } else {
            app.log_out("alice");
            meeting.watch.lock().unwrap().take()
        };
        // It began, as the session was there when that was looked at.
        assert!(watch.unwrap().is_closed(), "{within}");
    }
}

/// A server in a runtime of its own, whose tasks are gone once it has ended, as in a program.
async fn serve_apart(
    publisher: Publisher<String, Change>,
) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<io::Result<()>>) {
    let (stop, stopped) = oneshot::channel();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (app, listener) = (Server::app(publisher), listener.into_std().unwrap());
    let server = thread::spawn(|| {
        Runtime::new().unwrap().block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            serve(listener, app, async { stopped.await.unwrap() }).await
        })
    });
    (address, stop, server)
}

#[tokio::test]
async fn a_shutdown_ends_all_and_tells_them_to_come_back() {
    let _watchdog = watchdog();
    let publisher = Shop::new().publisher(10);
    let (address, stop, server) = serve_apart(publisher.clone()).await;
    let connect = async || TcpStream::connect(address).await.unwrap();
    let mut connections = Vec::new();
    for transport in TRANSPORTS {
        for key in ["fruit", "tools", "fruit"] {
            let watch = transport.watch(connect().await, (key, "alice"), None).await;
            let mut watch = watch.unwrap();
            watch.until("end_of_snapshot").await;
            connections.push((transport, watch));
        }
        // This one has said nothing yet.
        let watch = transport
            .watch(connect().await, ("books", "alice"), None)
            .await;
        connections.push((transport, watch.unwrap()));
    }
    stop.send(()).unwrap();
    let ends = connections.into_iter().map(async |(transport, watch)| {
        let (_, close) = watch.rest().await;
        assert_eq!(close.map(|close| close.code.into()), transport.code(1001));
    });
    assert_eq!(ends.collect::<FuturesUnordered<_>>().count().await, 8);
    server.join().unwrap().unwrap();
    assert_eq!(publisher.stats().subscriptions, 0);
}

#[tokio::test]
async fn a_shutdown_waits_until_a_slow_client_has_been_told() {
    let _watchdog = watchdog();
    let publisher = Shop::new().publisher(10);
    let (address, stop, server) = serve_apart(publisher.clone()).await;
    let [_, transport] = TRANSPORTS;
    let io = TcpStream::connect(address).await.unwrap();
    let mut watch = transport.watch(io, ("fruit", "alice"), None).await.unwrap();
    watch.until("end_of_snapshot").await;
    // It does not read: its socket is full when the server does not take commits any more.
    let lag = || publisher.slowest(1)[0].lag;
    while lag() < 20 {
        let event = change("x".repeat(100_000), 1);
        publisher
            .publish_next([("fruit".to_owned(), event)])
            .unwrap();
        for _ in 0..1_000 {
            if lag() == 0 {
                break;
            }
            yield_now().await;
        }
    }
    stop.send(()).unwrap();
    while TcpStream::connect(address).await.is_ok() {}
    let (_, close) = watch.rest().await;
    assert_eq!(close.map(|close| close.code.into()), transport.code(1001));
    server.join().unwrap().unwrap();
}

#[tokio::test]
async fn a_watch_ends_with_its_client() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let server = Server::start(Shop::new().publisher(10)).await;
        let watch = transport.watch(server.connect().await, ("fruit", "alice"), None);
        let mut watch = watch.await.unwrap();
        watch.until("end_of_snapshot").await;
        watches(&server, 1).await;
        // Nothing is published: no failed write tells the server.
        drop(watch);
        watches(&server, 0).await;
        server.stop().await;
    }
}

#[tokio::test]
async fn the_close_of_a_client_is_confirmed_while_events_pour_in() {
    let _watchdog = watchdog();
    let shop = Shop::new();
    let server = Server::start(shop.publisher(10)).await;
    let [_, transport] = TRANSPORTS;
    let watch = transport.watch(server.connect().await, ("fruit", "alice"), None);
    let Connection::WebSocket(mut socket) = watch.await.unwrap() else {
        panic!()
    };
    for _ in 0..500 {
        shop.commit(
            &server.app.publisher,
            vec![("fruit".to_owned(), change("apple", 1))],
        );
    }
    socket.close().await;
    let mut socket = Connection::WebSocket(socket);
    while socket.next().await.is_some() {}
    let Connection::WebSocket(socket) = socket else {
        panic!()
    };
    assert!(socket.is_confirmed);
    watches(&server, 0).await;
    server.stop().await;
}
