//! How a node gives up a shard that other nodes carry now.
//!
//! A replica that is deleted forgets what it voted for and acknowledged, so it must be certain that
//! it is none any more. First it is closed, and acknowledges nothing from then on. Then its leader
//! has to report, for a while after that, exactly the members that the catalogue has confirmed, and
//! the catalogue has to be current. Before anything is deleted the catalogue that says so is on
//! this disk: the next start must not take the shard for one that it may begin anew. When anything
//! of this fails to hold the shard is opened again, with all it had.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use storage::{LogId, NodeId, ShardId};

use crate::Broker;
use crate::catalogue::{Catalogue, Shard};
use crate::shards::Watched;
use crate::view::ShardSeen;

/// How long after the closing a shard's leader must be reporting members without this node; longer
/// than a report takes at most, so that the last one was sent after it.
const FORGET_AFTER_MS: i64 = 3_000;

/// Shards that are closed and not deleted yet.
#[derive(Debug, Default)]
pub(crate) struct Leaving {
    shards: BTreeMap<ShardId, Closed>,
}

#[derive(Debug)]
struct Closed {
    at_ms: i64,
    logs: Vec<LogId>,
}

impl Leaving {
    pub(crate) fn contains(&self, shard: ShardId) -> bool {
        self.shards.contains_key(&shard)
    }
}

/// Whether a shard is not this node's, at this moment.
fn is_foreign(entry: Option<&Shard>, node: NodeId, reported: Option<&ShardSeen>) -> bool {
    let (Some(entry), Some(reported)) = (entry, reported) else {
        return false;
    };
    let confirmed: BTreeSet<NodeId> = entry.replicas.iter().copied().collect();
    !entry.concerns(node)
        && entry.target.is_none()
        && !reported.is_joint
        && reported.voters == confirmed
        && !reported.learners.contains(&node)
}

/// What to do with a closed shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// It may be this node's after all.
    Reopen,
    /// It is another's by all reports, but not for long enough.
    Wait,
    /// It can be deleted if the catalogue is current.
    Delete,
}

/// `reported_ms`: when the leader's last report came.
fn next(is_foreign: bool, closed_ms: i64, reported_ms: i64) -> Next {
    if !is_foreign {
        Next::Reopen
    } else if reported_ms.saturating_sub(closed_ms) < FORGET_AFTER_MS {
        Next::Wait
    } else {
        Next::Delete
    }
}

impl Broker {
    fn is_foreign(&self, catalogue: &Catalogue, id: ShardId) -> bool {
        let reported = self.reported(id);
        let reported = reported.as_ref().map(|(seen, _)| seen);
        is_foreign(catalogue.shards.get(&id), self.node_id(), reported)
    }

    fn next_of(&self, id: ShardId, closed: &Closed) -> Next {
        let catalogue = self.catalogue();
        let reported = self.reported(id);
        let seen = reported.as_ref().map(|(seen, _)| seen);
        let is_foreign = is_foreign(catalogue.shards.get(&id), self.node_id(), seen);
        let reported_ms = reported.as_ref().map_or(i64::MIN, |(_, at_ms)| *at_ms);
        next(is_foreign, closed.at_ms, reported_ms)
    }

    /// Closes the open shards that seem to be other nodes'.
    pub(crate) async fn close_foreign(&self, watched: &mut Watched) {
        let catalogue = self.catalogue();
        let open = self.shards().into_iter().map(|(id, _)| id);
        let foreign: Vec<ShardId> = open.filter(|id| self.is_foreign(&catalogue, *id)).collect();
        for id in &foreign {
            watched.tasks.remove(id);
            self.shards_mut().remove(id);
        }
        let close = |id: ShardId| async move { (id, self.close(id).await) };
        for (id, closed) in join_all(foreign.into_iter().map(close)).await {
            tracing::info!(shard = %id, "closed a shard that other nodes seem to carry");
            watched.leaving.shards.insert(id, closed);
            self.inner.changes.send_modify(|changes| *changes += 1);
        }
    }

    async fn close(&self, id: ShardId) -> Closed {
        self.inner.host.close_shard(id).await;
        let directory = &self.inner.directory;
        let mut partitions = directory.all();
        partitions.retain(|partition| partition.shard == id);
        for partition in &partitions {
            // Opened again, another log takes its place.
            partition.supersede();
            directory.remove(partition.log_id());
            partition.waiters.wake_all();
        }
        directory.set_departed(id, BTreeSet::new());
        Closed {
            at_ms: self.inner.clock.monotonic_ms(),
            logs: partitions.iter().map(|one| one.log_id()).collect(),
        }
    }

