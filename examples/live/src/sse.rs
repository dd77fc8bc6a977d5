//! Watches as server-sent events: `GET /events?key=jobs&key=job/7`.

use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use event_buffer::publisher::{ParseResumeError, Watch, WatchError};
use futures::StreamExt;
use futures::stream::{iter, unfold};
use serde_json::json;

use crate::event::{Event, Key};
use crate::frame::{self, Frame};
use crate::service::App;
use crate::viewer::Viewer;

/// How long a viewer waits before it connects again.
const RETRY: Duration = Duration::from_millis(500);

/// Responds with a watch, continued after the `id` that the viewer has received last.
pub(crate) async fn watch(
    State(app): State<App>,
    Query(pairs): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> axum::response::Result<impl IntoResponse> {
    let mut viewer = Viewer::of(pairs)?;
    if let Some(id) = headers.get("last-event-id") {
        let id = id.to_str().unwrap_or_default();
        let refused =
            |error: ParseResumeError| (StatusCode::BAD_REQUEST, format!("Last-Event-ID: {error}"));
        viewer.after = Some(id.parse().map_err(refused)?);
    }
    let mut watch = app.subscribe(viewer).await;
    let begun = frame::begin(&mut watch).await?;
    let retry = iter([Ok(Message::default().retry(RETRY))]);
    let begun = iter(begun.into_iter().map(message));
    let messages = retry.chain(begun).chain(unfold(watch, next));
    let messages = Sse::new(messages).keep_alive(KeepAlive::default());
    // Without this nginx collects events until it has a buffer full of them.
    Ok(([("x-accel-buffering", "no")], messages))
}

type Step = (Result<Message, axum::Error>, Watch<Key, Event>);

/// Returns the next message, or `None` to end the response: the viewer comes back.
async fn next(mut watch: Watch<Key, Event>) -> Option<Step> {
    match frame::next(&mut watch).await? {
        Ok(frame) => Some((message(frame), watch)),
        // The viewer is to come back without that key, and is not to try it for ever.
        Err(WatchError::Snapshot(error)) => {
            let failed = json!({ "key": watch.failed_key(), "error": error.to_string() });
            Some((Message::default().event("failed").json_data(failed), watch))
        }
        Err(error) => {
            tracing::debug!(%error, "viewer closed");
            None
        }
    }
}

fn message(frame: Frame) -> Result<Message, axum::Error> {
    let message = Message::default()
        .event(frame.event)
        .json_data(frame.data)?;
    Ok(match frame.id {
        Some(id) => message.id(id),
        None => message,
    })
}
