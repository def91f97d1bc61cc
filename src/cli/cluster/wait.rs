//! `cluster wait`: for scripts that must not go on before the cluster is as it should be.

use std::time::Duration;

use http_admin::model::{Cluster, Node, NodeState};
use http_admin::verdict::Health;
use serde_json::json;

use super::super::Context;
use super::super::admin::AdminArguments;
use super::super::failure::{Failure, Kind};
use super::cluster;

const POLL: Duration = Duration::from_millis(100);
/// Nodes that keep the catalogue in every cluster that has so many.
const CATALOGUE_KEEPERS: usize = 3;

/// Also waits for a node that does not answer yet.
pub(super) async fn wait(
    admin: &AdminArguments,
    nodes: Option<usize>,
    healthy: bool,
    context: &mut Context,
) -> Result<(), Failure> {
    let must_be_healthy = healthy || nodes.is_none();
    let deadline_ms = context
        .clock
        .monotonic_ms()
        .saturating_add(admin.timeout.signed_ms());
    loop {
        let lacking = match cluster(admin).await {
            Ok(cluster) => match lacking(&cluster, nodes, must_be_healthy) {
                None => {
                    let line = &cluster.verdict.sentence;
                    return Ok(context.output.result(line, &json!(cluster))?);
                }
                Some(lacking) => Failure::new(Kind::TimedOut, lacking),
            },
            Err(failure) if matches!(failure.kind(), Kind::Unreachable | Kind::TimedOut) => failure,
            Err(failure) => return Err(failure),
        };
        if context.clock.monotonic_ms() >= deadline_ms {
            let waited = format!("waited {} in vain", admin.timeout);
            return Err(lacking.context(&waited).help(format!(
                "look at it with {}",
                admin.suggest("cluster status")
            )));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// What keeps the wait from its end.
fn lacking(cluster: &Cluster, nodes: Option<usize>, must_be_healthy: bool) -> Option<String> {
    let alive = cluster.nodes.iter().filter(|node| node.alive).count();
    if let Some(wanted) = nodes.filter(|wanted| alive < *wanted) {
        return Some(format!("{alive} of {wanted} nodes are alive"));
    }
    let is_settled = cluster.shards.iter().all(|shard| shard.target.is_none());
    if must_be_healthy && cluster.verdict.health != Health::Healthy {
        return Some(cluster.verdict.sentence.clone());
    }
    if must_be_healthy && !is_settled {
        return Some("shards are moving".to_owned());
    }
    must_be_healthy.then(|| growing(cluster))?
}

/// Three nodes keep the catalogue together; what they are about to become is not healthy yet.
fn growing(cluster: &Cluster) -> Option<String> {
    let can_keep = |node: &&Node| node.alive && node.state == NodeState::Active;
    let active = cluster.nodes.iter().filter(can_keep).count();
    let catalogue = cluster.shards.iter().find(|shard| shard.id == 0)?;
    let keep = catalogue.voters.len();
    (active >= CATALOGUE_KEEPERS && keep < CATALOGUE_KEEPERS)
        .then(|| format!("the catalogue is kept by {keep} of {active} nodes so far"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_admin::model::Shard;

    #[test]
    fn nodes_are_counted_when_alive_and_health_when_asked_for() {
        let node = |alive| Node {
            alive,
            ..Node::default()
        };
        let mut cluster = Cluster {
            nodes: vec![node(true), node(false)],
            ..Cluster::default()
        };
        cluster.verdict.sentence = "Degraded.".to_owned();
        assert_eq!(
            lacking(&cluster, Some(2), false).as_deref(),
            Some("1 of 2 nodes are alive")
        );
        assert_eq!(lacking(&cluster, Some(1), false), None);
        assert_eq!(
            lacking(&cluster, Some(1), true).as_deref(),
            Some("Degraded.")
        );
        cluster.verdict.health = Health::Healthy;
        assert_eq!(lacking(&cluster, None, true), None);
        cluster.shards.push(Shard {
            target: Some(vec![1]),
            ..Shard::default()
        });
        assert!(lacking(&cluster, None, true).is_some());
    }

    #[test]
    fn three_nodes_are_waited_for_until_they_keep_the_catalogue_together() {
        let node = || Node {
            alive: true,
            ..Node::default()
        };
        let mut cluster = Cluster {
            nodes: vec![node(), node(), node()],
            shards: vec![Shard {
                voters: vec![1],
                ..Shard::default()
            }],
            ..Cluster::default()
        };
        cluster.verdict.health = Health::Healthy;
        let said = lacking(&cluster, None, true);
        assert_eq!(
            said.as_deref(),
            Some("the catalogue is kept by 1 of 3 nodes so far")
        );
        cluster.nodes[2].state = NodeState::Draining;
        assert_eq!(lacking(&cluster, None, true), None);
        cluster.nodes[2].state = NodeState::Active;
        cluster.shards[0].voters = vec![1, 2, 3];
        assert_eq!(lacking(&cluster, None, true), None);
    }
}
