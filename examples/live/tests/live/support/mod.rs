//! A server, and its clients.

mod client;
mod server;
mod view;

pub(crate) use client::{Events, Message, request, socket};
pub(crate) use server::Server;
pub(crate) use view::View;

/// Returns how large a test is to be: what `name` says, or a size that is quick.
pub(crate) fn size(name: &str, quick: usize) -> usize {
    std::env::var(name).map_or(quick, |size| size.parse().unwrap())
}
