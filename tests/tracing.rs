//! What a publisher reports by way of `tracing`, as a subscriber sees it, and what a subscriber may
//! do meanwhile: panic, or use the publisher.
#![cfg(not(loom))]

mod support;

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt::{self, Write};
use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Waker};
use std::thread::{self, ThreadId};
use std::time::Duration;

use event_buffer::LagLimit;
use event_buffer::publisher::{
    BoxError, OverLimit, Publisher, Request, Resume, SnapshotAppender, Update, Watch, WeakPublisher,
};
use futures::channel::oneshot;
use futures::{FutureExt, StreamExt};
use support::{PanicsWhenWoken, watchdog};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Span, Subscriber, dispatcher};
use tracing_core::span::Current;

type Key = &'static str;

/// A subscriber that records spans and events as text.
struct Recorder(Arc<Records>);

struct Records {
    max_level: LevelFilter,
    /// Called with whatever the subscriber is called for.
    hook: Box<dyn Fn() + Send + Sync>,
    last_id: AtomicU64,
    events: Mutex<Vec<String>>,
    spans: Mutex<HashMap<u64, SpanRecord>>,
    entered: Mutex<HashMap<ThreadId, Vec<Id>>>,
}

struct SpanRecord {
    metadata: &'static Metadata<'static>,
    text: Text,
    parent: Option<u64>,
    references: usize,
    entered: usize,
}

/// Fields in the order in which they are recorded. A message is the first of them, without a name.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Text {
    fn put(&mut self, field: &Field, value: &dyn fmt::Display) {
        if field.name() == "message" {
            self.message = value.to_string();
        } else {
            write!(self.fields, " {}={value}", field.name()).unwrap();
        }
    }
}

impl Visit for Text {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, &value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, &value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, &value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, &format_args!("{value:?}"));
    }
}

thread_local! {
    /// What the hook does is not hooked.
    static IN_HOOK: Cell<bool> = const { Cell::new(false) };
}

impl Records {
    fn new(max_level: LevelFilter, hook: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            max_level,
            hook: Box::new(hook),
            last_id: AtomicU64::new(0),
            events: Mutex::default(),
            spans: Mutex::default(),
            entered: Mutex::default(),
        })
    }

    /// Runs it with this as its subscriber.
    fn during<R>(self: &Arc<Self>, run: impl FnOnce() -> R) -> R {
        let dispatch = tracing::Dispatch::new(Recorder(Arc::clone(self)));
        dispatcher::with_default(&dispatch, run)
    }

    fn call_hook(&self) {
        if !IN_HOOK.replace(true) {
            let called = catch_unwind(AssertUnwindSafe(&self.hook));
            IN_HOOK.set(false);
            if let Err(panic) = called {
                resume_unwind(panic);
            }
        }
    }

    fn current(&self) -> Option<u64> {
        let entered = self.entered.lock().unwrap();
        let ids = entered.get(&thread::current().id())?;
        ids.last().map(Id::into_u64)
    }

    /// The events since the last call.
    fn events(&self) -> Vec<String> {
        std::mem::take(&mut self.events.lock().unwrap())
    }

    /// The spans of that name, in order, those that are closed.
    fn closed_spans(&self) -> Vec<String> {
        let spans = self.spans.lock().unwrap();
        let mut ids: Vec<_> = { spans.iter() }
            .filter(|(_, span)| span.references == 0)
            .map(|(id, _)| *id)
            .collect();
        ids.sort_unstable();
        let texts = ids.iter().map(|id| spans[id].to_string());
        texts.collect()
    }
}

impl fmt::Display for SpanRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (level, name) = (self.metadata.level(), self.metadata.name());
        write!(f, "{level} {name}{}", self.text.fields)
    }
}

