//! Nodes that join, and nodes that are drained and removed, as an operator would do it.

use std::time::{Duration, Instant};

use jepsen_workload::fault::NodeId;

use crate::admin::{Admin, Status};
use crate::error::ClusterError;
use crate::node::Nodes;

/// How long a node may take to join. Other faults, and their ends, wait for that.
const JOINS_WITHIN: Duration = Duration::from_secs(10);
/// How long a node may take to be empty; the drain goes on after it.
const DRAINED_WITHIN: Duration = Duration::from_secs(10);
/// How long others may take to carry what a lost node carried.
const REPLACED_WITHIN: Duration = Duration::from_secs(20);
/// For commands that only ask.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// One node is given at least so long to do what it is told.
const PATIENCE_MIN: Duration = Duration::from_secs(4);
/// How long a removed node may take to stop in good order.
const STOPS_WITHIN: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);

/// Starts one more node and waits until the others count it; its number, and what was seen.
pub(crate) async fn add(nodes: &Nodes) -> Result<(NodeId, String), ClusterError> {
    let seeds = nodes.members();
    let node = nodes.place()?;
    nodes.seed(node, &seeds);
    nodes.spawn(node)?;
    let begun = Instant::now();
    while begun.elapsed() < JOINS_WITHIN {
        tokio::time::sleep(POLL).await;
        let is_counted = |status: &Status| {
            let mut counted = status.nodes.iter();
            counted.any(|counted| counted.id == node && counted.alive)
        };
        if nodes.is_ready(node)
            && status(nodes, Some(node))
                .await
                .is_ok_and(|s| is_counted(&s))
        {
            nodes.set_member(node, true);
            let took_ms = begun.elapsed().as_millis();
            return Ok((node, format!("node {node} joined within {took_ms} ms")));
        }
    }
    // It goes on trying, and counts once it is ready.
    let within_s = JOINS_WITHIN.as_secs();
    Ok((
        node,
        format!("node {node} has not joined within {within_s} s"),
    ))
}

/// Drains a node, removes it and stops it.
pub(crate) async fn remove(nodes: &Nodes, node: NodeId) -> Result<String, ClusterError> {
    let number = node.to_string();
    let begun = Instant::now();
    command(nodes, node, &["drain", &number], DRAINED_WITHIN).await?;
    let drained_ms = begun.elapsed().as_millis();
    command(nodes, node, &["remove", &number], ANSWERS_WITHIN).await?;
    nodes.retire(node, STOPS_WITHIN).await?;
    match status(nodes, Some(node)).await {
        Ok(status) if status.nodes.iter().any(|left| left.id == node) => Err(ClusterError::Fault(
            format!("node {node} was removed and is counted still"),
        )),
        _ => Ok(format!(
            "node {node} was drained within {drained_ms} ms and removed"
        )),
    }
}

/// Replaces a node that does not start any more, as an operator would: another one joins, and the
/// lost one is removed without having been drained.
pub(crate) async fn replace(nodes: &Nodes, lost: NodeId) -> Result<String, ClusterError> {
    nodes.retire(lost, Duration::ZERO).await?;
    let (_, joined) = add(nodes).await?;
    let arguments = ["remove", &lost.to_string(), "--force"];
    command(nodes, lost, &arguments, ANSWERS_WITHIN).await?;
    let begun = Instant::now();
    while begun.elapsed() < REPLACED_WITHIN {
        let count = nodes.members().len();
        if status(nodes, None)
            .await
            .is_ok_and(|status| status.is_whole(count))
        {
            break;
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(format!("node {lost} was replaced: {joined}"))
}

/// Lets a node that is being drained take part again.
pub(crate) async fn undrain(nodes: &Nodes, node: NodeId) -> Result<String, ClusterError> {
    let number = node.to_string();
    command(nodes, node, &["undrain", &number], ANSWERS_WITHIN).await?;
    Ok(format!("node {node} takes part again"))
}

/// Members that are being drained.
pub(crate) async fn drained(nodes: &Nodes) -> Result<Vec<NodeId>, ClusterError> {
    let status = status(nodes, None).await?;
    let members = nodes.members();
    let drained = status
        .nodes
        .into_iter()
        .filter(|node| node.state != "active");
    let drained = drained.map(|node| node.id);
    Ok(drained.filter(|node| members.contains(node)).collect())
}

/// The cluster as the first node sees it that answers.
pub(crate) async fn status(nodes: &Nodes, but: Option<NodeId>) -> Result<Status, ClusterError> {
    let mut last = ClusterError::Fault("no node runs".to_owned());
    for http in nodes.others_http(but) {
        let admin = Admin {
            binary: nodes.binary(),
            http: &http,
        };
        match admin.status().await {
            Ok(status) => return Ok(status),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Gives a command to the first node that takes it.
pub(crate) async fn command(
    nodes: &Nodes,
    but: NodeId,
    arguments: &[&str],
    within: Duration,
) -> Result<String, ClusterError> {
    let mut last = ClusterError::Fault("no node runs".to_owned());
    let deadline = Instant::now() + within;
    let others = nodes.others_http(Some(but));
    // The first may be cut off: the next shall have its chance.
    let share = within / u32::try_from(others.len().max(1)).unwrap_or(u32::MAX);
    for http in others {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = left.min(share.max(PATIENCE_MIN));
        if left.is_zero() {
            break;
        }
        let admin = Admin {
            binary: nodes.binary(),
            http: &http,
        };
        match admin.run(arguments, left).await {
            Ok(said) => return Ok(said),
            Err(error) => last = error,
        }
    }
    Err(last)
}
