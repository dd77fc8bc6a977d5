//! Six typical workloads, each with the rows that show most about it, and a picture.

use crate::bars::{Bars, Group};
use crate::table::Table;

pub struct Workload {
    pub file: &'static str,
    title: &'static str,
    /// The name of each contestant in the picture, and in the rows. Ours come first.
    contestants: &'static [(&'static str, &'static str)],
    ours: usize,
    /// The label of each group of bars, and its row.
    rows: &'static [(&'static str, &'static str)],
}

const TOKIO: (&str, &str) = ("tokio broadcast", "tokio recv");
const ASYNC_BROADCAST: (&str, &str) = ("async-broadcast", "async-broadcast");

pub const WORKLOADS: [Workload; 6] = [
    Workload {
        file: "chat.svg",
        title: "Chat fan-out: ns a delivery, if one message wakes every member of a room",
        contestants: &[("event-buffer", "cloned as Stream"), TOKIO, ASYNC_BROADCAST],
        ours: 1,
        rows: &[
            ("10 members", "wake: 10 on one thread, burst 1, u64"),
            ("100 members", "wake: 100 on one thread, burst 1, u64"),
            ("10,000 members", "wake: 10000 on one thread, burst 1, u64"),
        ],
    },
    Workload {
        file: "prices.svg",
        title: "Price feed: ns a delivery, if prices come 32 at a time, on two threads",
        contestants: &[("event-buffer", "cloned as Stream"), TOKIO, ASYNC_BROADCAST],
        ours: 1,
        rows: &[
            ("10 traders", "wake: 10 on two threads, burst 32, u64"),
            ("100 traders", "wake: 100 on two threads, burst 32, u64"),
            ("1,000 traders", "wake: 1000 on two threads, burst 32, u64"),
        ],
    },
    Workload {
        file: "config.svg",
        title: "Config push: ns a delivery, if one new value wakes 100 services",
        contestants: &[
            ("event-buffer, by handle", "items as Stream"),
            TOKIO,
            ASYNC_BROADCAST,
        ],
        ours: 1,
        rows: &[
            (
                "a value of 256 bytes",
                "wake: 100 on one thread, burst 1, 256 bytes",
            ),
            ("a String", "wake: 100 on one thread, burst 1, String"),
            (
                "an Arc of 64 bytes",
                "wake: 100 on one thread, burst 1, Arc<[u8]>",
            ),
        ],
    },
    Workload {
        file: "log.svg",
        title: "Log tail: ns a line and reader, if 1,000 lines are written and then read",
        contestants: &[
            ("event-buffer, by chunk", "next_chunk"),
            ("event-buffer, by handle", "items"),
            TOKIO,
            ASYNC_BROADCAST,
        ],
        ours: 2,
        rows: &[
            ("1 reader", "drain: 1 on one thread, String"),
            ("10 readers", "drain: 10 on one thread, String"),
            ("100 readers", "drain: 100 on one thread, String"),
        ],
    },
    Workload {
        file: "late.svg",
        title: "Late joiners: ns an event, if a million past events are replayed",
        contestants: &[
            ("event-buffer, by chunk", "next_chunk"),
            ("event-buffer, clones", "cloned"),
            ("replay-channel", "replay-channel"),
            ("a Vec kept beside", "a Vec kept by hand, cloned"),
        ],
        ours: 2,
        rows: &[("1,000,000 events", "late join: replay of 1,000,000, u64")],
    },
    Workload {
        file: "stuck.svg",
        title: "Stuck clients: ns an event published, beside clients that have stopped reading",
        contestants: &[
            ("event-buffer, limited", "push, Replay::None"),
            ("tokio's ring", "tokio recv"),
            ("async-broadcast's ring", "async-broadcast"),
        ],
        ours: 1,
        rows: &[
            (
                "1 stuck client",
                "lag limit: publish, a stuck reader limited to 1,000 items, u64",
            ),
            (
                "100 stuck clients",
                "lag limit: publish, 100 stuck readers limited to 1,000 items, u64",
            ),
        ],
    },
];

impl Workload {
    /// Draws the picture.
    pub fn draw(&self, table: &Table) -> Result<String, String> {
        let bar = |row, (label, name)| Ok((label, table.value(row, name)?));
        let group = |&(label, row)| {
            let bars = self.contestants.iter().map(|it| bar(row, *it));
            let bars = bars.collect::<Result<_, String>>()?;
            Ok(Group { label, bars })
        };
        Ok(Bars {
            title: self.title,
            ours: self.ours,
            groups: self.rows.iter().map(group).collect::<Result<_, String>>()?,
        }
        .draw())
    }
}
