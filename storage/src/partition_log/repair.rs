//! [`SegmentRepair`]: a damaged segment written anew from a peer's copy of the same offsets.
//!
//! Replicas are byte-equal, so the new file must have the length and the digest that are known of
//! the old one; only then does it take its place, by a rename.

use bytes::Bytes;

use super::copy::{CopyError, EpochCheck, SegmentFiles, check_batches};
use super::epochs::Epochs;
use super::log::SegmentInfo;
use super::open::FileContext;
use super::segment_format::{SegmentId, log_name};
use super::{PartitionLog, StorageError};
use crate::Offset;

/// Ends the name of a segment that is being repaired.
pub(crate) const NEW_LOG_SUFFIX: &str = ".log.new";

/// The new bytes of a damaged segment, on their way. Dropping it gives up. Every call may block.
pub struct SegmentRepair {
    log: PartitionLog,
    files: Option<SegmentFiles>,
    id: SegmentId,
    end: Offset,
    bytes: u64,
    digest: Option<u32>,
    epochs: Epochs,
}

impl PartitionLog {
    /// The segments in which damage was found, by a read or by [`PartitionLog::verify`].
    #[must_use]
    pub fn damaged_segments(&self) -> Vec<SegmentInfo> {
        let memory = self.memory();
        let newest = memory.segments.last().map(|newest| newest.base);
        let damaged = memory.damaged.keys();
        let written_end = memory.written_end();
        damaged
            .filter_map(|base| memory.segment(*base))
            .map(|segment| segment.info(Some(segment.base) != newest, written_end))
            .collect()
    }

    /// Whether damage was found that is not repaired yet.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        !self.memory().damaged.is_empty()
    }

    /// Begins to write the segment at `base` anew, damaged or not. It takes no more batches from
    /// now on: the next append begins another one.
    ///
    /// # Errors
    /// When there is no such segment (any more), or the disk fails.
    pub fn begin_repair(&self, base: Offset) -> Result<SegmentRepair, StorageError> {
        let mut files = self.files();
        self.ensure_open(&mut files)?;
        let mut memory = self.memory();
        let epochs = memory.epochs.clone();
        let Some(segment) = memory.segment_mut(base).filter(|one| one.bytes > 0) else {
            return Err(StorageError::NoSuchSegment {
                partition: self.id(),
                base,
            });
        };
        segment.is_closed = true;
        let (end, bytes, digest) = (segment.end, segment.bytes, segment.digest);
        let (id, created_ms) = (segment.id(), segment.created_ms);
        drop(memory);
        self.ensure_dir(&mut files)?;
        let path = self.dir().join(format!("{}.new", log_name(id)));
        let segment_files = SegmentFiles::create(&self.shared.core, base, created_ms, path, None)?;
        Ok(SegmentRepair {
            log: self.clone(),
            files: Some(segment_files),
            id,
            end,
            bytes,
            digest,
            epochs,
        })
    }
}

impl SegmentRepair {
    /// Offset that the next batch must have.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.files
            .as_ref()
            .map_or(self.id.base, |files| files.segment.end)
    }

    /// Offset where the segment ends: what the last batch must reach.
    #[must_use]
    pub fn target_end(&self) -> Offset {
        self.end
    }

    /// Whether it is known what the batches must be, byte for byte, before they are taken.
    #[must_use]
    pub fn is_digest_known(&self) -> bool {
        self.digest.is_some()
    }

    /// Adds whole batches, back to back, continuing at [`SegmentRepair::end`]; those that begin at
    /// [`SegmentRepair::target_end`] or behind are left out.
    ///
    /// # Errors
    /// When bytes are no batch, or not the next one, or damaged; when the disk fails or is full.
    pub fn append(&mut self, batches: &Bytes) -> Result<(), CopyError> {
        let Some(files) = &mut self.files else {
            return Ok(());
        };
        let from = files.segment.end;
        if from >= self.end {
            return Ok(());
        }
        let checked = check_batches(batches, from, EpochCheck::Known(&self.epochs))?;
        let wanted = checked.partition_point(|batch| batch.base() < self.end);
        files.add(batches, &checked[..wanted], |_, _| false)?;
        Ok(())
    }

    /// Puts the new file into the place of the old one, durably, and forgets its damage. A segment
    /// that was dropped meanwhile needs no repair.
    ///
    /// # Errors
    /// When the batches are not all or not those that were there, or the disk fails. The damaged
    /// file is as it was then.
    pub fn finish(mut self) -> Result<(), CopyError> {
        let Some(repaired) = &self.files else {
            return Ok(());
        };
        let found = &repaired.segment;
        let is_same = (found.end, found.bytes) == (self.end, self.bytes)
            && self
                .digest
                .is_none_or(|digest| found.digest == Some(digest));
        if !is_same {
            let say = |end: Offset, bytes: u64, digest: Option<u32>| {
                let digest = digest.map_or("unknown".to_owned(), |one| format!("{one:08x}"));
                format!("{bytes} bytes up to {end} with digest {digest}")
            };
            return Err(CopyError::Refused {
                offset: self.id.base,
                expected: say(self.end, self.bytes, self.digest),
                found: say(found.end, found.bytes, found.digest),
            });
        }
        repaired.sync()?;
        let log = self.log.clone();
        let core = &log.shared.core;
        let _files = log.files();
        if core.has_let_go() {
            return Err(StorageError::Closed.into());
        }
        if log.memory().is_removed || !log.has_segment(self.id) {
            return Ok(());
        }
        let path = log.log_path(self.id);
        core.disk
            .rename(&repaired.log_path, &path)
            .on("replace", &path)?;
        self.files = None;
        core.fd_cache.forget_segment(log.id(), self.id);
        let dir = log.dir();
        core.disk.sync_dir(&dir).on("sync", &dir)?;
        let mut memory = log.memory();
        if let Some(segment) = memory.segment_in(self.id) {
            // An index rebuilt from damaged bytes, or given up, gets another chance.
            segment.is_index_rebuilt = false;
        }
        memory.damaged.remove(&self.id.base);
        tracing::info!(partition = %log.id(), base = %self.id.base, "segment repaired");
        Ok(())
    }
}

impl Drop for SegmentRepair {
    fn drop(&mut self) {
        let Some(files) = self.files.take() else {
            return;
        };
        let path = files.log_path.clone();
        drop(files);
        if let Err(error) = self.log.shared.core.disk.remove_file(&path) {
            // It goes when the log is next opened.
            tracing::debug!(file = %path.display(), %error, "an unfinished repair stays for now");
        }
    }
}

impl std::fmt::Debug for SegmentRepair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SegmentRepair({} at {})", self.log.id(), self.id.base)
    }
}
