//! What a data shard's entries do to its partitions: the deterministic heart of the log.
//!
//! Apply reads the entries and its own state, nothing else: no clock, no setting, no file. Every
//! replica therefore accepts, refuses and numbers the same batches.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use raft::{Apply, CheckpointError, CheckpointJob, EntryAt, InstallError, Op};
use storage::batch::{BatchHeader, TimestampType};
use storage::bugs::{self, Bug};
use storage::partition_log::LogState;
use storage::store::LogStore;
use storage::{LogId, LogIndex, Offset, PartitionId, ShardId};

use super::manifest::{self, Manifest, ManifestError, PartitionState, Stand};
use super::op::PartitionOp;
use super::producers::{Producers, Verdict};
use super::{Directory, Partition, SealedLog};
use crate::inspect::{Digests, digest};
use crate::produce::{AppendError, Appended};
use crate::stage::fitting::Fitting;
use crate::wire::Malformed;

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
    /// The partition is on its way to another shard and takes nothing here.
    Moving,
    /// Where the log ends that is being filled, or was.
    Filled(Offset),
    /// The log is sealed, with this.
    Sealed(Box<SealedLog>),
    /// The log is the partition, or will be once the catalogue says so.
    Activated {
        /// What is added to the shard's term to get its leader epoch.
        epoch_base: i64,
    },
    /// What is left of the partition's last stay in this shard must go first.
    Occupied,
    /// The move that it was for is over.
    Outdated,
    /// What was to be filled in does not fit what the log was filled with: compaction has dropped
    /// tombstones of it that may delete something below.
    Unfit,
    /// The log ends here, which is not where the batch was to be appended.
    EndsAt(Offset),
}

pub(super) struct Hosted {
    pub(super) partition: Arc<Partition>,
    pub(super) producers: Producers,
    /// Moves up to this generation never seal it.
    pub(super) barred: u32,
    /// What it was filled with, while it is.
    pub(super) filled: Fitting,
}

/// The partitions of one shard.
pub(crate) struct PartitionsMachine {
    shard: ShardId,
    logs: LogStore,
    directory: Directory,
    /// One log of a partition at a time.
    pub(super) hosted: HashMap<PartitionId, Hosted>,
    /// Partitions that were made here and have moved away: never to be made here again.
    pub(super) departed: BTreeSet<PartitionId>,
    /// For the checks of the simulation.
    digests: Digests,
}

impl PartitionsMachine {
    /// An empty shard; its partitions are entered into `directory` as they come.
    pub(crate) fn new(shard: ShardId, logs: LogStore, directory: Directory) -> PartitionsMachine {
        PartitionsMachine {
            shard,
            logs,
            directory,
            hosted: HashMap::new(),
            departed: BTreeSet::new(),
            digests: Digests::default(),
        }
    }

    /// Makes a log here and enters it.
    pub(super) fn host_new(
        &mut self,
        log: LogId,
        epoch_base: i64,
        (stand, start): (Stand, Offset),
    ) {
        let made = self.new_log(log, epoch_base, (stand, start));
        self.directory.insert([made]);
    }

    fn new_log(
        &mut self,
        log: LogId,
        epoch_base: i64,
        (stand, start): (Stand, Offset),
    ) -> Arc<Partition> {
        let id = log.partition;
        let waiters = self.directory.waiters(id);
        let config = self.directory.log_config(id);
        let log = self.logs.create(log, config, start);
        let partition = Partition::new(self.shard, (epoch_base, stand), log, waiters);
        let partition = Arc::new(partition);
        let hosted = Hosted {
            partition: Arc::clone(&partition),
            producers: Producers::default(),
            barred: 0,
            filled: Fitting::default(),
        };
        self.hosted.insert(id, hosted);
        partition
    }

    /// Uses a log that is here for something else.
    pub(super) fn turn(&mut self, log: LogId, epoch_base: i64, stand: Stand) {
        let Some(hosted) = self.hosted.get_mut(&log.partition) else {
            return;
        };
        let turned = Arc::new(hosted.partition.turned(epoch_base, stand));
        hosted.partition = Arc::clone(&turned);
        self.directory.insert([turned]);
        // Who waits may have to look elsewhere.
        hosted.partition.waiters.wake_all();
    }

