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
/// For so long after it was known to be current the catalogue here may decide about members. A
/// change that comes about meanwhile has this leader in it, or another one has taken over.
const CURRENT_FOR_MS: i64 = 1_000;
/// After so long a step counts as failed; what it began may still come about.
const STEP_MAX: Duration = Duration::from_secs(20);

/// Whether the catalogue was known to be current a moment ago.
fn is_current(known_ms: Option<i64>, now_ms: i64) -> bool {
    known_ms.is_some_and(|known| now_ms.saturating_sub(known) < CURRENT_FOR_MS)
}

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
        let mut current_ms = None;
        loop {
            images.borrow_and_update();
            members.borrow_and_update();
            let pause = if leadership.borrow_and_update().serving {
                self.drive(id, &shard, &mut current_ms).await
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
    async fn drive<O>(
        &self,
        id: ShardId,
        shard: &Shard<O>,
        current_ms: &mut Option<i64>,
    ) -> Duration
    where
        O: Send + Sync + 'static,
    {
        let mut step = match self.step(id, shard) {
            Ok(step) => step,
            Err(pause) => return pause,
        };
        let now_ms = self.inner.clock.monotonic_ms();
        if step.changes_members() && !is_current(*current_ms, now_ms) {
            if let Err(error) = self.catalogue_is_current().await {
                tracing::warn!(shard = %id, %error,
                    "a change of members has to wait for the catalogue");
                return RETRY;
            }
            *current_ms = Some(now_ms);
            step = match self.step(id, shard) {
                Ok(step) => step,
                Err(pause) => return pause,
            };
        }
        if !matches!(step, Step::Done | Step::Wait(_) | Step::Settle) {
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

    /// The next step, from the catalogue as it is here; or when to look again.
    fn step<O>(&self, id: ShardId, shard: &Shard<O>) -> Result<Step, Duration>
    where
        O: Send + Sync + 'static,
    {
        let catalogue = self.catalogue();
        let entry = catalogue.shards.get(&id).ok_or(IDLE)?;
        let mut voids = catalogue.waiting_voids(id);
        // Who leads has been accepted as it is.
        voids.remove(&self.node_id());
        let is_void = |node: &NodeId| voids.contains(node);
        let wanted = wanted_list(entry);
        let is_unconfirmed = entry.target.is_some() && !wanted.iter().any(is_void);
        let wanted: Vec<NodeId> = wanted.iter().filter(|n| !is_void(n)).copied().collect();
        if wanted.is_empty() {
            return Err(IDLE);
        }
        let learners: BTreeSet<NodeId> = if id == CATALOGUE_SHARD {
            let nodes = catalogue.nodes.keys();
            nodes
                .filter(|n| !wanted.contains(n) && !is_void(n))
                .copied()
                .collect()
        } else {
            BTreeSet::new()
        };
        let members = shard.members().borrow().clone();
        let caught_up = caught_up(shard).ok_or(RETRY)?;
        let applied = shard.progress().applied.map(|applied| applied.index);
        let is_committed = members.at.is_none_or(|at| applied >= Some(at));
        Ok(next_step(&Stage {
            leader: self.node_id(),
            wanted: &wanted,
            learners: &learners,
            members: &members,
            voids: &voids,
            caught_up: &caught_up,
            is_unconfirmed,
            is_committed,
        }))
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
            Step::Wait(_) | Step::Settle => {}
            Step::AddLearner(node) => shard.add_learner(node).await.map_err(text)?,
            Step::Transfer(to) => shard.transfer_leader(to).await.map_err(text)?,
            Step::Change { voters, learners } => {
                shard.change_members(voters, learners).await.map_err(text)?
            }
            Step::Clear(node) => self.clear_void(shard, node).await?,
            Step::Confirm(replicas) => self
                .confirm(id, replicas)
                .await
                .map_err(|e| e.to_string())?,
        }
        Ok(PAUSE)
    }

    async fn confirm(&self, shard: ShardId, replicas: Vec<NodeId>) -> Result<(), BrokerError> {
        let command = Command::ShardChanged { shard, replicas };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catalogue_counts_as_current_for_a_moment() {
        assert!(!is_current(None, 0));
        assert!(is_current(Some(0), 999));
        assert!(!is_current(Some(0), 1_000));
    }
}
