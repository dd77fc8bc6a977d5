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
//! | epoch | when the stream was created, in milliseconds, combined with what was purged of it |
//! | history | the stream's last messages, also those from before the node started |
//! | snapshot of a [table](Kind::Table) | the last message of each of its items |
//! | snapshot of a [log](Kind::Log) | all its messages, and its end |
//!
//! # What goes wrong, and what happens then
//!
//! * **NATS is lost**: watches stay open and receive nothing. A node that publishes waits, and
//!   retries under the same message id, so that nothing is doubled if it was the acknowledgement
//!   that got lost. NATS knows these ids for [`DUPLICATES`]; a loss that is longer may double
//!   the one message that each caller was publishing. When NATS is back, nodes read on after their
//!   last index.
//! * **The stream is purged, or deleted and made again**: each node notices within a second, and
//!   begins the new epoch. All watches are closed, and their clients begin anew. As all nodes
//!   derive the same epoch, a client may change nodes in the new one.
//! * **A node is new**: [`Relay::start`] returns when the node has read all that is in the stream.
//!
//! The stream must have no limits that remove old messages, and its subjects must be purged only all
//! together: the relay takes a removed beginning for a purge.

use std::fmt::{self, Display};
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, Info, Stream};
use async_nats::jetstream::{self, Context};
use event_buffer::publisher::{BoxError, Publisher, Resume, SnapshotAppender};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{interval, sleep, timeout};
use tracing::{info, warn};

/// For how long NATS recognizes a message that is published a second time.
pub const DUPLICATES: Duration = Duration::from_mins(10);

