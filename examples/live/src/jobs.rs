//! Running jobs.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use event_buffer::publisher::BoxError;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::event::{Job, Line, State};
use crate::log::Log;

/// The most bytes of output that are read together, and of a line.
const BATCH: usize = 16 * 1_024;

/// The most lines of a commit. History and lag are counted in commits, so it bounds what they keep.
const LINES: usize = 100;

/// How often the row of a job that is running changes.
const ROW: Duration = Duration::from_secs(1);

/// What a process has written, cut into lines.
type Batch = (bool, Vec<Box<str>>);

/// Starts a job, and returns its number. It runs until it ends by itself.
///
/// # Errors
///
/// The process cannot be started, or the log cannot be written to.
pub(crate) async fn start(
    log: Arc<Log>,
    line: String,
    mut command: Command,
) -> Result<u64, BoxError> {
    let process = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let began = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let began = u64::try_from(began.as_millis())?;
    let row = |job| Job {
        job,
        command: line.clone(),
        state: State::Running,
        lines: 0,
        began,
        took: 0,
    };
    let number = log.create(row).await?;
    info!(number, line, "job started");
    let row = row(number);
    tokio::spawn(async move {
        if let Err(error) = follow(&log, row, process).await {
            warn!(number, error, "job lost");
        }
    });
    Ok(number)
}

/// Publishes what a process writes, until it ends.
async fn follow(log: &Log, mut row: Job, mut process: Child) -> Result<(), BoxError> {
    let began = Instant::now();
    let took = || u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    // A process that writes faster than the log takes it waits.
    let (batches, mut written) = mpsc::channel(4);
    if let Some(out) = process.stdout.take() {
        tokio::spawn(read(out, false, batches.clone()));
    }
    if let Some(err) = process.stderr.take() {
        tokio::spawn(read(err, true, batches));
    }
    let mut ticks = interval(ROW);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = 0;
    loop {
        tokio::select! {
            batch = written.recv() => {
                let Some((err, texts)) = batch else { break };
                let mut texts = texts.into_iter().peekable();
                while texts.peek().is_some() {
                    let line = |text| {
                        row.lines += 1;
                        Line { n: row.lines, err, text }
                    };
                    let lines = texts.by_ref().take(LINES).map(line).collect();
                    log.append(row.job, lines).await?;
                }
            }
            _ = ticks.tick() => if told != row.lines {
                told = row.lines;
                row.took = took();
                log.change(row.clone()).await?;
            }
        }
    }
    row.state = state(process.wait().await);
    row.took = took();
    info!(number = row.job, lines = row.lines, state = ?row.state, "job ended");
    let job = row.job;
    log.change(row).await?;
    log.complete(job).await
}

/// Reads what a process writes, and sends on what there is, cut into lines.
async fn read(mut output: impl AsyncRead + Unpin, err: bool, batches: mpsc::Sender<Batch>) {
    let (mut bytes, mut start) = (vec![0; BATCH], 0);
    loop {
        let read = output.read(&mut bytes[start..]).await.unwrap_or(0);
        let end = start + read;
        let is_over = read == 0;
        let last = bytes[..end].iter().rposition(|byte| *byte == b'\n');
        let whole = match last {
            // A line that fills the buffer is cut, or it could take any amount of memory.
            None if end == bytes.len() => end,
            _ if is_over => end,
            last => last.map_or(0, |last| last + 1),
        };
        let lines = bytes[..whole].split(|byte| *byte == b'\n');
        let lines = lines.map(|line| String::from_utf8_lossy(line).into());
        let mut lines: Vec<Box<str>> = lines.collect();
        // After the last line's end there is no further line.
        if bytes[..whole].last().is_none_or(|byte| *byte == b'\n') {
            lines.pop();
        }
        if !lines.is_empty() && batches.send((err, lines)).await.is_err() {
            return;
        }
        if is_over {
            return;
        }
        bytes.copy_within(whole..end, 0);
        start = end - whole;
    }
}

fn state(ended: io::Result<ExitStatus>) -> State {
    match ended {
        Ok(status) if status.success() => State::Succeeded,
        Ok(status) => State::Failed(status.to_string()),
        Err(error) => State::Failed(error.to_string()),
    }
}
