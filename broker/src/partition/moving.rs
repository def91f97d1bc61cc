//! A shard's part in moving single partitions: what Begin, Fill, Seal, Unseal, Activate and Drop do.
//!
//! As with every operation the log alone decides: the same entries make the same bytes on every
//! replica. A log that is filled holds a prefix of the partition from its first entry on, and
//! becomes the partition only with exactly the end, the producers and epochs above those that the
//! sealed log had; pieces that were copied must fit together (`stage/fitting.rs`). Each operation names the log or the move that it means, so one that comes late
//! changes nothing.

use bytes::Bytes;
use raft::EntryAt;
use storage::batch::BatchHeader;
use storage::bugs::{self, Bug};
use storage::partition_log::{PartitionLog, TombstoneView};
use storage::{LeaderEpoch, LogId, Offset, PartitionId};

use super::machine::{Hosted, Outcome, PartitionsMachine};
use super::manifest::Stand;
use super::producers::Producers;
use crate::BrokerError;
use crate::produce::AppendError;
use crate::stage::fitting::Fitting;
use crate::wire::Reader;

/// How far a move raises the leader epoch. It must be above every epoch that the old shard comes to
/// while some node still takes it for the partition's: so many elections it may have until then.
const EPOCH_STRIDE: i32 = 1_000;
/// A partition whose epoch is above this is not moved any more.
const EPOCH_MAX: i32 = i32::MAX - 1_000_000;

/// What a sealed log had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SealedLog {
    pub(crate) start: Offset,
    pub(crate) end: Offset,
    /// Its leader epoch when it was sealed.
    pub(crate) epoch: LeaderEpoch,
    /// Its idempotent producers, see `producers.rs`.
    pub(crate) producers: Bytes,
}

fn refused(reason: &str) -> Outcome {
    let reason = reason.to_owned();
    Outcome::Refused(BrokerError::Conflict { reason }.into())
}

impl PartitionsMachine {
    fn of(&mut self, log: LogId) -> Option<&mut Hosted> {
        let hosted = self.hosted.get_mut(&log.partition);
        hosted.filter(|hosted| hosted.partition.log_id() == log)
    }

    pub(super) fn begin(&mut self, log: LogId, from: Offset) -> Outcome {
        if let Some(hosted) = self.hosted.get(&log.partition) {
            let here = hosted.partition.generation();
            let is_filling = hosted.partition.stand == Stand::Filling;
            let end = hosted.partition.log.end_offset();
            if here > log.generation {
                return Outcome::Outdated;
            }
            if here == log.generation && (!is_filling || end >= from) {
                return Outcome::Filled(end);
            }
            if here < log.generation && !is_filling {
                // It has moved away from here, and what is left of it is about to be dropped.
                return Outcome::Occupied;
            }
            self.discard(hosted.partition.log_id());
        }
        self.host_new(log, 0, (Stand::Filling, from));
        Outcome::Filled(from)
    }

    pub(super) fn fill(
        &mut self,
        at: EntryAt,
        (log, from): (LogId, Offset),
        gone: Option<TombstoneView>,
        batches: &Bytes,
    ) -> Outcome {
        let Some(hosted) = self.of(log) else {
            return Outcome::NoSuchPartition;
        };
        let log = &hosted.partition.log;
        if hosted.partition.stand != Stand::Filling || log.end_offset() != from {
            return Outcome::Filled(log.end_offset());
        }
        match split(log, batches) {
            Ok(batches) => {
                if hosted.filled.take(gone).is_err() {
                    return Outcome::Unfit;
                }
                if gone.is_some() {
                    log.note_tombstones_gone(hosted.filled.gone_below());
                }
                for (header, batch) in batches {
                    let epoch = LeaderEpoch(header.partition_leader_epoch);
                    log.append(batch, &header, epoch, at.time_ms);
                }
                Outcome::Filled(log.end_offset())
            }
            Err(what) => Outcome::Refused(AppendError::Corrupt(what.to_owned())),
        }
    }

