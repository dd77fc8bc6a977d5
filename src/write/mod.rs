//! The writers, what they retain, and what is left of a buffer that has ended.

pub(crate) mod buffer;
pub(crate) mod deferred;
pub(crate) mod recording;
pub(crate) mod replay;
pub(crate) mod shared_buffer;
mod sink;
