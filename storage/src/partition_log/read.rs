//! Reading: from the tail in memory, from files below it.
//!
//! A read decides under the memory lock what is where, then reads files without it. Segments may
//! be dropped meanwhile; then what was found is thrown away and the read begins again or ends.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::epochs::Epochs;
use super::file_part::{FilePart, SEARCH_CHUNK_BYTES};
use super::open::digest_damage;
use super::segment::Segment;
use super::segment_format::{SegmentId, digest_after};
use super::tail::StampedBatch;
use super::walk::{Walk, WalkSpan, WalkedBatch};
use super::{Damage, PartitionLog, ReadError};
use crate::Offset;
use crate::batch::is_filler;

const CHUNK_BYTES_MAX: usize = 1 << 20;

/// Batches read from a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadBatches {
    /// Whole batches, stamped, exactly as on disk; each piece holds one or more.
    pub batches: Vec<Bytes>,
    /// Bytes of all pieces.
    pub bytes: usize,
    /// Offset after the last batch; where to read on. The offset asked for when there is none.
    pub next: Offset,
}

impl ReadBatches {
    fn none(from: Offset) -> ReadBatches {
        ReadBatches {
            batches: Vec::new(),
            bytes: 0,
            next: from,
        }
    }
}

/// What a read gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// Every batch: one begins where the one before ends.
    Batches,
    /// Batches that have records.
    Records,
    /// Every batch, those below the log start as well.
    Stored,
}

/// Batches of the tail, to be joined without the lock.
type TailPart = Vec<(u64, StampedBatch, Offset)>;

enum Plan {
    OutOfRange { start: Offset, end: Offset },
    Nothing,
    Tail(TailPart),
    File(FilePart),
}

impl PartitionLog {
    /// Whole batches from the one containing `from` up to those whose base lies below `limit`, at
    /// most `bytes_max` bytes except that the first batch always comes whole. Empty when `from` is
    /// not below `limit`. May block on the disk.
    ///
    /// # Errors
    /// When `from` is outside of the log, bytes are damaged, or the disk fails.
    pub fn read(
        &self,
        from: Offset,
        limit: Offset,
        bytes_max: usize,
    ) -> Result<ReadBatches, ReadError> {
        self.read_some(Wanted::Batches, from, limit, bytes_max)
    }

    /// Like [`PartitionLog::read`], without batches that only fill the place of records that
    /// compaction has removed: the first batch is then the one that holds `from` or the next one
    /// that has records.
    ///
    /// # Errors
    /// As [`PartitionLog::read`].
    pub fn read_records(
        &self,
        from: Offset,
        limit: Offset,
        bytes_max: usize,
    ) -> Result<ReadBatches, ReadError> {
        self.read_some(Wanted::Records, from, limit, bytes_max)
    }

    /// Like [`PartitionLog::read`], from the base of the first segment on, though the log may
    /// begin above that: for whoever writes segments anew.
    ///
    /// # Errors
    /// As [`PartitionLog::read`].
    pub fn read_stored(
        &self,
        from: Offset,
        limit: Offset,
        bytes_max: usize,
    ) -> Result<ReadBatches, ReadError> {
        self.read_some(Wanted::Stored, from, limit, bytes_max)
    }

    fn read_some(
        &self,
        wanted: Wanted,
        from: Offset,
        limit: Offset,
        bytes_max: usize,
    ) -> Result<ReadBatches, ReadError> {
        let mut out = ReadBatches::none(from);
        loop {
            let before = out.next;
            match self.plan(wanted, &out, limit, bytes_max) {
                Plan::OutOfRange { start, end } if out.batches.is_empty() => {
                    return Err(ReadError::OutOfRange {
                        requested: from,
                        start,
                        end,
                    });
                }
                Plan::OutOfRange { .. } | Plan::Nothing => return Ok(out),
                Plan::Tail(part) => {
                    self.join_tail(part, &mut out);
                    return Ok(out);
                }
                Plan::File(_) if !self.is_opened() => {
                    let mut files = self.files();
                    self.ensure_open(&mut files)?;
                    continue;
                }
                Plan::File(part) => match self.read_file(wanted, &part, limit, bytes_max, &mut out)
                {
                    Ok(()) => {}
                    Err(_) if !self.has_segment(part.id) => continue,
                    Err(_) if !out.batches.is_empty() => return Ok(out),
                    Err(error) => return Err(self.noted(error)),
                },
            }
            if out.next == before || out.bytes >= bytes_max {
                return Ok(out);
            }
        }
    }

