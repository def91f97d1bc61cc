//! What a data shard's entries do to its partitions: the deterministic heart of the log.
//!
//! Apply reads the entries and its own state, nothing else: no clock, no setting, no file. Every
//! replica therefore accepts, refuses and numbers the same batches.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use raft::{Apply, CheckpointError, CheckpointJob, EntryAt, InstallError, Op};
use storage::batch::{BatchHeader, TimestampType};
use storage::partition_log::LogState;
use storage::store::LogStore;
use storage::{LogIndex, Offset, PartitionId, ShardId};

use super::manifest::{self, ManifestError, PartitionState};
use super::op::PartitionOp;
use super::producers::{Producers, Verdict};
use super::waiters::Waiters;
use super::{Directory, Partition};
use crate::produce::{AppendError, Appended};

/// What an operation came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The batch is in the log, since now or, when repeated, since then; the entry says so at this
    /// place of the shard's log.
    Appended(Appended, LogIndex),
    /// The batch is not in the log.
    Refused(AppendError),
    /// The partition does not exist in this shard.
    NoSuchPartition,
    /// Partitions were made or removed.
    Done,
    /// The log start now.
    Start(Offset),
}

struct Hosted {
    partition: Arc<Partition>,
    producers: Producers,
}

/// The partitions of one shard.
pub(crate) struct PartitionsMachine {
    shard: ShardId,
    logs: LogStore,
    directory: Directory,
    hosted: HashMap<PartitionId, Hosted>,
}

impl PartitionsMachine {
    /// An empty shard; its partitions are entered into `directory` as they come.
    pub(crate) fn new(shard: ShardId, logs: LogStore, directory: Directory) -> PartitionsMachine {
        PartitionsMachine {
            shard,
            logs,
            directory,
            hosted: HashMap::new(),
        }
    }

    fn append(&mut self, at: EntryAt, id: PartitionId, batch: Bytes) -> Outcome {
        let Some(hosted) = self.hosted.get_mut(&id) else {
            return Outcome::NoSuchPartition;
        };
        let partition = &hosted.partition;
        let header = match BatchHeader::parse(&batch) {
            Ok(header) => header,
            Err(error) => return Outcome::Refused(AppendError::Corrupt(error.to_string())),
        };
        match hosted.producers.judge(&header) {
            Verdict::Append => {}
            Verdict::Repeated(written) => {
                let appended = Appended {
                    base_offset: written.base_offset,
                    log_append_time_ms: append_time(&header, written.timestamp_ms),
                    log_start_offset: partition.log.start_offset(),
                };
                return Outcome::Appended(appended, at.position.index);
            }
            Verdict::Refused(error) => return Outcome::Refused(error),
        }
        let bytes = batch.len();
        let epoch = partition.epoch_in(at.position.term);
        let base_offset = partition.log.append(batch, &header, epoch, at.time_ms);
        hosted.producers.record(&header, base_offset, at.time_ms);
        partition.waiters.grew(bytes);
        let appended = Appended {
            base_offset,
            log_append_time_ms: append_time(&header, header.max_timestamp),
            log_start_offset: partition.log.start_offset(),
        };
        Outcome::Appended(appended, at.position.index)
    }

    fn create(&mut self, epoch_base: i64, partitions: Vec<PartitionId>) -> Outcome {
        let mut created = Vec::with_capacity(partitions.len());
        for id in partitions {
            if self.hosted.contains_key(&id) {
                continue;
            }
            let log = self
                .logs
                .create(id, self.directory.log_config(id), Offset(0));
            let waiters = Arc::new(Waiters::default());
            let partition = Partition::new(id, self.shard, epoch_base, log, waiters);
            let partition = Arc::new(partition);
            created.push(Arc::clone(&partition));
            self.hosted.insert(
                id,
                Hosted {
                    partition,
                    producers: Producers::default(),
                },
            );
        }
        self.directory.insert(created);
        Outcome::Done
    }

    fn delete(&mut self, partitions: &[PartitionId]) -> Outcome {
        for id in partitions {
            if let Some(hosted) = self.hosted.remove(id) {
                self.directory.remove(*id);
                self.logs.remove(*id);
                hosted.partition.waiters.wake_all();
            }
        }
        Outcome::Done
    }

    /// The log that a checkpoint describes, in the place of `old`.
    fn recover(
        &self,
        id: PartitionId,
        epoch_base: i64,
        state: LogState,
        old: Option<&Partition>,
    ) -> Partition {
        if let Some(old) = old {
            old.supersede();
        }
        let log = self.logs.recover(id, self.directory.log_config(id), state);
        let waiters = old.map_or_else(Arc::default, |old| Arc::clone(&old.waiters));
        Partition::new(id, self.shard, epoch_base, log, waiters)
    }

