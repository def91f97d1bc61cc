//! [`SegmentReplacement`]: sealed segments written anew, with the same offsets and other bytes.
//!
//! The new files lie beside the old ones under a version of their own, synced, before the log goes
//! over to them, which is a change of memory alone. Which files count after a crash says the
//! checkpoint: one from before names the old ones, one from after the new ones, and whatever it
//! does not name is deleted. So the old files stay until a checkpoint is durable that was captured
//! after the change; whoever makes checkpoints knows when ([`PartitionLog::delete_replaced`]).

use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;

use bytes::Bytes;

use super::copy::{CopyError, EpochCheck, SegmentFiles, check_batches};
use super::epochs::Epochs;
use super::log::Memory;
use super::open::FileContext;
use super::segment::Segment;
use super::segment_format::{SegmentId, index_name, log_name};
use super::{LogConfig, PartitionLog, StorageError};
use crate::Offset;
use crate::batch::{
    BATCH_HEADER_BYTES, BATCH_LENGTH_OVERHEAD, BATCH_MAGIC, BATCH_UNCHECKED_BYTES, BatchHeader,
    crc32c,
};

/// The new files of a run of sealed segments, on their way. Dropping it gives up. Every call may
/// block.
pub struct SegmentReplacement {
    log: PartitionLog,
    config: LogConfig,
    /// What is replaced, oldest first.
    sources: Vec<Segment>,
    from: Offset,
    to: Offset,
    version: u64,
    epochs: Epochs,
    end: Offset,
    sealed: Vec<Segment>,
    open: Option<SegmentFiles>,
    /// Some tombstones below this were dropped, if any were.
    tombstones_gone_below: Option<Offset>,
    /// Whether it is what a peer has.
    is_copy: bool,
    /// How many copies the log had taken when it was begun.
    copies_taken: u64,
    /// Files that were made, and go unless they are taken over.
    made: Vec<PathBuf>,
}

/// Files that the log has gone over from, and that a checkpoint may still name.
#[derive(Debug, Clone, Default)]
pub struct ReplacedFiles {
    ids: Vec<SegmentId>,
    /// How many replacements there had been.
    replacements: u64,
}

impl ReplacedFiles {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

impl PartitionLog {
    /// Begins to write the sealed segments anew that lie between `from`, the base of one, and
    /// `to`, where one ends; all of them must be in the files.
    ///
    /// # Errors
    /// When there are no such segments (any more), or the disk fails.
    pub fn begin_replacement(
        &self,
        from: Offset,
        to: Offset,
    ) -> Result<SegmentReplacement, StorageError> {
        let mut files = self.files();
        self.ensure_open(&mut files)?;
        let memory = self.memory();
        let Some(sources) = sources(&memory, from, to) else {
            return Err(StorageError::NoSuchSegment {
                partition: self.id(),
                base: from,
            });
        };
        let sources = sources.to_vec();
        let (config, epochs) = (memory.config, memory.epochs.clone());
        let copies_taken = memory.copies_taken;
        drop(memory);
        drop(files);
        // Never 0, which is the version of what appends wrote.
        let version = RandomState::new().hash_one((self.id(), from, to)) | 1;
        Ok(SegmentReplacement {
            log: self.clone(),
            config,
            sources,
            from,
            to,
            version,
            epochs,
            end: from,
            sealed: Vec::new(),
            open: None,
            tombstones_gone_below: None,
            is_copy: false,
            copies_taken,
            made: Vec::new(),
        })
    }

    /// Says that compaction has been through everything below `to`; a segment that goes on beyond
    /// it does not count. `copies_taken` is what it was when that began: nothing happens when a copy
    /// of a peer's segments has come since, which it has not been through. Returns whether it has.
    pub fn mark_cleaned(&self, to: Offset, copies_taken: u64) -> bool {
        let mut memory = self.memory();
        if memory.copies_taken != copies_taken {
            return false;
        }
        let below = memory.segments.iter_mut().filter(|one| one.end <= to);
        below.for_each(|segment| segment.cleaned = true);
        true
    }

    /// How often segments of this handle were replaced by those of a peer.
    #[must_use]
    pub fn copies_taken(&self) -> u64 {
        self.memory().copies_taken
    }

    /// The files that the log has gone over from. They may be deleted once a checkpoint is the
    /// newest one that was captured after this.
    #[must_use]
    pub fn replaced_files(&self) -> ReplacedFiles {
        let memory = self.memory();
        ReplacedFiles {
            ids: memory.replaced.clone(),
            replacements: memory.replacements,
        }
    }

