//! Power cuts: processes end, and what was not synced is lost, whole or in part.

use jepsen_workload::fault::NodeId;
use jepsen_workload::random::Random;

use crate::error::ClusterError;
use crate::nemesis::{blocking, kill};
use crate::node::Nodes;

/// Why the nodes are down.
const WHY: &str = "without power";

/// Cuts the power of nodes, of all at the same time; seen by processes that are gone.
pub(crate) async fn cut(
    nodes: &Nodes,
    which: &[NodeId],
    seed: u64,
) -> Result<String, ClusterError> {
    for node in which {
        let disk = nodes.disk(*node)?;
        let counts = disk.counts().map_err(ClusterError::process(*node))?;
        if counts.writes > 0 && counts.syncs == 0 {
            let message = format!(
                "node {node} writes and was never seen to sync: its program does not call libc for \
                 that, so nothing can be said about a power cut"
            );
            return Err(ClusterError::Fault(message));
        }
    }
    let mut random = Random::new(seed);
    let mut seen = nodes.kill_all(which, WHY).await?;
    for node in which {
        let disk = nodes.disk(*node)?;
        let seed = random.next_u64();
        let lost = blocking(move || disk.cut_power(seed)).await;
        let lost = lost.map_err(ClusterError::process(*node))?;
        seen.push(format!("node {node}: {lost}"));
    }
    Ok(seen.join("; "))
}

/// Gives power back, and waits a little until the nodes are ready.
pub(crate) async fn restore(nodes: &Nodes, which: &[NodeId]) -> Result<String, ClusterError> {
    kill::start_for(nodes, which, WHY).await
}