impl Subscriber for Recorder {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        // Each subscriber is asked for itself.
        Interest::sometimes()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.0.max_level)
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.call_hook();
        *metadata.level() <= self.0.max_level
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        self.0.call_hook();
        let id = self.0.last_id.fetch_add(1, SeqCst) + 1;
        let mut text = Text::default();
        attributes.record(&mut text);
        let parent = match attributes.parent() {
            Some(parent) => Some(parent.into_u64()),
            None => self.0.current().filter(|_| attributes.is_contextual()),
        };
        let span = SpanRecord {
            metadata: attributes.metadata(),
            text,
            parent,
            references: 1,
            entered: 0,
        };
        self.0.spans.lock().unwrap().insert(id, span);
        Id::from_u64(id)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        self.0.call_hook();
        let mut spans = self.0.spans.lock().unwrap();
        values.record(&mut spans.get_mut(&span.into_u64()).unwrap().text);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        self.0.call_hook();
        let mut text = Text::default();
        event.record(&mut text);
        let parent = match event.parent() {
            Some(parent) => Some(parent.into_u64()),
            None => self.0.current().filter(|_| event.is_contextual()),
        };
        let spans = self.0.spans.lock().unwrap();
        let within = parent.map_or(String::new(), |id| {
            format!(" (in {})", spans[&id].metadata.name())
        });
        let Text { message, fields } = text;
        let level = event.metadata().level();
        assert!(
            event
                .metadata()
                .target()
                .starts_with("event_buffer::publisher")
        );
        let line = format!("{level} {message}{fields}{within}");
        self.0.events.lock().unwrap().push(line);
    }

    fn enter(&self, span: &Id) {
        self.0.call_hook();
        let mut entered = self.0.entered.lock().unwrap();
        let ids = entered.entry(thread::current().id()).or_default();
        ids.push(span.clone());
        let mut spans = self.0.spans.lock().unwrap();
        spans.get_mut(&span.into_u64()).unwrap().entered += 1;
    }

    fn exit(&self, span: &Id) {
        self.0.call_hook();
        let mut entered = self.0.entered.lock().unwrap();
        let last = entered.get_mut(&thread::current().id()).unwrap().pop();
        assert_eq!(last.as_ref(), Some(span));
    }

    fn clone_span(&self, span: &Id) -> Id {
        self.0.call_hook();
        let mut spans = self.0.spans.lock().unwrap();
        spans.get_mut(&span.into_u64()).unwrap().references += 1;
        span.clone()
    }

    fn try_close(&self, span: Id) -> bool {
        self.0.call_hook();
        let mut spans = self.0.spans.lock().unwrap();
        let references = &mut spans.get_mut(&span.into_u64()).unwrap().references;
        *references -= 1;
        *references == 0
    }

    fn current_span(&self) -> Current {
        match self.0.current() {
            None => Current::none(),
            Some(id) => {
                let metadata = self.0.spans.lock().unwrap()[&id].metadata;
                Current::new(Id::from_u64(id), metadata)
            }
        }
    }
}

fn recorder() -> Arc<Records> {
    Records::new(LevelFilter::TRACE, || {})
}

/// All updates that are ready, in few letters and without indexes.
fn all(watch: &mut Watch<Key, u32>) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(next) = watch.next().now_or_never() {
        let Some(next) = next else {
            all.push("end".to_string());
            break;
        };
        all.push(match next {
            Err(error) => format!("error: {error}"),
            Ok(Update::Begin(begin)) => format!("{begin:?}"),
            Ok(Update::Snapshot(part)) => format!("part {:?}", part.iter().collect::<Vec<_>>()),
            Ok(Update::EndOfSnapshot { .. }) => "end of snapshot".to_string(),
            Ok(Update::Events(commit)) => format!("{:?}", commit.iter().collect::<Vec<_>>()),
            Ok(Update::Progress { .. }) => "progress".to_string(),
            Ok(Update::Completed(key)) => format!("{key} completed"),
        });
    }
    all
}

fn resume(publisher: &Publisher<Key, u32>, key: Key, epoch: u64, index: u64) -> Vec<String> {
    let place = Resume { epoch, index };
    all(&mut publisher.subscribe(Request::new(key).after(place)))
}

/// A handler that never returns.
async fn hangs(_: Key, _: SnapshotAppender<u32>) -> Result<u64, BoxError> {
    pending().await
}

