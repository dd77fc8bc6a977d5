//! The readers, and the items and places that they return.

pub(crate) mod bookmark;
pub(crate) mod chunk;
pub(crate) mod cloned;
pub(crate) mod indexed;
pub(crate) mod item;
pub(crate) mod iter;
pub(crate) mod limited;
pub(crate) mod position;
pub(crate) mod reader;
mod start;
pub(crate) mod subscription;
