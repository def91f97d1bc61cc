//! Everything is undone, and nodes that do not come up are treated as the manual says.

use std::collections::BTreeMap;
use std::time::Duration;

use broker::catalogue::NodeState;
use jepsen_workload::fault::NodeId;

use super::{members, not_seen};
use crate::core::Core;
use crate::world::{SimError, SimWorld};

/// So long nodes may take until all of them serve.
const UP_MAX: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A node that ends at every start is given up after so many.
const STARTS_MAX: u32 = 5;

/// Heals everything and waits until all members serve.
pub(crate) async fn heal(world: &SimWorld) -> Result<(), SimError> {
    world.with(Core::undo_all).await??;
    let deadline = tokio::time::Instant::now() + UP_MAX;
    let mut starts: BTreeMap<NodeId, u32> = BTreeMap::new();
    loop {
        let down = world.with(Core::start_ended).await??;
        if down.is_empty() {
            break;
        }
        for (id, reason) in &down {
            let Some(reason) = reason else {
                continue;
            };
            let count = starts.entry(*id).or_default();
            *count += 1;
            if *count > STARTS_MAX {
                replace(world, *id, reason.clone()).await?;
            }
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(SimError::NotSeen(format!("these do not serve: {down:?}")));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    stay(world).await
}

/// Nodes that were to be drained stay after all.
async fn stay(world: &SimWorld) -> Result<(), SimError> {
    let draining = world.with(|core| {
        core.leaving.clear();
        let Some((_, broker)) = core.any_broker(None) else {
            return Vec::new();
        };
        let catalogue = broker.catalogue();
        let nodes = catalogue.nodes.values();
        let draining = nodes.filter(|node| node.state == NodeState::Draining);
        draining.map(|node| node.id).collect()
    });
    for node in draining.await? {
        for _ in 0..50 {
            let undrained = world.on_node(None, move |broker| async move {
                broker.undrain_node(node).await.is_ok()
            });
            if undrained.await.unwrap_or(false) {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    Ok(())
}

/// A node whose disk does not let it start: it is removed and a new one joins.
async fn replace(world: &SimWorld, id: NodeId, reason: String) -> Result<(), SimError> {
    let is_damaged = world
        .with(move |core| {
            core.trace
                .line("operator", format_args!("replaces node {id}: {reason}"));
            core.machine(id).map(|machine| machine.is_damaged)
        })
        .await??;
    if !is_damaged {
        let why = format!("node {id} does not start, though nothing of its was damaged");
        return Err(SimError::NotSeen(why));
    }
    world
        .with(move |core| core.machine(id).map(|machine| machine.kill()))
        .await??;
    let node = storage::NodeId(id);
    let mut last = String::new();
    for _ in 0..100 {
        let removed = world.on_node(Some(id), move |broker| async move {
            broker.remove_node(node, true).await
        });
        match removed.await {
            Ok(Ok(())) => {
                world.with(move |core| core.remove_machine(id)).await?;
                return members::add(world).await.map(|_| ());
            }
            Ok(Err(error)) => last = error.to_string(),
            Err(error) => last = error.to_string(),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Err(SimError::NotSeen(format!(
        "node {id} cannot be replaced: {last}"
    )))
}

impl Core {
    fn undo_all(&mut self) -> Result<(), SimError> {
        self.network.heal_all();
        self.network.reset_links();
        for machine in self.machines.values_mut() {
            machine.is_paused = false;
            machine.set_clock_offset_ms(0);
            machine.mend_disk();
            machine.release_all();
            machine.start().map_err(not_seen)?;
        }
        Ok(())
    }

    /// Starts nodes that ended; those that do not serve yet, with the reason of those that ended.
    fn start_ended(&mut self) -> Result<Vec<(NodeId, Option<String>)>, SimError> {
        let mut down = Vec::new();
        for machine in self.machines.values_mut() {
            if machine.broker().is_some() {
                continue;
            }
            down.push((machine.id, machine.ended.clone()));
            if machine.must_boot {
                machine.reboot();
            }
            machine.start().map_err(not_seen)?;
        }
        Ok(down)
    }
}
