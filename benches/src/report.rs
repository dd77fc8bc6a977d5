//! The table: rows, verdicts, Markdown and JSON.

use std::fmt::Write;

use serde::Serialize;

use crate::harness::{Measured, Role, median};
use crate::target::Target;

/// The peer that is the fastest of its row.
const BEST: &str = "best";

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
    pub verdicts: Vec<Verdict>,
}

#[derive(Serialize)]
pub struct Verdict {
    pub of: Option<&'static str>,
    pub reached: f64,
    pub limit: f64,
    pub met: bool,
}

impl Row {
    /// `targets` says what a variant is to reach.
    pub fn new(
        section: &'static str,
        scenario: String,
        payload: &'static str,
        unit: &'static str,
        measured: &[Measured],
        targets: impl Fn(&str) -> Vec<Target>,
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
            verdicts: targets(it.name)
                .into_iter()
                .filter_map(|target| verdict(it, target, best, &peers))
                .collect(),
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

fn verdict(
    ours: &Measured,
    target: Target,
    best: Option<&Measured>,
    peers: &[&Measured],
) -> Option<Verdict> {
    let (of, reached, limit) = match target {
        Target::OfBest(limit) => (Some(BEST), ratio(ours, best?)?, limit),
        Target::Of(name, limit) => {
            let peer = peers.iter().find(|peer| peer.name == name)?;
            (Some(name), ratio(ours, peer)?, limit)
        }
        Target::AtMost(limit) => (None, ours.median(), limit),
        Target::AtMostOr(limit, bound) => {
            let bound = peers.iter().find(|peer| peer.name == bound)?;
            (None, ours.median(), limit.max(bound.median()))
        }
    };
    Some(Verdict {
        of,
        reached,
        limit,
        met: reached <= limit,
    })
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
    let verdicts = || {
        rows.iter()
            .flat_map(|row| &row.ours)
            .flat_map(|line| &line.verdicts)
    };
    line(format_args!(
        "**{} of {} targets met.**",
        verdicts().filter(|it| it.met).count(),
        verdicts().count(),
    ));

    for section in sections(rows) {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.section == section).collect();
        line(format_args!("\n## {section}\n"));
        line(format_args!(
            "| | payload | event-buffer | | best peer | | ratio | targets |"
        ));
        line(format_args!("|---|---|---|--:|---|--:|--:|---|"));
        for row in &rows {
            for ours in &row.ours {
                let best = row
                    .peers
                    .iter()
                    .find(|peer| Some(peer.name) == ours.best_peer);
                line(format_args!(
                    "| {} | {} | {} | {} {} | {} | {} | {} | {} |",
                    row.scenario,
                    row.payload,
                    ours.variant,
                    figure(ours.value),
                    row.unit,
                    best.map_or("", |best| best.name),
                    best.map_or(String::new(), |best| figure(best.value)),
                    ours.ratio.map_or(String::new(), figure),
                    ours.verdicts
                        .iter()
                        .map(said)
                        .collect::<Vec<_>>()
                        .join("; "),
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

fn said(verdict: &Verdict) -> String {
    let mark = if verdict.met { "met" } else { "**missed**" };
    let limit = (verdict.limit * 1e3).round() / 1e3;
    match verdict.of {
        Some(BEST) => format!("ratio ≤ {limit} {mark}"),
        Some(peer) => format!("{} of {peer} ≤ {limit} {mark}", figure(verdict.reached)),
        None => format!("≤ {limit} {mark}"),
    }
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
