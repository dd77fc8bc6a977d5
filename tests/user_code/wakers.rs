//! Wakers are user code: they may take locks and use the buffer while they are cloned, woken and
//! dropped, and the wakers of two tasks may have one address. None of this costs a wake-up.

use std::any::Any;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};
use std::{mem, ptr, thread};

use event_buffer::{Deferred, EventBuffer, LagLimit, SharedBuffer, Subscription};
use futures::StreamExt;

use crate::support::{Hook, Use, watchdog};

/// A task that waits, with what it waits for.
type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Ends all waits. Returns what would end them, too, if it were dropped.
type End = Box<dyn FnOnce() -> Box<dyn Any + Send>>;

/// A number of tasks that wait for one thing.
type Scene = fn(usize) -> (Vec<Task>, End);

fn poll(task: &mut Task, waker: &Waker) -> Poll<()> {
    task.as_mut().poll(&mut Context::from_waker(waker))
}

/// The ways to wait for the next item of a buffer that has one already.
const READERS: [fn(&EventBuffer<u32>) -> Task; 8] = [
    |buffer| {
        let mut reader = buffer.subscribe();
        Box::pin(async move { drop(reader.recv().await) })
    },
    |buffer| {
        let mut reader = buffer.subscribe();
        Box::pin(async move { drop(reader.next().await) })
    },
    |buffer| {
        let mut reader = buffer.subscribe();
        Box::pin(async move { drop(reader.next_chunk().await) })
    },
    |buffer| {
        let mut reader = buffer.subscribe().cloned();
        Box::pin(async move { drop(reader.recv().await) })
    },
    |buffer| {
        let mut reader = buffer.subscribe().cloned();
        Box::pin(async move { drop(reader.next().await) })
    },
    |buffer| {
        let mut reader = buffer.subscribe().limited(LagLimit::items(10));
        Box::pin(async move { drop(reader.recv().await) })
    },
    |buffer| {
        let mut reader = buffer.subscribe().limited(LagLimit::items(10));
        Box::pin(async move { drop(reader.next().await) })
    },
    |buffer| {
        let item = buffer.latest().unwrap();
        Box::pin(async move { drop(item.next().await) })
    },
];

fn buffer_with_an_item() -> EventBuffer<u32> {
    let mut buffer = EventBuffer::new();
    buffer.push(0);
    buffer
}

/// Readers of every kind in turn, from the given one on.
fn readers(buffer: &EventBuffer<u32>, first: usize, tasks: usize) -> Vec<Task> {
    let kinds = READERS.iter().cycle().skip(first);
    kinds.take(tasks).map(|wait| wait(buffer)).collect()
}

fn an_item<const FIRST: usize>(tasks: usize) -> (Vec<Task>, End) {
    let mut buffer = buffer_with_an_item();
    let tasks = readers(&buffer, FIRST, tasks);
    let end = move || -> Box<dyn Any + Send> {
        buffer.push(1);
        Box::new(buffer)
    };
    (tasks, Box::new(end))
}

fn a_failure(tasks: usize) -> (Vec<Task>, End) {
    let buffer = buffer_with_an_item();
    let tasks = readers(&buffer, 0, tasks);
    let end = move || -> Box<dyn Any + Send> {
        buffer.fail("as planned");
        Box::new(())
    };
    (tasks, Box::new(end))
}

fn closers(tasks: usize) -> (Vec<Task>, End) {
    let buffer = buffer_with_an_item();
    let mut closers = Vec::new();
    let tasks = (0..tasks).map(|n| -> Task {
        let mut reader = buffer.subscribe();
        closers.push(reader.closer());
        match n % 3 {
            0 => Box::pin(async move { drop(reader.recv().await) }),
            1 => {
                let mut reader = reader.cloned();
                Box::pin(async move { drop(reader.next().await) })
            }
            _ => {
                let mut reader = reader.limited(LagLimit::items(10));
                Box::pin(async move { drop(reader.recv().await) })
            }
        }
    });
    let tasks = tasks.collect();
    let end = move || -> Box<dyn Any + Send> {
        for closer in closers {
            closer.close("as planned");
        }
        Box::new(buffer)
    };
    (tasks, Box::new(end))
}

