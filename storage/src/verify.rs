//! Offline check and listing of segment files, for `braidlog debug segment` and tests.

use std::io;
use std::path::{Path, PathBuf};

use crate::Offset;
use crate::batch::BatchHeader;
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::partition_log::index::{
    INDEX_ENTRY_BYTES, INDEX_HEADER_BYTES, IndexEntry, good_entries,
};
use crate::partition_log::segment_format::{
    FileName, SegmentId, digest_after, index_name, parse_name,
};
use crate::partition_log::walk::{Walk, WalkSpan};
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

/// The segment files at `path`: itself, or the `.log` files of a directory and of the directories
/// in it, sorted.
///
/// # Errors
/// When a directory cannot be read.
pub fn segment_files(disk: &Disk, path: &Path) -> io::Result<Vec<PathBuf>> {
    let Ok(entries) = disk.read_dir(path) else {
        return if disk.exists(path)? {
            Ok(vec![path.to_owned()])
        } else {
            Err(io::ErrorKind::NotFound.into())
        };
    };
    let mut files = Vec::new();
    for entry in entries {
        let inner = path.join(&entry.name);
        if entry.is_dir {
            let names = disk.read_dir(&inner)?;
            let logs = names
                .into_iter()
                .filter(|name| !name.is_dir && is_log(&name.name));
            files.extend(logs.map(|name| inner.join(name.name)));
        } else if is_log(&entry.name) {
            files.push(inner);
        }
    }
    Ok(files)
}

/// Checks every batch of a segment file and its index. Changes nothing.
///
/// # Errors
/// When the file cannot be read or its name is no segment's.
pub fn verify_segment(disk: &Disk, path: &Path) -> Result<SegmentReport, ReadError> {
    let base = id_of(path)?.base;
    let mut report = SegmentReport {
        file: path.to_owned(),
        base,
        end: base,
        file_bytes: 0,
        bytes: 0,
        batches: 0,
        records: 0,
        max_timestamp: -1,
        digest: 0,
        damage: None,
        index: IndexReport::Missing,
    };
    let file = disk
        .open(path, OpenMode::Read)
        .map_err(|error| ReadError::io(path, "open", error))?;
    report.file_bytes = file
        .len()
        .map_err(|error| ReadError::io(path, "measure", error))?;
    let mut places = Places::default();
    let mut epoch = 0;
    let mut walk = walk(&file, path, report.base, report.file_bytes);
    loop {
        match walk.next() {
            Ok(Some(batch)) if batch.header.partition_leader_epoch < epoch => {
                report.damage = Some(Damage {
                    file: path.to_owned(),
                    position: batch.position,
                    expected: format!("a leader epoch of at least {epoch}"),
                    found: format!("leader epoch {}", batch.header.partition_leader_epoch),
                });
                break;
            }
            Ok(Some(batch)) => {
                let header = batch.header;
                epoch = header.partition_leader_epoch;
                places.add(
                    batch.position,
                    Offset(header.base_offset),
                    report.max_timestamp,
                );
                report.batches += 1;
                report.records += u64::from(header.record_count.unsigned_abs());
                report.bytes = batch.position + header.total_bytes() as u64;
                report.end = Offset(header.last_offset().0.saturating_add(1));
                report.max_timestamp = report.max_timestamp.max(header.max_timestamp);
                let head = batch.chunk[batch.start..]
                    .first_chunk()
                    .expect("a batch has a header");
                report.digest = digest_after(report.digest, head);
            }
            Ok(None) => break,
            Err(ReadError::Corrupt {
                file,
                position,
                expected,
                found,
            }) => {
                report.damage = Some(Damage {
                    file,
                    position,
                    expected,
                    found,
                });
                break;
            }
            Err(error) => return Err(error),
        }
    }
    places.add(report.bytes, report.end, report.max_timestamp);
    report.index = verify_index(disk, path, &report, &places)?;
    Ok(report)
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
    let base = id_of(path)?.base;
    let file = disk
        .open(path, OpenMode::Read)
        .map_err(|error| ReadError::io(path, "open", error))?;
    let len = file
        .len()
        .map_err(|error| ReadError::io(path, "measure", error))?;
    let mut position = 0;
    let mut offset = base;
    while position < len {
        let mut walk = Walk::new(WalkSpan {
            file: &file,
            path,
            position,
            offset,
            end_position: len,
            epochs: None,
            chunk_bytes: CHUNK_BYTES,
        });
        // A batch with a bad CRC is shown, and skipped by its length.
        while let Some(header) = walk.peek()? {
            let before = walk.position();
            let crc_matches = match walk.next() {
                Ok(_) => true,
                Err(ReadError::Corrupt { .. }) => false,
                Err(error) => return Err(error),
            };
            each(DumpedBatch {
                position: before,
                header,
                crc_matches,
            });
            position = before + header.total_bytes() as u64;
            offset = Offset(header.last_offset().0.saturating_add(1));
            if !crc_matches {
                break;
            }
        }
    }
    Ok(())
}

const CHUNK_BYTES: usize = 1 << 20;

/// Where the intact batches begin, and the greatest timestamp before each.
#[derive(Default)]
struct Places {
    places: Vec<IndexEntry>,
}

impl Places {
    fn add(&mut self, position: u64, offset: Offset, max_timestamp_before: i64) {
        self.places.push(IndexEntry {
            offset,
            position,
            max_timestamp_before,
        });
    }

    fn has(&self, entry: &IndexEntry) -> bool {
        let at = self
            .places
            .binary_search_by_key(&entry.position, |place| place.position);
        at.is_ok_and(|at| self.places[at] == *entry)
    }
}

fn verify_index(
    disk: &Disk,
    path: &Path,
    report: &SegmentReport,
    places: &Places,
) -> Result<IndexReport, ReadError> {
    let path = path.with_file_name(index_name(id_of(path)?));
    let bytes = match disk.read_file(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(IndexReport::Missing),
        Err(error) => return Err(ReadError::io(&path, "read", error)),
    };
    let good = good_entries(&bytes, report.base, u64::MAX);
    let true_entries = good.iter().take_while(|entry| places.has(entry)).count();
    let len = INDEX_HEADER_BYTES + true_entries * INDEX_ENTRY_BYTES;
    let entries = true_entries as u64;
    if len != bytes.len() {
        return Ok(IndexReport::Damaged {
            good_entries: entries,
        });
    }
    let complete = good
        .last()
        .is_some_and(|last| last.position == report.file_bytes);
    Ok(IndexReport::Intact { entries, complete })
}

fn walk<'a>(file: &'a DiskFile, path: &'a Path, base: Offset, len: u64) -> Walk<'a> {
    Walk::new(WalkSpan {
        file,
        path,
        position: 0,
        offset: base,
        end_position: len,
        epochs: None,
        chunk_bytes: CHUNK_BYTES,
    })
}

fn is_log(name: &str) -> bool {
    matches!(parse_name(name), Some(FileName::Log(_)))
}

fn id_of(path: &Path) -> Result<SegmentId, ReadError> {
    match path
        .file_name()
        .and_then(|name| name.to_str())
        .and_then(parse_name)
    {
        Some(FileName::Log(id)) => Ok(id),
        _ => {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "not a segment's name");
            Err(ReadError::io(path, "open", error))
        }
    }
}
