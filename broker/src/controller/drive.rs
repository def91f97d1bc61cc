//! Changes of members, carried out by each shard's leader: one step at a time, from what the
//! catalogue wants and how the members are. It remembers nothing, so any leader can go on.

use std::collections::BTreeSet;
use std::time::Duration;

use raft::{MembersError, Shard};
use storage::{NodeId, ShardId};

use super::plan::{CATALOGUE_SHARD, wanted_list};
use super::steps::{Stage, Step, next_step};
use crate::catalogue::command::Command;
use crate::{Broker, BrokerError};

/// Entries that a replica may lack and still count as caught up.
const LAG_ENTRIES_MAX: u64 = 64;
/// A replica that has not answered for longer has not caught up.
const ANSWER_AGE_MAX_MS: u64 = 2_000;
/// Time between two looks while a change is under way.
const PAUSE: Duration = Duration::from_millis(50);
/// Time before a step that failed is tried again.
const RETRY: Duration = Duration::from_millis(300);
/// Time between two looks when there seems to be nothing to do.
const IDLE: Duration = Duration::from_secs(5);
/// After so long a step counts as failed; what it began may still come about.
const STEP_MAX: Duration = Duration::from_secs(20);

impl Broker {
    /// Keeps a shard's members as the catalogue wants them while this node leads it. Runs until it
    /// is dropped; a change it has begun then goes on or is taken up by the next leader.
    pub(crate) async fn drive_forever<O>(self, id: ShardId, shard: Shard<O>)
    where
        O: Send + Sync + 'static,
    {
        let mut images = self.inner.images.clone();
        let mut leadership = shard.leadership();
        let mut members = shard.members();
        loop {
            images.borrow_and_update();
            members.borrow_and_update();
            let pause = if leadership.borrow_and_update().serving {
                self.drive(id, &shard).await
            } else {
                IDLE
            };
            if pause < IDLE {
                tokio::time::sleep(pause).await;
                continue;
            }
            let changed = tokio::select! {
                changed = images.changed() => changed,
                changed = leadership.changed() => changed,
                changed = members.changed() => changed,
                () = tokio::time::sleep(IDLE) => Ok(()),
            };
            if changed.is_err() {
                return;
            }
        }
    }

    /// Takes one step; answers when to look again.
    async fn drive<O>(&self, id: ShardId, shard: &Shard<O>) -> Duration
    where
        O: Send + Sync + 'static,
    {
        let catalogue = self.catalogue();
        let Some(entry) = catalogue.shards.get(&id) else {
            return IDLE;
        };
        let wanted = wanted_list(entry);
        let learners: BTreeSet<NodeId> = if id == CATALOGUE_SHARD {
            let nodes = catalogue.nodes.keys();
            nodes.filter(|n| !wanted.contains(n)).copied().collect()
        } else {
            BTreeSet::new()
        };
        let members = shard.members().borrow().clone();
        let Some(caught_up) = caught_up(shard) else {
            return RETRY;
        };
        let step = next_step(&Stage {
            leader: self.node_id(),
            wanted,
            learners: &learners,
            members: &members,
            caught_up: &caught_up,
            is_unconfirmed: entry.target.is_some(),
        });
        if !matches!(step, Step::Done | Step::Wait(_)) {
            tracing::info!(shard = %id, ?step, "changing members");
        }
        let done = tokio::time::timeout(STEP_MAX, self.take_step(id, shard, step));
        match done.await {
            Ok(Ok(pause)) => pause,
            Ok(Err(reason)) => {
                tracing::warn!(shard = %id, reason, "a change of members has to wait");
                RETRY
            }
            Err(_) => {
                tracing::warn!(shard = %id, "a change of members takes long");
                RETRY
            }
        }
    }

    async fn take_step<O>(
        &self,
        id: ShardId,
        shard: &Shard<O>,
        step: Step,
    ) -> Result<Duration, String>
    where
        O: Send + Sync + 'static,
    {
        let text = |error: MembersError| error.to_string();
        match step {
            Step::Done => return Ok(IDLE),
            Step::Wait(_) => {}
            Step::AddLearner(node) => shard.add_learner(node).await.map_err(text)?,
            Step::Transfer(to) => shard.transfer_leader(to).await.map_err(text)?,
            Step::Change { voters, learners } => {
                shard.change_members(voters, learners).await.map_err(text)?
            }
            Step::Confirm => self.confirm(id).await.map_err(|e| e.to_string())?,
        }
        Ok(PAUSE)
    }

    async fn confirm(&self, shard: ShardId) -> Result<(), BrokerError> {
        let catalogue = self.catalogue();
        let target = catalogue.shards.get(&shard);
        let Some(target) = target.and_then(|shard| shard.target.clone()) else {
            return Ok(());
        };
        let command = Command::ShardChanged {
            shard,
            replicas: target,
        };
        match self.change_catalogue(&command).await {
            // The target is another one by now; the next image says which.
            Ok(_) | Err(BrokerError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Replicas that have nearly everything; `None` when this node does not lead.
pub(crate) fn caught_up<O>(shard: &Shard<O>) -> Option<BTreeSet<NodeId>>
where
    O: Send + Sync + 'static,
{
    let replicas = shard.replicas()?;
    let last = shard.progress().last.map_or(0, |last| last.index.0);
    let near = |progress: &raft::ReplicaProgress| {
        let matched = progress.matched.map(|index| index.0);
        progress.staging.is_none()
            && matched.is_some_and(|matched| matched + LAG_ENTRIES_MAX >= last)
            && progress
                .acknowledged_ms_ago
                .is_some_and(|ago| ago <= ANSWER_AGE_MAX_MS)
    };
    let near = replicas.iter().filter(|(_, progress)| near(progress));
    Some(near.map(|(node, _)| *node).collect())
}
