//! What both services share: which watches there may be, what they may cost, and how they end.

use std::convert::Infallible;
use std::fmt::Debug;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use axum::serve::Listener;
use event_buffer::LagLimit;
use event_buffer::publisher::{OverLimit, Publisher, Request, Resume, Watch};
use serde::{Deserialize, Serialize};
use tokio::time::interval;
use tokio_util::task::TaskTracker;

use crate::session::Sessions;
use crate::{sse, websocket};

/// An event: a number of one item has come or gone.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Change {
    /// The name of the item.
    pub item: String,
    /// How many have come.
    pub by: i64,
}

/// What the handlers of requests share.
#[derive(Clone)]
pub struct App {
    /// What is watched.
    pub publisher: Publisher<String, Change>,
    /// The sessions that are logged in.
    pub sessions: Arc<dyn Sessions>,
    /// Counts the open `WebSocket`s.
    pub sockets: TaskTracker,
}

/// How many commits a client may be behind.
const MOST_BEHIND: u64 = 1_000;

impl App {
    /// Watches a key for a session.
    ///
    /// # Errors
    ///
    /// [`StatusCode::UNAUTHORIZED`] if the session is not logged in.
    pub fn subscribe(
        &self,
        key: String,
        after: Option<Resume>,
        session: &str,
    ) -> Result<Watch<String, Change>, StatusCode> {
        let request = Request::new(key)
            .after(after)
            .token(session)
            .limit(LagLimit::items(MOST_BEHIND), OverLimit::Close);
        let watch = self.publisher.subscribe(request);
        // Checked last: a logout that comes after the check finds the watch, and closes it.
        let may_watch = self.sessions.contains(session);
        may_watch.then_some(watch).ok_or(StatusCode::UNAUTHORIZED)
    }

    /// Logs a session out, and closes its watches.
    pub fn log_out(&self, session: &str) {
        self.sessions.remove(session);
        // Closed last: a watch that begins after this is refused.
        self.publisher.close_token(session);
    }
}

/// Returns the routes of both services.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/sse/{key}", get(sse::watch))
        .route("/websocket/{key}", get(websocket::watch))
        .with_state(app)
}

/// Serves until `shutdown` completes, and then until each connection has ended.
///
/// # Errors
///
/// Those of the listener.
pub async fn serve(
    listener: impl Listener<Addr: Debug>,
    app: App,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (publisher, sockets) = (app.publisher.clone(), app.sockets.clone());
    let marks = mark_progress(publisher.clone());
    let shutdown = async move {
        shutdown.await;
        // Ends the watches, without which axum would wait for their responses for ever.
        publisher.shutdown();
    };
    let serving = axum::serve(listener, router(app)).with_graceful_shutdown(shutdown);
    tokio::select! {
        served = serving.into_future() => served?,
        never = marks => match never {},
    }
    // axum does not wait for WebSockets.
    sockets.close();
    sockets.wait().await;
    Ok(())
}

/// Gives idle clients a fresh place, so that they can resume although other keys are busy.
pub async fn mark_progress(publisher: Publisher<String, Change>) -> Infallible {
    let mut ticks = interval(Duration::from_secs(10));
    loop {
        ticks.tick().await;
        publisher.mark_progress();
    }
}
