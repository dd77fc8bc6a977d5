//! What each row is to reach.

/// What one of our variants is to reach in a row.
#[derive(Clone, Copy)]
pub enum Target {
    /// At most this ratio to the best peer of the row.
    OfBest(f64),
    /// At most this ratio to a certain peer.
    Of(&'static str, f64),
    /// At most this figure.
    AtMost(f64),
    /// At most this figure, or that of a bound which is measured beside.
    AtMostOr(f64, &'static str),
}
