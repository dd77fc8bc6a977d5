//! A publisher on each of several nodes, fed from one log in NATS `JetStream`.
//!
//! A node publishes to a stream of `JetStream`, never to its own
//! [`Publisher`]. Each node reads the stream and publishes what it reads, so all nodes publish the
//! same commits at the same indexes. A client that loses one node continues on another from the
//! place that it has.
//!
//! | of the publisher | is |
//! |---|---|
//! | commit | one message |
//! | index | the message's sequence number in the stream |
//! | epoch | when the stream's *origin* was stored, in milliseconds |
//! | history | the stream's last messages, including those from before the node started |
//! | snapshot of a [table](Kind::Table) | the last message of each of its items |
//! | snapshot of a [log](Kind::Log) | all its messages, and its end |
//!
//! The origin is a message that a node writes if the stream has none. It marks one life of the
//! stream: a purge removes it, a stream that is made again lacks it, and removing single keys and
//! items leaves it.
//!
//! ```no_run
//! # use live::event::{Event, Key, Line};
//! # use live::relay::Relay;
//! # async fn example() -> Result<(), event_buffer::publisher::BoxError> {
//! use event_buffer::publisher::Request;
//!
//! let relay = Relay::<Key, Event>::start("nats://127.0.0.1:4222", "live", 2_000).await?;
//! let watch = relay.publisher().subscribe(Request::new(Key::Output(7)));
//! let line = Line { n: 1, err: false, text: "hello".into() };
//! relay.append(Key::Output(7), vec![Event::Line(line)]).await?; // `watch` yields it, on each node
//! # drop(watch);
//! # Ok(()) }
//! ```
//!
//! # When something goes wrong
//!
//! * **NATS is lost**: watches stay open and receive nothing. A node that publishes waits, and
//!   retries under the same message id, so that a message whose acknowledgement was lost is not
//!   doubled. NATS remembers these ids for [`DUPLICATES`]; a longer outage may double the one
//!   message that each caller was publishing. Snapshots fail until NATS is back. Nodes then read
//!   on after their last index.
//! * **The stream is purged, or deleted and made again**: each node notices within a second, and
//!   begins a new epoch. All watches are closed, and their clients start over. All nodes read the
//!   same origin, so a client may change nodes in the new epoch.
//! * **A node is new**: [`Relay::start`] returns when the node has read all that is in the stream.
//! * **A node dies**: NATS forgets what it was reading within a minute. Whatever it was about to
//!   publish is missing: a log that it was writing stays without an end until some node
//!   [completes](Relay::complete) it.
//!
//! The stream must have no limits that remove old messages, since nodes could not tell that a
//! snapshot lacks them.

use std::fmt::{self, Display};
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use async_nats::header::{NATS_MESSAGE_TTL, NATS_ROLLUP};
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, pull};
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, LastRawMessageErrorKind, Stream};
use async_nats::jetstream::{self, Context};
use event_buffer::publisher::{BoxError, PublishError, Publisher, Resume, SnapshotAppender};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{interval, sleep, timeout};
use tracing::{info, warn};

/// For how long NATS recognizes a message that is published a second time.
pub const DUPLICATES: Duration = Duration::from_mins(10);

/// How often a node checks that the stream is the same, and how long it waits to try again.
const CHECK: Duration = Duration::from_secs(1);

/// How long NATS keeps what a snapshot reads with, if its node dies.
const IDLE: Duration = Duration::from_mins(1);

/// How many messages are a part of a snapshot.
const PART: usize = 100;

/// For how long nodes that lost NATS can still learn that a key or an item was removed.
const REMOVED: &str = "24h";

/// A key whose events go through a relay.
///
/// Its [`Display`] names its subjects, so it must differ between keys.
pub trait Topic:
    Copy + Display + Eq + Hash + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// Says what the state of the key is.
    fn kind(&self) -> Kind;
}

/// What the state of a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The last event of each item. Without any item it is empty.
    Table,
    /// All events since the first one. Without any message there is no such key.
    Log,
}

/// A snapshot was asked for of a log that has not begun.
#[derive(Debug)]
pub struct NoSuchKey(pub String);