fn unobserved(tasks: usize) -> (Vec<Task>, End) {
    let buffer = Arc::new(EventBuffer::<u32>::new());
    let reader = buffer.subscribe();
    let task = |buffer: Arc<EventBuffer<u32>>| -> Task {
        Box::pin(async move { buffer.unobserved().await })
    };
    let tasks = (0..tasks).map(|_| task(buffer.clone())).collect();
    let end = move || -> Box<dyn Any + Send> {
        drop(reader);
        Box::new(buffer)
    };
    (tasks, Box::new(end))
}

#[cfg(feature = "publisher")]
mod of_a_publisher {
    use event_buffer::TryRecvError;
    use event_buffer::publisher::{Publisher, Request, SnapshotAppender, Update, Watch};
    use futures::FutureExt;
    use futures::channel::oneshot;

    use super::*;

    /// Reads up to an update of that kind, or to an error.
    fn read_to(
        mut watch: Watch<&'static str, u32>,
        is_last: fn(&Update<&str, u32>) -> bool,
    ) -> Task {
        Box::pin(async move {
            while let Some(Ok(update)) = watch.next().await {
                if is_last(&update) {
                    break;
                }
            }
        })
    }

    fn receive_to(
        mut watch: Watch<&'static str, u32>,
        is_last: fn(&Update<&str, u32>) -> bool,
    ) -> Task {
        Box::pin(async move {
            while let Ok(update) = watch.recv().await {
                if is_last(&update) {
                    break;
                }
            }
        })
    }

    fn watches(
        publisher: &Publisher<&'static str, u32>,
        tasks: usize,
        is_last: fn(&Update<&str, u32>) -> bool,
    ) -> Vec<Task> {
        let watches = (0..tasks).map(|n| {
            let watch = publisher.subscribe(Request::new("key").token("token"));
            let read = if n % 2 == 0 { read_to } else { receive_to };
            read(watch, is_last)
        });
        watches.collect()
    }

    pub(super) fn a_commit(tasks: usize) -> (Vec<Task>, End) {
        let publisher = Publisher::builder().build();
        let tasks = watches(&publisher, tasks, |update| {
            matches!(update, Update::Events(_))
        });
        let end = move || -> Box<dyn Any + Send> {
            publisher.publish(1, [("key", 1)]).unwrap();
            Box::new(publisher)
        };
        (tasks, Box::new(end))
    }

    pub(super) fn a_closed_token(tasks: usize) -> (Vec<Task>, End) {
        let publisher = Publisher::builder().build();
        let tasks = watches(&publisher, tasks, |_| false);
        let end = move || -> Box<dyn Any + Send> {
            publisher.close_token("token");
            Box::new(publisher)
        };
        (tasks, Box::new(end))
    }

    /// All watches wait for one snapshot, whose handler waits for a gate.
    pub(super) fn a_snapshot(tasks: usize) -> (Vec<Task>, End) {
        let (gate, opened) = oneshot::channel::<()>();
        let opened = Mutex::new(Some(opened));
        let publisher = Publisher::builder()
            .snapshot(move |_, _: SnapshotAppender<u32>| {
                let opened = opened.lock().unwrap().take();
                async move {
                    opened.ok_or("it is asked for once")?.await?;
                    Ok(7)
                }
            })
            .build();
        let tasks = watches(&publisher, tasks, |update| {
            matches!(update, Update::EndOfSnapshot { .. })
        });
        let end = move || -> Box<dyn Any + Send> {
            // This fails if all watches were dropped.
            let _ = gate.send(());
            Box::new(publisher)
        };
        (tasks, Box::new(end))
    }

