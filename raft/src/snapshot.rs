//! A shard's checkpoint: the file that says up to where the state is durable, and the manifest from
//! which the state machine restores it.
//!
//! To openraft it is a snapshot that may be older than what is applied: everything at or below its
//! position may leave the journal. The file only ever moves forward, and it is written after all
//! that its manifest names is durable.
//!
//! ```text
//! body of the state file, big-endian:
//! | has position u8 | term u64 | index u64 | time_ms i64 |
//! | membership has position u8 | term u64 | index u64 | membership (see entry.rs) |
//! | manifest, to the end |
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::RaftSnapshotBuilder;
use storage::LogPosition;
use storage::bugs::{self, Bug};
use storage::disk::Disk;
use tokio::sync::oneshot;

use crate::entry::{
    DecodeError, decode_membership, decode_position, encode_membership, encode_position, need,
};
use crate::status::Status;
use crate::types::{Snapshot, SnapshotMeta, StoredMembership, Types, log_id, position};
use crate::{CheckpointError, CheckpointJob};

const FILE_KIND: [u8; 4] = *b"SHRD";
const FILE_VERSION: u16 = 1;

/// The state machine's part of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Time of the last entry it holds.
    pub(crate) time_ms: i64,
    /// What `Apply::checkpoint` returned.
    pub(crate) bytes: Bytes,
}

/// A whole checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) meta: SnapshotMeta,
    pub(crate) manifest: Manifest,
}

impl Checkpoint {
    pub(crate) fn position(&self) -> Option<LogPosition> {
        self.meta.last_log_id.as_ref().map(position)
    }

    pub(crate) fn to_snapshot(&self) -> Snapshot {
        Snapshot {
            meta: self.meta.clone(),
            snapshot: self.manifest.clone(),
        }
    }

    pub(crate) fn encode(&self) -> Bytes {
        self.pieces().concat().into()
    }

    /// What it is encoded as, in two pieces: the manifest, which may be large, is not copied.
    pub(crate) fn pieces(&self) -> [Bytes; 2] {
        let mut out = BytesMut::with_capacity(128);
        encode_optional(self.position(), &mut out);
        out.put_i64(self.manifest.time_ms);
        encode_optional(
            self.meta.last_membership.log_id().as_ref().map(position),
            &mut out,
        );
        encode_membership(self.meta.last_membership.membership(), &mut out);
        [out.freeze(), self.manifest.bytes.clone()]
    }

    pub(crate) fn decode(mut bytes: Bytes) -> Result<Checkpoint, DecodeError> {
        let what = "checkpoint";
        let last = decode_optional(&mut bytes)?;
        need(&bytes, 8, what)?;
        let time_ms = bytes.get_i64();
        let membership_at = decode_optional(&mut bytes)?;
        let membership = decode_membership(&mut bytes)?;
        Ok(Checkpoint {
            meta: SnapshotMeta {
                last_log_id: last.map(log_id),
                last_membership: StoredMembership::new(membership_at.map(log_id), membership),
            },
            manifest: Manifest { time_ms, bytes },
        })
    }
}

fn encode_optional(position: Option<LogPosition>, out: &mut BytesMut) {
    out.put_u8(u8::from(position.is_some()));
    encode_position(position.unwrap_or_default(), out);
}

fn decode_optional(bytes: &mut Bytes) -> Result<Option<LogPosition>, DecodeError> {
    let what = "checkpoint";
    need(bytes, 1, what)?;
    let present = bytes.get_u8() != 0;
    let position = decode_position(bytes, what)?;
    Ok(present.then_some(position))
}

/// What the state machine saved in a checkpoint file, if there is one: for whoever cannot open the
/// shard itself. Blocks.
///
/// # Errors
/// The file cannot be read or is damaged.
pub fn saved_manifest(disk: &Disk, path: &Path) -> io::Result<Option<Bytes>> {
    let body =
        storage::state_file::read(disk, path, FILE_KIND, FILE_VERSION).map_err(io::Error::other)?;
    let checkpoint = body.map(Checkpoint::decode).transpose()?;
    Ok(checkpoint.map(|checkpoint| checkpoint.manifest.bytes))
}