#[test]
fn a_run_of_the_handler_is_a_span_that_is_entered_at_each_poll() {
    let _watchdog = watchdog();
    let records = recorder();
    let polls = Arc::new(AtomicUsize::new(0));
    let (gate, opened) = oneshot::channel();
    let opened = Mutex::new(Some(opened));
    let counted = Arc::clone(&polls);
    let handler = move |key: Key, snapshot: SnapshotAppender<u32>| {
        Span::current().record("key", key);
        let mut opened = opened.lock().unwrap().take().unwrap();
        let counted = Arc::clone(&counted);
        poll_fn(move |cx| {
            counted.fetch_add(1, SeqCst);
            tracing::info!(target: "event_buffer::publisher::test", "of the handler");
            let opened = opened.poll_unpin(cx);
            opened.map(|opened| {
                opened?;
                snapshot.push(1)?;
                snapshot.push(2)?;
                Ok(7)
            })
        })
    };
    let publisher = Publisher::builder().epoch(1).snapshot(handler).build();
    publisher.publish(5, []).unwrap();
    let (mut one, mut other) = records.during(|| {
        let request = || Request::new("a");
        (
            publisher.subscribe(request()),
            publisher.subscribe(request()),
        )
    });
    // It is not called before a watch is polled.
    assert_eq!(records.spans.lock().unwrap().len(), 0);
    records.during(|| {
        let request = tracing::info_span!("request");
        request.in_scope(|| assert_eq!(all(&mut one), ["Fresh"]));
    });
    // On another thread, without a subscriber: the span has its own.
    gate.send(()).unwrap();
    let seen = thread::spawn(move || all(&mut other)).join().unwrap();
    assert_eq!(seen, ["Fresh", "part [1]", "part [2]", "end of snapshot"]);

    assert_eq!(polls.load(SeqCst), 2);
    let expected =
        "DEBUG snapshot epoch=1 snapshot=2 published=5 key=a outcome=finished index=7 parts=2";
    assert_eq!(records.closed_spans(), ["INFO request", expected]);
    let spans = records.spans.lock().unwrap();
    assert_eq!((spans[&2].entered, spans[&2].parent), (2, Some(1)));
    assert_eq!(spans[&2].metadata.target(), "event_buffer::publisher");
    let entered = records.entered.lock().unwrap();
    assert!(entered.values().all(Vec::is_empty), "{entered:?}");
    // The other thread has none.
    assert_eq!(records.events(), ["INFO of the handler (in snapshot)"]);
}

#[test]
fn a_failed_run_of_the_handler_is_reported_with_its_reason() {
    let _watchdog = watchdog();
    let records = recorder();
    records.during(|| {
        let handler = |key: Key, _: SnapshotAppender<u32>| async move {
            match key {
                "broken" => Err("no such table".into()),
                "panics" => panic!("as planned"),
                _ => Ok(3),
            }
        };
        let publisher = Publisher::builder().epoch(1).snapshot(handler).build();
        for key in ["broken", "panics"] {
            assert_eq!(all(&mut publisher.subscribe(Request::new(key))).len(), 3);
        }
        let mut watch = publisher.subscribe(Request::new("outdated"));
        assert_eq!(all(&mut watch).len(), 2);
        publisher.publish(4, [("outdated", 1)]).unwrap();
        let late = all(&mut publisher.subscribe(Request::new("outdated")));
        assert_eq!(late.len(), 3);
    });
    let errors = [
        "2 error=no such table",
        "4 error=the snapshot handler panicked",
        "8 error=a snapshot as of index 3, after a commit at 4",
    ];
    let events =
        errors.map(|error| format!("WARN snapshot failed epoch=1 snapshot={error} (in snapshot)"));
    assert_eq!(records.events(), events);
    let outcomes: Vec<_> = { records.closed_spans().into_iter() }
        .map(|span| span.split_once("outcome=").unwrap().1.to_string())
        .collect();
    let failed = errors.map(|error| format!("failed {}", &error[2..]));
    assert_eq!(outcomes[..2], failed[..2]);
    assert_eq!(outcomes[2], "finished index=3 parts=0");
    assert_eq!(outcomes[3], failed[2]);
}

