//! The data directory of a node: its layout, its lock and whose it is.
//!
//! ```text
//! <data dir>/
//!   lock              held (flock) by the running process, whose id it names
//!   identity          state file: cluster, node, incarnation, layout version
//!   joining           state file: incarnation of a node that has not joined yet
//!   run               state file: how the last run is going or went, see `run.rs`
//!   returning         state file: how far a node that lost its memory has come, see `returning.rs`
//!   lost-<n>/         what a node with a damaged journal held; nothing reads it again
//!   journal/          see `journal`
//!   partitions/       see `partition_log`
//!   shards/<n>.checkpoint   state files, see the `raft` crate
//! ```
//!
//! One process at a time; the lock goes with the process however it ends.

mod lost;
mod returning;
mod run;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::returning::Returning;
pub use self::run::PreviousRun;

use crate::disk::{Disk, DiskFile, OpenMode};
use crate::state_file::{self, StateFileError};
use crate::{NodeId, ShardId};

const IDENTITY_KIND: [u8; 4] = *b"IDEN";
/// Version 2 has the incarnation.
const IDENTITY_VERSION: u16 = 2;
const JOINING_KIND: [u8; 4] = *b"JOIN";
const JOINING_VERSION: u16 = 1;
/// Length of a cluster id at most, in bytes.
const CLUSTER_ID_BYTES_MAX: usize = 255;
/// Version of the directory's layout that this code writes, and the newest it reads.
pub const LAYOUT_VERSION: u32 = 2;

/// Whose data this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster_id: String,
    /// The node of it.
    pub node_id: NodeId,
    /// Drawn when the directory was founded or joined, so that a directory that was lost is not
    /// taken for this one. All zeros in directories made before there was one.
    pub incarnation: [u8; 16],
    /// Version of the directory's layout, [`LAYOUT_VERSION`] for a new one.
    pub layout_version: u32,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process uses it.
    #[error("{} is in use by process {}", path.display(), holder.as_deref().unwrap_or("(unknown)"))]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Id of the process that holds the lock, if it could be read.
        holder: Option<String>,
    },
    /// A newer version has changed its layout.
    #[error("{} has layout {found}, only layouts up to {supported} are known", path.display())]
    UnknownLayout {
        /// The directory.
        path: PathBuf,
        /// Its layout.
        found: u32,
        /// The newest known.
        supported: u32,
    },
    /// The cluster id to be stored is empty or too long.
    #[error("a cluster id of {bytes} bytes cannot be stored, it may have 1 to {max}")]
    ClusterIdLength {
        /// Its length.
        bytes: usize,
        /// The longest allowed.
        max: usize,
    },
    /// The boot id is empty or too long.
    #[error("a boot id of {bytes} bytes cannot be stored, it may have 1 to {max}")]
    BootIdLength {
        /// Its length.
        bytes: usize,
        /// The longest allowed.
        max: usize,
    },
    /// There is no telling one boot of the machine from the next.
    #[error("the system does not tell which boot of the machine this is: {0}")]
    NoBootId(#[source] io::Error),
    /// A state file of the directory is damaged or cannot be read or written.
    #[error(transparent)]
    Identity(#[from] StateFileError),
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// Why it was refused.
        source: io::Error,
    },
}

/// A data directory, locked. Clones share the lock, which goes with the last of them.
#[derive(Debug, Clone)]
pub struct DataDir {
    disk: Disk,
    path: PathBuf,
    _lock: Arc<DiskFile>,
}

impl DataDir {
    /// Makes the directory when absent, takes its lock and checks its layout.
    pub fn open(disk: &Disk, path: &Path) -> Result<DataDir, DataDirError> {
        create_durably(disk, path)?;
        let lock_path = path.join("lock");
        let lock = disk
            .open(&lock_path, OpenMode::Create)
            .map_err(io_error("open", &lock_path))?;
        if !lock
            .try_lock_exclusive()
            .map_err(io_error("lock", &lock_path))?
        {
            return Err(DataDirError::Locked {
                path: path.to_owned(),
                holder: holder(&lock),
            });
        }
        let pid = format!("{}\n", crate::turns::process_id());
        lock.set_len(0)
            .and_then(|()| lock.write_all_at(pid.as_bytes(), 0))
            .map_err(io_error("write", &lock_path))?;
        let data_dir = DataDir {
            disk: disk.clone(),
            path: path.to_owned(),
            _lock: Arc::new(lock),
        };
        for part in [
            data_dir.journal_dir(),
            data_dir.partitions_dir(),
            data_dir.shards_dir(),
        ] {
            disk.create_dir_all(&part)
                .map_err(io_error("make", &part))?;
        }
        disk.sync_dir(path).map_err(io_error("sync", path))?;
        data_dir.identity()?;
        Ok(data_dir)
    }

