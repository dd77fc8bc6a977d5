//! Sessions that are kept in memory.

use std::collections::HashSet;
use std::sync::Mutex;

use serving::Sessions;

/// The sessions that are logged in.
pub(crate) struct LoggedIn(Mutex<HashSet<String>>);

impl LoggedIn {
    pub(crate) fn new(sessions: &[&str]) -> Self {
        let sessions = sessions.iter().copied().map(str::to_owned);
        Self(Mutex::new(sessions.collect()))
    }
}

impl Sessions for LoggedIn {
    fn contains(&self, session: &str) -> bool {
        self.0.lock().unwrap().contains(session)
    }

    fn remove(&self, session: &str) {
        self.0.lock().unwrap().remove(session);
    }
}
