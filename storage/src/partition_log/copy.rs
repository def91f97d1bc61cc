//! [`LogCopy`]: committed batches copied from a peer, gathered beside the live log.
//!
//! Every batch is verified before it is written. The live log's files are not touched: the copy
//! is taken over when a log is recovered from a state that names it (`LogState::with_copied`).

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::epochs::Epochs;
use super::index::{INDEX_ENTRY_BYTES, INDEX_HEADER_BYTES, IndexEntry, encode_header};
use super::open::{FileContext, FileError};
use super::segment::Segment;
use super::segment_format::{Mismatch, check_crc, check_header};
use super::staged::{STAGED_DIR, staged_index_name, staged_log_name};
use super::tail::StampedBatch;
use super::{LogConfig, SegmentState, StorageError};
use crate::batch::BatchHeader;
use crate::disk::{DiskFile, OpenMode};
use crate::store_core::Core;
use crate::{LogId, Offset};

/// What is written between two syncs: one at the end would hold up the journal's.
const UNSYNCED_BYTES_MAX: u64 = 16 << 20;

/// Why batches could not be added to a copy or a repair.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CopyError {
    /// The bytes are not whole, intact batches that follow what is there. Nothing of them was
    /// taken; other bytes may be offered.
    #[error("batches for offset {offset} are refused: expected {expected}, found {found}")]
    Refused {
        /// Offset that the refused batch should have.
        offset: Offset,
        /// What it must be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// The disk failed or is full. What `end` says was taken; on a full disk the rest may be
    /// offered again.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A copy of part of a log, on its way. Dropping it abandons it. Every call may block.
pub struct LogCopy {
    core: Arc<Core>,
    id: LogId,
    config: LogConfig,
    dir: PathBuf,
    number: u64,
    end: Offset,
    epoch: i32,
    sealed: Vec<SegmentState>,
    open: Option<SegmentFiles>,
}

/// The segment being written and its index.
pub(crate) struct SegmentFiles {
    pub(crate) segment: Segment,
    log: DiskFile,
    pub(crate) log_path: PathBuf,
    index: Option<(DiskFile, PathBuf)>,
    index_entries: u32,
    unsynced_bytes: u64,
}

/// A verified batch and where it lies in the bytes given.
pub(crate) struct CheckedBatch {
    pub(crate) header: BatchHeader,
    start: usize,
    end: usize,
}

impl CheckedBatch {
    pub(crate) fn base(&self) -> Offset {
        Offset(self.header.base_offset)
    }
}

impl LogCopy {
    pub(crate) fn begin(
        core: &Arc<Core>,
        id: LogId,
        number: u64,
        from: Offset,
        config: LogConfig,
    ) -> Result<LogCopy, StorageError> {
        let dir = core.log_dir(id).join(STAGED_DIR);
        let copy = LogCopy {
            core: Arc::clone(core),
            id,
            config,
            dir,
            number,
            end: from,
            epoch: 0,
            sealed: Vec::new(),
            open: None,
        };
        let disk = &core.disk;
        if disk.exists(&copy.dir).on("look for", &copy.dir)? {
            disk.remove_dir_all(&copy.dir).on("remove", &copy.dir)?;
        }
        disk.create_dir_all(&copy.dir).on("make", &copy.dir)?;
        Ok(copy)
    }

    /// Which log.
    #[must_use]
    pub fn id(&self) -> LogId {
        self.id
    }

    /// Offset that the next batch must have.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.end
    }

    /// Bytes copied so far.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        let sealed: u64 = self.sealed.iter().map(|segment| segment.bytes).sum();
        sealed + self.open.as_ref().map_or(0, |open| open.segment.bytes)
    }

    /// Adds whole batches, back to back, continuing at [`LogCopy::end`]. All of them are verified
    /// before the first is written.
    ///
    /// # Errors
    /// When bytes are no batch, or not the next one, or damaged; when the disk fails or is full.
    pub fn append(&mut self, batches: &Bytes) -> Result<(), CopyError> {
        let checked = check_batches(batches, self.end, EpochCheck::Rising(self.epoch))?;
        let mut rest = &checked[..];
        while let Some(first) = rest.first() {
            let config = self.config;
            let is_full = |segment: &Segment, header: &BatchHeader| {
                segment.is_full_for(header, segment.created_ms, &config)
            };
            let needs_segment = self
                .open
                .as_ref()
                .is_none_or(|open| is_full(&open.segment, &first.header));
            if needs_segment {
                self.roll(&first.header)?;
            }
            let open = self.open.as_mut().expect("made above");
            let count = open.add(batches, rest, |segment, header| is_full(segment, header))?;
            self.end = open.segment.end;
            self.epoch = rest[count - 1].header.partition_leader_epoch;
            rest = &rest[count..];
        }
        Ok(())
    }

    /// Syncs everything, names too, and returns the copy's segments, for
    /// [`LogState::with_copied`](super::LogState::with_copied). The files stay until a log is
    /// recovered, or another copy of the partition begins.
    ///
    /// # Errors
    /// When the disk fails: the copy is lost then.
    pub fn finish(mut self) -> Result<Vec<SegmentState>, StorageError> {
        if let Some(open) = self.open.take() {
            open.sync()?;
            self.sealed.push(self.state(&open));
        }
        let disk = &self.core.disk;
        let partition_dir = self.core.log_dir(self.id);
        for dir in [&self.dir, &partition_dir, &self.core.config.dir] {
            disk.sync_dir(dir).on("sync", dir)?;
        }
        self.core.finish_copy(self.id, self.number);
        Ok(std::mem::take(&mut self.sealed))
    }

    /// Drops everything that was copied.
    pub fn abandon(self) {}

    fn state(&self, open: &SegmentFiles) -> SegmentState {
        SegmentState {
            staged: Some(self.number),
            ..open.segment.state()
        }
    }

    /// Completes the segment in hand and begins the next one.
    fn roll(&mut self, first: &BatchHeader) -> Result<(), StorageError> {
        if let Some(open) = &mut self.open {
            open.seal()?;
            open.sync()?;
        }
        let base = self.end;
        let paths = (
            self.dir.join(staged_log_name(base, self.number)),
            self.dir.join(staged_index_name(base, self.number)),
        );
        let next = SegmentFiles::create(
            &self.core,
            base,
            first.max_timestamp.max(0),
            paths.0,
            Some(paths.1),
        )?;
        if let Some(open) = self.open.replace(next) {
            self.sealed.push(self.state(&open));
        }
        Ok(())
    }
}

