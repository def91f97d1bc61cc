//! Processes that end (SIGKILL) or stand still (SIGSTOP).

use jepsen_workload::fault::NodeId;

use crate::error::ClusterError;
use crate::node::Nodes;

/// Why the nodes are down.
const WHY: &str = "killed";

/// Ends processes; seen by their being gone.
pub(crate) async fn kill(nodes: &Nodes, which: &[NodeId]) -> Result<String, ClusterError> {
    Ok(nodes.kill_all(which, WHY).await?.join("; "))
}

/// Starts them again, all at once, and waits a little until they are ready.
pub(crate) async fn start(nodes: &Nodes, which: &[NodeId]) -> Result<String, ClusterError> {
    start_for(nodes, which, WHY).await
}

/// Takes a reason away why nodes are down, starts them, and waits a little until they are ready.
pub(crate) async fn start_for(
    nodes: &Nodes,
    which: &[NodeId],
    why: &'static str,
) -> Result<String, ClusterError> {
    for node in which {
        nodes.release(*node, why)?;
    }
    let mut seen = Vec::new();
    for node in which {
        seen.push(nodes.wait_ready(*node).await?);
    }
    Ok(seen.join("; "))
}

/// Stops processes in their tracks; seen by their state.
pub(crate) async fn pause(nodes: &Nodes, which: &[NodeId]) -> Result<String, ClusterError> {
    let mut seen = Vec::new();
    for node in which {
        seen.push(nodes.pause(*node).await?);
    }
    Ok(seen.join("; "))
}

/// Lets them go on.
pub(crate) async fn resume(nodes: &Nodes, which: &[NodeId]) -> Result<String, ClusterError> {
    let mut seen = Vec::new();
    for node in which {
        seen.push(nodes.resume(*node).await?);
    }
    Ok(seen.join("; "))
}
