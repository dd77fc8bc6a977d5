//! The service as a process of its own, with real clients.

mod bad_input;
mod followers;
mod nodes;
mod removed;
mod stuck;
mod support;
