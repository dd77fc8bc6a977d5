//! The followers of a shared stream, compared with a list of all its items.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;

use event_buffer::{Replay, SharedStream};
use proptest::collection::vec;
use proptest::prelude::*;
use tokio_test::task;

use crate::support::scripted_source::{Source, Step, act, source};
use crate::support::watchdog;

#[derive(Clone, Debug)]
enum Op {
    Source(Vec<Step>),
    Subscribe,
    Clone(usize),
    Leave(usize),
    Poll(usize, usize),
}

fn op() -> impl Strategy<Value = Op> {
    let step = prop_oneof![
        20 => (0..1_000_u32).prop_map(Step::Item),
        1 => Just(Step::End),
        1 => Just(Step::Panic),
    ];
    prop_oneof![
        4 => vec(step, 0..6).prop_map(Op::Source),
        2 => Just(Op::Subscribe),
        1 => (0..8_usize).prop_map(Op::Clone),
        1 => (0..8_usize).prop_map(Op::Leave),
        8 => (0..8_usize, 0..6_usize).prop_map(|(follower, n)| Op::Poll(follower, n)),
    ]
}

/// A naive follower: the index of its next item in the list of pulled items.
#[derive(Clone, Copy)]
struct Naive {
    next: usize,
    done: bool,
    waits: bool,
}

/// The state that all followers share.
#[derive(Default)]
struct Model {
    steps: VecDeque<Step>,
    pulled: Vec<u32>,
    over: Option<Step>,
}

impl Model {
    /// The result of the next poll; a panic is returned as its message.
    fn poll(&mut self, follower: &mut Naive) -> Result<Poll<Option<u32>>, &'static str> {
        follower.waits = false;
        if follower.done {
            return Ok(Poll::Ready(None));
        }
        if let Some(item) = self.pulled.get(follower.next) {
            follower.next += 1;
            return Ok(Poll::Ready(Some(*item)));
        }
        if self.over.is_none() {
            match self.steps.pop_front() {
                Some(Step::Item(item)) => {
                    self.pulled.push(item);
                    follower.next += 1;
                    return Ok(Poll::Ready(Some(item)));
                }
                Some(Step::Panic) => {
                    self.over = Some(Step::Panic);
                    follower.done = true;
                    return Err("the source's own panic");
                }
                end => self.over = end,
            }
        }
        match self.over {
            None => {
                follower.waits = true;
                Ok(Poll::Pending)
            }
            Some(over) => {
                follower.done = true;
                if over == Step::Panic {
                    return Err("the shared source panicked");
                }
                Ok(Poll::Ready(None))
            }
        }
    }
}

proptest! {
    #![proptest_config(crate::cases(256))]

    #[test]
    fn followers_agree_with_a_list_of_all_items(
        window in prop_oneof![Just(0), Just(1), Just(3), Just(usize::MAX)],
        ops in vec(op(), 1..60),
    ) {
        let _watchdog = watchdog();
        let replay = if window == usize::MAX { Replay::All } else { Replay::Last(window) };
        let (script, source) = source(replay);
        let mut model = Model::default();
        let mut followers = Vec::new();
        let mut wakes = 0;
        for op in ops {
            let count = followers.len().max(1);
            match op {
                Op::Source(steps) => {
                    if !script.borrow().dropped {
                        model.steps.extend(&steps);
                    }
                    wakes += 1;
                    act(&script, steps);
                }
                Op::Subscribe => {
                    let next = model.pulled.len().saturating_sub(window);
                    let naive = Naive { next, done: false, waits: false };
                    followers.push((task::spawn(source.subscribe()), naive));
                }
                Op::Clone(follower) => if let Some((task, naive)) = followers.get(follower % count) {
                    let clone: &SharedStream<Source> = task;
                    let naive = Naive { waits: false, ..*naive };
                    followers.push((task::spawn(clone.clone()), naive));
                }
                Op::Leave(follower) => if !followers.is_empty() {
                    drop(followers.swap_remove(follower % count));
                }
                Op::Poll(follower, n) => if let Some((task, naive)) = followers.get_mut(follower % count) {
                    for _ in 0..n {
                        let expected = model.poll(naive);
                        match catch_unwind(AssertUnwindSafe(|| task.poll_next())) {
                            Ok(polled) => prop_assert_eq!(Ok(polled), expected),
                            Err(panic) => {
                                let message = match panic.downcast_ref::<String>() {
                                    Some(message) => message.as_str(),
                                    None => panic.downcast_ref::<&str>().unwrap(),
                                };
                                prop_assert_eq!(Some(message), expected.err());
                            }
                        }
                    }
                }
            }
            // A waiting follower has been woken if something is ready.
            for (task, naive) in &followers {
                let is_ready = naive.next < model.pulled.len()
                    || model.over.is_some()
                    || !model.steps.is_empty();
                prop_assert!(!naive.waits || !is_ready || task.is_woken());
            }
            prop_assert_eq!(script.borrow().dropped, model.over.is_some());
        }
        prop_assert!(script.borrow().polls <= 2 * model.pulled.len() + wakes + 2);
        drop((source, followers));
        prop_assert!(script.borrow().dropped);
    }
}
