//! A reader's cursor: its own, or one on a leash that a closer and the writer can reach.

use std::mem;
use std::task::{Poll, Waker};

use crate::error::{SharedError, TryRecvError};
use crate::lag_limit::LagLimit;
use crate::link::Closer;
use crate::list::{Cursor, Entered, Leashed, Shut, Skipped, Standing, WeakPlace};
use crate::sync::Mutex;

/// The cursor of a reader, behind a lock that only methods by shared reference take.
///
/// Reading has the reader by `&mut` and goes around the lock.
pub(crate) struct Reader<T>(Mutex<Tenure<T>>);

enum Tenure<T> {
    /// Only the reader can reach its cursor.
    Free(Cursor<T>),
    /// The reader has a closer or a limit, which can reach the cursor, too.
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

    /// Creates a reader that was closed for the same reason, at the same place.
    pub(crate) fn closed(like: Shut<T>) -> Self {
        Self(Mutex::new(Tenure::Leashed(Leashed::closed(like))))
    }

    /// Returns the cursor of a reader without a leash.
    ///
    /// Reads try this first, so that the common case takes only a few instructions.
    #[inline]
    pub(crate) fn free(&mut self) -> Option<&mut Cursor<T>> {
        match self.0.get_mut() {
            Tenure::Free(cursor) => Some(cursor),
            Tenure::Leashed(_) => None,
        }
    }

    /// Calls `f` with the cursor and the number of skipped items that are still to be reported.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::ForceClosed`] if the reader was closed; else those of `f`.
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

    /// Returns the cursor for a chunk.
    ///
    /// Until the next call, the cursor stays with the reader, even if the reader is closed. A
    /// limited reader lends no chunks.
    pub(crate) fn lend(&mut self) -> Result<&mut Cursor<T>, TryRecvError> {
        match self.0.get_mut() {
            Tenure::Free(cursor) => Ok(cursor),
            Tenure::Leashed(leashed) => {
                let entered = leashed.enter().map_err(TryRecvError::ForceClosed)?;
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

    /// Returns the number of items that it would receive; `None` once it was closed.
    pub(crate) fn lag(&self) -> Option<u64> {
        let lag = self.look(|cursor| (cursor.lag(), None), |entered| entered.lag());
        // The garbage of the walk is dropped here, after the lock: that runs user code.
        lag.ok().map(|(lag, _)| lag)
    }

    /// Returns the place where it continues.
    ///
    /// # Errors
    ///
    /// The reason that the reader was closed for, and the place.
    pub(crate) fn standing(&self) -> Result<Standing<T>, Shut<T>> {
        let free = |cursor: &Cursor<T>| {
            let (place, given) = cursor.place();
            Standing::at(place, given)
        };
        self.look(free, |entered| entered.standing())
    }

    /// Returns a weak place of the next item; for a closed reader, of the one it was closed at.
    pub(crate) fn weak_place(&self) -> WeakPlace<T> {
        match self.standing() {
            Ok(standing) => standing.place.downgrade(),
            Err(shut) => shut.at,
        }
    }

    /// Returns `true` if nothing will be published after what is unread.
    pub(crate) fn is_closed(&self) -> bool {
        let has_ended = self.look(Cursor::has_ended, |entered| entered.has_ended());
        has_ended.unwrap_or(true)
    }

    /// Looks at the cursor under the lock. Neither function may run user code.
    ///
    /// # Errors
    ///
    /// The reason that the reader was closed for, and the place.
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
        // User code runs when `left` is dropped, so the lock is released first.
        drop(tenure);
        drop(left);
        found
    }

    /// Returns a handle that closes the reader, after putting the cursor on a leash.
    pub(crate) fn closer(&self) -> Closer
    where
        T: Send + Sync + 'static,
    {
        Closer::new(self.0.lock().leash().closable())
    }

    /// Limits the lag, and adds to the number of skipped items to be reported. Runs user code.
    pub(crate) fn set_limit(&mut self, limit: LagLimit<T>, skipped: Skipped) {
        self.0.get_mut().leash().set_limit(limit, skipped);
    }

    /// Returns the reason that a closer has closed the reader for, if one has.
    pub(crate) fn closed_from_outside(&mut self) -> Option<SharedError> {
        match self.0.get_mut() {
            Tenure::Free(_) => None,
            Tenure::Leashed(leashed) => leashed.closed_from_outside(),
        }
    }
}

/// The slow path of [`Reader::read`], out of line so that the other stays a few instructions.
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
    // Dropped here, because a panic of a drop on return would leak `found`
    // (rust-lang/rust#47949).
    drop(entered);
    if let Err(TryRecvError::Closed | TryRecvError::Failed(_)) = found {
        // The reader may have been closed before the buffer ended: that takes precedence.
        drop(leashed.enter().map_err(TryRecvError::ForceClosed)?);
    }
    found
}

impl<T> Tenure<T> {
    /// Puts the cursor on a leash, unless it is on one.
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