    /// Whose data this is; `None` when that was never set.
    pub fn identity(&self) -> Result<Option<Identity>, DataDirError> {
        let path = self.path.join("identity");
        let read = state_file::read_versioned(&self.disk, &path, IDENTITY_KIND, IDENTITY_VERSION)?;
        let Some((version, body)) = read else {
            return Ok(None);
        };
        let identity =
            decode_identity(version, &body).ok_or_else(|| malformed(path, "an identity", &body))?;
        if identity.layout_version > LAYOUT_VERSION {
            return Err(DataDirError::UnknownLayout {
                path: self.path.clone(),
                found: identity.layout_version,
                supported: LAYOUT_VERSION,
            });
        }
        Ok(Some(identity))
    }

    /// Stores whose data this is; durable on return.
    pub fn set_identity(&self, identity: &Identity) -> Result<(), DataDirError> {
        let bytes = identity.cluster_id.len();
        if bytes == 0 || bytes > CLUSTER_ID_BYTES_MAX {
            return Err(DataDirError::ClusterIdLength {
                bytes,
                max: CLUSTER_ID_BYTES_MAX,
            });
        }
        let path = self.path.join("identity");
        let body = encode_identity(identity);
        Ok(state_file::write(
            &self.disk,
            &path,
            IDENTITY_KIND,
            IDENTITY_VERSION,
            &body,
        )?)
    }

    /// Incarnation of a node that has begun to join a cluster and has no identity yet.
    pub fn joining(&self) -> Result<Option<[u8; 16]>, DataDirError> {
        let path = self.path.join("joining");
        let body = state_file::read(&self.disk, &path, JOINING_KIND, JOINING_VERSION)?;
        let incarnation = body.map(|body| {
            <[u8; 16]>::try_from(&body[..]).map_err(|_| malformed(path, "16 bytes", &body))
        });
        Ok(incarnation.transpose()?)
    }

    /// Notes that this directory is joining a cluster under that incarnation; durable on return.
    pub fn set_joining(&self, incarnation: [u8; 16]) -> Result<(), DataDirError> {
        let path = self.path.join("joining");
        Ok(state_file::write(
            &self.disk,
            &path,
            JOINING_KIND,
            JOINING_VERSION,
            &incarnation,
        )?)
    }

    /// Forgets what [`DataDir::set_joining`] noted; durable on return.
    pub fn clear_joining(&self) -> Result<(), DataDirError> {
        let path = self.path.join("joining");
        match self.disk.remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("remove", &path)(error));
            }
            _ => {}
        }
        self.disk
            .sync_dir(&self.path)
            .map_err(io_error("sync", &self.path))
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the journal lives.
    #[must_use]
    pub fn journal_dir(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// Where partition logs live.
    #[must_use]
    pub fn partitions_dir(&self) -> PathBuf {
        self.path.join("partitions")
    }

    /// The state file that holds a shard's checkpoint.
    #[must_use]
    pub fn shard_checkpoint(&self, shard: ShardId) -> PathBuf {
        self.shards_dir().join(format!("{shard}.checkpoint"))
    }

    /// Directory of the shards' checkpoint files.
    #[must_use]
    pub fn shards_dir(&self) -> PathBuf {
        self.path.join("shards")
    }
}

/// Makes a directory and makes the names of all that were missing durable.
fn create_durably(disk: &Disk, path: &Path) -> Result<(), DataDirError> {
    let mut missing = Vec::new();
    for ancestor in path.ancestors() {
        if ancestor.as_os_str().is_empty()
            || disk
                .exists(ancestor)
                .map_err(io_error("look up", ancestor))?
        {
            break;
        }
        missing.push(ancestor);
    }
    disk.create_dir_all(path).map_err(io_error("make", path))?;
    for made in missing {
        let parent = made.parent().unwrap_or(Path::new("."));
        disk.sync_dir(parent).map_err(io_error("sync", parent))?;
    }
    Ok(())
}

/// The process id in a lock file.
fn holder(lock: &DiskFile) -> Option<String> {
    let mut bytes = [0; 16];
    let count = lock.read_at(&mut bytes, 0).ok()?;
    let text = std::str::from_utf8(&bytes[..count]).ok()?.trim();
    text.parse::<u32>().is_ok().then(|| text.to_owned())
}

fn malformed(file: PathBuf, expected: &str, found: &[u8]) -> StateFileError {
    StateFileError::Corrupt {
        file,
        position: 20,
        expected: expected.into(),
        found: format!("{:?}", found.escape_ascii().to_string()),
    }
}

/// layout version u32, node id u32, incarnation 16 bytes, length u8, cluster id; little-endian.
/// Version 1 had no incarnation.
fn encode_identity(identity: &Identity) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend_from_slice(&identity.layout_version.to_le_bytes());
    body.extend_from_slice(&identity.node_id.0.to_le_bytes());
    body.extend_from_slice(&identity.incarnation);
    body.push(u8::try_from(identity.cluster_id.len()).expect("checked against its maximum"));
    body.extend_from_slice(identity.cluster_id.as_bytes());
    body
}

