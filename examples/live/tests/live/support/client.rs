//! Clients: plain requests, server-sent events, `WebSocket`.

use std::net::SocketAddr;

use futures::StreamExt;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite;

/// What a server sends to a viewer.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) event: String,
    pub(crate) data: Value,
    pub(crate) id: Option<String>,
}

/// A response of server-sent events.
pub(crate) struct Events {
    lines: BufReader<TcpStream>,
}

/// Makes a request, and returns the status and the body of its response.
pub(crate) async fn request(
    server: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> (u16, String) {
    let headers = format!("Content-Length: {}\r\n", body.len());
    let (status, mut rest) = send(server, method, path, &headers, body).await.unwrap();
    let mut text = String::new();
    rest.read_to_string(&mut text).await.unwrap();
    (status, text)
}

/// With version 1.0, whose responses end with their connections and are not in chunks.
async fn send(
    server: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> std::io::Result<(u16, BufReader<TcpStream>)> {
    let connection = TcpStream::connect(server).await?;
    let mut connection = BufReader::new(connection);
    let head = format!("{method} {path} HTTP/1.0\r\nHost: {server}\r\n{headers}\r\n");
    connection.write_all(head.as_bytes()).await?;
    // A server that refuses a body need not read all of it.
    _ = connection.write_all(body.as_bytes()).await;
    let mut line = String::new();
    connection.read_line(&mut line).await?;
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status = status.ok_or(std::io::ErrorKind::UnexpectedEof)?;
    while line.trim() != "" {
        line.clear();
        connection.read_line(&mut line).await?;
    }
    Ok((status, connection))
}

impl Events {
    /// Watches keys, after a place.
    ///
    /// # Errors
    ///
    /// The status and the text of a refusal.
    pub(crate) async fn watch(
        server: SocketAddr,
        query: &str,
        after: Option<&str>,
    ) -> Result<Self, (u16, String)> {
        let headers = after.map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
        let sent = send(server, "GET", &format!("/events?{query}"), &headers, "").await;
        let (status, mut lines) = sent.map_err(|error| (0, error.to_string()))?;
        if status == 200 {
            return Ok(Self { lines });
        }
        let mut text = String::new();
        _ = lines.read_to_string(&mut text).await;
        Err((status, text))
    }

    /// Returns the next message, `None` when the connection has ended.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        let (mut event, mut data, mut id) = (String::new(), String::new(), None);
        let mut line = String::new();
        loop {
            line.clear();
            // What is left of a message that was cut off is void.
            let read = self.lines.read_line(&mut line).await.ok()?;
            let text = line.strip_suffix('\n')?;
            let (field, value) = text.split_once(": ").unwrap_or((text, ""));
            match field {
                "event" => value.clone_into(&mut event),
                "data" => data += value,
                "id" => id = Some(value.to_owned()),
                "" if read == 1 && !event.is_empty() => {
                    let data = serde_json::from_str(&data).unwrap();
                    return Some(Message { event, data, id });
                }
                _ => {}
            }
        }
    }
}

/// Watches over `WebSocket`, and returns all messages and the code of the close.
pub(crate) async fn socket(server: SocketAddr, query: &str) -> (Vec<Message>, Option<u16>) {
    let url = format!("ws://{server}/socket?{query}");
    let (mut socket, _) = connect_async(url).await.unwrap();
    let (mut messages, mut code) = (Vec::new(), None);
    while let Some(Ok(message)) = socket.next().await {
        match message {
            tungstenite::Message::Text(text) => {
                let mut message: Value = serde_json::from_str(&text).unwrap();
                messages.push(Message {
                    event: message["event"].as_str().unwrap().to_owned(),
                    id: message["id"].as_str().map(str::to_owned),
                    data: message["data"].take(),
                });
            }
            tungstenite::Message::Close(frame) => code = frame.map(|frame| frame.code.into()),
            _ => {}
        }
    }
    (messages, code)
}
