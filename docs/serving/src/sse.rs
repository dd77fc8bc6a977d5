//! Watches as server-sent events: `GET /sse/{key}`.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use event_buffer::publisher::{ParseResumeError, Watch, WatchError};
use futures::StreamExt;
use futures::stream::{iter, unfold};

use crate::message::message;
use crate::service::{App, Change};
use crate::session::Session;

/// How long a client waits before it connects again.
const RETRY: Duration = Duration::from_secs(1);

/// Responds with the watch of a key, continued after the `id` that the client has received last.
pub(crate) async fn watch(
    State(app): State<App>,
    Path(key): Path<String>,
    Session(session): Session,
    headers: HeaderMap,
) -> axum::response::Result<impl IntoResponse> {
    let place = headers.get("last-event-id");
    let place = place.map(|id| id.to_str().unwrap_or_default().parse());
    let place = place.transpose().map_err(|error: ParseResumeError| {
        (StatusCode::BAD_REQUEST, format!("Last-Event-ID: {error}"))
    })?;
    let watch = app.subscribe(key, place, &session)?;
    let retry = iter([Ok(Event::default().retry(RETRY))]);
    let events = Sse::new(retry.chain(unfold(watch, next))).keep_alive(KeepAlive::default());
    // Without this nginx collects events until it has a buffer full of them.
    Ok(([("x-accel-buffering", "no")], events))
}

type Step = (Result<Event, axum::Error>, Watch<String, Change>);

/// Returns the next event, or `None` to end the response.
async fn next(mut watch: Watch<String, Change>) -> Option<Step> {
    let event = match watch.next().await? {
        Ok(update) => {
            let (name, data) = message(&update);
            let event = Event::default().event(name).json_data(data);
            match watch.resume_point() {
                Some(place) => event.map(|event| event.id(place.to_string())),
                // Within a snapshot. The client keeps the `id` that belongs to its state.
                None => event,
            }
        }
        Err(error @ WatchError::Snapshot(_)) => Event::default()
            .event("failed")
            .json_data(error.to_string()),
        Err(_) => return None,
    };
    Some((event, watch))
}
