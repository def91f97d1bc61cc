//! `braidlog cluster`: how the cluster fares, and changing who is in it.

mod add;
mod drain;
mod show;
mod wait;

use clap::Subcommand;
use http_admin::model::{Cluster, NewLeader, Node, Rebalanced, Shard};
use serde_json::json;

use super::Context;
use super::admin::AdminArguments;
use super::failure::Failure;

#[derive(Debug, Subcommand)]
pub(super) enum ClusterCommand {
    /// Say how the cluster fares, in one sentence first
    Status {
        /// Show it again each second, until Ctrl-C
        #[arg(long)]
        watch: bool,
        /// Show every shard, not only those that lack something
        #[arg(long)]
        shards: bool,
        #[command(flatten)]
        admin: AdminArguments,
    },
    /// Wait until the cluster is as it should be, for scripts
    Wait {
        /// Until so many nodes are alive
        #[arg(long, value_name = "N")]
        nodes: Option<usize>,
        /// Until every shard is led and all its replicas are in sync; the default without --nodes
        #[arg(long)]
        healthy: bool,
        #[command(flatten)]
        admin: AdminArguments,
    },
    /// List the nodes and where they are reached
    Nodes {
        #[command(flatten)]
        admin: AdminArguments,
    },
    /// Move everything away from a node, before it is removed or replaced
    Drain {
        /// The node
        node: u32,
        /// Do not wait until it is empty
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        admin: AdminArguments,
    },
    /// Let a node that was drained take part again
    Undrain {
        /// The node
        node: u32,
        #[command(flatten)]
        admin: AdminArguments,
    },
    /// Print the command that starts one more node of this cluster
    Add {
        #[command(flatten)]
        admin: AdminArguments,
    },
    /// Remove a node for good; its id is never used again
    Remove {
        /// The node, drained before
        node: u32,
        /// Even though it was not drained: it is dead and will not come back
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        admin: AdminArguments,
    },
    /// Give a shard's leadership to another of its replicas
    TransferLeader {
        /// The shard
        shard: u32,
        /// The node that shall lead it
        node: u32,
        #[command(flatten)]
        admin: AdminArguments,
    },
    /// Give every shard back to its preferred leader
    Rebalance {
        #[command(flatten)]
        admin: AdminArguments,
    },
}

pub(super) async fn run(command: ClusterCommand, context: &mut Context) -> Result<(), Failure> {
    match command {
        ClusterCommand::Status {
            watch: true,
            shards,
            admin,
        } => show::watch(&admin, shards, context).await,
        ClusterCommand::Status {
            watch: false,
            shards,
            admin,
        } => show::status(&admin, shards, context).await,
        ClusterCommand::Wait {
            nodes,
            healthy,
            admin,
        } => wait::wait(&admin, nodes, healthy, context).await,
        ClusterCommand::Nodes { admin } => show::nodes(&admin, context).await,
        ClusterCommand::Drain {
            node,
            no_wait,
            admin,
        } => drain::drain(&admin, node, no_wait, context).await,
        ClusterCommand::Undrain { node, admin } => {
            let shown: Node = admin
                .post(&format!("/v1/nodes/{node}/undrain"), bytes::Bytes::new())
                .await?;
            let line = format!("node {node} takes part again");
            Ok(context.output.result(&line, &json!(shown))?)
        }
        ClusterCommand::Add { admin } => add::add(&admin, context).await,
        ClusterCommand::Remove { node, force, admin } => remove(&admin, node, force, context).await,
        ClusterCommand::TransferLeader { shard, node, admin } => {
            let body = serde_json::to_vec(&NewLeader { to: node }).expect("plain data");
            let path = format!("/v1/shards/{shard}/leader");
            let shown: Shard = admin.post(&path, body.into()).await?;
            let line = match shown.leader {
                Some(leader) => format!("shard {shard} is led by node {leader}"),
                None => format!("shard {shard} is on its way to node {node}"),
            };
            Ok(context.output.result(&line, &json!(shown))?)
        }
        ClusterCommand::Rebalance { admin } => {
            let done: Rebalanced = admin
                .post("/v1/cluster/rebalance", bytes::Bytes::new())
                .await?;
            let line = match done.moved {
                0 => "every shard has its preferred leader".to_owned(),
                1 => "moved 1 leadership".to_owned(),
                count => format!("moved {count} leaderships"),
            };
            Ok(context.output.result(&line, &json!(done))?)
        }
    }
}

async fn remove(
    admin: &AdminArguments,
    node: u32,
    force: bool,
    context: &mut Context,
) -> Result<(), Failure> {
    let query = if force { "?force=true" } else { "" };
    admin.delete(&format!("/v1/nodes/{node}{query}")).await?;
    let line = format!("removed node {node}; its id is not used again");
    Ok(context
        .output
        .result(&line, &json!({ "removed": node, "forced": force }))?)
}

/// The cluster as the node at hand sees it.
async fn cluster(admin: &AdminArguments) -> Result<Cluster, Failure> {
    admin.get("/v1/cluster").await
}
