//! This node's data shards while it runs: opened when the catalogue assigns them, given up when it
//! has taken them away.
//!
//! A shard of which the journal knows nothing waits until a leader adds this node, unless it may
//! still be begun. Whether it may is for a catalogue to say that is known to be current: an old one
//! may assign what this node has given up since, and a replica that has forgotten its votes and
//! entries must not begin it anew. Giving shards up stands in `forget.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLockWriteGuard};
use std::time::Duration;

use futures_util::future::join_all;
use raft::{OpenError, ShardOptions};
use storage::{NodeId, ShardId};
use tokio::task::JoinSet;

use crate::Broker;
use crate::broker::DataShard;
use crate::catalogue::Catalogue;
use crate::controller::CATALOGUE_SHARD;
use crate::forget::Leaving;
use crate::partition::machine::PartitionsMachine;

/// Time between two comparisons when the catalogue does not change.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long a start waits to learn whether its own catalogue is current.
const CURRENT_WAIT: Duration = Duration::from_secs(2);

/// Data shards of which the node has a replica or shall have one.
fn assigned(catalogue: &Catalogue, node: NodeId) -> BTreeSet<ShardId> {
    let shards = catalogue.shards.values();
    shards
        .filter(|shard| shard.id != CATALOGUE_SHARD && shard.concerns(node))
        .map(|shard| shard.id)
        .collect()
}

/// The voters with which this node may begin a shard of which nobody may know anything yet. Who
/// lost its memory since the shard was made may have begun it before.
fn founders(catalogue: &Catalogue, shard: ShardId, node: NodeId) -> Option<BTreeSet<NodeId>> {
    let entry = catalogue.shards.get(&shard);
    entry
        .filter(|entry| !entry.changed && entry.replicas.contains(&node))
        .filter(|_| catalogue.void(shard, node).is_none())
        .map(|shard| shard.replicas.iter().copied().collect())
}

/// How a shard is opened: with these founders, if any. `None`: not until the catalogue is known to
/// be current.
fn opening(
    catalogue: &Catalogue,
    shard: ShardId,
    node: NodeId,
    is_known: bool,
    is_current: bool,
) -> Option<Option<BTreeSet<NodeId>>> {
    match founders(catalogue, shard, node) {
        None => Some(None),
        founders if is_current => Some(founders),
        // What it is stands on the disk.
        Some(_) if is_known => Some(None),
        Some(_) => None,
    }
}

/// What the node's own tasks know of its shards.
#[derive(Default)]
pub(crate) struct Watched {
    /// What runs beside each open shard; ends when it is dropped.
    pub(crate) tasks: BTreeMap<ShardId, JoinSet<()>>,
    /// Shards that are closed because they seem to be other nodes'.
    pub(crate) leaving: Leaving,
}

/// Shards to open, and their founders.
type ToOpen = BTreeMap<ShardId, Option<BTreeSet<NodeId>>>;

