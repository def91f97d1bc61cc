//! [`Rewriter`]: batches in, the same offsets with fewer records out. Pure.
//!
//! What stays of a record is every byte of its key, value and headers, its time and its offset. A
//! batch from which nothing goes is copied byte for byte, unless it is small and lies beside one
//! that is written anew. What is left of neighbouring batches goes into one, so that a thinned log
//! is not mostly headers. Offsets without a record belong to the batch before or behind them, or to
//! an empty batch that fills the place (storage expects that batches follow without a gap); readers
//! never see those.
//!
//! A tombstone (a record without value) stays until the delete horizon of its batch, which the
//! first cleaning sets as Kafka does: attribute bit 6, the time in place of the base timestamp.

use bytes::{Bytes, BytesMut};
use storage::batch::{BatchHeader, TimestampType, is_filler};

use crate::batch_check::UNPACKED_BYTES_MAX;
use crate::record::{RawBatch, RawRecords, RecordError};

/// Attribute bit: the base timestamp is the delete horizon.
const DELETE_HORIZON: i16 = 0b100_0000;
/// Codec and type of timestamps: what batches must share to become one.
const KIND: i16 = 0b1111;
/// Unpacked bytes up to which batches become one.
const JOINED_BYTES_MAX: usize = 64 << 10;
/// A batch up to this size is joined to its neighbour though nothing goes from it.
const SMALL_BYTES_MAX: usize = 4 << 10;
/// Most offsets of one batch.
const OFFSETS_MAX: i64 = i32::MAX as i64;

/// By what records are judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Records from here on are not looked at.
    pub(crate) upto: i64,
    /// The time now.
    pub(crate) now_ms: i64,
    /// How long tombstones stay once they have been cleaned.
    pub(crate) delete_retention_ms: i64,
    /// Whether tombstones stay whatever their horizon.
    pub(crate) keeps_tombstones: bool,
}

/// What a rewriting came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Removed {
    /// Records that went.
    pub(crate) records: u64,
    /// Whether what came out differs from what went in.
    pub(crate) changed: bool,
    /// Tombstones went because of their time, all of them below this offset; 0: none did.
    pub(crate) tombstones_below: i64,
}

/// Rewrites the batches of a log.
pub(crate) struct Rewriter {
    rules: Rules,
    done: BytesMut,
    pending: Option<Pending>,
    removed: Removed,
    /// A batch was met that cannot be looked into: older records of any key may be in it.
    has_opaque: bool,
}

/// A batch that may still grow.
struct Pending {
    header: BatchHeader,
    /// Exclusive.
    end: i64,
    horizon_ms: Option<i64>,
    batch: RawBatch,
}

impl Rewriter {
    pub(crate) fn new(rules: Rules) -> Rewriter {
        Rewriter {
            rules,
            done: BytesMut::new(),
            pending: None,
            removed: Removed::default(),
            has_opaque: false,
        }
    }

    /// What has been removed so far.
    pub(crate) fn removed(&self) -> Removed {
        self.removed
    }

    /// Whether a batch was met whose records cannot be judged.
    pub(crate) fn has_opaque(&self) -> bool {
        self.has_opaque
    }

    /// Says that such a batch lies before.
    pub(crate) fn note_opaque(&mut self) {
        self.has_opaque = true;
    }

