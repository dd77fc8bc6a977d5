//! Tests of the time limit that all other tests have.
#![cfg(not(loom))]

mod support;

use std::process::{Command, Output};
use std::{env, thread};

use support::watchdog;

/// Set in the child processes, whose tests hang on purpose.
const HANG: &str = "EVENT_BUFFER_TEST_HANGS";

/// Runs one test of this file in a process of its own, with a limit of a second.
fn run_to_hang(test: &str, args: &[&str]) -> Output {
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", test]).args(args);
    child.env(HANG, "").env("EVENT_BUFFER_TEST_TIMEOUT", "1");
    child.output().unwrap()
}

fn hangs() -> bool {
    env::var_os(HANG).is_some()
}

#[test]
fn a_test_that_hangs_fails_by_name() {
    let _watchdog = watchdog();
    while hangs() {
        thread::park();
    }
    let name = "a_test_that_hangs_fails_by_name";
    let harnesses: [&[&str]; 3] = [&["--nocapture"], &[], &["--test-threads=1"]];
    let children = harnesses.map(|harness| thread::spawn(move || run_to_hang(name, harness)));
    for (harness, child) in harnesses.into_iter().zip(children) {
        let output = child.join().unwrap();
        assert!(!output.status.success());
        let stderr = String::from_utf8_lossy(&output.stderr);
        let expected = format!("test {name} hung: no end after 1 s (tests/watchdog.rs:");
        assert!(stderr.starts_with(&expected), "{harness:?}: {stderr}");
    }
}

#[test]
fn a_test_whose_locals_hang_when_dropped_fails_by_name() {
    struct Hangs;

    impl Drop for Hangs {
        fn drop(&mut self) {
            while hangs() {
                thread::park();
            }
        }
    }

    let _watchdog = watchdog();
    let _hangs = Hangs;
    if !hangs() {
        let name = "a_test_whose_locals_hang_when_dropped_fails_by_name";
        let output = run_to_hang(name, &[]);
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains(name));
    }
}

#[test]
fn a_test_that_has_ended_is_not_blamed() {
    let _watchdog = watchdog();
    if hangs() {
        let ended = thread::Builder::new().name("ended in time".to_owned());
        let ended = ended.spawn(|| drop(watchdog())).unwrap();
        ended.join().unwrap();
        loop {
            thread::park();
        }
    }
    let name = "a_test_that_has_ended_is_not_blamed";
    let output = run_to_hang(name, &[]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains(name), "{stderr}");
}
