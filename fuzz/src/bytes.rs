//! Decisions made from bytes.

/// Reads decisions from an input. Any number is valid: it is taken modulo the number of choices.
pub(crate) struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    /// The next byte, or `None` at the end of the input.
    pub(crate) fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// The next byte; zero at the end of the input.
    pub(crate) fn byte(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    pub(crate) fn number(&mut self) -> usize {
        self.byte().into()
    }
}

/// The element of `all` that `n` chooses.
pub(crate) fn pick<T>(all: &mut [T], n: u8) -> Option<&mut T> {
    let n = usize::from(n).checked_rem(all.len())?;
    all.get_mut(n)
}

/// Removes the element of `all` that `n` chooses.
pub(crate) fn take<T>(all: &mut Vec<T>, n: u8) -> Option<T> {
    let n = usize::from(n).checked_rem(all.len())?;
    Some(all.swap_remove(n))
}
