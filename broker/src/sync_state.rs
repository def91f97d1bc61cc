//! Which replicas a leader counts as in sync.
//!
//! As Kafka counts: a replica is in sync while it had everything that the leader had at some moment
//! of the last few seconds. So one that follows under load is, however fast the log grows, and one
//! that is silent is not for long.

use std::collections::BTreeMap;

use raft::{Members, ReplicaProgress, Shard};
use storage::{LogIndex, NodeId, ShardId};

use crate::peers::message::{CatchingUp, ShardReport};

/// A replica that had everything this long ago still counts as in sync.
const BEHIND_MS_MAX: i64 = 3_000;
/// A replica that is silent for this long does not, whatever it had.
const SILENT_MS_MAX: u64 = 1_500;
/// Entries that a replica may lack when nothing is known of the moments before.
const BEHIND_ENTRIES_MAX: u64 = 8;

/// What is remembered of the shards that this node leads.
#[derive(Debug, Default)]
pub(crate) struct SyncStates {
    shards: BTreeMap<ShardId, SyncState>,
}

#[derive(Debug, Default)]
struct SyncState {
    term: u64,
    /// The leader's last entry when it was looked at before.
    last: Option<LogIndex>,
    caught_up_ms: BTreeMap<NodeId, i64>,
}

/// A leader's shard at one moment.
struct Moment<'a> {
    term: u64,
    last: Option<LogIndex>,
    leader: NodeId,
    members: &'a Members,
    replicas: &'a BTreeMap<NodeId, ReplicaProgress>,
    now_ms: i64,
}

impl SyncStates {
    /// What there is to say about a shard that this node leads; `None` when it does not.
    pub(crate) fn report<O: Send + Sync + 'static>(
        &mut self,
        shard: &Shard<O>,
        now_ms: i64,
    ) -> Option<ShardReport> {
        let leadership = *shard.leadership().borrow();
        let (Some(leader), Some(replicas)) = (leadership.leader, shard.replicas()) else {
            self.shards.remove(&shard.id());
            return None;
        };
        let members = shard.members().borrow().clone();
        let moment = Moment {
            term: leadership.term.0,
            last: shard.progress().last.map(|last| last.index),
            leader,
            members: &members,
            replicas: &replicas,
            now_ms,
        };
        let in_sync = self.shards.entry(shard.id()).or_default().look(&moment);
        let catching_up = replicas
            .iter()
            .filter(|(node, _)| !in_sync.contains(node))
            .map(|(node, progress)| {
                let left = progress.staging.and_then(|staging| staging.bytes_left);
                CatchingUp {
                    node: *node,
                    bytes_left: left.unwrap_or(0),
                    entries: progress.matched.map_or(0, |matched| matched.0),
                }
            })
            .collect();
        Some(ShardReport {
            shard: shard.id(),
            term: moment.term,
            in_sync: in_sync
                .into_iter()
                .filter(|node| members.voters.contains(node))
                .collect(),
            catching_up,
            is_joint: members.is_joint,
            voters: members.voters,
            learners: members.learners,
        })
    }
}

impl SyncState {
    /// Who has, or lately had, everything.
    fn look(&mut self, moment: &Moment<'_>) -> Vec<NodeId> {
        if self.term != moment.term {
            *self = SyncState {
                term: moment.term,
                ..SyncState::default()
            };
        }
        let last = moment.last.map_or(0, |last| last.0);
        let enough = match self.last {
            Some(before) => before.0.min(last),
            None => last.saturating_sub(BEHIND_ENTRIES_MAX),
        };
        let nodes = moment.members.voters.union(&moment.members.learners);
        let mut in_sync = Vec::new();
        for node in nodes.copied() {
            if node == moment.leader {
                in_sync.push(node);
                continue;
            }
            let progress = moment.replicas.get(&node).copied().unwrap_or_default();
            let matched = progress.matched.map_or(0, |matched| matched.0);
            if progress.matched.is_some() && matched >= enough {
                self.caught_up_ms.insert(node, moment.now_ms);
            }
            let caught_up = self.caught_up_ms.get(&node);
            let is_near =
                caught_up.is_some_and(|ms| moment.now_ms.saturating_sub(*ms) <= BEHIND_MS_MAX);
            let is_heard = progress
                .acknowledged_ms_ago
                .is_some_and(|ago| ago <= SILENT_MS_MAX);
            if is_near && is_heard && progress.staging.is_none() {
                in_sync.push(node);
            }
        }
        self.last = moment.last;
        in_sync
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Leader {
        state: SyncState,
        replicas: BTreeMap<NodeId, ReplicaProgress>,
    }

    impl Leader {
        fn new() -> Leader {
            Leader {
                state: SyncState::default(),
                replicas: BTreeMap::new(),
            }
        }

        fn acknowledged(&mut self, node: u32, matched: u64, ago: u64) {
            let progress = ReplicaProgress {
                matched: Some(LogIndex(matched)),
                acknowledged_ms_ago: Some(ago),
                staging: None,
            };
            self.replicas.insert(NodeId(node), progress);
        }

        fn look(&mut self, last: u64, now_ms: i64) -> Vec<u32> {
            let members = Members {
                voters: [1, 2, 3].map(NodeId).into(),
                ..Members::default()
            };
            let moment = Moment {
                term: 1,
                last: Some(LogIndex(last)),
                leader: NodeId(1),
                members: &members,
                replicas: &self.replicas,
                now_ms,
            };
            self.state.look(&moment).iter().map(|node| node.0).collect()
        }
    }

    #[test]
    fn who_had_what_the_leader_had_a_moment_ago_is_in_sync() {
        let mut leader = Leader::new();
        leader.acknowledged(2, 100, 5);
        leader.acknowledged(3, 10, 5);
        assert_eq!(leader.look(100, 0), [1, 2]);
        // The log runs ahead, node 2 follows one look behind.
        leader.acknowledged(2, 150, 5);
        assert_eq!(leader.look(1_000, 500), [1, 2]);
        leader.acknowledged(2, 1_000, 5);
        assert_eq!(leader.look(2_000, 1_000), [1, 2]);
    }

    #[test]
    fn who_falls_behind_or_silent_is_not_for_long() {
        let mut leader = Leader::new();
        leader.acknowledged(2, 100, 5);
        leader.acknowledged(3, 100, 5);
        assert_eq!(leader.look(100, 0), [1, 2, 3]);
        leader.acknowledged(2, 100, 2_000);
        assert_eq!(leader.look(100, 500), [1, 3], "node 2 is silent");
        leader.acknowledged(3, 101, 5);
        assert_eq!(leader.look(500, 1_000), [1, 3]);
        assert_eq!(leader.look(900, 4_200), [1], "node 3 is behind");
    }
}
