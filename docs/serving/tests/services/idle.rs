//! What an idle client receives. The clock jumps to the next timer when nothing else happens.

use std::future::pending;
use std::io;
use std::time::Duration;

use axum::serve::Listener;
use serving::serve;
use tokio::io::{DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::support::{Connection, Server, Shop, TRANSPORTS, change, watchdog};

/// Connections within the process: real ones take time that the clock does not know of.
struct Pipes(mpsc::UnboundedReceiver<DuplexStream>);

impl Listener for Pipes {
    type Io = DuplexStream;
    type Addr = ();

    async fn accept(&mut self) -> (DuplexStream, ()) {
        match self.0.recv().await {
            Some(connection) => (connection, ()),
            None => pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_client_is_kept_alive_and_has_a_place_that_resumes() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let shop = Shop::new();
        let publisher = shop.publisher(1);
        let (listener, pipes) = mpsc::unbounded_channel();
        tokio::spawn(serve(
            Pipes(pipes),
            Server::app(publisher.clone()),
            pending(),
        ));
        let connect = || {
            let (client, server) = duplex(64 * 1_024);
            listener.send(server).unwrap();
            client
        };
        let mut watch = transport
            .watch(connect(), ("quiet", "alice"), None)
            .await
            .unwrap();
        watch.until("end_of_snapshot").await;

        // No message, but signs of life.
        let minute = Duration::from_secs(60);
        assert_eq!(timeout(minute, watch.next()).await.ok(), None);
        let signs = match &watch {
            Connection::Sse(events) => events.comments,
            Connection::WebSocket(socket) => socket.pings,
        };
        assert!((3..=5).contains(&signs), "{signs}");

        // The busy key goes on. The place of the quiet one goes with it.
        let commit = || shop.commit(&publisher, vec![("busy".to_owned(), change("item", 1))]);
        (0..10).for_each(|_| _ = commit());
        let progress = watch.next().await.unwrap();
        assert_eq!(
            (&*progress.name, progress.place.as_deref()),
            ("progress", Some("1-10"))
        );
        drop(watch);
        commit();
        for (place, how) in [("1-10", "resumed"), ("1-9", "too old")] {
            let watch = transport
                .watch(connect(), ("quiet", "alice"), Some(place))
                .await;
            assert_eq!(watch.unwrap().next().await.unwrap().data, how);
        }
    }
}

#[tokio::test]
async fn a_client_of_server_sent_events_is_told_when_to_come_back() {
    let _watchdog = watchdog();
    let server = Server::start(Shop::new().publisher(1)).await;
    let [transport, _] = TRANSPORTS;
    let io = server.connect().await;
    let mut watch = transport.watch(io, ("fruit", "alice"), None).await.unwrap();
    watch.next().await;
    let Connection::Sse(events) = &watch else {
        panic!()
    };
    assert_eq!(events.retry.as_deref(), Some("1000"));
    drop(watch);
    server.stop().await;
}
