//! What of a partition is to be cleaned, and when: pure decisions, as Kafka's `LogCleanerManager`
//! makes them.

use storage::Offset;
use storage::partition_log::SegmentInfo;

use crate::TopicConfig;
use crate::upkeep::newest_ms;

/// What a cleaning does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Below this each key has one record at most.
    pub(crate) dirty_from: Offset,
    /// Up to here, where a sealed segment ends, it will be so afterwards.
    pub(crate) upto: Offset,
    /// Part of the log that is dirty and may be cleaned, in millionths.
    pub(crate) dirty_millionths: u64,
    /// Bytes up to `upto`.
    pub(crate) bytes: u64,
    /// Bytes that are dirty and may be cleaned, all of them.
    pub(crate) dirty_bytes: u64,
    /// Bytes that are clean.
    pub(crate) clean_bytes: u64,
    /// Whether they go beyond `upto`, and are for the next time.
    pub(crate) has_more: bool,
}

/// What is always taken at once, if it is there, or half as much as is clean.
pub(crate) const ROUND_BYTES_MIN: u64 = 32 << 20;
/// The least rate of a cleaning is at most so many times what it is for a log that is half clean.
const URGENCY_MAX: f64 = 32.0;

impl Plan {
    /// How much faster than it must go in any case the cleaning must go, whoever notices it: as the
    /// square of how many times what is clean has become dirty. So what is written faster than it
    /// is cleaned cannot pile up without bound, and that holds from the first moment of a process.
    pub(crate) fn urgency(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "bytes of a log: below 2^52")]
        let times = self.dirty_bytes as f64 / self.clean_bytes.max(ROUND_BYTES_MIN) as f64;
        (times * times).clamp(1.0, URGENCY_MAX)
    }
}

/// What is to be cleaned now, if anything: about as much as `round_bytes` of what is dirty. A
/// cleaning shall come to its end soon, whatever has piled up, so that what it came to outlives the
/// process; but each goes through all that is clean, so that few of them are less work than many.
pub(crate) fn plan(
    config: &TopicConfig,
    segments: &[SegmentInfo],
    now_ms: i64,
    round_bytes: u64,
) -> Option<Plan> {
    if !config.cleanup.compacts {
        return None;
    }
    let clean = segments.iter().take_while(|one| one.cleaned).count();
    let first_dirty = segments.get(clean)?;
    let is_old_enough = |at: &usize| {
        let newest = newest_ms(segments, *at).unwrap_or(i64::MAX);
        config.min_compaction_lag_ms == 0
            || newest <= now_ms.saturating_sub(config.min_compaction_lag_ms)
    };
    let is_there = |at: &usize| segments[*at].sealed && segments[*at].written;
    let may_be = (clean..segments.len()).take_while(is_there);
    let cleanable = may_be.take_while(is_old_enough).count();
    let cleanable = segments.get(clean..clean + cleanable)?;
    let sum = |some: &[SegmentInfo]| some.iter().map(|one| one.bytes).sum::<u64>();
    let clean_bytes = sum(&segments[..clean]);
    let dirty_bytes = sum(cleanable);
    let all_bytes = clean_bytes.saturating_add(dirty_bytes);
    let mut left = round_bytes.max(ROUND_BYTES_MIN).max(clean_bytes / 2);
    let fits = |one: &&SegmentInfo| {
        let fits = left > 0;
        left = left.saturating_sub(one.bytes);
        fits
    };
    let taken = cleanable.iter().take_while(fits).count();
    let round = &cleanable[..taken];
    let millionths = u128::from(dirty_bytes) * 1_000_000 / u128::from(all_bytes.max(1));
    let dirty_millionths = u64::try_from(millionths).unwrap_or(1_000_000);
    let waited_ms = now_ms.saturating_sub(first_dirty.created_ms);
    let is_overdue = waited_ms > config.max_compaction_lag_ms;
    let is_worth_it = dirty_millionths > u64::from(config.min_dirty_millionths);
    (is_worth_it || is_overdue).then_some(Plan {
        dirty_from: first_dirty.base,
        upto: round.last()?.end,
        dirty_millionths,
        bytes: clean_bytes.saturating_add(sum(round)),
        dirty_bytes,
        clean_bytes,
        has_more: taken < cleanable.len(),
    })
}