impl Broker {
    /// Opens, at the start, what the catalogue assigns to this node and what its journal holds. The
    /// catalogue on this disk may be older than the journal, so what it does not assign is opened
    /// all the same; only there a failure does not stop the start. What may have to be begun is
    /// opened later, unless this node serves the catalogue itself.
    pub(crate) async fn open_shards(&self) -> Result<(), OpenError> {
        let serves = self.inner.catalogue_shard.leadership().borrow().serving;
        let current = tokio::time::timeout(CURRENT_WAIT, self.catalogue_is_current());
        let is_current = serves && matches!(current.await, Ok(Ok(())));
        let catalogue = self.catalogue();
        let assigned = assigned(&catalogue, self.node_id());
        let mut all = assigned.clone();
        all.extend(self.inner.journal.shards());
        all.remove(&CATALOGUE_SHARD);
        all.retain(|id| self.data_shard(*id).is_none());
        let all = self.without_voids(&catalogue, all).await;
        let (all, _) = self.openings(&catalogue, all, is_current);
        for (id, opened) in self.open_all(all).await {
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

    /// What can be opened now, and what has to wait for a catalogue that is known to be current.
    fn openings(
        &self,
        catalogue: &Catalogue,
        ids: BTreeSet<ShardId>,
        is_current: bool,
    ) -> (ToOpen, BTreeSet<ShardId>) {
        let known: BTreeSet<ShardId> = self.inner.journal.shards().into_iter().collect();
        let (mut now, mut later) = (ToOpen::new(), BTreeSet::new());
        for id in ids {
            let is_known = known.contains(&id);
            match opening(catalogue, id, self.node_id(), is_known, is_current) {
                Some(founders) => {
                    now.insert(id, founders);
                }
                None => {
                    later.insert(id);
                }
            }
        }
        (now, later)
    }

    async fn open_all(&self, shards: ToOpen) -> Vec<(ShardId, Result<DataShard, OpenError>)> {
        let open = |(id, founders)| async move { (id, self.open_shard(id, founders).await) };
        join_all(shards.into_iter().map(open)).await
    }

    async fn open_shard(
        &self,
        id: ShardId,
        founders: Option<BTreeSet<NodeId>>,
    ) -> Result<DataShard, OpenError> {
        let inner = &self.inner;
        let options = ShardOptions {
            founders,
            stage: Some(Arc::new(inner.catch_up.stager(id))),
        };
        let machine = PartitionsMachine::new(id, inner.logs.clone(), inner.directory.clone());
        let shard = inner.host.open_shard(id, machine, options).await?;
        let leadership = shard.leadership();
        Ok(DataShard { shard, leadership })
    }

    /// Opens and gives up shards as the catalogue says, and runs what stands beside each open one,
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
        let mut leadership = self.inner.catalogue_shard.leadership();
        loop {
            images.borrow_and_update();
            leadership.borrow_and_update();
            self.settle_leaving(&mut watched).await;
            self.settle_stale(&self.catalogue()).await;
            self.open_assigned(&mut watched).await;
            self.close_foreign(&mut watched).await;
            tokio::select! {
                changed = images.changed() => if changed.is_err() { return },
                changed = leadership.changed() => if changed.is_err() { return },
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

    async fn open_assigned(&self, watched: &mut Watched) {
        let catalogue = self.catalogue();
        let later = self.open_missing(&catalogue, watched, false).await;
        if later.is_empty() {
            return;
        }
        match self.catalogue_is_current().await {
            Ok(()) => {
                let catalogue = self.catalogue();
                self.open_missing(&catalogue, watched, true).await;
            }
            Err(error) => {
                tracing::info!(shards = later.len(), %error,
                    "new shards have to wait for the catalogue");
            }
        }
    }

    /// Opens what is assigned and not open; answers what has to wait.
    async fn open_missing(
        &self,
        catalogue: &Catalogue,
        watched: &mut Watched,
        is_current: bool,
    ) -> BTreeSet<ShardId> {
        let mut missing = assigned(catalogue, self.node_id());
        missing.retain(|id| self.data_shard(*id).is_none() && !watched.leaving.contains(*id));
        let missing = self.without_voids(catalogue, missing).await;
        let (now, later) = self.openings(catalogue, missing, is_current);
        self.open_watched(watched, now).await;
        later
    }

    /// Opens shards while the node runs. What fails is tried again in the next round.
    pub(crate) async fn open_watched(&self, watched: &mut Watched, shards: ToOpen) {
        let mut is_changed = false;
        for (id, opened) in self.open_all(shards).await {
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

    pub(crate) fn shards_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<ShardId, DataShard>> {
        self.inner
            .shards
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{Factor, Shard, Void};

    const SHARD: ShardId = ShardId(1);

    fn catalogue(replicas: &[u32]) -> Catalogue {
        let replicas = replicas.iter().copied().map(NodeId).collect();
        let shard = Shard::new(SHARD, replicas, Factor::Auto);
        Catalogue {
            shards: [(SHARD, shard)].into(),
            ..Catalogue::default()
        }
    }

    #[test]
    fn a_shard_is_begun_only_by_replicas_and_only_before_it_was_changed() {
        let fresh = catalogue(&[1, 2, 3]);
        let of_1 = founders(&fresh, SHARD, NodeId(1));
        assert!(of_1.is_some_and(|voters| voters.len() == 3));
        assert_eq!(founders(&fresh, SHARD, NodeId(4)), None);
        let mut changed = fresh.clone();
        if let Some(shard) = changed.shards.get_mut(&SHARD) {
            shard.changed = true;
        }
        assert_eq!(founders(&changed, SHARD, NodeId(1)), None);
        assert_eq!(founders(&fresh, ShardId(2), NodeId(1)), None);
    }

    #[test]
    fn who_lost_its_memory_begins_no_shard_that_it_may_have_begun_and_the_others_do() {
        for void in [
            Void::Waiting,
            Void::Cleared(raft::Floor::default()),
            Void::Accepted,
        ] {
            let mut marked = catalogue(&[1, 2, 3]);
            marked.voids = [(SHARD, [(NodeId(1), void)].into())].into();
            assert_eq!(founders(&marked, SHARD, NodeId(1)), None);
            assert!(founders(&marked, SHARD, NodeId(2)).is_some());
        }
    }

    #[test]
    fn a_shard_is_begun_only_by_a_catalogue_that_is_current() {
        let (me, fresh) = (NodeId(1), catalogue(&[1, 2, 3]));
        let open = |is_known, is_current| opening(&fresh, SHARD, me, is_known, is_current);
        let founders = Some(founders(&fresh, SHARD, me));
        assert_eq!(open(false, false), None, "this node may have given it up");
        assert_eq!(open(false, true), founders);
        assert_eq!(open(true, false), Some(None), "it goes on from its disk");
        // Who does not begin it needs no certainty.
        let other = opening(&fresh, SHARD, NodeId(4), false, false);
        let unknown = opening(&fresh, ShardId(2), me, true, false);
        assert_eq!((other, unknown), (Some(None), Some(None)));
    }
}
