//! The journal: one log on one disk for all shards of a node, and the only thing an answer to a
//! client waits for.
//!
//! It holds each shard's Raft entries, vote and committed position. One flusher thread takes what
//! is queued, writes it in one call, syncs once, calls back, and starts again at once; there is no
//! timer. A round starts only when the one before is synced, so at most the last round on disk can
//! be torn, and damage anywhere else is told from a torn write. Files are recycled, because a sync
//! of bytes that were written before is nearly twice as fast.
//!
//! It never interprets payloads and never decides what may be dropped.

mod error;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

pub use self::error::JournalError;
use crate::disk::Disk;
use crate::{LogIndex, LogPosition, ShardId, Term};

/// Settings of a [`Journal`].
#[derive(Debug, Clone)]
pub struct JournalConfig {
    /// Directory of the journal's files; made when absent.
    pub dir: PathBuf,
    /// Size of one file. A round larger than this gets a larger file.
    pub file_bytes: u64,
    /// A round takes queued changes until it holds this many bytes; one larger change goes alone.
    pub round_bytes_max: usize,
    /// Files kept ready ahead of need. While they cannot be made, [`Journal::admits_data`] is
    /// false.
    pub spare_files: usize,
}

impl JournalConfig {
    /// The defaults: files of 64 MiB, rounds of 4 MiB, one spare file.
    #[must_use]
    pub fn new(dir: PathBuf) -> JournalConfig {
        JournalConfig {
            dir,
            file_bytes: 64 << 20,
            round_bytes_max: 4 << 20,
            spare_files: 1,
        }
    }
}

/// Called on the flusher thread once the change is durable, or has failed. It must not block.
pub type Synced = Box<dyn FnOnce(Result<(), JournalError>) + Send>;

/// An entry to append.
#[derive(Debug, Clone)]
pub struct JournalEntry {
    /// Its place in the shard's log.
    pub position: LogPosition,
    /// The payload, in pieces that are written one behind the other and never joined in memory.
    pub pieces: Vec<Bytes>,
}

/// An entry read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadEntry {
    /// Its place in the shard's log.
    pub position: LogPosition,
    /// The payload, whole.
    pub payload: Bytes,
}

/// What the journal knows of one shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShardLog {
    /// The last entry purged.
    pub floor: Option<LogPosition>,
    /// The last entry; the floor when the log has been emptied; `None` when there is neither.
    pub last: Option<LogPosition>,
    /// The vote saved last.
    pub vote: Option<Bytes>,
    /// The committed position saved last; after a crash it may be an older one.
    pub committed: Option<Bytes>,
}

/// The journal. Clones share it.
#[derive(Clone)]
pub struct Journal {
    inner: Arc<()>,
}

#[expect(unused_variables, clippy::todo, reason = "signatures first")]
impl Journal {
    /// Opens the journal of a directory, makes it when there is none, and recovers what a crash
    /// left: a torn last round is dropped (and reported with `tracing`), the last whole one is
    /// written and synced again, since a failed sync may have left it in memory only. Damage
    /// anywhere else is [`JournalError::Corrupt`], and nothing is changed then.
    pub fn open(disk: &Disk, config: JournalConfig) -> Result<Journal, JournalError> {
        todo!()
    }

    /// The shards that have anything in the journal, in order.
    #[must_use]
    pub fn shards(&self) -> Vec<ShardId> {
        todo!()
    }

    /// What is known of a shard; all `None` for a new one.
    #[must_use]
    pub fn shard_log(&self, shard: ShardId) -> ShardLog {
        todo!()
    }

    /// Appends entries: they are readable when this returns and durable when `synced` runs.
    /// On an error nothing was appended and `synced` is dropped; so for every change below.
    ///
    /// # Panics
    /// When the indexes leave a hole: the first must follow the last entry (or the floor), unless
    /// the log is empty and has no floor.
    pub fn append(
        &self,
        shard: ShardId,
        entries: Vec<JournalEntry>,
        synced: Synced,
    ) -> Result<(), JournalError> {
        todo!()
    }

