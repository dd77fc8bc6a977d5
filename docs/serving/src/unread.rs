//! Connections of clients that read nothing.

use std::fmt::Debug;
use std::time::Duration;

use axum::serve::{Listener, ListenerExt};
use socket2::SockRef;
use tokio::net::TcpListener;

/// Makes a connection fail if its client has taken nothing of what was sent to it for `patience`.
///
/// The limit of the watch bounds the memory of such a client. The task and the socket of its
/// connection would stay for ever, and a shutdown would wait for them.
pub fn give_up_on_unread(listener: TcpListener, patience: Duration) -> impl Listener<Addr: Debug> {
    listener.tap_io(move |connection| {
        let socket = SockRef::from(&*connection);
        if let Err(error) = socket.set_tcp_user_timeout(Some(patience)) {
            eprintln!("no limit for a client that reads nothing: {error}");
        }
    })
}
