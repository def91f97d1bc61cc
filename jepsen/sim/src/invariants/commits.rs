//! What replicas of a shard take for committed: it is durable on a majority of its members.

use std::collections::{BTreeMap, BTreeSet};

use jepsen_workload::fault::NodeId;
use raft::inspect::{Role, ShardInspection};
use storage::{LogPosition, ShardId};

use super::replica::Replicas;
use super::{Broken, Seen};

/// Members: one set of voters or, while they change, two.
type Members = Vec<Vec<storage::NodeId>>;

/// What is known of what a shard has committed.
#[derive(Debug, Default)]
pub(crate) struct Commits {
    /// The last entry that who leads has shown to be committed.
    shown: Option<LogPosition>,
    /// The last entry that who does not lead took for committed, and was found to be right.
    claimed: BTreeMap<NodeId, LogPosition>,
    /// All members that any replica has ever shown, by the entry that made them so.
    members: BTreeMap<Option<LogPosition>, Members>,
}

/// Whether an entry is durable on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    Yes,
    No,
    /// The node starts or stands still, and shows nothing; or has ended without having shown more.
    Perhaps,
}

impl Commits {
    /// Takes note of the members that a replica knows.
    pub(crate) fn note_members(&mut self, shard: &ShardInspection) {
        for (at, voters) in [
            (shard.members_at, &shard.voters),
            (shard.committed_members_at, &shard.committed_voters),
        ] {
            if !self.members.contains_key(&at) && voters.iter().any(|voters| !voters.is_empty()) {
                self.members.insert(at, voters.clone());
            }
        }
    }

    /// What a replica newly takes for committed is durable on a majority, be it that it leads or
    /// that it has heard so.
    pub(crate) fn look(
        &mut self,
        node: NodeId,
        shard: &ShardInspection,
        holds: impl Fn(NodeId, LogPosition) -> Held,
    ) -> Result<(), Broken> {
        let Some(committed) = shard.committed else {
            return Ok(());
        };
        let leads = shard.role == Role::Leader;
        let is_judged = match leads {
            true => self.shown >= Some(committed),
            // Where it is another entry than the leader's, that is seen when it is applied.
            false => {
                self.shown.map(|shown| shown.index) >= Some(committed.index)
                    || self.claimed.get(&node) == Some(&committed)
            }
        };
        if is_judged {
            return Ok(());
        }
        let members = self.members_at(shard, committed);
        let is_held = |by: &[Held]| {
            let counts = |voter: &&storage::NodeId| by.contains(&holds(voter.0, committed));
            let is_majority = |voters: &Vec<storage::NodeId>| {
                voters.iter().filter(counts).count() * 2 > voters.len()
            };
            members.is_empty() || members.iter().any(|sets| sets.iter().all(is_majority))
        };
        if !is_held(&[Held::Yes, Held::Perhaps]) {
            let detail = format!(
                "shard {}: {committed:?} is taken for committed and not durable on a majority of {members:?}; {shard:?}",
                shard.shard
            );
            return Err(Broken::new("committed-on-quorum", node, detail));
        }
        if leads {
            self.shown = Some(committed);
        } else if is_held(&[Held::Yes]) {
            self.claimed.insert(node, committed);
        }
        Ok(())
    }

    /// By which members an entry may have been committed: those that the replica knows to be in
    /// force there, and all that came later. New members count for who leads as soon as they are in
    /// its log, for entries before them too, and who follows may not have heard of them yet.
    fn members_at(&self, shard: &ShardInspection, committed: LogPosition) -> Vec<&Members> {
        let since = match shard.members_at.is_some_and(|at| committed < at) {
            true => shard.committed_members_at,
            false => shard.members_at,
        };
        self.members.range(since..).map(|(_, all)| all).collect()
    }
}

/// Who can say what is durable where.
pub(crate) struct Witnesses<'a> {
    pub(crate) shard: ShardId,
    pub(crate) all: &'a [Seen],
    /// Nodes that have run since they showed something last.
    pub(crate) unseen: &'a BTreeSet<NodeId>,
    pub(crate) replicas: &'a Replicas,
}

impl Witnesses<'_> {
    /// Whether a node has an entry, durable.
    pub(crate) fn hold(&self, node: NodeId, entry: LogPosition) -> Held {
        let running = self.all.iter().find(|one| one.id == node);
        let is_held = match running {
            Some(one) => holds(one, self.shard, entry),
            None if self.unseen.contains(&node) => return Held::Perhaps,
            None => self
                .replicas
                .last(node, self.shard)
                .is_none_or(|last| last.journal_durable >= Some(entry)),
        };
        if is_held { Held::Yes } else { Held::No }
    }
}

/// Whether a node that runs has an entry, durable. What it does not show is not held against it.
fn holds(seen: &Seen, shard: ShardId, entry: LogPosition) -> bool {
    let Some(now) = seen.node.shards.iter().find(|one| one.shard == shard) else {
        return true;
    };
    if now
        .journal_floor
        .is_some_and(|floor| floor.index >= entry.index)
    {
        return true;
    }
    let held = seen.broker.journal_term(shard, entry.index);
    held == Some(entry.term)
        && now
            .journal_durable
            .is_some_and(|durable| durable.index >= entry.index)
}

#[cfg(test)]
#[path = "commits_test.rs"]
mod tests;
