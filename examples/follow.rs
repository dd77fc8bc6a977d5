//! Follows a log line by line, with several subscribers on one executor.
//!
//! ```text
//! cargo run --release --example follow -- FILE           # the file, to its end
//! cargo run --release --example follow -- FILE --follow  # and on, as it grows, until it stops
//!                                                        # growing for the seconds of --idle N
//! some-command | cargo run --release --example follow    # standard input
//! ```
//!
//! One thread reads lines and is the single producer. On the main thread futures' own executor
//! drives the subscribers: a filter, a windowed count, one that only counts bytes, and a late
//! joiner that replays from the oldest retained line and then follows.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use event_buffer::{EventBuffer, RecvError, Replay, Subscription};
use futures::executor::block_on;
use futures::{FutureExt, TryStreamExt, future};

type Line = Arc<str>;
type Answer<T> = Result<T, RecvError>;

const USAGE: &str = "usage: follow [FILE [--follow [--idle SECONDS]]]   (no FILE: standard input)";
/// Lines are published in batches of at most so many, with one wake-up each.
const BATCH: usize = 256;
/// The windowed count: so many lines a window.
const WINDOW: usize = 10_000;

struct Source {
    name: String,
    lines: BufReader<Box<dyn Read + Send>>,
    /// How long to wait for more at the end; `None` ends there.
    idle: Option<Duration>,
}

fn main() -> ExitCode {
    let source = match source(std::env::args().skip(1)) {
        Ok(source) => source,
        Err(error) => {
            eprintln!("follow: {error}");
            return ExitCode::FAILURE;
        }
    };
    match follow(source) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("follow: {error}");
            if let Some(cause) = error.source() {
                eprint!(": {cause}");
            }
            eprintln!();
            ExitCode::FAILURE
        }
    }
}

fn source(mut args: impl Iterator<Item = String>) -> Result<Source, Box<dyn Error>> {
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
    let mut idle = None;
    while let Some(option) = args.next() {
        match (option.as_str(), idle) {
            ("--follow", None) => idle = Some(Duration::from_secs(10)),
            ("--idle", Some(_)) => {
                let seconds = args.next().ok_or(USAGE)?;
                let seconds = seconds
                    .parse()
                    .map_err(|_| format!("--idle takes seconds, not {seconds:?}"))?;
                idle = Some(Duration::from_secs(seconds));
            }
            _ => return Err(USAGE.into()),
        }
    }
    let file = File::open(&path).map_err(|error| format!("cannot open {path}: {error}"))?;
    if file.metadata().is_ok_and(|file| file.is_dir()) {
        return Err(format!("cannot read {path}: it is a directory").into());
    }
    Ok(Source {
        name: path,
        lines: BufReader::new(Box::new(file)),
        idle,
    })
}

/// Publishes line by line until the end of the input. An error ends the buffer with it.
fn produce(mut source: Source, mut buffer: EventBuffer<Line>) {
    let mut grown = Instant::now();
    let mut line = Vec::new();
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        match source.lines.read_until(b'\n', &mut line) {
            Err(error) => {
                buffer.extend(batch);
                return buffer.fail(error);
            }
            // The end, or no whole line yet: publish what there is, then wait for more.
            Ok(_) if line.last() != Some(&b'\n') => {
                buffer.extend(batch.drain(..));
                if source.idle.is_none_or(|idle| grown.elapsed() > idle) {
                    break;
                }
                thread::sleep(Duration::from_millis(100));
                continue;
            }
            Ok(_) => {
                line.pop();
                batch.push(Line::from(String::from_utf8_lossy(&line)));
                line.clear();
                if source.idle.is_some() {
                    grown = Instant::now();
                }
            }
        }
        // Publish before a read that may have to wait.
        if batch.len() == BATCH || source.lines.buffer().is_empty() {
            buffer.extend(batch.drain(..));
        }
    }
    if !line.is_empty() {
        buffer.push(Line::from(String::from_utf8_lossy(&line)));
    }
}

fn follow(source: Source) -> Result<(), RecvError> {
    let name = source.name.clone();
    let buffer = EventBuffer::builder().replay(Replay::All).build();
    let start = buffer.tail();

    let filter = installs(start.subscribe());
    let windows = windows(start.subscribe());
    let sums = bytes(start.subscribe());
    // Joins when the first window is over, and misses nothing all the same.
    let mut first_window = start.subscribe();
    let late = async move {
        for _ in 0..WINDOW {
            match first_window.recv().await {
                Ok(_) => {}
                Err(RecvError::Closed) => break,
                Err(error) => return Err(error),
            }
        }
        let replayed = start.subscribe();
        drop((start, first_window));
        let behind = replayed.lag();
        Ok((behind, bytes(replayed).await?))
    };

    let started = Instant::now();
    let producer = thread::spawn(move || produce(source, buffer));
    let all = future::try_join4(filter, windows, sums, late);
    let (installs, windows, (lines, bytes), (behind, (late_lines, late_bytes))) =
        block_on(all.boxed())?;
    let elapsed = started.elapsed();
    if producer.join().is_err() {
        eprintln!("follow: the producer panicked");
    }

    println!("{name}: {lines} lines, {bytes} bytes");
    println!("  filter: {installs} lines with the word install");
    println!(
        "  windows of {WINDOW} lines: {}, longest line in each: {windows:?}",
        windows.len()
    );
    println!("  late joiner: {behind} lines behind when it came, {late_lines} lines seen");
    assert_eq!(
        (lines, bytes),
        (late_lines, late_bytes),
        "the late joiner saw the same"
    );
    // The late joiner's two subscriptions count as well; the first for one window.
    let received = lines * 4 + lines.min(WINDOW);
    let rate = f64::from(u32::try_from(received).unwrap_or(u32::MAX)) / elapsed.as_secs_f64();
    println!(
        "  {received} events received by 5 subscriptions in {elapsed:.1?}: {rate:.0} events/s"
    );
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
