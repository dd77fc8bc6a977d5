//! Clients that stop reading.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use event_buffer::publisher::Publisher;
use serving::Change;
use support::{Connection, Server, Shop, TRANSPORTS, Transport, View, change, watchdog};
use tokio::task::yield_now;

#[path = "services/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "not all of it is used here")]
mod support;

thread_local! {
    /// Bytes that this thread has allocated and not freed: server and client of a test share it.
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

struct Counted;

fn size(layout: Layout) -> isize {
    // Layouts are not larger than that.
    isize::try_from(layout.size()).unwrap_or(isize::MAX)
}

#[global_allocator]
static ALLOCATOR: Counted = Counted;

// SAFETY: all is done by the system's allocator. `realloc` is the default, which calls these two.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.set(LIVE.get() + size(layout));
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, allocated: *mut u8, layout: Layout) {
        LIVE.set(LIVE.get() - size(layout));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(allocated, layout) }
    }
}

const MIB: isize = 1 << 20;
const ALICE: (&str, &str) = ("fruit", "alice");

async fn stop_reading(server: &Server, transport: Transport) -> Connection {
    let mut watch = transport
        .watch(server.connect().await, ALICE, None)
        .await
        .unwrap();
    watch.until("end_of_snapshot").await;
    watch
}

/// An event of 1 KiB.
fn event() -> Vec<(String, Change)> {
    vec![("fruit".to_owned(), change("x".repeat(1_024), 1))]
}

/// The server does what it can do now.
async fn let_it_serve() {
    for _ in 0..3 {
        yield_now().await;
    }
}

#[tokio::test]
async fn a_client_that_stops_reading_is_closed_and_comes_back() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let shop = Shop::new();
        let server = Server::start(shop.publisher(2_000)).await;
        let publisher = &server.app.publisher;
        let stuck = stop_reading(&server, transport).await;
        while publisher.slowest(1)[0].lag <= 1_000 {
            shop.commit(publisher, event());
            let_it_serve().await;
        }
        let newest = publisher.index();

        // What was on its way arrives, without a gap.
        let (messages, close) = stuck.rest().await;
        let mut view = View::default();
        for (index, message) in (1..).zip(messages) {
            assert_eq!(
                (&*message.name, message.place.as_ref()),
                ("events", Some(&format!("1-{index}")))
            );
            view.receive(&message.name, message.data, message.place);
        }
        assert_eq!(view.place, Some(format!("1-{}", newest - 1_001)));
        assert_eq!(close.map(|close| close.code.into()), transport.code(1013));
        let io = server.connect().await;
        let mut again = transport
            .watch(io, ALICE, view.place.as_deref())
            .await
            .unwrap();
        // The history has more than the limit allows, so nothing is missed.
        let newest = format!("1-{newest}");
        assert_eq!(again.next().await.unwrap().data, "resumed");
        while view.place.as_ref() != Some(&newest) {
            let message = again.next().await.unwrap();
            assert_eq!(message.name, "events");
            view.receive(&message.name, message.data, message.place);
        }
        assert_eq!(view.stock, shop.stock("fruit", publisher.index()));
        drop(again);
        server.stop().await;
    }
}

#[tokio::test]
async fn a_client_that_never_reads_again_holds_no_memory() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let history = 2_000;
        let server = Server::start(Publisher::builder().history(history).build()).await;
        let publisher = &server.app.publisher;
        let stuck = stop_reading(&server, transport).await;
        let commit = async || {
            publisher.publish_next(event()).unwrap();
            let_it_serve().await;
        };
        for _ in 0..history {
            commit().await;
        }
        let before = LIVE.get();
        for _ in 0..50_000 {
            commit().await;
        }
        let held = LIVE.get() - before;
        assert!(held < 4 * MIB, "{held} bytes more after 50 MiB");
        drop(stuck);
        server.stop().await;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_connection_of_a_client_that_never_reads_again_is_given_up() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let patience = Duration::from_millis(200);
        let server = Server::start_with(Shop::new().publisher(10), patience).await;
        let publisher = server.app.publisher.clone();
        let stuck = stop_reading(&server, transport).await;
        while publisher.slowest(1).iter().any(|stuck| stuck.lag <= 1_000) {
            publisher.publish_next(event()).unwrap();
            let_it_serve().await;
        }
        // Neither this nor a shutdown waits for the client.
        while publisher.stats().subscriptions > 0 {
            yield_now().await;
        }
        server.stop().await;
        drop(stuck);
    }
}