    /// A watch that has nothing to receive, and what changes that.
    type Idle = (Watch<&'static str, u32>, End);

    fn idle<const N: usize>(keys: [&'static str; N], snapshot: bool, mark: bool) -> Idle {
        let (gate, opened) = oneshot::channel::<()>();
        let opened = opened.shared();
        let handler = move |_, _: SnapshotAppender<u32>| {
            let opened = opened.clone();
            async move {
                opened.await?;
                Ok(0)
            }
        };
        let mut builder = Publisher::builder().epoch(1);
        if snapshot {
            builder = builder.snapshot(handler);
        }
        let publisher = builder.build();
        let mut watch = publisher.subscribe(Request::keys(keys));
        while watch.try_recv().is_ok() {}
        let end = move || -> Box<dyn Any + Send> {
            if snapshot {
                gate.send(()).unwrap();
            } else {
                publisher.publish(1, [("a", 1)]).unwrap();
            }
            if mark {
                publisher.mark_progress();
            }
            Box::new(publisher)
        };
        (watch, Box::new(end))
    }

    const IDLE: [fn() -> Idle; 6] = [
        || idle(["a"], false, false),
        || idle(["a", "b"], false, false),
        || idle(["b"], false, true),
        || idle([], false, true),
        || idle(["a"], true, false),
        || idle(["a", "b"], true, false),
    ];

    #[test]
    fn a_dropped_recv_of_a_watch_keeps_no_waker() {
        let _watchdog = watchdog();
        for idle in IDLE {
            let (mut watch, end) = idle();
            let hook = Hook::new();
            let mut recv = Box::pin(watch.recv());
            for _ in 0..2 {
                let waker = hook.waker();
                let polled = recv.as_mut().poll(&mut Context::from_waker(&waker));
                assert!(polled.is_pending());
            }
            drop(recv);
            assert_eq!(Arc::strong_count(&hook), 1);
            let _kept = end();
            assert_eq!(hook.woken(), 0);
            assert!(watch.recv().now_or_never().is_some());
        }
    }

    /// A `select!` may make a `recv` and then take another branch, in a task that waits for the
    /// stream.
    #[test]
    fn a_watch_polled_as_a_stream_is_woken_despite_other_reads() {
        let _watchdog = watchdog();
        for idle in IDLE {
            let (mut watch, end) = idle();
            let hook = Hook::new();
            let polled = watch.poll_next_unpin(&mut Context::from_waker(&hook.waker()));
            assert!(polled.is_pending());
            drop(watch.recv());
            assert_eq!(watch.try_recv().unwrap_err(), TryRecvError::Empty);
            let _kept = end();
            assert_eq!(hook.woken(), 1);
            assert!(watch.next().now_or_never().is_some());
        }
    }
}

const SCENES: &[(&str, Scene)] = &[
    ("an item, for readers of all kinds", an_item::<0>),
    ("an item, for readers of clones first", an_item::<3>),
    ("an item, for limited readers first", an_item::<5>),
    ("an item, for the next of an item first", an_item::<7>),
    ("a failure", a_failure),
    ("closers", closers),
    ("unobserved", unobserved),
    #[cfg(feature = "publisher")]
    ("a commit", of_a_publisher::a_commit),
    #[cfg(feature = "publisher")]
    ("a closed token", of_a_publisher::a_closed_token),
    #[cfg(feature = "publisher")]
    ("a snapshot", of_a_publisher::a_snapshot),
];

/// How a buffer comes to use a waker that it is given or has.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// Cloned, since the task begins to wait.
    Wait,
    /// Woken, by the end of the wait.
    End,
    /// Dropped, since the task waits with another waker.
    Replace,
    /// Dropped, since the task does not wait any more.
    Leave,
}

/// Uses the other tasks that wait for the same thing, in the midst of what a buffer does with the
/// waker of one: at that moment.
fn interfere(moment: Moment, use_others: fn(Vec<Task>)) {
    for (name, scene) in SCENES {
        // As many as are woken at once, and more.
        for others in [1, 10] {
            let (mut tasks, end) = scene(1 + others);
            for other in &mut tasks[1..] {
                assert!(poll(other, Waker::noop()).is_pending(), "{name}");
            }
            let others = tasks.split_off(1);
            let mut task = tasks.remove(0);
            let hook = Hook::new();
            let waker = hook.waker();
            if !matches!(moment, Moment::Wait) {
                assert!(poll(&mut task, &waker).is_pending(), "{name}");
            }
            let at = match moment {
                Moment::Wait => Use::Clone,
                Moment::End => Use::Wake,
                Moment::Replace | Moment::Leave => Use::Drop,
            };
            hook.run_at(at, move || use_others(others));
            match moment {
                Moment::Wait => assert!(poll(&mut task, &waker).is_pending(), "{name}"),
                Moment::End => {}
                Moment::Replace => assert!(poll(&mut task, Waker::noop()).is_pending(), "{name}"),
                Moment::Leave => task = Box::pin(async {}),
            }
            let _kept = end();
            assert!(hook.has_run(), "{name}, {moment:?}");
            // More than once if it was also the others that made something happen.
            let is_woken = matches!(moment, Moment::Wait | Moment::End);
            assert_eq!(hook.woken() > 0, is_woken, "{name}, {moment:?}");
            assert!(
                poll(&mut task, Waker::noop()).is_ready(),
                "{name}, {moment:?}"
            );
        }
    }
}

fn interfere_at_all_moments(use_others: fn(Vec<Task>)) {
    for moment in [Moment::Wait, Moment::End, Moment::Replace, Moment::Leave] {
        interfere(moment, use_others);
    }
}

#[test]
fn a_waker_may_poll_other_readers_in_each_of_its_methods() {
    let _watchdog = watchdog();
    interfere_at_all_moments(|others| {
        for mut other in others {
            // Twice, as another task each time, if it is not ready.
            if poll(&mut other, &Hook::new().waker()).is_pending() {
                let _ = poll(&mut other, &Hook::new().waker());
            }
        }
    });
}

/// A waker that takes a lock waits like this if the other thread drops the readers under that lock.
#[test]
fn a_waker_may_wait_for_a_thread_that_drops_its_neighbours() {
    let _watchdog = watchdog();
    interfere_at_all_moments(|others| thread::spawn(|| drop(others)).join().unwrap());
}

#[test]
fn a_waker_may_wait_for_a_thread_that_polls_its_neighbours() {
    let _watchdog = watchdog();
    interfere_at_all_moments(|others| {
        let polls = thread::spawn(|| {
            for mut other in others {
                let _ = poll(&mut other, &Hook::new().waker());
            }
        });
        polls.join().unwrap();
    });
}

/// Wakers as values in a table: the data of one is its place there, which is given away again once
/// the waker is gone. Each clone has a place of its own.
mod in_a_table {
    use super::*;

