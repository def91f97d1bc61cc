//! Disks that fail, are full, slow, or lie.

use std::time::Duration;

use jepsen_workload::fault::{DiskFault, NodeId};

use crate::error::ClusterError;
use crate::nemesis::{blocking, power};
use crate::node::{DAMAGED, Nodes};

/// Why the nodes may end by themselves.
const WHY: &str = "disk";
/// How long a node may take to touch its disk.
const FELT_WITHIN: Duration = Duration::from_secs(4);

/// Makes disks misbehave; seen by what the preloaded library counts.
pub(crate) async fn begin(
    nodes: &Nodes,
    which: &[NodeId],
    how: DiskFault,
) -> Result<String, ClusterError> {
    let mut before = Vec::new();
    for node in which {
        nodes.excuse(*node, WHY, true);
        if how == DiskFault::LyingSync {
            // It may find its journal damaged, and want to be taken back.
            nodes.excuse(*node, DAMAGED, true);
        }
        let disk = nodes.disk(*node)?;
        let counts = disk.counts().map_err(ClusterError::process(*node))?;
        disk.set(Some(how)).map_err(ClusterError::process(*node))?;
        before.push((*node, disk, counts));
    }
    let mut seen = Vec::new();
    let mut felt = 0;
    for (node, disk, counts) in before {
        if !nodes.is_running(node) {
            seen.push(format!("node {node} is down"));
            continue;
        }
        match disk.felt(how, counts, FELT_WITHIN).await {
            Ok(what) => {
                felt += 1;
                seen.push(format!("node {node}: {what}"));
            }
            Err(error) => seen.push(format!("node {node}: {error}")),
        }
    }
    let seen = seen.join("; ");
    if felt == 0 {
        undo(nodes, which)?;
        return Err(ClusterError::Fault(format!("no node felt it: {seen}")));
    }
    Ok(seen)
}

/// Makes disks work again. One that lied loses what it said was synced, as power goes.
pub(crate) async fn end(
    nodes: &Nodes,
    which: &[NodeId],
    how: DiskFault,
    seed: u64,
) -> Result<String, ClusterError> {
    let mut seen = "no fault any more".to_owned();
    if how == DiskFault::LyingSync {
        seen = power::cut(nodes, which, seed).await?;
    }
    undo(nodes, which)?;
    if how == DiskFault::LyingSync {
        seen = format!("{seen}; {}", power::restore(nodes, which).await?);
    }
    Ok(seen)
}

fn undo(nodes: &Nodes, which: &[NodeId]) -> Result<(), ClusterError> {
    // Who ended meanwhile is noticed before it has no excuse any more.
    nodes.look();
    for node in which {
        let disk = nodes.disk(*node)?;
        disk.set(None).map_err(ClusterError::process(*node))?;
        nodes.excuse(*node, WHY, false);
    }
    Ok(())
}

/// Makes every disk and clock right.
pub(crate) async fn heal(nodes: &Nodes) -> Result<(), ClusterError> {
    for (node, disk) in nodes.disks() {
        let healed = blocking(move || {
            disk.set(None)?;
            disk.set_clock_offset_ms(0)
        });
        healed.await.map_err(ClusterError::process(node))?;
    }
    Ok(())
}
