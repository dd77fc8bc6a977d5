//! Where jobs put what they write.

use std::collections::BTreeMap;

use event_buffer::publisher::{BoxError, Publisher, Request, Resume, Update};
use futures::{FutureExt, StreamExt};

use crate::HISTORY;
use crate::event::{Event, Job, Key, Line, State};
use crate::local::Local;
use crate::relay::{Kind, Relay, Topic};

/// A log of all jobs, and a publisher that follows it.
pub enum Log {
    /// The log is of this process alone.
    #[allow(private_interfaces)]
    Local(Local),
    /// The log is one that several nodes share.
    Shared(Box<Relay<Key, Event>>),
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
        Ok(Self::Shared(relay))
    }

    pub(crate) fn publisher(&self) -> &Publisher<Key, Event> {
        match self {
            Self::Local(local) => local.publisher(),
            Self::Shared(relay) => relay.publisher(),
        }
    }

    /// Waits until this node knows of a place that another one may have given.
    pub(crate) async fn read_up_to(&self, place: Resume) {
        match self {
            Self::Local(_) => {}
            Self::Shared(relay) => relay.read_up_to(place).await,
        }
    }

    /// Returns the table as it is now.
    pub(crate) async fn table(&self) -> Result<Vec<Job>, BoxError> {
        let mut rows = BTreeMap::new();
        let mut take = |event: &Event| match event {
            Event::Row(row) => _ = rows.insert(row.job, row.clone()),
            Event::Removed { removed } => _ = rows.remove(removed),
            Event::Line(_) => {}
        };
        let mut watch = self.publisher().subscribe(Request::new(Key::Jobs));
        while let Some(update) = watch.next().await {
            match update? {
                Update::Snapshot(part) => part.iter().for_each(&mut take),
                Update::EndOfSnapshot { .. } => break,
                _ => {}
            }
        }
        // A cached snapshot is older: what has changed since is there.
        while let Some(Some(Ok(update))) = watch.next().now_or_never() {
            if let Update::Events(commit) = update {
                commit.iter().for_each(&mut take);
            }
        }
        Ok(rows.into_values().collect())
    }

    /// Removes the oldest jobs that have ended, except `keep` of them.
    pub(crate) async fn trim(&self, keep: usize) -> Result<(), BoxError> {
        let mut rows = self.table().await?;
        rows.retain(|row| row.state != State::Running);
        for row in &rows[..rows.len().saturating_sub(keep)] {
            self.remove(row.job).await?;
        }
        Ok(())
    }

    /// Removes a row of the table, and the job's output.
    async fn remove(&self, job: u64) -> Result<(), BoxError> {
        match self {
            Self::Local(local) => {
                local.remove(job);
                Ok(())
            }
            Self::Shared(relay) => {
                let removed = Event::Removed { removed: job };
                relay.remove(Key::Jobs, &job.to_string(), removed).await?;
                relay.forget(Key::Output(job)).await?;
                Ok(())
            }
        }
    }

    /// Adds a row to the table, and returns its number, which it is made with.
    pub(crate) async fn create(&self, row: impl Fn(u64) -> Job) -> Result<u64, BoxError> {
        match self {
            Self::Local(local) => Ok(local.create(row)?),
            Self::Shared(relay) => {
                // The job that began last is never removed, so no number is used twice.
                let rows = self.table().await?;
                let mut job = 1 + rows.iter().map(|row| row.job).max().unwrap_or(0);
                // Other nodes take numbers, too.
                loop {
                    let (item, event) = (job.to_string(), Event::Row(row(job)));
                    if relay.create(Key::Jobs, &item, event).await?.is_some() {
                        break;
                    }
                    job += 1;
                }
                // From now on there is an output that can be watched.
                relay.append(Key::Output(job), Vec::new()).await?;
                Ok(job)
            }
        }
    }

    /// Replaces a row of the table.
    pub(crate) async fn change(&self, row: Job) -> Result<(), BoxError> {
        match self {
            Self::Local(local) => {
                local.change(row);
                Ok(())
            }
            Self::Shared(relay) => {
                let item = row.job.to_string();
                relay.set(Key::Jobs, &item, Event::Row(row)).await?;
                Ok(())
            }
        }
    }

    /// Appends to a job's output.
    pub(crate) async fn append(&self, job: u64, lines: Vec<Line>) -> Result<(), BoxError> {
        match self {
            Self::Local(local) => Ok(local.append(job, lines)?),
            Self::Shared(relay) => {
                let lines = lines.into_iter().map(Event::Line).collect();
                relay.append(Key::Output(job), lines).await?;
                Ok(())
            }
        }
    }

    /// Ends a job's output, and waits until this node's watches know.
    pub(crate) async fn complete(&self, job: u64) -> Result<(), BoxError> {
        match self {
            Self::Local(local) => {
                local.complete(job);
                Ok(())
            }
            Self::Shared(relay) => {
                let index = relay.complete(Key::Output(job)).await?;
                let epoch = relay.publisher().epoch();
                relay.read_up_to(Resume { epoch, index }).await;
                Ok(())
            }
        }
    }
}
