//! Wakers, destructors, clones and sizes: they panic, block, and use the buffer that runs them.
#![cfg(not(loom))]

#[path = "../support/mod.rs"]
mod support;

mod blocking_drops;
mod limits;
mod panicking_drops;
mod panicking_wakers;
mod reentrancy;
mod wakers;
