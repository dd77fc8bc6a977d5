//! Follows a log line by line, with several subscribers on one executor.
//!
//! ```text
//! cargo run --release --example follow -- FILE           # the file, to its end
//! cargo run --release --example follow -- FILE --follow  # and on, as it grows, until it has not
//!                                                        # for 10 seconds, or those of --idle N
//! some-command | cargo run --release --example follow    # standard input
//! ```
//!
//! One thread reads lines and is the single producer. On the main thread futures' own executor
//! drives the subscribers: a filter, a windowed count, one that only counts bytes, and a late
//! joiner that replays from the first line, which a held position keeps, and then follows.

use std::error::Error;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use event_buffer::{EventBuffer, RecvError, Subscription};
use futures::executor::block_on;
use futures::{StreamExt, TryStreamExt, future};

type Line = Arc<str>;
type Lines = BufReader<Box<dyn Read + Send>>;
type Answer<T> = Result<T, RecvError>;

const USAGE: &str = "usage: follow [FILE [--follow [--idle SECONDS]]]   (no FILE: standard input)";
/// Lines are published in batches of at most so many, with one wake-up each.
const BATCH: usize = 256;
/// The windowed count: so many lines a window.
const WINDOW: usize = 10_000;

struct Source {
    name: String,
    lines: Lines,
    /// How long to wait for more at the end; `None` ends there.
    idle: Option<Duration>,
}

fn main() -> ExitCode {
    match source(std::env::args_os().skip(1)).and_then(follow) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("follow: {error}");
            ExitCode::FAILURE
        }
    }
}

fn source(mut args: impl Iterator<Item = OsString>) -> Result<Source, Box<dyn Error>> {
    let Some(path) = args.next() else {
        if io::stdin().is_terminal() {
            return Err(USAGE.into());
        }
        return Ok(Source {
            name: "standard input".into(),
            lines: BufReader::new(Box::new(io::stdin())),
            idle: None,
        });
    };
    if path.as_encoded_bytes().starts_with(b"-") {
        return Err(USAGE.into());
    }
    let mut idle = None;
    while let Some(option) = args.next() {
        match (option.to_str(), idle) {
            (Some("--follow"), None) => idle = Some(Duration::from_secs(10)),
            (Some("--idle"), Some(_)) => {
                let seconds = args.next().ok_or(USAGE)?;
                let number = seconds.to_str().and_then(|number| number.parse().ok());
                let number =
                    number.ok_or_else(|| format!("--idle takes whole seconds, not {seconds:?}"))?;
                idle = Some(Duration::from_secs(number));
            }
            _ => return Err(USAGE.into()),
        }
    }
    let path = PathBuf::from(path);
    let name = path.display().to_string();
    let file = File::open(path).map_err(|error| format!("cannot open {name}: {error}"))?;
    Ok(Source {
        name,
        lines: BufReader::new(Box::new(file)),
        idle,
    })
}

/// Publishes line by line until the end of the input. An error ends the buffer with it.
fn produce(mut lines: Lines, idle: Option<Duration>, mut buffer: EventBuffer<Line>) {
    let text = |line: &[u8]| Line::from(String::from_utf8_lossy(line));
    let mut grown = Instant::now();
    let mut line = Vec::new();
    let mut batch = Vec::with_capacity(BATCH);
    let end = loop {
        match lines.read_until(b'\n', &mut line) {
            Ok(read) if read > 0 && idle.is_some() => grown = Instant::now(),
            Ok(_) => {}
            Err(error) => break Err(error),
        }
        let whole = line.last() == Some(&b'\n');
        if whole {
            line.pop();
            batch.push(text(&line));
            line.clear();
        }
        // Before a read that may have to wait.
        if batch.len() == BATCH || !lines.buffer().contains(&b'\n') {
            buffer.extend(batch.drain(..));
        }
        // The end of what there is, perhaps in the middle of a line.
        if !whole {
            if idle.is_none_or(|idle| grown.elapsed() > idle) {
                break Ok(());
            }
            thread::sleep(Duration::from_millis(100));
        }
    };
    if !line.is_empty() {
        batch.push(text(&line));
    }
    buffer.extend(batch);
    if let Err(error) = end {
        buffer.fail(error);
    }
}

fn follow(source: Source) -> Result<(), Box<dyn Error>> {
    let Source { name, lines, idle } = source;
    let buffer = EventBuffer::new();
    let start = buffer.tail();

    let filter = installs(start.subscribe());
    let windows = windows(start.subscribe());
    let sums = bytes(start.subscribe());
    // Joins when the first window is over, and misses nothing all the same.
    let first_window = start.subscribe().take(WINDOW);
    let late = async move {
        first_window.try_for_each(|_| future::ok(())).await?;
        let replayed = start.subscribe();
        // It keeps every line until it goes.
        drop(start);
        let behind = replayed.lag();
        Ok((behind, bytes(replayed).await?))
    };

    let started = Instant::now();
    let (answers, elapsed) = thread::scope(|scope| {
        scope.spawn(|| produce(lines, idle, buffer));
        let answers = block_on(future::try_join4(filter, windows, sums, late));
        (answers, started.elapsed())
    });
    let answers = answers.map_err(|error| match error {
        RecvError::Failed(cause) => format!("cannot read {name}: {cause}"),
        other => other.to_string(),
    })?;
    let (installs, windows, (lines, bytes), (behind, (late_lines, late_bytes))) = answers;
    assert_eq!(
        (lines, bytes),
        (late_lines, late_bytes),
        "the late joiner saw the same"
    );

    // The late joiner's two subscriptions count as well; the first for one window.
    let received = lines * 4 + lines.min(WINDOW);
    let rate = f64::from(u32::try_from(received).unwrap_or(u32::MAX)) / elapsed.as_secs_f64();
    // Not `println!`, which panics where nobody reads on.
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{name}: {lines} lines, {bytes} bytes without line ends"
    )?;
    writeln!(out, "  filter: {installs} lines with the word install")?;
    writeln!(
        out,
        "  windows of {WINDOW} lines: {}, longest line in each: {windows:?}",
        windows.len()
    )?;
    writeln!(
        out,
        "  late joiner: {behind} lines behind when it came, {late_lines} lines seen"
    )?;
    writeln!(
        out,
        "  {received} events received by 5 subscriptions in {elapsed:.1?}: {rate:.0} events/s"
    )?;
    Ok(())
}

/// A filter: how many lines have the word in them.
fn installs(lines: Subscription<Line>) -> impl Future<Output = Answer<usize>> {
    lines
        .cloned()
        .try_filter(|line| future::ready(line.contains("install")))
        .try_fold(0, |n, _| future::ok(n + 1))
}

/// A windowed count: the longest line of every window.
fn windows(lines: Subscription<Line>) -> impl Future<Output = Answer<Vec<usize>>> {
    lines
        .map_ok(|item| item[0].len())
        .try_chunks(WINDOW)
        .map_err(|chunk| chunk.1)
        .map_ok(|window| window.into_iter().max().unwrap_or(0))
        .try_collect()
}

/// Lines and bytes, by whole chunks: nothing is cloned or counted.
async fn bytes(mut lines: Subscription<Line>) -> Answer<(usize, usize)> {
    let mut sums = (0, 0);
    loop {
        match lines.next_chunk().await {
            Ok(chunk) => sums = chunk.fold(sums, |(n, bytes), line| (n + 1, bytes + line.len())),
            Err(RecvError::Closed) => return Ok(sums),
            Err(error) => return Err(error),
        }
    }
}
