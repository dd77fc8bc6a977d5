//! What a watcher has received.

use event_buffer::publisher::{Begin, Events, ResetReason, Update, WatchError};

use super::store::{Entity, Key, Payload, State, Store, apply};

pub(super) struct View {
    pub(super) key: Key,
    pub(super) state: State,
    /// The index of the state; `None` within a snapshot.
    pub(super) index: Option<u64>,
    /// It receives only even entities.
    pub(super) filtered: bool,
    pub(super) token: u8,
    /// It resumes, and has received nothing yet: it may be reset if that is not possible.
    pub(super) may_reset: bool,
    pub(super) must_reset: Option<ResetReason>,
    /// It was subscribed with a resume point.
    pub(super) resumes: bool,
    /// Its index when it was reset; it must not receive an older state.
    pub(super) had: u64,
    /// The index from which a later watch continues.
    pub(super) place: Option<u64>,
    pub(super) ended: bool,
    /// It was closed, and must not receive anything more.
    pub(super) closed: bool,
    /// A poll panicked before it was closed: it may have ended then, for a reason that is yet to be
    /// reported.
    pub(super) may_have_ended: bool,
}

impl View {
    pub(super) fn new(key: Key, filtered: bool, token: u8) -> Self {
        Self {
            key,
            state: State::new(),
            index: None,
            filtered,
            token,
            may_reset: false,
            must_reset: None,
            resumes: false,
            had: 0,
            place: None,
            ended: false,
            closed: false,
            may_have_ended: false,
        }
    }

    fn sees(&self, entity: Entity) -> bool {
        !self.filtered || entity.is_multiple_of(2)
    }

    pub(super) fn receive(
        &mut self,
        store: &Store,
        update: Result<Update<Key, Payload>, WatchError>,
        place: Option<u64>,
    ) {
        if let Some(reason) = self.must_reset.take()
            && update.is_ok()
        {
            assert!(matches!(&update, Ok(Update::Begin(Begin::Reset(why))) if *why == reason));
        }
        assert!(!self.closed || update.is_err(), "an update after a close");
        match update {
            Ok(Update::Begin(Begin::Resumed)) => assert!(self.may_reset),
            Ok(Update::Begin(Begin::Fresh)) => assert!(!self.resumes && self.index.is_none()),
            Ok(Update::Begin(Begin::Reset(_))) => {
                assert!(self.may_reset);
                self.state.clear();
                self.index = None;
                self.had = self.place.unwrap_or(0);
            }
            Ok(Update::Completed(key)) => panic!("{key} is not complete"),
            Ok(Update::Snapshot(part)) => {
                assert_eq!(
                    self.index, None,
                    "a part of a snapshot comes before its end"
                );
                self.apply(&part);
            }
            Ok(Update::EndOfSnapshot { index }) => {
                assert_eq!(self.index.replace(index), None, "a snapshot ends once");
                assert!(index >= self.had, "{index} after {}", self.had);
                self.check(store);
            }
            Ok(Update::Events(commit)) => {
                self.advance(store, commit.index().expect("commits have an index"));
                self.apply(&commit);
                self.check(store);
            }
            Ok(Update::Progress { index }) => {
                self.advance(store, index);
                self.check(store);
            }
            Err(error) => {
                let closed = matches!(error, WatchError::Closed(_));
                let earlier = !closed && self.may_have_ended;
                assert!(earlier || closed == self.closed, "{error}");
                self.ended = true;
            }
        }
        self.may_reset = false;
        // No commit to its key is missing up to that place.
        if let Some((index, place)) = self.index.zip(place).filter(|_| !self.ended) {
            assert!(index <= place, "{index} {place}");
            assert_eq!(store.touching(self.key, index, place), 0);
        }
        self.place = place;
    }

    fn apply(&mut self, events: &Events<Key, Payload>) {
        for payload in events {
            payload.event.id();
            assert!(self.sees(payload.change.0));
            apply(&mut self.state, &payload.change);
        }
    }

    fn advance(&mut self, store: &Store, index: u64) {
        let before = self
            .index
            .replace(index)
            .expect("no commit within a snapshot");
        assert!(before < index, "{index} after {before}");
        let commits = store.touching(self.key, before, index);
        assert_eq!(commits, 1, "commits from {before} to {index}");
    }

    fn check(&self, store: &Store) {
        let index = self.index.expect("the snapshot is complete");
        let mut state = store.state(self.key, index);
        state.retain(|entity, _| self.sees(*entity));
        assert_eq!(self.state, state, "key {} as of {index}", self.key);
    }

    /// Continues from a place: there was no commit to its key up to that, or the last poll
    /// panicked, and its progress over hidden events was not received.
    pub(super) fn leave_at(&mut self, store: &Store, place: u64) {
        if self.index.is_some_and(|index| index < place) {
            self.index = Some(place);
            self.check(store);
        }
        assert_eq!(self.index, Some(place));
        self.place = Some(place);
    }

    /// Checks that no update is missing.
    pub(super) fn check_complete(&self, store: &Store) {
        if self.closed {
            assert!(self.ended, "closed, but did not end");
        } else if !self.ended {
            let index = self.index.expect("the snapshot is complete");
            let missed = store.touching(self.key, index, u64::MAX - 1);
            assert_eq!(missed, 0, "not received");
        }
    }
}
