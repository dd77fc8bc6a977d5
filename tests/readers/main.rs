//! The reading side: every kind of reader, bookmarks, limits, closing.
#![cfg(not(loom))]

#[path = "../support/mod.rs"]
mod support;

mod bookmark;
mod byte_limits;
mod chunks;
#[cfg(feature = "publisher")]
mod closing;
mod ended;
mod errors;
mod family;
mod limits;
mod subscription;