    /// Like [`PartitionLog::read_records`] from memory only; `None` when that has to answer.
    #[must_use]
    pub fn read_tail(&self, from: Offset, limit: Offset, bytes_max: usize) -> Option<ReadBatches> {
        let mut out = ReadBatches::none(from);
        match self.plan(Wanted::Records, &out, limit, bytes_max) {
            Plan::OutOfRange { .. } | Plan::File(_) => None,
            Plan::Nothing => Some(out),
            Plan::Tail(part) => {
                self.join_tail(part, &mut out);
                Some(out)
            }
        }
    }

    /// Reads and verifies every batch that is in files, against the digests where known.
    ///
    /// # Errors
    /// The first damage found, or the disk's failure.
    pub fn verify(&self) -> Result<(), ReadError> {
        self.open_if_needed()?;
        let ids: Vec<SegmentId> = self.memory().segments.iter().map(Segment::id).collect();
        for id in ids {
            let (bytes, digest, epochs) = {
                let memory = self.memory();
                let Some(segment) = memory.segment(id.base).filter(|one| one.id() == id) else {
                    continue;
                };
                let bytes = memory.written_bytes(segment);
                let digest = segment.digest.filter(|_| bytes == segment.bytes);
                (bytes, digest, memory.epochs.clone())
            };
            match self.verify_segment(id, bytes, digest, &epochs) {
                Err(error) if self.has_segment(id) => return Err(self.noted(error)),
                _ => {}
            }
        }
        Ok(())
    }

    fn verify_segment(
        &self,
        id: SegmentId,
        bytes: u64,
        digest: Option<u32>,
        epochs: &Epochs,
    ) -> Result<(), ReadError> {
        if bytes == 0 {
            return Ok(());
        }
        let path = self.log_path(id);
        let file = self
            .open_log(id)
            .map_err(|error| self.missing_is_damage(error, bytes))?;
        let mut walk = Walk::new(WalkSpan {
            file: &file,
            path: &path,
            position: 0,
            offset: id.base,
            end_position: bytes,
            epochs: Some(epochs),
            chunk_bytes: CHUNK_BYTES_MAX,
        });
        let mut found = 0;
        while let Some(batch) = walk.next()? {
            let head = batch.chunk[batch.start..]
                .first_chunk()
                .expect("a batch has a header");
            found = digest_after(found, head);
        }
        match digest {
            Some(expected) if expected != found => {
                Err(digest_damage(&path, expected, found).into())
            }
            _ => Ok(()),
        }
    }

    /// Notes damage on its way to the caller.
    pub(crate) fn noted(&self, error: ReadError) -> ReadError {
        if let ReadError::Corrupt {
            file,
            position,
            expected,
            found,
        } = &error
        {
            self.note_damage(Damage {
                file: file.clone(),
                position: *position,
                expected: expected.clone(),
                found: found.clone(),
            });
        }
        error
    }

    pub(crate) fn has_segment(&self, id: SegmentId) -> bool {
        self.memory().has(id)
    }

