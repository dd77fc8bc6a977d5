//! Everything at once, until something breaks: producers, readers on several executors, splices, ends, and
//! panics in all that is foreign to the library.
//!
//! ```text
//! cd stress
//! cargo run --release -- --seconds 60 --seed 1
//! cargo run --release -- --seed 1 --round 4711   # one world's plan once more
//! ```
//!
//! A run is a series of worlds. The *plan* of each comes from seed and round alone: its buffers, what is
//! published how and with which faults, who reads where. How threads interleave does not, and where a
//! reader's way depends on what it found, that differs too: a failure may need several runs of its round.
//! `--plain` leaves out what `ThreadSanitizer` cannot judge, for want of an instrumented std: executors
//! but threads, closers, the publisher. `stress/tsan.supp` hides the rest of that.
//!
//! Every reader keeps a log, checked at the world's end against what was published: [`log`]. Every event
//! is in a ledger, and so is every waker.

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
/// A world that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(120);

struct Options {
    seconds: u64,
    seed: u64,
    /// This one only.
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
    let mut said = begin;
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
        assert_eq!(fault::WAKERS.load(Relaxed), 0, "wakers are leaked");
        if said.elapsed() >= Duration::from_secs(5) {
            said = Instant::now();
            println!("{:>4} s: {}", begin.elapsed().as_secs(), summary(round + 1));
        }
    }
    println!("all is well: {}", summary(ROUND.load(Relaxed) + 1));
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
        "{worlds} worlds, {} items published, {} events delivered to {} readers, {} events made",
        world::PUBLISHED.load(Relaxed),
        reader::DELIVERED.load(Relaxed),
        reader::READERS.load(Relaxed),
        EVENTS_MADE.load(Relaxed),
    )
}

/// Ends the process where a world does not end.
#[expect(clippy::disallowed_methods, reason = "looks now and then")]
fn watch(here: impl Fn() -> String) {
    let mut watched = (u64::MAX, Instant::now());
    loop {
        thread::sleep(Duration::from_secs(1));
        let round = ROUND.load(Relaxed);
        if watched.0 != round {
            watched = (round, Instant::now());
        } else if watched.1.elapsed() > PATIENCE {
            eprintln!("\nVIOLATION: a hang in {}", here());
            std::process::abort();
        }
    }
}
