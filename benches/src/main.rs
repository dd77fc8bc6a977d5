//! Measures `event-buffer` side by side with its peers; see the README beside.

mod alloc;
mod bench;
mod fan_out;
mod harness;
mod payload;
mod peers;
mod plot;
mod report;
mod rows;
mod task;
mod versions;

use std::time::{Duration, Instant};
use std::{env, fs};

use bench::Bench;
use harness::Harness;
use report::Run;

const USAGE: &str = "usage: cargo run --release --manifest-path benches/Cargo.toml -- [--quick] [--row NAME]...
  --quick     few and short rounds: under a minute; saves no table
  --row NAME  only rows whose name contains NAME, e.g. 'drain' or 'wake: 100 on one thread'; saves no table";

fn main() {
    let mut quick = false;
    let mut wanted = Vec::new();
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => quick = true,
            "--row" => wanted.push(arguments.next().expect(USAGE)),
            _ => panic!("{USAGE}"),
        }
    }
    if cfg!(debug_assertions) {
        panic!("a debug build says nothing about speed: run with --release");
    }

    let harness = if quick {
        Harness {
            rounds: 3,
            sample: Duration::from_millis(2),
        }
    } else {
        Harness {
            rounds: 7,
            sample: Duration::from_millis(25),
        }
    };
    let saves = wanted.is_empty() && !quick;
    let mut bench = Bench {
        harness,
        quick,
        wanted,
        rows: Vec::new(),
    };
    let start = Instant::now();

    rows::publish::run(&mut bench);
    rows::publisher::run(&mut bench);
    rows::limits::run(&mut bench);
    rows::drain::run(&mut bench);
    rows::wake::run(&mut bench);
    rows::late_join::run(&mut bench);
    rows::share::run(&mut bench);
    rows::latency::run(&mut bench);
    rows::crowd::run(&mut bench);
    rows::allocations::run(&mut bench);
    let growth = rows::memory::run(&mut bench);
    let curves = saves.then(|| rows::curves::run(&bench));

    let run = Run {
        command: versions::command(),
        date: versions::date(),
        machine: versions::machine(),
        rustc: versions::rustc(),
        versions: versions::contestants(),
        rounds: bench.harness.rounds,
        quick,
        seconds: start.elapsed().as_secs(),
    };
    let table = report::markdown(&run, &bench.rows);
    println!("{table}");
    if let Some(curves) = curves {
        let results = concat!(env!("CARGO_MANIFEST_DIR"), "/results");
        fs::create_dir_all(results).expect("the package's directory is writable");
        for (name, text) in [
            ("table.md", &table),
            ("table.json", &report::json(&run, &bench.rows)),
            ("memory.svg", &plot::memory(&growth)),
            ("delivery.svg", &plot::delivery(&curves)),
            ("backlog.svg", &plot::backlog(&curves)),
        ] {
            let path = format!("{results}/{name}");
            fs::write(&path, text).expect("the results are writable");
            eprintln!("saved {path}");
        }
    }
}
