//! Shared streams: every follower receives every item.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake};
use std::thread;

use event_buffer::{
    LagExceeded, LagLimit, OnLag, RecvError, Replay, ShareExt, SharedLimited, SharedSource,
    SharedStream,
};
use futures::executor::block_on;
use futures::stream::{self, BoxStream, FusedStream, LocalBoxStream};
use futures::{FutureExt, StreamExt};
use tokio_test::task;

use super::sources::ready;
use crate::support::scripted_source::{Step, act, source};
use crate::support::{PanicsWhenDropped, PanicsWhenWoken, watchdog};

type Sendable = BoxStream<'static, u8>;
type Local = LocalBoxStream<'static, u8>;
type Unshareable = BoxStream<'static, Cell<u8>>;

static_assertions::assert_impl_all!(SharedSource<Sendable>: Send, Sync, Unpin, Clone);
static_assertions::assert_impl_all!(SharedStream<Sendable>: Send, Sync, Unpin, Clone, FusedStream);
static_assertions::assert_impl_all!(SharedLimited<Sendable>: Send, Sync, Unpin, Clone, FusedStream);
static_assertions::assert_not_impl_any!(SharedSource<Local>: Send, Sync);
static_assertions::assert_not_impl_any!(SharedStream<Local>: Send, Sync);
static_assertions::assert_not_impl_any!(SharedStream<Unshareable>: Send, Sync);
static_assertions::assert_impl_all!(SharedStream<Local>: Unpin, Clone);

/// Runs a function that must panic; returns the panic's message.
fn panics(f: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(f)).unwrap_err();
    match panic.downcast_ref::<String>() {
        Some(message) => message.clone(),
        None => (*panic.downcast_ref::<&str>().unwrap()).to_owned(),
    }
}

#[test]
fn every_follower_gets_every_item_once() {
    let _watchdog = watchdog();
    let source = stream::iter(0..100).share(Replay::None);
    let mut followers = vec![source.subscribe(); 5];
    for n in 0..100 {
        for follower in &mut followers {
            assert_eq!(follower.next().now_or_never(), Some(Some(n)));
        }
    }
    for follower in &mut followers {
        assert_eq!(follower.next().now_or_never(), Some(None));
        assert!(follower.is_terminated());
    }
}

#[test]
fn one_item_is_pulled_for_each_item_the_driver_takes() {
    let _watchdog = watchdog();
    let pulled = AtomicUsize::new(0);
    let endless = stream::repeat_with(|| pulled.fetch_add(1, SeqCst));
    let source = endless.share(Replay::None);
    let ten: Vec<_> = block_on(source.subscribe().take(10).collect());
    assert_eq!(ten, (0..10).collect::<Vec<_>>());
    assert_eq!(pulled.load(SeqCst), 10);
}

#[test]
fn late_followers_get_the_window_and_then_new_items() {
    let _watchdog = watchdog();
    let (script, source) = source(Replay::Last(2));
    act(&script, (0..5).map(Step::Item));
    assert_eq!(ready(&mut source.subscribe()), [0, 1, 2, 3, 4]);
    let mut late = source.subscribe();
    act(&script, [Step::Item(5), Step::End]);
    assert_eq!(ready(&mut late), [3, 4, 5]);
    assert!(script.borrow().dropped, "the source is dropped at its end");
    assert_eq!(ready(&mut source.subscribe()), [4, 5]);
    assert_eq!(ready(&mut late.clone()), []);
}

#[test]
fn a_follower_that_is_polled_late_misses_nothing() {
    let _watchdog = watchdog();
    let source = stream::iter(0..1_000).share(Replay::None);
    let slow = source.subscribe();
    let mut clone = slow.clone();
    assert_eq!(block_on(source.subscribe().count()), 1_000);
    assert_eq!(ready(&mut clone).len(), 1_000);
    assert_eq!(
        block_on(slow.collect::<Vec<_>>()),
        (0..1_000).collect::<Vec<_>>()
    );
}

#[test]
fn a_source_is_polled_at_most_twice_per_item_for_any_number_of_followers() {
    let _watchdog = watchdog();
    let (script, source) = source(Replay::None);
    let mut tasks: Vec<_> = (0..1_000)
        .map(|_| task::spawn(source.subscribe()))
        .collect();
    assert!(tasks.iter_mut().all(|task| task.poll_next().is_pending()));
    assert_eq!(script.borrow().polls, 1);
    // The tasks are polled for other reasons.
    assert!(tasks.iter_mut().all(|task| task.poll_next().is_pending()));
    assert_eq!(script.borrow().polls, 1);
    for n in 0..10 {
        act(&script, [Step::Item(n)]);
        assert!(tasks.iter().all(task::Spawn::is_woken));
        for task in &mut tasks {
            assert_eq!(task.poll_next(), Poll::Ready(Some(n)));
        }
        assert!(tasks.iter_mut().all(|task| task.poll_next().is_pending()));
    }
    assert_eq!(script.borrow().polls, 1 + 2 * 10);
}

