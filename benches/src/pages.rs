//! The pages with figures, which are generated from the saved results, so that they cannot differ.
//!
//! ```text
//! <!-- made by the benches: wins -->
//! … replaced by the block of this name in `figures` …
//! <!-- end -->
//! ```

use std::fs;
use std::path::PathBuf;

use crate::figures::BLOCKS;
use crate::report;
use crate::saved::{benches, read, results, saved};
use crate::table::Table;
use crate::workloads::WORKLOADS;

const PAGES: [&str; 2] = ["../README.md", "../docs/BENCHMARKS.md"];

/// Writes everything that is generated from the saved results.
pub fn write() -> Result<(), String> {
    for (path, text) in made()? {
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        eprintln!("saved {}", path.display());
    }
    Ok(())
}

/// Fails if [`write`] would change anything.
pub fn check() -> Result<(), String> {
    for (path, text) in made()? {
        // A file that is missing differs, too.
        if fs::read_to_string(&path).ok().as_ref() != Some(&text) {
            return Err(format!(
                "{} differs from the saved results: run the benches with --pages",
                path.display()
            ));
        }
    }
    Ok(())
}

/// The files that are generated from the saved results, and their contents.
fn made() -> Result<Vec<(PathBuf, String)>, String> {
    let table: Table = saved("results/table.json")?;
    let mut files = vec![(results().join("table.md"), report::markdown(&table))];
    for workload in &WORKLOADS {
        files.push((results().join(workload.file), workload.draw(&table)?));
    }
    for page in PAGES {
        files.push((benches().join(page), filled(&read(page)?, &table)?));
    }
    Ok(files)
}

/// The page with its blocks generated again.
fn filled(page: &str, table: &Table) -> Result<String, String> {
    const BEGIN: &str = "<!-- made by the benches: ";
    const END: &str = "<!-- end -->";
    let mut parts = page.split(BEGIN);
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once(" -->\n").unwrap_or((part, ""));
        let block = BLOCKS.iter().find(|(known, _)| *known == name);
        let (_, block) = block.ok_or_else(|| format!("there is no block '{name}'"))?;
        let after = rest.split_once(END).map(|(_, after)| after);
        let after = after.ok_or_else(|| format!("the block '{name}' has no end"))?;
        text += &format!("{BEGIN}{name} -->\n{}{END}{after}", block(table)?);
    }
    Ok(text)
}