    /// Deletes files that no checkpoint names any more. May block. Nothing happens once another
    /// handle of the log has taken this one's place, nor while no state was captured since that a
    /// checkpoint could have.
    ///
    /// # Errors
    /// When the disk fails; they may be deleted later then.
    pub fn delete_replaced(&self, replaced: &ReplacedFiles) -> Result<(), StorageError> {
        let _files = self.files();
        let is_captured = self.memory().captured_replacements >= replaced.replacements;
        if self.shared.core.has_let_go() || self.memory().is_removed || !is_captured {
            return Ok(());
        }
        self.unlink(&replaced.ids)?;
        self.memory()
            .replaced
            .retain(|id| !replaced.ids.contains(id));
        Ok(())
    }
}

/// The sealed and written segments that begin at `from` and end at `to`, if there are such.
fn sources(memory: &Memory, from: Offset, to: Offset) -> Option<&[Segment]> {
    let first = memory.segments.iter().position(|one| one.base == from)?;
    let last = memory.segments.iter().position(|one| one.end == to)?;
    let is_sealed = last + 1 < memory.segments.len();
    let is_written = memory.written_end() >= to;
    (is_sealed && is_written && !memory.is_removed)
        .then(|| memory.segments.get(first..=last))
        .flatten()
}

/// A batch that fills the offsets `from..end`.
fn filler(from: Offset, end: Offset, epoch: i32) -> Vec<u8> {
    let mut batch = BatchHeader {
        base_offset: from.0,
        batch_length: i32::try_from(BATCH_HEADER_BYTES - BATCH_LENGTH_OVERHEAD)
            .expect("a header is small"),
        partition_leader_epoch: epoch,
        magic: BATCH_MAGIC,
        crc: 0,
        attributes: 0,
        last_offset_delta: i32::try_from(end.0 - from.0 - 1).expect("the caller keeps within it"),
        base_timestamp: -1,
        max_timestamp: -1,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        record_count: 0,
    }
    .encode()
    .to_vec();
    let crc = crc32c(&batch[BATCH_UNCHECKED_BYTES..]);
    batch[BATCH_UNCHECKED_BYTES - 4..BATCH_UNCHECKED_BYTES].copy_from_slice(&crc.to_be_bytes());
    batch
}

impl SegmentReplacement {
    /// Offset that the next batch must have.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.end
    }

    /// Offset where the last batch must end.
    #[must_use]
    pub fn target_end(&self) -> Offset {
        self.to
    }

    /// Adds whole batches, back to back, continuing at [`SegmentReplacement::end`], none of them
    /// beyond [`SegmentReplacement::target_end`].
    ///
    /// # Errors
    /// When bytes are no batch, or not the next one, or damaged, or of another epoch than those
    /// offsets have; when the disk fails or is full.
    pub fn append(&mut self, batches: &Bytes) -> Result<(), CopyError> {
        let checked = check_batches(batches, self.end, EpochCheck::Known(&self.epochs))?;
        let last = checked.last().map(|last| last.header.last_offset());
        if let Some(last) = last.filter(|last| *last >= self.to) {
            return Err(CopyError::Refused {
                offset: self.end,
                expected: format!("batches up to {}", self.to),
                found: format!("a batch up to {}", last.plus(1)),
            });
        }
        let mut rest = &checked[..];
        while let Some(first) = rest.first() {
            let config = self.config;
            // By age no segment ends here: the times are those of the appends.
            let is_full = |segment: &Segment, header: &BatchHeader| {
                segment.is_full_for(header, segment.created_ms, &config)
            };
            let needs_segment = self
                .open
                .as_ref()
                .is_none_or(|open| is_full(&open.segment, &first.header));
            if needs_segment {
                self.roll()?;
            }
            let open = self.open.as_mut().expect("made above");
            let count = open.add(batches, rest, |segment, header| is_full(segment, header))?;
            self.end = open.segment.end;
            rest = &rest[count..];
        }
        Ok(())
    }

    /// How many copies of a peer's segments the log had taken when this was begun.
    #[must_use]
    pub fn copies_taken(&self) -> u64 {
        self.copies_taken
    }

    /// Says that tombstones below this were dropped on the way, see
    /// [`TombstoneView`](super::TombstoneView).
    pub fn drop_tombstones_below(&mut self, below: Offset) {
        self.tombstones_gone_below = self.tombstones_gone_below.max(Some(below));
    }

    /// Says that the batches come from a peer, where tombstones below this were dropped: whether
    /// compaction has been through them here says nothing of them.
    pub fn is_copied(&mut self, tombstones_gone_below: Offset) {
        self.is_copy = true;
        self.drop_tombstones_below(tombstones_gone_below);
    }

    /// Fills the offsets up to `to` with batches that have no records, for offsets below the log
    /// start that a peer has deleted.
    ///
    /// # Errors
    /// As [`SegmentReplacement::append`].
    pub fn fill_to(&mut self, to: Offset) -> Result<(), CopyError> {
        while self.end < to {
            let from = self.end;
            let later = self.epochs.entries().iter().map(|(_, first)| *first);
            let next = later.filter(|first| *first > from).min();
            let end = next.map_or(to, |next| next.min(to));
            let end = Offset(end.0.min(from.0 + i64::from(i32::MAX)));
            let epoch = self.epochs.at(from).map_or(-1, |epoch| epoch.0);
            self.append(&Bytes::from(filler(from, end, epoch)))?;
        }
        Ok(())
    }

