//! What is published: the keys, and the events of each.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What can be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// The table of jobs, `jobs`: its rows, then each change of a row.
    Jobs,
    /// The output of a job, `job/7`: all lines from the first one on, then a clean end.
    Output(u64),
}

/// An event of either key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Event {
    /// A new row of the table, or one that replaces the row of this number.
    Row(Job),
    /// A job has left the table, and its output is gone.
    Removed {
        /// The number of the job.
        removed: u64,
    },
    /// A line of output.
    Line(Line),
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The number of the job.
    pub job: u64,
    /// Its command line.
    pub command: String,
    /// What has become of it.
    pub state: State,
    /// How many lines it has written.
    pub lines: u64,
    /// When it began, in milliseconds since 1970.
    pub began: u64,
    /// How long it has taken, in milliseconds.
    pub took: u64,
}

/// What has become of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It has not ended.
    Running,
    /// It has ended with code 0.
    Succeeded,
    /// It has ended otherwise: how, in words.
    Failed(String),
    /// Its node has not reported it for a while, and is assumed to be dead.
    Lost,
}

/// A line of a job's output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Its number, counted from 1.
    pub n: u64,
    /// The line was written to standard error.
    pub err: bool,
    /// The line, without its end.
    pub text: Box<str>,
}

/// A text that names no [`Key`].
#[derive(Debug)]
pub struct UnknownKey(String);

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Jobs => f.write_str("jobs"),
            Self::Output(job) => write!(f, "job/{job}"),
        }
    }
}

impl FromStr for Key {
    type Err = UnknownKey;

    fn from_str(text: &str) -> Result<Self, UnknownKey> {
        if text == "jobs" {
            return Ok(Self::Jobs);
        }
        let job = { text.strip_prefix("job/") }.and_then(|number| number.parse().ok());
        job.map(Self::Output)
            .ok_or_else(|| UnknownKey(text.to_owned()))
    }
}

impl fmt::Display for UnknownKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(text) = self;
        write!(
            f,
            "no such key: {text:?}; there are \"jobs\" and \"job/<number>\""
        )
    }
}

impl std::error::Error for UnknownKey {}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}