/// Runs of segments that become one each, if what is left of them fits; those below `upto`. One
/// that goes on beyond it stays alone.
pub(crate) fn groups(
    segments: &[SegmentInfo],
    upto: Offset,
    segment_bytes: u64,
) -> Vec<(Offset, Offset)> {
    let mut groups: Vec<(Offset, Offset)> = Vec::new();
    let mut bytes = 0;
    for segment in segments.iter().take_while(|one| one.base < upto) {
        let joined = bytes + segment.bytes;
        let fits = |group: &(Offset, Offset)| {
            let offsets = segment.end.0 - group.0.0;
            joined <= segment_bytes && offsets <= i64::from(i32::MAX) && segment.end <= upto
        };
        match groups.last_mut().filter(|group| fits(group)) {
            Some(group) => {
                group.1 = segment.end;
                bytes = joined;
            }
            None => {
                groups.push((segment.base, segment.end));
                bytes = segment.bytes;
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic_config::CleanupPolicy;

    /// Five segments of 100 bytes, a second apart; the first two are clean, the last is open.
    fn segments() -> Vec<SegmentInfo> {
        let segment = |n: i64| SegmentInfo {
            base: Offset(n * 10),
            end: Offset(n * 10 + 10),
            bytes: 100,
            max_timestamp: n * 1_000,
            created_ms: n * 1_000,
            sealed: n < 4,
            written: true,
            compacted: n < 2,
            cleaned: n < 2,
        };
        (0..5).map(segment).collect()
    }

    fn config() -> TopicConfig {
        TopicConfig {
            cleanup: CleanupPolicy {
                deletes: false,
                compacts: true,
            },
            ..TopicConfig::default()
        }
    }

    fn span(config: &TopicConfig, now_ms: i64) -> Option<(i64, i64)> {
        let plan = plan(config, &segments(), now_ms, 0)?;
        Some((plan.dirty_from.0, plan.upto.0))
    }

    #[test]
    fn what_is_sealed_and_dirty_is_cleaned_once_it_is_more_than_the_ratio() {
        let with = |min_dirty_millionths| TopicConfig {
            min_dirty_millionths,
            ..config()
        };
        assert_eq!(span(&with(499_999), 9_000), Some((20, 40)));
        assert_eq!(span(&with(500_000), 9_000), None);
        assert_eq!(span(&TopicConfig::default(), 9_000), None, "not compacted");
        let mut unwritten = segments();
        unwritten[3].written = false;
        let upto = plan(&with(0), &unwritten, 9_000, 0).map(|plan| plan.upto.0);
        assert_eq!(upto, Some(30), "not all of the next is in the files");
        let clean: Vec<SegmentInfo> = segments().into_iter().take(2).collect();
        assert_eq!(plan(&with(0), &clean, 9_000, 0), None);
    }

    #[test]
    fn what_has_piled_up_is_cleaned_in_rounds_that_grow_with_what_is_clean() {
        let mut log = segments();
        log.iter_mut().for_each(|one| one.bytes = 16 << 20);
        log.iter_mut().for_each(|one| one.cleaned = false);
        let rounds = |log: &[SegmentInfo], round_bytes| {
            let config = TopicConfig {
                min_dirty_millionths: 0,
                ..config()
            };
            let plan = plan(&config, log, 9_000, round_bytes).unwrap();
            (
                plan.upto.0,
                plan.has_more,
                plan.bytes >> 20,
                plan.dirty_bytes >> 20,
            )
        };
        assert_eq!(rounds(&log, 0), (20, true, 32, 64));
        assert_eq!(rounds(&log, 40 << 20), (30, true, 48, 64));
        log[0].bytes = 1 << 30;
        assert_eq!(
            rounds(&log, 0),
            (10, true, 1_024, 1_072),
            "one segment at least"
        );
        log[0].cleaned = true;
        assert_eq!(rounds(&log, 0), (40, false, 1_072, 48));
    }

    #[test]
    fn the_more_is_dirty_the_faster_it_is_cleaned() {
        let urgency = |dirty_mib: u64, clean_mib: u64| {
            let plan = Plan {
                dirty_from: Offset(0),
                upto: Offset(1),
                dirty_millionths: 0,
                bytes: 0,
                dirty_bytes: dirty_mib << 20,
                clean_bytes: clean_mib << 20,
                has_more: false,
            };
            plan.urgency()
        };
        let is = |one: f64, other: f64| (one - other).abs() < 1e-9;
        assert!(is(urgency(10, 0), 1.0), "little is there");
        assert!(is(urgency(100, 200), 1.0));
        assert!(is(urgency(400, 200), 4.0));
        assert!(is(urgency(96, 0), 9.0));
        assert!(is(urgency(1 << 20, 100), URGENCY_MAX));
    }

    #[test]
    fn records_younger_than_the_least_lag_stay() {
        let with = |min_compaction_lag_ms| TopicConfig {
            min_compaction_lag_ms,
            min_dirty_millionths: 0,
            ..config()
        };
        assert_eq!(span(&with(1_000), 4_000), Some((20, 40)));
        assert_eq!(span(&with(1_000), 3_999), Some((20, 30)));
        assert_eq!(span(&with(1_000), 2_999), None);
        let mut timeless = segments();
        timeless.iter_mut().for_each(|one| one.max_timestamp = -1);
        let upto = |now_ms| plan(&with(1_000), &timeless, now_ms, 0).map(|plan| plan.upto.0);
        assert_eq!(upto(4_999), Some(30), "as old as the segment after it");
        assert_eq!(upto(5_000), Some(40));
    }

    #[test]
    fn what_has_waited_for_the_greatest_lag_is_cleaned_whatever_the_ratio() {
        let with = |max_compaction_lag_ms| TopicConfig {
            max_compaction_lag_ms,
            min_dirty_millionths: 1_000_000,
            ..config()
        };
        assert_eq!(span(&with(1_000), 3_000), None);
        assert_eq!(span(&with(1_000), 3_001), Some((20, 40)));
    }

    #[test]
    fn small_segments_become_one() {
        let spans = |upto, bytes| {
            let groups = groups(&segments(), Offset(upto), bytes);
            let spans = groups.iter().map(|(from, to)| (from.0, to.0));
            spans.collect::<Vec<_>>()
        };
        assert_eq!(spans(40, 250), [(0, 20), (20, 40)]);
        assert_eq!(spans(40, 99), [(0, 10), (10, 20), (20, 30), (30, 40)]);
        assert_eq!(spans(40, 1_000), [(0, 40)]);
        assert_eq!(spans(35, 1_000), [(0, 30), (30, 40)], "half of the last");
    }
}