#[test]
fn a_woken_follower_that_is_never_polled_does_not_stop_others() {
    let _watchdog = watchdog();
    let (script, source) = source(Replay::None);
    let mut lazy = task::spawn(source.subscribe());
    let mut gone = task::spawn(source.subscribe());
    let mut eager = task::spawn(source.subscribe());
    for task in [&mut lazy, &mut gone, &mut eager] {
        assert!(task.poll_next().is_pending());
    }
    act(&script, [Step::Item(1)]);
    assert!(gone.is_woken());
    drop(gone);
    assert!(eager.is_woken());
    assert_eq!(eager.poll_next(), Poll::Ready(Some(1)));
    assert!(eager.poll_next().is_pending());
    act(&script, [Step::Item(2), Step::End]);
    assert!(eager.is_woken());
    assert_eq!(eager.poll_next(), Poll::Ready(Some(2)));
    assert_eq!(eager.poll_next(), Poll::Ready(None));
    assert_eq!(ready(&mut lazy.into_inner()), [1, 2]);
}

#[test]
fn the_source_is_dropped_with_its_last_handle_and_follower() {
    let _watchdog = watchdog();
    let (script, source) = source(Replay::None);
    let mut follower = task::spawn(source.subscribe());
    assert!(follower.poll_next().is_pending());
    let clone = source.clone();
    drop((source, clone));
    assert!(!script.borrow().dropped);
    // The script still keeps the source's waker, which does not own the source.
    drop(follower);
    assert!(script.borrow().dropped);
    assert!(script.borrow().waker.is_some());
}

#[test]
fn a_panic_of_the_source_is_not_a_clean_end() {
    let _watchdog = watchdog();
    let (script, source) = source(Replay::Last(1));
    let mut driver = source.subscribe();
    let mut other = task::spawn(source.subscribe());
    let mut limited = source.subscribe().limited(LagLimit::items(10));
    assert!(other.poll_next().is_pending());
    act(&script, [Step::Item(1), Step::Panic]);
    assert_eq!(driver.next().now_or_never(), Some(Some(1)));
    assert_eq!(
        panics(|| _ = driver.next().now_or_never()),
        "the source's own panic"
    );
    assert_eq!(driver.next().now_or_never(), Some(None));
    assert!(script.borrow().dropped && driver.is_terminated());

    assert!(other.is_woken());
    assert_eq!(
        other.poll_next(),
        Poll::Ready(Some(1)),
        "pulled before the panic"
    );
    assert_eq!(
        panics(|| _ = other.poll_next()),
        "the shared source panicked"
    );
    assert_eq!(other.poll_next(), Poll::Ready(None));

    assert_eq!(limited.next().now_or_never(), Some(Some(Ok(1))));
    let Some(Some(Err(RecvError::Failed(error)))) = limited.next().now_or_never() else {
        panic!("no error");
    };
    assert_eq!(error.to_string(), "the shared source panicked");
    assert_eq!(limited.next().now_or_never(), Some(None));

    let mut late = source.subscribe();
    assert_eq!(late.next().now_or_never(), Some(Some(1)));
    assert_eq!(
        panics(|| _ = late.next().now_or_never()),
        "the shared source panicked"
    );
    assert_eq!(late.next().now_or_never(), Some(None));
}

#[test]
fn a_limited_follower_reports_its_lag_and_keeps_no_more_than_its_limit() {
    let _watchdog = watchdog();
    let event = Arc::new(());
    let source = stream::repeat(event.clone()).share(Replay::None);
    let mut slow = source.subscribe().limited(LagLimit::items(10));
    let mut closed = source
        .subscribe()
        .limited(LagLimit::items(10).on_lag(OnLag::Close));
    let mut fast = source.subscribe();
    for _ in 0..1_000 {
        fast.next().now_or_never().flatten().unwrap();
    }
    assert!(Arc::strong_count(&event) < 100);
    assert_eq!(
        slow.next().now_or_never(),
        Some(Some(Err(RecvError::Lagged(990))))
    );
    assert_eq!(
        slow.clone().next().now_or_never(),
        Some(Some(Ok(event.clone())))
    );
    let Some(Some(Err(RecvError::ForceClosed(reason)))) = closed.next().now_or_never() else {
        panic!("it was not closed");
    };
    assert!(reason.downcast_ref::<LagExceeded>().is_some());
    assert_eq!(closed.next().now_or_never(), Some(None));
    assert!(closed.is_terminated() && !slow.is_terminated());
    // It can drive the source, too.
    assert!((0..20).all(|_| slow.next().now_or_never() == Some(Some(Ok(event.clone())))));
}

#[test]
fn a_source_that_polls_a_follower_of_itself_finds_it_pending() {
    let _watchdog = watchdog();
    let itself = Rc::new(RefCell::new(
        None::<SharedStream<LocalBoxStream<'static, u8>>>,
    ));
    let inner = itself.clone();
    let mut n = 0;
    let source = stream::poll_fn(move |cx| {
        let mut inner = inner.borrow_mut();
        let inner = inner.as_mut().unwrap();
        assert!(inner.poll_next_unpin(cx).is_pending());
        n += 1;
        Poll::Ready((n < 4).then_some(n))
    });
    let source = source.boxed_local().share(Replay::None);
    *itself.borrow_mut() = Some(source.subscribe());
    let mut follower = source.subscribe();
    // The source alone polls the inner follower.
    assert_eq!(follower.next().now_or_never(), Some(Some(1)));
    let mut inner = itself.borrow_mut().take().unwrap();
    assert_eq!(inner.next().now_or_never(), Some(Some(1)));
}