    pub(super) fn seal(&mut self, at: EntryAt, log: LogId, by: u32) -> Outcome {
        let Some(hosted) = self.of(log) else {
            return Outcome::NoSuchPartition;
        };
        let partition = &hosted.partition;
        let epoch = partition.epoch_in(at.position.term);
        match partition.stand {
            Stand::Filling => return Outcome::Moving,
            Stand::Serving if by <= hosted.barred => return Outcome::Outdated,
            Stand::Sealed(other) if by < other => return Outcome::Outdated,
            Stand::Serving | Stand::Sealed(_) if epoch.0 > EPOCH_MAX => {
                return refused("the partition's leader epoch is too high to be moved");
            }
            Stand::Sealed(other) if by == other => {}
            Stand::Serving | Stand::Sealed(_) => {
                let base = partition.epoch_base;
                self.turn(log, base, Stand::Sealed(by));
            }
        }
        let hosted = self.of(log).expect("it was there");
        let state = &hosted.partition.log;
        Outcome::Sealed(Box::new(SealedLog {
            start: state.start_offset(),
            end: match bugs::is_on(Bug::SealOneShort) {
                true => state.end_offset().plus(-1).max(state.start_offset()),
                false => state.end_offset(),
            },
            epoch,
            producers: hosted.producers.to_bytes(),
        }))
    }

    pub(super) fn unseal(&mut self, id: PartitionId, by: u32) -> Outcome {
        let Some(hosted) = self.hosted.get_mut(&id) else {
            return Outcome::NoSuchPartition;
        };
        hosted.barred = hosted.barred.max(by);
        let (log, base) = (hosted.partition.log_id(), hosted.partition.epoch_base);
        if matches!(hosted.partition.stand, Stand::Sealed(other) if other <= by) {
            self.turn(log, base, Stand::Serving);
        }
        Outcome::Done
    }

    pub(super) fn activate(
        &mut self,
        at: EntryAt,
        log: LogId,
        (start, end): (Offset, Offset),
        epoch: LeaderEpoch,
        producers: &Bytes,
    ) -> Outcome {
        let Some(hosted) = self.of(log) else {
            return Outcome::NoSuchPartition;
        };
        let partition = &hosted.partition;
        if partition.stand != Stand::Filling {
            let epoch_base = partition.epoch_base;
            return Outcome::Activated { epoch_base };
        }
        if partition.log.end_offset() != end {
            return Outcome::Filled(partition.log.end_offset());
        }
        let mut reader = Reader::new(producers.clone());
        let decoded = Producers::decode(&mut reader).and_then(|producers| {
            reader.end()?;
            Ok(producers)
        });
        let Ok(producers) = decoded else {
            return refused("the sealed log's producers cannot be read");
        };
        let reached = partition.log.latest_epoch();
        if epoch.0 > EPOCH_MAX || reached.is_some_and(|reached| reached > epoch) {
            return refused("the sealed log's epoch does not fit its batches");
        }
        partition.log.raise_start(start.min(end));
        hosted.producers = producers;
        hosted.filled = Fitting::default();
        let term = i64::try_from(at.position.term.0).expect("terms stay below 2^63");
        let epoch_base = i64::from(epoch.0) + i64::from(EPOCH_STRIDE) - term;
        self.turn(log, epoch_base, Stand::Serving);
        Outcome::Activated { epoch_base }
    }

    pub(super) fn drop_logs(&mut self, logs: &[LogId]) -> Outcome {
        for log in logs {
            if self.of(*log).is_some() {
                self.discard(*log);
                if log.generation == 0 {
                    self.departed.insert(log.partition);
                }
            }
        }
        self.tell_departed();
        Outcome::Done
    }
}

/// Batches that continue a log, none of them below its epochs. The log takes what this returns.
fn split(log: &PartitionLog, bytes: &Bytes) -> Result<Vec<(BatchHeader, Bytes)>, &'static str> {
    let mut next = log.end_offset();
    let mut epoch = log.latest_epoch().map_or(0, |epoch| epoch.0);
    let mut batches = Vec::new();
    let mut rest = bytes.clone();
    while !rest.is_empty() {
        let header = BatchHeader::parse(&rest).map_err(|_| "not a batch")?;
        if header.total_bytes() > rest.len() {
            return Err("a batch that is not whole");
        }
        if Offset(header.base_offset) != next {
            return Err("not the next batch");
        }
        if header.partition_leader_epoch < epoch {
            return Err("an epoch below the one before");
        }
        let after = header.base_offset.checked_add(header.offset_count());
        next = Offset(after.ok_or("offsets beyond all")?);
        epoch = header.partition_leader_epoch;
        batches.push((header, rest.split_to(header.total_bytes())));
    }
    Ok(batches)
}
