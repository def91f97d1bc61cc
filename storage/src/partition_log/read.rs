//! Reading: from the tail in memory, from files below it.
//!
//! A read decides under the memory lock what is where, then reads files without it. Segments may
//! be dropped meanwhile; then what was found is thrown away and the read begins again or ends.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::epochs::Epochs;
use super::index::{
    DamagedIndex, INDEX_ENTRY_BYTES, INDEX_HEADER_BYTES, IndexEntry, check_header, last_before,
};
use super::open::digest_damage;
use super::segment_format::digest_after;
use super::tail::{StampedBatch, TailBatch};
use super::walk::{Walk, WalkSpan, WalkedBatch};
use super::{Damage, PartitionLog, ReadError};
use crate::Offset;
use crate::batch::BatchHeader;
use crate::disk::{DiskFile, OpenMode};
use crate::fd_cache::{FileKey, FileKind, Opened};

const CHUNK_BYTES_MAX: usize = 1 << 20;
const SEARCH_CHUNK_BYTES: usize = 64 << 10;

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

/// The part of a segment that is read from its file.
#[derive(Debug, Clone)]
struct FilePart {
    base: Offset,
    /// Where the part in the file ends; the rest is in the tail.
    end_position: u64,
    /// Offset there, exclusive.
    end_offset: Offset,
    /// Bytes and offset where the segment ends.
    bytes: u64,
    end: Offset,
    is_sealed: bool,
    index_entries: Option<u32>,
    is_index_complete: bool,
    is_index_rebuilt: bool,
    epochs: Epochs,
}

/// Batches of the tail, to be joined without the lock.
type TailPart = Vec<(u64, StampedBatch, Offset)>;

enum Plan {
    OutOfRange { start: Offset, end: Offset },
    Nothing,
    Tail(TailPart),
    File(FilePart),
}

