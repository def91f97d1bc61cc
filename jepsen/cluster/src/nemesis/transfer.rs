//! Leadership that moves without need.

use std::time::{Duration, Instant};

use jepsen_workload::random::Random;

use crate::error::ClusterError;
use crate::nemesis::membership::{command, status};
use crate::node::Nodes;

/// All of them together: links may be cut, and what mends them waits for this.
const MOVE_WITHIN: Duration = Duration::from_secs(6);
/// One of them.
const MOVES_WITHIN: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(50);
/// No node has this number.
const NOBODY: u32 = 0;

/// Gives the leadership of some shards that carry something to others of their replicas; seen by
/// somebody else leading them.
pub(crate) async fn transfer(nodes: &Nodes, random: &mut Random) -> Result<String, ClusterError> {
    let all_by = Instant::now() + MOVE_WITHIN;
    let before = status(nodes, None).await?;
    let mut seen = Vec::new();
    let mut last = ClusterError::Fault("no shard could change its leader".to_owned());
    for shard in before.shards.iter().filter(|shard| shard.partitions > 0) {
        let left = all_by.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let within = left.min(MOVES_WITHIN);
        let others = shard.in_sync.iter().copied();
        let others: Vec<u32> = others.filter(|node| Some(*node) != shard.leader).collect();
        let (Some(to), Some(from)) = (random.pick(&others), shard.leader) else {
            continue;
        };
        let (id, to) = (shard.id.to_string(), to.to_string());
        let given = command(nodes, NOBODY, &["transfer-leader", &id, &to], within).await;
        match given {
            Ok(_) => {}
            Err(error) => {
                last = error;
                continue;
            }
        }
        let deadline = all_by.min(Instant::now() + MOVES_WITHIN);
        while Instant::now() < deadline {
            let now = status(nodes, None).await;
            let leader = now.ok().and_then(|now| {
                let shard = now.shards.into_iter().find(|now| now.id == shard.id)?;
                shard.leader
            });
            if let Some(leader) = leader.filter(|leader| *leader != from) {
                seen.push(format!("shard {id}: from {from} to {leader}"));
                break;
            }
            tokio::time::sleep(POLL).await;
        }
    }
    match seen.is_empty() {
        true => Err(last),
        false => Ok(seen.join("; ")),
    }
}
