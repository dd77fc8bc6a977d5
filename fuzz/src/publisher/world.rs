//! The publisher and its watchers.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use event_buffer::publisher::{PublishError, Publisher, Request, ResetReason, Resume, Watch};
use futures::StreamExt;

use super::op::Op;
use super::store::{BEHAVIOUR, Behaviour, Key, Payload, STORE, Store, handle};
use super::view::View;
use crate::bytes::{Bytes, pick, take};
use crate::event;
use crate::task::Task;
use crate::user_code::{self, Spot, act, trip};

struct Watcher {
    real: Watch<Key, Payload>,
    view: View,
    task: Arc<Task>,
    /// Its last poll was pending, so it must be woken.
    waits: bool,
}

pub(super) struct World {
    publisher: Publisher<Key, Payload>,
    epoch: u64,
    watchers: Vec<Watcher>,
    /// The views of dropped watches, with resume points of the current epoch.
    left: Vec<(Resume, View)>,
}

const MAX_WATCHERS: usize = 12;

impl World {
    pub(super) fn new(bytes: &mut Bytes<'_>) -> Self {
        STORE.set(Store::default());
        BEHAVIOUR.set(Behaviour::default());
        let settings = bytes.byte();
        let history = match settings % 8 {
            0 => 0,
            1 => usize::MAX,
            n => n.into(),
        };
        // The clock of the publisher cannot be set, so snapshots are kept for ever or not at all.
        let ttl = if settings & 8 != 0 { u64::MAX / 4 } else { 0 };
        let publisher = Publisher::builder()
            .history(history)
            .snapshot_ttl(Duration::from_nanos(ttl))
            .epoch(0)
            .snapshot(handle)
            .build();
        Self {
            publisher,
            epoch: 0,
            watchers: Vec::new(),
            left: Vec::new(),
        }
    }

    /// Executes a step; returns `None` if there is nothing that it could choose.
    pub(super) fn step(&mut self, op: Op) -> Option<()> {
        match op {
            Op::Commit(commit) => STORE.with_borrow_mut(|store| store.commits.push(commit)),
            Op::Publish(commits) => (0..commits).for_each(|_| self.publish()),
            Op::PublishBackwards => {
                let published = STORE.with_borrow(|store| store.published);
                let last = published.checked_sub(1).map_or(0, Store::index);
                let before = published.checked_sub(2).map_or(0, Store::index);
                for index in [0, before, last] {
                    let payload = Payload::new((0, None));
                    // A refused event is dropped, which may panic.
                    let result = act(|| self.publisher.publish(index, [(0, payload)]));
                    let expected = Err(PublishError::IndexNotGreater { index, last });
                    assert!(result.is_err() || result == Ok(expected));
                }
            }
            Op::Subscribe(key, filtered, token) => {
                self.subscribe(View::new(key, filtered, token), None);
            }
            Op::Poll(w, times) => {
                let watcher = pick(&mut self.watchers, w)?;
                (0..times).for_each(|_| watcher.run());
            }
            Op::PollUnwoken(w) => pick(&mut self.watchers, w)?.poll(),
            Op::Drop(w) => {
                let watcher = take(&mut self.watchers, w)?;
                let point = watcher.real.resume_point();
                let mut view = watcher.drop();
                let point = point.filter(|point| point.epoch == self.epoch)?;
                STORE.with_borrow(|store| view.leave_at(store, point.index));
                self.left.push((point, view));
            }
            Op::Resume(which) => {
                let (point, view) = take(&mut self.left, which)?;
                let view = View {
                    may_reset: true,
                    resumes: true,
                    ended: false,
                    closed: false,
                    may_have_ended: false,
                    ..view
                };
                self.subscribe(view, Some(point));
            }
            Op::ResumeInvalid(key, ahead) => {
                let (point, reason) = if ahead {
                    let index = u64::MAX - 9;
                    (
                        Resume {
                            epoch: self.epoch,
                            index,
                        },
                        ResetReason::Ahead,
                    )
                } else {
                    (
                        Resume {
                            epoch: self.epoch + 1,
                            index: 0,
                        },
                        ResetReason::OtherEpoch,
                    )
                };
                let mut view = View::new(key, false, 0);
                view.may_reset = true;
                view.resumes = true;
                view.must_reset = Some(reason);
                self.subscribe(view, Some(point));
            }
            Op::Behaviour(behaviour) => BEHAVIOUR.set(behaviour),
            Op::CloseToken(token) => {
                self.close(|view| view.token == token);
                let _ = act(|| self.publisher.close_token(token.to_string()));
            }
            Op::CloseKey(key) => {
                self.close(|view| view.key == key);
                let _ = act(|| self.publisher.close_key(&key));
            }
            Op::CloseAll => {
                self.close(|_| true);
                let _ = act(|| self.publisher.close_all());
            }
            Op::Reset => {
                self.close(|_| true);
                self.epoch += 1;
                STORE.set(Store::default());
                let _ = act(|| self.publisher.reset(self.epoch));
                self.left.clear();
            }
            Op::Misbehave(spot, misbehaviour) => user_code::set(spot, misbehaviour),
        }
        Some(())
    }

