//! Measures `event-buffer` beside its peers; see `benches/README.md`.

mod alloc;
mod bars;
mod bench;
mod fan_out;
mod figures;
mod harness;
mod pages;
mod payload;
mod peer;
mod peers;
mod plot;
mod report;
mod rows;
mod saved;
mod table;
mod task;
mod versions;
mod workloads;

use std::time::{Duration, Instant};
use std::{env, fs, process};

use bench::Bench;
use harness::Harness;
use table::{Run, Table};

const THOROUGH: Harness = Harness {
    rounds: 7,
    sample: Duration::from_millis(25),
};
const QUICK: Harness = Harness {
    rounds: 3,
    sample: Duration::from_millis(2),
};

const USAGE: &str = "\
usage: cargo run --release --manifest-path benches/Cargo.toml -- [--quick] [--row NAME]...
       cargo run --manifest-path benches/Cargo.toml -- --pages | --check
  --quick     few and short rounds: under a minute; saves no table
  --row NAME  only rows with NAME in their name, such as 'wake: 100 on one thread'; saves no table
  --pages     generates the pages again from the saved results, and measures nothing
  --check     fails if --pages would change anything";

fn main() {
    let mut quick = false;
    let mut wanted = Vec::new();
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => quick = true,
            "--row" => wanted.push(arguments.next().expect(USAGE)),
            "--pages" => return finish(pages::write()),
            "--check" => return finish(pages::check()),
            _ => panic!("{USAGE}"),
        }
    }
    if cfg!(debug_assertions) {
        panic!("a debug build is no measure of speed: run with --release");
    }

    let saves = wanted.is_empty() && !quick;
    let mut bench = Bench {
        harness: if quick { QUICK } else { THOROUGH },
        quick,
        wanted,
        rows: Vec::new(),
    };
    let start = Instant::now();
    measure(&mut bench);
    let pictures = saves.then(|| [&rows::memory::draw()[..], &rows::curves::draw()].concat());
    let table = Table {
        run: Run::new(bench.harness.rounds, bench.quick, start.elapsed()),
        rows: bench.rows,
    };
    println!("{}", report::markdown(&table));
    if let Some(pictures) = pictures {
        save("table.json", &table.json());
        for (name, picture) in pictures {
            save(name, &picture);
        }
        finish(pages::write());
    }
}

fn measure(bench: &mut Bench) {
    rows::publish::run(bench);
    rows::producers::run(bench);
    rows::publisher::run(bench);
    rows::limits::run(bench);
    rows::drain::run(bench);
    rows::wake::run(bench);
    rows::late_join::run(bench);
    rows::share::run(bench);
    rows::latency::run(bench);
    rows::crowd::run(bench);
    rows::allocations::run(bench);
    rows::memory::run(bench);
}

fn save(name: &str, text: &str) {
    let path = saved::results().join(name);
    fs::write(&path, text).expect("the results are writable");
    eprintln!("saved {}", path.display());
}

fn finish(done: Result<(), String>) {
    if let Err(error) = done {
        eprintln!("{error}");
        process::exit(1);
    }
}
