//! Converts the library's errors to those of the model.

use event_buffer::{
    LagExceeded, RecvError, RecvTimeoutError, SharedError, SpliceCycle, TryRecvError,
};

use super::model::{Failure, Nothing};
use super::writer::Number;

fn failure(error: &SharedError) -> Failure {
    match error.downcast_ref::<Number>() {
        Some(Number(n)) => Failure::Number(*n),
        None => {
            assert!(error.downcast_ref::<SpliceCycle>().is_some());
            Failure::Cycle
        }
    }
}

fn force_closed(reason: &SharedError) -> Nothing {
    if let Some(lag) = reason.downcast_ref::<LagExceeded>() {
        return Nothing::LagExceeded(lag.items);
    }
    match failure(reason) {
        Failure::Number(n) => Nothing::ForceClosed(n),
        Failure::Cycle => panic!("not a reason of a close"),
    }
}

impl From<TryRecvError> for Nothing {
    fn from(error: TryRecvError) -> Self {
        let is_final = error.is_final();
        let nothing = match error {
            TryRecvError::Empty => Self::Empty,
            TryRecvError::Closed => Self::Closed,
            TryRecvError::Failed(error) => Self::Failed(failure(&error)),
            TryRecvError::ForceClosed(error) => force_closed(&error),
            TryRecvError::Lagged(items) => Self::Lagged(items),
            other => panic!("unexpected: {other}"),
        };
        assert_eq!(is_final, nothing.is_final());
        nothing
    }
}

impl From<RecvError> for Nothing {
    fn from(error: RecvError) -> Self {
        assert_eq!(error.is_final(), !matches!(error, RecvError::Lagged(_)));
        TryRecvError::from(error).into()
    }
}

impl From<RecvTimeoutError> for Nothing {
    fn from(error: RecvTimeoutError) -> Self {
        let is_final = error.is_final();
        let nothing = match error {
            RecvTimeoutError::Timeout => Self::Empty,
            RecvTimeoutError::Closed => Self::Closed,
            RecvTimeoutError::Failed(error) => Self::Failed(failure(&error)),
            RecvTimeoutError::ForceClosed(error) => force_closed(&error),
            RecvTimeoutError::Lagged(items) => Self::Lagged(items),
            other => panic!("unexpected: {other}"),
        };
        assert_eq!(is_final, nothing.is_final());
        nothing
    }
}