    fn close(&mut self, which: impl Fn(&View) -> bool) {
        let views = self.watchers.iter_mut().map(|watcher| &mut watcher.view);
        { views }
            .filter(|view| which(view))
            .for_each(|view| view.closed = true);
    }

    fn publish(&mut self) {
        let next = STORE.with_borrow_mut(|store| {
            let commit = store.commits.get(store.published)?.clone();
            store.published += 1;
            Some((Store::index(store.published - 1), commit))
        });
        if let Some((index, commit)) = next {
            let events = commit.into_iter();
            let events: Vec<_> = events
                .map(|(key, change)| (key, Payload::new(change)))
                .collect();
            // Everything is published, even if a waker or a drop panics.
            let result = act(|| self.publisher.publish(index, events));
            assert!(!matches!(result, Ok(Err(_))));
        }
    }

    fn subscribe(&mut self, view: View, after: Option<Resume>) {
        if self.watchers.len() >= MAX_WATCHERS {
            return;
        }
        let mut request = Request::new(view.key)
            .after(after)
            .token(view.token.to_string());
        if view.filtered {
            request = request.filter(|payload: &Payload| {
                trip(Spot::Filter);
                payload.change.0.is_multiple_of(2)
            });
        }
        // Dropping an expired snapshot may panic.
        if let Ok(real) = act(|| self.publisher.subscribe(request)) {
            self.watchers.push(Watcher {
                real,
                view,
                task: Task::new(),
                waits: false,
            });
        }
    }

    pub(super) fn check(&self) {
        event::check();
        let open = self.watchers.iter().filter(|watcher| !watcher.view.ended);
        assert!(self.publisher.stats().subscriptions <= open.count());
    }

    /// Runs woken watchers until none is woken, and checks that each has received everything.
    pub(super) fn finish(mut self) {
        user_code::reset();
        let commits = STORE.with_borrow(|store| store.commits.len());
        (0..commits).for_each(|_| self.publish());
        while self.watchers.iter().any(Watcher::wants_to_run) {
            self.watchers.iter_mut().for_each(Watcher::run);
        }
        STORE.with_borrow(|store| {
            let views = self.watchers.iter().map(|watcher| &watcher.view);
            views.for_each(|view| view.check_complete(store));
        });
        self.watchers
            .drain(..)
            .for_each(|watcher| drop(watcher.drop()));
        event::check();
    }
}

impl Watcher {
    fn wants_to_run(&self) -> bool {
        !self.view.ended && (!self.waits || self.task.is_woken())
    }

    fn run(&mut self) {
        if self.wants_to_run() {
            self.poll();
        }
    }

    fn poll(&mut self) {
        self.task.runs();
        let waker = self.task.waker();
        let outcome = act(|| self.real.poll_next_unpin(&mut Context::from_waker(&waker)));
        drop(waker);
        match outcome {
            Ok(Poll::Pending) => self.waits = true,
            Ok(Poll::Ready(None)) => {
                self.waits = false;
                assert!(self.view.ended, "the end without a reason");
                self.view.ended = true;
            }
            Ok(Poll::Ready(Some(update))) => {
                self.waits = false;
                assert!(!self.view.ended, "an update after the end");
                let place = self.real.resume_point().map(|point| point.index);
                STORE.with_borrow(|store| self.view.receive(store, update, place));
            }
            Err(_) => {
                self.waits = false;
                self.view.may_have_ended |= !self.view.closed;
            }
        }
    }

    fn drop(self) -> View {
        let _ = act(|| drop(self.real));
        self.view
    }
}