impl Drop for LogCopy {
    fn drop(&mut self) {
        if !self.core.forget_copy(self.id, self.number) {
            return;
        }
        if let Err(error) = self.core.disk.remove_dir_all(&self.dir) {
            // It goes with the next copy, or when the log is next opened.
            let dir = self.dir.display();
            tracing::debug!(%dir, %error, "files of an abandoned copy stay for now");
        }
    }
}

impl std::fmt::Debug for LogCopy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LogCopy({} up to {})", self.id, self.end)
    }
}

impl SegmentFiles {
    /// New, empty files; what a failed attempt left under their names is overwritten.
    pub(crate) fn create(
        core: &Core,
        base: Offset,
        created_ms: i64,
        log_path: PathBuf,
        index_path: Option<PathBuf>,
    ) -> Result<SegmentFiles, StorageError> {
        let make = |path: &PathBuf| -> Result<DiskFile, FileError> {
            let file = core.disk.open(path, OpenMode::Create).on("make", path)?;
            file.set_len(0).on("cut", path)?;
            Ok(file)
        };
        let log = make(&log_path)?;
        let index = index_path.map(|path| make(&path).map(|file| (file, path)));
        Ok(SegmentFiles {
            segment: Segment::new(base, created_ms, core.config.index_interval_bytes),
            log,
            log_path,
            index: index.transpose()?,
            index_entries: 0,
            unsynced_bytes: 0,
        })
    }

    /// Writes the first of `batches`, which lie in `bytes`, and those behind it until the segment
    /// is full. Returns how many. When it errs nothing counts as written.
    pub(crate) fn add(
        &mut self,
        bytes: &Bytes,
        batches: &[CheckedBatch],
        is_full: impl Fn(&Segment, &BatchHeader) -> bool,
    ) -> Result<usize, StorageError> {
        let mut segment = self.segment.clone();
        let mut entries = Vec::new();
        let mut count = 0_usize;
        for batch in batches {
            if count > 0 && is_full(&segment, &batch.header) {
                break;
            }
            let whole = StampedBatch::Whole(bytes.slice(batch.start..batch.end));
            let placed = segment.place(&batch.header, &whole);
            entries.extend(placed.index_entry.map(|max_timestamp_before| IndexEntry {
                offset: Offset(batch.header.base_offset),
                position: placed.position,
                max_timestamp_before,
            }));
            count += 1;
        }
        let (Some(first), Some(last)) = (batches.first(), batches.get(count.wrapping_sub(1)))
        else {
            return Ok(0);
        };
        let span = first.start..last.end;
        self.log
            .write_all_at(&bytes[span.clone()], self.segment.bytes)
            .on("write", &self.log_path)?;
        self.write_entries(&entries)?;
        self.index_entries += u32::try_from(entries.len()).expect("entries are a batch apart");
        self.segment = segment;
        self.unsynced_bytes += span.len() as u64;
        if self.unsynced_bytes >= UNSYNCED_BYTES_MAX {
            self.log.sync_data().on("sync", &self.log_path)?;
            self.unsynced_bytes = 0;
        }
        Ok(count)
    }

