//! [`LogStore`]: all partition logs of one disk, and the segment writer that serves them.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;

use crate::clock::Clock;
use crate::disk::Disk;
use crate::partition_log::{LogConfig, LogState, PartitionLog, StorageError};
use crate::{Offset, PartitionId};

/// Limits and places of a [`LogStore`].
#[derive(Debug, Clone)]
pub struct LogStoreConfig {
    /// Directory that holds one directory per partition.
    pub dir: PathBuf,
    /// Bytes of batches kept in memory for reading, whole node. Default 256 MiB.
    pub tail_bytes_max: usize,
    /// Bytes that may wait for the segment writer before appends wait. Default 64 MiB.
    pub writer_queue_bytes_max: usize,
    /// Open files and mappings. Default 1,000.
    pub open_files_max: usize,
    /// Bytes of segment between two entries of its sparse index. Default 4,096.
    pub index_interval_bytes: usize,
    /// Whether indexes of sealed segments are mapped rather than read.
    pub use_mmap: bool,
}

impl LogStoreConfig {
    /// The defaults, with partitions under `dir`.
    #[must_use]
    pub fn new(dir: PathBuf) -> LogStoreConfig {
        LogStoreConfig {
            dir,
            tail_bytes_max: 256 << 20,
            writer_queue_bytes_max: 64 << 20,
            open_files_max: 1_000,
            index_interval_bytes: 4_096,
            use_mmap: true,
        }
    }
}

/// All partition logs of one disk. Clones share it; the last one to go closes it.
#[derive(Clone)]
pub struct LogStore {}

impl LogStore {
    /// Makes the directory and starts the segment writer's thread. Looks at no partition.
    ///
    /// # Errors
    /// When the directory or the thread cannot be made.
    pub fn open(
        disk: &Disk,
        clock: &Clock,
        config: LogStoreConfig,
    ) -> Result<LogStore, StorageError> {
        let _ = (disk, clock, config);
        todo!()
    }
    /// A new, empty log that begins at `start`. Touches no file: the writer makes the directory
    /// and the segment at the first write.
    pub fn create(&self, id: PartitionId, config: LogConfig, start: Offset) -> PartitionLog {
        let _ = (id, config, start);
        todo!()
    }
    /// A log as a checkpoint remembers it. Touches no file: the first access cuts what lies beyond
    /// `state` and checks that what must be there is there.
    pub fn recover(&self, id: PartitionId, config: LogConfig, state: LogState) -> PartitionLog {
        let _ = (id, config, state);
        todo!()
    }
    /// Forgets a log and deletes its files, on the writer thread, also on a full disk.
    pub fn remove(&self, id: PartitionId) {
        let _ = id;
        todo!()
    }
    /// Renames directories of partitions that are not `known` to `*.unknown`; deletes none of
    /// them. Returns how many. To be called before anything is written.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn set_aside_unknown(&self, known: &HashSet<PartitionId>) -> io::Result<usize> {
        let _ = known;
        todo!()
    }
    /// Blocks until everything appended below each given end is written and synced, directories
    /// too. Not to be called on the thread that appends.
    ///
    /// # Errors
    /// When the store has failed or is closed. A failed sync fails the store.
    pub fn sync(&self, ends: &[(PartitionLog, Offset)]) -> Result<(), StorageError> {
        let _ = ends;
        todo!()
    }
    /// Whether the writer waits for disk space. It tries again every 200 ms and loses nothing.
    #[must_use]
    pub fn writer_stalled(&self) -> bool {
        todo!()
    }
    /// Bytes that wait for the writer.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        todo!()
    }
    /// Why the store has failed, if it has: it writes no more and the node must start over.
    #[must_use]
    pub fn failed(&self) -> Option<StorageError> {
        todo!()
    }
    /// Calls `callback` once when the store fails, at once when it has already.
    pub fn on_failure(&self, callback: Box<dyn FnOnce(StorageError) + Send>) {
        let _ = callback;
        todo!()
    }
    /// Writes what is queued (unless the disk is full), stops the thread. Syncs nothing.
    pub fn close(&self) {
        todo!()
    }
}
