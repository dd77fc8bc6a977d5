//! A catalogue with many watchers, which changes meanwhile.
//!
//! ```text
//! cargo run --release --example catalog                          # commands, by initial letter
//! cargo run --release --example catalog -- /etc/services         # services, by protocol
//! cargo run --release --example catalog -- /var/lib/dpkg/status  # Debian packages, by section
//! ```
//!
//! The state is the contents of the file, or the commands in the folders of `PATH`. A thread
//! changes it commit by commit, and publishes each commit. On the main thread the executor of
//! futures drives the watchers: one from the start, one late, one that leaves and resumes, one that
//! resumes too late, a filtered one, one of another key, and one that is forced out. Each rebuilds
//! the state of its key from updates alone. Whenever its view should be complete, it is compared
//! with the state at that index.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::task::Poll;
use std::{env, fs, mem, thread};

use event_buffer::publisher::{
    Begin, BoxError, CloseReason, ResetReason, SnapshotAppender, WatchError,
};
use event_buffer::{Publisher, Request, Resume, Update, Watch};
use futures::StreamExt;
use futures::executor::{LocalPool, LocalSpawner};
use futures::task::LocalSpawnExt;

type Text = Arc<str>;
/// Entries by name: a command's folder, a service's port and other names, or a package's version
/// and status.
type Entries = BTreeMap<Text, Text>;
/// A name, and its new entry, if any.
type Change = (Text, Option<Text>);
type State = Arc<Mutex<Catalogue>>;
type Outcome<T> = Result<T, BoxError>;

/// The commits in a quarter of the run. The watchers act at the ends of quarters, so that each run
/// is the same.
const QUARTER: u64 = 30;
const LAST: u64 = 4 * QUARTER;
/// Commits retained for watchers that come back: enough for one quarter, but not for two.
const WINDOW: usize = 40;
/// Entries in a part of a snapshot.
const PART: usize = 20;
const COUNTS: &str = "snapshots parts events progress resumes verified";

/// The entries by key, as of each index that changed them. The newest are the state; the others
/// serve to verify views.
#[derive(Default)]
struct Catalogue {
    index: u64,
    keys: BTreeMap<Text, BTreeMap<u64, Arc<Entries>>>,
}

/// A watcher, which may leave and resume.
#[derive(Default)]
struct Watcher {
    name: &'static str,
    key: Text,
    shows: Option<fn(&str) -> bool>,
    state: State,
    watch: Option<Watch<Text, Change>>,
    resume: Option<Resume>,
    view: Entries,
    /// The entries of an incomplete snapshot.
    parts: Entries,
    counts: BTreeMap<&'static str, usize>,
    note: String,
}

fn main() -> ExitCode {
    let path = env::args_os().nth(1).map(PathBuf::from);
    match run(path.as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("catalog: {error}: {:?}", error.source());
            ExitCode::FAILURE
        }
    }
}

fn run(path: Option<&Path>) -> Outcome<()> {
    let (name, entries) = match path {
        Some(path) => (path.display().to_string(), read(path)?),
        None => ("the commands in PATH".into(), commands()),
    };
    if entries.is_empty() {
        return Err(format!("nothing to list: {name}").into());
    }
    let mut catalogue = Catalogue::default();
    catalogue.commit(0, &entries);
    let state = Arc::new(Mutex::new(catalogue));
    let catalogue = Arc::clone(&state);
    let publisher = Publisher::builder()
        .history(WINDOW)
        .snapshot(move |key, parts| append_state(Arc::clone(&catalogue), key, parts))
        .build();
    let (orders, ordered) = mpsc::channel();
    let producer = {
        let (state, publisher) = (Arc::clone(&state), publisher.clone());
        thread::spawn(move || produce(&ordered, &state, &publisher))
    };
    let mut executor = LocalPool::new();
    let spawner = executor.spawner();
    let watchers = executor.run_until(watch(&spawner, &state, publisher, orders));
    producer.join().map_err(|_| "the producer panicked")??;
    Ok(report(&name, &look(&state), &watchers?)?)
}

/// The commands that a shell finds, each in the first folder of `PATH` that has it.
fn commands() -> Vec<(Text, Change)> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = env::split_paths(&path).collect();
    let mut commands = Vec::new();
    // The first folder comes last, so that it replaces entries of the others.
    for folder in folders.iter().rev() {
        for file in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            let initial = name.chars().take(1).collect::<String>().to_lowercase();
            let entry = folder.to_string_lossy();
            commands.push((initial.into(), (name.into(), Some(entry.into()))));
        }
    }
    commands
}

