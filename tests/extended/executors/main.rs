//! The same readers under the executors of futures, smol and tokio, and on plain threads.

#[path = "../../support/mod.rs"]
mod support;

mod buffer;
mod publisher;
mod share;
