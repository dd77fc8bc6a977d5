//! Running jobs, and noticing those that nobody runs any longer.

use std::collections::HashMap;
use std::convert::Infallible;
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

/// How often the row of a job that is writing changes.
const ROW: Duration = Duration::from_secs(1);

/// How often the row of a running job changes if it writes nothing, so that nodes see it is alive.
const BEAT: Duration = Duration::from_secs(5);

/// For how many beats a row may stay the same before its job is taken for lost.
const MISSED: u32 = 3;

/// What a process has written, cut into lines.
type Batch = (bool, Vec<Box<str>>);

/// Starts a job, and returns its number. It runs until it ends by itself.
///
/// Of the jobs that have ended, the table keeps the last `keep`.
///
/// # Errors
///
/// The process cannot be started, or the log cannot be written to.
pub(crate) async fn start(
    log: Arc<Log>,
    line: String,
    mut command: Command,
    keep: usize,
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
        if let Err(error) = log.trim(keep).await {
            // The next job that ends tries again.
            warn!(error, "cannot remove old jobs");
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
    let (mut told, mut at) = (0, Instant::now());
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
            _ = ticks.tick() => if told != row.lines || at.elapsed() >= BEAT {
                (told, at) = (row.lines, Instant::now());
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

/// Marks jobs as lost whose rows no longer change: the node that ran them is dead.
///
/// Time counts only while this node can read the table. If NATS is away, nodes that are alive
/// cannot report either.
pub(crate) async fn find_lost(log: &Log) -> Infallible {
    let mut seen: HashMap<u64, (Job, u32)> = HashMap::new();
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        let Ok(mut rows) = log.table().await else {
            continue;
        };
        rows.retain(|row| row.state == State::Running);
        let missed = rows.into_iter().map(|row| match seen.get(&row.job) {
            Some((last, missed)) if *last == row => (row, missed + 1),
            _ => (row, 0),
        });
        seen = missed
            .map(|(row, missed)| (row.job, (row, missed)))
            .collect();
        for (row, _) in seen.values().filter(|(_, missed)| *missed >= MISSED) {
            warn!(number = row.job, "its node does not report it: job lost");
            let state = State::Lost;
            let marked = log
                .change(Job {
                    state,
                    ..row.clone()
                })
                .await;
            if let Err(error) = marked.and(log.complete(row.job).await) {
                warn!(number = row.job, error, "cannot mark the job as lost");
            }
        }
    }
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
