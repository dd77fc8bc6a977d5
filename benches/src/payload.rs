//! The published events.

use std::sync::Arc;

/// A measured type of events.
pub trait Payload: Clone + Send + Sync + Unpin + 'static {
    const NAME: &'static str;
    fn make(number: u64) -> Self;

    /// Reads the whole event.
    fn read(&self) -> u64;
}

impl Payload for u64 {
    const NAME: &'static str = "u64";

    fn make(number: u64) -> Self {
        number
    }

    #[inline]
    fn read(&self) -> u64 {
        *self
    }
}

/// A plain struct of 256 bytes.
#[derive(Clone)]
pub struct Wide([u64; 32]);

impl Payload for Wide {
    const NAME: &'static str = "256 bytes";

    fn make(number: u64) -> Self {
        Self([number; 32])
    }

    #[inline]
    fn read(&self) -> u64 {
        self.0.iter().fold(0, |all, word| all ^ word)
    }
}

impl Payload for String {
    const NAME: &'static str = "String";

    fn make(number: u64) -> Self {
        format!("an event as text, number {number:>8}")
    }

    #[inline]
    fn read(&self) -> u64 {
        bytes(self.as_bytes())
    }
}

impl Payload for Arc<[u8]> {
    const NAME: &'static str = "Arc<[u8]>";

    fn make(number: u64) -> Self {
        Self::from([number as u8; 64])
    }

    #[inline]
    fn read(&self) -> u64 {
        bytes(self)
    }
}

#[inline]
fn bytes(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |all, byte| all ^ u64::from(*byte))
}