/// Reads services or packages, depending on the lines of the file.
fn read(path: &Path) -> Outcome<Vec<(Text, Change)>> {
    let name = path.display();
    let bytes = fs::read(path).map_err(|error| format!("cannot read {name}: {error}"))?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(if text.lines().any(|line| line.starts_with("Package:")) {
        text.split("\n\n").filter_map(package).collect()
    } else {
        text.lines().filter_map(service).collect()
    })
}

/// A paragraph of dpkg's status.
fn package(paragraph: &str) -> Option<(Text, Change)> {
    let fields = paragraph.lines().filter_map(|line| line.split_once(": "));
    let fields: BTreeMap<_, _> = fields.collect();
    let field = |name| fields.get(name).copied();
    let architecture = field("Architecture").unwrap_or("unknown");
    let key = field("Section").unwrap_or(architecture);
    let name = format!("{}:{architecture}", field("Package")?);
    let entry = format!("{} {}", field("Version").unwrap_or("-"), field("Status")?);
    Some((key.into(), (name.into(), Some(entry.into()))))
}

/// A line of /etc/services.
fn service(line: &str) -> Option<(Text, Change)> {
    let mut words = line.split('#').next()?.split_whitespace();
    let name = words.next()?;
    let (port, protocol) = words.next()?.split_once('/')?;
    let port: u16 = port.parse().ok()?;
    let entry = words.fold(port.to_string(), |entry, alias| entry + " " + alias);
    Some((protocol.into(), (name.into(), Some(entry.into()))))
}

