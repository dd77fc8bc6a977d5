//! The messages to viewers, the same over both transports.

use axum::http::StatusCode;
use event_buffer::publisher::{Begin, Events, Update, Watch, WatchError};
use futures::StreamExt;
use serde::Serialize;

use crate::event::{Event, Key};
use crate::relay::NoSuchKey;

/// A message.
#[derive(Serialize)]
pub(crate) struct Frame {
    /// What it is.
    pub(crate) event: &'static str,
    pub(crate) data: Data,
    /// Where to continue after it, if a viewer can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
}

#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Data {
    Nothing,
    Text(String),
    Key(Key),
    Events(Vec<OfKey>),
}

/// Events of one key.
#[derive(Serialize)]
pub(crate) struct OfKey {
    key: Key,
    events: Vec<Event>,
}

/// Waits for the next message. After an `Err` the watch has ended.
pub(crate) async fn next(watch: &mut Watch<Key, Event>) -> Option<Result<Frame, WatchError>> {
    let update = match watch.next().await? {
        Ok(update) => update,
        Err(error) => return Some(Err(error)),
    };
    let (event, data) = match update {
        Update::Begin(Begin::Resumed) => ("resumed", Data::Nothing),
        Update::Begin(Begin::Fresh) => ("fresh", Data::Nothing),
        Update::Begin(Begin::Reset(reason)) => ("reset", Data::Text(reason.to_string())),
        Update::Snapshot(part) => ("snapshot", events(&part)),
        Update::EndOfSnapshot { .. } => ("snapshot_end", Data::Nothing),
        Update::Events(commit) => ("events", events(&commit)),
        Update::Progress { .. } => ("progress", Data::Nothing),
        Update::Completed(key) => ("completed", Data::Key(key)),
    };
    let id = watch.resume_point().map(|place| place.to_string());
    Some(Ok(Frame { event, data, id }))
}

/// Waits until it is clear that there is something to show.
///
/// # Errors
///
/// The snapshot cannot be made: a status and a text.
pub(crate) async fn begin(
    watch: &mut Watch<Key, Event>,
) -> Result<Vec<Frame>, (StatusCode, String)> {
    let mut begun: Vec<Frame> = Vec::new();
    // A viewer that resumes may have nothing to receive for long.
    while begun.len() < 2 && begun.last().is_none_or(|first| first.event != "resumed") {
        match next(watch).await {
            Some(Ok(frame)) => begun.push(frame),
            Some(Err(error)) => return Err(refusal(&error)),
            None => break,
        }
    }
    Ok(begun)
}

fn refusal(error: &WatchError) -> (StatusCode, String) {
    if let WatchError::Snapshot(cause) = error {
        let status = match cause.get_ref().downcast_ref::<NoSuchKey>() {
            Some(_) => StatusCode::NOT_FOUND,
            None => StatusCode::SERVICE_UNAVAILABLE,
        };
        return (status, cause.to_string());
    }
    (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}

fn events(commit: &Events<Key, Event>) -> Data {
    let mut of_keys: Vec<OfKey> = Vec::new();
    for (key, event) in commit.with_keys() {
        match of_keys.last_mut() {
            Some(last) if last.key == *key => last.events.push(event.clone()),
            _ => of_keys.push(OfKey {
                key: *key,
                events: vec![event.clone()],
            }),
        }
    }
    Data::Events(of_keys)
}
