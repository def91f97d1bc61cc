//! Changes of members that make no progress: since when, and because of whom.
//!
//! Every node keeps this from the reports that all of them get, so that each can say it and that a
//! new controller does not begin to wait anew. A change gets on when its members change, or when a
//! replica that comes takes over entries or lacks fewer bytes than before; a copy that begins anew
//! may lack more again, but not for ever. Only the time in which the shard is led counts, since
//! without a leader nobody could get on. A node that holds a
//! change up for too long is given up for it and barred for a while: from that shard, and when
//! that happens in several shards under different leaders from all of them, for then neither a
//! shard nor a leader is to blame; changes that had begun towards it meanwhile give it up sooner.
//! A change that gets on but takes very long between two changes of its members stops holding
//! others up; nobody is given up for that.

use std::collections::{BTreeMap, BTreeSet};

use storage::{NodeId, ShardId};

use super::plan::{ShardView, View};
use super::settings::Settings;
use crate::catalogue::{Catalogue, Shard};

/// Most time that one look after another counts for: a node that was stopped in between has seen
/// nothing of it.
const LOOK_MS_MAX: i64 = 5_000;
/// How often a copy may begin anew, between two signs of progress of another kind, and lack more
/// than before.
const RESTARTS_MAX: u32 = 10;
/// Leaders under which a node must have held changes up, each of another shard, to be barred from
/// all.
const LEADERS_TO_BAR: usize = 2;

/// See the module. Times are monotonic, in milliseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stalls {
    changes: BTreeMap<ShardId, Change>,
    barred: BTreeMap<(NodeId, ShardId), Bar>,
    looked_ms: Option<i64>,
}

/// A node that held a change up until it was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GivenUp {
    pub(crate) shard: ShardId,
    pub(crate) node: NodeId,
    pub(crate) idle_ms: i64,
}

#[derive(Debug, Clone, Copy)]
struct Bar {
    until_ms: i64,
    /// Who led the shard, and was to send what was missing.
    leader: NodeId,
}

#[derive(Debug, Clone)]
struct Change {
    target: Vec<NodeId>,
    members: (BTreeSet<NodeId>, BTreeSet<NodeId>, bool),
    behind: BTreeMap<NodeId, Behind>,
    idle_ms: i64,
    /// Since the members changed.
    led_ms: i64,
    /// Takes up a change that had stalled, and has not got on itself either.
    succeeds_stalled: bool,
    given_up: BTreeSet<NodeId>,
}

/// How far a replica that comes has come at best.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Behind {
    entries: u64,
    bytes_left: Option<u64>,
    restarts: u32,
}

/// Replicas that a shard shall get.
fn newcomers(shard: &Shard) -> impl Iterator<Item = NodeId> {
    let target = shard.target.iter().flatten().copied();
    target.filter(|node| !shard.replicas.contains(node))
}

fn behind(seen: &ShardView, node: NodeId) -> Option<Behind> {
    let mut replicas = seen.catching_up.iter();
    let replica = replicas.find(|replica| replica.node == node)?;
    Some(Behind {
        entries: replica.entries,
        // 0 while it is not known.
        bytes_left: Some(replica.bytes_left).filter(|bytes| *bytes > 0),
        restarts: 0,
    })
}

impl Behind {
    /// Takes in what it lacks by now; answers whether that is less than before.
    fn lacks(&mut self, left: u64) -> bool {
        let Some(least) = self.bytes_left else {
            self.bytes_left = Some(left);
            return false;
        };
        if left > least && self.restarts < RESTARTS_MAX {
            self.restarts += 1;
            self.bytes_left = Some(left);
        } else if left < least {
            self.bytes_left = Some(left);
        }
        left < least
    }
}

impl Change {
    fn begun(shard: &Shard, seen: &ShardView) -> Change {
        let behind = newcomers(shard).filter_map(|node| Some((node, behind(seen, node)?)));
        Change {
            target: shard.target.clone().unwrap_or_default(),
            members: members(seen),
            behind: behind.collect(),
            idle_ms: 0,
            led_ms: 0,
            succeeds_stalled: false,
            given_up: BTreeSet::new(),
        }
    }

    /// Whether it got on since it was looked at; takes in how far it is.
    fn gets_on(&mut self, shard: &Shard, seen: &ShardView) -> bool {
        let now = Change::begun(shard, seen);
        if now.members != self.members {
            *self = now;
            return true;
        }
        let mut gets_on = false;
        for (node, now) in now.behind {
            let best = self.behind.entry(node).or_insert(now);
            if now.entries > best.entries {
                // What it lacks after that is counted anew.
                *best = now;
                gets_on = true;
            } else if let Some(left) = now.bytes_left {
                gets_on |= best.lacks(left);
            }
        }
        gets_on
    }
}

fn members(seen: &ShardView) -> (BTreeSet<NodeId>, BTreeSet<NodeId>, bool) {
    (seen.voters.clone(), seen.learners.clone(), seen.is_joint)
}

