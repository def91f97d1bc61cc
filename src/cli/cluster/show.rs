//! `cluster status` and `cluster nodes`.

use std::time::Duration;

use http_admin::model::{Cluster, Node, NodeState, Shard};
use http_admin::verdict::size;
use serde_json::json;

use super::super::Context;
use super::super::admin::AdminArguments;
use super::super::failure::{Failure, Kind};
use super::super::output::{Format, Table, printable};
use super::super::topic::counted;
use super::cluster;

/// Time between two pictures of `--watch`.
const REDRAW: Duration = Duration::from_secs(1);
/// Clears the screen and puts the cursor into its first column and row.
const CLEAR: &str = "\x1b[2J\x1b[H";
/// Shards shown one by one unless all are asked for.
const SHARDS_SHOWN_MAX: usize = 20;

pub(super) async fn status(
    admin: &AdminArguments,
    every_shard: bool,
    context: &mut Context,
) -> Result<(), Failure> {
    let cluster = cluster(admin).await?;
    draw(&cluster, every_shard, context)
}

/// Draws until the output is closed. A node that does not answer is said, and asked again.
pub(super) async fn watch(
    admin: &AdminArguments,
    every_shard: bool,
    context: &mut Context,
) -> Result<(), Failure> {
    loop {
        let picture = cluster(admin).await;
        if context.output.format() == Format::Table {
            context.output.text(CLEAR)?;
        }
        match picture {
            Ok(cluster) => draw(&cluster, every_shard, context)?,
            Err(failure) if failure.kind() == Kind::Usage => return Err(failure),
            Err(failure) => match context.output.format() {
                Format::Table => context.output.line(failure.message())?,
                Format::Json => context
                    .output
                    .json(&json!({ "error": failure.message() }))?,
            },
        }
        context.output.flush()?;
        tokio::time::sleep(REDRAW).await;
    }
}

pub(super) async fn nodes(admin: &AdminArguments, context: &mut Context) -> Result<(), Failure> {
    let cluster = cluster(admin).await?;
    if context.output.format() == Format::Json {
        return Ok(context.output.json(&json!(cluster.nodes))?);
    }
    let mut table = Table::new(&["NODE", "STATE", "RACK", "KAFKA", "HTTP", "PEERS"]);
    for node in &cluster.nodes {
        let listener = |name: &str| {
            let address = node.listeners.get(name);
            address.map_or("-".to_owned(), |address| printable(address.as_bytes()))
        };
        table.row(vec![
            node.id.to_string(),
            state(node).to_owned(),
            rack(node),
            listener("kafka"),
            listener("http"),
            listener("peers"),
        ]);
    }
    Ok(context.output.table(&table)?)
}

fn draw(cluster: &Cluster, every_shard: bool, context: &mut Context) -> Result<(), Failure> {
    if context.output.format() == Format::Json {
        return Ok(context.output.json(&json!(cluster))?);
    }
    let out = &mut context.output;
    out.line(&cluster.verdict.sentence)?;
    out.line("")?;
    out.table(&node_table(cluster))?;
    out.line("")?;
    out.line(&summary(cluster))?;
    let lacking = cluster.shards.iter().filter(|shard| !is_settled(shard));
    let (shown, left_out): (Vec<&Shard>, usize) = if every_shard {
        (cluster.shards.iter().collect(), 0)
    } else {
        let lacking: Vec<&Shard> = lacking.collect();
        let count = lacking.len().min(SHARDS_SHOWN_MAX);
        (lacking[..count].to_vec(), lacking.len() - count)
    };
    if !shown.is_empty() {
        out.line("")?;
        out.table(&shard_table(&shown))?;
    }
    if left_out > 0 {
        out.line(&format!(
            "... and {left_out} more; --shards shows every one"
        ))?;
    }
    Ok(())
}

fn node_table(cluster: &Cluster) -> Table {
    let mut table = Table::new(&["NODE", "STATE", "RACK", "LEADS", "REPLICAS", "KAFKA", ""]);
    for node in &cluster.nodes {
        let mut marks = Vec::new();
        if cluster.controller == Some(node.id) {
            marks.push("controller".to_owned());
        }
        if node.local {
            marks.push("answers here".to_owned());
        }
        if let Some(what) = &node.waits_for {
            marks.push(format!("waits for {}", printable(what.as_bytes())));
        }
        if !node.barred_from.is_empty() {
            let shards = joined(&node.barred_from);
            let s = if node.barred_from.len() == 1 { "" } else { "s" };
            marks.push(format!("did not catch up in shard{s} {shards}"));
        }
        let kafka = node.listeners.get("kafka");
        table.row(vec![
            node.id.to_string(),
            state(node).to_owned(),
            rack(node),
            node.leads.to_string(),
            node.replicas.to_string(),
            kafka.map_or("-".to_owned(), |address| printable(address.as_bytes())),
            marks.join(", "),
        ]);
    }
    table
}

