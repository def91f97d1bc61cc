//! Whether what was read is what was written: nothing lost, doubled, out of order or damaged.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use crate::stamp::Stamp;

/// Most gaps that are remembered of one generator in one partition; those beyond count as lost.
const GAPS_MAX: usize = 65_536;

/// What is wrong with the records of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// Acknowledged and not there.
    pub lost: u64,
    /// There once more.
    pub duplicates: u64,
    /// There behind later ones.
    pub disordered: u64,
    /// Not as they were written, or in another partition, or never written by this generator.
    pub damaged: u64,
}

impl Faults {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        *self == Faults::default()
    }

    /// Adds those of another partition.
    pub fn add(&mut self, other: Faults) {
        self.lost += other.lost;
        self.duplicates += other.duplicates;
        self.disordered += other.disordered;
        self.damaged += other.damaged;
    }
}

/// What one generator has sent to one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sent {
    /// Sequences below this were sent,
    pub count: u64,
    /// and these were not acknowledged: they may be there or not.
    pub unacknowledged: Vec<Range<u64>>,
}

/// The checks of one partition, fed with its records in the order of their offsets.
#[derive(Debug)]
pub struct PartitionCheck {
    partition: i32,
    generators: HashMap<u64, Seen>,
    faults: Faults,
}

#[derive(Debug, Default)]
struct Seen {
    // One above the greatest sequence.
    next: u64,
    // Those below it that were not seen, from the key to below the value.
    gaps: BTreeMap<u64, u64>,
}

impl Seen {
    /// How many different ones were there.
    fn records(&self) -> u64 {
        let gaps = self.gaps.iter().map(|(from, to)| to - from);
        self.next - gaps.sum::<u64>().min(self.next)
    }
}

impl PartitionCheck {
    /// Of this partition.
    #[must_use]
    pub fn new(partition: i32) -> PartitionCheck {
        PartitionCheck {
            partition,
            generators: HashMap::new(),
            faults: Faults::default(),
        }
    }

    /// The partition.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// Takes the next record's value; its stamp, when it is sound.
    pub fn record(&mut self, value: &[u8]) -> Option<Stamp> {
        let stamp = Stamp::read(value).filter(|stamp| stamp.partition == self.partition);
        match &stamp {
            Some(stamp) => self.place(stamp),
            None => self.faults.damaged += 1,
        }
        stamp
    }

    fn place(&mut self, stamp: &Stamp) {
        let seen = self.generators.entry(stamp.generator).or_default();
        let sequence = stamp.sequence;
        if sequence >= seen.next {
            if sequence > seen.next {
                if seen.gaps.len() < GAPS_MAX {
                    seen.gaps.insert(seen.next, sequence);
                } else {
                    self.faults.lost += sequence - seen.next;
                }
            }
            seen.next = sequence + 1;
            return;
        }
        let gap = seen.gaps.range(..=sequence).next_back();
        match gap.map(|(from, to)| (*from, *to)) {
            Some((from, to)) if sequence < to => {
                seen.gaps.remove(&from);
                if from < sequence {
                    seen.gaps.insert(from, sequence);
                }
                if sequence + 1 < to {
                    seen.gaps.insert(sequence + 1, to);
                }
                self.faults.disordered += 1;
            }
            _ => self.faults.duplicates += 1,
        }
    }

    /// What is wrong, when this is all that these generators have sent to the partition.
    #[must_use]
    pub fn finish(mut self, sent: &HashMap<u64, Sent>) -> Faults {
        for (generator, sent) in sent {
            let seen = self.generators.remove(generator).unwrap_or_default();
            let tail = seen.next..sent.count.max(seen.next);
            let gaps = seen.gaps.into_iter().map(|(from, to)| from..to);
            for gap in gaps.chain([tail]) {
                self.faults.lost += acknowledged(&gap, &sent.unacknowledged);
            }
            // It cannot have sent those.
            self.faults.damaged += seen.next.saturating_sub(sent.count);
        }
        // Others that wrote meanwhile: the run was not alone.
        let others = self.generators.values().map(Seen::records);
        self.faults.damaged += others.sum::<u64>();
        self.faults
    }