    /// The tasks of the wakers, by place.
    static PLACES: Mutex<[Option<usize>; 8]> = Mutex::new([None; 8]);
    static WOKEN: Mutex<[u32; 2]> = Mutex::new([0; 2]);

    const TABLE: RawWakerVTable = RawWakerVTable::new(
        |data| put(task_of(data)),
        |data| wake(take(data)),
        |data| wake(task_of(data)),
        |data| _ = take(data),
    );

    fn put(task: usize) -> RawWaker {
        let mut places = PLACES.lock().unwrap();
        let free = places.iter().position(Option::is_none).unwrap();
        places[free] = Some(task);
        RawWaker::new(ptr::without_provenance(free), &TABLE)
    }

    fn task_of(data: *const ()) -> usize {
        PLACES.lock().unwrap()[data.addr()].unwrap()
    }

    fn take(data: *const ()) -> usize {
        PLACES.lock().unwrap()[data.addr()].take().unwrap()
    }

    fn wake(task: usize) {
        WOKEN.lock().unwrap()[task] += 1;
    }

    pub(super) fn waker(task: usize) -> Waker {
        // SAFETY: the functions use the data only as a number, and may be called on any thread.
        unsafe { Waker::from_raw(put(task)) }
    }

    /// How often each task was woken since the last call.
    pub(super) fn woken() -> [u32; 2] {
        mem::take(&mut *WOKEN.lock().unwrap())
    }