/// A node's connection to the log that all nodes share.
pub struct Relay<K, T> {
    log: Connection,
    publisher: Publisher<K, T>,
    /// Distinguishes this node's messages from those of others.
    node: u64,
    /// How many messages this node has published.
    count: AtomicU64,
    feeding: JoinHandle<()>,
}

/// What the publisher's handler and the task that feeds it need.
#[derive(Clone)]
struct Connection {
    context: Context,
    name: Arc<str>,
}

/// What a message contains.
#[derive(Serialize, Deserialize)]
struct Message<K, T> {
    key: K,
    events: Vec<T>,
    /// What the message does besides.
    #[serde(default)]
    mark: Mark,
}

/// What a message does besides carrying events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Mark {
    /// Nothing.
    #[default]
    None,
    /// It ends the log.
    End,
    /// It takes the place of the log, or of the table's item, in the stream.
    Removed,
}

/// The message that marks one life of the stream.
struct Origin {
    epoch: u64,
    sequence: u64,
}

impl<K, T> Relay<K, T>
where
    K: Topic,
    T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
{
    /// Connects to NATS, and returns when this node has read all that is in the stream.
    ///
    /// The stream is created if it is not there. The publisher retains the last `history`
    /// messages.
    ///
    /// # Errors
    ///
    /// NATS cannot be reached, or has no `JetStream`.
    pub async fn start(url: &str, stream: &str, history: usize) -> Result<Self, BoxError> {
        let client = { async_nats::connect(url).await }
            .map_err(|error| format!("cannot reach NATS at {url}: {error}"))?;
        let context = jetstream::new(client);
        let log = Connection {
            context,
            name: stream.into(),
        };
        let stream = { log.stream().await }
            .map_err(|error| format!("NATS at {url} has no JetStream: {error}"))?;
        let origin = log.origin(&stream).await?;
        let state = stream.get_info().await?.state;
        let retained = state.last_sequence.saturating_sub(history as u64);
        let of_handler = log.clone();
        let publisher = Publisher::builder()
            .epoch(origin.epoch)
            .start_at(retained.max(state.first_sequence.saturating_sub(1)))
            .history(history)
            // The handler reads the whole stream of a key: a herd of clients shares one.
            .snapshot_ttl(CHECK)
            .snapshot(move |key, snapshot| {
                let log = of_handler.clone();
                async move { log.snapshot_of(key, &snapshot).await }
            })
            .build();
        let feeding = tokio::spawn(feed(log.clone(), publisher.clone()));
        let (epoch, index) = (origin.epoch, state.last_sequence);
        publisher.reached(Resume { epoch, index }).await;
        Ok(Self {
            log,
            // A random number, as that of every publisher is that is given none.
            node: Publisher::<(), ()>::builder().build().epoch(),
            publisher,
            count: AtomicU64::new(0),
            feeding,
        })
    }

    /// Waits until this node has read up to a place that another node gave, for ten seconds at
    /// the most.
    ///
    /// A node may be some messages behind another, and further after NATS was lost. A client that
    /// comes from there would be told that its place is ahead, and start over for no reason.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped leaves nothing behind.
    pub async fn read_up_to(&self, place: Resume) {
        // If it does not come, the client starts over.
        _ = timeout(10 * CHECK, self.publisher.reached(place)).await;
    }

    /// Returns what this node's clients watch. Only the relay publishes to it.
    pub fn publisher(&self) -> &Publisher<K, T> {
        &self.publisher
    }

    /// Appends events to a log as one commit, and returns its index.
    ///
    /// Waits until the stream has it. This node's publisher follows soon:
    /// [`read_up_to`](Self::read_up_to) waits for it.
    ///
    /// # Errors
    ///
    /// NATS refuses the message: it is larger than `max_payload`, 1 MiB by default.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped may have published the message or not.
    pub async fn append(&self, key: K, events: Vec<T>) -> Result<u64, BoxError> {
        let subject = subject(&self.log.name, &key);
        self.put(subject, key, events, Mark::None, None).await
    }

    /// Ends a log. Ending it twice has no effect.
    ///
    /// # Errors
    ///
    /// Like [`append`](Self::append).
    pub async fn complete(&self, key: K) -> Result<u64, BoxError> {
        let subject = subject(&self.log.name, &key);
        self.put(subject, key, Vec::new(), Mark::End, None).await
    }

    /// Removes a log. Its watches are closed, and later ones fail with [`NoSuchKey`].
    ///
    /// # Errors
    ///
    /// Like [`append`](Self::append).
    pub async fn forget(&self, key: K) -> Result<u64, BoxError> {
        let subject = subject(&self.log.name, &key);
        self.put(subject, key, Vec::new(), Mark::Removed, None)
            .await
    }

    /// Replaces an item of a table.
    ///
    /// # Errors
    ///
    /// Like [`append`](Self::append).
    pub async fn set(&self, key: K, item: &str, event: T) -> Result<u64, BoxError> {
        let subject = self.item(&key, item);
        self.put(subject, key, vec![event], Mark::None, None).await
    }

    /// Adds an item to a table. Returns `None` if it is there: another node may have added it.
    ///
    /// # Errors
    ///
    /// Like [`append`](Self::append).
    pub async fn create(&self, key: K, item: &str, event: T) -> Result<Option<u64>, BoxError> {
        let subject = self.item(&key, item);
        match self
            .put(subject, key, vec![event], Mark::None, Some(0))
            .await
        {
            Ok(index) => Ok(Some(index)),
            Err(error) if is_taken(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes an item of a table. Watches receive `event`; later snapshots lack the item.
    ///
    /// # Errors
    ///
    /// Like [`append`](Self::append).
    pub async fn remove(&self, key: K, item: &str, event: T) -> Result<u64, BoxError> {
        let subject = self.item(&key, item);
        self.put(subject, key, vec![event], Mark::Removed, None)
            .await
    }

    /// The subject of a table's item.
    fn item(&self, key: &K, item: &str) -> String {
        format!("{}.{}", subject(&self.log.name, key), token(item))
    }

    /// Publishes a message, waits for NATS as long as it takes, and returns its sequence number.
    ///
    /// With `after`, fails if the last message of the subject has another sequence number.
    async fn put(
        &self,
        subject: String,
        key: K,
        events: Vec<T>,
        mark: Mark,
        after: Option<u64>,
    ) -> Result<u64, BoxError> {
        let id = format!("{}-{}", self.node, self.count.fetch_add(1, Relaxed));
        let payload = serde_json::to_vec(&Message { key, events, mark })?;
        loop {
            let mut message = PublishMessage::build()
                .payload(payload.clone().into())
                .message_id(&id);
            if let Some(last) = after {
                message = message.expected_last_subject_sequence(last);
            }
            if mark == Mark::Removed {
                message = message
                    .header(NATS_ROLLUP, "sub")
                    .header(NATS_MESSAGE_TTL, REMOVED);
            }
            let sent = async {
                let sent = self.log.context.send_publish(subject.clone(), message);
                sent.await?.await
            };
            match sent.await {
                Ok(stored) => return Ok(stored.sequence),
                Err(error) => match error.kind() {
                    PublishErrorKind::WrongLastSequence | PublishErrorKind::MaxPayloadExceeded => {
                        return Err(error.into());
                    }
                    _ => warn!(%error, "NATS does not take a message; trying again"),
                },
            }
            sleep(CHECK).await;
        }
    }
}

impl<K, T> Drop for Relay<K, T> {
    fn drop(&mut self) {
        self.feeding.abort();
    }
}

impl Connection {
    /// Returns the stream, which is created if it is not there.
    async fn stream(&self) -> Result<Stream, BoxError> {
        let config = Config {
            name: self.name.to_string(),
            subjects: vec![format!("{}.>", self.name)],
            duplicate_window: DUPLICATES,
            allow_rollup: true,
            allow_message_ttl: true,
            ..Config::default()
        };
        Ok(self.context.get_or_create_stream(config).await?)
    }

    /// Returns the stream's origin, which is written if it is not there.
    async fn origin(&self, stream: &Stream) -> Result<Origin, BoxError> {
        let subject = origin_subject(&self.name);
        loop {
            match stream.get_last_raw_message_by_subject(&subject).await {
                Ok(message) => {
                    let stored = message.time.unix_timestamp_nanos() / 1_000_000;
                    return Ok(Origin {
                        epoch: u64::try_from(stored)?,
                        sequence: message.sequence,
                    });
                }
                Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {}
                Err(error) => return Err(error.into()),
            }
            let message = PublishMessage::build().expected_last_subject_sequence(0);
            let sent = self.context.send_publish(subject.clone(), message).await?;
            match sent.await {
                Ok(_) => {}
                // Another node was first.
                Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads the state of a key from the stream.
    ///
    /// The stream's last sequence number is read first. What is read then contains all messages
    /// up to that, and ends with a message of the key, so it is as of the later of the two.
    async fn snapshot_of<K: Topic, T: DeserializeOwned>(
        &self,
        key: K,
        snapshot: &SnapshotAppender<T>,
    ) -> Result<u64, BoxError> {
        let stream = self.stream().await?;
        let mut index = stream.get_info().await?.state.last_sequence;
        let subject = subject(&self.name, &key);
        let (filter, policy) = match key.kind() {
            Kind::Table => (format!("{subject}.*"), DeliverPolicy::LastPerSubject),
            Kind::Log => (subject, DeliverPolicy::All),
        };
        let mut reader = Reader::new(stream, filter, policy).await?;
        let (mut is_empty, mut ends) = (true, false);
        while let Some(messages) = reader.next().await? {
            let mut part = Vec::new();
            for message in messages {
                index = index.max(message.info()?.stream_sequence);
                let message: Message<K, T> = serde_json::from_slice(&message.payload)?;
                if message.mark != Mark::Removed {
                    is_empty = false;
                    part.extend(message.events);
                }
                ends |= message.mark == Mark::End;
            }
            snapshot.append(part)?;
            // Until its watches ask for more. Otherwise a slow one would have all parts in memory.
            yield_now().await;
        }
        if is_empty && key.kind() == Kind::Log {
            return Err(NoSuchKey(key.to_string()).into());
        }
        if ends {
            snapshot.complete()?;
        }
        Ok(index)
    }
}

/// Reads the messages that a stream has now, once and in order.
///
/// NATS forgets its consumer when this is dropped. It allows only some hundred of them, and clients
/// that come and go begin many snapshots which nobody waits for any longer.
struct Reader {
    stream: Stream,
    consumer: Consumer<pull::Config>,
    /// How many messages there still are.
    left: u64,
    /// How many messages have been read.
    read: u64,
    runtime: Handle,
}

impl Reader {
    async fn new(
        stream: Stream,
        filter_subject: String,
        deliver_policy: DeliverPolicy,
    ) -> Result<Self, BoxError> {
        let consumer = stream
            .create_consumer(pull::Config {
                filter_subject,
                deliver_policy,
                ack_policy: AckPolicy::None,
                memory_storage: true,
                inactive_threshold: IDLE,
                ..pull::Config::default()
            })
            .await?;
        Ok(Self {
            left: consumer.cached_info().num_pending,
            read: 0,
            stream,
            consumer,
            runtime: Handle::current(),
        })
    }

    /// Returns the next messages, or `None` after the last one.
    async fn next(&mut self) -> Result<Option<Vec<jetstream::Message>>, BoxError> {
        if self.left == 0 {
            return Ok(None);
        }
        let fetch = self.consumer.fetch().max_messages(PART).expires(IDLE / 4);
        let mut fetched = fetch.messages().await?;
        let mut messages = Vec::with_capacity(PART);
        while self.left > 0
            && let Some(message) = fetched.next().await.transpose()?
        {
            let info = message.info()?;
            self.read += 1;
            self.left = info.pending;
            if info.consumer_sequence != self.read {
                // What was sent while the connection was lost does not come again.
                return Err("messages were lost".into());
            }
            messages.push(message);
        }
        if messages.is_empty() {
            return Err("NATS sends no messages".into());
        }
        Ok(Some(messages))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let (stream, name) = (
            self.stream.clone(),
            self.consumer.cached_info().name.clone(),
        );
        self.runtime.spawn(async move {
            // If it fails, NATS forgets the consumer after it has been idle.
            _ = stream.delete_consumer(&name).await;
        });
    }
}

/// Publishes what comes in the stream. The relay ends it when it is dropped.
async fn feed<K, T>(log: Connection, publisher: Publisher<K, T>)
where
    K: Topic,
    T: DeserializeOwned + Send + Sync + 'static,
{
    loop {
        match read_on(&log, &publisher).await {
            Ok(()) => info!("the stream is another one"),
            Err(error) => warn!(%error, "cannot read the stream; trying again"),
        }
        sleep(CHECK).await;
    }
}

/// Reads the stream after the publisher's last index, until it is another stream.
async fn read_on<K, T>(log: &Connection, publisher: &Publisher<K, T>) -> Result<(), BoxError>
where
    K: Topic,
    T: DeserializeOwned + Send + Sync + 'static,
{
    let stream = log.stream().await?;
    let origin = log.origin(&stream).await?;
    let state = stream.get_info().await?.state;
    if origin.epoch != publisher.epoch() {
        // From the first message on, so that nothing of the new epoch is unknown.
        publisher.reset(origin.epoch);
        if state.first_sequence > 1 {
            publisher.publish(state.first_sequence - 1, [])?;
        }
    }
    let start_sequence = publisher.index() + 1;
    let consumer = stream
        .create_consumer(pull::OrderedConfig {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence },
            ..pull::OrderedConfig::default()
        })
        .await?;
    if consumer.cached_info().num_pending == 0 && start_sequence <= state.last_sequence {
        // The last messages were removed.
        publisher.publish(state.last_sequence, [])?;
    }
    let mut messages = consumer.messages().await?;
    let mut checks = interval(CHECK);
    loop {
        tokio::select! {
            message = messages.next() => {
                let message = message.ok_or("the consumer has ended")??;
                let sequence = message.info()?.stream_sequence;
                if sequence == origin.sequence {
                    publisher.publish(sequence, [])?;
                } else {
                    take(publisher, sequence, serde_json::from_slice(&message.payload)?)?;
                }
            }
            _ = checks.tick() => if log.origin(&stream).await?.epoch != publisher.epoch() {
                return Ok(());
            },
        }
    }
}

/// Publishes what a message contains.
fn take<K: Topic, T: Send + Sync + 'static>(
    publisher: &Publisher<K, T>,
    sequence: u64,
    message: Message<K, T>,
) -> Result<(), PublishError> {
    let Message { key, events, mark } = message;
    let events = events.into_iter().map(|event| (key, event));
    publisher.publish(sequence, events)?;
    match (mark, key.kind()) {
        (Mark::End, _) => publisher.complete(&key),
        (Mark::Removed, Kind::Log) => publisher.forget(&key),
        (Mark::Removed, Kind::Table) | (Mark::None, _) => {}
    }
    Ok(())
}

/// Returns `true` if a message was refused because its subject has one.
fn is_taken(error: &BoxError) -> bool {
    let error = error.downcast_ref::<jetstream::context::PublishError>();
    error.is_some_and(|error| error.kind() == PublishErrorKind::WrongLastSequence)
}

/// The subject of the origin, which no key has: a key's `%` is always followed by digits.
fn origin_subject(stream: &str) -> String {
    format!("{stream}.%origin")
}

/// The subject of a log, and the beginning of those of a table's items.
fn subject(stream: &str, key: &impl Display) -> String {
    format!("{stream}.{}", token(&key.to_string()))
}

/// Writes a text as one token of a subject.
fn token(text: &str) -> String {
    let is_special = |c: char| ".*>%".contains(c) || c.is_whitespace() || c.is_control();
    let token = text.chars().map(|c| match c {
        c if is_special(c) => format!("%{:02x}", u32::from(c)),
        c => c.to_string(),
    });
    token.collect()
}

impl Display for NoSuchKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no such key: {}", self.0)
    }
}

impl std::error::Error for NoSuchKey {}

impl<K, T> fmt::Debug for Relay<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").finish_non_exhaustive()
    }
}
