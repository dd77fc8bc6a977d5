//! What a client makes of the messages.

use std::collections::BTreeMap;
use std::mem;

use serde_json::Value;
use serving::Change;

/// What a client knows of a key, whatever carries the messages.
#[derive(Default)]
pub(crate) struct View {
    pub(crate) stock: BTreeMap<String, i64>,
    /// Where to continue: it changes together with `stock`.
    pub(crate) place: Option<String>,
    /// The parts of a snapshot that is not complete.
    parts: BTreeMap<String, i64>,
}

impl View {
    /// Receives a message: its name, its data, and the place after it.
    pub(crate) fn receive(&mut self, name: &str, data: Value, place: Option<String>) {
        match name {
            "begin" => self.parts.clear(),
            "snapshot" => apply(data, &mut self.parts),
            "end_of_snapshot" => self.stock = mem::take(&mut self.parts),
            "events" => apply(data, &mut self.stock),
            _ => {}
        }
        self.place = place.or(self.place.take());
    }
}

fn apply(changes: Value, stock: &mut BTreeMap<String, i64>) {
    let changes: Vec<Change> = serde_json::from_value(changes).unwrap();
    for Change { item, by } in changes {
        *stock.entry(item).or_default() += by;
    }
}
