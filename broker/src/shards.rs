//! This node's data shards while it runs: opened when the catalogue assigns them, forgotten when it
//! has taken them away.
//!
//! Opening needs no certainty: a shard of which the journal knows nothing waits until a leader adds
//! this node, unless it may still be begun. Forgetting needs all there is: the catalogue's
//! confirmed replicas lack this node, no change is under way, and the shard's leader has been
//! reporting exactly these members for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLockWriteGuard};
use std::time::Duration;

use futures_util::future::join_all;
use raft::{OpenError, ShardOptions};
use storage::{NodeId, PartitionId, ShardId};
use tokio::task::JoinSet;

use crate::Broker;
use crate::broker::DataShard;
use crate::catalogue::{Catalogue, Shard};
use crate::controller::CATALOGUE_SHARD;
use crate::partition::machine::PartitionsMachine;
use crate::view::ShardSeen;

/// Time between two comparisons when the catalogue does not change.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long a shard's leader must have been reporting members without this node.
const FORGET_AFTER_MS: i64 = 3_000;

/// Data shards of which the node has a replica or shall have one.
fn assigned(catalogue: &Catalogue, node: NodeId) -> BTreeSet<ShardId> {
    let shards = catalogue.shards.values();
    shards
        .filter(|shard| shard.id != CATALOGUE_SHARD && shard.concerns(node))
        .map(|shard| shard.id)
        .collect()
}

/// The voters with which this node may begin a shard of which nobody may know anything yet.
fn founders(entry: Option<&Shard>, node: NodeId) -> Option<BTreeSet<NodeId>> {
    entry
        .filter(|shard| !shard.changed && shard.replicas.contains(&node))
        .map(|shard| shard.replicas.iter().copied().collect())
}

/// Whether a shard is certainly not this node's, at this moment.
fn is_foreign(entry: Option<&Shard>, node: NodeId, reported: Option<&ShardSeen>) -> bool {
    let (Some(entry), Some(reported)) = (entry, reported) else {
        return false;
    };
    let confirmed: BTreeSet<NodeId> = entry.replicas.iter().copied().collect();
    !entry.concerns(node)
        && entry.target.is_none()
        && reported.voters == confirmed
        && !reported.learners.contains(&node)
}

/// What runs beside each open shard; ends when it is dropped.
#[derive(Default)]
struct Watched {
    tasks: BTreeMap<ShardId, JoinSet<()>>,
    /// Since when a shard's leader has been reporting members without this node.
    foreign_since: BTreeMap<ShardId, i64>,
}

impl Broker {
    /// Opens, at the start, what the catalogue assigns to this node and what its journal holds. The
    /// catalogue on this disk may be older than the journal, so what it does not assign is opened
    /// all the same; only there a failure does not stop the start.
    pub(crate) async fn open_shards(&self) -> Result<(), OpenError> {
        let catalogue = self.catalogue();
        let assigned = assigned(&catalogue, self.node_id());
        let mut all = assigned.clone();
        all.extend(self.inner.journal.shards());
        all.remove(&CATALOGUE_SHARD);
        all.retain(|id| self.data_shard(*id).is_none());
        for (id, opened) in self.open_all(&catalogue, all).await {
            match opened {
                Ok(shard) => {
                    self.shards_mut().insert(id, shard);
                }
                Err(error) if assigned.contains(&id) => return Err(error),
                Err(error) => {
                    tracing::warn!(shard = %id, %error, "cannot open a shard of the past");
                }
            }
        }
        Ok(())
    }

    async fn open_all(
        &self,
        catalogue: &Catalogue,
        ids: BTreeSet<ShardId>,
    ) -> Vec<(ShardId, Result<DataShard, OpenError>)> {
        let open = |id: ShardId| async move { (id, self.open_shard(catalogue, id).await) };
        join_all(ids.into_iter().map(open)).await
    }

    async fn open_shard(&self, catalogue: &Catalogue, id: ShardId) -> Result<DataShard, OpenError> {
        let inner = &self.inner;
        let options = ShardOptions {
            founders: founders(catalogue.shards.get(&id), self.node_id()),
            stage: Some(Arc::new(inner.catch_up.stager(id))),
        };
        let machine = PartitionsMachine::new(id, inner.logs.clone(), inner.directory.clone());
        let shard = inner.host.open_shard(id, machine, options).await?;
        let leadership = shard.leadership();
        Ok(DataShard { shard, leadership })
    }

