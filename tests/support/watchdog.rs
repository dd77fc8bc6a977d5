//! A time limit for each test: a test that hangs fails by name, and ends the test run.

use std::collections::BTreeMap;
use std::io::Write;
use std::panic::Location;
use std::sync::{Condvar, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};
use std::{env, io, process, thread};

/// The limit in seconds, for runs that are slower than usual, such as those under a sanitizer.
const TIMEOUT: &str = "EVENT_BUFFER_TEST_TIMEOUT";

/// Ends the process if the test takes longer than [`time_limit`].
///
/// A test creates the guard first, so that it is dropped last: the destructors of the test's other
/// variables may hang, too.
#[must_use = "the limit ends when this is dropped"]
#[track_caller]
pub(crate) fn watchdog() -> Watchdog {
    Watchdog::start(time_limit(), Location::caller())
}

/// A [`watchdog`] for a test that runs a compiler: it waits ten times as long.
#[must_use = "the limit ends when this is dropped"]
#[track_caller]
pub(crate) fn patient_watchdog() -> Watchdog {
    Watchdog::start(10 * time_limit(), Location::caller())
}

/// How long a test may take: a minute, unless the environment sets another limit.
pub(crate) fn time_limit() -> Duration {
    let seconds = env::var(TIMEOUT).map_or(60, |value| {
        let seconds = value.parse();
        seconds.unwrap_or_else(|_| panic!("{TIMEOUT}={value} is not a number of seconds"))
    });
    Duration::from_secs(seconds)
}

/// Limits the time of a test until it is dropped.
pub(crate) struct Watchdog(u64);

struct Test {
    name: String,
    place: &'static Location<'static>,
    limit: Duration,
    deadline: Instant,
}

/// The tests that are running. The monitor thread is notified of each new one.
static TESTS: Mutex<BTreeMap<u64, Test>> = Mutex::new(BTreeMap::new());
static ADDED: Condvar = Condvar::new();

impl Watchdog {
    fn start(limit: Duration, place: &'static Location<'static>) -> Self {
        static MONITOR: Once = Once::new();
        MONITOR.call_once(|| _ = thread::spawn(monitor));
        let test = Test {
            // The harness names the thread after the test that it runs there.
            name: thread::current().name().unwrap_or("(unnamed)").into(),
            place,
            limit,
            deadline: Instant::now() + limit,
        };
        let mut tests = TESTS.lock().unwrap_or_else(PoisonError::into_inner);
        let id = tests.last_key_value().map_or(0, |(last, _)| last + 1);
        tests.insert(id, test);
        ADDED.notify_one();
        Self(id)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        let mut tests = TESTS.lock().unwrap_or_else(PoisonError::into_inner);
        tests.remove(&self.0);
    }
}

fn monitor() {
    let mut tests = TESTS.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let next = tests.values().min_by_key(|test| test.deadline);
        let left = next.map(|test| test.deadline.saturating_duration_since(Instant::now()));
        if let Some((test, Duration::ZERO)) = next.zip(left) {
            report(test);
            process::exit(101);
        }
        // Without a test to limit, any duration will do.
        let left = left.unwrap_or(Duration::from_secs(60));
        let woken = ADDED.wait_timeout(tests, left);
        tests = woken.unwrap_or_else(PoisonError::into_inner).0;
    }
}

fn report(test: &Test) {
    let (name, limit, place) = (&test.name, test.limit.as_secs(), test.place);
    // `eprintln` would be captured by the harness: this thread inherits the capture from a test.
    let mut stderr = io::stderr();
    let _ = writeln!(stderr, "test {name} hung: no end after {limit} s ({place})");
}
