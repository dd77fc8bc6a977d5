//! The services that `docs/SERVING.md` shows: watches of a publisher over server-sent events and
//! over WebSocket.

mod message;
mod service;
mod session;
mod sse;
#[cfg(target_os = "linux")]
mod unread;
mod websocket;

pub use service::{App, Change, mark_progress, router, serve};
pub use session::Sessions;
#[cfg(target_os = "linux")]
pub use unread::give_up_on_unread;
