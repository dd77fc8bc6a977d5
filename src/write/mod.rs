//! The writers.

pub(crate) mod buffer;
pub(crate) mod recording;
pub(crate) mod replay;
pub(crate) mod shared_buffer;