impl Stalls {
    /// Takes in how things stand now; answers whom it gives up.
    pub(crate) fn observe(
        &mut self,
        catalogue: &Catalogue,
        view: &View,
        settings: &Settings,
        now_ms: i64,
    ) -> Vec<GivenUp> {
        let since = self.looked_ms.replace(now_ms).unwrap_or(now_ms);
        let passed_ms = now_ms.saturating_sub(since).clamp(0, LOOK_MS_MAX);
        let in_change = |id: &ShardId| {
            let shard = catalogue.shards.get(id);
            shard.is_some_and(|shard| shard.target.is_some())
        };
        self.changes.retain(|id, _| in_change(id));
        self.barred.retain(|(node, shard), bar| {
            let exist = catalogue.nodes.contains_key(node) && catalogue.shards.contains_key(shard);
            exist && now_ms < bar.until_ms
        });
        let mut given_up = Vec::new();
        let known_bad = self.barred();
        let nobody = ShardView::default();
        for shard in catalogue.shards.values() {
            let Some(target) = &shard.target else {
                continue;
            };
            let seen = view.shards.get(&shard.id).unwrap_or(&nobody);
            let begun = || Change::begun(shard, seen);
            let change = self.changes.entry(shard.id).or_insert_with(begun);
            if change.target != *target {
                let succeeds_stalled =
                    change.succeeds_stalled || change.idle_ms >= settings.stall_after_ms;
                *change = Change {
                    succeeds_stalled,
                    led_ms: change.led_ms,
                    ..begun()
                };
                continue;
            }
            let leader = seen.leader.filter(|leader| view.alive.contains(leader));
            if leader.is_some() {
                change.led_ms = change.led_ms.saturating_add(passed_ms);
            }
            if change.gets_on(shard, seen) {
                change.idle_ms = 0;
                change.succeeds_stalled = false;
                change.given_up.clear();
                continue;
            }
            let Some(leader) = leader else { continue };
            change.idle_ms = change.idle_ms.saturating_add(passed_ms);
            for node in newcomers(shard) {
                let patience_ms = if known_bad.contains(&node) {
                    settings.abandon_dead_after_ms
                } else {
                    settings.stall_after_ms
                };
                let holds_up = change.idle_ms >= patience_ms
                    && !seen.voters.contains(&node)
                    && (behind(seen, node).is_some() || !view.alive.contains(&node));
                if holds_up && change.given_up.insert(node) {
                    let until_ms = now_ms.saturating_add(settings.bar_ms);
                    let bar = Bar { until_ms, leader };
                    self.barred.insert((node, shard.id), bar);
                    given_up.push(GivenUp {
                        shard: shard.id,
                        node,
                        idle_ms: change.idle_ms,
                    });
                }
            }
        }
        given_up
    }

    /// Whether there is nothing to forget.
    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.barred.is_empty()
    }

    /// Whether a change waits for nobody knows what.
    fn is_stalled(&self, shard: ShardId, settings: &Settings) -> bool {
        let change = self.changes.get(&shard);
        change.is_some_and(|change| {
            change.succeeds_stalled || change.idle_ms >= settings.stall_after_ms
        })
    }

    /// Whether a change no longer counts among those that are under way.
    pub(crate) fn has_had_its_time(&self, shard: ShardId, settings: &Settings) -> bool {
        let change = self.changes.get(&shard);
        let is_long = change.is_some_and(|change| change.led_ms >= settings.slot_ms_max);
        is_long || self.is_stalled(shard, settings)
    }

    /// For how long a stalled change has made no progress.
    pub(crate) fn stalled_ms(&self, shard: ShardId, settings: &Settings) -> Option<i64> {
        let idle_ms = self.changes.get(&shard)?.idle_ms;
        (idle_ms >= settings.stall_after_ms).then_some(idle_ms)
    }

    /// Whether a node is given up as a new replica in the change under way.
    pub(crate) fn is_given_up(&self, shard: ShardId, node: NodeId) -> bool {
        let change = self.changes.get(&shard);
        change.is_some_and(|change| change.given_up.contains(&node))
    }

    /// Shards in which a node lately held a change up.
    pub(crate) fn barred_from(&self, node: NodeId) -> Vec<ShardId> {
        let barred = self.barred.keys();
        barred
            .filter(|(of, _)| *of == node)
            .map(|(_, shard)| *shard)
            .collect()
    }

    /// Nodes that get no new replicas, whatever the shard.
    pub(crate) fn barred(&self) -> BTreeSet<NodeId> {
        let nodes: BTreeSet<NodeId> = self.barred.keys().map(|(node, _)| *node).collect();
        let often = |node: &NodeId| {
            let bars = self.barred.iter().filter(|((of, _), _)| of == node);
            let leaders: BTreeSet<NodeId> = bars.map(|(_, bar)| bar.leader).collect();
            leaders.len() >= LEADERS_TO_BAR
        };
        nodes.into_iter().filter(often).collect()
    }

    /// Whether a shard lately gave a node up.
    pub(crate) fn bars_somebody_from(&self, shard: ShardId) -> bool {
        self.barred.keys().any(|(_, of)| *of == shard)
    }

    /// Nodes that get no new replica of a shard.
    pub(crate) fn barred_for(&self, shard: ShardId) -> BTreeSet<NodeId> {
        let mut barred = self.barred();
        let of_shard = self.barred.keys().filter(|(_, of)| *of == shard);
        barred.extend(of_shard.map(|(node, _)| *node));
        barred
    }
}

#[cfg(test)]
#[path = "stalls_test.rs"]
mod tests;
