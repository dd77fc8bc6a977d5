//! Shares the lines of a child process with two readers, one of which comes late.
//! `cargo run --example share`

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use event_buffer::{Replay, ShareExt};
use futures::{StreamExt, channel::mpsc, executor::block_on, future};

fn main() -> std::io::Result<()> {
    let mut child = Command::new("ls").arg("/").stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().expect("it is piped");
    let (lines, receiver) = mpsc::unbounded();
    let reading = std::thread::spawn(move || {
        let read = BufReader::new(output).lines().map_while(Result::ok);
        read.for_each(|line| _ = lines.unbounded_send(line));
    });

    let source = receiver.share(Replay::Last(10));
    let first = source
        .subscribe()
        .for_each(async |line| println!("first: {line}"));
    block_on(async {
        let late = async {
            source.subscribe().take(3).for_each(async |_| ()).await;
            source
                .subscribe()
                .for_each(async |line| println!(" late: {line}"))
                .await;
        };
        future::join(first, late).await;
    });
    reading.join().expect("it does not panic");
    child.wait().map(|_| ())
}
