//! The messages of both services.

use event_buffer::publisher::{Begin, Events, Update};
use serde_json::{Value, json};

use crate::service::Change;

/// Returns the name of an update, and its data.
pub(crate) fn message(update: &Update<String, Change>) -> (&'static str, Value) {
    let list = |events: &Events<String, Change>| json!(events.iter().collect::<Vec<_>>());
    match update {
        Update::Begin(Begin::Resumed) => ("begin", json!("resumed")),
        Update::Begin(Begin::Fresh) => ("begin", json!("fresh")),
        Update::Begin(Begin::Reset(reason)) => ("begin", json!(reason.to_string())),
        Update::Snapshot(part) => ("snapshot", list(part)),
        Update::EndOfSnapshot { .. } => ("end_of_snapshot", Value::Null),
        Update::Events(commit) => ("events", list(commit)),
        Update::Progress { .. } => ("progress", Value::Null),
        Update::Completed(key) => ("completed", json!(key)),
    }
}
