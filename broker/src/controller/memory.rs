//! What the controller remembers between two rounds: since when nodes are dead, since when
//! preferred leaders are fit to lead, and which leaders it moved when.
//!
//! A new controller begins with nothing and is more patient for it, never less.

use std::collections::{BTreeMap, BTreeSet};

use storage::{NodeId, ShardId};

use super::plan::{Action, View, preferred};
use super::settings::Settings;
use crate::catalogue::Catalogue;

/// See the module. Times are monotonic, in milliseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory {
    dead_since: BTreeMap<NodeId, i64>,
    /// Shards whose preferred leader is alive and in sync: who that is, and since when.
    fit_since: BTreeMap<ShardId, (NodeId, i64)>,
    asked: BTreeMap<ShardId, i64>,
    last_balance_ms: Option<i64>,
}

impl Memory {
    /// Takes in how things stand now.
    pub(crate) fn observe(&mut self, catalogue: &Catalogue, view: &View, now_ms: i64) {
        let dead = |node: &NodeId| catalogue.nodes.contains_key(node) && !view.alive.contains(node);
        self.dead_since.retain(|node, _| dead(node));
        for node in catalogue.nodes.keys().filter(|node| dead(node)) {
            self.dead_since.entry(*node).or_insert(now_ms);
        }
        let fit: BTreeMap<ShardId, NodeId> = catalogue
            .shards
            .values()
            .filter_map(|shard| {
                let node = preferred(catalogue, shard)?;
                let seen = view.shards.get(&shard.id)?;
                let fit = view.alive.contains(&node) && seen.in_sync.contains(&node);
                fit.then_some((shard.id, node))
            })
            .collect();
        self.fit_since
            .retain(|shard, (node, _)| fit.get(shard) == Some(node));
        for (shard, node) in fit {
            self.fit_since.entry(shard).or_insert((node, now_ms));
        }
        self.asked
            .retain(|shard, _| catalogue.shards.contains_key(shard));
    }

    /// Takes in what is about to be done.
    pub(crate) fn note(&mut self, actions: &[Action], now_ms: i64) {
        for action in actions {
            if let Action::TransferLeader {
                shard, is_balance, ..
            } = action
            {
                self.asked.insert(*shard, now_ms);
                if *is_balance {
                    self.last_balance_ms = Some(now_ms);
                }
            }
        }
    }

    /// Nodes dead for at least so long.
    pub(crate) fn dead_for(&self, at_least_ms: i64, now_ms: i64) -> BTreeSet<NodeId> {
        self.dead_since
            .iter()
            .filter(|(_, since)| now_ms.saturating_sub(**since) >= at_least_ms)
            .map(|(node, _)| *node)
            .collect()
    }

    /// Whether a shard's preferred leader has been fit for long enough.
    pub(crate) fn is_settled(&self, shard: ShardId, settings: &Settings, now_ms: i64) -> bool {
        self.fit_since
            .get(&shard)
            .is_some_and(|(_, since)| now_ms.saturating_sub(*since) >= settings.settle_ms)
    }

    /// Whether a transfer may be asked for: none was a moment ago.
    pub(crate) fn may_ask(&self, shard: ShardId, settings: &Settings, now_ms: i64) -> bool {
        self.asked
            .get(&shard)
            .is_none_or(|at| now_ms.saturating_sub(*at) >= settings.ask_again_ms)
    }

    /// Whether a leader may be moved for balance: the one before has had its time.
    pub(crate) fn may_balance(&self, settings: &Settings, now_ms: i64) -> bool {
        self.last_balance_ms
            .is_none_or(|at| now_ms.saturating_sub(at) >= settings.transfer_interval_ms)
    }
}