/// Who asked for the checkpoint that is wanted next.
pub(crate) type Wanted = oneshot::Sender<Result<LogPosition, CheckpointError>>;

/// The checkpoint file of one shard.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    disk: Disk,
    path: PathBuf,
    /// Held over the write of the file; `current` never is, so that reading it does not block. Holds
    /// whether the shard is closed.
    writing: Mutex<bool>,
    current: Mutex<Option<Checkpoint>>,
    wanted: Mutex<Option<Wanted>>,
}

impl Checkpoints {
    /// Reads the file, when there is one.
    pub(crate) fn open(disk: Disk, path: PathBuf) -> io::Result<Checkpoints> {
        let body = storage::state_file::read(&disk, &path, FILE_KIND, FILE_VERSION)
            .map_err(io::Error::other)?;
        let current = body.map(Checkpoint::decode).transpose()?;
        Ok(Checkpoints {
            disk,
            path,
            writing: Mutex::new(false),
            current: Mutex::new(current),
            wanted: Mutex::new(None),
        })
    }

    pub(crate) fn current(&self) -> Option<Checkpoint> {
        locked(&self.current).clone()
    }

    /// Last entry the checkpoint holds.
    pub(crate) fn position(&self) -> Option<LogPosition> {
        locked(&self.current)
            .as_ref()
            .and_then(Checkpoint::position)
    }

    /// Asks that the next snapshot openraft triggers be made.
    pub(crate) fn want(&self, wanted: Wanted) {
        *locked(&self.wanted) = Some(wanted);
    }

    pub(crate) fn is_wanted(&self) -> bool {
        locked(&self.wanted).is_some()
    }

    pub(crate) fn take_wanted(&self) -> Option<Wanted> {
        locked(&self.wanted).take()
    }

    /// Blocks. Writes the file unless the one there is newer: one may have been installed while
    /// this one was made. One of the same position replaces it: the state machine may keep what it
    /// has in other places since.
    pub(crate) fn save(&self, checkpoint: &Checkpoint) -> io::Result<()> {
        let retired = locked(&self.writing);
        if *retired {
            return Err(io::Error::other("the shard is closed"));
        }
        let newer = locked(&self.current)
            .as_ref()
            .is_none_or(|held| held.meta.last_log_id <= checkpoint.meta.last_log_id);
        if newer {
            let body = checkpoint.encode();
            storage::state_file::write(&self.disk, &self.path, FILE_KIND, FILE_VERSION, &body)
                .map_err(io::Error::other)?;
            *locked(&self.current) = Some(checkpoint.clone());
        }
        Ok(())
    }
}

