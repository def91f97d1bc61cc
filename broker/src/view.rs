//! What this node knows of the whole cluster: who leads each shard and who is in sync, who lives.
//!
//! Each leader tells every other node what it leads, at each change and every half second, in one
//! message a node. For shards that this node carries its own raft status comes first; for the
//! others the report of the newest term. A view is only ever late, never ahead: it is told to
//! clients and never decides what is committed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::Duration;

use raft::{Lane, Leadership};
use storage::{NodeId, ShardId};
use tokio::task::JoinSet;

use crate::Broker;
use crate::broker::CATALOGUE_SHARD;
use crate::cluster::{ClusterStatus, NodeStatus, ShardStatus};
use crate::controller::Settings;
use crate::peers::message::{CatchingUp, Request, ShardReport};
use crate::sync_state::SyncStates;

/// Time between two reports when nothing changes.
const REPORT_INTERVAL: Duration = Duration::from_millis(500);
/// Least time between two reports.
const REPORT_PAUSE: Duration = Duration::from_millis(20);
/// How long a node may take to take a report.
const REPORT_DEADLINE: Duration = Duration::from_secs(2);
/// A node that was heard this long ago lives, even if the link to it does not stand.
const ALIVE_MS: i64 = 3_000;

/// One shard, as far as this node knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ShardSeen {
    pub(crate) leader: Option<NodeId>,
    pub(crate) term: u64,
    pub(crate) voters: BTreeSet<NodeId>,
    pub(crate) learners: BTreeSet<NodeId>,
    /// Whether a change of voters is under way.
    pub(crate) is_joint: bool,
    pub(crate) in_sync: BTreeSet<NodeId>,
    /// Replicas that are being filled.
    pub(crate) catching_up: Vec<CatchingUp>,
}

/// What leaders have reported, and when each node was last heard.
#[derive(Debug, Default)]
pub(crate) struct ClusterView {
    shards: BTreeMap<ShardId, ShardSeen>,
    heard_ms: BTreeMap<NodeId, i64>,
}

impl ClusterView {
    /// Takes what `from` leads at this moment; answers whether anything is different now.
    pub(crate) fn take(&mut self, from: NodeId, reports: Vec<ShardReport>, now_ms: i64) -> bool {
        self.heard_ms.insert(from, now_ms);
        let mut changed = false;
        let reported: BTreeSet<ShardId> = reports.iter().map(|report| report.shard).collect();
        for (id, seen) in &mut self.shards {
            if seen.leader == Some(from) && !reported.contains(id) {
                seen.leader = None;
                changed = true;
            }
        }
        for report in reports {
            let seen = self.shards.entry(report.shard).or_default();
            if report.term < seen.term {
                continue;
            }
            let new = ShardSeen {
                leader: Some(from),
                term: report.term,
                voters: report.voters,
                learners: report.learners,
                is_joint: report.is_joint,
                in_sync: report.in_sync,
                catching_up: report.catching_up,
            };
            changed |= *seen != new;
            *seen = new;
        }
        changed
    }

    fn seen(&self, shard: ShardId) -> ShardSeen {
        self.shards.get(&shard).cloned().unwrap_or_default()
    }

    fn heard_within(&self, node: NodeId, now_ms: i64, ms: i64) -> bool {
        let heard = self.heard_ms.get(&node);
        heard.is_some_and(|heard| now_ms.saturating_sub(*heard) <= ms)
    }

    /// Forgets nodes and shards that are no more.
    fn retain(&mut self, nodes: impl Fn(NodeId) -> bool, shards: impl Fn(ShardId) -> bool) {
        self.heard_ms.retain(|node, _| nodes(*node));
        self.shards.retain(|shard, _| shards(*shard));
    }
}

impl Broker {
    /// Whether a node answers, as far as this one can tell.
    pub(crate) fn is_alive(&self, node: NodeId) -> bool {
        if node == self.node_id() {
            return true;
        }
        let linked = |node| {
            let links = self.inner.links.borrow();
            links.get(&node).is_some_and(|link| link.connected)
        };
        linked(node) || self.was_heard(node)
    }

    fn was_heard(&self, node: NodeId) -> bool {
        let view = self
            .inner
            .view
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        view.heard_within(node, self.inner.clock.monotonic_ms(), ALIVE_MS)
    }

    /// The nodes that answer, as far as this one can tell.
    pub(crate) fn alive_nodes(&self) -> BTreeSet<NodeId> {
        let catalogue = self.catalogue();
        let nodes = catalogue.nodes.keys().copied();
        nodes.filter(|node| self.is_alive(*node)).collect()
    }

    fn own_leadership(&self, shard: ShardId) -> Option<Leadership> {
        if shard == CATALOGUE_SHARD {
            return Some(*self.inner.catalogue_shard.leadership().borrow());
        }
        self.data_shard(shard)
            .map(|shard| *shard.leadership.borrow())
    }

