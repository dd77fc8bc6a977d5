//! Watches over WebSocket: `GET /websocket/{key}?after={place}`.

use std::time::Duration;

use axum::extract::ws::{
    CloseCode, CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code,
};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use event_buffer::publisher::{CloseReason, Resume, Watch, WatchError};
use futures::StreamExt;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{interval, timeout};

use crate::message::message;
use crate::service::{App, Change};
use crate::session::Session;

/// How often an idle connection is used, lest a proxy close it.
const PING: Duration = Duration::from_secs(15);

#[derive(Deserialize)]
pub(crate) struct Place {
    after: Option<Resume>,
}

/// Responds with the watch of a key, continued after the place that the client has received last.
pub(crate) async fn watch(
    State(app): State<App>,
    Path(key): Path<String>,
    Query(place): Query<Place>,
    Session(session): Session,
    upgrade: WebSocketUpgrade,
) -> axum::response::Result<Response> {
    let watch = app.subscribe(key, place.after, &session)?;
    // Held while the socket is open, and from now on: a shutdown may come before it is.
    let open = app.sockets.token();
    // A client has nothing to say.
    let upgrade = upgrade.max_message_size(1_024);
    Ok(upgrade.on_upgrade(async move |socket| {
        follow(socket, watch).await;
        drop(open);
    }))
}

/// Sends updates until the watch or the client ends.
async fn follow(mut socket: WebSocket, mut watch: Watch<String, Change>) {
    let mut ping = interval(PING);
    let end = loop {
        let message = tokio::select! {
            biased;
            // First: the reply to a client's close is sent by the next `recv`.
            received = socket.recv() => match received {
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => return,
            },
            update = watch.next() => match update {
                Some(Ok(update)) => {
                    let (name, data) = message(&update);
                    let place = watch.resume_point();
                    json!({ "event": name, "data": data, "place": place }).to_string().into()
                }
                Some(Err(error)) => break Some(error),
                None => break None,
            },
            _ = ping.tick() => Message::Ping("".into()),
        };
        if socket.send(message).await.is_err() {
            return;
        }
    };
    let close = Message::Close(Some(close_frame(end)));
    if socket.send(close).await.is_ok() {
        // A connection that is dropped before the client confirms may lose what was sent.
        let confirmed = async { while let Some(Ok(_)) = socket.recv().await {} };
        _ = timeout(PING, confirmed).await;
    }
}

/// Says why the watch has ended, and whether the client is to come back.
fn close_frame(end: Option<WatchError>) -> CloseFrame {
    let code: CloseCode = match &end {
        None => close_code::NORMAL,
        Some(WatchError::Closed(CloseReason::AccessChanged)) => close_code::POLICY,
        Some(WatchError::Closed(CloseReason::ShutDown)) => close_code::AWAY,
        Some(WatchError::Snapshot(_)) => close_code::ERROR,
        Some(_) => close_code::AGAIN,
    };
    let reason = end.map_or(Utf8Bytes::default(), |error| error.to_string().into());
    CloseFrame { code, reason }
}
