//! The checks a produced batch must pass before it may enter the log, as Kafka's `LogValidator`
//! makes them: pure, stateless, on the connection's own thread.
//!
//! One batch of format v2 whose lengths, checksum, counts, deltas and timestamps agree. What the
//! broker stamps inside the checksum (its own time, or a maximum that the producer got wrong) is
//! corrected here; everything else passes through untouched, compressed or not.

use bytes::{Bytes, BytesMut};
use storage::batch::{
    BATCH_HEADER_BYTES, BATCH_UNCHECKED_BYTES, BatchError, BatchHeader, TimestampType, crc_matches,
    crc32c,
};

use crate::TopicConfig;
use crate::produce::{AppendError, RecordError as BadRecord};
use crate::record::{self, RecordError, RecordView};

/// Most bytes that one batch may have when unpacked, whatever its topic allows.
pub(crate) const UNPACKED_BYTES_MAX: usize = 128 << 20;
/// What any batch may have when unpacked.
const UNPACKED_BYTES_ALLOWED: usize = 16 << 20;
/// How much larger than `max.message.bytes` a batch may be when unpacked.
const UNPACKED_RATIO_MAX: usize = 32;
/// Records named in one refusal.
const BAD_RECORDS_MAX: usize = 100;
/// Attribute bit: records carry the time of the append.
const LOG_APPEND_TIME: i16 = 0b1000;

/// Why a check came to no good end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CheckFailure {
    /// The batch is refused.
    Refused(AppendError),
    /// Unpacked it is larger than the check was allowed to look at.
    LargerUnpacked {
        /// What was allowed.
        max: usize,
    },
}

impl From<AppendError> for CheckFailure {
    fn from(error: AppendError) -> CheckFailure {
        CheckFailure::Refused(error)
    }
}

/// How large a batch of this topic may be when unpacked.
pub(crate) fn unpacked_bytes_max(config: &TopicConfig) -> usize {
    let packed = usize::try_from(config.max_message_bytes).unwrap_or(0);
    let unpacked = packed.saturating_mul(UNPACKED_RATIO_MAX);
    unpacked.clamp(UNPACKED_BYTES_ALLOWED, UNPACKED_BYTES_MAX)
}

/// Checks a batch against the rules and its topic's config at the broker's time `now_ms`; answers
/// it as it is to be appended. Unpacks at most `unpacked_max` bytes.
pub(crate) fn check_batch(
    batch: &Bytes,
    config: &TopicConfig,
    now_ms: i64,
    unpacked_max: usize,
) -> Result<Bytes, CheckFailure> {
    let header = check_header(batch, config)?;
    let (max_timestamp, attributes) = check_records(batch, &header, config, now_ms, unpacked_max)?;
    if max_timestamp == header.max_timestamp && attributes == header.attributes {
        return Ok(batch.clone());
    }
    Ok(restamp(
        batch,
        BatchHeader {
            max_timestamp,
            attributes,
            ..header
        },
    ))
}

/// The batch with this header instead of its own, and a checksum that fits.
fn restamp(batch: &Bytes, header: BatchHeader) -> Bytes {
    let mut bytes = BytesMut::from(batch.as_ref());
    bytes[..BATCH_HEADER_BYTES].copy_from_slice(&header.encode());
    let crc = crc32c(&bytes[BATCH_UNCHECKED_BYTES..]);
    bytes[BATCH_UNCHECKED_BYTES - 4..BATCH_UNCHECKED_BYTES].copy_from_slice(&crc.to_be_bytes());
    bytes.freeze()
}

