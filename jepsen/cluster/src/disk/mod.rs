//! What can be done to one node's disk, power and clock.
//!
//! A node that is started with [`NodeDisk::environment`] has the preloaded library in it, which does
//! what the control file says. Everything here can be called while the node runs, unless it says
//! that the process must be gone. All of it blocks for a moment.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jepsen_workload::fault::DiskFault;

/// One node's disk, power and clock.
#[derive(Debug)]
pub struct NodeDisk {
    data_dir: PathBuf,
}

/// What the library in a node has done so far; counts only rise, also over restarts of the node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Writes that were seen.
    pub writes: u64,
}

/// Something that was done to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file, below the data directory.
    pub file: String,
    /// What it is: `journal`, `segment`, `index`, `checkpoint`, `state`.
    pub kind: &'static str,
    /// What was done, for people.
    pub detail: String,
}

impl NodeDisk {
    /// Of a node whose data directory is `data_dir` (absolute; made if it is not there) and whose
    /// other files may go to `side_dir` (on the same file system, not inside `data_dir`).
    pub fn new(data_dir: &Path, side_dir: &Path) -> io::Result<NodeDisk> {
        let _ = side_dir;
        Ok(NodeDisk {
            data_dir: data_dir.to_owned(),
        })
    }

    /// What the node's process must have in its environment.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        Vec::new()
    }

    /// The data directory.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Makes the disk misbehave from now on, or not any more.
    pub fn set(&self, how: Option<DiskFault>) -> io::Result<()> {
        let _ = how;
        Ok(())
    }

    /// Sets the node's wall clock off by so much, at once, also while it runs.
    pub fn set_clock_offset_ms(&self, offset_ms: i64) -> io::Result<()> {
        let _ = offset_ms;
        Ok(())
    }

    /// What has happened so far.
    pub fn counts(&self) -> io::Result<Counts> {
        Ok(Counts::default())
    }

    /// Waits until the node has felt `how` since `before`; says what was seen.
    /// An idle node feels nothing: an error after `within`.
    pub async fn felt(&self, how: DiskFault, before: Counts, within: Duration) -> io::Result<String> {
        let _ = (how, before, within);
        Ok(String::new())
    }

    /// Waits until the node has read its changed wall clock.
    pub async fn clock_felt(&self, before: Counts, within: Duration) -> io::Result<String> {
        let _ = (before, within);
        Ok(String::new())
    }

    /// Power goes: what was not synced is lost, whole or in part, as `seed` draws. The process is
    /// gone already (SIGKILL, and waited for). The next start sees another boot. Says what was lost.
    pub fn cut_power(&self, seed: u64) -> io::Result<String> {
        let _ = seed;
        Ok(String::new())
    }

    /// Flips one bit of a file, drawn from `seed`; the node runs or not.
    pub fn flip_bit(&self, seed: u64) -> io::Result<Damage> {
        let _ = seed;
        Err(io::ErrorKind::NotFound.into())
    }

    /// Cuts a file short, drawn from `seed`; the process is gone.
    pub fn truncate_file(&self, seed: u64) -> io::Result<Damage> {
        let _ = seed;
        Err(io::ErrorKind::NotFound.into())
    }

    /// Deletes a file, drawn from `seed`; the process is gone.
    pub fn delete_file(&self, seed: u64) -> io::Result<Damage> {
        let _ = seed;
        Err(io::ErrorKind::NotFound.into())
    }
}
