//! A viewer of one job, which checks every line.

use std::sync::Arc;

use serde_json::Value;

use super::Message;

/// How far a viewer has come. Its lines are checked as they come, and not kept.
pub(crate) struct View {
    expected: Arc<Vec<String>>,
    /// How many lines it has.
    lines: usize,
    /// How many lines it has of a snapshot that is not complete.
    parts: usize,
    /// Where to continue: it changes together with `lines`.
    pub(crate) place: Option<String>,
    pub(crate) is_complete: bool,
    pub(crate) resumed: usize,
    pub(crate) resets: usize,
    /// How many lines it was sent, those of snapshots included.
    pub(crate) received: usize,
}

impl View {
    /// A viewer of what has these lines.
    pub(crate) fn of(expected: &Arc<Vec<String>>) -> Self {
        Self {
            expected: Arc::clone(expected),
            lines: 0,
            parts: 0,
            place: None,
            is_complete: false,
            resumed: 0,
            resets: 0,
            received: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lines == 0
    }

    pub(crate) fn receive(&mut self, message: Message) {
        match message.event.as_str() {
            "resumed" => self.resumed += 1,
            "fresh" => self.parts = 0,
            "reset" => {
                self.resets += 1;
                self.parts = 0;
            }
            "snapshot" => self.parts = self.check(self.parts, &message.data),
            "snapshot_end" => self.lines = self.parts,
            "events" => self.lines = self.check(self.lines, &message.data),
            "completed" => {
                assert_eq!(self.lines, self.expected.len(), "it ends early");
                self.is_complete = true;
            }
            "progress" => {}
            other => panic!("unexpected: {other}"),
        }
        self.place = message.id.or(self.place.take());
    }

    /// Checks that each line is the one after `lines`, and returns how many there are with them.
    fn check(&mut self, mut lines: usize, data: &Value) -> usize {
        for of_key in data.as_array().unwrap() {
            for line in of_key["events"].as_array().unwrap() {
                assert_eq!(line["n"], lines + 1, "a line is lost or doubled");
                assert_eq!(line["text"], *self.expected[lines], "line {}", lines + 1);
                lines += 1;
                self.received += 1;
            }
        }
        lines
    }
}
