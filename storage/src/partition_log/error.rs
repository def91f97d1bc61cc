//! What can go wrong with a partition log, grouped by what the caller can do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{LogId, Offset};

/// Bytes that are not what they must be. Never served, never cut, never taken for a shorter log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// Where in the file the damaged batch (or what should be there) begins.
    pub position: u64,
    /// What must be there.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage {
            file,
            position,
            expected,
            found,
        } = self;
        write!(
            f,
            "{} at byte {position}: expected {expected}, found {found}",
            file.display()
        )
    }
}

/// The store or one of its partitions can not go on.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StorageError {
    /// The disk failed. The node must start over from what is on disk.
    #[error("cannot {action} {}: {source}", file.display())]
    Io {
        /// The file or directory.
        file: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// Bytes that must be on disk are missing or damaged.
    #[error("damaged: {0}")]
    Corrupt(Damage),
    /// The first access to a log's files found segments deleted that its state still had, by a
    /// decision that the journal repeats. A state captured before is not to be saved.
    #[error("segments of partition {partition} were deleted before: capture its state again")]
    StateOutdated {
        /// The partition.
        partition: LogId,
    },
    /// The log has no segment that begins there.
    #[error("partition {partition} has no segment at {base}")]
    NoSuchSegment {
        /// The partition.
        partition: LogId,
        /// The offset asked for.
        base: Offset,
    },
    /// The store is closed.
    #[error("the log store is closed")]
    Closed,
}

impl StorageError {
    pub(crate) fn io(file: &Path, action: &'static str, source: io::Error) -> StorageError {
        StorageError::Io {
            file: file.to_owned(),
            action,
            source: Arc::new(source),
        }
    }
}

/// Why batches could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The offset is not in the log.
    #[error("offset {requested} is outside of {start}..={end}")]
    OutOfRange {
        /// The offset asked for.
        requested: Offset,
        /// First offset there is.
        start: Offset,
        /// Offset that the next record will get.
        end: Offset,
    },
    /// Bytes that must be on disk are missing or damaged; the partition is marked as failed.
    #[error("damaged: {} at byte {position}: expected {expected}, found {found}", file.display())]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// Where the damaged batch begins.
        position: u64,
        /// What must be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The disk failed.
    #[error("cannot {action} {}: {source}", file.display())]
    Io {
        /// The file or directory.
        file: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: Arc<io::Error>,
    },
}

impl ReadError {
    pub(crate) fn io(file: &Path, action: &'static str, source: io::Error) -> ReadError {
        ReadError::Io {
            file: file.to_owned(),
            action,
            source: Arc::new(source),
        }
    }
}

impl From<Damage> for ReadError {
    fn from(
        Damage {
            file,
            position,
            expected,
            found,
        }: Damage,
    ) -> ReadError {
        ReadError::Corrupt {
            file,
            position,
            expected,
            found,
        }
    }
}