fn check_header(batch: &Bytes, config: &TopicConfig) -> Result<BatchHeader, AppendError> {
    let header = BatchHeader::parse(batch).map_err(|error| match error {
        BatchError::Magic(magic) => AppendError::UnsupportedFormat { magic },
        BatchError::Compression(_) => AppendError::UnsupportedCompression,
        BatchError::LastOffsetDelta(_) | BatchError::RecordCount(_) => invalid(error.to_string()),
        BatchError::Short { .. } | BatchError::Length(_) => AppendError::Corrupt(error.to_string()),
    })?;
    let bytes = header.total_bytes();
    let max = usize::try_from(config.max_message_bytes).unwrap_or(0);
    if bytes > max {
        return Err(AppendError::TooLarge { bytes, max });
    }
    if batch.len() < bytes {
        return Err(AppendError::Corrupt(format!(
            "{} of {bytes} bytes are there",
            batch.len()
        )));
    }
    if batch.len() > bytes {
        return Err(invalid("more than one batch for a partition".to_owned()));
    }
    if !crc_matches(batch) {
        return Err(AppendError::Corrupt(
            "the checksum does not fit the bytes".to_owned(),
        ));
    }
    header
        .compression()
        .map_err(|_| AppendError::UnsupportedCompression)?;
    if header.is_control() {
        return Err(invalid("producers cannot write control batches".to_owned()));
    }
    if header.is_transactional() {
        return Err(invalid("transactions are not supported".to_owned()));
    }
    if header.record_count == 0 {
        return Err(invalid("a batch without records".to_owned()));
    }
    if header.last_offset_delta != header.record_count - 1 {
        return Err(invalid(format!(
            "{} records but a last offset delta of {}",
            header.record_count, header.last_offset_delta
        )));
    }
    if header.producer_id >= 0 && (header.producer_epoch < 0 || header.base_sequence < 0) {
        return Err(invalid(format!(
            "producer {} with epoch {} and sequence {}",
            header.producer_id, header.producer_epoch, header.base_sequence
        )));
    }
    if header.timestamp_type() == TimestampType::LogAppendTime {
        return Err(invalid(
            "producers cannot set the time of the append".to_owned(),
        ));
    }
    Ok(header)
}

/// Walks the records; answers the maximum timestamp and the attributes that the batch must have.
fn check_records(
    batch: &Bytes,
    header: &BatchHeader,
    config: &TopicConfig,
    now_ms: i64,
    unpacked_max: usize,
) -> Result<(i64, i16), CheckFailure> {
    let append_time = config.timestamp_type == TimestampType::LogAppendTime;
    let earliest = now_ms.saturating_sub(config.timestamp_before_max_ms);
    let latest = now_ms.saturating_add(config.timestamp_after_max_ms);
    let mut max_timestamp = i64::MIN;
    let mut out_of_order: Option<BadRecord> = None;
    let mut bad_times = Vec::new();
    let mut keyless = Vec::new();
    let visit = |record: RecordView| {
        max_timestamp = max_timestamp.max(record.timestamp_ms);
        if record.offset_delta != record.index && out_of_order.is_none() {
            out_of_order = Some(BadRecord {
                batch_index: record.index,
                message: format!("offset delta {}", record.offset_delta),
            });
        }
        if config.cleanup.compacts && !record.has_key && keyless.len() < BAD_RECORDS_MAX {
            keyless.push(BadRecord {
                batch_index: record.index,
                message: "a compacted topic takes no record without a key".to_owned(),
            });
        }
        // -1 stands for "no timestamp" and is always allowed, as in Kafka.
        let in_time = (earliest..=latest).contains(&record.timestamp_ms);
        if !append_time && !in_time && record.timestamp_ms != -1 {
            bad_times.push(BadRecord {
                batch_index: record.index,
                message: format!("timestamp {} is not within limits", record.timestamp_ms),
            });
            bad_times.truncate(BAD_RECORDS_MAX);
        }
    };
    // What is not packed is there already, whatever its size.
    let unpacked_max = unpacked_max.max(batch.len());
    record::walk_records(batch, header, unpacked_max, visit).map_err(|error| match error {
        RecordError::Malformed(what) => invalid(what.to_owned()).into(),
        RecordError::Decompress(_) => {
            CheckFailure::Refused(AppendError::Corrupt(error.to_string()))
        }
        RecordError::TooLarge { max } => CheckFailure::LargerUnpacked { max },
    })?;
    if let Some(record) = out_of_order {
        let message = "offset deltas must count from 0".to_owned();
        return Err(AppendError::InvalidRecord {
            message,
            records: vec![record],
        }
        .into());
    }
    if !keyless.is_empty() {
        return Err(AppendError::InvalidRecord {
            message: "a compacted topic takes no records without a key".to_owned(),
            records: keyless,
        }
        .into());
    }
    if !bad_times.is_empty() {
        let message = format!("timestamps must lie within {earliest}..={latest}");
        return Err(AppendError::InvalidTimestamp {
            message,
            records: bad_times,
        }
        .into());
    }
    if append_time {
        return Ok((now_ms, header.attributes | LOG_APPEND_TIME));
    }
    Ok((max_timestamp, header.attributes))
}

fn invalid(message: String) -> AppendError {
    AppendError::InvalidRecord {
        message,
        records: Vec::new(),
    }
}

#[cfg(test)]
#[path = "batch_check_test.rs"]
mod tests;
