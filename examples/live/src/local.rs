//! The log of a server that is alone: rows in memory, output in files that have no name.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event_buffer::publisher::{BoxError, Publisher, SnapshotAppender};
use tokio::task::yield_now;

use crate::HISTORY;
use crate::event::{Event, Job, Key, Line};
use crate::relay::NoSuchKey;

/// How many lines a part of a snapshot has.
const PART: usize = 500;

/// The state of all keys, and the publisher of its changes.
///
/// One lock is around each change and its publication, so the indexes are in the order of the
/// changes.
pub(crate) struct Local {
    state: Arc<Mutex<Jobs>>,
    publisher: Publisher<Key, Event>,
}

#[derive(Default)]
struct Jobs {
    rows: BTreeMap<u64, Job>,
    outputs: HashMap<u64, Output>,
    /// The last index that was published.
    index: u64,
}

struct Output {
    /// The lines, each after a byte that says where it was written to. Not in memory: a job may
    /// write millions.
    file: Arc<File>,
    length: u64,
    is_complete: bool,
}

impl Local {
    pub(crate) fn new() -> Self {
        let state = Arc::new(Mutex::new(Jobs::default()));
        let of_handler = Arc::clone(&state);
        let publisher = Publisher::builder()
            .history(HISTORY)
            .snapshot(move |key, snapshot| snapshot_of(Arc::clone(&of_handler), key, snapshot))
            .build();
        Self { state, publisher }
    }

    pub(crate) fn publisher(&self) -> &Publisher<Key, Event> {
        &self.publisher
    }

    pub(crate) fn create(&self, row: impl FnOnce(u64) -> Job) -> io::Result<u64> {
        let output = Output {
            file: Arc::new(nameless_file()?),
            length: 0,
            is_complete: false,
        };
        let mut state = lock(&self.state);
        let number = state.rows.last_key_value().map_or(1, |(last, _)| last + 1);
        let row = row(number);
        state.outputs.insert(number, output);
        state.rows.insert(number, row.clone());
        self.publish(&mut state, [(Key::Jobs, Event::Row(row))]);
        Ok(number)
    }

    pub(crate) fn change(&self, row: Job) {
        let mut state = lock(&self.state);
        state.rows.insert(row.job, row.clone());
        self.publish(&mut state, [(Key::Jobs, Event::Row(row))]);
    }

    /// Writes to a file under the lock: to the page cache, which takes microseconds.
    pub(crate) fn append(&self, job: u64, lines: Vec<Line>) -> io::Result<()> {
        let mut bytes = Vec::new();
        for line in &lines {
            bytes.push(if line.err { b'e' } else { b'o' });
            bytes.extend_from_slice(line.text.as_bytes());
            bytes.push(b'\n');
        }
        let mut state = lock(&self.state);
        if let Some(output) = state.outputs.get_mut(&job) {
            (&*output.file).write_all(&bytes)?;
            output.length += bytes.len() as u64;
        }
        let events = { lines.into_iter() }.map(|line| (Key::Output(job), Event::Line(line)));
        self.publish(&mut state, events);
        Ok(())
    }

    pub(crate) fn complete(&self, job: u64) {
        let mut state = lock(&self.state);
        if let Some(output) = state.outputs.get_mut(&job) {
            output.is_complete = true;
        }
        self.publisher.complete(&Key::Output(job));
    }

    pub(crate) fn remove(&self, job: u64) {
        let mut state = lock(&self.state);
        state.outputs.remove(&job);
        if state.rows.remove(&job).is_some() {
            let removed = Event::Removed { removed: job };
            self.publish(&mut state, [(Key::Jobs, removed)]);
            self.publisher.forget(&Key::Output(job));
        }
    }

    fn publish(&self, state: &mut Jobs, events: impl IntoIterator<Item = (Key, Event)>) {
        // It is refused only after a shutdown, when no watch is left.
        if let Ok(index) = self.publisher.publish_next(events) {
            state.index = index;
        }
    }
}

fn lock(state: &Mutex<Jobs>) -> MutexGuard<'_, Jobs> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn snapshot_of(
    state: Arc<Mutex<Jobs>>,
    key: Key,
    snapshot: SnapshotAppender<Event>,
) -> Result<u64, BoxError> {
    let (output, index) = {
        let state = lock(&state);
        match key {
            Key::Jobs => {
                snapshot.append(state.rows.values().cloned().map(Event::Row))?;
                return Ok(state.index);
            }
            Key::Output(job) => {
                let output = state.outputs.get(&job).ok_or(NoSuchKey(key.to_string()))?;
                let file = Arc::clone(&output.file);
                ((file, output.length, output.is_complete), state.index)
            }
        }
    };
    let (file, length, is_complete) = output;
    let mut lines = BufReader::new(Lines { file, at: 0 }.take(length));
    let (mut n, mut part, mut bytes) = (0, Vec::with_capacity(PART), Vec::new());
    while lines.read_until(b'\n', &mut bytes)? > 0 {
        n += 1;
        let text = String::from_utf8_lossy(&bytes[1..bytes.len() - 1]).into();
        let err = bytes[0] == b'e';
        part.push(Event::Line(Line { n, err, text }));
        bytes.clear();
        if part.len() == PART {
            snapshot.append(part.drain(..))?;
            // Until its watches ask for more: a handler that goes on would have the whole output
            // in memory for the slowest of them.
            yield_now().await;
        }
    }
    snapshot.append(part)?;
    if is_complete {
        snapshot.complete()?;
    }
    Ok(index)
}

/// Reads a file that is written to at the same time, from its own place.
struct Lines {
    file: Arc<File>,
    at: u64,
}

impl Read for Lines {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Makes a file that is gone when the process is, however it ends.
fn nameless_file() -> io::Result<File> {
    let random = Publisher::<(), ()>::builder().build().epoch();
    let path = std::env::temp_dir().join(format!("live-{}-{random}", std::process::id()));
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create_new(true)
        .open(&path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}
