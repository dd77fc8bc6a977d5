//! The figures in the README and the documents.

use serde::Deserialize;

use crate::saved::{read, saved};
use crate::table::{Line, Row, TOKIO, Table, figure, figure_or_none};

type Block = fn(&Table) -> Result<String, String>;

pub const BLOCKS: [(&str, Block); 8] = [
    ("run", run),
    ("six figures", six_figures),
    ("wins", wins),
    ("losses", losses),
    ("publisher", publisher),
    ("instructions", instructions),
    ("ancestor", ancestor),
    ("build cost", build_cost),
];

/// The lines of the README's table: label, row, and the variant of ours.
const SIX: &str = "\
publish, a subscriber behind | publish: a subscriber behind, u64 | push, new()
publish 1,000, read by 100 as clones | drain: 100 on one thread, u64 | cloned
wake 100 tasks for one event | wake: 100 on one thread, burst 1, u64 | cloned as Stream
wake 1 task for one event | wake: 1 on one thread, burst 1, u64 | cloned as Stream
replay 1,000,000 retained events | late join: replay of 1,000,000, u64 | next_chunk
100,000 subscribers and 1,000,000 unread events | crowd: 100000 subscribers and 1000000 events in all, u64 | items";

/// The lines of the tables of wins and losses, which represent many rows.
const LINES: &str = "\
publish, no subscribers | publish: no subscriber, u64 | push, Replay::None
publish, no subscribers | publish: no subscriber, u64 | push, new()
publish, a subscriber behind | publish: a subscriber behind, u64 | push, Replay::None
publish, a subscriber behind | publish: a subscriber behind, u64 | push, new()
publish, a subscriber behind | publish: a subscriber behind, u64 | extend
publish, a subscriber behind | publish: a subscriber behind, u64 | shared push, Replay::None
publish, a subscriber behind | publish: a subscriber behind, u64 | shared push, new()
publish to a waiting subscriber | publish: a waiting subscriber, u64 | push, Replay::None
publish to a waiting subscriber | publish: a waiting subscriber, u64 | push, new()
publish to a waiting subscriber | publish: a waiting subscriber, u64 | shared push, Replay::None
publish to ten waiting subscribers | publish: ten waiting subscribers, u64 | push, new()
publish to ten waiting subscribers | publish: ten waiting subscribers, u64 | shared push, new()
two producers at once, no subscribers | two producers on two threads: no subscriber, u64 | shared push, new()
two producers at once, a subscriber behind | two producers on two threads: a subscriber behind, u64 | shared push, new()
publish 1,000, read by 1 | drain: 1 on one thread, u64 | cloned
publish 1,000, read by 1 | drain: 1 on one thread, u64 | extend, cloned
publish 1,000, read by 10 | drain: 10 on one thread, u64 | cloned
publish 1,000, read by 100 | drain: 100 on one thread, u64 | cloned
publish 1,000, read by 100 | drain: 100 on one thread, u64 | next_chunk
publish 1,000 `String`s, read by 100 | drain: 100 on one thread, String | items
wake 1 task | wake: 1 on one thread, burst 1, u64 | cloned as Stream
wake 10 tasks | wake: 10 on one thread, burst 1, u64 | cloned as Stream
wake 100 tasks | wake: 100 on one thread, burst 1, u64 | cloned as Stream
wake 100,000 tasks | wake: 100000 on one thread, burst 1, u64 | cloned as Stream
wake 100 tasks for 32 events | wake: 100 on one thread, burst 32, u64 | cloned as Stream
wake 100 tasks on two threads | wake: 100 on two threads, burst 1, u64 | cloned as Stream
wake 100 tasks on two threads for 32 events | wake: 100 on two threads, burst 32, u64 | cloned as Stream
replay 1,000,000 retained events | late join: replay of 1,000,000, u64 | next_chunk
a snapshot of 100,000, then the live tail | late join: snapshot of 100,000, then the live tail, u64 | extend, splice, cloned
publish beside 100 stuck readers, limited in items | lag limit: publish, 100 stuck readers limited to 1,000 items, u64 | push, Replay::None
publish `String`s beside 100 stuck readers, limited in bytes | lag limit: publish, 100 stuck readers limited to the bytes of 1,000, String | push, Replay::None
a reader with a limit receives what is ready | lag limit: 1,000 ready, received one by one, u64 | limited
100,000 subscribe, each | crowd: 100000 subscribe, u64 | items
100,000 subscribers and 1,000,000 events, in memory | crowd: 100000 subscribers and 1000000 events in all, u64 | items
all of them leave, each | crowd: all 100000 leave, 1000000 freed, u64 | items
a retained event of 8 bytes | memory: an event retained of 1000000, u64 | items
an idle subscriber | memory: an idle subscriber of 1000000, u64 | items
a waiting subscriber, its task included | memory: a waiting subscriber of 1000000, its task included, u64 | items";

/// Rows of the publisher.
const PUBLISHER: &str = "\
a commit to the only key | publisher: 1 key (u64), u64
a commit to one of 1,000 keys | publisher: 1,000 keys (u64), u64
a commit to one of 100,000 keys | publisher: 100,000 keys (u64), u64
a commit to an unwatched key | publisher: unwatched keys, beside 1,000 (u64), u64
a commit to 10 of 1,000 keys, for each | publisher: commits of 10 of 1,000 keys (u64), u64";

