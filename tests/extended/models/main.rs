//! Property tests: random steps, executed by the crate and by a naive model of it.

#[path = "../../support/mod.rs"]
mod support;

mod backlog;
mod bookmark;
mod buffer;
mod limits;
mod publisher;
mod share;

/// Runs this many cases. Failures are not kept in a file: each one becomes a test with a name.
fn cases(cases: u32) -> proptest::prelude::ProptestConfig {
    proptest::prelude::ProptestConfig {
        cases,
        failure_persistence: None,
        ..Default::default()
    }
}