/// Begins a snapshot that a watch waits for, and returns what is reported when that is given up.
fn given_up(
    settings: fn(Request<Key, u32>) -> Request<Key, u32>,
    give_up: impl FnOnce(&Publisher<Key, u32>, Watch<Key, u32>),
) -> String {
    let records = recorder();
    records.during(|| {
        let publisher = Publisher::builder().epoch(1).snapshot(hangs).build();
        let mut watch = publisher.subscribe(settings(Request::new("a")));
        assert_eq!(all(&mut watch), ["Fresh"]);
        give_up(&publisher, watch);
    });
    let span = "DEBUG snapshot epoch=1 snapshot=2 published=0 outcome=given up";
    assert_eq!(records.closed_spans(), [span]);
    let mut events = records.events();
    events.retain(|event| event.contains("snapshot given up"));
    assert_eq!(events.len(), 1, "{events:?}");
    let before = "DEBUG snapshot given up epoch=1 snapshot=2 reason=";
    events[0].strip_prefix(before).unwrap().to_string()
}

#[test]
fn a_snapshot_that_is_given_up_is_reported_with_its_reason() {
    let _watchdog = watchdog();
    let any = |request| request;
    assert_eq!(given_up(any, |_, watch| drop(watch)), "NoWatch");
    assert_eq!(
        given_up(any, |publisher, _watch| publisher.close_key(&"a")),
        "KeyClosed"
    );
    assert_eq!(
        given_up(any, |publisher, _watch| publisher.refresh(&"a")),
        "Refreshed"
    );
    assert_eq!(
        given_up(any, |publisher, _watch| publisher.forget(&"a")),
        "KeyForgotten"
    );
    assert_eq!(
        given_up(any, |publisher, _watch| publisher.close_all()),
        "NoWatch"
    );
    assert_eq!(
        given_up(any, |publisher, _watch| publisher.shutdown()),
        "ShutDown"
    );
    let limited = |request: Request<_, _>| request.limit(LagLimit::items(1), OverLimit::Close);
    let over_limit = |publisher: &Publisher<_, _>, _watch| {
        for index in 1..=2 {
            publisher.publish(index, [("a", 1)]).unwrap();
        }
    };
    assert_eq!(given_up(limited, over_limit), "Lagged");

    // In the new epoch, in which it happens.
    let records = recorder();
    records.during(|| {
        let publisher = Publisher::builder().epoch(1).snapshot(hangs).build();
        let _watch = publisher.subscribe(Request::new("a"));
        publisher.reset(2);
    });
    assert_eq!(
        records.events()[1],
        "DEBUG snapshot given up epoch=2 snapshot=2 reason=StateReset"
    );
    // The handler was not called.
    assert!(records.spans.lock().unwrap().is_empty());

    let records = recorder();
    records.during(|| {
        let builder = Publisher::builder().epoch(1).snapshot(hangs);
        let publisher = builder.snapshot_timeout(Duration::ZERO).build();
        assert_eq!(all(&mut publisher.subscribe(Request::new("a"))).len(), 3);
    });
    let expected = "WARN snapshot given up epoch=1 snapshot=2 reason=TimeLimit";
    assert_eq!(records.events(), [expected]);
}

/// It is dropped by the task that polls it, when it returns.
#[test]
fn a_handler_that_refreshes_its_own_key_is_given_up() {
    let _watchdog = watchdog();
    let records = recorder();
    let own = Arc::new(OnceLock::<WeakPublisher<Key, u32>>::new());
    let within = Arc::clone(&own);
    let refreshed = AtomicBool::new(false);
    let handler = move |key: Key, snapshot: SnapshotAppender<u32>| {
        let publisher = within.get().and_then(WeakPublisher::upgrade).unwrap();
        if !refreshed.swap(true, SeqCst) {
            publisher.refresh(&key);
        }
        async move {
            snapshot.push(1).ok();
            Ok(0)
        }
    };
    records.during(|| {
        let publisher = Publisher::builder().epoch(1).snapshot(handler).build();
        own.set(publisher.downgrade()).unwrap();
        let mut watch = publisher.subscribe(Request::new("a"));
        assert_eq!(
            all(&mut watch),
            ["Fresh", "Reset(Refreshed)", "part [1]", "end of snapshot"]
        );
    });
    let expected = [
        "DEBUG snapshot epoch=1 snapshot=2 published=0 outcome=given up",
        "DEBUG snapshot epoch=1 snapshot=3 published=0 outcome=finished index=0 parts=1",
    ];
    assert_eq!(records.closed_spans(), expected);
}