    pub(super) fn is_empty() -> bool {
        PLACES.lock().unwrap().iter().all(Option::is_none)
    }
}

#[test]
fn a_waker_at_the_address_of_a_former_one_is_not_mistaken_for_it() {
    let _watchdog = watchdog();
    for (name, scene) in SCENES {
        let (mut tasks, end) = scene(1);
        let first = in_a_table::waker(0);
        let address = first.data();
        assert!(poll(&mut tasks[0], &first).is_pending(), "{name}");
        drop(first);
        let second = in_a_table::waker(1);
        assert_eq!(second.data(), address);
        assert!(poll(&mut tasks[0], &second).is_pending(), "{name}");
        let _kept = end();
        assert_eq!(in_a_table::woken(), [0, 1], "{name}");
        drop((tasks, second));
        assert!(in_a_table::is_empty(), "{name}");
    }
}

#[test]
fn the_end_of_a_wait_wakes_each_of_many_tasks_once() {
    let _watchdog = watchdog();
    for (name, scene) in SCENES {
        for many in [1, 2, 4, 5, 100] {
            let (mut tasks, end) = scene(many);
            let hooks: Vec<_> = (0..many).map(|_| Hook::new()).collect();
            for (task, hook) in tasks.iter_mut().zip(&hooks) {
                // Polled twice: a task is woken once, however often it was polled.
                assert!(poll(task, &hook.waker()).is_pending(), "{name}");
                assert!(poll(task, &hook.waker()).is_pending(), "{name}");
            }
            assert!(hooks.iter().all(|hook| hook.woken() == 0), "{name}");
            let _kept = end();
            let woken: Vec<_> = hooks.iter().map(|hook| hook.woken()).collect();
            assert_eq!(woken, vec![1; many], "{name}");
            for task in &mut tasks {
                assert!(poll(task, Waker::noop()).is_ready(), "{name}");
            }
        }
    }
}

/// Checks a deferred publish whose tasks are still asleep, beside a task that waits for the
/// next item. Each task is tried with every kind of reader.
fn beside_a_late_wake_up(check: fn(&mut EventBuffer<u32>, Deferred<u32>, &[Arc<Hook>; 2])) {
    for first in READERS {
        for second in READERS {
            let mut buffer = buffer_with_an_item();
            let hooks = [Hook::new(), Hook::new()];
            let mut early = first(&buffer);
            assert!(poll(&mut early, &hooks[0].waker()).is_pending());
            let deferred = buffer.push_deferred(1);
            let mut late = second(&buffer);
            assert!(poll(&mut late, &hooks[1].waker()).is_pending());
            check(&mut buffer, deferred, &hooks);
            assert!(poll(&mut early, Waker::noop()).is_ready());
            assert!(poll(&mut late, Waker::noop()).is_ready());
        }
    }
}

fn woken(hooks: &[Arc<Hook>; 2]) -> [usize; 2] {
    hooks.each_ref().map(|hook| hook.woken())
}

#[test]
fn a_late_wake_up_does_not_delay_other_tasks() {
    let _watchdog = watchdog();
    beside_a_late_wake_up(|buffer, deferred, hooks| {
        buffer.push(2);
        assert_eq!(woken(hooks), [0, 1]);
        drop(deferred);
        assert_eq!(woken(hooks), [1, 1]);
        buffer.push(3);
        assert_eq!(woken(hooks), [1, 1]);
    });
}

#[test]
fn a_late_wake_up_is_not_given_to_a_task_that_waits_for_what_comes_next() {
    let _watchdog = watchdog();
    beside_a_late_wake_up(|buffer, deferred, hooks| {
        drop(deferred);
        assert_eq!(woken(hooks), [1, 0]);
        buffer.push(2);
        assert_eq!(woken(hooks), [1, 1]);
    });
}

#[test]
fn a_missing_wake_up_does_not_delay_other_tasks() {
    /// No destructor runs for a static, but `LeakSanitizer` sees that it is reachable.
    static LEAKED: Mutex<Vec<Deferred<u32>>> = Mutex::new(Vec::new());

    let _watchdog = watchdog();
    beside_a_late_wake_up(|buffer, deferred, hooks| {
        LEAKED.lock().unwrap().push(deferred);
        buffer.push(2);
        assert_eq!(woken(hooks), [0, 1]);
        // The end does not wait for it either.
        mem::take(buffer).close();
        assert_eq!(woken(hooks), [0, 1]);
    });
}

/// A task that has found nothing begins to wait for a link that has been written meanwhile, while
/// another task already waits for the next link.
#[test]
fn a_task_at_an_earlier_link_does_not_delay_other_tasks() {
    let _watchdog = watchdog();
    let shared = SharedBuffer::new();
    let hooks = [Hook::new(), Hook::new()];
    let ahead = Arc::new(Mutex::new(None));
    let poll = |reader: &mut Subscription<u32>, waker: &Waker| {
        reader.poll_next_unpin(&mut Context::from_waker(waker))
    };
    let mut behind = shared.subscribe();
    let looks_back = Hook::new();
    looks_back.run_at(Use::Clone, {
        let (shared, ahead, hook) = (shared.clone(), ahead.clone(), hooks[0].clone());
        move || {
            shared.push(1).unwrap();
            let mut reader = shared.subscribe();
            assert!(poll(&mut reader, &hook.waker()).is_pending());
            *ahead.lock().unwrap() = Some(reader);
        }
    });
    assert!(poll(&mut behind, &looks_back.waker()).is_ready());
    assert!(looks_back.has_run());
    let mut joins = shared.subscribe();
    assert!(poll(&mut joins, &hooks[1].waker()).is_pending());
    shared.push(2).unwrap();
    assert_eq!(woken(&hooks), [1, 1]);
}
