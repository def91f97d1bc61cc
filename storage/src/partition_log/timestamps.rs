//! Look-ups by timestamp, by segments' and indexes' greatest timestamps, then by batch headers.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::file_part::{FilePart, SEARCH_CHUNK_BYTES};
use super::tail::{StampedBatch, TailBatch};
use super::{PartitionLog, ReadError};
use crate::Offset;
use crate::batch::BatchHeader;

/// Looks at one batch's header, and at its bytes when it wants them.
type Visit<'a> = dyn FnMut(&BatchHeader, &mut dyn FnMut() -> Bytes) -> ControlFlow<()> + 'a;

impl PartitionLog {
    /// The first batch (whole) that reaches above the start and `from`, has a base below `limit`
    /// and a greatest timestamp of at least `timestamp_ms`. May block on the disk.
    ///
    /// # Errors
    /// When bytes are damaged or the disk fails.
    pub fn find_timestamp(
        &self,
        timestamp_ms: i64,
        from: Offset,
        limit: Offset,
    ) -> Result<Option<Bytes>, ReadError> {
        self.settled(|| self.find_timestamp_once(timestamp_ms, from, limit))
    }

    /// Looks again when compaction has replaced segments meanwhile.
    fn settled<T>(&self, look: impl Fn() -> Result<T, ReadError>) -> Result<T, ReadError> {
        loop {
            let before = self.memory().replacements;
            let found = look();
            if self.memory().replacements == before {
                return found;
            }
        }
    }

    fn find_timestamp_once(
        &self,
        timestamp_ms: i64,
        from: Offset,
        limit: Offset,
    ) -> Result<Option<Bytes>, ReadError> {
        self.open_if_needed()?;
        for base in self.segments_reaching(timestamp_ms, from, limit) {
            let found = self.first_in_segment(base, timestamp_ms, from, limit)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The first batch (whole) with the greatest timestamp of all that reach above the start and
    /// `from` and have a base below `limit`; `None` when no record there has one. May block on the
    /// disk.
    ///
    /// # Errors
    /// When bytes are damaged or the disk fails.
    pub fn max_timestamp_batch(
        &self,
        from: Offset,
        limit: Offset,
    ) -> Result<Option<Bytes>, ReadError> {
        self.settled(|| self.max_timestamp_once(from, limit))
    }

    fn max_timestamp_once(&self, from: Offset, limit: Offset) -> Result<Option<Bytes>, ReadError> {
        self.open_if_needed()?;
        let mut best: Option<(i64, Offset, Bytes)> = None;
        let mut candidates: Vec<(i64, Offset)> = {
            let memory = self.memory();
            let segments = memory
                .segments
                .iter()
                .filter(|segment| segment.base < limit && segment.end > from);
            segments
                .map(|segment| (segment.max_timestamp, segment.base))
                .collect()
        };
        candidates.sort_by_key(|(max_timestamp, base)| (-max_timestamp, *base));
        for (max_timestamp, base) in candidates {
            if max_timestamp < 0 || best.as_ref().is_some_and(|best| best.0 > max_timestamp) {
                break;
            }
            let mut found = self.first_in_segment(base, max_timestamp, from, limit)?;
            if found.is_none() {
                // The batch lies below the start or above the limit: look at all between.
                let mut greatest = -1;
                self.scan_segment(base, None, from, limit, &mut |header, bytes| {
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

    /// Bases of segments that have a batch of at least this timestamp, and begin below `limit`.
    fn segments_reaching(&self, timestamp_ms: i64, from: Offset, limit: Offset) -> Vec<Offset> {
        let memory = self.memory();
        let reaching = memory
            .segments
            .iter()
            .filter(|segment| segment.base < limit && segment.end > from)
            .filter(|segment| segment.max_timestamp >= timestamp_ms);
        reaching.map(|segment| segment.base).collect()
    }

    fn first_in_segment(
        &self,
        base: Offset,
        timestamp_ms: i64,
        from: Offset,
        limit: Offset,
    ) -> Result<Option<Bytes>, ReadError> {
        let mut found = None;
        self.scan_segment(
            base,
            Some(timestamp_ms),
            from,
            limit,
            &mut |header, bytes| {
                if header.max_timestamp < timestamp_ms {
                    return ControlFlow::Continue(());
                }
                found = Some(bytes());
                ControlFlow::Break(())
            },
        )?;
        Ok(found)
    }

    /// Gives the batches of one segment that reach above the start and `from` and begin below `limit` to
    /// `each`, in order; with `reaching`, perhaps only those from the first on whose greatest
    /// timestamp is at least that.
    fn scan_segment(
        &self,
        base: Offset,
        reaching: Option<i64>,
        from: Offset,
        limit: Offset,
        each: &mut Visit<'_>,
    ) -> Result<(), ReadError> {
        // Both parts are taken at once: a batch evicted meanwhile is in one of them.
        let (part, tail, start) = {
            let memory = self.memory();
            let start = memory.start.max(from);
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
            (FilePart::of(&memory, segment), tail, start)
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
                Err(_) if !self.has_segment(part.id) => return Ok(()),
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
}