    /// Removes a log that is here.
    pub(super) fn discard(&mut self, log: LogId) {
        if let Some(hosted) = self.hosted.remove(&log.partition) {
            self.retire(&hosted.partition);
        }
    }

    fn retire(&self, partition: &Partition) {
        // Before it goes: what it says of its ends from then on is void.
        partition.supersede();
        self.directory.remove(partition.log_id());
        self.logs.remove(partition.log_id());
        partition.waiters.wake_all();
    }

    pub(super) fn tell_departed(&self) {
        self.directory
            .set_departed(self.shard, self.departed.clone());
    }

    /// Appends to the log that is named, or to any that serves.
    fn append(
        &mut self,
        at: EntryAt,
        (id, generation): (PartitionId, Option<u32>),
        batch: Bytes,
    ) -> Outcome {
        let Some(hosted) = self.hosted.get_mut(&id) else {
            return Outcome::NoSuchPartition;
        };
        let partition = &hosted.partition;
        // What was meant for another stay of the partition here must not enter this one, which may
        // never become the partition.
        let is_meant = generation.is_none_or(|generation| generation == partition.generation());
        if !is_meant || partition.stand != Stand::Serving {
            return Outcome::Moving;
        }
        let header = match BatchHeader::parse(&batch) {
            Ok(header) => header,
            Err(error) => return Outcome::Refused(AppendError::Corrupt(error.to_string())),
        };
        let epoch = partition.epoch_in(at.position.term);
        if bugs::is_on(Bug::ProducersForgottenAtFailover)
            && partition
                .log
                .latest_epoch()
                .is_some_and(|last| last < epoch)
        {
            hosted.producers = Producers::default();
        }
        match hosted.producers.judge(&header) {
            Verdict::Append => {}
            Verdict::Repeated(written) => {
                let appended = Appended {
                    base_offset: match bugs::is_on(Bug::RepeatGetsNewOffset) {
                        true => partition.log.end_offset(),
                        false => written.base_offset,
                    },
                    log_append_time_ms: append_time(&header, written.timestamp_ms),
                    log_start_offset: partition.log.start_offset(),
                };
                return Outcome::Appended(appended, at.position.index);
            }
            Verdict::Refused(error) => return Outcome::Refused(error),
        }
        let bytes = batch.len();
        let base_offset = partition.log.append(batch, &header, epoch, at.time_ms);
        let now_ms = match bugs::is_on(Bug::ClockInApply) {
            true => self.logs.clock().wall_ms(),
            false => at.time_ms,
        };
        hosted.producers.record(&header, base_offset, now_ms);
        partition.waiters.grew(bytes);
        let appended = Appended {
            base_offset,
            log_append_time_ms: append_time(&header, header.max_timestamp),
            log_start_offset: partition.log.start_offset(),
        };
        Outcome::Appended(appended, at.position.index)
    }

    /// Appends to the log that is named if it serves and ends there. A batch that is repeated, or
    /// that somebody wrote who does not know of all there is, is refused so.
    fn append_at(&mut self, at: EntryAt, (log, end): (LogId, Offset), batch: Bytes) -> Outcome {
        let Some(hosted) = self.hosted.get(&log.partition) else {
            return Outcome::NoSuchPartition;
        };
        let partition = &hosted.partition;
        if partition.log_id() != log || partition.stand != Stand::Serving {
            return Outcome::Moving;
        }
        let ends_at = partition.log.end_offset();
        if ends_at != end {
            return Outcome::EndsAt(ends_at);
        }
        self.append(at, (log.partition, Some(log.generation)), batch)
    }

    /// The operation; what it may change is digested again.
    fn decode(&mut self, op: &Op) -> Result<PartitionOp, Malformed> {
        let decoded = PartitionOp::decode(op)?;
        match &decoded {
            PartitionOp::Append { log, .. } | PartitionOp::AppendAt { log, .. } => {
                self.digests.forget(log.partition);
            }
            PartitionOp::AppendToAny { partition, .. } => self.digests.forget(*partition),
            _ => self.digests.forget_all(),
        }
        Ok(decoded)
    }