    /// Takes the next batch; `newest` says where the newest record of a key is, as far as it was
    /// looked for.
    ///
    /// # Errors
    /// When what is left cannot be put into a batch.
    pub(crate) fn push(
        &mut self,
        batch: &Bytes,
        header: &BatchHeader,
        newest: &dyn Fn(&[u8]) -> Option<i64>,
    ) -> Result<(), RecordError> {
        if is_filler(header) {
            return self.absorb(header);
        }
        let is_beyond = header.base_offset >= self.rules.upto;
        let raw = match is_beyond || !is_judged(header) {
            true => None,
            false => RawRecords::of(batch, header, UNPACKED_BYTES_MAX).ok(),
        };
        let Some(raw) = raw else {
            self.has_opaque |= !is_beyond;
            return self.copy(batch);
        };
        let horizon_ms = horizon_ms(header);
        let may_expire = !self.rules.keeps_tombstones && !self.has_opaque;
        let is_expired =
            may_expire && horizon_ms.is_some_and(|horizon| horizon <= self.rules.now_ms);
        let mut kept = Vec::with_capacity(raw.records().len());
        let mut has_tombstone = false;
        for record in raw.records() {
            let keeps = record.offset >= self.rules.upto
                || raw.key(record).is_some_and(|key| {
                    let is_newest = newest(key).is_none_or(|newest| newest <= record.offset);
                    let is_over = is_newest && record.is_tombstone && is_expired;
                    if is_over {
                        let below = &mut self.removed.tombstones_below;
                        *below = (*below).max(record.offset + 1);
                    }
                    is_newest && !is_over
                });
            if keeps {
                // Also one that is not judged yet: it must not come under another's horizon.
                has_tombstone |= record.is_tombstone;
                kept.push(record);
            }
        }
        let gone = raw.records().len() - kept.len();
        self.removed.records += gone as u64;
        let new_horizon_ms = match horizon_ms {
            None if has_tombstone => {
                let retention_ms = self.rules.delete_retention_ms;
                Some(self.rules.now_ms.saturating_add(retention_ms))
            }
            // Without a tombstone a horizon is of no use.
            Some(horizon_ms) if has_tombstone || gone == 0 => Some(horizon_ms),
            _ => None,
        };
        if gone == 0 && new_horizon_ms == horizon_ms {
            let is_small = batch.len() <= SMALL_BYTES_MAX;
            if !is_small || !self.fits(header, horizon_ms, batch.len()) {
                return self.copy(batch);
            }
        }
        self.removed.changed = true;
        if kept.is_empty() {
            return self.absorb(header);
        }
        let bytes = raw.bytes_of_all();
        if !self.fits(header, new_horizon_ms, bytes) {
            self.flush()?;
        }
        let pending = self.pending.get_or_insert_with(|| Pending::new(header));
        pending.join(header, new_horizon_ms);
        kept.into_iter()
            .for_each(|record| pending.batch.push(&raw, record));
        Ok(())
    }

    /// Completes what is in hand: nothing more comes.
    ///
    /// # Errors
    /// When it cannot be put into a batch.
    pub(crate) fn finish(&mut self) -> Result<(), RecordError> {
        self.flush()
    }

    /// The batches that are complete.
    pub(crate) fn take(&mut self) -> Bytes {
        self.done.split().freeze()
    }

    /// Whether the batch in hand can take records of this one.
    fn fits(&self, header: &BatchHeader, horizon_ms: Option<i64>, bytes: usize) -> bool {
        let Some(pending) = &self.pending else {
            return false;
        };
        let end = header.last_offset().0 + 1;
        let is_alike = pending.batch.is_empty()
            || (pending.header.attributes & KIND == header.attributes & KIND
                && header.timestamp_type() == TimestampType::CreateTime
                && (pending.horizon_ms == horizon_ms
                    || pending.horizon_ms.is_none()
                    || horizon_ms.is_none()));
        pending.header.partition_leader_epoch == header.partition_leader_epoch
            && end - pending.header.base_offset <= OFFSETS_MAX
            && (pending.batch.is_empty() || pending.batch.bytes() + bytes <= JOINED_BYTES_MAX)
            && is_alike
    }

    /// Gives the offsets of a batch of which nothing is left to the batch in hand.
    fn absorb(&mut self, header: &BatchHeader) -> Result<(), RecordError> {
        let end = header.last_offset().0 + 1;
        let takes = |pending: &Pending| {
            pending.header.partition_leader_epoch == header.partition_leader_epoch
                && end - pending.header.base_offset <= OFFSETS_MAX
        };
        match self.pending.as_mut().filter(|pending| takes(pending)) {
            Some(pending) => {
                pending.end = end;
                self.removed.changed = true;
            }
            None => {
                self.flush()?;
                self.pending = Some(Pending::new(header));
            }
        }
        Ok(())
    }