#[test]
fn a_reset_watch_is_reported_with_its_reason() {
    let _watchdog = watchdog();
    let records = Records::new(LevelFilter::DEBUG, || {});
    records.during(|| {
        let publisher = Publisher::builder().epoch(1).history(1).build();
        let publish = |key, index| publisher.publish(index, [(key, 1)]).unwrap();
        (1..=3).for_each(|index| publish("a", index));
        assert_eq!(resume(&publisher, "a", 1, 3), ["Resumed"]);
        for (epoch, index) in [(1, 1), (1, 9), (5, 2)] {
            let begin = &resume(&publisher, "a", epoch, index)[0];
            let reason = begin
                .strip_prefix("Reset(")
                .unwrap()
                .strip_suffix(")")
                .unwrap();
            let expected =
                format!("DEBUG watch reset epoch=1 reason={reason} index={index} published=3");
            assert_eq!(records.events(), [expected]);
        }

        let request = Request::new("b").limit(LagLimit::items(1), OverLimit::Reset);
        let mut watch = publisher.subscribe(request);
        all(&mut watch);
        (4..=5).for_each(|index| publish("b", index));
        assert!(records.events().is_empty(), "not before it is polled");
        all(&mut watch);
        let lagged = "DEBUG watch reset epoch=1 reason=Lagged index=3 published=5";
        assert_eq!(records.events(), [lagged]);
        publisher.refresh(&"b");
        let refreshed = "DEBUG key refreshed epoch=1 index=5 watches=1";
        assert_eq!(records.events(), [refreshed]);
        all(&mut watch);
        let reset = "DEBUG watch reset epoch=1 reason=Refreshed index=5 published=5";
        assert_eq!(records.events(), [reset]);
    });
}

#[test]
fn commits_that_leave_the_history_are_reported_at_the_level_trace() {
    let _watchdog = watchdog();
    let run = |records: &Arc<Records>, history| {
        records.during(|| {
            let publisher = Publisher::builder().epoch(1).history(history).build();
            publisher.publish(1, [("a", 1)]).unwrap();
            // Leaves in steps, with the one before.
            let keys = (0..1_500).map(|n| (["b", "c"][n % 2], 1));
            publisher.publish(2, keys).unwrap();
            publisher.publish(3, []).unwrap();
            publisher.publish(4, [("a", 1), ("b", 2)]).unwrap();
        });
        records.events()
    };
    let left =
        |commits, index| format!("TRACE commits evicted epoch=1 commits={commits} index={index}");
    assert_eq!(run(&recorder(), 1), [left(1, 1), left(1, 2)]);
    assert_eq!(run(&recorder(), 2), [left(1, 1)]);
    // Nothing is retained, so nothing leaves.
    assert_eq!(run(&recorder(), 0), [""; 0]);
    assert_eq!(run(&Records::new(LevelFilter::DEBUG, || {}), 1), [""; 0]);
}

