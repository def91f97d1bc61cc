//! One move, driven by the leader of the new shard until it is done, over or stuck.
//!
//! Nothing of it is remembered here that the next leader would need: where the new log ends, and
//! whether it is active, stands in the shard's log; that the old one is sealed is asked again.

use std::time::Duration;

use bytes::Bytes;
use storage::batch::BatchHeader;
use storage::partition_log::{TombstoneView, check_copied};
use storage::{LogId, NodeId, Offset, PartitionId, ShardId};
use tokio::sync::OwnedSemaphorePermit;

use super::logs;
use super::seal::{SealRequest, Sealed};
use crate::catalogue::command::Command;
use crate::catalogue::{Move, PartitionEntry};
use crate::partition::machine::Outcome;
use crate::partition::manifest::Stand;
use crate::partition::op::PartitionOp;
use crate::stage::range::{RangeAnswer, ReadRange};
use crate::{Broker, BrokerError};

/// Bytes that are asked for at once; one batch at least.
const CHUNK_BYTES: u32 = 1 << 20;
/// A chunk that is smaller than this was all there was: little is missing.
const NEAR_BYTES: usize = 256 << 10;
/// How long an operation may take; it may still come about, which is found out the next time.
const OPERATION_MAX: Duration = Duration::from_secs(5);
/// The last batches stand in one entry with the activation up to this size.
const TOGETHER_BYTES_MAX: usize = 8 << 20;
/// Pause before a move that got stuck is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Why a move does not go on now.
#[derive(Debug, thiserror::Error)]
enum Stuck {
    /// It is not this node's any more, or not at all.
    #[error("it is over, or another node's")]
    Over,
    /// It is tried again.
    #[error("{0}")]
    Now(String),
}

impl From<BrokerError> for Stuck {
    fn from(error: BrokerError) -> Stuck {
        Stuck::Now(error.to_string())
    }
}

fn stuck<T>(reason: impl Into<String>) -> Result<T, Stuck> {
    Err(Stuck::Now(reason.into()))
}

/// What a replica of the old shard has from an offset on.
enum Pulled {
    /// Whole batches from `base` to `next`.
    Batches {
        base: Offset,
        next: Offset,
        batches: Bytes,
        gone: Option<TombstoneView>,
        /// The room that they take.
        room: OwnedSemaphorePermit,
    },
    /// Nothing more.
    Nothing,
    /// Its log begins here, above.
    Deleted(Offset),
}

/// One move.
pub(super) struct Drive {
    broker: Broker,
    id: PartitionId,
    from: ShardId,
    moving: Move,
    /// The new log, and the old one.
    log: LogId,
    old: LogId,
}

impl Drive {
    pub(super) fn new(
        broker: Broker,
        id: PartitionId,
        entry: PartitionEntry,
        moving: Move,
    ) -> Drive {
        let (log, old) = logs(id, entry, moving);
        Drive {
            broker,
            id,
            from: entry.shard,
            moving,
            log,
            old,
        }
    }

