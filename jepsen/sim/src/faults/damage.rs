//! Disks that fail, and files of a minority that are changed behind the back of their node.

use std::io;
use std::path::{Path, PathBuf};

use jepsen_workload::fault::{DiskFault, NodeId};
use storage::disk::{Disk, OpKind};

use super::not_seen;
use crate::core::Core;
use crate::machine::{DATA_DIR, Excuse, Machine, WRITE_US};
use crate::world::SimError;

/// A full disk has so many bytes left.
const LEFT_BYTES: u64 = 4_096;

impl Core {
    pub(super) fn break_disks(
        &mut self,
        nodes: &[NodeId],
        how: DiskFault,
    ) -> Result<String, SimError> {
        for id in nodes {
            let short_bytes = self.random.below(2 * LEFT_BYTES);
            let machine = self.machine(*id)?;
            let disk = &machine.disk;
            match how {
                DiskFault::SyncError => disk.set_failing(OpKind::Sync, Some(io::ErrorKind::Other)),
                DiskFault::WriteError => {
                    disk.set_failing(OpKind::Write, Some(io::ErrorKind::Other))
                }
                DiskFault::Full => disk.set_capacity(disk.used_bytes() + LEFT_BYTES),
                // A write that is cut short, and then no more.
                DiskFault::ShortWrites => disk.set_capacity(disk.used_bytes() + short_bytes),
                DiskFault::SlowSync(ms) => disk.set_latency(WRITE_US, u64::from(ms) * 1_000),
                DiskFault::LyingSync => machine.lie_about_syncs(),
            }
        }
        Ok(format!("disks of {nodes:?}: {how:?}"))
    }

    /// Undoes it. A disk that lied loses its power, so that the lie comes out; its node is kept down.
    pub(super) fn mend_disks(
        &mut self,
        nodes: &[NodeId],
        how: DiskFault,
    ) -> Result<String, SimError> {
        for id in nodes {
            let seed = self.random.next_u64();
            let Some(machine) = self.machines.get_mut(id) else {
                continue;
            };
            if how == DiskFault::LyingSync {
                machine.hold();
                machine.cut_power(seed);
            }
            machine.mend_disk();
        }
        Ok(format!("disks of {nodes:?} are as they should be"))
    }

    /// A bit of some file flips, whether its node runs or not.
    pub(super) fn flip_bit(&mut self, id: NodeId) -> Result<String, SimError> {
        let (path, len) = self.choose_file(id)?;
        let bit = self.choose_bit(id, &path, len)?;
        let machine = self.machine(id)?;
        machine.note_damage(match is_of_sort(&path, ".journal") {
            true => Excuse::LastRound,
            false => Excuse::None,
        });
        let before = contents(machine, &path)?;
        machine.disk.flip_bit(&path, bit).map_err(not_seen)?;
        let after = contents(machine, &path)?;
        if before == after {
            return Err(SimError::NotSeen(format!(
                "{} is as before",
                path.display()
            )));
        }
        Ok(format!("node {id}: bit {bit} of {}", path.display()))
    }

    /// A node is stopped, some file is cut short, and it is started again.
    pub(super) fn truncate_file(&mut self, id: NodeId) -> Result<String, SimError> {
        let (path, len) = self.choose_file(id)?;
        let left = self.random.below(len);
        let machine = self.machine(id)?;
        machine.note_damage(Excuse::All);
        machine.kill();
        machine.disk.truncate_file(&path, left).map_err(not_seen)?;
        let now = contents(machine, &path)?.len() as u64;
        if now != left {
            return Err(SimError::NotSeen(format!(
                "{} has {now} bytes",
                path.display()
            )));
        }
        machine.start().map_err(not_seen)?;
        Ok(format!(
            "node {id}: {} cut from {len} to {left} bytes",
            path.display()
        ))
    }

    /// A node is stopped, some file is deleted, and it is started again.
    pub(super) fn delete_file(&mut self, id: NodeId) -> Result<String, SimError> {
        let (path, len) = self.choose_file(id)?;
        let machine = self.machine(id)?;
        machine.note_damage(Excuse::All);
        machine.kill();
        machine.disk.delete_file(&path).map_err(not_seen)?;
        if machine.disk.files().iter().any(|(one, _)| *one == path) {
            return Err(SimError::NotSeen(format!(
                "{} is still there",
                path.display()
            )));
        }
        machine.start().map_err(not_seen)?;
        Ok(format!(
            "node {id}: deleted {} of {len} bytes",
            path.display()
        ))
    }

    /// Some bit of a file, mostly of what was written: of most files that is a small part.
    fn choose_bit(&mut self, id: NodeId, path: &Path, len: u64) -> Result<u64, SimError> {
        let anywhere = self.random.below(len * 8);
        let bytes = contents(self.machine(id)?, path)?;
        let written: Vec<u64> = (0..)
            .zip(&bytes)
            .filter(|(_, byte)| **byte != 0)
            .map(|(at, _)| at)
            .collect();
        let at = self.random.pick(&written).copied();
        let is_written = self.random.chance(3, 4);
        Ok(at
            .filter(|_| is_written)
            .map_or(anywhere, |at| at * 8 + anywhere % 8))
    }

    /// Some file of a node's data that is not empty; a sort is drawn first.
    fn choose_file(&mut self, id: NodeId) -> Result<(PathBuf, u64), SimError> {
        let machine = self.machine(id)?;
        if !machine.disk.is_powered() {
            return Err(SimError::NoNode(format!("node {id} has no power")));
        }
        let files = machine.disk.files();
        let of_sort = |sort: &&str| -> Vec<(PathBuf, u64)> {
            let these = files
                .iter()
                .filter(|(path, len)| *len > 0 && is_of_sort(path, sort));
            these.cloned().collect()
        };
        let sorts: Vec<_> = SORTS
            .iter()
            .map(of_sort)
            .filter(|of| !of.is_empty())
            .collect();
        let of = self.random.pick(&sorts).cloned().unwrap_or_default();
        let file = self.random.pick(&of).cloned();
        file.ok_or_else(|| SimError::NoNode(format!("node {id} has no file yet")))
    }
}

/// Endings of files that are damaged, the journal's twice as often; the others are `identity`,
/// `run` and the like, without which a node does not start by design.
const SORTS: [&str; 6] = [
    ".log",
    ".index",
    ".journal",
    ".journal",
    ".spare",
    ".checkpoint",
];

fn is_of_sort(path: &Path, sort: &str) -> bool {
    path.starts_with(DATA_DIR) && path.to_string_lossy().ends_with(sort)
}

fn contents(machine: &Machine, path: &Path) -> Result<Vec<u8>, SimError> {
    Disk::Sim(machine.disk.clone())
        .read_file(path)
        .map_err(not_seen)
}
