//! How a node with an empty directory finds its cluster, or founds it.
//!
//! Every node is started with the same command. Each asks all seeds who they are, again and again,
//! and [`decide`]s from the answers. One cluster comes about and never two: a node founds only
//! when every seed has answered that it has no cluster, all go by the same seeds, and its own
//! address sorts first; so nobody else can come to the same decision, and whoever has founded
//! answers from then on that there is a cluster. The asking is in `shell.rs`, what survives a
//! crash in `marker.rs`.

pub(crate) mod marker;
pub(crate) mod shell;

use std::collections::{BTreeMap, BTreeSet};

use storage::NodeId;

use crate::catalogue::membership::FIRST_NODE;
use crate::peers::message::{Discovered, Standing};

/// What a node knows of itself before it has a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) incarnation: [u8; 16],
    pub(crate) wanted: Option<NodeId>,
    pub(crate) seeds: BTreeSet<String>,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Ask again in a moment; this is what is missing.
    Wait(String),
    /// Join this cluster through one of these addresses.
    Join {
        cluster_id: String,
        through: Vec<String>,
    },
    /// Found the cluster, as this node.
    Found(NodeId),
}

/// Decides from what each seed answered; no entry means no answer.
pub(crate) fn decide(own: &Own, answers: &BTreeMap<String, Discovered>) -> Step {
    if let Some(step) = join(answers) {
        return step;
    }
    let missing: Vec<&str> = own
        .seeds
        .iter()
        .filter(|seed| !answers.contains_key(*seed))
        .map(String::as_str)
        .collect();
    if !missing.is_empty() {
        return Step::Wait(format!("no answer from {}", missing.join(", ")));
    }
    match found(own, answers) {
        Ok(node) => Step::Found(node),
        Err(reason) => Step::Wait(reason),
    }
}

/// When somebody has a cluster, that one is joined, whatever the others say.
fn join(answers: &BTreeMap<String, Discovered>) -> Option<Step> {
    let mut clusters: BTreeMap<&str, (Vec<&String>, Vec<&String>)> = BTreeMap::new();
    for (address, answer) in answers {
        if let Standing::Member {
            cluster_id,
            is_ready,
            ..
        } = &answer.standing
        {
            let (all, ready) = clusters.entry(cluster_id).or_default();
            all.push(address);
            if *is_ready {
                ready.push(address);
            }
        }
    }
    let mut found = clusters.iter();
    let (cluster_id, (all, ready)) = found.next()?;
    if let Some((other, (others, _))) = found.next() {
        return Some(Step::Wait(format!(
            "the seeds belong to different clusters: {} to {cluster_id}, {} to {other}; name the \
             seeds of one cluster only",
            all[0], others[0]
        )));
    }
    if ready.is_empty() {
        return Some(Step::Wait(format!(
            "{} is about to have the catalogue of cluster {cluster_id}",
            all[0]
        )));
    }
    Some(Step::Join {
        cluster_id: (*cluster_id).to_owned(),
        through: ready.iter().map(|address| (*address).clone()).collect(),
    })
}

/// The id under which this node founds the cluster, or why it does not. All seeds have answered and
/// none has a cluster.
fn found(own: &Own, answers: &BTreeMap<String, Discovered>) -> Result<NodeId, String> {
    let mut by_incarnation: BTreeMap<[u8; 16], &str> = BTreeMap::new();
    let mut by_wanted: BTreeMap<NodeId, &str> = BTreeMap::new();
    for (address, answer) in answers {
        let Standing::Blank { wanted, seeds } = &answer.standing else {
            continue;
        };
        if let Some(other) = by_incarnation.insert(answer.incarnation, address) {
            return Err(format!(
                "{other} and {address} lead to the same node: name each node once, by an address \
                 that means the same on every node"
            ));
        }
        if *seeds != own.seeds {
            return Err(format!(
                "{address} was started with other seeds ({}) than this node ({}): start all with \
                 the same",
                list(seeds),
                list(&own.seeds)
            ));
        }
        if let Some(wanted) = wanted
            && let Some(other) = by_wanted.insert(*wanted, address)
        {
            return Err(format!(
                "{other} and {address} both want to be node {wanted}: give each its own --node-id, \
                 or none"
            ));
        }
    }
    let first = answers.keys().next();
    let first = first.ok_or_else(|| "there are no seeds".to_owned())?;
    if !by_incarnation.contains_key(&own.incarnation) {
        return Err(format!(
            "the seeds have no cluster yet and this node is none of them: {first} is to found it"
        ));
    }
    if by_incarnation[&own.incarnation] != first {
        return Err(format!("{first} is to found the cluster"));
    }
    let is_free = |id: &u32| !by_wanted.contains_key(&NodeId(*id));
    let lowest = (FIRST_NODE.0..).find(is_free).map(NodeId);
    Ok(own.wanted.or(lowest).unwrap_or(FIRST_NODE))
}

fn list(seeds: &BTreeSet<String>) -> String {
    let seeds: Vec<&str> = seeds.iter().map(String::as_str).collect();
    seeds.join(",")
}

#[cfg(test)]
#[path = "decide_test.rs"]
mod tests;