    /// Ends when the move is done, over, or cannot go on for now.
    pub(super) async fn run(self) {
        match self.go_on().await {
            Ok(()) => return,
            Err(Stuck::Over) => {}
            Err(Stuck::Now(reason)) => {
                // Said often: it is tried again until it goes on or is called off.
                tracing::debug!(partition = %self.id, from = %self.from, to = %self.moving.to,
                    reason, "a move has to wait");
            }
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }

    async fn go_on(&self) -> Result<(), Stuck> {
        let epoch_base = match self.activated() {
            Some(epoch_base) => epoch_base,
            None => self.copy().await?,
        };
        let command = Command::FinishMove {
            partition: self.id,
            generation: self.moving.generation,
            epoch_base,
        };
        self.broker.change_catalogue(&command).await?;
        tracing::info!(partition = %self.id, from = %self.from, to = %self.moving.to,
            "moved a partition");
        Ok(())
    }

    /// Everything up to the activation; returns what it makes epochs of.
    async fn copy(&self) -> Result<i64, Stuck> {
        let end = self.begin().await?;
        let end = self.fill(end).await?;
        self.check_current()?;
        // What is sealed is to be activated at once, which a full disk would not take.
        if !self.broker.inner.journal.admits_data() {
            return stuck("this node's disk is full");
        }
        let Sealed { log, batches } = self.seal(end).await?;
        let mut end = end;
        let mut rest = batches;
        let mut gone = None;
        loop {
            let mut ops = Vec::new();
            let mut after = end;
            let bytes = rest.len();
            if !rest.is_empty() {
                after = checked(rest.clone(), end).await?;
                ops.push(PartitionOp::Fill {
                    log: self.log,
                    at: end,
                    gone,
                    batches: rest,
                });
            }
            if after > log.end {
                return stuck(format!(
                    "the new log would end at {after}, the old one does at {}",
                    log.end
                ));
            }
            // In one entry, unless that would be very large.
            if after == log.end && bytes <= TOGETHER_BYTES_MAX {
                ops.push(PartitionOp::Activate {
                    log: self.log,
                    start: log.start,
                    end: log.end,
                    epoch: log.epoch,
                    producers: log.producers.clone(),
                });
            }
            if !ops.is_empty() {
                let outcomes = self.propose(ops).await?;
                match outcomes.last() {
                    Some(Outcome::Activated { epoch_base }) => return Ok(*epoch_base),
                    Some(Outcome::Filled(reached)) if *reached == after => {}
                    other => return stuck(format!("the new log came to {other:?}")),
                }
            }
            end = after;
            rest = Bytes::new();
            if end < log.end {
                (rest, gone) = match self.pull(self.leader()?, end, log.end).await? {
                    Pulled::Batches {
                        base,
                        batches,
                        gone,
                        ..
                    } if base == end => (batches, gone),
                    _ => return stuck(format!("the sealed log cannot be had from {end} on")),
                };
            }
        }
    }

    /// What the log here adds to terms, if it is active.
    fn activated(&self) -> Option<i64> {
        let here = self
            .broker
            .inner
            .directory
            .get_in(self.moving.to, self.id)?;
        let is_it = here.log_id() == self.log && here.stand != Stand::Filling;
        is_it.then_some(here.epoch_base)
    }

    /// Makes the log unless it is there; answers where it ends.
    async fn begin(&self) -> Result<Offset, Stuck> {
        let here = self.broker.inner.directory.get_in(self.moving.to, self.id);
        if let Some(here) = here.filter(|here| here.log_id() == self.log) {
            return Ok(here.log.end_offset());
        }
        let base = self.first_base().await?;
        tracing::info!(partition = %self.id, from = %self.from, to = %self.moving.to, %base,
            "begins to move a partition");
        self.begin_at(base).await
    }

    async fn begin_at(&self, from: Offset) -> Result<Offset, Stuck> {
        let log = self.log;
        match self.propose_one(PartitionOp::Begin { log, from }).await? {
            Outcome::Filled(end) => Ok(end),
            Outcome::Occupied => stuck("what it once had of the partition is not gone yet"),
            Outcome::Outdated => Err(Stuck::Over),
            other => stuck(format!("beginning came to {other:?}")),
        }
    }

    /// Drops what the new log has, of which what comes now is no continuation, and begins it again.
    async fn begin_again(&self) -> Result<Offset, Stuck> {
        let base = self.first_base().await?;
        let log = self.log;
        tracing::info!(partition = %self.id, from = %self.from, to = %self.moving.to, %base,
            "begins to copy a compacted partition again: pieces of it do not fit together");
        let ops = vec![
            PartitionOp::Drop { logs: vec![log] },
            PartitionOp::Begin { log, from: base },
        ];
        match self.propose(ops).await?.last() {
            Some(Outcome::Filled(end)) => Ok(*end),
            other => stuck(format!("beginning again came to {other:?}")),
        }
    }

    /// Base of the batch that the old log begins with.
    async fn first_base(&self) -> Result<Offset, Stuck> {
        let leader = self.leader()?;
        let mut start = Offset(0);
        for _ in 0..2 {
            match self.pull(leader, start, Offset(i64::MAX)).await? {
                Pulled::Deleted(above) => start = above,
                Pulled::Batches { base, .. } => return Ok(base),
                Pulled::Nothing => return Ok(start),
            }
        }
        stuck(format!("its log start keeps rising, to {start} now"))
    }

    /// Copies from the nearest replica, and from the leader at last, until little is missing.
    async fn fill(&self, mut end: Offset) -> Result<Offset, Stuck> {
        let mut is_near = self
            .broker
            .inner
            .directory
            .get_in(self.from, self.id)
            .is_some();
        let mut ahead = None;
        let mut is_again = false;
        loop {
            self.check_current()?;
            let source = match is_near {
                true => self.broker.node_id(),
                false => self.leader()?,
            };
            let pulled = match ahead.take() {
                Some(pulled) => pulled,
                None => self.pull(source, end, Offset(i64::MAX)).await,
            };
            match pulled {
                Ok(Pulled::Batches {
                    base,
                    next,
                    batches,
                    gone,
                    room,
                }) => {
                    if base != end {
                        end = self.begin_at(base).await?;
                    }
                    if base != end {
                        return stuck(format!(
                            "batches from {base} on for a log that ends at {end}"
                        ));
                    }
                    let bytes = batches.len();
                    let fill = self.propose_one(PartitionOp::Fill {
                        log: self.log,
                        at: end,
                        gone,
                        batches,
                    });
                    let pull = self.pull(source, next, Offset(i64::MAX));
                    let (filled, more) = tokio::join!(fill, pull);
                    drop(room);
                    match filled? {
                        Outcome::Filled(reached) if reached == next => end = next,
                        Outcome::Filled(reached) => {
                            // Another leader has been at it; what was asked for ahead is void.
                            end = reached;
                            continue;
                        }
                        Outcome::Unfit if !is_again => {
                            // From the one replica that will have all of it.
                            (is_again, is_near) = (true, false);
                            end = self.begin_again().await?;
                            continue;
                        }
                        other => return stuck(format!("filling came to {other:?}")),
                    }
                    if bytes < NEAR_BYTES && !is_near {
                        return Ok(end);
                    }
                    ahead = Some(more);
                }
                Ok(Pulled::Nothing) if !is_near => return Ok(end),
                // What holds the log start may begin where this log ends; else it is begun anew.
                Ok(Pulled::Deleted(start)) => {
                    let pulled = self.pull(source, start, Offset(i64::MAX)).await;
                    match pulled {
                        Ok(Pulled::Nothing) => end = self.begin_at(start).await?,
                        Ok(Pulled::Deleted(start)) => {
                            return stuck(format!("its log start keeps rising, to {start} now"));
                        }
                        pulled => ahead = Some(pulled),
                    }
                }
                Ok(Pulled::Nothing) => is_near = false,
                Err(Stuck::Now(reason)) if is_near => {
                    tracing::info!(partition = %self.id, reason,
                        "cannot copy from this node's own replica");
                    is_near = false;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn seal(&self, at: Offset) -> Result<Sealed, Stuck> {
        let request = SealRequest {
            shard: self.from,
            log: self.old,
            by: self.moving.generation,
            at,
        };
        Ok(self.broker.ask_seal(self.leader()?, request).await?)
    }

    /// Asks a replica of the old shard for verified batches.
    async fn pull(&self, node: NodeId, at: Offset, limit: Offset) -> Result<Pulled, Stuck> {
        let range = ReadRange {
            shard: self.from,
            partition: self.id,
            from: at,
            limit,
            bytes_max: CHUNK_BYTES,
        };
        let ranges = self.broker.inner.catch_up.ranges();
        let fetched = if node == self.broker.node_id() {
            let own = async { Ok(self.broker.answer_range(range.encode()).await) };
            ranges.take(range.bytes_max, own).await
        } else {
            ranges.fetch(node, range).await
        };
        let (answer, room) = fetched.map_err(Stuck::Now)?;
        match answer {
            RangeAnswer::Batches { batches, .. } if batches.is_empty() => Ok(Pulled::Nothing),
            RangeAnswer::Batches {
                next,
                gone,
                batches,
            } => {
                // The first one may begin below what was asked for, when that is a log start.
                let base = base_of_batches(&batches)?;
                let end = checked(batches.clone(), base).await?;
                if base > at || end != next {
                    return stuck(format!("batches {base}..{end} instead of {at}..{next}"));
                }
                Ok(Pulled::Batches {
                    base,
                    next,
                    batches,
                    gone,
                    room,
                })
            }
            RangeAnswer::Deleted { start } => Ok(Pulled::Deleted(start)),
            RangeAnswer::Behind { .. } => Ok(Pulled::Nothing),
            RangeAnswer::NoSuchPartition { .. } => stuck("the old shard does not have it there"),
            RangeAnswer::Failed { reason } => stuck(reason),
        }
    }

    fn leader(&self) -> Result<NodeId, Stuck> {
        let leader = self.broker.shard_seen(self.from).leader;
        leader.ok_or_else(|| Stuck::Now(format!("shard {} has no leader", self.from)))
    }

    fn check_current(&self) -> Result<(), Stuck> {
        let entry = self.broker.catalogue().entry(self.id);
        let moving = entry.and_then(|entry| entry.moving);
        let shard = self.broker.data_shard(self.moving.to);
        let leads = shard.is_some_and(|shard| shard.leadership.borrow().serving);
        match moving == Some(self.moving) && leads {
            true => Ok(()),
            false => Err(Stuck::Over),
        }
    }

    async fn propose_one(&self, op: PartitionOp) -> Result<Outcome, Stuck> {
        let mut outcomes = self.propose(vec![op]).await?;
        outcomes.pop().map_or_else(|| stuck("no outcome"), Ok)
    }

    async fn propose(&self, ops: Vec<PartitionOp>) -> Result<Vec<Outcome>, Stuck> {
        let shard = self.broker.data_shard(self.moving.to);
        let shard = shard.ok_or(Stuck::Over)?;
        let ops = ops.into_iter().map(PartitionOp::encode).collect();
        let done = async { shard.shard.submit_many(ops).await?.await };
        match tokio::time::timeout(OPERATION_MAX, done).await {
            Ok(Ok(outcomes)) => Ok(outcomes),
            Ok(Err(error)) => stuck(error.to_string()),
            Err(_) => stuck("the new shard takes long"),
        }
    }
}

fn base_of_batches(batches: &Bytes) -> Result<Offset, Stuck> {
    match BatchHeader::parse(batches) {
        Ok(header) => Ok(Offset(header.base_offset)),
        Err(error) => stuck(format!("not a batch: {error}")),
    }
}

/// Checks batches that shall continue at `from`, off the runtime's threads; where they end.
async fn checked(batches: Bytes, from: Offset) -> Result<Offset, Stuck> {
    let checking = net::blocking(move || check_copied(&batches, from));
    match checking.await {
        Ok(Ok(end)) => Ok(end),
        Ok(Err(error)) => stuck(error.to_string()),
        Err(error) => stuck(error.to_string()),
    }
}
