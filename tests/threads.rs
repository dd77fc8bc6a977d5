//! Readers of every kind on threads of their own, while the writer publishes, trims and splices.
//!
//! This target has no test harness: `ThreadSanitizer` reports its locks as races, since std is not
//! instrumented. For the same reason the test uses no closer, and no `Arc` of std in an event; loom
//! covers these.

#[cfg(not(loom))]
mod support;

#[cfg(loom)]
fn main() {}

#[cfg(not(loom))]
fn main() {
    limit_time();
    threads::race();
    // The line that the test harness would print.
    println!("test result: ok. 1 passed; 0 failed");
}

/// Does what `support::watchdog` does for other tests, but without a lock, which would be std's.
#[cfg(not(loom))]
#[expect(clippy::disallowed_methods, reason = "the time limit itself")]
fn limit_time() {
    let limit = support::time_limit();
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        eprintln!("test threads hung: no end after {} s", limit.as_secs());
        std::process::exit(101);
    });
}

#[cfg(not(loom))]
mod threads {
    use std::io::{self, Write};
    use std::{array, thread};

    use event_buffer::{EventBuffer, LagLimit, RecvError, Replay, Subscription};

    const EVENTS: u64 = 2_000;

    /// Reads all events, and returns the greatest lag that it measured.
    type Read = fn(Subscription<Event>) -> u64;

    const READERS: [(&str, Read); 6] = [
        ("by item", by_item),
        ("by clone", by_clone),
        ("by chunk", by_chunk),
        ("by handle", by_handle),
        ("in turns", in_turns),
        ("limited", limited),
    ];

    /// Wide enough for torn reads, and on the heap, so that a use after free is detected.
    #[derive(Clone, Debug, PartialEq)]
    struct Event(Box<[u64; 4]>);

    impl Event {
        fn new(n: u64) -> Self {
            Self(Box::new([n, !n, n.rotate_left(7), n ^ 0x55]))
        }
    }

    pub(crate) fn race() {
        print!("readers race writers ");
        let mut most = [0; READERS.len()];
        for round in 0..10 {
            let behind = race_once(round);
            most = array::from_fn(|reader| behind[reader].max(most[reader]));
            print!(".");
            let _ = io::stdout().flush();
        }
        println!(" furthest behind, of {EVENTS} events:");
        for ((name, _), most) in READERS.iter().zip(most) {
            let bar = "█".repeat(usize::try_from((most * 40).div_ceil(EVENTS)).unwrap_or(0));
            println!("{name:>12} {bar} {most}");
        }
    }

    fn race_once(round: u64) -> [u64; READERS.len()] {
        let replay = [Replay::None, Replay::Last(1), Replay::Last(100)];
        let replay = replay[usize::try_from(round % 3).unwrap_or(0)];
        let mut first = EventBuffer::builder().replay(replay).build();
        let mut second = EventBuffer::builder().replay(replay).build();
        let readers = READERS.map(|(_, read)| {
            let reader = first.subscribe();
            thread::spawn(move || read(reader))
        });
        let onward = second.tail();
        // The second half is published while the first is spliced to it.
        let other = thread::spawn(move || publish(&mut second, EVENTS / 2..EVENTS));
        publish(&mut first, 0..EVENTS / 2);
        first.splice(onward);
        other.join().expect("the second writer");
        readers.map(|reader| reader.join().expect("a reader"))
    }

    fn publish(buffer: &mut EventBuffer<Event>, numbers: std::ops::Range<u64>) {
        let mut next = numbers.start;
        while next < numbers.end {
            match next % 5 {
                0 => buffer.extend((next..numbers.end.min(next + 40)).map(Event::new)),
                1 => thread::yield_now(),
                _ => {}
            }
            next = if next % 5 == 0 {
                numbers.end.min(next + 40)
            } else {
                buffer.push(Event::new(next));
                next + 1
            };
        }
    }

    fn by_item(mut reader: Subscription<Event>) -> u64 {
        let mut most = 0;
        for n in 0..EVENTS {
            look(&mut most, n, || reader.lag());
            assert_eq!(*reader.recv_blocking().expect("an item"), [Event::new(n)]);
        }
        assert_eq!(reader.recv_blocking(), Err(RecvError::Closed));
        most
    }

    fn by_clone(reader: Subscription<Event>) -> u64 {
        let mut reader = reader.cloned();
        let mut most = 0;
        for n in 0..EVENTS {
            look(&mut most, n, || reader.lag());
            assert_eq!(reader.recv_blocking(), Ok(Event::new(n)));
        }
        assert_eq!(reader.recv_blocking(), Err(RecvError::Closed));
        most
    }

    fn by_chunk(mut reader: Subscription<Event>) -> u64 {
        let (mut next, mut most) = (0, 0);
        while let Ok(chunk) = futures::executor::block_on(reader.next_chunk()) {
            let first = next;
            for event in chunk {
                assert_eq!(*event, Event::new(next));
                next += 1;
            }
            most = most.max(next - first);
        }
        assert_eq!(next, EVENTS);
        most
    }

    /// Follows item handles, each of which keeps the later items alive.
    fn by_handle(mut reader: Subscription<Event>) -> u64 {
        let mut item = reader.recv_blocking().expect("an item");
        let mut most = 0;
        for n in 0..EVENTS {
            assert_eq!(*item, [Event::new(n)]);
            look(&mut most, n, || item.after().subscribe().lag());
            match futures::executor::block_on(item.next()) {
                Ok(next) => item = next,
                Err(end) => assert_eq!((n, end), (EVENTS - 1, RecvError::Closed)),
            }
        }
        most
    }

    /// The writers move this reader forward.
    fn limited(reader: Subscription<Event>) -> u64 {
        let mut reader = reader.limited(LagLimit::items(20));
        let mut most = 0;
        let mut next = 0;
        loop {
            look(&mut most, next, || reader.lag());
            match reader.recv_blocking() {
                Ok(event) => {
                    assert_eq!(event, Event::new(next));
                    next += 1;
                }
                Err(RecvError::Lagged(items)) => next += items,
                Err(end) => {
                    assert_eq!((next, end), (EVENTS, RecvError::Closed));
                    return most;
                }
            }
        }
    }

    /// Reads a few items with each of many readers, each a clone of the one before.
    fn in_turns(mut reader: Subscription<Event>) -> u64 {
        let mut most = 0;
        for n in 0..EVENTS {
            if n % 7 == 0 {
                reader = reader.clone();
            }
            look(&mut most, n, || reader.lag());
            assert_eq!(*reader.recv_blocking().expect("an item"), [Event::new(n)]);
        }
        most
    }

    /// Measures the lag of a reader now and then, and keeps the maximum.
    fn look(most: &mut u64, n: u64, lag: impl FnOnce() -> u64) {
        if n % 64 == 0 {
            *most = lag().max(*most);
        }
    }
}
