//! A stress test of everything at once: producers, readers on several executors, splices, ends, and
//! panics in all user code that the library calls.
//!
//! ```text
//! cd stress
//! cargo run --release -- --seconds 60 --seed 1
//! cargo run --release -- --seed 1 --round 4711   # repeats the plan of one world
//! ```
//!
//! A run is a series of worlds. The *plan* of a world depends only on seed and round: its buffers,
//! what is published, how and with which faults, and which readers run where. The interleaving of
//! threads does not, nor do the choices of a reader that depend on what it received. So a failure
//! may take several runs of its round to occur again.
//!
//! `--plain` omits what `ThreadSanitizer` cannot check without an instrumented std: closers, the
//! publisher, and executors other than threads. `stress/tsan.supp` hides the remaining false
//! reports.
//!
//! Every reader keeps a log, which is compared with what was published at the world's end: [`log`].
//! A ledger tracks every event and every waker.

mod event;
mod fault;
mod key;
mod log;
mod publishing;
mod reader;
mod rng;
mod venue;
mod world;

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

const USAGE: &str = "usage: stress [--seconds N] [--seed S] [--round R] [--plain]";
/// A world that takes longer is considered to hang.
const TIME_LIMIT: Duration = Duration::from_secs(120);

struct Options {
    seconds: u64,
    seed: u64,
    /// Runs only this round.
    round: Option<u64>,
    plain: bool,
}

static ROUND: AtomicU64 = AtomicU64::new(0);
static EVENTS_MADE: AtomicU64 = AtomicU64::new(0);

fn main() -> ExitCode {
    let Some(options) = options(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::FAILURE;
    };
    let seed = options.seed;
    let here = move || format!("--seed {seed} --round {}", ROUND.load(Relaxed));
    fault::install_hook(here);
    thread::spawn(move || watch(here));

    let begin = Instant::now();
    let mut last_report = begin;
    let rounds = options.round.map_or(0..u64::MAX, |round| round..round + 1);
    for round in rounds {
        if begin.elapsed() >= Duration::from_secs(options.seconds) {
            break;
        }
        ROUND.store(round, Relaxed);
        let mut rng = rng::Rng::new(seed, round);
        if !options.plain && rng.one_in(4) {
            publishing::run(rng);
        } else {
            world::run(rng, options.plain);
        }
        EVENTS_MADE.fetch_add(event::close_ledger() as u64, Relaxed);
        assert_eq!(fault::WAKERS.load(Relaxed), 0, "leaked wakers");
        if last_report.elapsed() >= Duration::from_secs(5) {
            last_report = Instant::now();
            println!("{:>4} s: {}", begin.elapsed().as_secs(), summary(round + 1));
        }
    }
    println!("no violations: {}", summary(ROUND.load(Relaxed) + 1));
    for fault in fault::FAULTS {
        println!("    panics injected, {fault:?}: {}", fault::raised(fault));
    }
    ExitCode::SUCCESS
}

fn options(mut args: impl Iterator<Item = String>) -> Option<Options> {
    let mut options = Options {
        seconds: 10,
        seed: 1,
        round: None,
        plain: false,
    };
    while let Some(option) = args.next() {
        let mut number = || args.next()?.parse().ok();
        match &*option {
            "--seconds" => options.seconds = number()?,
            "--seed" => options.seed = number()?,
            "--round" => options.round = Some(number()?),
            "--plain" => options.plain = true,
            _ => return None,
        }
    }
    Some(options)
}

fn summary(worlds: u64) -> String {
    format!(
        "{worlds} worlds, {} items published, {} events delivered to {} readers, {} events created",
        world::PUBLISHED.load(Relaxed),
        reader::DELIVERED.load(Relaxed),
        reader::READERS.load(Relaxed),
        EVENTS_MADE.load(Relaxed),
    )
}

/// Ends the process if a world hangs.
#[expect(clippy::disallowed_methods, reason = "checks at intervals")]
fn watch(here: impl Fn() -> String) {
    let mut watched = (u64::MAX, Instant::now());
    loop {
        thread::sleep(Duration::from_secs(1));
        let round = ROUND.load(Relaxed);
        if watched.0 != round {
            watched = (round, Instant::now());
        } else if watched.1.elapsed() > TIME_LIMIT {
            eprintln!("\nVIOLATION: a hang in {}", here());
            std::process::abort();
        }
    }
}