#[test]
fn closing_watches_is_reported_with_their_number() {
    let _watchdog = watchdog();
    let records = recorder();
    records.during(|| {
        let publisher = Publisher::<Key, u32>::builder().epoch(1).build();
        let watches =
            || ["a", "a", "b"].map(|key| publisher.subscribe(Request::new(key).token("alice")));
        let is = |expected: &[&str]| assert_eq!(records.events(), expected);

        let closed = |reason, watches| {
            format!("DEBUG watches closed epoch=1 reason={reason} watches={watches}")
        };
        let _kept = watches();
        publisher.close_key(&"a");
        is(&[&closed("KeyClosed", 2)]);
        publisher.close_key(&"a");
        is(&[&closed("KeyClosed", 0)]);
        publisher.close_token("alice");
        is(&[&closed("AccessChanged", 1)]);
        let _kept = watches();
        publisher.close_where(|tokens| &*tokens[0] == "alice");
        is(&[&closed("AccessChanged", 3)]);
        let _kept = watches();
        publisher.forget(&"a");
        let forgotten = "DEBUG key forgotten epoch=1 index=0";
        is(&[forgotten, &closed("KeyForgotten", 2)]);
        publisher.close_all();
        is(&[&closed("AllClosed", 1)]);
        let _kept = watches();
        publisher.reset(2);
        let reset = "DEBUG watches closed epoch=2 reason=StateReset { epoch: 2 } watches=3";
        is(&["INFO epoch changed epoch=2 former=1", reset]);
        let _kept = watches();
        publisher.shutdown();
        let shut =
            |watches| format!("DEBUG watches closed epoch=2 reason=ShutDown watches={watches}");
        is(&["INFO publisher shut down epoch=2", &shut(3)]);
        publisher.shutdown();
        is(&[&shut(0)]);
    });
}

#[test]
fn a_watch_that_is_closed_for_its_lag_is_reported() {
    let _watchdog = watchdog();
    let records = recorder();
    records.during(|| {
        let publisher = Publisher::builder().epoch(1).build();
        let request = Request::new("a").limit(LagLimit::items(1), OverLimit::Close);
        let mut watch = publisher.subscribe(request);
        all(&mut watch);
        for index in 1..=3 {
            publisher.publish(index, [("a", 1)]).unwrap();
        }
        let seen = all(&mut watch);
        let lagged = seen[0].strip_prefix("error: too far behind: ").unwrap();
        let commits = lagged.strip_suffix(" commits not received").unwrap();
        let expected = format!("DEBUG watch closed for its lag epoch=1 commits={commits}");
        assert_eq!(records.events(), [expected]);
    });
}

#[test]
fn a_key_that_is_completed_is_reported_once() {
    let _watchdog = watchdog();
    let records = recorder();
    records.during(|| {
        let publisher = Publisher::<Key, u32>::builder().epoch(1).history(9).build();
        publisher.publish(1, [("a", 1)]).unwrap();
        let _kept = publisher.subscribe(Request::keys(["a", "b"]));
        publisher.complete(&"a");
        publisher.complete(&"a");
    });
    let expected = "DEBUG key completed epoch=1 index=1 watches=1";
    assert_eq!(records.events(), [expected]);
}

#[test]
fn the_removal_of_a_cached_snapshot_is_reported_with_its_reason() {
    let _watchdog = watchdog();
    let records = recorder();
    let publisher = |history, ttl| {
        let handler = |_: Key, _: SnapshotAppender<u32>| async { Ok(0) };
        let builder = Publisher::builder().epoch(1).history(history);
        let publisher = builder.snapshot(handler).snapshot_ttl(ttl).build();
        assert_eq!(all(&mut publisher.subscribe(Request::new("a"))).len(), 2);
        publisher
    };
    let is = |reason| {
        let expected =
            format!("DEBUG snapshot no longer cached epoch=1 snapshot=2 reason={reason}");
        assert_eq!(records.events(), [expected]);
    };
    let long = Duration::from_secs(1_000_000);
    records.during(|| {
        let expires = publisher(0, Duration::from_nanos(1));
        while expires.stats().cached_snapshots > 0 {}
        is("Expired");

        let large = publisher(0, long);
        large.publish(1, [("a", 1)]).unwrap();
        is("TooLarge");

        let replaced = publisher(9, long);
        for index in 1..=2 {
            replaced.publish(index, [("a", 1)]).unwrap();
        }
        let request = Request::new("a").limit(LagLimit::items(1), OverLimit::Close);
        replaced.subscribe(request).next().now_or_never();
        // It was begun for a watch that has gone.
        let given_up = "DEBUG snapshot given up epoch=1 snapshot=4 reason=NoWatch";
        assert_eq!(records.events(), [given_up]);
        let request = Request::new("a").limit(LagLimit::items(1), OverLimit::Close);
        all(&mut replaced.subscribe(request));
        is("Replaced");

        let void = publisher(9, long);
        void.refresh(&"a");
        let refreshed = "DEBUG key refreshed epoch=1 index=0 watches=0".to_string();
        let events = records.events();
        assert!(events.contains(&refreshed) && events.len() == 2);
        assert!(events[0].ends_with("no longer cached epoch=1 snapshot=2 reason=Void"));
    });
}

