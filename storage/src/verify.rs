//! Offline check and listing of segment files, for `braidlog debug segment` and tests.

use std::io;
use std::path::{Path, PathBuf};

use crate::Offset;
use crate::batch::BatchHeader;
use crate::disk::Disk;
use crate::partition_log::{Damage, ReadError};

/// What a check of one segment file found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentReport {
    /// The file.
    pub file: PathBuf,
    /// Offset of the first record, by the file's name.
    pub base: Offset,
    /// Offset after the last intact batch.
    pub end: Offset,
    /// Length of the file.
    pub file_bytes: u64,
    /// Bytes of the intact batches from the start on.
    pub bytes: u64,
    /// Number of intact batches from the start on.
    pub batches: u64,
    /// Number of records in them.
    pub records: u64,
    /// Greatest timestamp, milliseconds; -1 when no record has one.
    pub max_timestamp: i64,
    /// Digest of the intact batches, as a checkpoint remembers it for a sealed segment.
    pub digest: u32,
    /// What ends the intact part before the end of the file. At the end of an active segment
    /// after a crash that is ordinary: the journal has those batches.
    pub damage: Option<Damage>,
    /// State of the index beside it.
    pub index: IndexReport,
}

/// What a check of a segment's index found. A damaged index only costs a rebuild.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexReport {
    /// There is none.
    Missing,
    /// Every entry is intact and points at a batch.
    Intact {
        /// Number of entries.
        entries: u64,
        /// Whether it was completed when the segment was sealed.
        complete: bool,
    },
    /// An entry is damaged or points at no batch.
    Damaged {
        /// Number of good entries before it.
        good_entries: u64,
    },
}

/// One batch of a segment file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DumpedBatch {
    /// Where it begins in the file.
    pub position: u64,
    /// Its header.
    pub header: BatchHeader,
    /// Whether its CRC matches.
    pub crc_matches: bool,
}

/// The segment files at `path`: itself, or the `.log` files of a directory, sorted.
///
/// # Errors
/// When the directory cannot be read.
pub fn segment_files(disk: &Disk, path: &Path) -> io::Result<Vec<PathBuf>> {
    let _ = (disk, path);
    todo!()
}

/// Checks every batch of a segment file and its index. Changes nothing.
///
/// # Errors
/// When the file cannot be read or its name is no segment's.
pub fn verify_segment(disk: &Disk, path: &Path) -> Result<SegmentReport, ReadError> {
    let _ = (disk, path);
    todo!()
}

/// Gives every batch of a segment file to `each`, in order, until the end or until bytes are no
/// batch any more, which is the error then.
///
/// # Errors
/// When the file cannot be read, its name is no segment's, or bytes are no batch.
pub fn dump_segment(
    disk: &Disk,
    path: &Path,
    each: &mut dyn FnMut(DumpedBatch),
) -> Result<(), ReadError> {
    let _ = (disk, path, each);
    todo!()
}
