//! What is published.

use std::sync::Arc;

/// An event of one of the measured kinds.
pub trait Payload: Clone + Send + Sync + Unpin + 'static {
    const NAME: &'static str;
    /// A clone of it calls the allocator.
    const ALLOCATES_ON_CLONE: bool = false;

    fn make(number: u64) -> Self;
}

impl Payload for u64 {
    const NAME: &'static str = "u64";

    fn make(number: u64) -> Self {
        number
    }
}

/// A plain struct of 256 bytes.
#[derive(Clone)]
pub struct Wide(#[expect(dead_code, reason = "is only carried")] [u64; 32]);

impl Payload for Wide {
    const NAME: &'static str = "256 bytes";

    fn make(number: u64) -> Self {
        Self([number; 32])
    }
}

impl Payload for String {
    const NAME: &'static str = "String";
    const ALLOCATES_ON_CLONE: bool = true;

    fn make(number: u64) -> Self {
        format!("an event as text, number {number:>8}")
    }
}

impl Payload for Arc<[u8]> {
    const NAME: &'static str = "Arc<[u8]>";

    fn make(number: u64) -> Self {
        Self::from([number as u8; 64])
    }
}
