//! [`Fitting`]: whether pieces of a log that were read one after the other may become one log.
//!
//! Where compaction has dropped a tombstone from a piece, no piece below it may have what the
//! tombstone deletes. That is certain if no tombstone at or above the piece's beginning was dropped
//! where it was read, or if all pieces up to it were read from one log that dropped none meanwhile.
//! Anything else has to be copied from the log start on, from one replica.

use storage::Offset;
use storage::partition_log::TombstoneView;

/// Bytes of an encoded one: what it was read from u8, number u64, gone below i64; big-endian.
pub(crate) const FITTING_BYTES: usize = 17;

/// What the pieces up to now were read from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum From {
    /// There are none yet.
    #[default]
    Nothing,
    /// One log, in which tombstones were dropped before the first of them was read, and none since.
    One(u64),
    /// Whatever.
    Any,
}

/// The pieces of one copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Fitting {
    from: From,
    gone_below: Offset,
}

/// A piece that does not fit those before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("compaction has dropped tombstones there that what was copied before may need")]
pub(crate) struct Unfit;

impl Fitting {
    /// Of pieces that follow something else.
    pub(crate) fn after_others() -> Fitting {
        Fitting {
            from: From::Any,
            gone_below: Offset(0),
        }
    }

    /// Takes the next piece, as its answer describes it.
    ///
    /// # Errors
    /// When it does not fit those before.
    pub(crate) fn take(&mut self, gone: Option<TombstoneView>) -> Result<(), Unfit> {
        self.from = match (gone, self.from) {
            (None, _) => From::Any,
            (Some(gone), From::Nothing) => From::One(gone.number),
            (Some(gone), From::One(number)) if gone.number == number => self.from,
            (Some(_), From::One(_) | From::Any) => return Err(Unfit),
        };
        let gone_below = gone.map_or(Offset(0), |gone| gone.gone_below);
        self.gone_below = self.gone_below.max(gone_below);
        Ok(())
    }

    /// As a checkpoint has it.
    pub(crate) fn to_bytes(self) -> [u8; FITTING_BYTES] {
        let (kind, number) = match self.from {
            From::Nothing => (0, 0),
            From::One(number) => (1, number),
            From::Any => (2, 0),
        };
        let mut bytes = [kind; FITTING_BYTES];
        bytes[1..9].copy_from_slice(&number.to_be_bytes());
        bytes[9..].copy_from_slice(&self.gone_below.0.to_be_bytes());
        bytes
    }

    /// Reads what [`Fitting::to_bytes`] wrote; `None` when it is anything else.
    pub(crate) fn from_bytes(bytes: [u8; FITTING_BYTES]) -> Option<Fitting> {
        let (kind, rest) = bytes.split_first()?;
        let (number, below) = rest.split_first_chunk()?;
        let from = match (kind, u64::from_be_bytes(*number)) {
            (0, 0) => From::Nothing,
            (1, number) => From::One(number),
            (2, 0) => From::Any,
            _ => return None,
        };
        let gone_below = Offset(i64::from_be_bytes(below.try_into().ok()?));
        Some(Fitting { from, gone_below })
    }

