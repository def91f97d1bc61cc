//! One replica by itself: what may only rise, and in which order its marks stand.

use std::collections::BTreeMap;

use broker::inspect::PartitionInspection;
use jepsen_workload::fault::NodeId;
use raft::inspect::{Role, ShardInspection};
use storage::{LogId, LogPosition, Offset, ShardId};

use super::{Broken, Seen};
use crate::machine::Excuse;

/// What every replica showed last.
#[derive(Debug, Default)]
pub(crate) struct Replicas {
    shards: BTreeMap<(NodeId, ShardId), Last>,
    logs: BTreeMap<NodeId, BTreeMap<LogId, LastLog>>,
}

#[derive(Debug)]
struct Last {
    run: u64,
    seen: ShardInspection,
}

#[derive(Debug)]
struct LastLog {
    run: u64,
    start: Offset,
    end: Offset,
}

impl Replicas {
    /// What a replica showed last, though its node may not run any more.
    pub(crate) fn last(&self, node: NodeId, shard: ShardId) -> Option<&ShardInspection> {
        self.shards.get(&(node, shard)).map(|last| &last.seen)
    }

    /// The node is gone.
    pub(crate) fn forget_node(&mut self, id: NodeId) {
        self.shards.retain(|(node, _), _| *node != id);
        self.logs.remove(&id);
    }

    /// Compares a node with what it showed before.
    pub(crate) fn look(&mut self, seen: &Seen) -> Result<(), Broken> {
        for shard in &seen.node.shards {
            in_order(shard).map_err(|detail| Broken::new("order-of-marks", seen.id, detail))?;
            let key = (seen.id, shard.shard);
            match self.shards.get_mut(&key) {
                Some(last) => {
                    if last.run == seen.run || seen.excuse == Excuse::None {
                        vote_rises(&last.seen, shard)
                            .map_err(|detail| Broken::new("vote-rises", seen.id, detail))?;
                    }
                    if last.run != seen.run {
                        leads_anew(&last.seen, shard).map_err(|detail| {
                            Broken::new("restart-ends-leadership", seen.id, detail)
                        })?;
                    }
                    if last.run == seen.run {
                        marks_rise(&last.seen, shard)
                            .map_err(|detail| Broken::new("marks-rise", seen.id, detail))?;
                    }
                    last.run = seen.run;
                    last.seen.clone_from(shard);
                }
                None => {
                    let last = Last {
                        run: seen.run,
                        seen: shard.clone(),
                    };
                    self.shards.insert(key, last);
                }
            }
        }
        // A replica that was given up and comes again begins anew.
        let has = |shard: &ShardId| seen.node.shards.iter().any(|one| one.shard == *shard);
        self.shards
            .iter_mut()
            .filter(|((node, shard), _)| *node == seen.id && !has(shard))
            .for_each(|(_, last)| last.run = 0);
        self.look_at_logs(seen)
    }

    fn look_at_logs(&mut self, seen: &Seen) -> Result<(), Broken> {
        let before = self.logs.remove(&seen.id).unwrap_or_default();
        let mut now = BTreeMap::new();
        for log in &seen.node.partitions {
            if let Some(before) = before.get(&log.log).filter(|one| one.run == seen.run)
                && (before.end > log.end || before.start > log.start)
            {
                return Err(fell(seen.id, before, log));
            }
            let last = LastLog {
                run: seen.run,
                start: log.start,
                end: log.end,
            };
            now.insert(log.log, last);
        }
        self.logs.insert(seen.id, now);
        Ok(())
    }
}

fn fell(node: NodeId, before: &LastLog, log: &PartitionInspection) -> Broken {
    let detail = format!(
        "{}: from {}..{} to {}..{} in one run",
        log.log, before.start, before.end, log.start, log.end
    );
    Broken::new("high-watermark-rises", node, detail)
}

/// purged <= snapshot <= applied <= committed <= last.
fn in_order(shard: &ShardInspection) -> Result<(), String> {
    let marks = [
        ("purged", shard.purged),
        ("snapshot", shard.snapshot),
        ("applied", shard.applied),
        ("committed", shard.committed),
        ("last", shard.last),
    ];
    let wrong = marks.windows(2).find(|pair| pair[0].1 > pair[1].1);
    wrong.map_or(Ok(()), |pair| {
        let [(lower, low), (upper, high)] = [pair[0], pair[1]];
        let shard = shard.shard;
        Err(format!(
            "shard {shard}: {lower} {low:?} is beyond {upper} {high:?}"
        ))
    })
}

/// Votes are for ever: the term never falls, and within it the vote is given once.
fn vote_rises(before: &ShardInspection, now: &ShardInspection) -> Result<(), String> {
    let vote = |seen: &ShardInspection| (seen.term, seen.voted_for, seen.is_vote_committed);
    let (old, new) = (vote(before), vote(now));
    let is_good =
        new.0 > old.0 || (new.0 == old.0 && (new.1 == old.1 || !old.2) && (new.2 || !old.2));
    if is_good {
        return Ok(());
    }
    Err(format!("shard {}: from {old:?} to {new:?}", now.shard))
}

/// Who led a term and starts again leads no more in it: what it had sent it may have lost.
fn leads_anew(before: &ShardInspection, now: &ShardInspection) -> Result<(), String> {
    let leads = |seen: &ShardInspection| (seen.role == Role::Leader).then_some(seen.term);
    match (leads(before), leads(now)) {
        (Some(term), Some(again)) if term == again => {
            Err(format!("shard {}: {term:?} before and after", now.shard))
        }
        _ => Ok(()),
    }
}

/// What rises as long as a node runs.
fn marks_rise(before: &ShardInspection, now: &ShardInspection) -> Result<(), String> {
    let marks: [(&str, Option<LogPosition>, Option<LogPosition>); 4] = [
        ("purged", before.purged, now.purged),
        ("snapshot", before.snapshot, now.snapshot),
        ("applied", before.applied, now.applied),
        ("committed", before.committed, now.committed),
    ];
    let fell = marks.iter().find(|(_, old, new)| old > new);
    fell.map_or(Ok(()), |(name, old, new)| {
        let shard = now.shard;
        Err(format!(
            "shard {shard}: {name} fell from {old:?} to {new:?}"
        ))
    })
}
