//! Watches over WebSocket: `GET /socket?key=jobs&after={place}`.

use std::time::Duration;

use axum::extract::ws::{CloseCode, CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Query, State};
use axum::response::Response;
use event_buffer::publisher::{CloseReason, Watch, WatchError};
use tokio::time::{interval, timeout};

use crate::event::{Event, Key};
use crate::frame::{self, Frame};
use crate::service::App;
use crate::viewer::Viewer;

/// How often an idle connection is used, lest a proxy close it.
const PING: Duration = Duration::from_secs(15);

/// Responds with a watch, continued after the place that the viewer names.
pub(crate) async fn watch(
    State(app): State<App>,
    Query(pairs): Query<Vec<(String, String)>>,
    upgrade: WebSocketUpgrade,
) -> axum::response::Result<Response> {
    let viewer = Viewer::of(pairs)?;
    let mut watch = app.subscribe(viewer).await;
    let begun = frame::begin(&mut watch).await?;
    // A viewer has nothing to say.
    let upgrade = upgrade.max_message_size(1_024);
    Ok(upgrade.on_upgrade(|socket| follow(socket, begun, watch)))
}

/// Sends messages until the watch or the viewer ends.
async fn follow(mut socket: WebSocket, begun: Vec<Frame>, mut watch: Watch<Key, Event>) {
    for frame in begun {
        if socket.send(message(&frame)).await.is_err() {
            return;
        }
    }
    let mut ping = interval(PING);
    let end = loop {
        let message = tokio::select! {
            biased;
            // First: the reply to a viewer's close is sent by the next `recv`.
            received = socket.recv() => match received {
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => return,
            },
            next = frame::next(&mut watch) => match next {
                Some(Ok(frame)) => message(&frame),
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
        // A connection that is dropped before the viewer confirms may lose what was sent.
        let confirmed = async { while let Some(Ok(_)) = socket.recv().await {} };
        _ = timeout(PING, confirmed).await;
    }
}

fn message(frame: &Frame) -> Message {
    // It has nothing in it that JSON cannot say.
    serde_json::to_string(frame).unwrap_or_default().into()
}

/// Says why the watch has ended, and whether the viewer is to come back.
fn close_frame(end: Option<WatchError>) -> CloseFrame {
    let code: CloseCode = match &end {
        None => close_code::NORMAL,
        Some(WatchError::Closed(CloseReason::AccessChanged)) => close_code::POLICY,
        Some(WatchError::Closed(CloseReason::ShutDown)) => close_code::AWAY,
        Some(WatchError::Snapshot(_)) => close_code::ERROR,
        Some(_) => close_code::AGAIN,
    };
    let reason = end.map_or(String::new(), |error| error.to_string());
    CloseFrame {
        code,
        reason: reason.into(),
    }
}