    /// What is wrong, when it is not known what was sent: what follows the last record of a
    /// generator cannot be missed, nor what came before the first one where the log was `trimmed`.
    #[must_use]
    pub fn finish_unknown(self, trimmed: bool) -> Faults {
        let mut faults = self.faults;
        let gaps = self.generators.values().flat_map(|seen| &seen.gaps);
        let counted = gaps.filter(|(from, _)| !trimmed || **from > 0);
        faults.lost += counted.map(|(from, to)| to - from).sum::<u64>();
        faults
    }
}

/// How many of a gap were acknowledged.
fn acknowledged(gap: &Range<u64>, unacknowledged: &[Range<u64>]) -> u64 {
    let common = |range: &Range<u64>| {
        let (from, to) = (range.start.max(gap.start), range.end.min(gap.end));
        to.saturating_sub(from)
    };
    let excused: u64 = unacknowledged.iter().map(common).sum();
    (gap.end - gap.start).saturating_sub(excused)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GENERATOR: u64 = 11;

    fn value(partition: i32, sequence: u64) -> Vec<u8> {
        let mut value = vec![7; 64];
        let stamp = Stamp {
            generator: GENERATOR,
            sequence,
            due_us: 0,
            partition,
        };
        stamp.write(&mut value);
        value
    }

    fn check_of(sequences: &[u64]) -> PartitionCheck {
        let mut check = PartitionCheck::new(2);
        for sequence in sequences {
            assert!(check.record(&value(2, *sequence)).is_some());
        }
        check
    }

    fn faults(sequences: &[u64], count: u64) -> Faults {
        let sent = Sent {
            count,
            unacknowledged: Vec::new(),
        };
        check_of(sequences).finish(&HashMap::from([(GENERATOR, sent)]))
    }

    #[test]
    fn all_once_and_in_order_is_clean() {
        assert!(faults(&[0, 1, 2, 3], 4).is_clean());
        assert!(faults(&[], 0).is_clean());
    }

    #[test]
    fn loss_is_found_in_the_middle_and_at_both_ends() {
        for sequences in [&[1, 2, 3][..], &[0, 1, 3], &[0, 1, 2]] {
            let lost = Faults {
                lost: 1,
                ..Faults::default()
            };
            assert_eq!(faults(sequences, 4), lost, "{sequences:?}");
        }
        assert_eq!(faults(&[], 4).lost, 4);
        assert_eq!(check_of(&[0, 3]).finish_unknown(false).lost, 2);
        assert_eq!(check_of(&[5, 7]).finish_unknown(false).lost, 6);
        assert_eq!(check_of(&[5, 7]).finish_unknown(true).lost, 1);
    }

    #[test]
    fn what_was_never_acknowledged_is_not_lost() {
        let sent = Sent {
            count: 10,
            unacknowledged: vec![4..6, 8..10],
        };
        let sent = HashMap::from([(GENERATOR, sent)]);
        assert!(check_of(&[0, 1, 2, 3, 6, 7]).finish(&sent).is_clean());
        assert_eq!(check_of(&[0, 1, 2, 3, 7, 8]).finish(&sent).lost, 1);
    }

    #[test]
    fn duplicates_are_found() {
        let duplicates = |count| Faults {
            duplicates: count,
            ..Faults::default()
        };
        assert_eq!(faults(&[0, 1, 1, 2], 3), duplicates(1));
        assert_eq!(faults(&[0, 1, 2, 0, 1, 2], 3), duplicates(3));
    }

    #[test]
    fn disorder_is_found_and_is_neither_loss_nor_a_duplicate() {
        let disordered = |count| Faults {
            disordered: count,
            ..Faults::default()
        };
        assert_eq!(faults(&[0, 2, 1, 3], 4), disordered(1));
        assert_eq!(faults(&[3, 1, 0, 2], 4), disordered(3));
    }

    #[test]
    fn damage_is_found_as_are_records_of_others_and_of_other_partitions() {
        let mut check = PartitionCheck::new(2);
        let mut damaged = value(2, 0);
        damaged[50] ^= 1;
        assert_eq!(check.record(&damaged), None);
        assert_eq!(check.record(&value(3, 0)), None);
        assert_eq!(check.record(b"hello"), None);
        assert!(check.record(&value(2, 0)).is_some());
        let faults = check.finish(&HashMap::new());
        // Three that are no records of this partition, and one of a generator not known.
        assert_eq!((faults.damaged, faults.lost), (4, 0));
        assert_eq!(faults_beyond(), 2);
    }

    fn faults_beyond() -> u64 {
        faults(&[0, 1, 2, 3], 2).damaged
    }
}
