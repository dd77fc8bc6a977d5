//! Reports by way of `tracing`, listed on the [module page](crate::publisher). Without the feature
//! all of this is empty.
//!
//! A subscriber is user code: it may take long, panic, or use the publisher. So what happens under
//! a lock is noted there, and reported when the [`Notes`] are dropped after the lock. A
//! subscriber's panic is caught here.

use super::error::CloseReason;
use super::error::ResetReason;

pub(crate) use imp::{Notes, Run};

/// Something that happened.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "tracing"), expect(dead_code, reason = "not reported"))]
pub(crate) enum Note {
    /// A watch that had everything up to `index` starts over.
    Reset {
        reason: ResetReason,
        index: u64,
        published: u64,
    },
    Closed {
        reason: CloseReason,
        watches: usize,
    },
    /// A watch was closed for its lag: it had not received this many commits.
    Lagged {
        commits: u64,
    },
    /// Commits have left the history. `index` is that of the newest.
    Evicted {
        commits: u64,
        index: u64,
    },
    /// A new epoch has begun.
    Epoch {
        former: u64,
    },
    ShutDown,
    Refreshed {
        index: u64,
        watches: usize,
    },
    Forgotten {
        index: u64,
    },
    Completed {
        index: u64,
        watches: usize,
    },
    GivenUp {
        snapshot: u64,
        reason: GivenUpBy,
    },
    Uncached {
        snapshot: u64,
        reason: UncachedBy,
    },
}

/// Why an unfinished snapshot is given up.
#[derive(Clone, Copy, Debug)]
pub(crate) enum GivenUpBy {
    TimeLimit,
    KeyClosed,
    Refreshed,
    KeyForgotten,
    /// No watch waits for it any more.
    NoWatch,
    /// All watches that waited for it are over their limits.
    Lagged,
    StateReset,
    ShutDown,
}

/// Why a snapshot is no longer cached.
#[derive(Clone, Copy, Debug)]
pub(crate) enum UncachedBy {
    Expired,
    TooLarge,
    Replaced,
    /// Its key was refreshed or forgotten, or was published to after its completion.
    Void,
}

#[cfg(feature = "tracing")]
mod imp {
    use std::error::Error;
    use std::future::poll_fn;
    use std::mem;
    use std::pin::pin;

    use tracing::field::Empty;
    use tracing::level_filters::LevelFilter;
    use tracing::{Span, debug, debug_span, info, trace, warn};

    use super::{GivenUpBy, Note};
    use crate::error::SharedError;
    use crate::unwind::quietly;

    const TARGET: &str = "event_buffer::publisher";

    /// What happened, each with its epoch. Reported in order when this is dropped.
    pub(crate) struct Notes(Vec<(u64, Note)>);

    impl Notes {
        #[inline]
        pub(crate) fn new() -> Self {
            Self(Vec::new())
        }

        /// Adds a note. Runs no user code.
        #[inline]
        pub(crate) fn add(&mut self, epoch: u64, note: Note) {
            // An eviction comes with almost every commit. `LevelFilter` says what any subscriber
            // may want without calling one.
            let is_frequent = matches!(note, Note::Evicted { .. });
            if !is_frequent || LevelFilter::current() == LevelFilter::TRACE {
                self.0.push((epoch, note));
            }
        }

        /// Moves all notes of another one to the end of this one.
        pub(crate) fn append(&mut self, other: &mut Self) {
            self.0.append(&mut other.0);
        }

        #[cold]
        fn report(&mut self) {
            for (epoch, note) in mem::take(&mut self.0) {
                quietly(|| report(epoch, note));
            }
        }
    }

    impl Drop for Notes {
        #[inline]
        fn drop(&mut self) {
            if !self.0.is_empty() {
                self.report();
            }
        }
    }

