//! The sizes at which tables shrink and long work is split.

/// A table with more capacity than this is shrunk or freed when few items are left.
pub(super) const CROWD: usize = 64;

/// The number of entries or watches that are handled before the lock is released (invariant 7).
pub(super) const STEP: usize = 512;
