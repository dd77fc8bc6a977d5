//! Clients of both services.

use futures::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{COOKIE, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{self, Error};
use tokio_tungstenite::{WebSocketStream, client_async};

pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<I: AsyncRead + AsyncWrite + Unpin + Send + 'static> Io for I {}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Transport {
    Sse,
    WebSocket,
}

pub(crate) const TRANSPORTS: [Transport; 2] = [Transport::Sse, Transport::WebSocket];

/// Why there is no connection.
#[derive(Debug, PartialEq)]
pub(crate) enum Refused {
    Status(StatusCode, String),
    /// The connection was cut before there was an answer.
    Cut,
}

/// What a service sends.
#[derive(Debug, PartialEq)]
pub(crate) struct Message {
    pub(crate) name: String,
    pub(crate) data: Value,
    /// Where to continue after it, if it says so.
    pub(crate) place: Option<String>,
}

pub(crate) enum Connection {
    Sse(Events),
    WebSocket(Box<Socket>),
}

/// A response of server-sent events.
pub(crate) struct Events {
    _request: http1::SendRequest<Empty<Bytes>>,
    body: Incoming,
    bytes: Vec<u8>,
    pub(crate) comments: usize,
    pub(crate) retry: Option<String>,
}

pub(crate) struct Socket {
    messages: WebSocketStream<Box<dyn Io>>,
    pub(crate) pings: usize,
    pub(crate) close: Option<CloseFrame>,
    /// The service has said that it closes, too.
    pub(crate) is_confirmed: bool,
}

impl Transport {
    /// The code of a close, if there are any.
    pub(crate) fn code(self, code: u16) -> Option<u16> {
        (self == Self::WebSocket).then_some(code)
    }

    /// Watches a key, after a place.
    pub(crate) async fn watch(
        self,
        io: impl Io,
        (key, session): (&str, &str),
        after: Option<&str>,
    ) -> Result<Connection, Refused> {
        match self {
            Self::Sse => Events::watch(io, (key, session), after)
                .await
                .map(Connection::Sse),
            Self::WebSocket => {
                let socket = Socket::watch(Box::new(io), (key, session), after).await?;
                Ok(Connection::WebSocket(Box::new(socket)))
            }
        }
    }
}

impl Connection {
    /// Returns the next message, `None` at the end of the connection.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        match self {
            Self::Sse(events) => events.next().await,
            Self::WebSocket(socket) => socket.next().await,
        }
    }

    /// The messages until one of this name, which is the last of them.
    pub(crate) async fn until(&mut self, name: &str) -> Vec<Message> {
        let mut messages = Vec::new();
        while messages
            .last()
            .is_none_or(|last: &Message| last.name != name)
        {
            let next = self.next().await;
            messages.push(next.unwrap_or_else(|| panic!("no {name} after {messages:?}")));
        }
        messages
    }

    /// The messages until the connection ends, and what the service says of the end.
    pub(crate) async fn rest(mut self) -> (Vec<Message>, Option<CloseFrame>) {
        let mut messages = Vec::new();
        while let Some(message) = self.next().await {
            messages.push(message);
        }
        let close = match self {
            Self::Sse(_) => None,
            Self::WebSocket(socket) => socket.close,
        };
        (messages, close)
    }
}

impl Events {
    async fn watch(
        io: impl Io,
        (key, session): (&str, &str),
        after: Option<&str>,
    ) -> Result<Self, Refused> {
        let cut = |_| Refused::Cut;
        let (mut request, connection) = http1::handshake(TokioIo::new(io)).await.map_err(cut)?;
        tokio::spawn(connection);
        let get = Request::get(format!("/sse/{key}"))
            .header(HOST, "shop")
            .header(COOKIE, format!("theme=dark; session={session}"));
        let get = match after {
            Some(place) => get.header("Last-Event-ID", place),
            None => get,
        };
        let response = request.send_request(get.body(Empty::new()).unwrap());
        let response = response.await.map_err(cut)?;
        let status = response.status();
        if status != StatusCode::OK {
            let body = response.collect().await.map_err(cut)?.to_bytes();
            let text = String::from_utf8(body.to_vec()).unwrap();
            return Err(Refused::Status(status, text));
        }
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let body = response.into_body();
        Ok(Self {
            _request: request,
            body,
            bytes: Vec::new(),
            comments: 0,
            retry: None,
        })
    }

    async fn next(&mut self) -> Option<Message> {
        loop {
            while let Some(end) = self.bytes.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = self.bytes.drain(..end + 2).collect();
                let message = self.dispatch(&String::from_utf8(block).unwrap());
                if message.is_some() {
                    return message;
                }
            }
            // What is left of a block that was cut off is void.
            let frame = self.body.frame().await?.ok()?;
            self.bytes.extend_from_slice(&frame.into_data().unwrap());
        }
    }

    /// Reads a block, as the HTML standard says.
    fn dispatch(&mut self, block: &str) -> Option<Message> {
        let (mut name, mut data, mut place) = (String::new(), String::new(), None);
        for line in block.lines() {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
            match field {
                "" if !line.is_empty() => self.comments += 1,
                "event" => name = value,
                "data" => data += &value,
                "id" => place = Some(value),
                "retry" => self.retry = Some(value),
                _ => {}
            }
        }
        let data = (!data.is_empty()).then(|| serde_json::from_str(&data).unwrap())?;
        Some(Message { name, data, place })
    }
}

impl Socket {
    async fn watch(
        io: Box<dyn Io>,
        (key, session): (&str, &str),
        after: Option<&str>,
    ) -> Result<Self, Refused> {
        let query = after.map_or(String::new(), |place| format!("?after={place}"));
        let url = format!("ws://shop/websocket/{key}{query}");
        let mut request = url.into_client_request().unwrap();
        let cookie = format!("session={session}").parse().unwrap();
        request.headers_mut().insert(COOKIE, cookie);
        match client_async(request, io).await {
            Ok((messages, _)) => Ok(Self {
                messages,
                pings: 0,
                close: None,
                is_confirmed: false,
            }),
            Err(Error::Http(response)) => {
                let body = response.body().clone().unwrap_or_default();
                let text = String::from_utf8(body).unwrap();
                Err(Refused::Status(response.status(), text))
            }
            Err(_) => Err(Refused::Cut),
        }
    }

    async fn next(&mut self) -> Option<Message> {
        loop {
            match self.messages.next().await?.ok()? {
                tungstenite::Message::Text(text) => {
                    let mut message: Value = serde_json::from_str(&text).unwrap();
                    let place = message["place"].as_str().map(str::to_owned);
                    let name = message["event"].as_str().unwrap().to_owned();
                    return Some(Message {
                        name,
                        data: message["data"].take(),
                        place,
                    });
                }
                tungstenite::Message::Ping(_) => self.pings += 1,
                tungstenite::Message::Close(close) => {
                    self.close = close;
                    self.is_confirmed = true;
                }
                other => panic!("unexpected: {other:?}"),
            }
        }
    }

    /// Says that the client goes.
    pub(crate) async fn close(&mut self) {
        self.messages
            .send(tungstenite::Message::Close(None))
            .await
            .unwrap();
    }
}
