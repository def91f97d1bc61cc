//! Who takes part and who leads: through the nodes' own administration.

use std::time::Duration;

use jepsen_workload::fault::NodeId;

use super::not_seen;
use crate::core::Core;
use crate::world::{SimError, SimWorld};

/// A node that joins, or is drained, gets so long; it may be that nothing works meanwhile.
const CHANGE_MAX: Duration = Duration::from_secs(50);
/// Between two attempts at something that is refused for now.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// A transfer of leadership shows within this.
const LED_MAX: Duration = Duration::from_secs(10);

/// A new node joins.
pub(super) async fn add(world: &SimWorld) -> Result<String, SimError> {
    let id = world
        .with(|core| {
            let id = core.add_machine();
            let started = core.machine(id)?.start().map_err(not_seen);
            started.map(|()| id)
        })
        .await??;
    let joined = world.eventually(CHANGE_MAX, move |core| core.has_joined(id).then_some(()));
    joined
        .await?
        .ok_or_else(|| SimError::NotSeen(format!("node {id} has not joined")))?;
    world
        .with(move |core| core.members.borrow_mut().insert(id))
        .await?;
    Ok(format!("node {id} has joined"))
}

/// A node is drained, removed and ended.
pub(super) async fn remove(world: &SimWorld, id: NodeId) -> Result<String, SimError> {
    let deadline = tokio::time::Instant::now() + CHANGE_MAX;
    let node = storage::NodeId(id);
    world.with(move |core| core.leaving.insert(id)).await?;
    let mut is_draining = false;
    let mut last = String::from("nobody answered");
    while tokio::time::Instant::now() < deadline {
        let done = world
            .on_node(Some(id), move |broker| async move {
                if is_draining {
                    broker.remove_node(node, false).await
                } else {
                    broker.drain_node(node).await
                }
            })
            .await;
        match done {
            Ok(Ok(())) if is_draining => {
                world
                    .with(move |core| {
                        core.leaving.remove(&id);
                        core.remove_machine(id);
                    })
                    .await?;
                return Ok(format!("node {id} is removed"));
            }
            Ok(Ok(())) => is_draining = true,
            Ok(Err(error)) => last = error.to_string(),
            Err(SimError::Over) => return Err(SimError::Over),
            Err(error) => last = error.to_string(),
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
    Err(SimError::NotSeen(format!(
        "node {id} is not removed: {last}"
    )))
}

/// Undoes [`add`].
pub(super) async fn remove_last_added(world: &SimWorld) -> Result<String, SimError> {
    let last = world
        .with(|core| {
            let members = core.members.borrow();
            let last = members.iter().next_back().copied();
            last.filter(|_| members.len() > 3)
        })
        .await?;
    match last {
        Some(id) => remove(world, id).await,
        None => Err(SimError::NoNode("three have to stay".to_owned())),
    }
}

/// Some shard gets another leader.
pub(super) async fn transfer_leader(world: &SimWorld) -> Result<String, SimError> {
    let chosen = world.with(choose_transfer).await?;
    let (shard, from, to) = chosen
        .ok_or_else(|| SimError::NoNode("no shard has another replica in sync".to_owned()))?;
    let done = world
        .on_node(None, move |broker| async move {
            broker.transfer_leader(shard, to).await
        })
        .await?;
    done.map_err(|error| SimError::NotSeen(format!("shard {shard} to node {to}: {error}")))?;
    let led = world.eventually(LED_MAX, move |core| {
        let machine = core.machines.get(&to.0)?;
        let shards = machine.broker()?.cluster_status().shards;
        let shard = shards.into_iter().find(|one| one.id == shard)?;
        (shard.leader != Some(from)).then_some(())
    });
    match led.await? {
        Some(()) => Ok(format!("shard {shard} went from node {from} to node {to}")),
        None => Err(SimError::NotSeen(format!(
            "node {from} still leads shard {shard}"
        ))),
    }
}

fn choose_transfer(
    core: &mut Core,
) -> Option<(storage::ShardId, storage::NodeId, storage::NodeId)> {
    let (_, broker) = core.any_broker(None)?;
    let mut moves = Vec::new();
    for shard in broker.cluster_status().shards {
        let Some(leader) = shard.leader else {
            continue;
        };
        let others = shard.in_sync.iter().filter(|node| **node != leader);
        moves.extend(others.map(|node| (shard.id, leader, *node)));
    }
    core.random.pick(&moves).copied()
}

impl Core {
    /// Whether a node serves and others know it.
    fn has_joined(&self, id: NodeId) -> bool {
        let Some(own) = self.machines.get(&id) else {
            return false;
        };
        own.broker().is_some()
            && self.machines.values().any(|machine| {
                let broker = machine.broker().filter(|_| machine.id != id);
                broker.is_some_and(|broker| {
                    broker.catalogue().nodes.contains_key(&storage::NodeId(id))
                })
            })
    }
}
