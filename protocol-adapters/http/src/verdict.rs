//! How a cluster fares, in one sentence: a pure function of its picture.
//!
//! A shard stands as long as a majority of its voters lives and is in sync. So it can lose as many
//! more as there are of those above the majority, and the cluster can lose what its weakest shard
//! can.

use serde::{Deserialize, Serialize};

use crate::model::{Cluster, NodeState, Shard};

/// How a cluster fares.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Verdict {
    /// In one word.
    pub health: Health,
    /// In one sentence, or two.
    pub sentence: String,
    /// Nodes that can be lost now, whichever they are, without closing anything.
    pub can_lose: usize,
}

/// How a cluster fares, in one word. The worse is the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Everything is led, alive and in sync.
    Healthy,
    /// Everything is served, but some replica is missing or behind.
    Degraded,
    /// Something is not served.
    #[default]
    Unavailable,
}

/// Judges a cluster; its present verdict plays no part.
#[must_use]
pub fn verdict(cluster: &Cluster) -> Verdict {
    let down = ids(cluster.nodes.iter().filter(|n| !n.alive).map(|n| n.id));
    let unled: Vec<&Shard> = cluster
        .shards
        .iter()
        .filter(|shard| shard.leader.is_none_or(|leader| down.contains(&leader)))
        .collect();
    let can_lose = can_lose(cluster, &down, unled.len());
    let (health, cause) = cause(cluster, &down, &unled);
    let sentence = match health {
        Health::Healthy => format!("{cause}. {}", lose_sentence(can_lose, cluster)),
        Health::Degraded => format!("Degraded: {cause}. {}", lose_sentence(can_lose, cluster)),
        Health::Unavailable => format!("Unavailable: {cause}."),
    };
    Verdict {
        health,
        sentence,
        can_lose,
    }
}

fn can_lose(cluster: &Cluster, down: &[u32], unled: usize) -> usize {
    if unled > 0 {
        return 0;
    }
    let spare = cluster.shards.iter().map(|shard| {
        let standing = shard
            .voters
            .iter()
            .filter(|voter| !down.contains(voter) && shard.in_sync.contains(voter))
            .count();
        standing.saturating_sub(majority(shard.voters.len()))
    });
    spare.min().unwrap_or(0)
}

fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

fn cause(cluster: &Cluster, down: &[u32], unled: &[&Shard]) -> (Health, String) {
    let count = cluster.shards.len();
    if cluster.shards.is_empty() {
        return (
            Health::Unavailable,
            "the catalogue is not known yet".to_owned(),
        );
    }
    let because = match down {
        [] => String::new(),
        down => format!(" ({})", are_down(down)),
    };
    if unled.iter().any(|shard| shard.id == 0) {
        let rest = unled.len() - 1;
        let also = match rest {
            0 => String::new(),
            rest => format!(", nor have {rest} of {} data shards", count - 1),
        };
        let cause = format!("the catalogue has no leader{also}{because}");
        return (Health::Unavailable, cause);
    }
    if !unled.is_empty() {
        let partitions: usize = unled.iter().map(|shard| shard.partitions).sum();
        let cause = format!(
            "{} of {} without a leader, {} closed{because}",
            unled.len(),
            counted(count, "shard"),
            counted(partitions, "partition")
        );
        return (Health::Unavailable, cause);
    }
    if !down.is_empty() {
        return (Health::Degraded, are_down(down));
    }
    let behind: Vec<&Shard> = cluster.shards.iter().filter(|s| is_behind(s)).collect();
    if !behind.is_empty() {
        let nodes = behind.iter().flat_map(|shard| {
            let lacking = shard.voters.iter();
            lacking.filter(|voter| !shard.in_sync.contains(voter))
        });
        let nodes = ids(nodes.copied());
        let bytes: u64 = behind
            .iter()
            .flat_map(|shard| &shard.catching_up)
            .filter(|copy| nodes.contains(&copy.node))
            .filter_map(|copy| copy.bytes_left)
            .sum();
        let left = match bytes {
            0 => String::new(),
            bytes => format!(", {} to go", size(bytes)),
        };
        let cause = format!(
            "{} catching up in {}{left}",
            named(&nodes, "is", "are"),
            counted(behind.len(), "shard")
        );
        return (Health::Degraded, cause);
    }
    (Health::Healthy, healthy(cluster))
}

