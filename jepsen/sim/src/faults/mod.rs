//! How every fault is made in the simulated world, how its effect is seen, and how it is undone.

mod damage;
mod heal;
mod links;
mod members;

use std::io;
use std::time::Duration;

use jepsen_workload::fault::{DiskFault, Fault, NodeId};

use crate::core::Core;
use crate::machine::Machine;
use crate::world::{SimError, SimWorld};

pub(crate) use heal::heal;

/// A node that was started is waited for so long, in case it can come up already.
const UP_MAX: Duration = Duration::from_secs(5);

pub(crate) async fn begin(world: &SimWorld, fault: &Fault) -> Result<String, SimError> {
    match fault.clone() {
        Fault::Kill(nodes) => {
            world
                .with(move |core| core.take_down(&nodes, false))
                .await?
        }
        Fault::PowerCut(nodes) => world.with(move |core| core.take_down(&nodes, true)).await?,
        Fault::Pause(nodes) => world.with(move |core| core.pause(&nodes)).await?,
        Fault::Cut { links, clients, .. } => {
            world.with(move |core| core.cut(&links, &clients)).await?
        }
        Fault::Packets {
            nodes,
            delay,
            jitter,
            loss_per_mille,
        } => {
            let link = links::link(delay, jitter, loss_per_mille);
            world.with(move |core| core.set_links(&nodes, link)).await?
        }
        Fault::Clock { nodes, offset_ms } => {
            world
                .with(move |core| core.set_clocks(&nodes, offset_ms))
                .await?
        }
        Fault::Disk { nodes, how } => {
            world
                .with(move |core| core.break_disks(&nodes, how))
                .await?
        }
        Fault::AddNode => members::add(world).await,
        Fault::RemoveNode(node) => members::remove(world, node).await,
        Fault::TransferLeader => members::transfer_leader(world).await,
        Fault::FlipBit(node) => world.with(move |core| core.flip_bit(node)).await?,
        Fault::TruncateFile(node) => world.with(move |core| core.truncate_file(node)).await?,
        Fault::DeleteFile(node) => world.with(move |core| core.delete_file(node)).await?,
    }
}

pub(crate) async fn end(world: &SimWorld, fault: &Fault) -> Result<String, SimError> {
    match fault.clone() {
        Fault::Kill(nodes) | Fault::PowerCut(nodes) => bring_up(world, nodes).await,
        Fault::Pause(nodes) => world.with(move |core| core.resume(&nodes)).await?,
        Fault::Cut { links, clients, .. } => {
            world.with(move |core| core.join(&links, &clients)).await?
        }
        Fault::Packets { .. } => world.with(Core::reset_links).await?,
        Fault::Clock { nodes, .. } => world.with(move |core| core.set_clocks(&nodes, 0)).await?,
        Fault::Disk { nodes, how } => {
            let lying = how == DiskFault::LyingSync;
            let some = nodes.clone();
            let mended = world
                .with(move |core| core.mend_disks(&some, how))
                .await??;
            if lying {
                bring_up(world, nodes).await?;
            }
            Ok(mended)
        }
        Fault::AddNode => members::remove_last_added(world).await,
        Fault::RemoveNode(_) => members::add(world).await,
        Fault::TransferLeader => Ok("nothing to undo".to_owned()),
        // What is damaged stays so; the node has to live with it.
        Fault::FlipBit(node) => {
            world.with(move |core| core.restart_perhaps(node)).await??;
            bring_up_if_ended(world, node).await
        }
        Fault::TruncateFile(node) | Fault::DeleteFile(node) => bring_up_if_ended(world, node).await,
    }
}

