//! A server on a port of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use event_buffer::publisher::Publisher;
use serving::{App, Change, serve};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::LoggedIn;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) app: App,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Server {
    /// A service with two sessions, "alice" and "bob".
    pub(crate) fn app(publisher: Publisher<String, Change>) -> App {
        let sessions = Arc::new(LoggedIn::new(&["alice", "bob"]));
        let sockets = TaskTracker::new();
        App {
            publisher,
            sessions,
            sockets,
        }
    }

    pub(crate) async fn start(publisher: Publisher<String, Change>) -> Self {
        // Longer than any test takes.
        Self::start_with(publisher, Duration::from_secs(3_600)).await
    }

    /// Starts a server that gives up on a client that reads nothing for that long.
    pub(crate) async fn start_with(
        publisher: Publisher<String, Change>,
        patience: Duration,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Self::app(publisher);
        let (stop, stopped) = oneshot::channel();
        let stopped = async move { stopped.await.unwrap_or_default() };
        #[cfg(target_os = "linux")]
        let listener = serving::give_up_on_unread(listener, patience);
        let serving = tokio::spawn(serve(listener, app.clone(), stopped));
        Self {
            address,
            app,
            stop,
            serving,
        }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Shuts the server down, and returns when all connections have ended.
    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        self.serving.await.unwrap().unwrap();
    }
}
