//! Job output that many people follow live, on `event_buffer::publisher`.
//!
//! * [`event`]: what is published, and under which keys.
//! * [`log`]: where jobs put what they write, in this process or in NATS `JetStream`.
//! * [`relay`]: a publisher on each of several nodes, which a service can take as it is.
//! * [`service`]: the routes, over server-sent events and over WebSocket, and how the server ends.

mod command;
pub mod event;
mod frame;
mod guard;
mod jobs;
mod local;
pub mod log;
mod metrics;
pub mod relay;
pub mod service;
mod sse;
mod viewer;
mod websocket;

/// How many commits a viewer that comes back may have missed.
const HISTORY: usize = 2_000;
