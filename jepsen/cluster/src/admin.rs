//! What an operator does: the program's own command line, called for its JSON.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use jepsen_workload::fault::NodeId;
use serde::Deserialize;

use crate::error::ClusterError;

/// The cluster as a node sees it; what is not needed is left out.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Status {
    pub(crate) nodes: Vec<NodeStatus>,
    pub(crate) shards: Vec<ShardStatus>,
    pub(crate) verdict: Verdict,
}

/// A node as another sees it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct NodeStatus {
    pub(crate) id: NodeId,
    pub(crate) alive: bool,
    pub(crate) state: String,
}

/// A shard: who leads it, who carries it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ShardStatus {
    pub(crate) id: u64,
    pub(crate) leader: Option<NodeId>,
    pub(crate) in_sync: Vec<NodeId>,
    pub(crate) target: Option<serde_json::Value>,
    pub(crate) partitions: u64,
}

/// How the cluster fares.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) health: String,
    pub(crate) can_lose: u64,
    pub(crate) sentence: String,
}

impl Status {
    /// Whether so many nodes are alive and nothing is amiss or moving.
    pub(crate) fn is_whole(&self, nodes: usize) -> bool {
        self.nodes.len() == nodes
            && self.nodes.iter().all(|node| node.alive)
            && self.verdict.health == "healthy"
            && self.verdict.can_lose >= u64::from(nodes > 2)
            && self.shards.iter().all(|shard| shard.target.is_none())
    }
}

/// Runs `braidlog cluster ...` against one node.
#[derive(Debug)]
pub(crate) struct Admin<'a> {
    pub(crate) binary: &'a Path,
    /// The node's HTTP listener.
    pub(crate) http: &'a str,
}

impl Admin<'_> {
    /// The cluster as the node sees it.
    pub(crate) async fn status(&self) -> Result<Status, ClusterError> {
        let within = Duration::from_secs(2);
        let said = self.run(&["status", "--shards"], within).await?;
        serde_json::from_str(&said)
            .map_err(|error| ClusterError::Fault(format!("`cluster status`: {error}: {said}")))
    }

    /// What it printed, when it succeeded.
    pub(crate) async fn run(
        &self,
        arguments: &[&str],
        within: Duration,
    ) -> Result<String, ClusterError> {
        let mut command = Command::new(self.binary);
        let timeout = format!("{}ms", within.as_millis());
        command
            .arg("cluster")
            .args(arguments)
            .args(["--http", self.http, "--timeout", &timeout, "-o", "json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // The thread that it runs on belongs to the clients' namespace, as this one does.
        let done = tokio::task::spawn_blocking(move || command.output()).await;
        let done = done.map_err(io::Error::other).and_then(|done| done);
        let what = format!("`cluster {}`", arguments.join(" "));
        let done = done.map_err(|error| ClusterError::Fault(format!("{what}: {error}")))?;
        if done.status.success() {
            return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&done.stderr);
        Err(ClusterError::Fault(format!("{what}: {}", said.trim())))
    }
}