    fn create(&mut self, epoch_base: i64, partitions: Vec<PartitionId>) -> Outcome {
        let mut created = Vec::with_capacity(partitions.len());
        for id in partitions {
            // Whoever proposed it may have an old catalogue that knows of no move.
            if self.hosted.contains_key(&id) || self.departed.contains(&id) {
                continue;
            }
            created.push(self.new_log(id.into(), epoch_base, (Stand::Serving, Offset(0))));
        }
        self.directory.insert(created);
        Outcome::Done
    }

    /// Topics are deleted for good: nothing of their partitions needs to be remembered.
    fn delete(&mut self, partitions: &[PartitionId]) -> Outcome {
        let mut were_departed = false;
        for id in partitions {
            if let Some(hosted) = self.hosted.get(id) {
                self.discard(hosted.partition.log_id());
            }
            were_departed |= self.departed.remove(id);
        }
        if were_departed {
            self.tell_departed();
        }
        Outcome::Done
    }

    /// The log that a checkpoint describes, in the place of `old`.
    fn recover(
        &self,
        id: LogId,
        (epoch_base, stand): (i64, Stand),
        state: LogState,
        old: Option<&Partition>,
    ) -> Partition {
        if let Some(old) = old {
            old.supersede();
        }
        let waiters = self.directory.waiters(id.partition);
        let config = self.directory.log_config(id.partition);
        let newest = state.segments.last().map(|segment| segment.base);
        let log = self.logs.recover(id, config, state);
        if let Some(newest) = newest.filter(|_| bugs::is_on(Bug::LogStartTooFar)) {
            log.raise_start(newest);
        }
        Partition::new(self.shard, (epoch_base, stand), log, waiters)
    }

    fn raise_start(&mut self, id: PartitionId, to: Offset) -> Outcome {
        let Some(hosted) = self.hosted.get(&id) else {
            return Outcome::NoSuchPartition;
        };
        if hosted.partition.stand != Stand::Serving {
            return Outcome::Moving;
        }
        let log = &hosted.partition.log;
        log.raise_start(to.min(log.end_offset()));
        Outcome::Start(log.start_offset())
    }
}

