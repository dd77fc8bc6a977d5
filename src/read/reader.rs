//! A reader's place: its own, or one that others can take away.

use std::mem;
use std::task::{Poll, Waker};

use crate::error::{SharedError, TryRecvError};
use crate::lag_limit::LagLimit;
use crate::link::Closer;
use crate::list::{Cursor, Entered, Leashed, Shut, Standing, WeakPlace};
use crate::sync::Mutex;

/// Behind a lock that reading does not take: it has the reader to itself. Methods by shared reference do.
pub(crate) struct Reader<T>(Mutex<Tenure<T>>);

enum Tenure<T> {
    /// Nobody else knows where the reader is.
    Free(Cursor<T>),
    /// It has a closer, or a limit.
    Leashed(Leashed<T>),
}

#[expect(
    clippy::redundant_closure_for_method_calls,
    reason = "the methods' paths are not general enough over lifetimes"
)]
impl<T> Reader<T> {
    pub(crate) fn new(cursor: Cursor<T>) -> Self {
        Self(Mutex::new(Tenure::Free(cursor)))
    }

    /// One that is closed like another one.
    pub(crate) fn closed(like: Shut<T>) -> Self {
        Self(Mutex::new(Tenure::Leashed(Leashed::closed(like))))
    }

    /// The cursor of a reader without a leash. Reads begin with this, so that they are as short as can be.
    #[inline]
    pub(crate) fn free(&mut self) -> Option<&mut Cursor<T>> {
        match self.0.get_mut() {
            Tenure::Free(cursor) => Some(cursor),
            Tenure::Leashed(_) => None,
        }
    }

    /// Calls `f` with the cursor, unless the reader was closed, and with the number of items that were skipped and are to
    /// be reported.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::ForceClosed`], or that of `f`.
    #[inline]
    pub(crate) fn read<R>(
        &mut self,
        f: impl FnOnce(&mut Cursor<T>, &mut u64) -> Result<R, TryRecvError>,
    ) -> Result<R, TryRecvError> {
        match self.0.get_mut() {
            Tenure::Free(cursor) => f(cursor, &mut 0),
            Tenure::Leashed(leashed) => read_leashed(leashed, f),
        }
    }

    /// The cursor, for what is lent until the next call. Until then the place is not taken away.
    pub(crate) fn lend(&mut self) -> Result<&mut Cursor<T>, TryRecvError> {
        match self.0.get_mut() {
            Tenure::Free(cursor) => Ok(cursor),
            Tenure::Leashed(leashed) => {
                let mut entered = leashed.enter().map_err(TryRecvError::ForceClosed)?;
                entered.keep_limit().map_err(TryRecvError::ForceClosed)?;
                entered.stay().ok_or(TryRecvError::Closed)
            }
        }
    }

    /// Polls the listener of the next link. `Ready` if there may be something to read.
    pub(crate) fn poll_link(&mut self, waker: &Waker) -> Poll<()> {
        match self.0.get_mut() {
            Tenure::Free(cursor) => cursor.poll_link(waker),
            Tenure::Leashed(leashed) => match leashed.enter() {
                Ok(entered) => entered.wait(waker),
                Err(_) => Poll::Ready(()),
            },
        }
    }

    /// Ends the registration of the task that waits.
    pub(crate) fn stop_waiting(&mut self) {
        match self.0.get_mut() {
            Tenure::Free(cursor) => cursor.stop_waiting(),
            Tenure::Leashed(leashed) => {
                if let Ok(mut entered) = leashed.enter() {
                    if let Some((cursor, _)) = entered.cursor() {
                        cursor.stop_waiting();
                    }
                }
            }
        }
    }

    /// How many items it would receive; `None` once it was closed.
    pub(crate) fn lag(&self) -> Option<u64> {
        let lag = self.look(|cursor| (cursor.lag(), None), |entered| entered.lag());
        // The garbage is dropped here.
        lag.ok().map(|(lag, _)| lag)
    }

