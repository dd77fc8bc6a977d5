//! The machine, the compiler and the versions behind a table.

use std::process::Command;
use std::{env, fs};

const CONTESTANTS: [&str; 11] = [
    "event-buffer",
    "tokio",
    "tokio-stream",
    "async-broadcast",
    "postage",
    "asyncband",
    "barrage",
    "flume",
    "async-channel",
    "futures-rx",
    "replay-channel",
];

/// The command that made this run.
pub fn command() -> String {
    let mut command = "cargo run --release --manifest-path benches/Cargo.toml --".to_owned();
    for argument in env::args().skip(1) {
        command.push(' ');
        command.push_str(&argument);
    }
    command
}

/// Today's date.
pub fn date() -> String {
    output("date", "+%Y-%m-%d")
}

pub fn rustc() -> String {
    output("rustc", "--version")
}

/// The processor, its number of cores, and the operating system.
pub fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown processor", |model| {
            model.trim_matches(['\t', ' ', ':'])
        });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{model}, {cores} cores, {}", env::consts::OS)
}

/// The versions of the contestants in the lock file.
pub fn contestants() -> Vec<String> {
    let lock = include_str!("../Cargo.lock");
    let package = |name: &&str| {
        let (_, rest) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
        let (version, _) = rest.split_once('"')?;
        Some(format!("{name} {version}"))
    };
    CONTESTANTS.iter().filter_map(package).collect()
}

fn output(program: &str, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output();
    output.map_or("unknown".to_owned(), |it| {
        String::from_utf8_lossy(&it.stdout).trim().to_owned()
    })
}