    /// Saves the shard's vote, replacing the one before.
    pub fn save_vote(
        &self,
        shard: ShardId,
        vote: Bytes,
        synced: Synced,
    ) -> Result<(), JournalError> {
        todo!()
    }

    /// Saves the shard's committed position lazily: it rides with a later round and forces none,
    /// so after a crash an older one may be found. Never one beyond the entries found.
    pub fn save_committed(&self, shard: ShardId, committed: Bytes) -> Result<(), JournalError> {
        todo!()
    }

    /// Drops the entries behind `last_kept`; `None` drops all above the floor.
    pub fn truncate_after(
        &self,
        shard: ShardId,
        last_kept: Option<LogPosition>,
        synced: Synced,
    ) -> Result<(), JournalError> {
        todo!()
    }

    /// Drops the entries up to and including `upto`, which becomes the floor. When `upto` lies
    /// above the last entry, or names another term than the entry there, all entries go and the
    /// log continues at `upto.index + 1`. At or below the floor nothing changes.
    pub fn purge(
        &self,
        shard: ShardId,
        upto: LogPosition,
        synced: Synced,
    ) -> Result<(), JournalError> {
        todo!()
    }

    /// Forgets everything about a shard.
    pub fn remove_shard(&self, shard: ShardId, synced: Synced) -> Result<(), JournalError> {
        todo!()
    }

    /// Entries from `from` on, below `to_exclusive`, as many as fit `bytes_max` of payload; the
    /// first is returned whatever its size. Empty when `from` does not exist. What is not written
    /// yet comes from memory; the rest is read from the disk (this may block) and checked.
    pub fn read(
        &self,
        shard: ShardId,
        from: LogIndex,
        to_exclusive: LogIndex,
        bytes_max: usize,
    ) -> Result<Vec<ReadEntry>, JournalError> {
        todo!()
    }

    /// Term of an entry, or of the floor; `None` for what does not exist.
    #[must_use]
    pub fn term_of(&self, shard: ShardId, index: LogIndex) -> Option<Term> {
        todo!()
    }

    /// False while space for more data cannot be reserved: callers then refuse new data. The
    /// journal still takes what was admitted before, and control entries.
    #[must_use]
    pub fn admits_data(&self) -> bool {
        todo!()
    }

    /// Why the journal has failed, once it has. It never recovers: close it and open it again.
    #[must_use]
    pub fn failed(&self) -> Option<JournalError> {
        todo!()
    }

    /// Runs `f` once when the journal fails, at once when it has already.
    pub fn on_failure(&self, f: Box<dyn FnOnce(JournalError) + Send>) {
        todo!()
    }

    /// Bytes this shard's entries above `index` take in the journal, to pace checkpoints.
    #[must_use]
    pub fn bytes_since(&self, shard: ShardId, index: LogIndex) -> u64 {
        todo!()
    }

    /// Bytes in files that cannot be recycled yet.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        todo!()
    }

    /// Writes what is queued, then the seal that makes every later damage detectable, and ends
    /// the threads. Later changes are refused with [`JournalError::Closed`]. May be called twice.
    pub fn close(&self) {
        todo!()
    }
}

/// What [`verify`] found.
#[derive(Debug, Clone, Default)]
pub struct JournalReport {
    /// The files in use, oldest first.
    pub files: Vec<JournalFileReport>,
    /// What the journal holds of each shard.
    pub shards: Vec<(ShardId, ShardLog)>,
    /// Whether it was closed cleanly.
    pub is_sealed: bool,
    /// Whether the last round is torn and would be dropped on open.
    pub has_torn_round: bool,
    /// Why it cannot be opened, if so.
    pub error: Option<JournalError>,
}

/// One file of a [`JournalReport`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalFileReport {
    /// The file.
    pub path: PathBuf,
    /// Its number.
    pub sequence: u64,
    /// Rounds in it.
    pub rounds: u64,
    /// Frames in it.
    pub frames: u64,
    /// Bytes up to the end of its last round.
    pub used_bytes: u64,
}

/// Checks a journal that is not open, changing nothing.
#[must_use]
#[expect(unused_variables, clippy::todo, reason = "signatures first")]
pub fn verify(disk: &Disk, dir: &Path) -> JournalReport {
    todo!()
}