    /// Lets a batch through as it is.
    fn copy(&mut self, batch: &Bytes) -> Result<(), RecordError> {
        self.flush()?;
        self.done.extend_from_slice(batch);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), RecordError> {
        if let Some(pending) = self.pending.take() {
            self.done.extend_from_slice(&pending.encode()?);
        }
        Ok(())
    }
}

impl Pending {
    /// One that takes the place of a batch and has nothing of it yet.
    fn new(header: &BatchHeader) -> Pending {
        Pending {
            header: BatchHeader {
                // Which producer wrote what is left says nothing to anyone: what is known of
                // producers is in checkpoints, not in the log.
                producer_id: -1,
                producer_epoch: -1,
                base_sequence: -1,
                attributes: 0,
                ..*header
            },
            end: header.last_offset().0 + 1,
            horizon_ms: None,
            batch: RawBatch::default(),
        }
    }

    /// Makes room for records of a batch that fits.
    fn join(&mut self, header: &BatchHeader, horizon_ms: Option<i64>) {
        if self.batch.is_empty() {
            self.header.attributes = header.attributes & KIND;
        }
        self.end = header.last_offset().0 + 1;
        self.horizon_ms = self.horizon_ms.or(horizon_ms);
    }

    fn encode(&self) -> Result<Bytes, RecordError> {
        let base_timestamp = self
            .horizon_ms
            .unwrap_or_else(|| self.batch.first_timestamp_ms());
        let horizon = self.horizon_ms.map_or(0, |_| DELETE_HORIZON);
        let offsets = self.end - self.header.base_offset;
        self.batch.encode(&BatchHeader {
            attributes: self.header.attributes | horizon,
            last_offset_delta: i32::try_from(offsets - 1)
                .map_err(|_| RecordError::Malformed("too many offsets in a batch"))?,
            base_timestamp,
            max_timestamp: self.batch.max_timestamp_ms(),
            ..self.header
        })
    }
}

/// Whether the records of a batch may be looked at: not those of a transaction, which may have been
/// called off, and no markers.
pub(crate) fn is_judged(header: &BatchHeader) -> bool {
    !header.is_control() && !header.is_transactional()
}

/// Whether compaction has taken records out of a batch: only then may it begin or end elsewhere
/// than batches of other replicas do.
pub(crate) fn has_gaps(header: &BatchHeader) -> bool {
    i64::from(header.record_count) < header.offset_count() && !header.is_control()
}

/// Until when tombstones of a batch stay, once that is known.
fn horizon_ms(header: &BatchHeader) -> Option<i64> {
    (header.attributes & DELETE_HORIZON != 0).then_some(header.base_timestamp)
}

/// What of a batch lies within `from..limit`, with exactly those offsets.
///
/// # Errors
/// When the batch cannot be read.
pub(crate) fn cut(
    batch: &Bytes,
    header: &BatchHeader,
    from: i64,
    limit: i64,
) -> Result<Bytes, RecordError> {
    let (base, end) = (
        header.base_offset.max(from),
        (header.last_offset().0 + 1).min(limit),
    );
    let raw = RawRecords::of(batch, header, UNPACKED_BYTES_MAX)?;
    let mut within = RawBatch::default();
    let records = raw.records().iter();
    records
        .filter(|record| (base..end).contains(&record.offset))
        .for_each(|record| within.push(&raw, record));
    let horizon_ms = horizon_ms(header);
    let attributes = match within.is_empty() {
        true => 0,
        false => header.attributes & (KIND | DELETE_HORIZON),
    };
    let base_timestamp = match (within.is_empty(), horizon_ms) {
        (false, Some(horizon_ms)) => horizon_ms,
        _ => within.first_timestamp_ms(),
    };
    within.encode(&BatchHeader {
        base_offset: base,
        last_offset_delta: i32::try_from(end - base - 1)
            .map_err(|_| RecordError::Malformed("too many offsets in a batch"))?,
        attributes,
        base_timestamp,
        max_timestamp: within.max_timestamp_ms(),
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        ..*header
    })
}

#[cfg(test)]
#[path = "rewrite_test.rs"]
mod tests;