/// Lets the executor's other tasks run.
async fn yield_now() {
    let mut has_yielded = false;
    poll_fn(|cx| {
        if mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn apply((name, entry): &Change, entries: &mut Entries) {
    match entry {
        Some(entry) => entries.insert(name.clone(), entry.clone()),
        None => entries.remove(name),
    };
}

fn look(state: &State) -> MutexGuard<'_, Catalogue> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Catalogue {
    fn commit(&mut self, index: u64, changes: &[(Text, Change)]) {
        for (key, change) in changes {
            let before = self.at(key, index);
            let versions = self.keys.entry(key.clone()).or_default();
            let entries = versions.entry(index).or_insert(before);
            apply(change, Arc::make_mut(entries));
        }
        self.index = index;
    }

    fn at(&self, key: &str, index: u64) -> Arc<Entries> {
        let versions = self.keys.get(key);
        let newest = versions.and_then(|versions| versions.range(..=index).next_back());
        newest.map_or_else(Arc::default, |(_, entries)| Arc::clone(entries))
    }

    /// The initial entries, with the largest key first.
    fn file(&self) -> Vec<(Text, Arc<Entries>)> {
        let keys = self.keys.keys();
        let mut file: Vec<_> = keys.map(|key| (key.clone(), self.at(key, 0))).collect();
        file.sort_by_key(|(_, entries)| Reverse(entries.len()));
        file
    }
}

/// The snapshot handler: an index, and the state as of that index, part by part.
async fn append_state(state: State, key: Text, to: SnapshotAppender<Change>) -> Outcome<u64> {
    let (index, entries) = {
        let catalogue = look(&state);
        (catalogue.index, catalogue.at(&key, catalogue.index))
    };
    let mut entries = entries.iter();
    while entries.len() > 0 {
        let part = entries.by_ref().take(PART);
        to.append(part.map(|(name, entry)| (name.clone(), Some(entry.clone()))))?;
        // Watchers read this part, and the catalogue changes, before the next one.
        yield_now().await;
    }
    Ok(index)
}

/// Changes the state, then publishes, up to the ordered index. A snapshot may be taken in between.
fn produce(
    orders: &mpsc::Receiver<u64>,
    state: &State,
    publisher: &Publisher<Text, Change>,
) -> Outcome<()> {
    let file = look(state).file();
    let mut index = 0;
    for last in orders {
        while index < last {
            index += 1;
            let changes = changes(index, &file);
            look(state).commit(index, &changes);
            let outcome = publisher.publish(index, changes);
            // Otherwise the watchers would wait for commits that never come.
            outcome.inspect_err(|_| publisher.shutdown())?;
        }
    }
    Ok(())
}

/// A commit that changes two entries of each of the two largest keys, and of another key in turn.
fn changes(index: u64, file: &[(Text, Arc<Entries>)]) -> Vec<(Text, Change)> {
    let turn = usize::try_from(index).unwrap_or_default();
    let others = file.len().saturating_sub(2).max(1);
    let keys = file.iter().take(2).chain(file.get(2 + turn % others));
    let mut changes = Vec::new();
    for (key, entries) in keys {
        let two = entries.iter().cycle().skip(2 * turn).take(2);
        for (n, (name, entry)) in (2 * turn..).zip(two) {
            let change = match n % 3 {
                0 => (name.clone(), None),
                1 => (format!("{name}+{index}").into(), Some(entry.clone())),
                _ => (name.clone(), Some(format!("{entry} +{index}").into())),
            };
            changes.push((key.clone(), change));
        }
    }
    changes
}

/// Runs the scenes in order. Spawned watchers continue meanwhile, to the end.
async fn watch(
    spawner: &LocalSpawner,
    state: &State,
    publisher: Publisher<Text, Change>,
    orders: mpsc::Sender<u64>,
) -> Outcome<Vec<Watcher>> {
    let file = look(state).file();
    let (key, other) = (&file[0].0, &file[file.len().min(2) - 1].0);
    let start = |name, key: &Text, shows| {
        let (key, state) = (Arc::clone(key), Arc::clone(state));
        let mut watcher = Watcher {
            name,
            key,
            shows,
            state,
            ..Watcher::default()
        };
        watcher.subscribe(&publisher);
        watcher
    };
    let mut tasks = Vec::new();
    let mut spawn = |watcher: Watcher| {
        tasks.push(spawner.spawn_local_with_handle(watcher.follow())?);
        Outcome::Ok(())
    };

    let mut first = start("from the start", key, None);
    let mut leaver = start("leaves, resumes", key, None);
    let mut sleeper = start("too late", key, None);
    let mut guest = start("forced out", key, None);
    let picky = start("filtered", key, Some(|name| !name.contains('-')));
    let mut apart = start("another key", other, None);
    // Two snapshots: the watchers that wait for the same one share it.
    first.until(0).await?;
    apart.until(0).await?;
    orders.send(QUARTER)?;
    spawn(picky)?;
    spawn(apart)?;
    for watcher in [&mut first, &mut leaver, &mut sleeper, &mut guest] {
        watcher.until(QUARTER).await?;
    }
    leaver.watch = None;
    sleeper.watch = None;

    // Its place is before the second quarter, which its snapshot will contain, since no snapshot
    // is produced before the watch is polled.
    let mut late = start("late", key, None);
    orders.send(2 * QUARTER)?;
    first.until(2 * QUARTER).await?;
    spawn(first)?;

    leaver.subscribe(&publisher);
    leaver.until(2 * QUARTER).await?;
    let resumed = leaver.counts["snapshots"] == 1;
    check(
        resumed,
        "a watcher that resumes in time needs no second snapshot",
    )?;

    // It has read only the first part of its snapshot when the third quarter comes.
    late.step().await?;
    orders.send(3 * QUARTER)?;
    leaver.until(3 * QUARTER).await?;
    // The rest of the snapshot; the next update is the first commit of the third quarter.
    late.until(2 * QUARTER).await?;
    spawn(late)?;
    spawn(leaver)?;

    // It has not read since the first quarter, and now it can no more.
    publisher.close_token(guest.name);
    let is_closed = guest.step().await.is_err_and(|error| {
        error.downcast_ref() == Some(&WatchError::Closed(CloseReason::AccessChanged))
    });
    check(is_closed, "a watcher that is forced out learns why")?;

    sleeper.subscribe(&publisher);
    let reset = sleeper.step().await?;
    let reset = matches!(
        reset,
        Some(Update::Begin(Begin::Reset(ResetReason::TooOld)))
    );
    check(reset, "a watcher that resumes too late starts anew")?;
    sleeper.step().await?;
    orders.send(LAST)?;
    spawn(sleeper)?;

    // The producer drops the last handle, and each watch ends once it has read the rest.
    drop((orders, publisher));
    let mut watchers = Vec::new();
    for task in tasks {
        let watcher = task.await?;
        check(
            watcher.index() == Some(LAST),
            "a watcher that stays receives every commit",
        )?;
        watchers.push(watcher);
    }
    watchers.push(guest);
    Ok(watchers)
}

fn check(holds: bool, what: &str) -> Outcome<()> {
    let error = || format!("violated: {what}").into();
    holds.then_some(()).ok_or_else(error)
}

impl Watcher {
    /// Subscribes, and resumes if it can.
    fn subscribe(&mut self, publisher: &Publisher<Text, Change>) {
        let request = Request::new(Arc::clone(&self.key)).token(self.name);
        let mut request = request.after(self.resume);
        if let Some(shows) = self.shows {
            request = request.filter(move |(name, _): &Change| shows(name));
        }
        self.count("resumes", usize::from(self.resume.is_some()));
        self.watch = Some(publisher.subscribe(request));
    }

    fn index(&self) -> Option<u64> {
        self.resume.map(|resume| resume.index)
    }

    async fn until(&mut self, index: u64) -> Outcome<()> {
        while self.index() < Some(index) {
            check(self.step().await?.is_some(), "a watch continues")?;
        }
        Ok(())
    }

    async fn follow(mut self) -> Outcome<Self> {
        while self.step().await?.is_some() {}
        Ok(self)
    }

    /// Takes the next update, if there is one, and verifies the view unless it is incomplete.
    async fn step(&mut self) -> Outcome<Option<Update<Text, Change>>> {
        let Some(watch) = &mut self.watch else {
            return Ok(None);
        };
        let next = watch.next().await.transpose();
        let resume = watch.resume_point();
        let update = next.inspect_err(|error| self.note = format!("{error:?}"))?;
        match &update {
            Some(Update::Begin(begin)) => {
                if let Begin::Reset(reason) = begin {
                    self.note = format!("Reset({reason:?})");
                }
                self.parts.clear();
            }
            Some(Update::Snapshot(part)) => {
                part.iter()
                    .for_each(|change| apply(change, &mut self.parts));
                self.count("parts", 1);
            }
            Some(Update::EndOfSnapshot { .. }) => {
                self.view = std::mem::take(&mut self.parts);
                self.count("snapshots", 1);
            }
            Some(Update::Events(events)) => {
                let view = &mut self.view;
                events.iter().for_each(|change| apply(change, view));
                self.count("events", events.iter().count());
            }
            Some(Update::Progress { .. }) => self.count("progress", 1),
            Some(Update::Completed(_)) => {}
            None => return Ok(None),
        }
        let before = self.index();
        // Until a snapshot is complete, the previous view and resume point stay valid.
        self.resume = resume.or(self.resume);
        if let Some(index) = resume.map(|resume| resume.index) {
            check(before <= Some(index), "indexes go up")?;
            self.verify(index)?;
        }
        Ok(update)
    }

    /// Checks that the view equals the state at the index, without hidden entries.
    fn verify(&mut self, index: u64) -> Outcome<()> {
        let state = look(&self.state).at(&self.key, index);
        let shown = |name: &str| self.shows.is_none_or(|shows| shows(name));
        let state = state.iter().filter(|(name, _)| shown(name));
        let what = format!("{}: the view is the state of index {index}", self.name);
        check(state.eq(&self.view), &what)?;
        self.count("verified", 1);
        Ok(())
    }

    fn count(&mut self, what: &'static str, more: usize) {
        *self.counts.entry(what).or_default() += more;
    }
}

fn report(source: &str, catalogue: &Catalogue, watchers: &[Watcher]) -> io::Result<()> {
    // `println!` would panic if the reader of a pipe has gone.
    let mut out = io::stdout().lock();
    let file = catalogue.file();
    let entries: usize = file.iter().map(|(_, entries)| entries.len()).sum();
    writeln!(out, "{source}: {entries} entries, {} keys", file.len())?;
    writeln!(out, "watcher         key       {COUNTS} index entries")?;
    for watcher in watchers {
        let Watcher { name, key, .. } = watcher;
        write!(out, "{name:15} {key:9}")?;
        for title in COUNTS.split(' ') {
            let count = watcher.counts.get(title).unwrap_or(&0);
            write!(out, " {count:0$}", title.len())?;
        }
        let (index, entries) = (watcher.index().unwrap_or(0), watcher.view.len());
        writeln!(out, " {index:5} {entries:7} {}", watcher.note)?;
    }
    writeln!(
        out,
        "verified: the number of indexes at which the view was the state"
    )
}