    /// Decides where the batches from `out.next` on come from.
    fn plan(&self, wanted: Wanted, out: &ReadBatches, limit: Offset, bytes_max: usize) -> Plan {
        let from = out.next;
        let memory = self.memory();
        let first = match (wanted, memory.segments.first()) {
            (Wanted::Stored, Some(first)) => first.base.min(memory.start),
            _ => memory.start,
        };
        if from < first || from > memory.end {
            return Plan::OutOfRange {
                start: memory.start,
                end: memory.end,
            };
        }
        if from >= limit.min(memory.end) {
            return Plan::Nothing;
        }
        if let Some(batches) = memory.tail.at_or_after(from) {
            let mut part = Vec::new();
            let mut bytes = out.bytes;
            for (ordinal, batch) in batches {
                if batch.is_empty && wanted == Wanted::Records {
                    continue;
                }
                let length = batch.bytes.len();
                let is_first = part.is_empty() && out.batches.is_empty();
                if batch.base >= limit || (!is_first && bytes + length > bytes_max) {
                    break;
                }
                bytes += length;
                part.push((ordinal, batch.bytes.clone(), batch.end));
            }
            return Plan::Tail(part);
        }
        let at = memory
            .segments
            .partition_point(|segment| segment.end <= from);
        let segment = memory.segments.get(at).expect("segments cover the log");
        Plan::File(FilePart::of(&memory, segment).expect("what is not in the tail is in a file"))
    }

    fn join_tail(&self, part: TailPart, out: &mut ReadBatches) {
        for (ordinal, batch, end) in part {
            let whole = batch.join();
            if let StampedBatch::Split { .. } = batch {
                self.memory().tail.set_joined(ordinal, whole.clone());
            }
            out.bytes += whole.len();
            out.next = end;
            out.batches.push(whole);
        }
    }

    /// Adds batches of one segment's file to `out`.
    fn read_file(
        &self,
        wanted: Wanted,
        part: &FilePart,
        limit: Offset,
        bytes_max: usize,
        out: &mut ReadBatches,
    ) -> Result<(), ReadError> {
        let interval = self.shared.core.config.index_interval_bytes;
        let needed = bytes_max.saturating_sub(out.bytes).saturating_add(interval);
        let chunk_bytes = needed.clamp(SEARCH_CHUNK_BYTES.min(interval * 4), CHUNK_BYTES_MAX);
        let from = out.next;
        // Chunk, start and end of batches that lie one behind the other in it.
        let mut run: Option<(Bytes, usize, usize)> = None;
        let result = self.walk_file(part, Some(from), None, chunk_bytes, &mut |walk| {
            let Some(header) = walk.peek()? else {
                return Ok(ControlFlow::Break(()));
            };
            let is_before = header.last_offset() < from;
            let run_bytes = run.as_ref().map_or(0, |(_, start, end)| end - start);
            let is_first = run.is_none() && out.batches.is_empty();
            let is_filler = wanted == Wanted::Records && is_filler(&header);
            let is_over =
                !is_first && !is_filler && out.bytes + run_bytes + header.total_bytes() > bytes_max;
            if !is_before && (header.base_offset >= limit.0 || is_over) {
                return Ok(ControlFlow::Break(()));
            }
            let Some(WalkedBatch {
                chunk, start, end, ..
            }) = walk.next()?
            else {
                return Ok(ControlFlow::Break(()));
            };
            if is_before {
                return Ok(ControlFlow::Continue(()));
            }
            out.next = Offset(header.last_offset().0.saturating_add(1));
            if is_filler {
                return Ok(ControlFlow::Continue(()));
            }
            run = Some(match run.take() {
                Some((same, from, to)) if to == start && same.as_ptr() == chunk.as_ptr() => {
                    (same, from, end)
                }
                Some((other, from, to)) => {
                    out.bytes += to - from;
                    out.batches.push(other.slice(from..to));
                    (chunk, start, end)
                }
                None => (chunk, start, end),
            });
            Ok(ControlFlow::Continue(()))
        });
        if let Some((chunk, start, end)) = run {
            out.bytes += end - start;
            out.batches.push(chunk.slice(start..end));
        }
        result
    }
}
