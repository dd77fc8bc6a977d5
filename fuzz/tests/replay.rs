//! Runs the kept inputs and some random ones without libFuzzer:
//! `cargo test --release --no-default-features`.

use std::panic::{catch_unwind, resume_unwind};
use std::path::Path;
use std::{env, fs};

/// Runs a file, or all files of a directory, and prints their names, so that the last one failed.
fn replay(path: &Path, run: fn(&[u8])) -> usize {
    let mut files: Vec<_> = if path.is_dir() {
        let entries = fs::read_dir(path).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    } else {
        vec![path.to_path_buf()]
    };
    files.sort();
    for file in &files {
        println!("{}", file.display());
        run(&fs::read(file).unwrap());
    }
    files.len()
}

fn corpus(target: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target)
}

/// Runs random inputs, the same each time, for a second or two.
fn random_inputs(name: &str, run: fn(&[u8])) {
    let runs = env::var("RUNS").map_or(2_000, |runs| runs.parse().unwrap());
    let mut state = env::var("SEED").map_or(1_u64, |seed| seed.parse().unwrap());
    for _ in 0..runs {
        let mut input = Vec::new();
        for _ in 0..600 {
            // An xorshift generator.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            input.push((state >> 32) as u8);
        }
        if let Err(panic) = catch_unwind(|| run(&input)) {
            let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("failed-{name}"));
            fs::write(&file, &input).unwrap();
            println!("the input is in {}", file.display());
            resume_unwind(panic);
        }
    }
}

#[test]
fn core_survives_its_kept_inputs() {
    assert!(replay(&corpus("core"), event_buffer_fuzz::core::run) > 0);
}

#[test]
fn core_survives_random_inputs() {
    random_inputs("core", event_buffer_fuzz::core::run);
}

#[test]
fn publisher_survives_its_kept_inputs() {
    assert!(replay(&corpus("publisher"), event_buffer_fuzz::publisher::run) > 0);
}

#[test]
fn publisher_survives_random_inputs() {
    random_inputs("publisher", event_buffer_fuzz::publisher::run);
}

#[test]
#[ignore = "needs INPUT=file"]
fn one_publisher() {
    let input = fs::read(env::var("INPUT").unwrap()).unwrap();
    print!("{}", event_buffer_fuzz::publisher::show(&input));
    event_buffer_fuzz::publisher::run(&input);
}

/// `INPUT=file cargo test … -- --ignored --nocapture one_core` prints the steps of an input, and
/// runs it.
#[test]
#[ignore = "needs INPUT=file"]
fn one_core() {
    let input = fs::read(env::var("INPUT").unwrap()).unwrap();
    print!("{}", event_buffer_fuzz::core::show(&input));
    event_buffer_fuzz::core::run(&input);
}
