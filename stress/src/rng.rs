//! The random numbers that a plan is made from.

/// splitmix64 (Steele, Lea, Flood 2014): adds a constant to the state, and mixes it for the output.
pub(crate) struct Rng(u64);

impl Rng {
    /// Equal arguments give equal choices.
    pub(crate) fn new(seed: u64, round: u64) -> Self {
        Self(mix(seed ^ mix(round)))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number below `n`, with a bias that does not matter here.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a usize")
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.index(of.len())]
    }

    /// A separate generator for another thread or task, so that its pace does not affect our
    /// choices.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.next())
    }
}

pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