/// What to say of a cluster that lacks nothing.
fn healthy(cluster: &Cluster) -> String {
    let draining = cluster
        .nodes
        .iter()
        .filter(|node| node.state == NodeState::Draining);
    let (empty, emptying): (Vec<_>, Vec<_>) = draining.partition(|node| node.replicas == 0);
    let moving = cluster
        .shards
        .iter()
        .filter(|shard| shard.target.is_some())
        .count();
    let mut said = vec!["Healthy".to_owned()];
    let stalled = cluster.shards.iter();
    let stalled = stalled
        .filter(|shard| shard.stalled_seconds.is_some())
        .count();
    if moving > 0 {
        let stuck = match stalled {
            0 => String::new(),
            count => format!(" ({count} without progress)"),
        };
        said.push(format!(
            "{} {} moving{stuck}",
            counted(moving, "shard"),
            is_or_are(moving)
        ));
    }
    if !emptying.is_empty() {
        let nodes = ids(emptying.iter().map(|node| node.id));
        said.push(format!("{} being drained", named(&nodes, "is", "are")));
    }
    if !empty.is_empty() {
        let nodes = ids(empty.iter().map(|node| node.id));
        said.push(format!("{} drained", named(&nodes, "is", "are")));
    }
    said.join(", ")
}

/// A voter of it is not in sync.
fn is_behind(shard: &Shard) -> bool {
    shard
        .voters
        .iter()
        .any(|voter| !shard.in_sync.contains(voter))
}

fn lose_sentence(can_lose: usize, cluster: &Cluster) -> String {
    match can_lose {
        0 if cluster.nodes.len() == 1 => "Can lose no node: there is only one.".to_owned(),
        0 => match too_few_voters(cluster) {
            Some(why) => format!("Can lose no more nodes: {why}."),
            None => "Can lose no more nodes.".to_owned(),
        },
        1 => "Can lose 1 more node.".to_owned(),
        count => format!("Can lose {count} more nodes."),
    }
}

/// Why no node may be lost even though none is: a shard of one voter is gone with it, and one of
/// two stops without either.
fn too_few_voters(cluster: &Cluster) -> Option<String> {
    let voters = cluster.shards.iter().map(|shard| shard.voters.len());
    let fewest = voters.min().filter(|fewest| (1..=2).contains(fewest))?;
    let narrow = || {
        let shards = cluster.shards.iter();
        shards.filter(|shard| shard.voters.len() == fewest)
    };
    let count = counted(narrow().count(), "shard");
    let is_one = narrow().count() == 1;
    let has_catalogue = narrow().any(|shard| shard.id == 0);
    Some(match (fewest, has_catalogue) {
        (1, true) => {
            let node = narrow().find_map(|shard| shard.voters.first());
            let node = node.copied().unwrap_or_default();
            format!("node {node} alone keeps the catalogue")
        }
        (1, false) if is_one => format!("{count} has a single replica"),
        (1, false) => format!("{count} have a single replica each"),
        (_, true) => "the catalogue needs both nodes that keep it".to_owned(),
        (_, false) if is_one => format!("{count} needs both of its replicas"),
        (_, false) => format!("{count} need both of their replicas"),
    })
}

fn are_down(down: &[u32]) -> String {
    format!("{} down", named(down, "is", "are"))
}

