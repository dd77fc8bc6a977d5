//! The routes, and how the server ends.

use std::convert::Infallible;
use std::fmt::Debug;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse};
use axum::routing::{delete, get};
use axum::serve::{Listener, ListenerExt};
use axum::{Json, Router, middleware};
use event_buffer::LagLimit;
use event_buffer::publisher::{OverLimit, Publisher, Request, Watch};
use serde::Serialize;
use socket2::SockRef;
use tokio::net::TcpListener;
use tokio::time::{interval, sleep};

use crate::event::{Event, Job, Key};
use crate::log::Log;
use crate::viewer::Viewer;
use crate::{command, guard, jobs, metrics, sse, websocket};

/// How many commits a viewer may be behind.
const MOST_BEHIND: u64 = 1_000;

/// The most bytes of a command line.
const MOST_COMMAND: usize = 4_096;

/// How long open connections may take to end.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What the handlers of requests share.
#[derive(Clone)]
pub struct App {
    /// Where jobs put what they write.
    pub log: Arc<Log>,
    /// Any command may run, not only those of the allow-list.
    pub any_command: bool,
    /// How many jobs that have ended the table keeps.
    pub keep: usize,
}

impl App {
    pub(crate) fn publisher(&self) -> &Publisher<Key, Event> {
        self.log.publisher()
    }

    /// Watches what a viewer asks for.
    pub(crate) async fn subscribe(&self, viewer: Viewer) -> Watch<Key, Event> {
        if let Some(place) = viewer.after {
            self.log.read_up_to(place).await;
        }
        let request = Request::keys(viewer.keys)
            .after(viewer.after)
            .limit(LagLimit::items(MOST_BEHIND), OverLimit::Close);
        self.publisher().subscribe(match viewer.session {
            Some(session) => request.token(session),
            None => request,
        })
    }

    /// Starts a job, and returns its number.
    ///
    /// # Errors
    ///
    /// A status and a text: the command is refused, or cannot be started or logged.
    pub async fn start(&self, line: &str) -> Result<u64, (StatusCode, String)> {
        let line = line.trim();
        let command = command::parse(line, self.any_command)
            .map_err(|refused| (StatusCode::FORBIDDEN, refused.to_string()))?;
        jobs::start(Arc::clone(&self.log), line.to_owned(), command, self.keep)
            .await
            .map_err(|error| (StatusCode::SERVICE_UNAVAILABLE, error.to_string()))
    }
}

/// Returns all routes.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/events", get(sse::watch))
        .route("/socket", get(websocket::watch))
        .route("/jobs", get(table).post(start))
        .route("/sessions/{session}", delete(close))
        .route("/metrics", get(metrics::metrics))
        .layer(DefaultBodyLimit::max(MOST_COMMAND))
        .layer(middleware::from_fn(guard::same_site))
        .with_state(app)
}

/// Serves until `shutdown` completes, and then for half a second at the most.
///
/// # Errors
///
/// Those of the listener.
pub async fn serve(
    listener: TcpListener,
    app: App,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let publisher = app.publisher().clone();
    let marks = mark_progress(publisher.clone());
    let log = Arc::clone(&app.log);
    let lost = jobs::find_lost(&log);
    let (ending, ended) = tokio::sync::oneshot::channel();
    let shutdown = async move {
        shutdown.await;
        // Ends the watches, without which axum would wait for their responses for ever.
        publisher.shutdown();
        _ = ending.send(());
    };
    let listener = give_up_on_unread(listener, Duration::from_secs(30));
    let serving = axum::serve(listener, router(app)).with_graceful_shutdown(shutdown);
    let patience = async {
        _ = ended.await;
        // A viewer that reads nothing does not take its end either.
        sleep(LAST_WORDS).await;
    };
    tokio::select! {
        served = serving.into_future() => served,
        () = patience => Ok(()),
        never = marks => match never {},
        never = lost => match never {},
    }
}

/// Gives idle viewers a fresh place, so that they can resume although other keys are busy.
async fn mark_progress(publisher: Publisher<Key, Event>) -> Infallible {
    let mut ticks = interval(Duration::from_secs(10));
    loop {
        ticks.tick().await;
        publisher.mark_progress();
    }
}

/// Makes a connection fail if its viewer has taken nothing of what was sent to it for `patience`.
///
/// The limit of the watch bounds the memory of such a viewer. The task and the socket of its
/// connection would stay for ever.
fn give_up_on_unread(listener: TcpListener, patience: Duration) -> impl Listener<Addr: Debug> {
    listener.tap_io(move |connection| {
        if let Err(error) = SockRef::from(&*connection).set_tcp_user_timeout(Some(patience)) {
            tracing::warn!(%error, "no limit for a viewer that reads nothing");
        }
    })
}

async fn page() -> impl IntoResponse {
    let policy = "default-src 'self' 'unsafe-inline'; img-src data:";
    (
        [(header::CONTENT_SECURITY_POLICY, policy)],
        Html(include_str!("page.html")),
    )
}

async fn start(
    State(app): State<App>,
    line: String,
) -> Result<impl IntoResponse, (StatusCode, String)> {
    let number = app.start(&line).await?;
    Ok((
        StatusCode::CREATED,
        Json(Started {
            job: number,
            key: Key::Output(number),
        }),
    ))
}

#[derive(Serialize)]
struct Started {
    job: u64,
    key: Key,
}

/// A row of the table, and how many follow its output on this node.
#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    job: Job,
    viewers: usize,
}

/// Responds with the table as it is.
async fn table(State(app): State<App>) -> Result<impl IntoResponse, (StatusCode, String)> {
    let rows = { app.log.table().await }
        .map_err(|error| (StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
    let rows = rows.into_iter().map(|job| Row {
        viewers: app.publisher().watchers(&Key::Output(job.job)),
        job,
    });
    Ok(Json(rows.collect::<Vec<_>>()))
}

/// Closes the watches of a viewer's session. It may come back, and resumes.
async fn close(State(app): State<App>, Path(session): Path<String>) -> StatusCode {
    app.publisher().close_token(&session);
    StatusCode::NO_CONTENT
}