/// Does everything that is reported. Returns what the watches have received.
fn everything(publisher: &Publisher<Key, u32>) -> Vec<Vec<String>> {
    let mut seen = Vec::new();
    let publish = |key, event| publisher.publish_next([(key, event)]).unwrap();
    // Snapshots: finished, failed, given up, and cached until it expires or is void.
    let mut watches =
        ["a", "a", "done", "fails", "hangs"].map(|key| publisher.subscribe(Request::new(key)));
    seen.extend(watches.iter_mut().map(all));
    publisher.close_key(&"hangs");
    while publisher.stats().cached_snapshots > 0 {}
    // Events, evictions, resets.
    (1..=9).for_each(|event| _ = publish("a", event));
    seen.extend(watches.iter_mut().map(all));
    let epoch = publisher.epoch();
    seen.push(resume(publisher, "a", epoch, 1));
    seen.push(resume(publisher, "a", epoch + 1, 1));
    let limited = |over| Request::new("b").limit(LagLimit::items(1), over);
    let limits = [OverLimit::Reset, OverLimit::Close];
    let mut limited = limits.map(|over| publisher.subscribe(limited(over)));
    seen.extend(limited.iter_mut().map(all));
    (1..=3).for_each(|event| _ = publish("b", event));
    seen.extend(limited.iter_mut().map(all));
    // Keys, and ends.
    publisher.refresh(&"a");
    seen.extend(watches.iter_mut().map(all));
    publisher.complete(&"a");
    seen.extend(watches.iter_mut().map(all));
    publisher.forget(&"a");
    let mut tokens = ["x", "y"].map(|key| publisher.subscribe(Request::new(key).token("alice")));
    publisher.close_token("alice");
    seen.extend(tokens.iter_mut().map(all));
    let mut left = ["x", "y"].map(|key| publisher.subscribe(Request::new(key)));
    publisher.reset(epoch + 1);
    seen.extend(left.iter_mut().map(all));
    let mut left = publisher.subscribe(Request::keys(["x", "y"]));
    seen.push(all(&mut left));
    publish("y", 1);
    publisher.shutdown();
    seen.push(all(&mut left));
    seen
}

/// All that is reported, but for the span.
const EVENTS: [&str; 12] = [
    "commits evicted",
    "epoch changed",
    "key completed",
    "key forgotten",
    "key refreshed",
    "publisher shut down",
    "snapshot failed",
    "snapshot given up",
    "snapshot no longer cached",
    "watch closed for its lag",
    "watch reset",
    "watches closed",
];

/// What a subscriber can come by.
#[derive(Default)]
struct Within {
    publisher: OnceLock<WeakPublisher<Key, u32>>,
    appender: Mutex<Option<SnapshotAppender<u32>>>,
}

/// Does everything with a new publisher, under that subscriber, if any.
fn everything_with(records: Option<&Arc<Records>>, within: &Arc<Within>) -> Vec<Vec<String>> {
    let own = Arc::clone(within);
    let handler = move |key: Key, snapshot: SnapshotAppender<u32>| {
        let own = Arc::clone(&own);
        let publisher = own.publisher.get().and_then(WeakPublisher::upgrade);
        let index = publisher.map_or(0, |publisher| publisher.index());
        async move {
            match key {
                "fails" => return Err("as planned".into()),
                "hangs" => pending().await,
                _ => {}
            }
            (1..=2).try_for_each(|part| snapshot.push(part))?;
            if key == "done" {
                snapshot.complete()?;
                *own.appender.lock().unwrap() = Some(snapshot);
            }
            Ok(index)
        }
    };
    let builder = Publisher::builder().epoch(1).history(2).snapshot(handler);
    let publisher = builder.snapshot_ttl(Duration::from_nanos(1)).build();
    within.publisher.set(publisher.downgrade()).unwrap();
    match records {
        Some(records) => records.during(|| everything(&publisher)),
        None => everything(&publisher),
    }
}