    /// Opens and forgets shards as the catalogue says, and runs what stands beside each open one,
    /// the catalogue's included. Runs until it is dropped.
    pub(crate) async fn manage_shards_forever(self) {
        let mut images = self.inner.images.clone();
        let mut watched = Watched::default();
        let mut beside_catalogue = JoinSet::new();
        let catalogue_shard = self.inner.catalogue_shard.clone();
        beside_catalogue.spawn(self.clone().drive_forever(CATALOGUE_SHARD, catalogue_shard));
        for (id, shard) in self.shards() {
            self.watch(&mut watched, id, shard);
        }
        loop {
            let image = images.borrow_and_update().clone();
            self.open_assigned(&image, &mut watched).await;
            self.forget_foreign(&image, &mut watched).await;
            tokio::select! {
                changed = images.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
    }

    fn watch(&self, watched: &mut Watched, id: ShardId, shard: DataShard) {
        let mut tasks = JoinSet::new();
        let driven = shard.shard.clone();
        tasks.spawn(self.clone().watch_leadership(id, shard));
        tasks.spawn(self.clone().drive_forever(id, driven));
        watched.tasks.insert(id, tasks);
    }

    async fn open_assigned(&self, catalogue: &Catalogue, watched: &mut Watched) {
        let mut missing = assigned(catalogue, self.node_id());
        missing.retain(|id| self.data_shard(*id).is_none());
        let mut is_changed = false;
        for (id, opened) in self.open_all(catalogue, missing).await {
            match opened {
                Ok(shard) => {
                    tracing::info!(shard = %id, "opened a shard");
                    self.shards_mut().insert(id, shard.clone());
                    self.watch(watched, id, shard);
                    is_changed = true;
                }
                Err(error) => {
                    tracing::error!(shard = %id, error = &error as &dyn std::error::Error,
                        "cannot open a shard");
                }
            }
        }
        if is_changed {
            self.inner.changes.send_modify(|changes| *changes += 1);
        }
    }

    async fn forget_foreign(&self, catalogue: &Catalogue, watched: &mut Watched) {
        let now_ms = self.inner.clock.monotonic_ms();
        let open: BTreeSet<ShardId> = self.shards().into_iter().map(|(id, _)| id).collect();
        watched.foreign_since.retain(|id, _| open.contains(id));
        for id in open {
            let reported = self.reported(id);
            let entry = catalogue.shards.get(&id);
            if !is_foreign(entry, self.node_id(), reported.as_ref()) {
                watched.foreign_since.remove(&id);
                continue;
            }
            let since = *watched.foreign_since.entry(id).or_insert(now_ms);
            if now_ms.saturating_sub(since) >= FORGET_AFTER_MS {
                self.forget(watched, id).await;
            }
        }
    }

    /// Closes a shard for good and deletes what this node has of it. When the node dies in between,
    /// what is left is put aside by the next start, or the shard is opened and forgotten again.
    async fn forget(&self, watched: &mut Watched, id: ShardId) {
        watched.tasks.remove(&id);
        self.shards_mut().remove(&id);
        if let Err(error) = self.inner.host.destroy_shard(id).await {
            // It is closed and harmless; the next start opens it, and it is forgotten then.
            tracing::warn!(shard = %id, %error, "cannot delete a shard that other nodes carry now");
            return;
        }
        let directory = &self.inner.directory;
        let partitions: Vec<PartitionId> = directory
            .all()
            .iter()
            .filter(|partition| partition.shard == id)
            .map(|partition| partition.id)
            .collect();
        for partition in &partitions {
            let gone = directory.get(*partition);
            directory.remove(*partition);
            self.inner.logs.remove(*partition);
            if let Some(gone) = gone {
                gone.waiters.wake_all();
            }
        }
        tracing::info!(shard = %id, partitions = partitions.len(),
            "deleted a shard that other nodes carry now");
        self.inner.changes.send_modify(|changes| *changes += 1);
    }

    fn shards_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<ShardId, DataShard>> {
        self.inner
            .shards
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Factor;

    fn entry(replicas: &[u32], target: Option<&[u32]>) -> Shard {
        let nodes = |list: &[u32]| list.iter().copied().map(NodeId).collect();
        Shard {
            target: target.map(nodes),
            ..Shard::new(ShardId(1), nodes(replicas), Factor::Auto)
        }
    }

    fn reported(voters: &[u32], learners: &[u32]) -> ShardSeen {
        ShardSeen {
            voters: voters.iter().copied().map(NodeId).collect(),
            learners: learners.iter().copied().map(NodeId).collect(),
            ..ShardSeen::default()
        }
    }

    #[test]
    fn a_shard_is_forgotten_only_when_catalogue_and_leader_agree() {
        let me = NodeId(4);
        let settled = reported(&[1, 2, 3], &[]);
        let foreign =
            |entry: &Shard, reported: Option<&ShardSeen>| is_foreign(Some(entry), me, reported);
        assert!(foreign(&entry(&[1, 2, 3], None), Some(&settled)));
        assert!(!foreign(&entry(&[1, 2, 4], None), Some(&settled)));
        assert!(!foreign(
            &entry(&[1, 2, 3], Some(&[1, 2, 4])),
            Some(&settled)
        ));
        assert!(!foreign(
            &entry(&[1, 2, 3], Some(&[1, 2, 5])),
            Some(&settled)
        ));
        assert!(!foreign(&entry(&[1, 2, 3], None), None));
        let follows = reported(&[1, 2, 3], &[4]);
        assert!(!foreign(&entry(&[1, 2, 3], None), Some(&follows)));
        assert!(!foreign(
            &entry(&[1, 2, 3], None),
            Some(&reported(&[1, 2, 4], &[]))
        ));
        assert!(
            !is_foreign(None, me, Some(&settled)),
            "a catalogue that lags knows nothing"
        );
    }

    #[test]
    fn a_shard_is_begun_only_by_replicas_and_only_before_it_was_changed() {
        let fresh = entry(&[1, 2, 3], None);
        assert!(founders(Some(&fresh), NodeId(1)).is_some_and(|voters| voters.len() == 3));
        assert_eq!(founders(Some(&fresh), NodeId(4)), None);
        let changed = Shard {
            changed: true,
            ..fresh
        };
        assert_eq!(founders(Some(&changed), NodeId(1)), None);
        assert_eq!(founders(None, NodeId(1)), None);
    }
}