fn state(node: &Node) -> &'static str {
    match (node.alive, node.state) {
        (false, _) => "down",
        (true, NodeState::Active) => "up",
        (true, NodeState::Draining) if node.replicas == 0 => "drained",
        (true, NodeState::Draining) => "draining",
    }
}

fn rack(node: &Node) -> String {
    let rack = node.rack.as_deref();
    rack.map_or("-".to_owned(), |rack| printable(rack.as_bytes()))
}

/// `9 shards, 24 partitions: all led, all in sync`.
fn summary(cluster: &Cluster) -> String {
    let shards = &cluster.shards;
    let partitions: usize = shards.iter().map(|shard| shard.partitions).sum();
    let unled = shards.iter().filter(|s| s.leader.is_none()).count();
    let behind = shards.iter().filter(|s| is_behind(s)).count();
    let moving = shards.iter().filter(|s| s.target.is_some()).count();
    let led = match unled {
        0 => "all led".to_owned(),
        count => format!("{count} without a leader"),
    };
    let in_sync = match behind {
        0 => "all in sync".to_owned(),
        count => format!("{count} with a replica behind"),
    };
    let moving = match moving {
        0 => String::new(),
        count => format!(", {count} moving"),
    };
    format!(
        "{}, {}: {led}, {in_sync}{moving}",
        counted(i64::try_from(shards.len()).unwrap_or(i64::MAX), "shard"),
        counted(i64::try_from(partitions).unwrap_or(i64::MAX), "partition"),
    )
}

fn is_behind(shard: &Shard) -> bool {
    let mut replicas = shard.replicas.iter();
    replicas.any(|replica| !shard.in_sync.contains(replica))
}

fn is_settled(shard: &Shard) -> bool {
    shard.leader.is_some() && shard.target.is_none() && !is_behind(shard)
}

fn shard_table(shards: &[&Shard]) -> Table {
    let mut table = Table::new(&[
        "SHARD",
        "LEADER",
        "TERM",
        "REPLICAS",
        "IN SYNC",
        "PARTITIONS",
        "ON ITS WAY",
    ]);
    for shard in shards {
        let mut on_its_way = Vec::new();
        if let Some(target) = &shard.target {
            on_its_way.push(format!("to {}", joined(target)));
        }
        if !shard.returning.is_empty() {
            on_its_way.push(format!(
                "waits to go on without {}",
                joined(&shard.returning)
            ));
        }
        if let Some(seconds) = shard.stalled_seconds {
            on_its_way.push(format!("no progress for {} min", seconds / 60));
        }
        for copy in &shard.catching_up {
            let left = match copy.bytes_left {
                None | Some(0) => String::new(),
                Some(bytes) => format!(" ({} left)", size(bytes)),
            };
            on_its_way.push(format!("node {} catches up{left}", copy.node));
        }
        table.row(vec![
            shard.id.to_string(),
            shard
                .leader
                .map_or("-".to_owned(), |leader| leader.to_string()),
            shard.term.to_string(),
            joined(&shard.replicas),
            joined(&shard.in_sync),
            shard.partitions.to_string(),
            on_its_way.join(", "),
        ]);
    }
    table
}

fn joined(nodes: &[u32]) -> String {
    let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
    nodes.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(id: u32) -> Shard {
        Shard {
            id,
            replicas: vec![1, 2, 3],
            in_sync: vec![1, 2, 3],
            leader: Some(1),
            partitions: 4,
            ..Shard::default()
        }
    }

    #[test]
    fn the_summary_counts_what_is_missing() {
        let mut cluster = Cluster {
            shards: vec![shard(0), shard(1)],
            ..Cluster::default()
        };
        assert_eq!(
            summary(&cluster),
            "2 shards, 8 partitions: all led, all in sync"
        );
        cluster.shards[0].leader = None;
        cluster.shards[1].in_sync.pop();
        cluster.shards[1].target = Some(vec![1, 2, 4]);
        assert_eq!(
            summary(&cluster),
            "2 shards, 8 partitions: 1 without a leader, 1 with a replica behind, 1 moving"
        );
    }

    #[test]
    fn a_node_that_is_down_is_down_whatever_else_it_is() {
        let mut node = Node {
            replicas: 1,
            ..Node::default()
        };
        assert_eq!(state(&node), "down");
        node.alive = true;
        assert_eq!(state(&node), "up");
        node.state = NodeState::Draining;
        assert_eq!(state(&node), "draining");
        node.replicas = 0;
        assert_eq!(state(&node), "drained");
    }
}
