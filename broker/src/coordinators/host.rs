//! The tasks of all coordinators of one kind: two for each partition of the internal topic that this
//! node has, one that follows and one that leads when it is this node's turn.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use storage::PartitionId;
use tokio::task::JoinSet;

use super::follower::{Committed, follow_forever};
use super::leading::lead_forever;
use super::{Coordinators, Kind};
use crate::Broker;

/// How often it is looked which partitions are here.
const INTERVAL: Duration = Duration::from_secs(1);
/// The same while some are to come.
const INTERVAL_SOON: Duration = Duration::from_millis(50);

impl Broker {
    /// Runs until it is dropped, and ends the tasks of all partitions then.
    pub(crate) async fn coordinate_forever<K: Kind>(self, all: Arc<Coordinators<K>>) {
        let mut images = self.inner.images.clone();
        let mut changes = self.inner.changes.subscribe();
        let mut tasks: BTreeMap<PartitionId, JoinSet<()>> = BTreeMap::new();
        loop {
            images.borrow_and_update();
            changes.borrow_and_update();
            let (here, are_coming) = self.coordinated_here(K::TOPIC);
            tasks.retain(|id, tasks| here.contains(id) && is_running(*id, tasks));
            for id in here {
                let start = || self.coordinate(&all, id);
                tasks.entry(id).or_insert_with(start);
            }
            let interval = if are_coming { INTERVAL_SOON } else { INTERVAL };
            tokio::select! {
                changed = images.changed() => if changed.is_err() { return },
                changed = changes.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(interval) => {}
            }
        }
    }

    /// Partitions of the topic that are on this node, and whether others shall be.
    fn coordinated_here(&self, topic: &str) -> (BTreeSet<PartitionId>, bool) {
        let catalogue = self.catalogue();
        let Some(topic) = catalogue.topics.get(topic) else {
            return (BTreeSet::new(), false);
        };
        let mut here = BTreeSet::new();
        let mut are_coming = false;
        for (index, entry) in (0..).zip(&topic.partitions) {
            let id = PartitionId {
                topic: topic.id,
                index,
            };
            if self.inner.directory.contains(id) {
                here.insert(id);
            } else {
                are_coming |= self.data_shard(entry.shard).is_some();
            }
        }
        (here, are_coming)
    }

    fn coordinate<K: Kind>(&self, all: &Arc<Coordinators<K>>, id: PartitionId) -> JoinSet<()> {
        let fresh = all.kind.fresh();
        let committed = Arc::new(Committed::new(fresh.clone()));
        let mut tasks = JoinSet::new();
        tasks.spawn(follow_forever(
            self.clone(),
            id,
            fresh,
            Arc::clone(&committed),
        ));
        tasks.spawn(lead_forever(self.clone(), Arc::clone(all), id, committed));
        tasks
    }
}

/// Whether no task has ended. They end by themselves only through a bug; then they are begun anew.
fn is_running(id: PartitionId, tasks: &mut JoinSet<()>) -> bool {
    let Some(ended) = tasks.try_join_next() else {
        return true;
    };
    let reason = ended.err().map(|error| error.to_string());
    tracing::error!(partition = %id, reason, "a coordinator ended");
    false
}