    fn report(epoch: u64, note: Note) {
        match note {
            Note::Reset {
                reason,
                index,
                published,
            } => debug!(target: TARGET, epoch, ?reason, index, published, "watch reset"),
            Note::Closed { reason, watches } => {
                debug!(target: TARGET, epoch, ?reason, watches, "watches closed");
            }
            Note::Lagged { commits } => {
                debug!(target: TARGET, epoch, commits, "watch closed for its lag");
            }
            Note::Evicted { commits, index } => {
                trace!(target: TARGET, epoch, commits, index, "commits evicted");
            }
            Note::Epoch { former } => info!(target: TARGET, epoch, former, "epoch changed"),
            Note::ShutDown => info!(target: TARGET, epoch, "publisher shut down"),
            Note::Refreshed { index, watches } => {
                debug!(target: TARGET, epoch, index, watches, "key refreshed");
            }
            Note::Forgotten { index } => debug!(target: TARGET, epoch, index, "key forgotten"),
            Note::Completed { index, watches } => {
                debug!(target: TARGET, epoch, index, watches, "key completed");
            }
            Note::GivenUp {
                snapshot,
                reason: reason @ GivenUpBy::TimeLimit,
            } => warn!(target: TARGET, epoch, snapshot, ?reason, "snapshot given up"),
            Note::GivenUp { snapshot, reason } => {
                debug!(target: TARGET, epoch, snapshot, ?reason, "snapshot given up");
            }
            Note::Uncached { snapshot, reason } => {
                debug!(target: TARGET, epoch, snapshot, ?reason, "snapshot no longer cached");
            }
        }
    }

    /// One run of a snapshot's handler, as a span.
    pub(crate) struct Run {
        epoch: u64,
        snapshot: u64,
        published: u64,
        /// Disabled until the handler is called.
        span: Span,
        is_over: bool,
    }

    impl Run {
        pub(crate) fn new(epoch: u64, snapshot: u64, published: u64) -> Self {
            Self {
                epoch,
                snapshot,
                published,
                span: Span::none(),
                is_over: false,
            }
        }

        /// Runs the handler in the span. The handler must catch its own panics.
        pub(crate) async fn within<F: Future>(&mut self, handler: F) -> F::Output {
            let span = quietly(|| {
                debug_span!(
                    target: TARGET,
                    "snapshot",
                    epoch = self.epoch,
                    snapshot = self.snapshot,
                    published = self.published,
                    key = Empty,
                    outcome = Empty,
                    index = Empty,
                    parts = Empty,
                    error = Empty,
                )
            });
            self.span = span.unwrap_or_else(Span::none);
            let mut handler = pin!(handler);
            poll_fn(|cx| {
                let entered = quietly(|| self.span.enter());
                let polled = handler.as_mut().poll(cx);
                quietly(|| drop(entered));
                polled
            })
            .await
        }

        pub(crate) fn finished(&mut self, index: u64, parts: u64) {
            self.end("finished");
            quietly(|| self.span.record("index", index).record("parts", parts));
        }

        pub(crate) fn failed(&mut self, error: &SharedError) {
            self.end("failed");
            let Self {
                epoch,
                snapshot,
                span,
                ..
            } = &*self;
            let error: &(dyn Error + 'static) = error.get_ref();
            quietly(|| span.record("error", error));
            quietly(
                || warn!(target: TARGET, parent: span, epoch, snapshot, error, "snapshot failed"),
            );
        }

        fn end(&mut self, outcome: &str) {
            self.is_over = true;
            quietly(|| self.span.record("outcome", outcome));
        }
    }

    impl Drop for Run {
        fn drop(&mut self) {
            if !self.is_over {
                self.end("given up");
            }
            let span = mem::replace(&mut self.span, Span::none());
            quietly(|| drop(span));
        }
    }
}

#[cfg(not(feature = "tracing"))]
#[expect(clippy::unused_self, reason = "the other one uses it")]
mod imp {
    use super::Note;
    use crate::error::SharedError;

    pub(crate) struct Notes;

    impl Notes {
        #[inline]
        pub(crate) fn new() -> Self {
            Self
        }

        #[inline]
        pub(crate) fn add(&mut self, _epoch: u64, _note: Note) {}

        pub(crate) fn append(&mut self, _other: &mut Self) {}
    }

    pub(crate) struct Run;

    impl Run {
        pub(crate) fn new(_epoch: u64, _snapshot: u64, _published: u64) -> Self {
            Self
        }

        pub(crate) fn within<F: Future>(&mut self, handler: F) -> F {
            handler
        }

        pub(crate) fn finished(&mut self, _index: u64, _parts: u64) {}

        pub(crate) fn failed(&mut self, _error: &SharedError) {}
    }
}
