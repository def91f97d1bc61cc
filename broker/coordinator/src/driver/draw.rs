//! Drawn numbers, the same for the same seed.

use std::ops::Range;

/// A generator of numbers (SplitMix64).
#[derive(Debug, Clone)]
pub struct Draw {
    state: u64,
}

impl Draw {
    /// The numbers of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number of the range, or its start when it is empty.
    pub fn below(&mut self, range: Range<u64>) -> u64 {
        let len = range.end.saturating_sub(range.start).max(1);
        range.start + self.next() % len
    }

    /// True once in so many times.
    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(0..times) == 0
    }

    /// One of these.
    ///
    /// # Panics
    /// When there are none.
    pub fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        let len = u64::try_from(all.len()).expect("a slice in memory");
        let index = usize::try_from(self.below(0..len)).expect("below a length");
        &all[index]
    }
}
