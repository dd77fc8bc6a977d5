//! Making snapshots: the parts that a handler appends, and the future that runs it.
//!
//! ```text
//!   parts:   [part]─▶[part]─▶[end of snapshot, index 7]
//!      the handler appends while watches read
//!
//!   chain:   …─▶[commit 5]─▶[commit 7]─▶ … ─▶[commit 9]─▶[commit 12]─▶ …
//!                   ▲ each watch's position, taken        ▲ the first one that is delivered:
//!                     before the handler began              its index is greater than 7
//! ```

pub(super) mod build;
pub(super) mod flight;
pub(super) mod parts;
