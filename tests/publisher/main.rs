//! The publisher: snapshots, places to resume from, keys, closing, limits, figures.
#![cfg(all(not(loom), feature = "publisher"))]

#[path = "../support/mod.rs"]
mod support;

mod closing;
mod kept_snapshots;
mod keys;
mod limits;
mod resume;
mod seen;
mod snapshots;
mod stats;
mod store;
mod user_code;
