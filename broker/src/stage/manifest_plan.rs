//! What a checkpoint's manifest asks of this replica, partition by partition: pure decisions.

use storage::partition_log::LogState;
use storage::{LogId, Offset, PartitionId};

use crate::partition::manifest::PartitionState;

/// One partition of an offered manifest beside what is here.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// As the source describes it.
    pub(super) target: PartitionState,
    /// What is here and stays: `None` when nothing is, or when all of it has been deleted since.
    pub(super) local: Option<LogState>,
    /// Where the log will start: where it does on the source, or here if that is higher. A log
    /// start never falls.
    pub(super) start: Offset,
}

/// Why an offer is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outdated {
    /// This replica has more of a partition than the manifest says.
    Ahead(PartitionId),
}

impl Wanted {
    /// Compares; `local` is a committed prefix of the same log.
    pub(super) fn new(target: PartitionState, local: Option<LogState>) -> Result<Wanted, Outdated> {
        if let Some(local) = &local
            && local.end > target.log.end
        {
            return Err(Outdated::Ahead(target.id));
        }
        let is_of_use = |local: &LogState| {
            // Where a tombstone was dropped of what is missing here, its record may still be in the
            // local log: then all of it is copied.
            let end = local.end;
            !local.segments.is_empty()
                && end >= target.log.start
                && !is_empty(&target.log)
                && (end >= target.log.tombstones_gone_below || end >= target.log.end)
        };
        let here = local.as_ref().map(|local| local.start);
        Ok(Wanted {
            start: here.map_or(target.log.start, |here| here.max(target.log.start)),
            local: local.filter(is_of_use),
            target,
        })
    }

    pub(super) fn id(&self) -> PartitionId {
        self.target.id
    }

    pub(super) fn log_id(&self) -> LogId {
        self.target.log_id()
    }

    /// Where the local log ends that a copy goes on from.
    pub(super) fn local_end(&self) -> Option<Offset> {
        self.local.as_ref().map(|local| local.end)
    }

    /// Whether anything has to be copied.
    pub(super) fn lacks_data(&self) -> bool {
        !is_empty(&self.target.log) && self.local_end() != Some(self.target.log.end)
    }

    /// About how many bytes are missing; right to within one segment's index.
    pub(super) fn missing_bytes(&self) -> u64 {
        let from = self.local_end().unwrap_or(self.target.log.start);
        let above = |segment: &storage::partition_log::SegmentState| {
            if segment.base >= from {
                return segment.bytes;
            }
            if segment.end <= from {
                return 0;
            }
            let part = u128::from(offsets(from, segment.end));
            let whole = u128::from(offsets(segment.base, segment.end).max(1));
            u64::try_from(u128::from(segment.bytes) * part / whole).unwrap_or(u64::MAX)
        };
        self.target.log.segments.iter().map(above).sum()
    }
}

fn is_empty(log: &LogState) -> bool {
    log.start == log.end
}

fn offsets(from: Offset, to: Offset) -> u64 {
    u64::try_from(to.0.saturating_sub(from.0)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use storage::partition_log::SegmentState;
    use storage::{LeaderEpoch, TopicId};

    use super::*;
    use crate::partition::manifest::Stand;
    use crate::partition::producers::Producers;
    use crate::stage::fitting::Fitting;

    fn log(start: i64, end: i64) -> LogState {
        if start == end {
            return LogState::empty(Offset(end));
        }
        LogState {
            start: Offset(start),
            end: Offset(end),
            segments: vec![SegmentState {
                base: Offset(start),
                end: Offset(end),
                bytes: u64::try_from((end - start) * 100).unwrap(),
                max_timestamp: 0,
                created_ms: 0,
                digest: None,
                staged: None,
                version: 0,
                cleaned: false,
            }],
            epochs: vec![(LeaderEpoch(0), Offset(start))],
            tombstones_gone_below: Offset(0),
        }
    }

    fn wanted(target: LogState, local: Option<LogState>) -> Result<Wanted, Outdated> {
        let id = PartitionId {
            topic: TopicId([1; 16]),
            index: 0,
        };
        let target = PartitionState {
            id,
            generation: 0,
            stand: Stand::Serving,
            barred: 0,
            filled: Fitting::default(),
            epoch_base: 0,
            log: target,
            producers: Producers::default(),
        };
        Wanted::new(target, local)
    }

    fn missing(target: LogState, local: Option<LogState>) -> (Option<i64>, bool, u64) {
        let wanted = wanted(target, local).unwrap();
        let end = wanted.local_end().map(|end| end.0);
        (end, wanted.lacks_data(), wanted.missing_bytes())
    }

    #[test]
    fn only_what_lies_above_the_local_end_is_missing() {
        assert_eq!(missing(log(0, 10), None), (None, true, 1_000));
        let local = |start, end| Some(log(start, end));
        assert_eq!(missing(log(0, 10), local(0, 4)), (Some(4), true, 600));
        assert_eq!(missing(log(0, 10), local(0, 10)), (Some(10), false, 0));
        assert_eq!(missing(log(3, 10), local(0, 3)), (Some(3), true, 700));
    }

    #[test]
    fn a_local_log_that_was_deleted_meanwhile_is_of_no_use() {
        let old = Some(log(0, 4));
        assert_eq!(missing(log(5, 10), old.clone()), (None, true, 500));
        assert_eq!(missing(log(10, 10), old), (None, false, 0));
        let empty = Some(log(3, 3));
        assert_eq!(missing(log(3, 10), empty), (None, true, 700));
    }

    #[test]
    fn a_log_that_lacks_a_tombstone_that_was_dropped_is_copied_whole() {
        let mut target = log(0, 10);
        target.segments[0].cleaned = true;
        target.tombstones_gone_below = Offset(4);
        assert_eq!(
            missing(target.clone(), Some(log(0, 4))),
            (Some(4), true, 600),
            "it had that one"
        );
        target.tombstones_gone_below = Offset(5);
        assert_eq!(
            missing(target.clone(), Some(log(0, 4))),
            (None, true, 1_000)
        );
        assert_eq!(missing(target, Some(log(0, 10))), (Some(10), false, 0));
    }

    #[test]
    fn a_log_start_never_falls() {
        let start = |target, local| wanted(target, local).unwrap().start;
        assert_eq!(start(log(2, 10), None), Offset(2));
        assert_eq!(start(log(2, 10), Some(log(1, 4))), Offset(2));
        assert_eq!(start(log(2, 10), Some(log(3, 4))), Offset(3));
        let emptied = Some(log(4, 4));
        assert_eq!(
            start(log(2, 10), emptied),
            Offset(4),
            "though nothing is of use"
        );
    }

    #[test]
    fn an_offer_older_than_the_local_log_is_refused() {
        assert!(wanted(log(0, 10), Some(log(0, 11))).is_err());
    }
}