impl Checkpoints {
    /// The file is written no more, whoever is still at it: it may belong to another opening of the
    /// shard, or to nobody. Blocks while it is being written.
    pub(crate) fn retire(&self) {
        *locked(&self.writing) = true;
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One checkpoint on its way: captured, not yet durable.
pub(crate) struct Builder {
    pub(crate) checkpoints: Arc<Checkpoints>,
    pub(crate) meta: SnapshotMeta,
    pub(crate) time_ms: i64,
    /// The mutex makes it `Sync`.
    pub(crate) job: Mutex<Option<CheckpointJob>>,
    pub(crate) wanted: Option<Wanted>,
    /// How far apply has come meanwhile; of use to a seeded bug alone.
    pub(crate) status: Arc<Status>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = Manifest;

    /// Never fails: an error would stop the shard for good. What went wrong is told to whoever
    /// wanted the checkpoint, and openraft gets the one it has, which it ignores.
    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let job = locked(&self.job).take();
        let job = job.ok_or_else(|| io::Error::other("a checkpoint is made once"))?;
        let (checkpoints, meta, time_ms) = (
            Arc::clone(&self.checkpoints),
            self.meta.clone(),
            self.time_ms,
        );
        let status = Arc::clone(&self.status);
        let made = net::blocking(move || -> Result<Checkpoint, CheckpointError> {
            let bytes = job()?;
            let mut meta = meta;
            if bugs::is_on(Bug::CheckpointSaysTooMuch) {
                meta.last_log_id = status.last_applied().map(log_id).max(meta.last_log_id);
            }
            let checkpoint = Checkpoint {
                meta,
                manifest: Manifest { time_ms, bytes },
            };
            checkpoints.save(&checkpoint)?;
            Ok(checkpoint)
        })
        .await
        .unwrap_or_else(|error| Err(CheckpointError::Storage(io::Error::other(error))));
        let (snapshot, answer) = match made {
            Ok(checkpoint) => {
                let at = checkpoint.position().unwrap_or_default();
                (checkpoint.to_snapshot(), Ok(at))
            }
            Err(error) => (self.held(), Err(error)),
        };
        if let Some(wanted) = self.wanted.take() {
            // Whoever asked may have stopped waiting.
            let _ = wanted.send(answer);
        }
        Ok(snapshot)
    }
}

impl Builder {
    fn held(&self) -> Snapshot {
        self.checkpoints.current().map_or_else(
            || Snapshot {
                meta: SnapshotMeta::default(),
                snapshot: Manifest {
                    time_ms: 0,
                    bytes: Bytes::new(),
                },
            },
            |checkpoint| checkpoint.to_snapshot(),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use openraft::Membership;
    use storage::disk::SimDisk;

    use super::*;
    use crate::types::LogId;

    fn checkpoint(index: u64) -> Checkpoint {
        let at = LogId::new_term_index(3, index);
        let membership = Membership::new_with_defaults(vec![[1, 2].into()], [7]);
        Checkpoint {
            meta: SnapshotMeta {
                last_log_id: Some(at),
                last_membership: StoredMembership::new(Some(at), membership),
            },
            manifest: Manifest {
                time_ms: -5,
                bytes: Bytes::from(vec![1; 50]),
            },
        }
    }

    #[test]
    fn a_checkpoint_survives_its_file_and_never_steps_back() {
        let disk = Disk::Sim(SimDisk::new(1));
        let open = || Checkpoints::open(disk.clone(), Path::new("/0.checkpoint").into()).unwrap();
        let checkpoints = open();
        assert_eq!(checkpoints.current(), None);
        checkpoints.save(&checkpoint(10)).unwrap();
        assert_eq!(open().current(), Some(checkpoint(10)));
        checkpoints.save(&checkpoint(9)).unwrap();
        assert_eq!(checkpoints.position().map(|at| at.index.0), Some(10));
        assert_eq!(open().current(), Some(checkpoint(10)));
        let mut again = checkpoint(10);
        again.manifest.bytes = Bytes::from_static(b"elsewhere");
        checkpoints.save(&again).unwrap();
        assert_eq!(open().current(), Some(again));
    }

    #[test]
    fn a_closed_shard_writes_no_checkpoint() {
        let disk = Disk::Sim(SimDisk::new(1));
        let open = || Checkpoints::open(disk.clone(), Path::new("/0.checkpoint").into()).unwrap();
        let checkpoints = open();
        checkpoints.save(&checkpoint(10)).unwrap();
        checkpoints.retire();
        checkpoints.save(&checkpoint(11)).unwrap_err();
        assert_eq!(checkpoints.position().map(|at| at.index.0), Some(10));
        assert_eq!(open().current(), Some(checkpoint(10)));
    }

    #[test]
    fn a_cut_body_is_refused() {
        let whole = checkpoint(10).encode();
        let manifest = whole.len() - 50;
        for end in 0..manifest {
            assert!(
                Checkpoint::decode(whole.slice(..end)).is_err(),
                "{end} bytes"
            );
        }
        assert_eq!(Checkpoint::decode(whole).unwrap(), checkpoint(10));
    }
}