/// How often a node checks that the stream is the same, and how long it waits to try again.
const CHECK: Duration = Duration::from_secs(1);

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
    /// The sequence number up to which this node has read.
    read: watch::Receiver<u64>,
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
    /// Nothing more comes of the key.
    #[serde(default)]
    ends: bool,
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
        let info = { log.stream().await?.get_info().await }
            .map_err(|error| format!("NATS at {url} has no JetStream: {error}"))?;
        let epoch = epoch_of(&info);
        let retained = info.state.last_sequence.saturating_sub(history as u64);
        let of_handler = log.clone();
        let publisher = Publisher::builder()
            .epoch(epoch)
            .start_at(retained.max(before_first(&info)))
            .history(history)
            // The handler reads the whole stream of a key: a herd of clients shares one.
            .snapshot_ttl(CHECK)
            .snapshot(move |key, snapshot| {
                let log = of_handler.clone();
                async move { log.snapshot_of(key, &snapshot).await }
            })
            .build();
        let (progress, mut read) = watch::channel(0);
        let feeding = tokio::spawn(feed(log.clone(), publisher.clone(), progress));
        let last = info.state.last_sequence;
        read.wait_for(|read| *read >= last).await?;
        Ok(Self {
            log,
            // A random number, as that of every publisher is that is given none.
            node: Publisher::<(), ()>::builder().build().epoch(),
            publisher,
            count: AtomicU64::new(0),
            feeding,
            read,
        })
    }

    /// Waits until this node has read up to a place that another node gave, for ten seconds at
    /// the most.
    ///
    /// A node may be some messages behind another, and more after NATS was lost. A client that comes from there would be told that its
    /// place is ahead, and begin anew for no reason.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped leaves nothing behind.
    pub async fn read_up_to(&self, place: Resume) {
        if place.epoch == self.publisher.epoch() {
            let mut read = self.read.clone();
            let reached = read.wait_for(|read| *read >= place.index);
            // If it does not come, the client begins anew.
            _ = timeout(10 * CHECK, reached).await;
        }
    }

    /// Returns what this node's clients watch. Only the relay publishes to it.
    pub fn publisher(&self) -> &Publisher<K, T> {
        &self.publisher
    }

    /// Appends events to a log, as one commit. Waits until the stream has them.
    ///
    /// # Errors
    ///
    /// NATS refuses the message.
    pub async fn append(&self, key: K, events: Vec<T>) -> Result<(), BoxError> {
        let ends = false;
        let message = Message { key, events, ends };
        self.send(subject(&self.log.name, &key), &message, None)
            .await?;
        Ok(())
    }

    /// Ends a log.
    ///
    /// # Errors
    ///
    /// Like [`append`](Self::append).
    pub async fn complete(&self, key: K) -> Result<(), BoxError> {
        let (events, ends) = (Vec::new(), true);
        let message = Message { key, events, ends };
        self.send(subject(&self.log.name, &key), &message, None)
            .await?;
        Ok(())
    }

    /// Replaces an item of a table.
    ///
    /// # Errors
    ///
    /// Like [`append`](Self::append).
    pub async fn set(&self, key: K, item: &str, event: T) -> Result<(), BoxError> {
        self.put(key, item, event, None).await?;
        Ok(())
    }

    /// Adds an item to a table. Returns `false` if it is there: another node may have added it.
    ///
    /// # Errors
    ///
    /// Like [`append`](Self::append).
    pub async fn create(&self, key: K, item: &str, event: T) -> Result<bool, BoxError> {
        self.put(key, item, event, Some(0)).await
    }

    async fn put(
        &self,
        key: K,
        item: &str,
        event: T,
        after: Option<u64>,
    ) -> Result<bool, BoxError> {
        let (events, ends) = (vec![event], false);
        let subject = format!("{}.{}", subject(&self.log.name, &key), token(item));
        self.send(subject, &Message { key, events, ends }, after)
            .await
    }

    /// Publishes a message, and waits for NATS as long as it takes. Returns `false` if the last message of the
    /// subject is not the one of sequence number `after`.
    async fn send(
        &self,
        subject: String,
        message: &Message<K, T>,
        after: Option<u64>,
    ) -> Result<bool, BoxError> {
        let id = format!("{}-{}", self.node, self.count.fetch_add(1, Relaxed));
        let payload = serde_json::to_vec(message)?;
        loop {
            let message = PublishMessage::build()
                .payload(payload.clone().into())
                .message_id(&id);
            let message = match after {
                Some(last) => message.expected_last_subject_sequence(last),
                None => message,
            };
            let sent = async {
                let sent = self.log.context.send_publish(subject.clone(), message);
                sent.await?.await
            };
            match sent.await {
                Ok(_) => return Ok(true),
                Err(error) => match error.kind() {
                    PublishErrorKind::WrongLastSequence => return Ok(false),
                    PublishErrorKind::MaxPayloadExceeded => return Err(error.into()),
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
            ..Config::default()
        };
        Ok(self.context.get_or_create_stream(config).await?)
    }

    /// Reads the state of a key from the stream.
    ///
    /// The stream's last sequence number is read first. What is read then contains all messages up to that, and
    /// ends with a message of the key, so it is as of the later of the two.
    async fn snapshot_of<K: Topic, T: DeserializeOwned>(
        &self,
        key: K,
        snapshot: &SnapshotAppender<T>,
    ) -> Result<u64, BoxError> {
        let stream = self.stream().await?;
        let mut index = stream.get_info().await?.state.last_sequence;
        let subject = subject(&self.name, &key);
        let (filter_subject, deliver_policy) = match key.kind() {
            Kind::Table => (format!("{subject}.*"), DeliverPolicy::LastPerSubject),
            Kind::Log => (subject, DeliverPolicy::All),
        };
        let consumer = stream
            .create_consumer(pull::OrderedConfig {
                filter_subject,
                deliver_policy,
                ..pull::OrderedConfig::default()
            })
            .await?;
        let mut left = consumer.cached_info().num_pending;
        if left == 0 {
            return match key.kind() {
                Kind::Table => Ok(index),
                Kind::Log => Err(NoSuchKey(key.to_string()).into()),
            };
        }
        let mut messages = consumer.messages().await?;
        while left > 0 {
            let message = messages.next().await.ok_or("the consumer has ended")??;
            let info = message.info()?;
            index = index.max(info.stream_sequence);
            left = info.pending;
            let message: Message<K, T> = serde_json::from_slice(&message.payload)?;
            snapshot.append(message.events)?;
            if message.ends {
                snapshot.complete()?;
            }
        }
        Ok(index)
    }
}

/// Publishes what comes in the stream. The relay ends it when it is dropped.
async fn feed<K, T>(log: Connection, publisher: Publisher<K, T>, progress: watch::Sender<u64>)
where
    K: Topic,
    T: DeserializeOwned + Send + Sync + 'static,
{
    loop {
        match read_on(&log, &publisher, &progress).await {
            Ok(()) => info!("the stream is another one"),
            Err(error) => warn!(%error, "cannot read the stream; trying again"),
        }
        sleep(CHECK).await;
    }
}

/// Reads the stream after the publisher's last index, until it is another stream.
async fn read_on<K, T>(
    log: &Connection,
    publisher: &Publisher<K, T>,
    progress: &watch::Sender<u64>,
) -> Result<(), BoxError>
where
    K: Topic,
    T: DeserializeOwned + Send + Sync + 'static,
{
    let stream = log.stream().await?;
    let info = stream.get_info().await?;
    if epoch_of(&info) != publisher.epoch() {
        // From its first message on, so that nothing of the new epoch is unknown.
        publisher.reset(epoch_of(&info));
        if before_first(&info) > 0 {
            publisher.publish(before_first(&info), [])?;
        }
    }
    let start_sequence = publisher.index() + 1;
    let consumer = stream
        .create_consumer(pull::OrderedConfig {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence },
            ..pull::OrderedConfig::default()
        })
        .await?;
    if consumer.cached_info().num_pending == 0 {
        // The last messages may have been deleted.
        progress.send_replace(info.state.last_sequence);
    }
    let mut messages = consumer.messages().await?;
    let mut checks = interval(CHECK);
    loop {
        tokio::select! {
            message = messages.next() => {
                let message = message.ok_or("the consumer has ended")??;
                let info = message.info()?;
                let Message { key, events, ends } = serde_json::from_slice(&message.payload)?;
                let events: Vec<T> = events;
                let events = events.into_iter().map(|event| (key, event));
                publisher.publish(info.stream_sequence, events)?;
                if ends {
                    publisher.complete(&key);
                }
                progress.send_replace(info.stream_sequence);
            }
            _ = checks.tick() => if epoch_of(&stream.get_info().await?) != publisher.epoch() {
                return Ok(());
            },
        }
    }
}

/// The epoch of a stream, in 53 bits. It is the time when the stream was created, unless something was purged of it
/// since: a purge keeps that time and the sequence numbers.
fn epoch_of(info: &Info) -> u64 {
    let created = info.created.unix_timestamp_nanos() / 1_000_000;
    let created = u64::try_from(created).unwrap_or(0);
    created ^ (before_first(info).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 11)
}

/// The sequence number before the first message that is or will be in the stream.
fn before_first(info: &Info) -> u64 {
    info.state.first_sequence.saturating_sub(1)
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