    /// What a living leader reported of a shard, and nothing else; and when its last report came.
    pub(crate) fn reported(&self, shard: ShardId) -> Option<(ShardSeen, i64)> {
        let (seen, heard_ms) = {
            let view = self
                .inner
                .view
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let seen = view.seen(shard);
            // Who no longer names the shard in its reports is not its leader here.
            let heard_ms = seen.leader.and_then(|leader| view.heard_ms.get(&leader));
            let heard_ms = heard_ms.copied();
            (seen, heard_ms)
        };
        seen.leader.filter(|leader| self.is_alive(*leader))?;
        Some((seen, heard_ms?))
    }

    /// A shard as far as this node knows.
    pub(crate) fn shard_seen(&self, shard: ShardId) -> ShardSeen {
        let mut seen = {
            let view = self
                .inner
                .view
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            view.seen(shard)
        };
        if let Some(own) = self.own_leadership(shard) {
            let leads_not_yet = own.leader == Some(self.node_id()) && !own.serving;
            let leader = own.leader.filter(|_| !leads_not_yet);
            if own.term.0 > seen.term || (own.term.0 == seen.term && leader.is_some()) {
                seen.term = own.term.0;
                seen.leader = leader;
            }
            if leads_not_yet && own.term.0 >= seen.term {
                seen.leader = None;
            }
        }
        if seen.leader.is_some_and(|leader| !self.is_alive(leader)) {
            seen.leader = None;
        }
        if seen.voters.is_empty()
            && let Some(shard) = self.catalogue().shards.get(&shard)
        {
            seen.voters = shard.replicas.iter().copied().collect();
        }
        if let Some(leader) = seen.leader {
            seen.in_sync.insert(leader);
        } else {
            seen.in_sync.retain(|node| self.is_alive(*node));
        }
        seen
    }

    /// The node that clients are told is the controller: the catalogue's leader.
    #[must_use]
    pub fn controller(&self) -> Option<NodeId> {
        self.shard_seen(CATALOGUE_SHARD).leader
    }

    /// Takes another node's report.
    pub(crate) fn take_report(&self, from: NodeId, reports: Vec<ShardReport>) {
        let now_ms = self.inner.clock.monotonic_ms();
        let changed = {
            let mut view = self
                .inner
                .view
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            view.take(from, reports, now_ms)
        };
        if changed {
            self.inner.changes.send_modify(|changes| *changes += 1);
        }
    }

    /// Tells the other nodes what this one leads. Runs until it is dropped.
    pub(crate) async fn report_forever(self) {
        let mut changes = self.inner.changes.subscribe();
        let mut catalogue_leadership = self.inner.catalogue_shard.leadership();
        let mut links = self.inner.peers.links();
        let mut states = SyncStates::default();
        let mut sending: JoinSet<NodeId> = JoinSet::new();
        let mut busy: BTreeSet<NodeId> = BTreeSet::new();
        loop {
            changes.borrow_and_update();
            catalogue_leadership.borrow_and_update();
            links.borrow_and_update();
            while let Some(sent) = sending.try_join_next() {
                match sent {
                    Ok(node) => busy.remove(&node),
                    // Cannot be: the task does not panic and is never aborted.
                    Err(_) => return,
                };
            }
            let reports = self.reports(&mut states);
            let request = Request::Report(reports.clone()).encode();
            self.take_report(self.node_id(), reports);
            self.look_for_stalls();
            let catalogue = self.catalogue();
            for node in catalogue.nodes.keys().copied() {
                if node != self.node_id() && busy.insert(node) {
                    let (peers, request) = (self.inner.peers.clone(), request.clone());
                    sending.spawn(async move {
                        // One that does not answer is told again soon, and then by its link.
                        if let Err(error) = peers
                            .ask(node, Lane::Control, request, REPORT_DEADLINE)
                            .await
                        {
                            tracing::debug!(%node, %error, "a report was not taken");
                        }
                        node
                    });
                }
            }
            self.forget_gone();
            tokio::time::sleep(REPORT_PAUSE).await;
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                changed = catalogue_leadership.changed() => if changed.is_err() { return },
                changed = links.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(REPORT_INTERVAL) => {}
            }
        }
    }

    fn forget_gone(&self) {
        let catalogue = self.catalogue();
        let mut view = self
            .inner
            .view
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        view.retain(
            |node| catalogue.nodes.contains_key(&node),
            |shard| catalogue.shards.contains_key(&shard),
        );
    }

    /// What this node leads at this moment.
    fn reports(&self, states: &mut SyncStates) -> Vec<ShardReport> {
        let now_ms = self.inner.clock.monotonic_ms();
        let mut reports = Vec::new();
        let mut report = |leadership: Leadership, report: Option<ShardReport>| {
            if leadership.serving {
                reports.extend(report);
            }
        };
        let catalogue_shard = &self.inner.catalogue_shard;
        let leadership = *catalogue_shard.leadership().borrow();
        report(leadership, states.report(catalogue_shard, now_ms));
        let shards = self.shards();
        for (_, shard) in &shards {
            let leadership = *shard.leadership.borrow();
            report(leadership, states.report(&shard.shard, now_ms));
        }
        reports
    }
}

