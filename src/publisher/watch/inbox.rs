//! How a watch of several keys learns which of them have something new.
//!
//! A publish notes the keys that it touches in the inboxes of their watches before it stores the
//! index (invariant 2 of the hub). So a watch that reads the index first and its inbox afterwards
//! finds all keys that were touched up to that index.

use std::mem;
use std::sync::Arc;

use super::control::Control;
use crate::sync::Mutex;

pub(crate) struct Inbox {
    control: Arc<Control>,
    state: Mutex<InboxState>,
}

#[derive(Default)]
struct InboxState {
    /// The keys that have something new, by their numbers in the watch.
    touched: Vec<u32>,
    /// Whether a key is in `touched`, so that it is noted only once.
    is_touched: Vec<bool>,
    /// The watch waits, and is to be woken by the next note.
    is_waiting: bool,
}

impl Inbox {
    /// Returns an inbox with all keys noted, so that the watch looks at each of them once.
    pub(crate) fn new(control: &Arc<Control>, keys: u32) -> Arc<Self> {
        Arc::new(Self {
            control: Arc::clone(control),
            state: Mutex::new(InboxState {
                touched: (0..keys).collect(),
                is_touched: vec![true; keys as usize],
                is_waiting: false,
            }),
        })
    }

    /// Notes a key. Returns the watch if it has to be woken, which must be done without a lock.
    pub(crate) fn note(&self, key: u32) -> Option<Arc<Control>> {
        let mut state = self.state.lock();
        let is_touched = state.is_touched.get_mut(key as usize)?;
        if !mem::replace(is_touched, true) {
            state.touched.push(key);
        }
        mem::take(&mut state.is_waiting).then(|| Arc::clone(&self.control))
    }

    /// Moves the keys that were noted into `into`.
    pub(crate) fn take(&self, into: &mut Vec<u32>) {
        let mut state = self.state.lock();
        let InboxState {
            touched,
            is_touched,
            ..
        } = &mut *state;
        for key in touched.drain(..) {
            if let Some(is_touched) = is_touched.get_mut(key as usize) {
                *is_touched = false;
            }
            into.push(key);
        }
    }

    /// Waits for the next note. The watch must have registered its task. Returns `false` if
    /// something has been noted by now.
    pub(crate) fn wait(&self) -> bool {
        let mut state = self.state.lock();
        state.is_waiting = state.touched.is_empty();
        state.is_waiting
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{Control, Inbox};

    fn taken(inbox: &Inbox) -> Vec<u32> {
        let mut keys = Vec::new();
        inbox.take(&mut keys);
        keys
    }

    #[test]
    fn a_watch_looks_at_each_key_once_at_first_and_then_at_those_touched() {
        let inbox = Inbox::new(&Control::new(), 3);
        assert_eq!(taken(&inbox), [0, 1, 2]);
        for key in [2, 0, 2] {
            inbox.note(key);
        }
        assert_eq!(taken(&inbox), [2, 0]);
        inbox.note(2);
        assert_eq!(taken(&inbox), [2]);
    }

    #[test]
    fn only_a_watch_that_waits_is_woken_and_once() {
        let inbox = Inbox::new(&Control::new(), 1);
        assert!(!inbox.wait(), "a key is noted");
        taken(&inbox);
        assert!(inbox.wait());
        assert!(inbox.note(0).is_some());
        assert!(inbox.note(0).is_none());
    }
}
