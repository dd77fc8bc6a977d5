//! Follows a source of lines with several subscribers on one executor.
//!
//! ```text
//! cargo run --release --example follow                   # the paths of this machine's files
//! cargo run --release --example follow -- FILE           # a file, to its end
//! cargo run --release --example follow -- FILE --follow  # and beyond, until it has not grown for
//!                                                        # 10 seconds, or the seconds of --idle
//! some-command | cargo run --release --example follow -- -   # standard input
//! ```
//!
//! One thread reads lines and is the single writer. On the main thread the executor of futures
//! drives the subscribers: a filter, one that averages windows of lines, one that sums and shows
//! progress, and a late joiner that replays from the first line, which a position retains, and then
//! follows.

use std::error::Error;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{MAIN_SEPARATOR_STR, Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use event_buffer::{EventBuffer, RecvError, Subscription};
use futures::executor::block_on;
use futures::{StreamExt, TryStreamExt, future};

type Line = Arc<str>;
type Lines = BufReader<Box<dyn Read + Send>>;
type Received<T> = Result<T, RecvError>;

const USAGE: &str = "usage: follow [FILE [--follow [--idle SECONDS]]]   (FILE -: standard input)";
/// The maximum number of lines published with one wake-up.
const BATCH: usize = 256;
/// The number of lines in a window.
const WINDOW: usize = 5_000;
/// The maximum number of paths that are read.
const PATHS: usize = 100_000;
/// The range of line lengths in a bar of the histogram, and the number of bars.
const BAR: usize = 20;
const BARS: usize = 10;

struct Source {
    name: String,
    produce: Box<dyn FnOnce(EventBuffer<Line>) + Send>,
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
        return Ok(Source {
            name: format!("the files below {MAIN_SEPARATOR_STR}"),
            produce: Box::new(publish_paths),
        });
    };
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
    let (name, lines): (_, Box<dyn Read + Send>) = if path == "-" {
        ("standard input".into(), Box::new(io::stdin()))
    } else if path.as_encoded_bytes().starts_with(b"-") {
        return Err(USAGE.into());
    } else {
        let name = PathBuf::from(&path).display().to_string();
        let file = File::open(path).map_err(|error| format!("cannot open {name}: {error}"))?;
        (name, Box::new(file))
    };
    let lines = BufReader::new(lines);
    let produce = Box::new(move |buffer| publish_lines(lines, idle, buffer));
    Ok(Source { name, produce })
}

/// Publishes the paths of files, folder by folder. Unreadable folders are left out.
fn publish_paths(mut buffer: EventBuffer<Line>) {
    // These contain no real files, and may be endless.
    let virtual_folders = ["/proc", "/sys", "/dev"].map(Path::new);
    let mut folders = vec![PathBuf::from(MAIN_SEPARATOR_STR)];
    let mut left = PATHS;
    while let Some(folder) = folders.pop() {
        let mut paths = Vec::new();
        for file in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = file.path();
            if paths.len() == left || virtual_folders.contains(&path.as_path()) {
                continue;
            }
            paths.push(Line::from(path.to_string_lossy()));
            // Links to folders are not followed.
            if file.file_type().is_ok_and(|file| file.is_dir()) {
                folders.push(path);
            }
        }
        left -= paths.len();
        buffer.extend(paths);
        if left == 0 {
            break;
        }
    }
}

