//! Wakers, destructors and clones that use a shared stream while the library runs them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;

use event_buffer::{LagLimit, RecvError, Replay, ShareExt, SharedStream, SourcePanicked};
use futures::executor::block_on;
use futures::stream::{self};
use futures::{FutureExt, Stream, StreamExt};

use super::sources::{Boxed, channel, poll, ready};
use crate::support::{Hook, Use, watchdog};

/// A waker may use the source while it is cloned, woken or dropped: the others are still woken, and
/// every follower gets every item.
#[test]
fn a_waker_may_use_the_source() {
    let _watchdog = watchdog();
    for at in [Use::Clone, Use::Wake, Use::Drop] {
        for what in 0..4 {
            let (sender, source) = channel(Replay::All);
            let hook = Hook::new();
            let mut follower = source.subscribe();
            let mut other = source.subscribe();
            let others_hook = Hook::new();
            assert!(poll(&mut other, &others_hook).is_pending());
            let found = Arc::new(Mutex::new(None));
            let (finds, again) = (found.clone(), source.clone());
            let mut inner = source.subscribe();
            hook.run_at(at, move || {
                let found: Vec<u32> = match what {
                    0 => ready(&mut again.subscribe()),
                    1 => ready(&mut inner),
                    2 => ready(&mut inner.clone()),
                    _ => {
                        drop((again, inner));
                        Vec::new()
                    }
                };
                *finds.lock().unwrap() = Some(found);
            });
            assert!(poll(&mut follower, &hook).is_pending());
            sender.unbounded_send(1).unwrap();
            let mut received = ready(&mut follower);
            sender.unbounded_send(2).unwrap();
            received.extend(ready(&mut follower));
            assert_eq!(received, [1, 2], "{at:?} {what}");
            assert!(hook.has_run() && others_hook.woken() > 0, "{at:?} {what}");
            assert_eq!(ready(&mut other), [1, 2], "{at:?} {what}");
            let found = found.lock().unwrap().take().expect("it has run");
            assert!([1, 2].starts_with(&found), "{at:?} {what}: {found:?}");
        }
    }
}

#[test]
fn a_waker_that_panics_at_any_use_loses_no_items() {
    let _watchdog = watchdog();
    for at in [Use::Clone, Use::Wake, Use::Drop] {
        let (sender, source) = channel(Replay::None);
        let hook = Hook::new();
        let mut panicking = source.subscribe();
        let mut other = source.subscribe();
        let others_hook = Hook::new();
        assert!(poll(&mut other, &others_hook).is_pending());
        hook.run_at(at, || panic!("as planned"));
        _ = catch_unwind(AssertUnwindSafe(|| poll(&mut panicking, &hook)));
        _ = catch_unwind(AssertUnwindSafe(|| sender.unbounded_send(1)));
        _ = catch_unwind(AssertUnwindSafe(|| poll(&mut panicking, &hook)));
        assert!(hook.has_run(), "{at:?}");
        assert!(others_hook.woken() > 0, "{at:?}");
        assert_eq!(ready(&mut other), [1], "{at:?}");
        sender.unbounded_send(2).unwrap();
        drop(sender);
        assert_eq!(ready(&mut panicking).last(), Some(&2), "{at:?}");
        assert_eq!(ready(&mut other), [2], "{at:?}");
        assert_eq!(other.next().now_or_never(), Some(None), "{at:?}");
    }
}

/// A follower that comes while another one polls the source waits for the result of that poll.
#[test]
fn a_follower_that_finds_the_source_in_use_is_woken_afterwards() {
    type Act = fn() -> Poll<Option<u32>>;

    let _watchdog = watchdog();
    let acts: [(&str, Act); 3] = [
        ("item", || Poll::Ready(Some(1))),
        ("end", || Poll::Ready(None)),
        ("panic", || panic!("as planned")),
    ];
    for (name, act) in acts {
        let comes = Arc::new(Mutex::new(None::<SharedStream<Boxed>>));
        let (meanwhile, hook) = (Arc::clone(&comes), Hook::new());
        let its_hook = Arc::clone(&hook);
        let source = stream::poll_fn(move |_| {
            if let Some(follower) = &mut *meanwhile.lock().unwrap() {
                assert!(poll(follower, &its_hook).is_pending());
            }
            act()
        });
        let source = source.boxed().share(Replay::None);
        let mut drives = source.subscribe();
        *comes.lock().unwrap() = Some(source.subscribe());
        _ = catch_unwind(AssertUnwindSafe(|| {
            let mut cx = Context::from_waker(Waker::noop());
            drives.poll_next_unpin(&mut cx)
        }));
        assert!(hook.woken() > 0, "{name}");
        // Breaks the cycle: the source owns the follower, which owns the source.
        let follower = comes.lock().unwrap().take();
        drop(follower);
    }
}

/// A source that uses its own follower when it is dropped.
struct Farewell {
    items: u32,
    handle: Arc<Mutex<Option<SharedStream<Boxed>>>>,
    found: Arc<Mutex<Vec<Poll<Option<u32>>>>>,
}

impl Stream for Farewell {
    type Item = u32;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u32>> {
        self.items = self.items.wrapping_sub(1);
        match self.items {
            u32::MAX => Poll::Ready(None),
            0 if thread::current().name() == Some("panics") => panic!("as planned"),
            left => Poll::Ready(Some(left)),
        }
    }
}

