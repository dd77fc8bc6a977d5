//! Where jobs put what they write.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use event_buffer::publisher::{BoxError, Publisher, Resume};

use crate::HISTORY;
use crate::event::{Event, Job, Key, Line};
use crate::local::Local;
use crate::relay::{Kind, Relay, Topic};

/// A log of all jobs, and a publisher that follows it.
pub enum Log {
    /// The log is of this process alone.
    #[allow(private_interfaces)]
    Local(Local),
    /// The log is one that several nodes share.
    Shared {
        /// To which jobs publish.
        relay: Box<Relay<Key, Event>>,
        /// The greatest number of a job that this node knows of.
        greatest: AtomicU64,
    },
}

impl Topic for Key {
    fn kind(&self) -> Kind {
        match self {
            Self::Jobs => Kind::Table,
            Self::Output(_) => Kind::Log,
        }
    }
}

impl Log {
    /// Returns a log that ends with this process.
    #[must_use]
    pub fn local() -> Self {
        Self::Local(Local::new())
    }

    /// Returns the log that all nodes share which use the same NATS.
    ///
    /// # Errors
    ///
    /// NATS cannot be reached, or has no `JetStream`.
    pub async fn shared(nats: &str) -> Result<Self, BoxError> {
        let relay = Box::new(Relay::start(nats, "live", HISTORY).await?);
        let greatest = AtomicU64::new(0);
        Ok(Self::Shared { relay, greatest })
    }

    pub(crate) fn publisher(&self) -> &Publisher<Key, Event> {
        match self {
            Self::Local(local) => local.publisher(),
            Self::Shared { relay, .. } => relay.publisher(),
        }
    }

    /// Waits until this node knows of a place that another one may have given.
    pub(crate) async fn read_up_to(&self, place: Resume) {
        match self {
            Self::Local(_) => {}
            Self::Shared { relay, .. } => relay.read_up_to(place).await,
        }
    }

    /// Adds a row to the table, and returns its number, which it is made with.
    pub(crate) async fn create(&self, row: impl Fn(u64) -> Job) -> Result<u64, BoxError> {
        match self {
            Self::Local(local) => Ok(local.create(row)?),
            Self::Shared { relay, greatest } => loop {
                // Other nodes take numbers, too.
                let job = greatest.fetch_add(1, Relaxed) + 1;
                let event = Event::Row(row(job));
                if relay.create(Key::Jobs, &job.to_string(), event).await? {
                    // From now on there is an output that can be watched.
                    relay.append(Key::Output(job), Vec::new()).await?;
                    return Ok(job);
                }
            },
        }
    }

    /// Replaces a row of the table.
    pub(crate) async fn change(&self, row: Job) -> Result<(), BoxError> {
        match self {
            Self::Local(local) => {
                local.change(row);
                Ok(())
            }
            Self::Shared { relay, .. } => {
                let item = row.job.to_string();
                relay.set(Key::Jobs, &item, Event::Row(row)).await
            }
        }
    }

    /// Appends to a job's output.
    pub(crate) async fn append(&self, job: u64, lines: Vec<Line>) -> Result<(), BoxError> {
        match self {
            Self::Local(local) => Ok(local.append(job, lines)?),
            Self::Shared { relay, .. } => {
                let lines = lines.into_iter().map(Event::Line).collect();
                relay.append(Key::Output(job), lines).await
            }
        }
    }

    /// Ends a job's output.
    pub(crate) async fn complete(&self, job: u64) -> Result<(), BoxError> {
        match self {
            Self::Local(local) => {
                local.complete(job);
                Ok(())
            }
            Self::Shared { relay, .. } => relay.complete(Key::Output(job)).await,
        }
    }
}
