//! The results, as plain data that can be saved and read.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::harness::{Measured, median};
use crate::peer::Role;
use crate::versions;

/// The peer shown beside every line, since most users come from it.
pub const TOKIO: &str = "tokio recv";

#[derive(Serialize, Deserialize)]
pub struct Table {
    pub run: Run,
    pub rows: Vec<Row>,
}

/// How, where and when a table was measured.
#[derive(Serialize, Deserialize)]
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

/// One comparison of all contestants.
#[derive(Serialize, Deserialize)]
pub struct Row {
    pub section: String,
    pub scenario: String,
    pub payload: String,
    pub unit: String,
    pub ours: Vec<Line>,
    pub peers: Vec<Figure>,
}

#[derive(Serialize, Deserialize)]
pub struct Figure {
    pub name: String,
    pub value: f64,
}

/// One of our variants in a row.
#[derive(Serialize, Deserialize)]
pub struct Line {
    pub variant: String,
    pub value: f64,
    pub best_peer: Option<String>,
    /// The median of the rounds' ratios of ours to the best peer.
    pub ratio: Option<f64>,
    /// The median of the rounds' ratios of ours to [`TOKIO`].
    pub of_tokio: Option<f64>,
}

impl Run {
    pub fn new(rounds: usize, quick: bool, elapsed: Duration) -> Self {
        Self {
            command: versions::command(),
            date: versions::date(),
            machine: versions::machine(),
            rustc: versions::rustc(),
            versions: versions::contestants(),
            rounds,
            quick,
            seconds: elapsed.as_secs(),
        }
    }
}

impl Line {
    pub fn is_behind(&self) -> bool {
        self.ratio.is_some_and(|ratio| ratio > 1.0)
    }
}

impl Row {
    pub fn new(
        section: &str,
        scenario: String,
        payload: &str,
        unit: &str,
        measured: &[Measured],
    ) -> Self {
        let (ours, peers): (Vec<_>, Vec<_>) = measured.iter().partition(|it| it.role == Role::Ours);
        let best = peers
            .iter()
            .copied()
            .filter(|it| it.role == Role::Peer)
            .min_by(|a, b| a.median().total_cmp(&b.median()));
        let tokio = peers.iter().copied().find(|it| it.name == TOKIO);
        let line = |it: &&Measured| Line {
            variant: it.name.to_owned(),
            value: it.median(),
            best_peer: best.map(|best| best.name.to_owned()),
            ratio: best.and_then(|best| ratio(it, best)),
            of_tokio: tokio.and_then(|tokio| ratio(it, tokio)),
        };
        let figure = |it: &&Measured| Figure {
            name: it.name.to_owned(),
            value: it.median(),
        };
        Self {
            section: section.to_owned(),
            scenario,
            payload: payload.to_owned(),
            unit: unit.to_owned(),
            ours: ours.iter().map(line).collect(),
            peers: peers.iter().map(figure).collect(),
        }
    }

    fn name(&self) -> String {
        format!("{}: {}, {}", self.section, self.scenario, self.payload)
    }

    fn line(&self, variant: &str) -> Option<&Line> {
        self.ours.iter().find(|line| line.variant == variant)
    }

    pub fn peer(&self, name: &str) -> Option<f64> {
        let peer = self.peers.iter().find(|peer| peer.name == name);
        peer.map(|peer| peer.value)
    }
}

/// Compares round by round, so that disturbances of both cancel out.
fn ratio(ours: &Measured, peer: &Measured) -> Option<f64> {
    let ratio = median(
        ours.rounds
            .iter()
            .zip(&peer.rounds)
            .map(|(ours, peer)| ours / peer),
    );
    ratio.is_finite().then_some(ratio)
}

impl Table {
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("it is plain data")
    }

    fn row(&self, name: &str) -> Result<&Row, String> {
        let row = self.rows.iter().find(|row| row.name() == name);
        row.ok_or_else(|| format!("no row '{name}' in the results: run all benches"))
    }

    /// A row and one of our variants in it.
    pub fn line(&self, row: &str, variant: &str) -> Result<(&Row, &Line), String> {
        let found = self.row(row)?;
        let line = found.line(variant);
        let line = line.ok_or_else(|| format!("no '{variant}' in '{row}'"))?;
        Ok((found, line))
    }

    /// The figure of one of our variants, or of a peer, in a row.
    pub fn value(&self, row: &str, name: &str) -> Result<f64, String> {
        let found = self.row(row)?;
        let ours = found.line(name).map(|line| line.value);
        let value = ours.or_else(|| found.peer(name));
        value.ok_or_else(|| format!("no '{name}' in '{row}'"))
    }
}

/// Formats with three digits, which is more than the noise justifies.
pub fn figure(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size < 0.1 => format!("{value:.3}"),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// Formats a figure that may be absent.
pub fn figure_or_none(value: Option<f64>) -> String {
    value.map_or(String::new(), figure)
}
