//! Files that are not what was written: bits that flip, files cut short or gone.

use jepsen_workload::fault::NodeId;

use crate::error::ClusterError;
use crate::nemesis::{blocking, kill};
use crate::node::{DAMAGED, Nodes};

/// What is done to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Flip,
    Truncate,
    Delete,
}

/// Damages a file. For all but flips the node is stopped before; and after a flip in the journal,
/// which is read only when a node starts.
pub(crate) async fn begin(
    nodes: &Nodes,
    node: NodeId,
    how: How,
    seed: u64,
) -> Result<String, ClusterError> {
    nodes.excuse(node, DAMAGED, true);
    let disk = nodes.disk(node)?;
    if how != How::Flip {
        nodes.kill(node, DAMAGED).await?;
    }
    let done = blocking(move || match how {
        How::Flip => disk.flip_bit(seed),
        How::Truncate => disk.truncate_file(seed),
        How::Delete => disk.delete_file(seed),
    });
    match done.await {
        Ok(damage) => {
            let mut seen = format!(
                "node {node}: {} ({}): {}",
                damage.file, damage.kind, damage.detail
            );
            if how == How::Flip && damage.kind == "journal" {
                seen = format!("{seen}; {}", nodes.kill(node, DAMAGED).await?);
            }
            Ok(seen)
        }
        Err(error) => {
            end(nodes, node).await?;
            Err(ClusterError::Fault(format!("node {node}: {error}")))
        }
    }
}

/// Starts the node again. What was damaged stays so: to mend it is the cluster's part.
pub(crate) async fn end(nodes: &Nodes, node: NodeId) -> Result<String, ClusterError> {
    let seen = kill::start_for(nodes, &[node], DAMAGED).await?;
    Ok(format!("the damage stays; {seen}"))
}
