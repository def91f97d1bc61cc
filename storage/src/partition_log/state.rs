//! [`LogState`]: what a checkpoint says about one partition log, and its encoding.
//!
//! ```text
//!  0  version        u8    2; 3 when a segment was compacted or looked through for that;
//!                          4 when tombstones were dropped
//!  1  start          i64
//!  9  end            i64
//! 17  segment count  u32
//! 21  epoch count    u32
//! 25  segments, 41 to 61 bytes each:
//!       base i64, end i64, bytes u64, max timestamp i64, created i64,
//!       has u8 (1 digest, 2 copy, v3: 4 version, 8 cleaned), digest u32?, copy u64?, version u64?
//!     epochs, 12 bytes each: epoch i32, first offset i64
//!     v4: tombstones gone below i64                                 little-endian
//! ```
//! Version 1 knew no copies and is read as well.

use super::epochs::Epochs;
use crate::{LeaderEpoch, Offset};

const VERSION: u8 = 4;
/// What is written while no segment has anything that only a later version knows.
const VERSION_UNCOMPACTED: u8 = 2;
const VERSION_WITH_TOMBSTONES: u8 = 3;
const HAS_DIGEST: u8 = 1;
const HAS_COPY: u8 = 2;
const HAS_VERSION: u8 = 4;
const IS_CLEANED: u8 = 8;
const SEGMENT_BYTES_MIN: usize = 41;
const EPOCH_BYTES: usize = 12;

/// How far a partition log is on disk, and what is known about its files. Everything below `end`
/// must be there when the log is recovered; everything else is cut.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogState {
    /// First offset that may be read.
    pub start: Offset,
    /// Offset of the next record.
    pub end: Offset,
    /// The segments, oldest first, without holes; only the last may still be written.
    pub segments: Vec<SegmentState>,
    /// Leader epochs with their first offsets, both rising.
    pub epochs: Vec<(LeaderEpoch, Offset)>,
    /// Compaction has dropped no tombstone from here on.
    pub tombstones_gone_below: Offset,
}

/// What a checkpoint says about one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentState {
    /// Offset of its first record; names the file.
    pub base: Offset,
    /// Offset after its last record.
    pub end: Offset,
    /// Bytes of whole batches.
    pub bytes: u64,
    /// Greatest timestamp, milliseconds; -1 when no record has one.
    pub max_timestamp: i64,
    /// When it was begun, milliseconds, by the time the appends were given.
    pub created_ms: i64,
    /// Digest of the batches up to `bytes` (see `segment_format`); `None` when not known.
    pub digest: Option<u32>,
    /// Number of the copy in whose staged files it is, unless they have been brought in since.
    pub staged: Option<u64>,
    /// Which file it is in: 0 is the one that appends wrote, any other was written by compaction
    /// or by a repair of what compaction wrote.
    pub version: u64,
    /// Whether every key in it was looked for in all segments up to here, and in it.
    pub cleaned: bool,
}

/// Why bytes are no [`LogState`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LogStateError {
    /// A version this program does not know.
    #[error("log state version {0} is not known")]
    Version(u8),
    /// The bytes end too early.
    #[error("log state ends too early")]
    Short,
    /// Bytes are left over.
    #[error("{0} bytes follow the log state")]
    Excess(usize),
    /// The parts contradict each other.
    #[error("log state contradicts itself: {0}")]
    Inconsistent(&'static str),
}

impl LogState {
    /// State of a log that has nothing in it and begins at `start`.
    #[must_use]
    pub fn empty(start: Offset) -> LogState {
        LogState {
            start,
            end: start,
            segments: Vec::new(),
            epochs: Vec::new(),
            tombstones_gone_below: Offset(0),
        }
    }

    /// Greatest timestamp of all segments, milliseconds; -1 when there is none.
    #[must_use]
    pub fn max_timestamp(&self) -> i64 {
        self.segments
            .iter()
            .map(|segment| segment.max_timestamp)
            .max()
            .unwrap_or(-1)
    }

