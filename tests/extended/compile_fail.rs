//! Misuse that the compiler rejects, with the message that a user sees.

#[path = "../support/mod.rs"]
mod support;

use support::patient_watchdog;

#[test]
fn misuse_does_not_compile() {
    let _watchdog = patient_watchdog();
    trybuild::TestCases::new().compile_fail("compile_fail/*.rs");
}
