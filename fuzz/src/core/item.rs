//! Handles of items, paired with their model.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use event_buffer::{BufferItem, RecvError};
use futures::future::{Future, FutureExt};

use super::model::{Model, Nothing, Place};
use super::wait::Waiting;
use crate::event::{Event, ids};
use crate::task::Task;
use crate::user_code::act;

pub(super) struct Item {
    pub(super) real: BufferItem<Event>,
    pub(super) at: Place,
}

impl Item {
    /// The place after this item.
    pub(super) fn after(&self) -> Place {
        (self.at.0, self.at.1 + 1)
    }

    pub(super) fn next(&self, model: &Model) -> Option<Self> {
        let Ok(result) = act(|| self.real.try_next()) else {
            panic!("`try_next` runs no user code");
        };
        compare(result.map_err(Nothing::from), self.after(), model)
    }

    pub(super) fn check(&self, model: &Model) {
        assert_eq!(Some(&ids(self.real.events())), model.item(self.at));
        let first = u64::from(self.real[0].id());
        assert!(self.real.has_index(first) && !self.real.has_index(first + 1));
    }

    pub(super) fn drop(self) {
        let _ = act(|| drop(self.real));
    }
}

/// Compares the item at a place, or the reason why there is none, with the model's.
fn compare(
    result: Result<BufferItem<Event>, Nothing>,
    after: Place,
    model: &Model,
) -> Option<Item> {
    let read = result.as_ref().map(|item| ids(item.events()));
    assert_eq!(read.map_err(|nothing| *nothing), model.look(after).cloned());
    let at = model.next(after);
    result.ok().map(|real| Item { real, at })
}

/// The next item, and the item itself. We drop the latter, since a local whose drop panics makes
/// the compiler leak the result (rust-lang/rust#47949).
type Found = (Result<BufferItem<Event>, RecvError>, BufferItem<Event>);
type Next = Pin<Box<dyn Future<Output = Found>>>;

/// A wait for the item after another.
pub(super) struct Wait {
    /// Owns a handle of the item.
    future: Next,
    /// The place of the item.
    pub(super) at: Place,
    after: Place,
    pub(super) waiting: Option<Waiting>,
    tasks: Vec<Arc<Task>>,
}

impl Wait {
    pub(super) fn new(item: &Item) -> Self {
        let real = item.real.clone();
        Self {
            future: Box::pin(async move { (real.next().await, real) }),
            at: item.at,
            after: item.after(),
            waiting: None,
            tasks: Vec::new(),
        }
    }

    /// Polls the wait. Returns it if it still waits, or the item that it has found.
    pub(super) fn poll(mut self, model: &Model) -> (Option<Self>, Option<Item>) {
        let task = Task::new();
        let waker = task.waker();
        self.tasks.push(Arc::clone(&task));
        let future = &mut self.future;
        let outcome = act(|| future.poll_unpin(&mut Context::from_waker(&waker)));
        drop(waker);
        let Ok(outcome) = outcome else {
            self.drop();
            return (None, None);
        };
        match outcome {
            Poll::Pending => {
                assert_eq!(model.look(self.after), Err(Nothing::Empty));
                // The wait may have crossed a splice.
                self.waiting = Some(Waiting::new(task, model.next(self.after), model));
                (Some(self), None)
            }
            Poll::Ready((result, before)) => {
                let _ = act(|| drop(before));
                let item = compare(result.map_err(Nothing::from), self.after, model);
                self.drop();
                (None, item)
            }
        }
    }

    pub(super) fn check(&self, model: &Model, is_deferred: impl Fn(Place) -> bool) {
        if let Some(waiting) = &self.waiting {
            let is_ready = model.look(self.after) != Err(Nothing::Empty);
            waiting.check(is_ready, model, is_deferred);
        }
    }

    pub(super) fn drop(self) {
        let _ = act(|| drop(self.future));
        for task in &self.tasks {
            assert!(!task.has_wakers(), "a waker outlives its future");
        }
    }
}