pub(crate) fn cluster_status(broker: &Broker) -> ClusterStatus {
    let catalogue = broker.catalogue();
    let mut partitions: BTreeMap<ShardId, usize> = BTreeMap::new();
    for topic in catalogue.topics.values() {
        for entry in &topic.partitions {
            *partitions.entry(entry.shard).or_default() += 1;
        }
    }
    let (stalls, settings) = (broker.stalls().clone(), Settings::default());
    let shard_status = |shard: &crate::catalogue::Shard| {
        let seen = broker.shard_seen(shard.id);
        let catching_up = seen.catching_up.iter();
        let catching_up = catching_up.map(|replica| (replica.node, replica.bytes_left));
        ShardStatus {
            id: shard.id,
            replicas: shard.replicas.clone(),
            target: shard.target.clone(),
            voters: seen.voters.into_iter().collect(),
            learners: seen.learners.into_iter().collect(),
            leader: seen.leader,
            term: seen.term,
            in_sync: seen.in_sync.into_iter().collect(),
            partitions: partitions.get(&shard.id).copied().unwrap_or_default(),
            catching_up: catching_up.collect(),
            returning: catalogue.waiting_voids(shard.id).into_iter().collect(),
            stalled_ms: stalls.stalled_ms(shard.id, &settings),
        }
    };
    let shards: Vec<ShardStatus> = catalogue.shards.values().map(shard_status).collect();
    let node_status = |node: &crate::catalogue::Node| NodeStatus {
        alive: broker.is_alive(node.id),
        leads: shards
            .iter()
            .filter(|shard| shard.leader == Some(node.id))
            .count(),
        replicas: shards
            .iter()
            .filter(|shard| shard.replicas.contains(&node.id))
            .count(),
        is_local: node.id == broker.node_id(),
        waits_for: broker.drain_waits_for(node.id),
        barred_from: stalls.barred_from(node.id),
        node: node.clone(),
    };
    ClusterStatus {
        cluster_id: catalogue.cluster_id.clone(),
        controller: broker.controller(),
        nodes: catalogue.nodes.values().map(node_status).collect(),
        shards,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(shard: u32, term: u64, in_sync: &[u32]) -> ShardReport {
        ShardReport {
            shard: ShardId(shard),
            term,
            voters: [1, 2, 3].map(NodeId).into(),
            learners: BTreeSet::new(),
            is_joint: false,
            in_sync: in_sync.iter().copied().map(NodeId).collect(),
            catching_up: Vec::new(),
        }
    }

    #[test]
    fn the_report_of_the_newest_term_counts() {
        let mut view = ClusterView::default();
        assert!(view.take(NodeId(1), vec![report(1, 5, &[1, 2])], 0));
        assert!(!view.take(NodeId(1), vec![report(1, 5, &[1, 2])], 1));
        assert!(view.take(NodeId(2), vec![report(1, 6, &[2, 3])], 2));
        assert!(!view.take(NodeId(1), vec![report(1, 5, &[1, 2])], 3));
        let seen = view.seen(ShardId(1));
        assert_eq!((seen.leader, seen.term), (Some(NodeId(2)), 6));
        assert_eq!(seen.in_sync, [2, 3].map(NodeId).into());
    }

    #[test]
    fn who_no_longer_reports_a_shard_no_longer_leads_it() {
        let mut view = ClusterView::default();
        view.take(NodeId(1), vec![report(1, 5, &[1]), report(2, 1, &[1])], 0);
        assert!(view.take(NodeId(1), vec![report(2, 1, &[1])], 1));
        let seen = view.seen(ShardId(1));
        assert_eq!((seen.leader, seen.term), (None, 5));
        assert_eq!(view.seen(ShardId(2)).leader, Some(NodeId(1)));
        // Another node's silence says nothing of it.
        assert!(!view.take(NodeId(3), vec![], 2));
        assert_eq!(view.seen(ShardId(2)).leader, Some(NodeId(1)));
    }

    #[test]
    fn a_node_counts_as_heard_for_a_while() {
        let mut view = ClusterView::default();
        view.take(NodeId(1), vec![], 1_000);
        assert!(view.heard_within(NodeId(1), 4_000, 3_000));
        assert!(!view.heard_within(NodeId(1), 4_001, 3_000));
        assert!(!view.heard_within(NodeId(2), 1_000, 3_000));
        view.retain(|_| false, |_| true);
        assert!(!view.heard_within(NodeId(1), 1_000, 3_000));
    }
}