#[test]
fn each_kind_of_event_is_reported_and_changes_nothing() {
    let _watchdog = watchdog();
    let records = recorder();
    let seen = everything_with(Some(&records), &Arc::default());
    assert_eq!(seen, everything_with(None, &Arc::default()));
    let events = records.events();
    let of_kind = |kind: &&str| events.iter().any(|event| event.contains(kind));
    let missing: Vec<_> = EVENTS.iter().filter(|kind| !of_kind(kind)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let is_known = |event: &&String| EVENTS.iter().any(|kind| event.contains(kind));
    let unknown: Vec<_> = events.iter().filter(|event| !is_known(event)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// It takes the publisher's lock and that of the snapshot's parts, publishes, and watches what is
/// being watched.
#[test]
fn a_subscriber_may_use_the_publisher() {
    let _watchdog = watchdog();
    let within = Arc::<Within>::default();
    let (own, calls) = (Arc::clone(&within), Arc::new(AtomicUsize::new(0)));
    let called = Arc::clone(&calls);
    let records = Records::new(LevelFilter::TRACE, move || {
        let publisher = own
            .publisher
            .get()
            .and_then(WeakPublisher::upgrade)
            .unwrap();
        if publisher.publish_next([]).is_ok() {
            called.fetch_add(1, SeqCst);
        }
        for key in ["a", "aside"] {
            let mut watch = publisher.subscribe(Request::new(key).token("subscriber"));
            while watch.try_recv().is_ok() {}
            watch.closer().close("enough");
        }
        publisher.close_token("subscriber");
        publisher.complete(&"aside");
        publisher.refresh(&"aside");
        if let Some(appender) = &*own.appender.lock().unwrap() {
            // The handler has completed the key itself, or will.
            _ = appender.complete();
        }
    });
    let seen = everything_with(Some(&records), &within);
    assert_eq!(seen, everything_with(None, &Arc::default()));
    assert!(calls.load(SeqCst) > EVENTS.len());
}

#[test]
fn a_panicking_subscriber_does_not_change_what_watches_receive() {
    let _watchdog = watchdog();
    let expected = everything_with(None, &Arc::default());
    // Once, at each of its calls in turn; and from one of them on.
    for panics_at in [|call, at| call == at, |call, at| call >= at] {
        let mut at = 0;
        loop {
            let calls = Arc::new(AtomicUsize::new(0));
            let called = Arc::clone(&calls);
            let records = Records::new(LevelFilter::TRACE, move || {
                if panics_at(called.fetch_add(1, SeqCst), at) {
                    // Without a message.
                    resume_unwind(Box::new("as planned"));
                }
            });
            assert_eq!(everything_with(Some(&records), &Arc::default()), expected);
            if calls.load(SeqCst) <= at {
                break;
            }
            at += 1;
        }
        assert!(at > EVENTS.len(), "{at}");
    }
}

#[test]
fn a_subscriber_that_panics_during_a_wakers_panic_does_not_abort() {
    let _watchdog = watchdog();
    let called = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&called);
    let records = Records::new(LevelFilter::TRACE, move || {
        count.fetch_add(usize::from(thread::panicking()), SeqCst);
        resume_unwind(Box::new("of the subscriber"));
    });
    let publisher = Publisher::<Key, u32>::builder().history(1).build();
    let mut watch = publisher.subscribe(Request::new("a"));
    publisher.publish(1, [("a", 1)]).unwrap();
    all(&mut watch);
    let waker = Waker::from(Arc::new(PanicsWhenWoken));
    let polled = watch.poll_next_unpin(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    let outcome =
        records.during(|| catch_unwind(AssertUnwindSafe(|| publisher.publish(2, [("a", 2)]))));
    let panic = outcome.unwrap_err().downcast::<&str>().unwrap();
    assert_eq!(*panic, "as planned");
    // To report that a commit was evicted.
    assert!(called.load(SeqCst) > 0);
    assert_eq!(all(&mut watch), ["[2]"]);
}