/// `node 2 is`, `nodes 2 and 3 are`.
fn named(nodes: &[u32], one: &str, many: &str) -> String {
    match nodes {
        [node] => format!("node {node} {one}"),
        [before @ .., last] => {
            let before: Vec<String> = before.iter().map(ToString::to_string).collect();
            format!("nodes {} and {last} {many}", before.join(", "))
        }
        [] => format!("nodes {many}"),
    }
}

fn ids(nodes: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut nodes: Vec<u32> = nodes.collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

fn is_or_are(count: usize) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

fn counted(count: usize, noun: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{s}")
}

/// Bytes for people, in tenths of a unit.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [
        ("TiB", 1 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
    ];
    match UNITS.iter().find(|(_, factor)| bytes >= *factor) {
        Some((unit, factor)) => {
            let tenths = u128::from(bytes) * 10 / u128::from(*factor);
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CatchingUp, Node};

    fn node(id: u32) -> Node {
        Node {
            id,
            alive: true,
            replicas: 3,
            ..Node::default()
        }
    }

    fn shard(id: u32, voters: &[u32]) -> Shard {
        Shard {
            id,
            replicas: voters.to_vec(),
            voters: voters.to_vec(),
            in_sync: voters.to_vec(),
            leader: voters.first().copied(),
            term: 1,
            partitions: 10,
            ..Shard::default()
        }
    }

    /// `nodes` nodes; the catalogue and, for each factor, a shard.
    fn cluster(nodes: u32, factors: &[u32]) -> Cluster {
        let all: Vec<u32> = (1..=nodes).collect();
        let voters = all[..usize::try_from(nodes.min(3)).unwrap()].to_vec();
        let shards = (1..).zip(factors).map(|(id, factor)| {
            let voters: Vec<u32> = (1..=*factor).collect();
            shard(id, &voters)
        });
        Cluster {
            nodes: all.iter().map(|id| node(*id)).collect(),
            shards: std::iter::once(shard(0, &voters)).chain(shards).collect(),
            controller: Some(1),
            ..Cluster::default()
        }
    }

    fn kill(mut cluster: Cluster, dead: u32) -> Cluster {
        for node in &mut cluster.nodes {
            node.alive &= node.id != dead;
        }
        for shard in &mut cluster.shards {
            shard.in_sync.retain(|node| *node != dead);
            let quorum = shard.in_sync.len() >= majority(shard.voters.len());
            if shard.leader == Some(dead) {
                shard.leader = shard.in_sync.first().copied().filter(|_| quorum);
            }
            if !quorum {
                shard.leader = None;
            }
        }
        cluster
    }

    #[track_caller]
    fn says(cluster: &Cluster, sentence: &str, health: Health, can_lose: usize) {
        let verdict = verdict(cluster);
        assert_eq!(verdict.sentence, sentence);
        assert_eq!((verdict.health, verdict.can_lose), (health, can_lose));
    }

    #[test]
    fn what_can_be_lost_is_what_the_weakest_shard_can_lose() {
        use Health::Healthy;
        says(
            &cluster(1, &[1]),
            "Healthy. Can lose no node: there is only one.",
            Healthy,
            0,
        );
        says(
            &cluster(2, &[2]),
            "Healthy. Can lose no more nodes: the catalogue needs both nodes that keep it.",
            Healthy,
            0,
        );
        says(
            &cluster(3, &[3, 3]),
            "Healthy. Can lose 1 more node.",
            Healthy,
            1,
        );
        says(
            &cluster(3, &[3, 1]),
            "Healthy. Can lose no more nodes: 1 shard has a single replica.",
            Healthy,
            0,
        );
        says(
            &cluster(3, &[2, 2]),
            "Healthy. Can lose no more nodes: 2 shards need both of their replicas.",
            Healthy,
            0,
        );
        let mut grows = cluster(2, &[2]);
        grows.shards[0] = shard(0, &[1]);
        let alone = "Healthy. Can lose no more nodes: node 1 alone keeps the catalogue.";
        says(&grows, alone, Healthy, 0);
        let mut five = cluster(5, &[5]);
        five.shards[0] = shard(0, &[1, 2, 3, 4, 5]);
        says(&five, "Healthy. Can lose 2 more nodes.", Healthy, 2);
    }

    #[test]
    fn dead_nodes_are_named_and_count() {
        let three = kill(cluster(3, &[3, 3]), 2);
        says(
            &three,
            "Degraded: node 2 is down. Can lose no more nodes.",
            Health::Degraded,
            0,
        );
        let two = kill(three, 3);
        says(
            &two,
            "Unavailable: the catalogue has no leader, nor have 2 of 2 data shards (nodes 2 and 3 are down).",
            Health::Unavailable,
            0,
        );
        let mut five = cluster(5, &[5]);
        five.shards[0] = shard(0, &[1, 2, 3, 4, 5]);
        says(
            &kill(five, 5),
            "Degraded: node 5 is down. Can lose 1 more node.",
            Health::Degraded,
            1,
        );
    }

    #[test]
    fn a_shard_of_one_replica_closes_with_its_node() {
        let closed = kill(cluster(3, &[3, 1]), 1);
        says(
            &closed,
            "Unavailable: 1 of 3 shards without a leader, 10 partitions closed (node 1 is down).",
            Health::Unavailable,
            0,
        );
    }

    #[test]
    fn a_leader_that_is_down_leads_nothing() {
        let mut three = cluster(3, &[3]);
        three.nodes[0].alive = false;
        assert_eq!(verdict(&three).health, Health::Unavailable);
    }

    #[test]
    fn nothing_known_yet_is_not_healthy() {
        says(
            &Cluster::default(),
            "Unavailable: the catalogue is not known yet.",
            Health::Unavailable,
            0,
        );
    }

    #[test]
    fn a_replica_behind_is_no_replica_to_count_on() {
        let mut three = cluster(3, &[3, 3]);
        three.shards[1].in_sync = vec![1, 2];
        three.shards[1].catching_up = vec![CatchingUp {
            node: 3,
            bytes_left: Some(3 << 29),
        }];
        says(
            &three,
            "Degraded: node 3 is catching up in 1 shard, 1.5 GiB to go. Can lose no more nodes.",
            Health::Degraded,
            0,
        );
        three.shards[2].in_sync = vec![1, 3];
        three.shards[1].catching_up.clear();
        says(
            &three,
            "Degraded: nodes 2 and 3 are catching up in 2 shards. Can lose no more nodes.",
            Health::Degraded,
            0,
        );
    }

    #[test]
    fn moves_and_drains_are_said_and_are_healthy() {
        let mut four = cluster(4, &[3, 3]);
        four.shards[1].target = Some(vec![4, 2, 3]);
        four.nodes[0].state = NodeState::Draining;
        says(
            &four,
            "Healthy, 1 shard is moving, node 1 is being drained. Can lose 1 more node.",
            Health::Healthy,
            1,
        );
        four.shards[1].stalled_seconds = Some(700);
        says(
            &four,
            "Healthy, 1 shard is moving (1 without progress), node 1 is being drained. Can lose 1 more node.",
            Health::Healthy,
            1,
        );
        four.shards[1].target = None;
        four.shards[1].stalled_seconds = None;
        four.nodes[0].replicas = 0;
        says(
            &four,
            "Healthy, node 1 is drained. Can lose 1 more node.",
            Health::Healthy,
            1,
        );
    }

    #[test]
    fn learners_neither_help_nor_harm() {
        let mut four = cluster(4, &[3]);
        four.shards[0].learners = vec![4];
        says(&four, "Healthy. Can lose 1 more node.", Health::Healthy, 1);
        says(
            &kill(four, 4),
            "Degraded: node 4 is down. Can lose 1 more node.",
            Health::Degraded,
            1,
        );
    }

    #[test]
    fn sizes_are_for_people() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(u64::MAX), "16777215.9 TiB");
    }
}
