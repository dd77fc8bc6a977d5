//! Error types, traits of handles, and stack use.

use std::error::Error;
use std::panic::{RefUnwindSafe, UnwindSafe};

use event_buffer::{
    Bookmark, BufferItem, Cloned, Closer, EventBuffer, Limited, Position, RecvError, SharedBuffer,
    SharedError, Subscription, TryRecvError,
};

use crate::support::watchdog;

#[test]
fn a_shared_error_stays_the_same_when_it_is_passed_on() {
    #[derive(Debug)]
    struct Outer(std::fmt::Error);
    impl std::fmt::Display for Outer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("outer")
        }
    }
    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    let _watchdog = watchdog();
    let first = EventBuffer::<u8>::new();
    let second = EventBuffer::<u8>::new();
    let (mut one, mut other) = (first.subscribe(), second.subscribe());
    first.fail(Outer(std::fmt::Error));
    let Err(RecvError::Failed(error)) = one.recv_blocking() else {
        panic!()
    };
    let as_error: &dyn Error = &error;
    assert_eq!(as_error.to_string(), "outer");
    assert!(
        as_error
            .source()
            .is_some_and(<dyn std::error::Error>::is::<std::fmt::Error>)
    );
    second.fail(error.clone());
    let Err(RecvError::Failed(passed_on)) = other.recv_blocking() else {
        panic!()
    };
    assert_eq!(passed_on, error);
    assert!(passed_on.downcast_ref::<Outer>().is_some());
    let boxed: Box<dyn Error + Send + Sync> = Box::new(error);
    assert!(boxed.is::<SharedError>());
}

#[test]
fn every_error_reports_whether_it_is_final() {
    use event_buffer::RecvTimeoutError;
    let _watchdog = watchdog();
    let error = || {
        let buffer = EventBuffer::<u8>::new();
        let mut reader = buffer.subscribe();
        buffer.fail("broke");
        match reader.try_recv() {
            Err(TryRecvError::Failed(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    for (received, is_final) in [
        (RecvError::Closed, true),
        (RecvError::Failed(error()), true),
        (RecvError::ForceClosed(error()), true),
        (RecvError::Lagged(1), false),
    ] {
        assert_eq!(received.is_final(), is_final);
        assert_eq!(TryRecvError::from(received.clone()).is_final(), is_final);
        assert_eq!(RecvTimeoutError::from(received).is_final(), is_final);
    }
    assert!(!TryRecvError::Empty.is_final());
    assert!(!RecvTimeoutError::Timeout.is_final());
}

/// Like an `Arc` of the events.
#[test]
fn handles_are_unwind_safe() {
    fn both<H: UnwindSafe + RefUnwindSafe>() {}
    let _watchdog = watchdog();
    both::<EventBuffer<u8>>();
    both::<SharedBuffer<u8>>();
    both::<Subscription<u8>>();
    both::<Cloned<u8>>();
    both::<Limited<u8>>();
    both::<BufferItem<u8>>();
    both::<Position<u8>>();
    both::<Bookmark<u8>>();
    both::<Closer>();
    #[cfg(feature = "publisher")]
    {
        use event_buffer::publisher::{Publisher, SnapshotAppender, Watch};
        both::<Publisher<u8, u8>>();
        both::<Watch<u8, u8>>();
        both::<SnapshotAppender<u8>>();
    }
    static_assertions::assert_not_impl_any!(BufferItem<std::cell::Cell<u8>>: UnwindSafe);
}

/// Only with optimizations: without them, each call that passes an event on copies it on the stack.
#[cfg(not(debug_assertions))]
#[test]
fn large_events_fit_on_a_small_stack() {
    use event_buffer::LagLimit;

    #[derive(Clone)]
    struct Large([u8; 256 << 10]);

    fn event(n: u8) -> Box<Large> {
        let bytes: Box<[u8; 256 << 10]> = vec![n; 256 << 10].into_boxed_slice().try_into().unwrap();
        Box::new(Large(*bytes))
    }
    fn on_a_small_stack(f: impl FnOnce() + Send + 'static) {
        let small = std::thread::Builder::new().stack_size(2 << 20);
        small.spawn(f).unwrap().join().unwrap();
    }

    let _watchdog = watchdog();
    let mut buffer = EventBuffer::builder()
        .replay(event_buffer::Replay::All)
        .build();
    let mut reader = buffer.subscribe();
    let mut cloned = buffer.subscribe().cloned();
    let mut blocking = buffer.subscribe().cloned();
    let mut limited = buffer.subscribe().limited(LagLimit::items(10));
    on_a_small_stack(move || {
        buffer.push(*event(1));
        buffer.append(Some(*event(2)));
        buffer.extend(Some(*event(3)));
        drop(SharedBuffer::from(buffer).push(*event(4)));
    });
    on_a_small_stack(move || assert_eq!(reader.try_recv().unwrap()[0].0[99], 1));
    on_a_small_stack(move || assert_eq!(cloned.try_recv().unwrap().0[99], 1));
    on_a_small_stack(move || assert_eq!(blocking.recv_blocking().unwrap().0[99], 1));
    on_a_small_stack(move || assert_eq!(limited.try_recv().unwrap().0[99], 1));
}
