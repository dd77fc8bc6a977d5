//! A shop to watch, a server, and clients.

mod client;
mod server;
mod sessions;
mod shop;
mod view;
#[path = "../../../../../tests/support/watchdog.rs"]
#[allow(dead_code, reason = "not all of it is used here")]
mod watchdog;

pub(crate) use client::{Connection, Message, Refused, TRANSPORTS, Transport};
pub(crate) use server::Server;
pub(crate) use sessions::LoggedIn;
pub(crate) use shop::{Shop, change};
pub(crate) use view::View;
pub(crate) use watchdog::watchdog;
