//! [`Epochs`]: which leader epoch wrote which offsets (KIP-320, Kafka's leader epoch cache).

use crate::{LeaderEpoch, Offset};

/// Epochs with the first offset of each; both rise strictly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Epochs {
    entries: Vec<(LeaderEpoch, Offset)>,
}

impl Epochs {
    pub(crate) fn new(entries: Vec<(LeaderEpoch, Offset)>) -> Epochs {
        Epochs { entries }
    }

    /// The epochs of a log whose beginning is `older`'s and whose rest is `newer`'s, which knows
    /// no more of the beginning.
    pub(crate) fn joined(
        older: &[(LeaderEpoch, Offset)],
        newer: &[(LeaderEpoch, Offset)],
    ) -> Epochs {
        let from = newer.first().map_or(Offset(i64::MAX), |(_, first)| *first);
        let mut entries: Vec<_> = older
            .iter()
            .copied()
            .filter(|(_, first)| *first < from)
            .collect();
        for (epoch, first) in newer {
            if entries.last().is_none_or(|(latest, _)| latest != epoch) {
                entries.push((*epoch, *first));
            }
        }
        Epochs { entries }
    }

    pub(crate) fn entries(&self) -> &[(LeaderEpoch, Offset)] {
        &self.entries
    }

    /// Notes that `epoch` appends at `offset`. Panics when the epoch falls.
    pub(crate) fn note(&mut self, epoch: LeaderEpoch, offset: Offset) {
        if let Some((latest, first)) = self.entries.last().copied() {
            assert!(
                epoch >= latest,
                "leader epoch fell from {latest} to {epoch}"
            );
            if epoch == latest {
                return;
            }
            if first == offset {
                self.entries.pop();
            }
        }
        self.entries.push((epoch, offset));
    }

    /// Epoch of `offset`, which must lie below the log's end.
    pub(crate) fn at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self.entries.partition_point(|(_, first)| *first <= offset);
        Some(self.entries.get(after.checked_sub(1)?)?.0)
    }

    pub(crate) fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|(epoch, _)| *epoch)
    }

    /// The largest epoch not above `epoch`, and where it ends in a log that ends at `log_end`.
    pub(crate) fn end_of(
        &self,
        epoch: LeaderEpoch,
        log_end: Offset,
    ) -> Option<(LeaderEpoch, Offset)> {
        let after = self.entries.partition_point(|(known, _)| *known <= epoch);
        let (known, _) = self.entries.get(after.checked_sub(1)?)?;
        Some((
            *known,
            self.entries.get(after).map_or(log_end, |(_, first)| *first),
        ))
    }

    /// Forgets epochs that end at or below `base`; the one that covers `base` then begins there
    /// at the earliest. The latest epoch is never forgotten.
    pub(crate) fn raise_start(&mut self, base: Offset) {
        let covering = self.entries.partition_point(|(_, first)| *first <= base);
        if let Some(covering) = covering.checked_sub(1) {
            self.entries.drain(..covering);
            self.entries[0].1 = base;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs() -> Epochs {
        Epochs::new(vec![
            (LeaderEpoch(1), Offset(0)),
            (LeaderEpoch(4), Offset(10)),
            (LeaderEpoch(5), Offset(20)),
        ])
    }

    #[test]
    fn an_offset_belongs_to_the_epoch_that_wrote_it() {
        assert_eq!(epochs().at(Offset(0)), Some(LeaderEpoch(1)));
        assert_eq!(epochs().at(Offset(19)), Some(LeaderEpoch(4)));
        assert_eq!(epochs().at(Offset(99)), Some(LeaderEpoch(5)));
        assert_eq!(Epochs::default().at(Offset(0)), None);
    }

    #[test]
    fn the_end_of_an_epoch_is_the_start_of_the_next() {
        let end_of = |epoch| epochs().end_of(LeaderEpoch(epoch), Offset(30));
        assert_eq!(end_of(0), None);
        assert_eq!(end_of(1), Some((LeaderEpoch(1), Offset(10))));
        assert_eq!(end_of(3), Some((LeaderEpoch(1), Offset(10))));
        assert_eq!(end_of(4), Some((LeaderEpoch(4), Offset(20))));
        assert_eq!(end_of(9), Some((LeaderEpoch(5), Offset(30))));
    }

    #[test]
    fn raising_the_start_keeps_the_epoch_that_covers_it() {
        let mut raised = epochs();
        raised.raise_start(Offset(15));
        assert_eq!(raised.entries()[0], (LeaderEpoch(4), Offset(15)));
        raised.raise_start(Offset(30));
        assert_eq!(raised.entries(), [(LeaderEpoch(5), Offset(30))]);
        raised.note(LeaderEpoch(6), Offset(30));
        assert_eq!(raised.entries(), [(LeaderEpoch(6), Offset(30))]);
    }

    #[test]
    #[should_panic(expected = "leader epoch fell")]
    fn a_falling_epoch_is_a_bug() {
        epochs().note(LeaderEpoch(4), Offset(30));
    }
}
