//! Handles of items, side by side with their model.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use event_buffer::{BufferItem, RecvError};
use futures::future::{Future, FutureExt};

use super::model::{Model, Nothing, Place};
use super::wait::Waiting;
use crate::event::{Event, ids};
use crate::foreign::act;
use crate::task::Task;

pub(super) struct Item {
    pub(super) real: BufferItem<Event>,
    pub(super) at: Place,
}

impl Item {
    /// The place after it.
    pub(super) fn after(&self) -> Place {
        (self.at.0, self.at.1 + 1)
    }

    pub(super) fn next(&self, model: &Model) -> Option<Self> {
        let Ok(answer) = act(|| self.real.try_next()) else {
            panic!("nothing foreign is in there");
        };
        compare(answer.map_err(Nothing::from), self.after(), model)
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

/// The item at the place after another, or why it is not there.
fn compare(
    answer: Result<BufferItem<Event>, Nothing>,
    after: Place,
    model: &Model,
) -> Option<Item> {
    let read = answer.as_ref().map(|item| ids(item.events()));
    assert_eq!(read.map_err(|nothing| *nothing), model.look(after).cloned());
    let at = model.next(after);
    answer.ok().map(|real| Item { real, at })
}

/// The one after, and the item itself: dropped by us, since where a local's drop panics the compiler
/// forgets what is returned (rust-lang/rust#47949).
type Found = (Result<BufferItem<Event>, RecvError>, BufferItem<Event>);
type Next = Pin<Box<dyn Future<Output = Found>>>;

/// Waits for the item after one.
pub(super) struct Wait {
    /// Owns a handle of it.
    future: Next,
    /// That one's place.
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

    /// Itself, if that still waits; what it has found.
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
                // A splice has been gone over.
                self.waiting = Some(Waiting::new(task, model.next(self.after), model));
                (Some(self), None)
            }
            Poll::Ready((answer, before)) => {
                let _ = act(|| drop(before));
                let item = compare(answer.map_err(Nothing::from), self.after, model);
                self.drop();
                (None, item)
            }
        }
    }

    pub(super) fn check(&self, model: &Model, put_off: impl Fn(Place) -> bool) {
        if let Some(waiting) = &self.waiting {
            let is_ready = model.look(self.after) != Err(Nothing::Empty);
            waiting.check(is_ready, model, put_off);
        }
    }

    pub(super) fn drop(self) {
        let _ = act(|| drop(self.future));
        for task in &self.tasks {
            assert!(!task.has_wakers(), "a waker outlives its future");
        }
    }
}
