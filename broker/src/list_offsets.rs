//! Finding offsets: the ends of a log, and the first record at or after a time.

use std::sync::Arc;

use bytes::Bytes;
use raft::Leadership;
use storage::batch::BatchHeader;
use storage::partition_log::ReadError;
use storage::{LeaderEpoch, Offset, PartitionId};

use crate::batch_check::UNPACKED_BYTES_MAX;
use crate::fetch::{check_epoch, read_failed};
use crate::partition::Partition;
use crate::partition::manifest::Stand;
use crate::record::{RecordView, walk_records};
use crate::{Broker, BrokerError, Isolation};

/// What is asked for; Kafka's timestamp sentinels in brackets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetQuery {
    /// The end of what may be read (-1): high watermark, or last stable offset.
    Latest,
    /// The log start (-2).
    Earliest,
    /// The record with the largest timestamp (-3), the first of several (KIP-734).
    MaxTimestamp,
    /// The first offset on local disk (-4); the log start here, nothing is tiered.
    EarliestLocal,
    /// The last offset in remote storage (-5); there is none.
    LatestTiered,
    /// The first record with this timestamp or a later one, in milliseconds.
    AtTimestamp(i64),
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundOffset {
    /// The offset; `None` when no record qualifies (Kafka's -1).
    pub offset: Option<Offset>,
    /// The record's timestamp, where a record was looked for and found (else Kafka's -1).
    pub timestamp_ms: Option<i64>,
    /// Leader epoch of that record, when known.
    pub leader_epoch: Option<LeaderEpoch>,
}

impl Broker {
    /// Finds an offset. `current_leader_epoch` is checked when given.
    pub async fn list_offset(
        &self,
        id: PartitionId,
        query: OffsetQuery,
        isolation: Isolation,
        current_leader_epoch: Option<LeaderEpoch>,
    ) -> Result<FoundOffset, BrokerError> {
        let (partition, _, leadership) = self.led(id)?;
        // Another log may go on from a sealed one, with records that this node knows nothing of.
        if partition.stand != Stand::Serving {
            return Err(BrokerError::LeaderNotAvailable);
        }
        let found = self
            .offset_in(
                Arc::clone(&partition),
                leadership,
                (query, isolation),
                current_leader_epoch,
            )
            .await;
        // Another log took its place meanwhile: what it said of its ends is void.
        if partition.is_superseded() {
            return Err(BrokerError::LeaderNotAvailable);
        }
        found
    }

    async fn offset_in(
        &self,
        partition: Arc<Partition>,
        leadership: Leadership,
        (query, isolation): (OffsetQuery, Isolation),
        current_leader_epoch: Option<LeaderEpoch>,
    ) -> Result<FoundOffset, BrokerError> {
        let current = partition.epoch_in(leadership.term);
        check_epoch(current_leader_epoch, current)?;
        let limit = match isolation {
            // Without transactions everything committed is stable.
            Isolation::ReadUncommitted | Isolation::ReadCommitted => partition.high_watermark(),
        };
        let end_of_log = |offset| FoundOffset {
            offset: Some(offset),
            timestamp_ms: None,
            leader_epoch: Some(current),
        };
        match query {
            OffsetQuery::Latest => Ok(end_of_log(limit)),
            OffsetQuery::Earliest | OffsetQuery::EarliestLocal => {
                let start = partition.log.start_offset();
                let leader_epoch = partition.log.epoch_at(start).or(Some(current));
                Ok(FoundOffset {
                    leader_epoch,
                    ..end_of_log(start)
                })
            }
            OffsetQuery::LatestTiered => Ok(FoundOffset {
                offset: None,
                timestamp_ms: None,
                leader_epoch: None,
            }),
            OffsetQuery::MaxTimestamp => self.search(partition, limit, Search::Max).await,
            OffsetQuery::AtTimestamp(timestamp_ms) => {
                self.search(partition, limit, Search::At(timestamp_ms))
                    .await
            }
        }
    }

    async fn search(
        &self,
        partition: Arc<Partition>,
        limit: Offset,
        search: Search,
    ) -> Result<FoundOffset, BrokerError> {
        let permit = self.inner.searching.acquire().await;
        let _permit = permit.expect("the semaphore is never closed");
        let id = partition.id;
        let searching = net::blocking(move || search.run(&partition, limit));
        searching
            .await
            .expect("searching a log does not panic")
            .map_err(|error| read_failed(id, error))
    }

    /// KIP-320: the largest epoch not above `epoch` and the offset where it ends; `None` when there
    /// is none.
    pub fn end_offset_for_epoch(
        &self,
        id: PartitionId,
        current_leader_epoch: Option<LeaderEpoch>,
        epoch: LeaderEpoch,
    ) -> Result<Option<(LeaderEpoch, Offset)>, BrokerError> {
        let (partition, _, leadership) = self.led(id)?;
        let current = partition.epoch_in(leadership.term);
        check_epoch(current_leader_epoch, current)?;
        let found = end_offset_for_epoch(&partition, epoch, current);
        if partition.is_superseded() {
            return Err(BrokerError::LeaderNotAvailable);
        }
        Ok(found)
    }
}