fn decode_identity(version: u16, body: &[u8]) -> Option<Identity> {
    let (layout_version, rest) = body.split_first_chunk()?;
    let (node_id, rest) = rest.split_first_chunk()?;
    let (incarnation, rest) = if version == 1 {
        (&[0; 16], rest)
    } else {
        rest.split_first_chunk()?
    };
    let (length, cluster_id) = rest.split_first()?;
    if usize::from(*length) != cluster_id.len() {
        return None;
    }
    Some(Identity {
        layout_version: u32::from_le_bytes(*layout_version),
        node_id: NodeId(u32::from_le_bytes(*node_id)),
        incarnation: *incarnation,
        cluster_id: String::from_utf8(cluster_id.to_vec()).ok()?,
    })
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    move |source| DataDirError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimDisk;

    #[test]
    fn a_directory_in_use_names_its_holder_and_is_free_once_dropped() {
        let path = std::env::temp_dir().join(format!("data-dir-{}/deep", std::process::id()));
        for disk in [Disk::Real, Disk::Sim(SimDisk::new(1))] {
            let first = DataDir::open(&disk, &path).unwrap();
            let error = DataDir::open(&disk, &path).unwrap_err();
            let expected = format!(
                "{} is in use by process {}",
                path.display(),
                std::process::id()
            );
            assert_eq!(error.to_string(), expected);
            drop(first);
            let again = DataDir::open(&disk, &path).unwrap();
            assert!(disk.exists(&again.journal_dir()).unwrap());
            assert!(disk.exists(&again.partitions_dir()).unwrap());
            drop(again);
            disk.remove_dir_all(path.parent().unwrap()).unwrap();
        }
    }

    #[test]
    fn an_identity_survives_a_crash_once_set_and_is_refused_when_damaged_or_newer() {
        let sim = SimDisk::new(1);
        let disk = Disk::Sim(sim.clone());
        let path = Path::new("/var/data");
        let data_dir = DataDir::open(&disk, path).unwrap();
        assert_eq!(data_dir.identity().unwrap(), None);
        let mut identity = Identity {
            cluster_id: "c1".into(),
            node_id: NodeId(3),
            incarnation: [7; 16],
            layout_version: LAYOUT_VERSION,
        };
        data_dir.set_identity(&identity).unwrap();
        for seed in 0..20 {
            sim.crash(seed);
            let data_dir = DataDir::open(&disk, path).unwrap();
            assert_eq!(data_dir.identity().unwrap().as_ref(), Some(&identity));
        }
        // The lock is free: its holder was dropped.
        let data_dir = DataDir::open(&disk, path).unwrap();
        sim.flip_bit(&path.join("identity"), 200).unwrap();
        assert!(matches!(
            data_dir.identity(),
            Err(DataDirError::Identity(_))
        ));
        identity.layout_version = LAYOUT_VERSION + 1;
        data_dir.set_identity(&identity).unwrap();
        drop(data_dir);
        let error = DataDir::open(&disk, path).unwrap_err();
        assert!(matches!(
            error,
            DataDirError::UnknownLayout { found: 3, .. }
        ));
    }

    #[test]
    fn an_identity_of_the_first_version_has_no_incarnation() {
        let disk = Disk::Sim(SimDisk::new(1));
        let path = Path::new("/var/data");
        let data_dir = DataDir::open(&disk, path).unwrap();
        let body = [&[1, 0, 0, 0, 7, 0, 0, 0, 2][..], b"c1"].concat();
        state_file::write(&disk, &path.join("identity"), IDENTITY_KIND, 1, &body).unwrap();
        let expected = Identity {
            cluster_id: "c1".into(),
            node_id: NodeId(7),
            incarnation: [0; 16],
            layout_version: 1,
        };
        assert_eq!(data_dir.identity().unwrap(), Some(expected.clone()));
        data_dir.set_identity(&expected).unwrap();
        assert_eq!(data_dir.identity().unwrap(), Some(expected));
        for end in 0..body.len() {
            assert_eq!(decode_identity(1, &body[..end]), None);
            assert_eq!(decode_identity(2, &body[..end]), None);
        }
    }

    #[test]
    fn joining_lasts_until_it_is_cleared() {
        let sim = SimDisk::new(1);
        let disk = Disk::Sim(sim.clone());
        let path = Path::new("/var/data");
        let data_dir = DataDir::open(&disk, path).unwrap();
        assert_eq!(data_dir.joining().unwrap(), None);
        data_dir.clear_joining().unwrap();
        data_dir.set_joining([9; 16]).unwrap();
        drop(data_dir);
        sim.crash(1);
        let data_dir = DataDir::open(&disk, path).unwrap();
        assert_eq!(data_dir.joining().unwrap(), Some([9; 16]));
        data_dir.clear_joining().unwrap();
        drop(data_dir);
        sim.crash(2);
        let data_dir = DataDir::open(&disk, path).unwrap();
        assert_eq!(data_dir.joining().unwrap(), None);
    }
}
