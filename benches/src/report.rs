//! The table: rows, verdicts, Markdown and JSON.

use std::fmt::Write;

use serde::Serialize;

use crate::harness::{Measured, Role, median};

/// How, where and when a table was made.
#[derive(Serialize)]
pub struct Run {
    pub command: String,
    pub date: String,
    pub machine: String,
    pub rustc: String,
    pub versions: Vec<String>,
    pub rounds: usize,
    pub quick: bool,
    pub seconds: u64,
}

/// One comparison.
#[derive(Serialize)]
pub struct Row {
    pub section: &'static str,
    pub scenario: String,
    pub payload: &'static str,
    pub unit: &'static str,
    pub ours: Vec<Line>,
    pub peers: Vec<Figure>,
}

#[derive(Serialize)]
pub struct Figure {
    pub name: &'static str,
    pub value: f64,
}

/// One of our variants in a row.
#[derive(Serialize)]
pub struct Line {
    pub variant: &'static str,
    pub value: f64,
    pub best_peer: Option<&'static str>,
    /// Median, over the rounds, of ours : best peer.
    pub ratio: Option<f64>,
}

impl Line {
    fn is_behind(&self) -> bool {
        self.ratio.is_some_and(|ratio| ratio > 1.0)
    }
}

impl Row {
    pub fn new(
        section: &'static str,
        scenario: String,
        payload: &'static str,
        unit: &'static str,
        measured: &[Measured],
    ) -> Self {
        let (ours, peers): (Vec<_>, Vec<_>) = measured.iter().partition(|it| it.role == Role::Ours);
        let best = peers
            .iter()
            .copied()
            .filter(|it| it.role == Role::Peer)
            .min_by(|a, b| a.median().total_cmp(&b.median()));
        let line = |it: &&Measured| Line {
            variant: it.name,
            value: it.median(),
            best_peer: best.map(|best| best.name),
            ratio: best.and_then(|best| ratio(it, best)),
        };
        Self {
            section,
            scenario,
            payload,
            unit,
            ours: ours.iter().map(line).collect(),
            peers: peers
                .iter()
                .map(|it| Figure {
                    name: it.name,
                    value: it.median(),
                })
                .collect(),
        }
    }
}

/// Rounds are compared with each other, so that what disturbs both does not count.
fn ratio(ours: &Measured, peer: &Measured) -> Option<f64> {
    let ratio = median(
        ours.rounds
            .iter()
            .zip(&peer.rounds)
            .map(|(ours, peer)| ours / peer),
    );
    ratio.is_finite().then_some(ratio)
}

/// The whole table as Markdown.
pub fn markdown(run: &Run, rows: &[Row]) -> String {
    let mut text = String::new();
    let mut line = |written: std::fmt::Arguments<'_>| {
        writeln!(text, "{written}").expect("a String takes all");
    };
    line(format_args!("# event-buffer and its peers\n"));
    line(format_args!(
        "`{}`, {}, {} s\n",
        run.command, run.date, run.seconds
    ));
    line(format_args!(
        "{}; {}; {}\n",
        run.machine,
        run.rustc,
        run.versions.join(", ")
    ));
    line(format_args!(
        "Medians of {} rounds{}, contestants in turns. The ratio is the median of the ratios of the rounds, \
         event-buffer : best peer of the row; below 1 event-buffer is ahead.\n",
        run.rounds,
        if run.quick {
            " (`--quick`: few and short, for a first look)"
        } else {
            ""
        },
    ));
    let lines = || {
        rows.iter()
            .flat_map(|row| row.ours.iter().map(move |line| (row, line)))
    };
    let compared = || lines().filter(|(_, line)| line.ratio.is_some());
    line(format_args!(
        "**{} of {} lines are ahead of every peer, or even.**",
        compared().filter(|(_, line)| !line.is_behind()).count(),
        compared().count(),
    ));
    line(format_args!("\n## Behind a peer\n"));
    line(format_args!(
        "| | payload | event-buffer | best peer | ratio |"
    ));
    line(format_args!("|---|---|---|---|--:|"));
    for (row, ours) in compared().filter(|(_, line)| line.is_behind()) {
        line(format_args!(
            "| {}: {} | {} | {} | {} | {} |",
            row.section,
            row.scenario,
            row.payload,
            ours.variant,
            ours.best_peer.unwrap_or_default(),
            ours.ratio.map_or(String::new(), figure),
        ));
    }

    for section in sections(rows) {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.section == section).collect();
        line(format_args!("\n## {section}\n"));
        line(format_args!(
            "| | payload | event-buffer | | best peer | | ratio |"
        ));
        line(format_args!("|---|---|---|--:|---|--:|--:|"));
        for row in &rows {
            for ours in &row.ours {
                let best = row
                    .peers
                    .iter()
                    .find(|peer| Some(peer.name) == ours.best_peer);
                line(format_args!(
                    "| {} | {} | {} | {} {} | {} | {} | {} |",
                    row.scenario,
                    row.payload,
                    ours.variant,
                    figure(ours.value),
                    row.unit,
                    best.map_or("", |best| best.name),
                    best.map_or(String::new(), |best| figure(best.value)),
                    ours.ratio
                        .map_or(String::new(), |ratio| match ours.is_behind() {
                            true => format!("**{}**", figure(ratio)),
                            false => figure(ratio),
                        }),
                ));
            }
        }

        let mut names: Vec<&str> = Vec::new();
        for peer in rows.iter().flat_map(|row| &row.peers) {
            if !names.contains(&peer.name) {
                names.push(peer.name);
            }
        }
        if names.is_empty() {
            continue;
        }
        line(format_args!(
            "\n<details><summary>{section}: every peer</summary>\n"
        ));
        line(format_args!("| | payload | unit | {} |", names.join(" | ")));
        line(format_args!("|---|---|---|{}", "--:|".repeat(names.len())));
        for row in &rows {
            let value = |name: &&str| {
                let peer = row.peers.iter().find(|peer| peer.name == *name);
                peer.map_or(String::new(), |peer| figure(peer.value))
            };
            let values: Vec<String> = names.iter().map(value).collect();
            line(format_args!(
                "| {} | {} | {} | {} |",
                row.scenario,
                row.payload,
                row.unit,
                values.join(" | ")
            ));
        }
        line(format_args!("\n</details>"));
    }
    text
}

/// The whole table for machines.
pub fn json(run: &Run, rows: &[Row]) -> String {
    #[derive(Serialize)]
    struct Table<'a> {
        run: &'a Run,
        rows: &'a [Row],
    }
    serde_json::to_string_pretty(&Table { run, rows }).expect("it is plain data")
}

fn sections(rows: &[Row]) -> Vec<&'static str> {
    let mut sections: Vec<&str> = rows.iter().map(|row| row.section).collect();
    sections.dedup();
    sections
}

/// Three digits are more than the noise allows.
fn figure(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size < 0.1 => format!("{value:.3}"),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