    /// The state as bytes. Carries no checksum: the checkpoint that holds it has one.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let count = |len: usize| u32::try_from(len).expect("bounded by the log's segments");
        let mut out = Vec::with_capacity(
            33 + self.segments.len() * (SEGMENT_BYTES_MIN + 20) + self.epochs.len() * EPOCH_BYTES,
        );
        let is_compacted = |segment: &SegmentState| segment.cleaned || segment.version != 0;
        let has_tombstones_gone = self.tombstones_gone_below > Offset(0);
        out.push(match self.segments.iter().any(is_compacted) {
            _ if has_tombstones_gone => VERSION,
            true => VERSION_WITH_TOMBSTONES,
            false => VERSION_UNCOMPACTED,
        });
        out.extend_from_slice(&self.start.0.to_le_bytes());
        out.extend_from_slice(&self.end.0.to_le_bytes());
        out.extend_from_slice(&count(self.segments.len()).to_le_bytes());
        out.extend_from_slice(&count(self.epochs.len()).to_le_bytes());
        for segment in &self.segments {
            out.extend_from_slice(&segment.base.0.to_le_bytes());
            out.extend_from_slice(&segment.end.0.to_le_bytes());
            out.extend_from_slice(&segment.bytes.to_le_bytes());
            out.extend_from_slice(&segment.max_timestamp.to_le_bytes());
            out.extend_from_slice(&segment.created_ms.to_le_bytes());
            let digest = segment.digest.map_or(0, |_| HAS_DIGEST);
            let copy = segment.staged.map_or(0, |_| HAS_COPY);
            let version = if segment.version == 0 { 0 } else { HAS_VERSION };
            let cleaned = if segment.cleaned { IS_CLEANED } else { 0 };
            out.push(digest | copy | version | cleaned);
            if let Some(digest) = segment.digest {
                out.extend_from_slice(&digest.to_le_bytes());
            }
            if let Some(copy) = segment.staged {
                out.extend_from_slice(&copy.to_le_bytes());
            }
            if segment.version != 0 {
                out.extend_from_slice(&segment.version.to_le_bytes());
            }
        }
        for (epoch, offset) in &self.epochs {
            out.extend_from_slice(&epoch.0.to_le_bytes());
            out.extend_from_slice(&offset.0.to_le_bytes());
        }
        if has_tombstones_gone {
            out.extend_from_slice(&self.tombstones_gone_below.0.to_le_bytes());
        }
        out
    }

    /// Reads what [`LogState::encode`] wrote; all of `bytes` must belong to it.
    ///
    /// # Errors
    /// When the bytes are anything else, or a state that no log can be in.
    pub fn decode(bytes: &[u8]) -> Result<LogState, LogStateError> {
        let mut rest = bytes;
        let [version] = take(&mut rest)?;
        if version == 0 || version > VERSION {
            return Err(LogStateError::Version(version));
        }
        let start = Offset(i64::from_le_bytes(take(&mut rest)?));
        let end = Offset(i64::from_le_bytes(take(&mut rest)?));
        let segment_count = usize::try_from(u32::from_le_bytes(take(&mut rest)?))
            .map_err(|_| LogStateError::Short)?;
        let epoch_count = usize::try_from(u32::from_le_bytes(take(&mut rest)?))
            .map_err(|_| LogStateError::Short)?;
        let needed = segment_count
            .checked_mul(SEGMENT_BYTES_MIN)
            .zip(epoch_count.checked_mul(EPOCH_BYTES))
            .and_then(|(segments, epochs)| segments.checked_add(epochs));
        if needed.is_none_or(|needed| needed > rest.len()) {
            return Err(LogStateError::Short);
        }
        let mut segments = Vec::with_capacity(segment_count);
        for _ in 0..segment_count {
            let mut segment = SegmentState {
                base: Offset(i64::from_le_bytes(take(&mut rest)?)),
                end: Offset(i64::from_le_bytes(take(&mut rest)?)),
                bytes: u64::from_le_bytes(take(&mut rest)?),
                max_timestamp: i64::from_le_bytes(take(&mut rest)?),
                created_ms: i64::from_le_bytes(take(&mut rest)?),
                digest: None,
                staged: None,
                version: 0,
                cleaned: false,
            };
            let [has] = take(&mut rest)?;
            let known = match version {
                1 => HAS_DIGEST,
                2 => HAS_DIGEST | HAS_COPY,
                _ => HAS_DIGEST | HAS_COPY | HAS_VERSION | IS_CLEANED,
            };
            if has & !known != 0 {
                return Err(LogStateError::Inconsistent("segment flags"));
            }
            segment.cleaned = has & IS_CLEANED != 0;
            if has & HAS_DIGEST != 0 {
                segment.digest = Some(u32::from_le_bytes(take(&mut rest)?));
            }
            if has & HAS_COPY != 0 {
                segment.staged = Some(u64::from_le_bytes(take(&mut rest)?));
            }
            if has & HAS_VERSION != 0 {
                segment.version = u64::from_le_bytes(take(&mut rest)?);
                if segment.version == 0 || segment.staged.is_some() {
                    return Err(LogStateError::Inconsistent("a segment's version"));
                }
            }
            segments.push(segment);
        }
        let mut epochs = Vec::with_capacity(epoch_count);
        for _ in 0..epoch_count {
            let epoch = LeaderEpoch(i32::from_le_bytes(take(&mut rest)?));
            epochs.push((epoch, Offset(i64::from_le_bytes(take(&mut rest)?))));
        }
        let tombstones_gone_below = match version {
            VERSION => Offset(i64::from_le_bytes(take(&mut rest)?)),
            _ => Offset(0),
        };
        if !rest.is_empty() {
            return Err(LogStateError::Excess(rest.len()));
        }
        if version == VERSION && tombstones_gone_below <= Offset(0) {
            return Err(LogStateError::Inconsistent("tombstones gone below 0"));
        }
        let state = LogState {
            start,
            end,
            segments,
            epochs,
            tombstones_gone_below,
        };
        state.check()?;
        Ok(state)
    }

    /// The state to recover when a copy is taken over: of `local` (captured and synced before the
    /// copy began; `None` when nothing local is kept) what lies below the copy, then the copied
    /// segments; end and epochs of `target`, the source's state; the start is `start` when that is
    /// above `target`'s, because the source deleted meanwhile. Segments wholly below the start go.
    /// From `tombstones_gone_below` on no tombstone was dropped from what was copied.
    ///
    /// # Errors
    /// When the parts do not fit together: a hole, another end, epochs that do not cover it.
    pub fn with_copied(
        local: Option<&LogState>,
        copied: Vec<SegmentState>,
        target: &LogState,
        (start, tombstones_gone_below): (Offset, Offset),
    ) -> Result<LogState, LogStateError> {
        let from = copied.first().map_or(target.end, |first| first.base);
        let local_segments = local.map_or(&[][..], |local| &local.segments);
        let mut segments: Vec<SegmentState> = local_segments
            .iter()
            .filter(|segment| segment.base < from)
            .copied()
            .collect();
        for mut segment in copied {
            // When it was begun nobody can say; the source's age serves the same end.
            let source = target
                .segments
                .iter()
                .find(|source| source.base <= segment.base && segment.base < source.end);
            segment.created_ms = source.map_or(segment.created_ms, |source| source.created_ms);
            segments.push(segment);
        }
        let start = start.max(target.start);
        let covering =
            |segments: &[SegmentState]| segments.windows(2).all(|pair| pair[0].end == pair[1].base);
        // Before the ones below the start go: a hole there is a mistake as well.
        if !covering(&segments) || segments.last().is_some_and(|last| last.end != target.end) {
            return Err(LogStateError::Inconsistent("the copy does not follow"));
        }
        segments.retain(|segment| segment.end > start);
        let first = segments.first().map_or(target.end, |first| first.base);
        let mut epochs =
            Epochs::joined(local.map_or(&[][..], |local| &local.epochs), &target.epochs);
        epochs.raise_start(first);
        let state = LogState {
            start,
            end: target.end,
            segments,
            epochs: epochs.entries().to_vec(),
            tombstones_gone_below: local.map_or(tombstones_gone_below, |local| {
                local.tombstones_gone_below.max(tombstones_gone_below)
            }),
        };
        state.check()?;
        Ok(state)
    }

    fn check(&self) -> Result<(), LogStateError> {
        let wrong = |what| Err(LogStateError::Inconsistent(what));
        if self.start.0 < 0 || self.start > self.end {
            return wrong("start and end");
        }
        let (Some(first), Some(last)) = (self.segments.first(), self.segments.last()) else {
            return if self.start == self.end {
                Ok(())
            } else {
                wrong("no segments")
            };
        };
        if first.base.0 < 0 || first.base > self.start || last.end != self.end {
            return wrong("segments do not cover the log");
        }
        if self
            .segments
            .iter()
            .any(|segment| segment.base >= segment.end || segment.bytes == 0)
        {
            return wrong("empty segment");
        }
        if self
            .segments
            .windows(2)
            .any(|pair| pair[0].end != pair[1].base)
        {
            return wrong("hole between segments");
        }
        let rises = |pair: &[(LeaderEpoch, Offset)]| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1;
        if !self.epochs.windows(2).all(rises) {
            return wrong("epochs do not rise");
        }
        match (self.epochs.first(), self.epochs.last()) {
            (Some((_, first_offset)), Some((_, last_offset)))
                if *first_offset <= first.base.max(self.start) && *last_offset < self.end =>
            {
                Ok(())
            }
            _ => wrong("epochs do not cover the log"),
        }
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], LogStateError> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(LogStateError::Short)?;
    *rest = tail;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> LogState {
        let segment = |base, end, digest| SegmentState {
            base: Offset(base),
            end: Offset(end),
            bytes: 100,
            max_timestamp: base * 10,
            created_ms: 7,
            digest,
            staged: (base == 30).then_some(77),
            version: if base == 10 { 5 } else { 0 },
            cleaned: base == 10,
        };
        LogState {
            start: Offset(15),
            end: Offset(40),
            segments: vec![segment(10, 30, Some(9)), segment(30, 40, None)],
            epochs: vec![(LeaderEpoch(1), Offset(10)), (LeaderEpoch(3), Offset(25))],
            tombstones_gone_below: Offset(12),
        }
    }

    #[test]
    fn a_state_reads_back_as_written() {
        for state in [
            state(),
            LogState::empty(Offset(0)),
            LogState::empty(Offset(99)),
        ] {
            assert_eq!(LogState::decode(&state.encode()), Ok(state));
        }
        assert_eq!(state().max_timestamp(), 300);
        assert_eq!(LogState::empty(Offset(1)).max_timestamp(), -1);
    }

    #[test]
    fn only_a_compacted_log_needs_the_newest_version() {
        let mut plain = LogState {
            tombstones_gone_below: Offset(0),
            ..state()
        };
        plain.segments[0].version = 0;
        plain.segments[0].cleaned = false;
        assert_eq!(plain.encode()[0], 2);
        assert_eq!(LogState::decode(&plain.encode()), Ok(plain.clone()));
        plain.segments[0].cleaned = true;
        let newer = plain.encode();
        assert_eq!(newer[0], 3);
        assert_eq!(LogState::decode(&newer), Ok(plain.clone()));
        let older = [vec![2], newer[1..].to_vec()].concat();
        assert!(LogState::decode(&older).is_err());
        plain.tombstones_gone_below = Offset(12);
        let newest = plain.encode();
        assert_eq!(newest[0], 4);
        assert_eq!(LogState::decode(&newest), Ok(plain));
    }

    #[test]
    fn cut_or_extended_bytes_are_refused() {
        let bytes = state().encode();
        for len in 0..bytes.len() {
            assert_eq!(
                LogState::decode(&bytes[..len]),
                Err(LogStateError::Short),
                "{len}"
            );
        }
        let longer = [bytes.clone(), vec![0]].concat();
        assert_eq!(LogState::decode(&longer), Err(LogStateError::Excess(1)));
        let other = [vec![5], bytes[1..].to_vec()].concat();
        assert_eq!(LogState::decode(&other), Err(LogStateError::Version(5)));
    }

    #[test]
    fn counts_are_checked_before_anything_is_reserved() {
        let mut bytes = state().encode();
        bytes[17..21].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(LogState::decode(&bytes), Err(LogStateError::Short));
        bytes[21..25].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(LogState::decode(&bytes), Err(LogStateError::Short));
    }

    #[test]
    fn contradictions_are_refused() {
        let wrong = |change: &dyn Fn(&mut LogState)| {
            let mut state = state();
            change(&mut state);
            matches!(
                LogState::decode(&state.encode()),
                Err(LogStateError::Inconsistent(_))
            )
        };
        assert!(wrong(&|state| state.start = Offset(41)));
        assert!(wrong(&|state| state.start = Offset(-1)));
        assert!(wrong(&|state| state.start = Offset(9)));
        assert!(wrong(&|state| state.end = Offset(41)));
        assert!(wrong(&|state| state.segments.clear()));
        assert!(wrong(&|state| state.segments[0].end = Offset(29)));
        assert!(wrong(&|state| state.segments[1].bytes = 0));
        assert!(wrong(&|state| state.segments[1].base = Offset(40)));
        assert!(wrong(&|state| state.epochs.clear()));
        assert!(wrong(&|state| state.epochs[0].1 = Offset(25)));
        assert!(wrong(&|state| state.epochs[1].0 = LeaderEpoch(1)));
        assert!(wrong(&|state| state.epochs[0].1 = Offset(16)));
    }

    #[test]
    fn damaged_bytes_never_panic() {
        let bytes = state().encode();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            if let Ok(decoded) = LogState::decode(&damaged) {
                assert_eq!(LogState::decode(&decoded.encode()), Ok(decoded));
            }
        }
    }
}