/// Figures of Consul's buffer in Go 1.19, measured once on the table's machine, and our rows.
const ANCESTOR: &str = "\
publish, no subscribers | 122 ns | publish: no subscriber, u64 | push, new()
publish 1,000, read by 1, a delivery | 153 ns | drain: 1 on one thread, u64 | items
publish 1,000, read by 100, a delivery | 26 ns | drain: 100 on one thread, u64 | items
one event wakes 1, a delivery | 441 ns | wake: 1 on two threads, burst 1, u64 | items
one event wakes 100, a delivery | 200 ns | wake: 100 on two threads, burst 1, u64 | items
one event wakes 10,000, a delivery | 427 ns | wake: 10000 on two threads, burst 1, u64 | items
a retained event | 184 bytes | memory: an event retained of 1000000, u64 | items";

fn run(table: &Table) -> Result<String, String> {
    let run = &table.run;
    Ok(format!(
        "Measured {} on {}, with {}; {}. Medians of {} rounds, contestants in turns.\n",
        run.date,
        run.machine,
        run.rustc,
        run.versions.join(", "),
        run.rounds
    ))
}

fn six_figures(table: &Table) -> Result<String, String> {
    let mut text = "| | event-buffer | tokio `recv` | best peer |\n|---|--:|--:|--:|\n".to_owned();
    for [what, row, variant] in parts(SIX) {
        let (row, line) = table.line(row, variant)?;
        let tokio = row.peer(TOKIO);
        text += &format!(
            "| {what} | {} {} | {} | {} |\n",
            figure(line.value),
            short(&row.unit),
            figure_or_none(tokio),
            best_peer(row, line),
        );
    }
    Ok(text)
}

fn wins(table: &Table) -> Result<String, String> {
    lines(table, |line| !line.is_behind())
}

fn losses(table: &Table) -> Result<String, String> {
    lines(table, Line::is_behind)
}

fn lines(table: &Table, belongs: impl Fn(&Line) -> bool) -> Result<String, String> {
    let mut text = "| | | event-buffer | best peer | ratio | tokio `recv` | ratio |\n\
                    |---|---|--:|--:|--:|--:|--:|\n"
        .to_owned();
    for [what, row, variant] in parts(LINES) {
        let (row, line) = table.line(row, variant)?;
        if belongs(line) {
            text += &format!(
                "| {what} | {variant} | {} {} | {} | {} | {} | {} |\n",
                figure(line.value),
                short(&row.unit),
                best_peer(row, line),
                figure_or_none(line.ratio),
                figure_or_none(row.peer(TOKIO)),
                figure_or_none(line.of_tokio),
            );
        }
    }
    Ok(text)
}

fn best_peer(row: &Row, line: &Line) -> String {
    let Some(best) = &line.best_peer else {
        return String::new();
    };
    format!("{} {best}", figure_or_none(row.peer(best)))
}

/// The unit without what the row's name contains already.
fn short(unit: &str) -> &str {
    unit.split('/').next().unwrap_or(unit)
}

fn ancestor(table: &Table) -> Result<String, String> {
    let mut text = "| | Consul's buffer, Go 1.19 | event-buffer |\n|---|--:|--:|\n".to_owned();
    for [what, theirs, row, variant] in parts(ANCESTOR) {
        let (row, line) = table.line(row, variant)?;
        let ours = figure(line.value);
        text += &format!("| {what} | {theirs} | {ours} {} |\n", short(&row.unit));
    }
    Ok(text)
}

/// The lines, each split into its parts.
fn parts<const N: usize>(lines: &str) -> impl Iterator<Item = [&str; N]> {
    lines.lines().map(|line| {
        let parts: Vec<&str> = line.split(" | ").collect();
        parts.try_into().expect("each line has as many parts")
    })
}

fn publisher(table: &Table) -> Result<String, String> {
    const COLUMNS: [&str; 3] = [
        "Publisher",
        "Publisher with a history",
        "lock, lookup and push",
    ];
    let mut text = format!("| | {} |\n|---|--:|--:|--:|\n", COLUMNS.join(" | "));
    for [what, row] in parts(PUBLISHER) {
        text += &format!("| {what} |");
        for name in COLUMNS {
            text += &format!(" {} ns |", figure(table.value(row, name)?));
        }
        text += "\n";
    }
    Ok(text)
}

/// The operations that are also counted for `tokio`.
fn instructions(_: &Table) -> Result<String, String> {
    let counts = read("instructions.txt")?;
    let counts: Vec<(&str, &str)> = counts
        .lines()
        .filter_map(|line| line.trim_start().split_once("  "))
        .collect();
    let mut text = "| | event-buffer | tokio |\n|---|--:|--:|\n".to_owned();
    for (theirs, name) in &counts {
        let Some(what) = name.strip_prefix("tokio: ") else {
            continue;
        };
        let ours = counts.iter().find(|(_, name)| *name == what);
        let (ours, _) = ours.ok_or_else(|| format!("'{what}' is not counted"))?;
        text += &format!("| {what} | {ours} | {theirs} |\n");
    }
    Ok(text)
}

/// The results of `benches/build-cost`.
#[derive(Deserialize)]
struct BuildCost {
    date: String,
    subjects: Vec<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    name: String,
    crates_below: usize,
    processor_seconds: f64,
    seconds: f64,
    program_bytes: u64,
}

fn build_cost(_: &Table) -> Result<String, String> {
    let BuildCost { date, subjects } = saved("results/build-cost.json")?;
    let first = subjects.first().ok_or("no build was measured")?;
    let mut text = format!(
        "Measured {date}.\n\n\
         | | crates below it | clean release build | ratio | elapsed | a minimal program |\n\
         |---|--:|--:|--:|--:|--:|\n"
    );
    for subject in &subjects {
        text += &format!(
            "| {} | {} | {} s | {} | {} s | {} kB |\n",
            subject.name,
            subject.crates_below,
            figure(subject.processor_seconds),
            figure(subject.processor_seconds / first.processor_seconds),
            figure(subject.seconds),
            subject.program_bytes / 1_000,
        );
    }
    Ok(text)
}