    /// Writes the index entry that a segment gets when it takes no more batches. May be repeated.
    pub(crate) fn seal(&mut self) -> Result<(), StorageError> {
        self.write_entries(&[IndexEntry {
            offset: self.segment.end,
            position: self.segment.bytes,
            max_timestamp_before: self.segment.max_timestamp,
        }])
    }

    /// Writes entries behind those that the index has.
    fn write_entries(&self, entries: &[IndexEntry]) -> Result<(), StorageError> {
        let (Some((file, path)), false) = (&self.index, entries.is_empty()) else {
            return Ok(());
        };
        let base = self.segment.base;
        let mut bytes = Vec::new();
        let mut position = 0;
        if self.index_entries == 0 {
            bytes.extend_from_slice(&encode_header(base));
        } else {
            position = (INDEX_HEADER_BYTES as u64)
                + u64::from(self.index_entries) * INDEX_ENTRY_BYTES as u64;
        }
        let encoded = entries.iter().map(|entry| entry.encode(base));
        encoded.for_each(|entry| bytes.extend_from_slice(&entry));
        Ok(file.write_all_at(&bytes, position).on("write", path)?)
    }

    pub(crate) fn sync(&self) -> Result<(), StorageError> {
        self.log.sync_data().on("sync", &self.log_path)?;
        if let Some((file, path)) = &self.index {
            file.sync_data().on("sync", path)?;
        }
        Ok(())
    }
}

/// How batches' leader epochs are checked.
#[derive(Clone, Copy)]
pub(crate) enum EpochCheck<'a> {
    /// None falls below the one before, the first not below this.
    Rising(i32),
    /// They are what the log knows.
    Known(&'a Epochs),
}

/// Checks that bytes are whole, undamaged batches of a log, back to back, that continue at `from`;
/// returns where they end.
///
/// # Errors
/// When they are not.
pub fn check_copied(bytes: &Bytes, from: Offset) -> Result<Offset, CopyError> {
    let checked = check_batches(bytes, from, EpochCheck::Rising(0))?;
    let last = checked.last();
    Ok(last.map_or(from, |last| last.header.last_offset().plus(1)))
}

/// Splits bytes into batches that continue at `next`, and checks each.
pub(crate) fn check_batches(
    bytes: &Bytes,
    mut next: Offset,
    epochs: EpochCheck<'_>,
) -> Result<Vec<CheckedBatch>, CopyError> {
    let mut checked = Vec::new();
    let mut start = 0;
    let (mut epoch, known) = match epochs {
        EpochCheck::Rising(epoch) => (epoch, None),
        EpochCheck::Known(known) => (0, Some(known)),
    };
    while start < bytes.len() {
        let refused = |Mismatch { expected, found }: Mismatch| CopyError::Refused {
            offset: next,
            expected,
            found,
        };
        let rest = &bytes[start..];
        let header = check_header(rest, next, rest.len() as u64, known).map_err(refused)?;
        let end = start + header.total_bytes();
        check_crc(&bytes[start..end], &header).map_err(refused)?;
        if header.partition_leader_epoch < epoch {
            let found = format!("epoch {}", header.partition_leader_epoch);
            return Err(refused(Mismatch::new(
                format!("an epoch from {epoch} on"),
                found,
            )));
        }
        epoch = header.partition_leader_epoch;
        let after = next.0.checked_add(header.offset_count());
        let Some(after) = after else {
            return Err(refused(Mismatch::new("an offset", "one beyond all")));
        };
        next = Offset(after);
        checked.push(CheckedBatch { header, start, end });
        start = end;
    }
    Ok(checked)
}

impl From<FileError> for StorageError {
    fn from(
        FileError {
            file,
            action,
            source,
        }: FileError,
    ) -> StorageError {
        StorageError::io(&file, action, source)
    }
}

impl From<FileError> for CopyError {
    fn from(error: FileError) -> CopyError {
        CopyError::Storage(error.into())
    }
}
