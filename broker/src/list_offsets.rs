//! Finding offsets: the ends of a log, and the first record at or after a time.

use std::sync::Arc;

use bytes::Bytes;
use storage::batch::BatchHeader;
use storage::partition_log::ReadError;
use storage::{LeaderEpoch, Offset, PartitionId};

use crate::batch_check::UNPACKED_BYTES_MAX;
use crate::fetch::{check_epoch, read_failed};
use crate::partition::Partition;
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
        let permit = self.inner.unpacking.acquire().await;
        let _permit = permit.expect("the semaphore is never closed");
        let id = partition.id;
        let searching = tokio::task::spawn_blocking(move || search.run(&partition, limit));
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
        Ok(end_offset_for_epoch(&partition, epoch, current))
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

impl Search {
    fn run(self, partition: &Partition, limit: Offset) -> Result<FoundOffset, ReadError> {
        let batch = match self {
            Search::At(timestamp_ms) => partition.log.find_timestamp(timestamp_ms, limit)?,
            Search::Max => partition.log.max_timestamp_batch(limit)?,
        };
        let nothing = FoundOffset {
            offset: None,
            timestamp_ms: None,
            leader_epoch: None,
        };
        let start = partition.log.start_offset();
        Ok(batch
            .and_then(|batch| self.in_batch(&batch, start))
            .unwrap_or(nothing))
    }

    /// The record looked for inside the batch that must hold it, from the log start on.
    fn in_batch(self, batch: &Bytes, start: Offset) -> Option<FoundOffset> {
        let header = BatchHeader::parse(batch).ok()?;
        let target = match self {
            Search::At(timestamp_ms) => timestamp_ms,
            Search::Max => header.max_timestamp,
        };
        let mut found: Option<RecordView> = None;
        let visit = |record: RecordView| {
            let deleted = header.base_offset + i64::from(record.offset_delta) < start.0;
            if record.timestamp_ms >= target && !deleted && found.is_none() {
                found = Some(record);
            }
        };
        // Batches were walked when they were produced, so this reads through; if it does not, the
        // batch as a whole is still the right place to begin reading.
        let walked = walk_records(batch, &header, UNPACKED_BYTES_MAX, visit);
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
}
