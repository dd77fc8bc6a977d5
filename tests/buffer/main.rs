//! The writing side: publishing, retention, splices and ends, shared buffers, recordings, counts.
#![cfg(not(loom))]

#[path = "../support/mod.rs"]
mod support;

mod counts;
mod publish;
mod recording;
mod shared;
mod splice;