/// Publishes line by line until the end of the input. A read error fails the buffer.
#[expect(clippy::disallowed_methods, reason = "the file may grow meanwhile")]
fn publish_lines(mut lines: Lines, idle: Option<Duration>, mut buffer: EventBuffer<Line>) {
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
        // Publish before a read that may have to wait.
        if batch.len() == BATCH || !lines.buffer().contains(&b'\n') {
            buffer.extend(batch.drain(..));
        }
        // The input has no more for now, perhaps in the middle of a line.
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
    let Source { name, produce } = source;
    let buffer = EventBuffer::new();
    let start = buffer.tail();

    let filter = with_digits(start.subscribe());
    let windows = windows(start.subscribe());
    let sums = sum(start.subscribe(), Progress(Some(Instant::now())));
    // Joins after the first window, and misses nothing nevertheless.
    let first_window = start.subscribe().take(WINDOW);
    let late = async move {
        first_window.try_for_each(|_| future::ok(())).await?;
        let replayed = start.subscribe();
        // The position retained every line until now.
        drop(start);
        let behind = replayed.lag();
        Ok((behind, sum(replayed, Progress(None)).await?))
    };

    let started = Instant::now();
    let (results, elapsed) = thread::scope(|scope| {
        scope.spawn(|| produce(buffer));
        let results = block_on(future::try_join4(filter, windows, sums, late));
        (results, started.elapsed())
    });
    let results = results.map_err(|error| match error {
        RecvError::Failed(cause) => format!("cannot read {name}: {cause}"),
        other => other.to_string(),
    })?;
    let (digits, windows, sums, (behind, late)) = results;
    assert_eq!(sums, late, "the late joiner saw the same");

    // The late joiner has two subscriptions, the first of which reads one window.
    let received = sums.lines * 4 + sums.lines.min(WINDOW);
    let rate = f64::from(u32::try_from(received).unwrap_or(u32::MAX)) / elapsed.as_secs_f64();
    let (lines, seen) = (sums.lines, late.lines);
    // `println!` would panic if the reader of a pipe has gone.
    let mut out = io::stdout().lock();
    writeln!(out, "{name}: {lines} lines, {} bytes", sums.bytes)?;
    writeln!(out, "  filter:       {digits} lines with a digit")?;
    let spark = sparkline(&windows);
    writeln!(
        out,
        "  windows:      {spark}  average length of {WINDOW} lines"
    )?;
    writeln!(
        out,
        "  late joiner:  {behind} lines behind at first, {seen} lines received"
    )?;
    writeln!(out, "  lengths:")?;
    write!(out, "{}", histogram(&sums.lengths))?;
    writeln!(
        out,
        "{received} events to 5 subscriptions in {elapsed:.1?}: {rate:.0} a second"
    )?;
    Ok(())
}

/// A filter: the number of lines with a digit.
fn with_digits(lines: Subscription<Line>) -> impl Future<Output = Received<usize>> {
    lines
        .cloned()
        .try_filter(|line| future::ready(line.contains(|c: char| c.is_ascii_digit())))
        .try_fold(0, |n, _| future::ok(n + 1))
}

/// The average length of the lines of every window.
fn windows(lines: Subscription<Line>) -> impl Future<Output = Received<Vec<usize>>> {
    lines
        .map_ok(|item| item[0].len())
        .try_chunks(WINDOW)
        .map_err(|chunk| chunk.1)
        .map_ok(|window| window.iter().sum::<usize>() / window.len())
        .try_collect()
}

#[derive(Debug, Default, PartialEq)]
struct Sums {
    lines: usize,
    bytes: usize,
    /// The number of lines in each range of lengths.
    lengths: [usize; BARS],
}

/// Sums over whole chunks, which lend the lines: none is cloned.
async fn sum(mut lines: Subscription<Line>, mut progress: Progress) -> Received<Sums> {
    let mut sums = Sums::default();
    loop {
        match lines.next_chunk().await {
            Ok(chunk) => chunk.for_each(|line| {
                sums.lines += 1;
                sums.bytes += line.len();
                sums.lengths[(line.len() / BAR).min(BARS - 1)] += 1;
            }),
            Err(RecvError::Closed) => {
                progress.end();
                return Ok(sums);
            }
            Err(error) => return Err(error),
        }
        progress.show(&sums);
    }
}

/// A line on standard error that is rewritten as the sums grow; `None` shows nothing.
struct Progress(Option<Instant>);

impl Progress {
    fn show(&mut self, sums: &Sums) {
        let now = Instant::now();
        if let Some(next) = self.0.as_mut().filter(|next| **next <= now) {
            *next = now + Duration::from_millis(50);
            let (lines, bytes) = (sums.lines, sums.bytes);
            let _ = write!(io::stderr(), "\r{lines} lines, {bytes} bytes ");
        }
    }

    fn end(&self) {
        if self.0.is_some() {
            let _ = writeln!(io::stderr());
        }
    }
}

/// A block for each value, of proportional height.
fn sparkline(values: &[usize]) -> String {
    let blocks = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = values.iter().max().copied().unwrap_or(0).max(1);
    let height = |value: &usize| value * (blocks.len() - 1) / most;
    values.iter().map(|value| blocks[height(value)]).collect()
}

/// A bar for each range of lengths.
fn histogram(lengths: &[usize; BARS]) -> String {
    let most = lengths.iter().max().copied().unwrap_or(0).max(1);
    let mut bars = String::new();
    for (n, lines) in lengths.iter().enumerate() {
        let range = match n + 1 {
            BARS => format!("{}+", n * BAR),
            _ => format!("{}-{}", n * BAR, (n + 1) * BAR - 1),
        };
        let bar = "█".repeat((lines * 40).div_ceil(most));
        let _ = writeln!(bars, "    {range:>8} {bar} {lines}");
    }
    bars
}