#[test]
fn the_source_and_its_items_need_not_be_static_or_send() {
    let _watchdog = watchdog();
    let text = String::from("one two three");
    let words = stream::iter(text.split(' ')).map(Rc::<str>::from);
    let source = words.share(Replay::All);
    let joined: Vec<_> = block_on(source.subscribe().collect());
    assert_eq!(joined.concat(), "onetwothree");
    assert_eq!(block_on(source.subscribe().count()), 3);
}

#[test]
fn panicking_wakers_lose_no_items() {
    let _watchdog = watchdog();
    let (script, source) = source(Replay::None);
    let mut panicking = source.subscribe();
    let mut other = task::spawn(source.subscribe());
    for waker in [
        Arc::new(PanicsWhenWoken).into(),
        Arc::new(PanicsWhenDropped).into(),
    ] {
        let polled = panicking.poll_next_unpin(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        _ = catch_unwind(AssertUnwindSafe(|| drop(waker)));
        assert!(other.poll_next().is_pending());
        let woken = AssertUnwindSafe(|| act(&script, [Step::Item(1)]));
        _ = catch_unwind(woken);
        assert!(other.is_woken());
        assert_eq!(other.poll_next(), Poll::Ready(Some(1)));
        let mut received = None;
        while received.is_none() {
            let next = AssertUnwindSafe(|| panicking.next().now_or_never().flatten());
            received = catch_unwind(next).ok().flatten();
        }
        assert_eq!(received, Some(1));
    }
}

/// A panic of an item that leaves the window is not a panic of the source.
#[test]
fn a_panicking_drop_does_not_end_the_source() {
    /// Panics when it is dropped, unless it is a clone.
    struct Bomb(bool);

    impl Clone for Bomb {
        fn clone(&self) -> Self {
            Self(false)
        }
    }

    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(!self.0 || thread::panicking(), "asked for");
        }
    }

    let _watchdog = watchdog();
    let source = stream::repeat_with(|| Bomb(true))
        .take(3)
        .share(Replay::Last(1));
    let mut follower = source.subscribe();
    let (mut received, mut panicked) = (0, 0);
    loop {
        let next = || follower.next().now_or_never().flatten();
        match catch_unwind(AssertUnwindSafe(next)) {
            Ok(Some(_)) => received += 1,
            Ok(None) => break,
            Err(_) => panicked += 1,
        }
    }
    assert_eq!(
        (received, panicked),
        (3, 2),
        "the drops of items that left the window"
    );
    let gone = catch_unwind(AssertUnwindSafe(|| drop((follower, source))));
    assert!(gone.is_err(), "the drop of the newest item");
}

/// A destructor may take long, so wake-ups come first.
#[test]
fn waiting_followers_are_woken_before_anything_is_dropped() {
    /// Records whether the task had been woken when this was dropped.
    struct Notes(Arc<Mutex<Vec<bool>>>, Arc<AtomicBool>);

    impl Drop for Notes {
        fn drop(&mut self) {
            self.0.lock().unwrap().push(self.1.load(SeqCst));
        }
    }

    struct Flag(Arc<AtomicBool>);

    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, SeqCst);
        }
    }

    let _watchdog = watchdog();
    let (notes, is_woken) = (
        Arc::<Mutex<Vec<_>>>::default(),
        Arc::new(AtomicBool::new(false)),
    );
    let waits = Rc::new(RefCell::new(
        None::<SharedStream<LocalBoxStream<'static, Arc<Notes>>>>,
    ));
    let source = {
        let (notes, is_woken, waits) = (notes.clone(), is_woken.clone(), waits.clone());
        let waker = Arc::new(Flag(is_woken.clone())).into();
        let new = move || Arc::new(Notes(notes.clone(), is_woken.clone()));
        let (of_stream, mut left) = (new(), 3);
        stream::poll_fn(move |_| {
            // The other follower finds the stream in use, and waits.
            let cx = &mut Context::from_waker(&waker);
            let mut waits = waits.borrow_mut();
            let waits = waits.as_mut().unwrap();
            while waits.poll_next_unpin(cx).is_ready() {}
            of_stream.1.store(false, SeqCst);
            left -= 1;
            Poll::Ready((left > 0).then(&new))
        })
    };
    let source = source.boxed_local().share(Replay::Last(1));
    *waits.borrow_mut() = Some(source.subscribe());
    let mut driver = source.subscribe();
    while driver.next().now_or_never().unwrap().is_some() {}
    assert_eq!(
        *notes.lock().unwrap(),
        [true, true],
        "an item that left the window, and the stream"
    );
    *waits.borrow_mut() = None;
}
