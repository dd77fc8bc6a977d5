//! Closing a reader with a closer.

use std::task::{Context, Waker};

use event_buffer::{Closer, LagLimit, RecvError, TryRecvError};
use loom::future::block_on;
use loom::sync::Arc;
use loom::sync::atomic::Ordering::Acquire;
use loom::thread;

use super::Woken;
use super::buffer;

#[test]
fn force_close_against_recv() {
    loom::model(|| {
        let buffer = buffer::<u8>();
        let mut reader = buffer.subscribe();
        let closer = reader.closer();
        let other = thread::spawn(move || closer.close("enough"));
        assert!(matches!(
            block_on(reader.recv()),
            Err(RecvError::ForceClosed(_))
        ));
        assert!(other.join().unwrap());
    });
}

/// The first closer is made while the reader waits, and the reader is polled again meanwhile.
#[test]
fn force_close_against_a_waiting_reader() {
    loom::model(|| {
        let buffer = buffer::<u8>();
        let mut reader = buffer.subscribe();
        let woken = std::sync::Arc::<Woken>::default();
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        let mut poll = |reader: &mut event_buffer::Subscription<u8>| {
            let poll = futures::Stream::poll_next(std::pin::Pin::new(reader), &mut cx);
            poll.is_pending()
        };
        assert!(poll(&mut reader));
        let closer = reader.closer();
        let closing = thread::spawn(move || assert!(closer.close("enough")));
        let pending = poll(&mut reader);
        closing.join().unwrap();
        assert!(!pending || woken.0.load(Acquire), "closed, but not woken");
    });
}

/// The reader acts during the close. Afterwards everything is freed, although it is not dropped.
fn close_against(act: impl Fn(&mut event_buffer::Cloned<Arc<u32>>) + Send + Sync + Copy + 'static) {
    loom::model(move || {
        let mut buffer = buffer();
        let mut reader = buffer.subscribe().cloned();
        let closer = reader.closer();
        let event = Arc::new(1);
        buffer.extend([event.clone(), event.clone()]);
        let closing = thread::spawn(move || assert!(closer.close("enough")));
        act(&mut reader);
        closing.join().unwrap();
        assert_eq!(Arc::strong_count(&event), 1);
        assert!(!buffer.is_observed());
        assert!(matches!(
            reader.try_recv(),
            Err(TryRecvError::ForceClosed(_))
        ));
        drop(reader);
    });
}

#[test]
fn force_close_against_read() {
    close_against(|reader| drop(reader.try_recv()));
}

#[test]
fn force_close_against_lag() {
    close_against(|reader| assert!([0, 2].contains(&reader.lag())));
}

#[test]
fn force_close_against_closer() {
    close_against(|reader| drop(reader.closer()));
}

#[test]
fn force_close_against_drop() {
    loom::model(|| {
        let mut buffer = buffer();
        let reader = buffer.subscribe().cloned();
        let closer = reader.closer();
        let event = Arc::new(1);
        buffer.push(event.clone());
        let closing = thread::spawn(move || closer.close("enough"));
        drop(reader);
        closing.join().unwrap();
        assert_eq!(Arc::strong_count(&event), 1);
        assert!(!buffer.is_observed());
    });
}

/// A read that is in progress carries out the close when it ends, whichever thread requested it.
#[test]
fn force_close_against_a_clone_that_closes_its_own_reader() {
    struct Event(std::sync::Arc<std::sync::OnceLock<Closer>>);

    impl Clone for Event {
        fn clone(&self) -> Self {
            let closer = self.0.get().expect("set before it is published");
            closer.close("from its own event");
            Self(self.0.clone())
        }
    }

    loom::model(|| {
        let mut buffer = buffer();
        let mut reader = buffer.subscribe().cloned();
        let closer = std::sync::Arc::new(std::sync::OnceLock::new());
        assert!(closer.set(reader.closer()).is_ok());
        let other = reader.closer();
        buffer.push(Event(closer.clone()));
        let closing = thread::spawn(move || other.close("enough"));
        let received = reader.try_recv();
        let closed_by_other = closing.join().unwrap();
        assert!(received.is_ok() || closed_by_other);
        drop(received);
        assert_eq!(
            std::sync::Arc::strong_count(&closer),
            1,
            "freed by the close"
        );
        assert!(!buffer.is_observed());
        assert!(matches!(
            reader.try_recv(),
            Err(TryRecvError::ForceClosed(_))
        ));
    });
}

/// The writer moves the reader to the limit's shared place while it is being closed.
#[test]
fn force_close_against_enforced_limit() {
    loom::model(|| {
        let mut buffer = buffer();
        let reader = buffer.subscribe().limited(LagLimit::items(1));
        let closer = reader.closer();
        let event = Arc::new(1);
        let closing = thread::spawn(move || assert!(closer.close("enough")));
        buffer.extend([event.clone(), event.clone(), event.clone()]);
        closing.join().unwrap();
        assert_eq!(Arc::strong_count(&event), 1);
        assert!(!buffer.is_observed());
        drop(reader);
    });
}