    /// No tombstone was dropped from here on in what was taken.
    pub(crate) fn gone_below(&self) -> Offset {
        self.gone_below
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn gone(gone_below: i64, number: u64) -> Option<TombstoneView> {
        Some(TombstoneView {
            gone_below: Offset(gone_below),
            number,
        })
    }

    #[test]
    fn pieces_of_one_log_that_drops_nothing_meanwhile_fit() {
        let mut fitting = Fitting::default();
        assert_eq!(fitting.take(gone(9, 1)), Ok(()));
        assert_eq!(fitting.take(gone(9, 1)), Ok(()));
        assert_eq!(fitting.gone_below(), Offset(9));
        assert_eq!(fitting.take(gone(12, 2)), Err(Unfit));
        assert_eq!(fitting.take(None), Ok(()), "nothing was dropped above");
        assert_eq!(fitting.take(gone(9, 1)), Err(Unfit), "not of one any more");
        assert_eq!(fitting.gone_below(), Offset(9));
    }

    #[test]
    fn after_something_else_nothing_may_have_been_dropped() {
        let mut fitting = Fitting::after_others();
        assert_eq!(fitting.take(gone(9, 1)), Err(Unfit));
        assert_eq!(fitting.take(None), Ok(()));
        assert_eq!(fitting.gone_below(), Offset(0));
    }

    /// A replica of a log of keys and tombstones, which cleans and drops them when it likes.
    #[derive(Clone)]
    struct Replica {
        /// Offsets, keys, and whether there is a value.
        records: Vec<(i64, u64, bool)>,
        view: TombstoneView,
    }

    impl Replica {
        /// Cleans everything below `upto`, and drops those tombstones that it likes.
        fn clean(&mut self, upto: i64, drops: impl Fn(i64) -> bool, number: u64) {
            let newest: BTreeMap<u64, i64> = self
                .records
                .iter()
                .filter(|(at, ..)| *at < upto)
                .map(|(at, key, _)| (*key, *at))
                .collect();
            let mut dropped = None;
            self.records.retain(|(at, key, has_value)| {
                if *at >= upto {
                    return true;
                }
                let is_dropped = newest[key] == *at && !has_value && drops(*at);
                dropped = dropped.max(is_dropped.then_some(*at));
                newest[key] == *at && !is_dropped
            });
            if let Some(at) = dropped {
                self.view.gone_below = self.view.gone_below.max(Offset(at + 1));
                self.view.number = number;
            }
        }
    }

    /// Copies piece after piece from replicas that go on cleaning, begins anew when a piece does
    /// not fit, and looks whether what is deleted stays so.
    #[test]
    fn nothing_that_was_deleted_comes_back_whatever_is_copied_from_whom() {
        let (mut refused, mut mixed) = (0, 0);
        for seed in 1..3_000_u64 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut random = move |below: u64| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 20) % below
            };
            let end = 40_i64;
            let log: Vec<(i64, u64, bool)> =
                (0..end).map(|at| (at, random(6), random(3) > 0)).collect();
            let last: BTreeMap<u64, (i64, bool)> = log
                .iter()
                .map(|(at, key, has_value)| (*key, (*at, *has_value)))
                .collect();
            let mut replicas: Vec<Replica> = (0..3)
                .map(|number| Replica {
                    records: log.clone(),
                    view: gone(0, number).unwrap(),
                })
                .collect();
            let mut number = 10;
            let mut source = 0;
            let (mut at, mut copy, mut fitting) = (0, Vec::new(), Fitting::default());
            let mut sources = 0;
            while at < end {
                for replica in &mut replicas {
                    if random(6) == 0 {
                        let drops = random(2) == 0;
                        number += 1;
                        let upto = i64::try_from(random(41)).unwrap();
                        replica.clean(upto, |_| drops, number);
                    }
                }
                if random(4) == 0 {
                    source = usize::try_from(random(3)).unwrap();
                    sources += 1;
                }
                let next = (at + 1 + i64::try_from(random(15)).unwrap()).min(end);
                let Replica { records, view } = &replicas[source];
                let view = (view.gone_below > Offset(at)).then_some(*view);
                if fitting.take(view).is_err() {
                    refused += 1;
                    (at, copy, fitting) = (0, Vec::new(), Fitting::default());
                    sources = 0;
                    continue;
                }
                let piece = records.iter().filter(|(one, ..)| (at..next).contains(one));
                copy.extend(piece.copied());
                at = next;
            }
            mixed += u64::from(sources > 0);
            let found: BTreeMap<u64, (i64, bool)> = copy
                .iter()
                .map(|(at, key, has_value)| (*key, (*at, *has_value)))
                .collect();
            for (key, (at, has_value)) in last {
                match found.get(&key) {
                    Some(one) => assert_eq!(*one, (at, has_value), "seed {seed}: key {key}"),
                    None => assert!(!has_value, "seed {seed}: key {key} is lost"),
                }
            }
        }
        assert!(refused > 100 && mixed > 100, "{refused} {mixed}");
    }
}
