//! [`Ranges`]: a set of bytes of a file, in whole sectors.

use std::collections::BTreeMap;

use crate::SECTOR_BYTES;

/// Half-open ranges that neither touch nor overlap, by their start; widened to whole sectors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges {
    by_start: BTreeMap<u64, u64>,
}

impl Ranges {
    /// No byte.
    #[must_use]
    pub const fn new() -> Ranges {
        Ranges {
            by_start: BTreeMap::new(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_start.is_empty()
    }

    /// Start and end of each, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.by_start.iter().map(|(start, end)| (*start, *end))
    }

    /// Adds the sectors of `start..end`.
    pub fn add(&mut self, start: u64, end: u64) {
        let Some((mut start, mut end)) = whole_sectors(start, end) else {
            return;
        };
        while let Some((s, e)) = self.last_touching(start, end) {
            self.by_start.remove(&s);
            start = start.min(s);
            end = end.max(e);
        }
        self.by_start.insert(start, end);
    }

    /// Adds all of `others`.
    pub fn add_all(&mut self, others: &Ranges) {
        for (start, end) in others.iter() {
            self.add(start, end);
        }
    }

    /// Takes the sectors of `start..end` out; whether any was in.
    pub fn remove(&mut self, start: u64, end: u64) -> bool {
        let Some((start, end)) = whole_sectors(start, end) else {
            return false;
        };
        let mut was_in = false;
        while let Some((s, e)) = self.last_overlapping(start, end) {
            was_in = true;
            self.by_start.remove(&s);
            if s < start {
                self.by_start.insert(s, start);
            }
            if e > end {
                self.by_start.insert(end, e);
            }
        }
        was_in
    }

    fn last_touching(&self, start: u64, end: u64) -> Option<(u64, u64)> {
        let (s, e) = self.by_start.range(..=end).next_back()?;
        (*e >= start).then_some((*s, *e))
    }

    fn last_overlapping(&self, start: u64, end: u64) -> Option<(u64, u64)> {
        let (s, e) = self.by_start.range(..end).next_back()?;
        (*e > start).then_some((*s, *e))
    }
}

fn whole_sectors(start: u64, end: u64) -> Option<(u64, u64)> {
    (start < end).then(|| {
        (
            start / SECTOR_BYTES * SECTOR_BYTES,
            end.div_ceil(SECTOR_BYTES).saturating_mul(SECTOR_BYTES),
        )
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_are_a_set_of_sectors(
            steps in prop::collection::vec((any::<bool>(), 0u64..20_000, 0u64..6000), 1..60),
        ) {
            let (mut ranges, mut model) = (Ranges::new(), BTreeSet::new());
            for (adds, start, len) in steps {
                let end = start + len;
                let sectors = if len == 0 { 0..0 } else { start / 512..end.div_ceil(512) };
                if adds {
                    ranges.add(start, end);
                    model.extend(sectors);
                } else {
                    let was_in = sectors.clone().any(|sector| model.contains(&sector));
                    prop_assert_eq!(ranges.remove(start, end), was_in);
                    for sector in sectors {
                        model.remove(&sector);
                    }
                }
                let seen: BTreeSet<u64> = ranges.iter().flat_map(|(s, e)| s / 512..e / 512).collect();
                prop_assert_eq!(&seen, &model);
                let parts: Vec<_> = ranges.iter().collect();
                prop_assert!(parts.windows(2).all(|pair| pair[0].1 < pair[1].0));
            }
        }
    }
}