/// As Kafka's `LeaderEpochFileCache.endOffsetFor`: the current epoch ends at the end of the log, an
/// unknown newer one has no end, and one before all that are known ends where they begin.
pub(crate) fn end_offset_for_epoch(
    partition: &Partition,
    epoch: LeaderEpoch,
    current: LeaderEpoch,
) -> Option<(LeaderEpoch, Offset)> {
    if epoch > current {
        return None;
    }
    if epoch == current {
        return Some((epoch, partition.high_watermark()));
    }
    let before_all = || (epoch, partition.log.start_offset());
    Some(
        partition
            .log
            .end_offset_for_epoch(epoch)
            .unwrap_or_else(before_all),
    )
}

/// A look-up by time.
#[derive(Debug, Clone, Copy)]
enum Search {
    /// The first record at or after this time.
    At(i64),
    /// The first of the records with the largest timestamp.
    Max,
}

const NOTHING: FoundOffset = FoundOffset {
    offset: None,
    timestamp_ms: None,
    leader_epoch: None,
};

impl Search {
    /// Looks among records from the log start on; the first batch may begin below it.
    fn run(self, partition: &Partition, limit: Offset) -> Result<FoundOffset, ReadError> {
        let start = partition.log.start_offset();
        let found = match self {
            Search::At(timestamp_ms) => first_at(partition, start, timestamp_ms, limit)?,
            Search::Max => first_of_largest(partition, start, limit)?,
        };
        Ok(found.unwrap_or(NOTHING))
    }
}

fn first_at(
    partition: &Partition,
    start: Offset,
    timestamp_ms: i64,
    limit: Offset,
) -> Result<Option<FoundOffset>, ReadError> {
    let mut from = start;
    while let Some(batch) = partition.log.find_timestamp(timestamp_ms, from, limit)? {
        let Ok(header) = BatchHeader::parse(&batch) else {
            return Ok(None);
        };
        if let Some(found) = in_batch(&batch, &header, start, timestamp_ms) {
            return Ok(Some(found));
        }
        // Those of its records that are late enough have been deleted.
        from = header.last_offset().plus(1);
    }
    Ok(None)
}

fn first_of_largest(
    partition: &Partition,
    start: Offset,
    limit: Offset,
) -> Result<Option<FoundOffset>, ReadError> {
    let Some(batch) = partition.log.max_timestamp_batch(start, limit)? else {
        return Ok(None);
    };
    let Ok(header) = BatchHeader::parse(&batch) else {
        return Ok(None);
    };
    if Offset(header.base_offset) >= start {
        return Ok(in_batch(&batch, &header, start, header.max_timestamp));
    }
    // The largest of this batch may have been deleted: compare what is left of it with the rest.
    let here = largest_left(&batch, &header, start)
        .and_then(|largest| in_batch(&batch, &header, start, largest));
    let after = header.last_offset().plus(1);
    let rest = match partition.log.max_timestamp_batch(after, limit)? {
        Some(batch) => BatchHeader::parse(&batch)
            .ok()
            .and_then(|header| in_batch(&batch, &header, start, header.max_timestamp)),
        None => None,
    };
    let time = |found: &Option<FoundOffset>| found.and_then(|found| found.timestamp_ms);
    Ok(if time(&rest) > time(&here) {
        rest
    } else {
        here
    })
}

/// The largest timestamp of a batch's records from `start` on.
fn largest_left(batch: &Bytes, header: &BatchHeader, start: Offset) -> Option<i64> {
    let mut largest = None;
    let visit = |record: RecordView| {
        if header.base_offset + i64::from(record.offset_delta) >= start.0 {
            largest = largest.max(Some(record.timestamp_ms));
        }
    };
    // Read through when it was produced.
    walk_records(batch, header, UNPACKED_BYTES_MAX, visit).ok()?;
    largest
}

/// The first record of a batch from `start` on with at least this timestamp.
fn in_batch(
    batch: &Bytes,
    header: &BatchHeader,
    start: Offset,
    timestamp_ms: i64,
) -> Option<FoundOffset> {
    let mut found: Option<RecordView> = None;
    let visit = |record: RecordView| {
        let deleted = header.base_offset + i64::from(record.offset_delta) < start.0;
        if record.timestamp_ms >= timestamp_ms && !deleted && found.is_none() {
            found = Some(record);
        }
    };
    // Batches were walked when they were produced, so this reads through; if it does not, the
    // batch as a whole is still the right place to begin reading.
    let walked = walk_records(batch, header, UNPACKED_BYTES_MAX, visit);
    let (delta, timestamp_ms) = match (walked, found) {
        (_, Some(record)) => (i64::from(record.offset_delta), record.timestamp_ms),
        (Err(_), None) => ((start.0 - header.base_offset).max(0), header.max_timestamp),
        (Ok(()), None) => return None,
    };
    Some(FoundOffset {
        offset: Some(Offset(header.base_offset + delta)),
        timestamp_ms: Some(timestamp_ms),
        leader_epoch: Some(LeaderEpoch(header.partition_leader_epoch)),
    })
}