    /// Where it continues.
    ///
    /// # Errors
    ///
    /// Why the reader was closed, and where.
    pub(crate) fn standing(&self) -> Result<Standing<T>, Shut<T>> {
        let free = |cursor: &Cursor<T>| {
            let (place, given) = cursor.place();
            Standing {
                place,
                given,
                skipped: 0,
            }
        };
        self.look(free, |entered| entered.standing())
    }

    /// The place of the next item, which keeps nothing alive. That of a closed reader is where it was.
    pub(crate) fn mark(&self) -> WeakPlace<T> {
        match self.standing() {
            Ok(standing) => standing.place.downgrade(),
            Err(shut) => shut.at,
        }
    }

    /// Returns `true` if nothing more will come, whatever is unread.
    pub(crate) fn is_closed(&self) -> bool {
        let has_ended = self.look(Cursor::has_ended, |entered| entered.has_ended());
        has_ended.unwrap_or(true)
    }

    /// Looks at the place. Neither function runs user code.
    ///
    /// # Errors
    ///
    /// Why the reader was closed, and where.
    fn look<R>(
        &self,
        free: impl FnOnce(&Cursor<T>) -> R,
        leashed: impl FnOnce(&mut Entered<'_, T>) -> R,
    ) -> Result<R, Shut<T>> {
        let mut tenure = self.0.lock();
        let reader = match &mut *tenure {
            Tenure::Free(cursor) => return Ok(free(cursor)),
            Tenure::Leashed(reader) => reader,
        };
        let (found, left) = match reader.enter_to_look() {
            Ok(mut entered) => (Ok(leashed(&mut entered)), entered.leave()),
            Err(out) => (Err(out.shut), Some(out.left)),
        };
        // What is left to do runs user code.
        drop(tenure);
        drop(left);
        found
    }

    /// A handle that closes it.
    pub(crate) fn closer(&self) -> Closer
    where
        T: Send + Sync + 'static,
    {
        Closer::new(self.0.lock().leash().closable())
    }

    /// Limits how far it may be behind, and adds to what is to be reported. Runs user code.
    pub(crate) fn set_limit(&mut self, limit: LagLimit<T>, skipped: u64) {
        self.0.get_mut().leash().set_limit(limit, skipped);
    }

    /// Why it was closed by a closer.
    pub(crate) fn closed_from_outside(&mut self) -> Option<SharedError> {
        match self.0.get_mut() {
            Tenure::Free(_) => None,
            Tenure::Leashed(leashed) => leashed.closed_from_outside(),
        }
    }
}

/// Out of line, so that a reader without a leash reads in a few instructions.
#[inline(never)]
fn read_leashed<T, R>(
    leashed: &mut Leashed<T>,
    f: impl FnOnce(&mut Cursor<T>, &mut u64) -> Result<R, TryRecvError>,
) -> Result<R, TryRecvError> {
    let mut entered = leashed.enter().map_err(TryRecvError::ForceClosed)?;
    let found = match entered.keep_limit() {
        Err(reason) => Err(TryRecvError::ForceClosed(reason)),
        Ok(()) => match entered.cursor() {
            Some((cursor, skipped)) => f(cursor, skipped),
            None => Err(TryRecvError::Closed),
        },
    };
    // Not on return, where a panic would leak what was found (rust-lang/rust#47949).
    drop(entered);
    if let Err(TryRecvError::Closed | TryRecvError::Failed(_)) = found {
        // It may have been closed before the buffer ended.
        drop(leashed.enter().map_err(TryRecvError::ForceClosed)?);
    }
    found
}

impl<T> Tenure<T> {
    /// Puts the cursor behind a leash, unless it is.
    fn leash(&mut self) -> &mut Leashed<T> {
        if let Self::Free(_) = self {
            let before = mem::replace(self, Self::Leashed(Leashed::new()));
            if let (Self::Leashed(leashed), Self::Free(cursor)) = (&mut *self, before) {
                leashed.put(cursor);
            }
        }
        match self {
            Self::Leashed(leashed) => leashed,
            Self::Free(_) => unreachable!("it was replaced above"),
        }
    }
}