    /// Deletes closed shards that are certainly other nodes', and opens those again that are not.
    pub(crate) async fn settle_leaving(&self, watched: &mut Watched) {
        if self.leaving_for(watched, Next::Delete).is_empty() {
            return self.reopen(watched).await;
        }
        let is_kept = self.keep_catalogue().await;
        // Looked at again, now that the catalogue is current.
        self.reopen(watched).await;
        if let Err(reason) = is_kept {
            tracing::warn!(
                reason,
                "shards that other nodes carry now cannot be deleted yet"
            );
            return;
        }
        for id in self.leaving_for(watched, Next::Delete) {
            self.delete(watched, id).await;
        }
    }

    fn leaving_for(&self, watched: &Watched, wanted: Next) -> Vec<ShardId> {
        let leaving = watched.leaving.shards.iter();
        leaving
            .filter(|(id, closed)| self.next_of(**id, closed) == wanted)
            .map(|(id, _)| *id)
            .collect()
    }

    /// Makes sure that the catalogue is current, and that it is on this disk as it is.
    async fn keep_catalogue(&self) -> Result<(), String> {
        let current = self.catalogue_is_current().await;
        current.map_err(|error| error.to_string())?;
        let shard = &self.inner.catalogue_shard;
        let applied = shard.progress().applied.map(|applied| applied.index);
        let kept = shard.checkpoint().await;
        let kept = kept.map_err(|error| error.to_string())?;
        if applied.is_none_or(|applied| kept.index >= applied) {
            return Ok(());
        }
        Err("the catalogue's checkpoint is an older one".to_owned())
    }

    async fn reopen(&self, watched: &mut Watched) {
        let back = self.leaving_for(watched, Next::Reopen);
        if back.is_empty() {
            return;
        }
        let shards = back.iter().map(|id| (*id, None)).collect();
        self.open_watched(watched, shards).await;
        let is_open = |id: &ShardId| self.data_shard(*id).is_some();
        watched.leaving.shards.retain(|id, _| !is_open(id));
    }

    /// Deletes what this node has of a shard. When the node dies in between, what is left is put
    /// aside by the next start, or the shard is opened and deleted again.
    async fn delete(&self, watched: &mut Watched, id: ShardId) {
        if let Err(error) = self.inner.host.destroy_shard(id).await {
            // It is closed and harmless, and tried again.
            tracing::warn!(shard = %id, %error, "cannot delete a shard that other nodes carry now");
            return;
        }
        let Some(closed) = watched.leaving.shards.remove(&id) else {
            return;
        };
        for log in &closed.logs {
            self.inner.logs.remove(*log);
        }
        tracing::info!(shard = %id, partitions = closed.logs.len(),
            "deleted a shard that other nodes carry now");
        self.inner.changes.send_modify(|changes| *changes += 1);
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
    fn a_shard_is_foreign_only_when_catalogue_and_leader_agree() {
        let me = NodeId(4);
        let settled = reported(&[1, 2, 3], &[]);
        let foreign =
            |entry: &Shard, reported: Option<&ShardSeen>| is_foreign(Some(entry), me, reported);
        let confirmed = entry(&[1, 2, 3], None);
        assert!(foreign(&confirmed, Some(&settled)));
        assert!(!foreign(&entry(&[1, 2, 4], None), Some(&settled)));
        for target in [[1, 2, 4], [1, 2, 5]] {
            assert!(!foreign(&entry(&[1, 2, 3], Some(&target)), Some(&settled)));
        }
        assert!(!foreign(&confirmed, None));
        assert!(!foreign(&confirmed, Some(&reported(&[1, 2, 3], &[4]))));
        assert!(!foreign(&confirmed, Some(&reported(&[1, 2, 4], &[]))));
        let joint = ShardSeen {
            is_joint: true,
            ..settled.clone()
        };
        assert!(!foreign(&confirmed, Some(&joint)), "a change is under way");
        assert!(
            !is_foreign(None, me, Some(&settled)),
            "a catalogue that lags knows nothing"
        );
    }

    #[test]
    fn only_what_is_reported_for_a_while_after_the_closing_counts() {
        assert_eq!(next(true, 10_000, 9_000), Next::Wait, "from before");
        assert_eq!(next(true, 10_000, 12_999), Next::Wait);
        assert_eq!(next(true, 10_000, 13_000), Next::Delete);
        assert_eq!(next(false, 10_000, 13_000), Next::Reopen);
        assert_eq!(next(true, 10_000, i64::MIN), Next::Wait);
    }
}
