//! The whole table as Markdown.

use std::fmt::{Arguments, Write};

use crate::table::{Line, Row, TOKIO, Table, figure, figure_or_none};

pub fn markdown(table: &Table) -> String {
    let Table { run, rows } = table;
    let mut text = Text::default();
    text.line(format_args!("# event-buffer and its peers\n"));
    text.line(format_args!(
        "`{}`, {}, {} s\n",
        run.command, run.date, run.seconds
    ));
    text.line(format_args!(
        "{}; {}; {}\n",
        run.machine,
        run.rustc,
        run.versions.join(", ")
    ));
    text.line(format_args!(
        "Medians of {} rounds{}, contestants in turns. A ratio is the median of the ratios of the rounds, \
         event-buffer : peer; below 1 event-buffer is ahead.\n",
        run.rounds,
        if run.quick {
            " (`--quick`: few and short, for a first look)"
        } else {
            ""
        },
    ));
    behind_a_peer(&mut text, rows);
    for section in sections(rows) {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.section == section).collect();
        text.line(format_args!("\n## {section}\n"));
        ours(&mut text, &rows);
        every_peer(&mut text, section, &rows);
    }
    text.0
}

fn behind_a_peer(text: &mut Text, rows: &[Row]) {
    let lines = || {
        rows.iter()
            .flat_map(|row| row.ours.iter().map(move |line| (row, line)))
    };
    let compared = || lines().filter(|(_, line)| line.ratio.is_some());
    text.line(format_args!(
        "**{} of {} lines are ahead of every peer, or even.**",
        compared().filter(|(_, line)| !line.is_behind()).count(),
        compared().count(),
    ));
    text.line(format_args!("\n## Behind a peer\n"));
    text.line(format_args!(
        "| | payload | event-buffer | best peer | ratio |"
    ));
    text.line(format_args!("|---|---|---|---|--:|"));
    for (row, line) in compared().filter(|(_, line)| line.is_behind()) {
        text.line(format_args!(
            "| {}: {} | {} | {} | {} | {} |",
            row.section,
            row.scenario,
            row.payload,
            line.variant,
            line.best_peer.as_deref().unwrap_or_default(),
            figure_or_none(line.ratio),
        ));
    }
}

fn ours(text: &mut Text, rows: &[&Row]) {
    text.line(format_args!(
        "| | payload | event-buffer | | best peer | | ratio | tokio | ratio |"
    ));
    text.line(format_args!("|---|---|---|--:|---|--:|--:|--:|--:|"));
    for row in rows {
        for line in &row.ours {
            let best = line.best_peer.as_deref().unwrap_or_default();
            text.line(format_args!(
                "| {} | {} | {} | {} {} | {best} | {} | {} | {} | {} |",
                row.scenario,
                row.payload,
                line.variant,
                figure(line.value),
                row.unit,
                figure_or_none(row.peer(best)),
                emphasized_ratio(line),
                figure_or_none(row.peer(TOKIO)),
                figure_or_none(line.of_tokio),
            ));
        }
    }
}

/// Bold if we are behind.
fn emphasized_ratio(line: &Line) -> String {
    let ratio = figure_or_none(line.ratio);
    if line.is_behind() {
        format!("**{ratio}**")
    } else {
        ratio
    }
}

fn every_peer(text: &mut Text, section: &str, rows: &[&Row]) {
    let mut names: Vec<&str> = Vec::new();
    for peer in rows.iter().flat_map(|row| &row.peers) {
        if !names.contains(&peer.name.as_str()) {
            names.push(&peer.name);
        }
    }
    if names.is_empty() {
        return;
    }
    text.line(format_args!(
        "\n<details><summary>{section}: every peer</summary>\n"
    ));
    text.line(format_args!("| | payload | unit | {} |", names.join(" | ")));
    text.line(format_args!("|---|---|---|{}", "--:|".repeat(names.len())));
    for row in rows {
        let value = |name: &&str| figure_or_none(row.peer(name));
        let values: Vec<String> = names.iter().map(value).collect();
        text.line(format_args!(
            "| {} | {} | {} | {} |",
            row.scenario,
            row.payload,
            row.unit,
            values.join(" | ")
        ));
    }
    text.line(format_args!("\n</details>"));
}

fn sections(rows: &[Row]) -> Vec<&str> {
    let mut sections: Vec<&str> = rows.iter().map(|row| row.section.as_str()).collect();
    sections.dedup();
    sections
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn line(&mut self, written: Arguments<'_>) {
        writeln!(self.0, "{written}").expect("a String takes all");
    }
}