/// Whether a log is what a checkpoint describes, but for a higher log start: then it goes on as it
/// is, with what it has in memory.
fn is_same(partition: &Partition, state: &LogState) -> bool {
    let log = &partition.log;
    bugs::is_on(Bug::InstallKeepsShortLog)
        || log.end_offset() == state.end
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
        let apply_one = |op: &Op| match self.decode(op) {
            Ok(PartitionOp::Append { log, batch }) => {
                self.append(at, (log.partition, Some(log.generation)), batch)
            }
            Ok(PartitionOp::AppendToAny { partition, batch }) => {
                self.append(at, (partition, None), batch)
            }
            // Its epochs are the shard's terms: it never was anywhere else.
            Ok(PartitionOp::Create { partitions }) => self.create(0, partitions),
            Ok(PartitionOp::CreateAtTerm { partitions }) => {
                let term = i64::try_from(at.position.term.0).expect("terms stay below 2^63");
                self.create(-term, partitions)
            }
            Ok(PartitionOp::Delete { partitions }) => self.delete(&partitions),
            Ok(PartitionOp::RaiseStart { partition, to }) => self.raise_start(partition, to),
            Ok(PartitionOp::Begin { log, from }) => self.begin(log, from),
            Ok(PartitionOp::Fill {
                log,
                at: from,
                gone,
                batches,
            }) => self.fill(at, (log, from), gone, &batches),
            Ok(PartitionOp::Seal { log, by }) => self.seal(at, log, by),
            Ok(PartitionOp::Unseal { partition, by }) => self.unseal(partition, by),
            Ok(PartitionOp::Activate {
                log,
                start,
                end,
                epoch,
                producers,
            }) => self.activate(at, log, (start, end), epoch, &producers),
            Ok(PartitionOp::Drop { logs }) => self.drop_logs(&logs),
            Ok(PartitionOp::AppendAt {
                log,
                at: end,
                batch,
            }) => self.append_at(at, (log, end), batch),
            // The leader encoded it and the journal's checksums held: only a bug gets here, and
            // going on without the operation would make this replica differ from the others.
            Err(error) => panic!(
                "committed operation at {} cannot be read: {error}",
                at.position
            ),
        };
        ops.iter().map(apply_one).collect()
    }

    fn digest(&mut self) -> Option<u64> {
        let (hosted, digests) = (&self.hosted, &mut self.digests);
        let parts = hosted.iter().map(|(id, hosted)| {
            digests.of(*id, || {
                let (partition, log) = (&hosted.partition, &hosted.partition.log);
                let of_log = (partition.log_id(), partition.stand, partition.epoch_base);
                let ends = (log.start_offset(), log.end_offset(), log.latest_epoch());
                let mut text = format!("{of_log:?} {ends:?} {} ", hosted.barred).into_bytes();
                text.extend_from_slice(&hosted.filled.to_bytes());
                text.extend_from_slice(&hosted.producers.to_bytes());
                text
            })
        });
        let departed = digest(format!("{:?}", self.departed).as_bytes());
        Some(parts.fold(departed, u64::wrapping_add))
    }

    fn lies_elsewhere(&self) -> bool {
        let mut logs = self.hosted.values().map(|hosted| &hosted.partition.log);
        logs.any(|log| !log.replaced_files().is_empty())
    }

    fn checkpoint(&mut self) -> CheckpointJob {
        let capture = |(id, hosted): (&PartitionId, &Hosted)| {
            let log = &hosted.partition.log;
            let state = PartitionState {
                id: *id,
                generation: hosted.partition.generation(),
                stand: hosted.partition.stand,
                barred: hosted.barred,
                filled: hosted.filled,
                epoch_base: hosted.partition.epoch_base,
                log: log.state(),
                producers: match bugs::is_on(Bug::ProducersNotSaved) {
                    true => Producers::default(),
                    false => hosted.producers.clone(),
                },
            };
            (log.clone(), state)
        };
        let (logs, partitions): (Vec<_>, Vec<_>) = self.hosted.iter().map(capture).unzip();
        let manifest = Manifest {
            partitions,
            departed: self.departed.iter().copied().collect(),
        };
        let store = self.logs.clone();
        Box::new(move || {
            let ends: Vec<_> = logs
                .into_iter()
                .zip(&manifest.partitions)
                .map(|(log, state)| (log, state.log.end))
                .collect();
            if !bugs::is_on(Bug::CheckpointBeforeSync) {
                store
                    .sync(&ends)
                    .map_err(|error| CheckpointError::Storage(std::io::Error::other(error)))?;
            }
            Ok(manifest::encode(&manifest))
        })
    }

    fn install(&mut self, manifest: Bytes) -> Result<(), InstallError> {
        let Manifest {
            partitions: states,
            departed,
        } = manifest::decode(manifest).map_err(|error| match error {
            ManifestError::Malformed(what) => InstallError::Malformed { what },
            ManifestError::UnknownVersion(version) => InstallError::UnknownVersion { version },
        })?;
        self.digests.forget_all();
        let mut before = std::mem::take(&mut self.hosted);
        let mut replaced = Vec::new();
        let mut over = Vec::new();
        for state in states {
            let (id, log_id) = (state.id, state.log_id());
            let PartitionState {
                stand,
                barred,
                filled,
                epoch_base,
                log,
                producers,
                ..
            } = state;
            let old = before.remove(&id).map(|hosted| hosted.partition);
            let (same, other) = match old {
                Some(old) if old.log_id() == log_id => (Some(old), None),
                old => (None, old),
            };
            // Another stay of the partition in this shard, which is over.
            over.extend(other);
            let partition = match same {
                Some(old) if is_same(&old, &log) => {
                    old.log.raise_start(log.start);
                    if (old.epoch_base, old.stand) == (epoch_base, stand) {
                        old
                    } else {
                        Arc::new(old.turned(epoch_base, stand))
                    }
                }
                old => {
                    let use_of = (epoch_base, stand);
                    Arc::new(self.recover(log_id, use_of, log, old.as_deref()))
                }
            };
            replaced.push(Arc::clone(&partition));
            let hosted = Hosted {
                partition,
                producers,
                barred,
                filled,
            };
            self.hosted.insert(id, hosted);
        }
        self.directory.insert(replaced.iter().cloned());
        over.extend(before.into_values().map(|hosted| hosted.partition));
        over.iter().for_each(|gone| self.retire(gone));
        self.departed = departed.into_iter().collect();
        self.tell_departed();
        // Readers of what was replaced find what has come.
        for partition in replaced {
            partition.waiters.wake_all();
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "machine_test.rs"]
mod tests;