impl Drop for Farewell {
    fn drop(&mut self) {
        let follower = self.handle.lock().unwrap().take();
        if let Some(mut follower) = follower {
            for _ in 0..3 {
                let mut cx = Context::from_waker(Waker::noop());
                let next = AssertUnwindSafe(|| follower.poll_next_unpin(&mut cx));
                let next = catch_unwind(next).unwrap_or(Poll::Ready(Some(99)));
                self.found.lock().unwrap().push(next);
            }
        }
    }
}

#[test]
fn a_source_may_use_its_own_follower_when_it_is_dropped() {
    let _watchdog = watchdog();
    let run = |expected: &'static [Option<u32>]| {
        let (handle, found) = (Arc::default(), Arc::default());
        let source = Farewell {
            items: 2,
            handle: Arc::clone(&handle),
            found: Arc::clone(&found),
        };
        let source = source.boxed().share(Replay::None);
        *handle.lock().unwrap() = Some(source.subscribe());
        let mut follower = source.subscribe();
        while let Ok(Some(_)) = catch_unwind(AssertUnwindSafe(|| block_on(follower.next()))) {}
        let expected: Vec<_> = expected.iter().copied().map(Poll::Ready).collect();
        assert_eq!(*found.lock().unwrap(), expected);
    };
    run(&[Some(1), Some(0), None]);
    // 99 stands for a panic, which the end follows.
    let panics = thread::Builder::new().name("panics".into());
    let panics = panics.spawn(move || run(&[Some(1), Some(99), None]));
    panics.unwrap().join().unwrap();
}

#[test]
fn a_panicking_drop_of_the_source_reaches_only_the_driver() {
    struct Bomb(u32);

    impl Stream for Bomb {
        type Item = u32;

        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u32>> {
            self.0 += 1;
            Poll::Ready((self.0 < 3).then_some(self.0))
        }
    }

    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(thread::panicking(), "as planned");
        }
    }

    let _watchdog = watchdog();
    let source = Bomb(0).share(Replay::Last(1));
    let mut driver = source.subscribe();
    let (mut other, hook) = (source.subscribe(), Hook::new());
    assert_eq!(poll(&mut other, &hook), Poll::Ready(Some(1)));
    assert_eq!(block_on(driver.next()), Some(1));
    assert_eq!(block_on(driver.next()), Some(2));
    catch_unwind(AssertUnwindSafe(|| block_on(driver.next()))).unwrap_err();
    assert_eq!(block_on(driver.next()), None);
    assert_eq!(ready(&mut other), [2]);
    assert_eq!(other.next().now_or_never(), Some(None));
    assert_eq!(block_on(source.subscribe().collect::<Vec<_>>()), [2]);
}

#[test]
fn a_panicking_clone_is_not_a_failure_of_the_source() {
    #[derive(Debug)]
    struct Fragile(u32, Arc<AtomicUsize>);

    impl Clone for Fragile {
        fn clone(&self) -> Self {
            let is_first = self.1.fetch_add(1, SeqCst) == 0;
            assert!(!is_first, "as planned");
            Self(self.0, self.1.clone())
        }
    }

    let _watchdog = watchdog();
    let clones = Arc::new(AtomicUsize::new(0));
    let items = stream::iter(0..2).map(|n| Fragile(n, clones.clone()));
    let source = items.share(Replay::None);
    let (mut unlucky, mut other) = (source.subscribe(), source.subscribe());
    catch_unwind(AssertUnwindSafe(|| block_on(unlucky.next()))).unwrap_err();
    for follower in [&mut unlucky, &mut other] {
        let received: Vec<u32> = ready(follower).into_iter().map(|item| item.0).collect();
        assert_eq!(received, [0, 1]);
    }
}

/// It does not matter which follower drives the source: a limited one yields the same error.
#[test]
fn a_limited_follower_reports_the_panic_of_a_source_that_it_drove() {
    let _watchdog = watchdog();
    let items = stream::iter(0..2).map(|n| if n == 0 { n } else { panic!("as planned") });
    let source = items.share(Replay::None);
    let mut limited = source.subscribe().limited(LagLimit::items(10));
    let mut other = source.subscribe();
    assert_eq!(block_on(limited.next()), Some(Ok(0)));
    let Some(Err(RecvError::Failed(error))) = block_on(limited.next()) else {
        panic!("no error");
    };
    assert!(error.downcast_ref::<SourcePanicked>().is_some());
    assert_eq!(block_on(limited.next()), None);
    assert_eq!(block_on(other.next()), Some(0));
    catch_unwind(AssertUnwindSafe(|| block_on(other.next()))).unwrap_err();
    assert_eq!(block_on(other.next()), None);
}

/// The waker of a source that is gone may be woken and dropped at any time.
#[test]
fn a_waker_outlives_its_source() {
    let _watchdog = watchdog();
    let waker = Arc::new(Mutex::new(None::<Waker>));
    let kept = waker.clone();
    let never = stream::poll_fn(move |cx| {
        *kept.lock().unwrap() = Some(cx.waker().clone());
        Poll::<Option<u32>>::Pending
    });
    let source = never.share(Replay::None);
    let hook = Hook::new();
    let mut follower = source.subscribe();
    assert!(poll(&mut follower, &hook).is_pending());
    drop((source, follower));
    let waker = waker.lock().unwrap().take().unwrap();
    waker.wake_by_ref();
    waker.wake();
    assert_eq!(hook.woken(), 0);
}
