//! What a publisher reports: errors and reasons, figures, and reports by way of `tracing`.

pub(super) mod error;
pub(super) mod stats;
pub(super) mod trace;
