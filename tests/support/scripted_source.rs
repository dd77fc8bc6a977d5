//! A stream whose items, end and panics a test scripts step by step.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::marker::PhantomPinned;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use event_buffer::{Replay, ShareExt, SharedSource};
use futures::Stream;

/// What a source does when it is polled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Step {
    Item(u32),
    End,
    Panic,
}

/// A source's remaining steps, and what has happened to the source.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) steps: VecDeque<Step>,
    pub(crate) waker: Option<Waker>,
    pub(crate) polls: usize,
    pub(crate) dropped: bool,
}

/// A source that follows a script, and is pending after it. Neither `Send` nor `Unpin`.
pub(crate) struct Source(Rc<RefCell<Script>>, PhantomPinned);

impl Stream for Source {
    type Item = u32;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<u32>> {
        let mut script = self.0.borrow_mut();
        script.polls += 1;
        match script.steps.pop_front() {
            Some(Step::Item(n)) => Poll::Ready(Some(n)),
            Some(Step::End) => Poll::Ready(None),
            Some(Step::Panic) => panic!("the source's own panic"),
            None => {
                script.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.0.borrow_mut().dropped = true;
    }
}

/// A shared source, and the script that it follows.
pub(crate) fn source(replay: Replay) -> (Rc<RefCell<Script>>, SharedSource<Source>) {
    let script = Rc::<RefCell<Script>>::default();
    let source = Source(script.clone(), PhantomPinned).share(replay);
    (script, source)
}

/// Appends steps, and wakes the task that waits for the source.
pub(crate) fn act(script: &Rc<RefCell<Script>>, steps: impl IntoIterator<Item = Step>) {
    script.borrow_mut().steps.extend(steps);
    let waker = script.borrow_mut().waker.take();
    waker.into_iter().for_each(Waker::wake);
}