    /// Syncs the new files and makes the log go over to them; returns whether it did. It does not
    /// when one of the segments was dropped or replaced meanwhile, nor when tombstones were dropped
    /// of it or above it and segments of a peer have come or come with it.
    ///
    /// # Errors
    /// When the batches do not reach [`SegmentReplacement::target_end`], or the disk fails. The log
    /// is as it was then.
    pub fn finish(mut self) -> Result<bool, CopyError> {
        if self.end != self.to {
            return Err(CopyError::Refused {
                offset: self.from,
                expected: format!("batches up to {}", self.to),
                found: format!("batches up to {}", self.end),
            });
        }
        self.seal()?;
        let log = self.log.clone();
        let core = &log.shared.core;
        let dir = log.dir();
        core.disk.sync_dir(&dir).on("sync", &dir)?;
        let _files = log.files();
        if core.has_let_go() {
            return Err(StorageError::Closed.into());
        }
        let mut memory = log.memory();
        let memory = &mut *memory;
        let ids: Vec<SegmentId> = self.sources.iter().map(Segment::id).collect();
        let is_same = |there: &[Segment]| there.iter().map(Segment::id).eq(ids.iter().copied());
        if !sources(memory, self.from, self.to).is_some_and(is_same) {
            return Ok(false);
        }
        // What deletes a record may only go where the record is known not to be: not beside what a
        // peer may still have.
        let gone_below = memory.tombstones.gone_below;
        let is_apart = match (self.is_copy, self.tombstones_gone_below) {
            (true, _) => gone_below <= self.to,
            (false, Some(_)) => memory.copies_taken == self.copies_taken,
            (false, None) => true,
        };
        if !is_apart {
            return Ok(false);
        }
        let first = memory
            .segments
            .partition_point(|segment| segment.base < self.from);
        let replaced = first..first + ids.len();
        let mut sealed = std::mem::take(&mut self.sealed);
        if self.is_copy {
            sealed.iter_mut().for_each(|one| one.cleaned = false);
        }
        memory.segments.splice(replaced, sealed);
        // Their places in the old files are void. All of them are written.
        let dropped = memory.tail.drop_below(self.to);
        core.release(dropped);
        for id in ids {
            memory.damaged.remove(&id.base);
            memory.replaced.push(id);
            core.fd_cache.forget_segment(log.id(), id);
        }
        memory.replacements += 1;
        memory.copies_taken += u64::from(self.is_copy);
        if let Some(below) = self.tombstones_gone_below {
            memory.tombstones.drop_below(below);
        }
        self.made.clear();
        Ok(true)
    }

    /// Completes the segment in hand.
    fn seal(&mut self) -> Result<(), StorageError> {
        let Some(mut open) = self.open.take() else {
            return Ok(());
        };
        open.seal()?;
        open.sync()?;
        let state = open.segment.state();
        let interval = self.log.shared.core.config.index_interval_bytes;
        let mut segment = Segment::recovered(&state, interval);
        segment.is_index_complete = true;
        segment.version = self.version;
        let within = |one: &&Segment| one.base < segment.end && segment.base < one.end;
        segment.cleaned = self.sources.iter().filter(within).all(|one| one.cleaned);
        self.sealed.push(segment);
        Ok(())
    }

    /// Completes the segment in hand and begins the next one.
    fn roll(&mut self) -> Result<(), StorageError> {
        self.seal()?;
        let base = self.end;
        let id = SegmentId {
            base,
            version: self.version,
        };
        let dir = self.log.dir();
        let (log_path, index_path) = (dir.join(log_name(id)), dir.join(index_name(id)));
        self.made.extend([log_path.clone(), index_path.clone()]);
        let source = self.sources.iter().find(|one| base < one.end);
        let created_ms = source.map_or(0, |source| source.created_ms);
        let core = &self.log.shared.core;
        let files = SegmentFiles::create(core, base, created_ms, log_path, Some(index_path))?;
        self.open = Some(files);
        Ok(())
    }
}

impl Drop for SegmentReplacement {
    fn drop(&mut self) {
        self.open = None;
        let core = &self.log.shared.core;
        // After the store has let go the files belong to the next one, which deletes them.
        if self.made.is_empty() || core.has_let_go() {
            return;
        }
        for path in &self.made {
            if let Err(error) = core.disk.remove_file(path) {
                // It goes when the log is next opened.
                tracing::debug!(file = %path.display(), %error, "a file of a given up replacement stays for now");
            }
        }
    }
}

impl std::fmt::Debug for SegmentReplacement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "SegmentReplacement({} from {} to {})",
            self.log.id(),
            self.from,
            self.to
        )
    }
}
