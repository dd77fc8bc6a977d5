//! The files in this package in which results are saved.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

pub fn benches() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn results() -> PathBuf {
    benches().join("results")
}

/// The contents of a file of the benches.
pub fn read(name: &str) -> Result<String, String> {
    fs::read_to_string(benches().join(name)).map_err(|error| format!("{name}: {error}"))
}

pub fn saved<T: for<'de> Deserialize<'de>>(name: &str) -> Result<T, String> {
    serde_json::from_str(&read(name)?).map_err(|error| format!("{name}: {error}"))
}