/// Where a walk along a file begins.
#[derive(Debug, Clone, Copy)]
struct WalkStart {
    position: u64,
    offset: Offset,
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
        let mut out = ReadBatches::none(from);
        loop {
            let before = out.bytes;
            match self.plan(&out, limit, bytes_max) {
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
                Plan::File(part) => match self.read_file(&part, limit, bytes_max, &mut out) {
                    Ok(()) => {}
                    Err(_) if !self.has_segment(part.base) => continue,
                    Err(_) if !out.batches.is_empty() => return Ok(out),
                    Err(error) => return Err(self.noted(error)),
                },
            }
            if out.bytes == before || out.bytes >= bytes_max {
                return Ok(out);
            }
        }
    }

    /// Like [`PartitionLog::read`] from memory only; `None` when that has to answer.
    #[must_use]
    pub fn read_tail(&self, from: Offset, limit: Offset, bytes_max: usize) -> Option<ReadBatches> {
        let mut out = ReadBatches::none(from);
        match self.plan(&out, limit, bytes_max) {
            Plan::OutOfRange { .. } | Plan::File(_) => None,
            Plan::Nothing => Some(out),
            Plan::Tail(part) => {
                self.join_tail(part, &mut out);
                Some(out)
            }
        }
    }

    /// The first batch (whole) that reaches above the start, has a base below `limit` and a
    /// greatest timestamp of at least `timestamp_ms`. May block on the disk.
    ///
    /// # Errors
    /// When bytes are damaged or the disk fails.
    pub fn find_timestamp(
        &self,
        timestamp_ms: i64,
        limit: Offset,
    ) -> Result<Option<Bytes>, ReadError> {
        self.open_if_needed()?;
        for base in self.segments_reaching(timestamp_ms, limit) {
            let found = self.first_in_segment(base, timestamp_ms, limit)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The first batch (whole) with the greatest timestamp of all that reach above the start and
    /// have a base below `limit`; `None` when no record there has one. May block on the disk.
    ///
    /// # Errors
    /// When bytes are damaged or the disk fails.
    pub fn max_timestamp_batch(&self, limit: Offset) -> Result<Option<Bytes>, ReadError> {
        self.open_if_needed()?;
        let mut best: Option<(i64, Offset, Bytes)> = None;
        let mut candidates: Vec<(i64, Offset)> = {
            let memory = self.memory();
            let segments = memory
                .segments
                .iter()
                .filter(|segment| segment.base < limit);
            segments
                .map(|segment| (segment.max_timestamp, segment.base))
                .collect()
        };
        candidates.sort_by_key(|(max_timestamp, base)| (-max_timestamp, *base));
        for (max_timestamp, base) in candidates {
            if max_timestamp < 0 || best.as_ref().is_some_and(|best| best.0 > max_timestamp) {
                break;
            }
            let mut found = self.first_in_segment(base, max_timestamp, limit)?;
            if found.is_none() {
                // The batch lies below the start or above the limit: look at all between.
                let mut greatest = -1;
                self.scan_segment(base, None, limit, &mut |header, bytes| {
                    if header.max_timestamp > greatest {
                        greatest = header.max_timestamp;
                        found = Some(bytes());
                    }
                    ControlFlow::Continue(())
                })?;
            }
            let Some(bytes) = found else { continue };
            let Ok(header) = BatchHeader::parse(&bytes) else {
                continue;
            };
            let key = (-header.max_timestamp, Offset(header.base_offset));
            if best.as_ref().is_none_or(|best| key < (-best.0, best.1)) {
                best = Some((header.max_timestamp, Offset(header.base_offset), bytes));
            }
        }
        Ok(best.map(|(_, _, bytes)| bytes))
    }

    /// Reads and verifies every batch that is in files, against the digests where known.
    ///
    /// # Errors
    /// The first damage found, or the disk's failure.
    pub fn verify(&self) -> Result<(), ReadError> {
        self.open_if_needed()?;
        let bases: Vec<Offset> = self.memory().segments.iter().map(|one| one.base).collect();
        for base in bases {
            let (bytes, digest, epochs) = {
                let memory = self.memory();
                let Some(segment) = memory.segment(base) else {
                    continue;
                };
                let bytes = memory.written_bytes(segment);
                let digest = segment.digest.filter(|_| bytes == segment.bytes);
                (bytes, digest, memory.epochs.clone())
            };
            match self.verify_segment(base, bytes, digest, &epochs) {
                Err(error) if self.has_segment(base) => return Err(self.noted(error)),
                _ => {}
            }
        }
        Ok(())
    }

    fn verify_segment(
        &self,
        base: Offset,
        bytes: u64,
        digest: Option<u32>,
        epochs: &Epochs,
    ) -> Result<(), ReadError> {
        if bytes == 0 {
            return Ok(());
        }
        let path = self.log_path(base);
        let file = self
            .open_log(base)
            .map_err(|error| self.missing_is_damage(error, bytes))?;
        let mut walk = Walk::new(WalkSpan {
            file: &file,
            path: &path,
            position: 0,
            offset: base,
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
    fn noted(&self, error: ReadError) -> ReadError {
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

    fn has_segment(&self, base: Offset) -> bool {
        self.memory().segment(base).is_some()
    }

    /// Decides where the batches from `out.next` on come from.
    fn plan(&self, out: &ReadBatches, limit: Offset, bytes_max: usize) -> Plan {
        let from = out.next;
        let memory = self.memory();
        if from < memory.start || from > memory.end {
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
        Plan::File(file_part(&memory, segment).expect("what is not in the tail is in a file"))
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
        part: &FilePart,
        limit: Offset,
        bytes_max: usize,
        out: &mut ReadBatches,
    ) -> Result<(), ReadError> {
        let interval = self.shared.core.config.index_interval_bytes;
        let wanted = bytes_max.saturating_sub(out.bytes).saturating_add(interval);
        let chunk_bytes = wanted.clamp(SEARCH_CHUNK_BYTES.min(interval * 4), CHUNK_BYTES_MAX);
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
            let is_over = !is_first && out.bytes + run_bytes + header.total_bytes() > bytes_max;
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

    /// Bases of segments that have a batch of at least this timestamp, and begin below `limit`.
    fn segments_reaching(&self, timestamp_ms: i64, limit: Offset) -> Vec<Offset> {
        let memory = self.memory();
        let reaching = memory
            .segments
            .iter()
            .filter(|segment| segment.base < limit && segment.max_timestamp >= timestamp_ms);
        reaching.map(|segment| segment.base).collect()
    }

    fn first_in_segment(
        &self,
        base: Offset,
        timestamp_ms: i64,
        limit: Offset,
    ) -> Result<Option<Bytes>, ReadError> {
        let mut found = None;
        self.scan_segment(base, Some(timestamp_ms), limit, &mut |header, bytes| {
            if header.max_timestamp < timestamp_ms {
                return ControlFlow::Continue(());
            }
            found = Some(bytes());
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    /// Gives the batches of one segment that reach above the start and begin below `limit` to
    /// `each`, in order; with `reaching`, perhaps only those from the first on whose greatest
    /// timestamp is at least that.
    fn scan_segment(
        &self,
        base: Offset,
        reaching: Option<i64>,
        limit: Offset,
        each: &mut Visit<'_>,
    ) -> Result<(), ReadError> {
        // Both parts are taken at once: a batch evicted meanwhile is in one of them.
        let (part, tail, start) = {
            let memory = self.memory();
            let start = memory.start;
            let Some(segment) = memory.segment(base) else {
                return Ok(());
            };
            let wanted = |batch: &&TailBatch| {
                batch.segment == base && batch.end > start && batch.base < limit
            };
            let skipped = |batch: &&TailBatch| {
                reaching.is_some_and(|timestamp| batch.max_timestamp < timestamp)
            };
            let tail: Vec<StampedBatch> = memory
                .tail
                .iter()
                .filter(wanted)
                .skip_while(skipped)
                .take(if reaching.is_some() { 1 } else { usize::MAX })
                .map(|batch| batch.bytes.clone())
                .collect();
            (file_part(&memory, segment), tail, start)
        };
        if let Some(part) = part.filter(|part| part.end_offset > start) {
            let mut is_done = false;
            let walked = self.walk_file(
                &part,
                Some(start),
                reaching,
                SEARCH_CHUNK_BYTES,
                &mut |walk| {
                    let Some(batch) = walk.next()? else {
                        return Ok(ControlFlow::Break(()));
                    };
                    if batch.header.last_offset() < start {
                        return Ok(ControlFlow::Continue(()));
                    }
                    if batch.header.base_offset >= limit.0 {
                        is_done = true;
                        return Ok(ControlFlow::Break(()));
                    }
                    let flow = each(&batch.header, &mut || batch.bytes());
                    is_done |= flow.is_break();
                    Ok(flow)
                },
            );
            match walked {
                Err(_) if !self.has_segment(base) => return Ok(()),
                Err(error) => return Err(self.noted(error)),
                Ok(()) if is_done => return Ok(()),
                Ok(()) => {}
            }
        }
        for batch in tail {
            let whole = batch.join();
            let header = BatchHeader::parse(&whole).expect("parsed before it was appended");
            if each(&header, &mut || whole.clone()).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Looks at the files unless that has happened or none is needed. What it finds may change
    /// which segments there are, so this comes before asking for them.
    fn open_if_needed(&self) -> Result<(), ReadError> {
        let needs_files = {
            let memory = self.memory();
            let oldest = memory.segments.first();
            oldest.is_some_and(|oldest| file_part(&memory, oldest).is_some())
        };
        if needs_files && !self.is_opened() {
            self.ensure_open(&mut self.files())?;
        }
        Ok(())
    }

    /// Walks a segment's file, from about the batch that holds `offset` and the first that reaches
    /// `timestamp_ms`, whichever comes later, until `step` breaks or the part ends. When the very
    /// first batch is not what the index says, the index is rebuilt and the walk begins again.
    fn walk_file(
        &self,
        part: &FilePart,
        offset: Option<Offset>,
        timestamp_ms: Option<i64>,
        chunk_bytes: usize,
        step: &mut dyn FnMut(&mut Walk<'_>) -> Result<ControlFlow<()>, ReadError>,
    ) -> Result<(), ReadError> {
        let file = self
            .open_log(part.base)
            .map_err(|error| self.missing_is_damage(error, part.bytes))?;
        let path = self.log_path(part.base);
        let before = |entry: &IndexEntry| {
            entry.position < part.end_position
                && (offset.is_some_and(|offset| entry.offset <= offset)
                    || timestamp_ms.is_some_and(|wanted| entry.max_timestamp_before < wanted))
        };
        let mut start = self.locate(part, &before)?;
        loop {
            let mut walk = Walk::new(WalkSpan {
                file: &file,
                path: &path,
                position: start.position,
                offset: start.offset,
                end_position: part.end_position,
                epochs: Some(&part.epochs),
                chunk_bytes,
            });
            loop {
                let position = walk.position();
                match step(&mut walk) {
                    Ok(ControlFlow::Continue(())) => {}
                    Ok(ControlFlow::Break(())) => return Ok(()),
                    Err(ReadError::Corrupt { .. })
                        if position == start.position
                            && position > 0
                            && !self.is_index_rebuilt(part.base) =>
                    {
                        let entries = self.rebuild_index(part.base)?;
                        start = start_in(part, &entries, &before);
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }

    fn is_index_rebuilt(&self, base: Offset) -> bool {
        self.memory()
            .segment(base)
            .is_none_or(|segment| segment.is_index_rebuilt)
    }

    /// Where to begin a walk so that it meets everything from the last batch `before` on.
    fn locate(
        &self,
        part: &FilePart,
        before: &dyn Fn(&IndexEntry) -> bool,
    ) -> Result<WalkStart, ReadError> {
        let first = WalkStart {
            position: 0,
            offset: part.base,
        };
        if part.index_entries == Some(0) {
            return Ok(first);
        }
        match self.search_index(part, before) {
            Ok(found) => Ok(found.map_or(first, WalkStart::from)),
            Err(SearchError::Io(error)) => Err(error),
            Err(SearchError::Damaged) if part.is_index_rebuilt => Ok(first),
            Err(SearchError::Damaged) => {
                let entries = self.rebuild_index(part.base)?;
                Ok(start_in(part, &entries, before))
            }
        }
    }

    fn search_index(
        &self,
        part: &FilePart,
        before: &dyn Fn(&IndexEntry) -> bool,
    ) -> Result<Option<IndexEntry>, SearchError> {
        let is_final = part.is_sealed && (part.is_index_complete || part.index_entries.is_none());
        let opened = self.open_index(part.base, is_final)?;
        let mut bytes = [0; INDEX_ENTRY_BYTES];
        let mut entry = |n: u32| -> Result<IndexEntry, SearchError> {
            let at = INDEX_HEADER_BYTES as u64 + u64::from(n) * INDEX_ENTRY_BYTES as u64;
            match &opened {
                Opened::Map(map) => {
                    let at = usize::try_from(at).map_err(|_| SearchError::Damaged)?;
                    Ok(IndexEntry::decode(
                        map.get(at..).unwrap_or_default(),
                        part.base,
                    )?)
                }
                Opened::File(file) => {
                    self.read_index(file, part.base, &mut bytes, at)?;
                    Ok(IndexEntry::decode(&bytes, part.base)?)
                }
            }
        };
        let count = match part.index_entries {
            Some(count) => count,
            None => {
                let len = self.index_len(&opened, part.base)?;
                let count =
                    len.saturating_sub(INDEX_HEADER_BYTES as u64) / INDEX_ENTRY_BYTES as u64;
                let count = u32::try_from(count).map_err(|_| SearchError::Damaged)?;
                let last = entry(count.checked_sub(1).ok_or(SearchError::Damaged)?)?;
                if (last.position, last.offset) != (part.bytes, part.end) {
                    return Err(SearchError::Damaged);
                }
                if let Some(segment) = self.memory().segment_mut(part.base) {
                    segment.index_entries = Some(count);
                    segment.is_index_complete = true;
                }
                count
            }
        };
        last_before(count, entry, before)
    }

    /// The index of a segment, opened with a good header; mapped when it is never written again.
    fn open_index(&self, base: Offset, is_final: bool) -> Result<Opened, SearchError> {
        let core = &self.shared.core;
        let partition = self.shared.id;
        let wants_map = is_final && core.config.use_mmap;
        let kind = if wants_map {
            FileKind::MappedIndex
        } else {
            FileKind::Index
        };
        let key = FileKey {
            partition,
            base,
            kind,
        };
        if let Some(opened) = core.fd_cache.get(key) {
            return Ok(opened);
        }
        let path = self.index_path(base);
        let file = match core.disk.open(&path, OpenMode::ReadWrite) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(SearchError::Damaged);
            }
            Err(error) => return Err(ReadError::io(&path, "open", error).into()),
        };
        let mut header = [0; INDEX_HEADER_BYTES];
        self.read_index(&file, base, &mut header, 0)?;
        check_header(&header, base)?;
        let map = if wants_map {
            file.map()
                .map_err(|error| ReadError::io(&path, "map", error))?
        } else {
            None
        };
        let opened = map.map_or(Opened::File(file), |map| Opened::Map(Arc::new(map)));
        core.fd_cache.insert(key, opened.clone());
        Ok(opened)
    }

    fn read_index(
        &self,
        file: &DiskFile,
        base: Offset,
        bytes: &mut [u8],
        position: u64,
    ) -> Result<(), SearchError> {
        match file.read_exact_at(bytes, position) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(SearchError::Damaged)
            }
            Err(error) => Err(ReadError::io(&self.index_path(base), "read", error).into()),
        }
    }

    fn index_len(&self, opened: &Opened, base: Offset) -> Result<u64, ReadError> {
        match opened {
            Opened::Map(map) => Ok(map.len() as u64),
            Opened::File(file) => file
                .len()
                .map_err(|error| ReadError::io(&self.index_path(base), "measure", error)),
        }
    }
}

/// Looks at one batch's header, and at its bytes when it wants them.
type Visit<'a> = dyn FnMut(&BatchHeader, &mut dyn FnMut() -> Bytes) -> ControlFlow<()> + 'a;

enum SearchError {
    Damaged,
    Io(ReadError),
}

impl From<DamagedIndex> for SearchError {
    fn from(DamagedIndex: DamagedIndex) -> SearchError {
        SearchError::Damaged
    }
}

impl From<ReadError> for SearchError {
    fn from(error: ReadError) -> SearchError {
        SearchError::Io(error)
    }
}

impl From<IndexEntry> for WalkStart {
    fn from(entry: IndexEntry) -> WalkStart {
        WalkStart {
            position: entry.position,
            offset: entry.offset,
        }
    }
}

fn start_in(
    part: &FilePart,
    entries: &[IndexEntry],
    before: &dyn Fn(&IndexEntry) -> bool,
) -> WalkStart {
    let after = entries.partition_point(before);
    let entry = after.checked_sub(1).and_then(|at| entries.get(at)).copied();
    entry.map_or(
        WalkStart {
            position: 0,
            offset: part.base,
        },
        WalkStart::from,
    )
}

/// The part of a segment that only its file has; `None` when the tail holds all of it.
fn file_part(memory: &super::log::Memory, segment: &super::segment::Segment) -> Option<FilePart> {
    let (end_position, end_offset) = match memory.tail.first() {
        Some(batch) if batch.segment == segment.base => (batch.position, batch.base),
        Some(batch) if batch.segment < segment.base => return None,
        _ => (segment.bytes, segment.end),
    };
    let is_newest = memory
        .segments
        .last()
        .is_some_and(|last| last.base == segment.base);
    (end_position > 0).then(|| FilePart {
        base: segment.base,
        end_position,
        end_offset,
        bytes: segment.bytes,
        end: segment.end,
        is_sealed: !is_newest && memory.written_bytes(segment) == segment.bytes,
        index_entries: segment.index_entries,
        is_index_complete: segment.is_index_complete,
        is_index_rebuilt: segment.is_index_rebuilt,
        epochs: memory.epochs.clone(),
    })
}