    fn raise_start(&mut self, id: PartitionId, to: Offset) -> Outcome {
        let Some(hosted) = self.hosted.get(&id) else {
            return Outcome::NoSuchPartition;
        };
        let log = &hosted.partition.log;
        log.raise_start(to.min(log.end_offset()));
        Outcome::Start(log.start_offset())
    }
}

/// Whether a log is what a checkpoint describes, but for a higher log start: then it goes on as it
/// is, with what it has in memory.
fn is_same(partition: &Partition, epoch_base: i64, state: &LogState) -> bool {
    let log = &partition.log;
    partition.epoch_base == epoch_base
        && log.end_offset() == state.end
        && log.start_offset() <= state.start
        && state.segments.iter().all(|one| one.staged.is_none())
}

/// The time that the broker stamped, when the topic uses the broker's time.
fn append_time(header: &BatchHeader, timestamp_ms: i64) -> Option<i64> {
    (header.timestamp_type() == TimestampType::LogAppendTime).then_some(timestamp_ms)
}

impl Apply for PartitionsMachine {
    type Outcome = Outcome;

    fn apply(&mut self, at: EntryAt, ops: &[Op]) -> Vec<Outcome> {
        let apply_one = |op: &Op| match PartitionOp::decode(op) {
            Ok(PartitionOp::Append { partition, batch }) => self.append(at, partition, batch),
            // Its epochs are the shard's terms: it never was anywhere else.
            Ok(PartitionOp::Create { partitions }) => self.create(0, partitions),
            Ok(PartitionOp::CreateAtTerm { partitions }) => {
                let term = i64::try_from(at.position.term.0).expect("terms stay below 2^63");
                self.create(-term, partitions)
            }
            Ok(PartitionOp::Delete { partitions }) => self.delete(&partitions),
            Ok(PartitionOp::RaiseStart { partition, to }) => self.raise_start(partition, to),
            // The leader encoded it and the journal's checksums held: only a bug gets here, and
            // going on without the operation would make this replica differ from the others.
            Err(error) => panic!(
                "committed operation at {} cannot be read: {error}",
                at.position
            ),
        };
        ops.iter().map(apply_one).collect()
    }

    fn checkpoint(&mut self) -> CheckpointJob {
        let capture = |(id, hosted): (&PartitionId, &Hosted)| {
            let log = &hosted.partition.log;
            let state = PartitionState {
                id: *id,
                epoch_base: hosted.partition.epoch_base,
                log: log.state(),
                producers: hosted.producers.clone(),
            };
            (log.clone(), state)
        };
        let (logs, states): (Vec<_>, Vec<_>) = self.hosted.iter().map(capture).unzip();
        let store = self.logs.clone();
        Box::new(move || {
            let ends: Vec<_> = logs
                .into_iter()
                .zip(&states)
                .map(|(log, state)| (log, state.log.end))
                .collect();
            store
                .sync(&ends)
                .map_err(|error| CheckpointError::Storage(std::io::Error::other(error)))?;
            Ok(manifest::encode(&states))
        })
    }

    fn install(&mut self, manifest: Bytes) -> Result<(), InstallError> {
        let states = manifest::decode(manifest).map_err(|error| match error {
            ManifestError::Malformed(what) => InstallError::Malformed { what },
            ManifestError::UnknownVersion(version) => InstallError::UnknownVersion { version },
        })?;
        let mut before = std::mem::take(&mut self.hosted);
        let mut replaced = Vec::new();
        for PartitionState {
            id,
            epoch_base,
            log,
            producers,
        } in states
        {
            let partition = match before.remove(&id) {
                Some(hosted) if is_same(&hosted.partition, epoch_base, &log) => {
                    hosted.partition.log.raise_start(log.start);
                    hosted.partition
                }
                hosted => {
                    let old = hosted.map(|hosted| hosted.partition);
                    let new = Arc::new(self.recover(id, epoch_base, log, old.as_deref()));
                    replaced.push(Arc::clone(&new));
                    new
                }
            };
            let hosted = Hosted {
                partition,
                producers,
            };
            self.hosted.insert(id, hosted);
        }
        self.directory.insert(replaced.iter().cloned());
        let vanished: Vec<PartitionId> = before.keys().copied().collect();
        self.hosted.extend(before);
        self.delete(&vanished);
        // Readers of what was replaced find what has come.
        for partition in replaced {
            partition.waiters.wake_all();
        }
        Ok(())
    }
}
