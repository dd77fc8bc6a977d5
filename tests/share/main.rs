//! Shared streams: one source, many followers.
#![cfg(not(loom))]

#[path = "../support/mod.rs"]
mod support;

mod followers;
mod operators;
mod sources;
mod user_code;
