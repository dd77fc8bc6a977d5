//! How a watch of several keys learns which of them something happened to.
//!
//! A publish notes the keys that it touches in the inboxes of their watches, before the index counts as published.
//! So a watch that has read an index, and then its inbox, knows of all that was published up to that index.

use std::mem;
use std::sync::Arc;

use super::control::Control;
use crate::sync::Mutex;

pub(super) struct Inbox {
    control: Arc<Control>,
    state: Mutex<InboxState>,
}

#[derive(Default)]
struct InboxState {
    /// The numbers of the watch's keys that something happened to.
    touched: Vec<u32>,
    /// Which these are, so that each is noted once.
    is_touched: Vec<bool>,
    /// The watch's task waits.
    is_waiting: bool,
}

impl Inbox {
    /// All keys are to be looked at once.
    pub(super) fn new(control: &Arc<Control>, keys: u32) -> Arc<Self> {
        Arc::new(Self {
            control: Arc::clone(control),
            state: Mutex::new(InboxState {
                touched: (0..keys).collect(),
                is_touched: vec![true; keys as usize],
                is_waiting: false,
            }),
        })
    }

    /// Notes a key. Returns the watch if it is to be woken, once no lock is held.
    pub(super) fn note(&self, key: u32) -> Option<Arc<Control>> {
        let mut state = self.state.lock();
        let is_touched = state.is_touched.get_mut(key as usize)?;
        if !mem::replace(is_touched, true) {
            state.touched.push(key);
        }
        mem::take(&mut state.is_waiting).then(|| Arc::clone(&self.control))
    }

    /// For the watch: takes what has been noted.
    pub(super) fn take(&self, into: &mut Vec<u32>) {
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

    /// For the watch, which has noted its task: it is to be woken. Returns `false` if something has been noted meanwhile.
    pub(super) fn wait(&self) -> bool {
        let mut state = self.state.lock();
        state.is_waiting = state.touched.is_empty();
        state.is_waiting
    }
}