/// Starts nodes that were taken down, and gives them some time.
async fn bring_up(world: &SimWorld, nodes: Vec<NodeId>) -> Result<String, SimError> {
    let some = nodes.clone();
    world.with(move |core| core.release(&some)).await??;
    let some = nodes.clone();
    let up = world.eventually(UP_MAX, move |core| {
        let is_up = |id: &NodeId| {
            let machine = core.machines.get(id);
            machine.is_none_or(|machine| machine.broker().is_some() || machine.is_held())
        };
        some.iter().all(is_up).then_some(())
    });
    Ok(match up.await? {
        Some(()) => format!("{nodes:?} serve again"),
        None => format!("{nodes:?} were started"),
    })
}

async fn bring_up_if_ended(world: &SimWorld, node: NodeId) -> Result<String, SimError> {
    world
        .with(move |core| {
            let machine = core.machine(node)?;
            let ended = machine.ended.clone();
            machine.start().map_err(not_seen)?;
            Ok(match ended {
                Some(reason) => format!("started again, it had ended: {reason}"),
                None => "it runs".to_owned(),
            })
        })
        .await?
}

pub(crate) fn not_seen(error: io::Error) -> SimError {
    SimError::NotSeen(error.to_string())
}

impl Core {
    pub(crate) fn machine(&mut self, id: NodeId) -> Result<&mut Machine, SimError> {
        let machine = self.machines.get_mut(&id);
        machine.ok_or_else(|| SimError::NoNode(format!("there is no node {id}")))
    }

    /// Ends processes, with the power or without.
    fn take_down(&mut self, nodes: &[NodeId], by_power: bool) -> Result<String, SimError> {
        if by_power {
            // At one moment.
            for id in nodes {
                self.machine(*id)?.disk.cut_power();
            }
        }
        for id in nodes {
            let seed = self.random.next_u64();
            let machine = self.machine(*id)?;
            machine.hold();
            if by_power {
                machine.cut_power(seed);
            } else {
                machine.kill();
            }
            if machine.is_running() || by_power && machine.disk.is_powered() {
                return Err(SimError::NotSeen(format!("node {id} still runs")));
            }
        }
        Ok(format!("{nodes:?} do not run"))
    }

    /// Nothing keeps these down any more; those that nothing else keeps down are started.
    fn release(&mut self, nodes: &[NodeId]) -> Result<(), SimError> {
        for id in nodes {
            // It may have been removed meanwhile.
            if let Some(machine) = self.machines.get_mut(id) {
                machine.release();
                machine.start().map_err(not_seen)?;
            }
        }
        Ok(())
    }

    /// A node that reads its damaged files only when it starts may be made to.
    fn restart_perhaps(&mut self, id: NodeId) -> Result<(), SimError> {
        let is_killed = self.random.chance(1, 2);
        let machine = self.machine(id)?;
        if is_killed && machine.is_running() {
            machine.kill();
        }
        Ok(())
    }

    fn pause(&mut self, nodes: &[NodeId]) -> Result<String, SimError> {
        let mut paused = Vec::new();
        for id in nodes {
            let machine = self.machine(*id)?;
            machine.is_paused = machine.is_running();
            if machine.is_paused {
                paused.push(*id);
            }
        }
        if paused.is_empty() {
            return Err(SimError::NotSeen(format!("none of {nodes:?} runs")));
        }
        Ok(format!("{paused:?} stand still"))
    }

    fn resume(&mut self, nodes: &[NodeId]) -> Result<String, SimError> {
        for id in nodes {
            if let Some(machine) = self.machines.get_mut(id) {
                machine.is_paused = false;
            }
        }
        Ok(format!("{nodes:?} go on"))
    }

    fn set_clocks(&mut self, nodes: &[NodeId], offset_ms: i64) -> Result<String, SimError> {
        for id in nodes {
            let Some(machine) = self.machines.get_mut(id) else {
                continue;
            };
            machine.set_clock_offset_ms(offset_ms);
            let seen_ms = machine.wall_clock_error_ms();
            if seen_ms != offset_ms {
                return Err(SimError::NotSeen(format!(
                    "node {id} is wrong by {seen_ms} ms"
                )));
            }
        }
        Ok(format!(
            "wall clocks of {nodes:?} are wrong by {offset_ms} ms"
        ))
    }
}
