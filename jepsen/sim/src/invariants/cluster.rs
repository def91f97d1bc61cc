//! The catalogue over time: a topic that is deleted never returns.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use broker::catalogue::Catalogue;
use jepsen_workload::fault::NodeId;
use storage::{LogIndex, ShardId, TopicId};

use super::{Broken, Seen};

/// The catalogue's shard.
const CATALOGUE: ShardId = ShardId(0);

/// Every topic that was ever seen.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    /// What each node showed last, and which run that was.
    pictures: BTreeMap<NodeId, (u64, Arc<Catalogue>)>,
    /// How far each node's catalogue has come, at least.
    applied: BTreeMap<NodeId, LogIndex>,
    /// Deleted, as of the entry by which a node had it no more at the latest.
    deleted: BTreeMap<TopicId, LogIndex>,
}

impl Topics {
    /// Compares a node's catalogue with what was seen before.
    pub(crate) fn look(&mut self, seen: &Seen) -> Result<(), Broken> {
        let newest = seen
            .applied
            .iter()
            .filter(|(shard, _)| *shard == CATALOGUE)
            .filter_map(|(_, entries)| entries.last());
        if let Some(entry) = newest.max_by_key(|entry| entry.position) {
            self.applied.insert(seen.id, entry.position.index);
        }
        let now = &seen.node.catalogue;
        let before = self.pictures.get(&seen.id);
        if before.is_some_and(|(run, picture)| *run == seen.run && Arc::ptr_eq(picture, now)) {
            return Ok(());
        }
        let index = self.applied.get(&seen.id).copied().unwrap_or_default();
        if let Some((run, picture)) = before
            && *run == seen.run
        {
            let gone = picture
                .names
                .keys()
                .filter(|id| !now.names.contains_key(*id));
            for id in gone {
                let at = self.deleted.entry(*id).or_insert(index);
                *at = (*at).min(index);
            }
        }
        let is_back = |id: &TopicId| self.deleted.get(id).is_some_and(|at| *at <= index);
        let back: BTreeSet<&TopicId> = now.names.keys().filter(|id| is_back(id)).collect();
        if let Some(id) = back.first() {
            let detail = format!(
                "topic {} ({id}) is there at index {index}, deleted by {:?}",
                now.names[*id],
                self.deleted.get(*id)
            );
            return Err(Broken::new("deleted-topic-stays-deleted", seen.id, detail));
        }
        self.pictures.insert(seen.id, (seen.run, Arc::clone(now)));
        Ok(())
    }

    /// The node's memory is another from now on.
    pub(crate) fn forget_node(&mut self, id: NodeId) {
        self.pictures.remove(&id);
        self.applied.remove(&id);
    }
}
