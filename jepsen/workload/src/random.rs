//! Random numbers that follow from a seed alone (splitmix64).

/// A generator; the same seed gives the same numbers.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Starts at `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next_u64() % limit
    }

    /// True once in so many, on average.
    pub fn chance(&mut self, once: u64, of: u64) -> bool {
        self.below(of) < once
    }

    /// One of these; `None` when there is none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        let len = u64::try_from(of.len()).ok().filter(|len| *len > 0)?;
        usize::try_from(self.below(len))
            .ok()
            .and_then(|at| of.get(at))
    }

    /// A generator of its own for a part of the run, so that parts do not disturb each other.
    #[must_use]
    pub fn fork(&mut self, label: u64) -> Random {
        Random::new(self.next_u64() ^ label.wrapping_mul(0xa076_1d64_78bd_642f))
    }
}
