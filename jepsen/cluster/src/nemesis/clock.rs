//! Wall clocks that are wrong.

use std::time::Duration;

use jepsen_workload::fault::NodeId;

use crate::error::ClusterError;
use crate::node::Nodes;

/// How long a node may take to read its clock.
const FELT_WITHIN: Duration = Duration::from_secs(4);

/// Sets nodes' wall clocks off; seen by their having read them.
pub(crate) async fn set(
    nodes: &Nodes,
    which: &[NodeId],
    offset_ms: i64,
) -> Result<String, ClusterError> {
    let mut before = Vec::new();
    for node in which {
        let disk = nodes.disk(*node)?;
        let counts = disk.counts().map_err(ClusterError::process(*node))?;
        let set = disk.set_clock_offset_ms(offset_ms);
        set.map_err(ClusterError::process(*node))?;
        before.push((*node, disk, counts));
    }
    let mut seen = Vec::new();
    let mut felt = 0;
    for (node, disk, counts) in before {
        if !nodes.running().contains(&node) {
            seen.push(format!("node {node} does not run"));
            continue;
        }
        match disk.clock_felt(counts, FELT_WITHIN).await {
            Ok(what) => {
                felt += 1;
                seen.push(format!("node {node}: {what}"));
            }
            Err(error) => seen.push(format!("node {node}: {error}")),
        }
    }
    let seen = seen.join("; ");
    match felt {
        0 => Err(ClusterError::Fault(format!("no node felt it: {seen}"))),
        _ => Ok(seen),
    }
}
