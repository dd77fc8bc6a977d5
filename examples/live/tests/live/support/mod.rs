//! A server, and its clients.

mod client;
mod server;
mod view;

use std::time::Duration;

pub(crate) use client::{Events, Message, request, socket};
pub(crate) use server::Server;
pub(crate) use view::View;

/// Waits for what must come, and fails if it does not in five minutes.
pub(crate) async fn surely<F: Future>(what: F) -> F::Output {
    let waited = tokio::time::timeout(Duration::from_mins(5), what).await;
    waited.expect("it hangs")
}

/// Returns how large a test is to be: what `name` says, or a size that is quick.
pub(crate) fn size(name: &str, quick: usize) -> usize {
    std::env::var(name).map_or(quick, |size| size.parse().unwrap())
}
