//! [`Walk`]: reads a segment file batch by batch, verifying each.
//!
//! Expects the next batch at a known position with a known base offset, so a flipped bit anywhere
//! shows: in the checksummed part by the CRC, before it by offset, epoch, format or length.

use std::path::Path;

use bytes::Bytes;

use crate::Offset;
use crate::batch::{BATCH_HEADER_BYTES, BatchHeader};
use crate::bugs::{self, Bug};
use crate::disk::DiskFile;

use super::epochs::Epochs;
use super::segment_format::{Mismatch, check_crc, check_header};
use super::{Damage, ReadError};

/// What to read, and what must be there.
pub(crate) struct WalkSpan<'a> {
    pub(crate) file: &'a DiskFile,
    pub(crate) path: &'a Path,
    /// Where the first batch begins.
    pub(crate) position: u64,
    /// Its base offset.
    pub(crate) offset: Offset,
    /// Where the last batch ends.
    pub(crate) end_position: u64,
    /// Epochs to check against; `None` checks none.
    pub(crate) epochs: Option<&'a Epochs>,
    /// Bytes to read at a time; a larger batch is read whole.
    pub(crate) chunk_bytes: usize,
}

/// A walk along a segment file.
pub(crate) struct Walk<'a> {
    span: WalkSpan<'a>,
    chunk: Bytes,
    chunk_position: u64,
    /// Bytes to read at a time, grown to what batches need.
    chunk_bytes: usize,
}

/// A verified batch within the chunk that it was read in.
#[derive(Debug, Clone)]
pub(crate) struct WalkedBatch {
    pub(crate) position: u64,
    pub(crate) header: BatchHeader,
    pub(crate) chunk: Bytes,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl WalkedBatch {
    pub(crate) fn bytes(&self) -> Bytes {
        self.chunk.slice(self.start..self.end)
    }
}

impl<'a> Walk<'a> {
    pub(crate) fn new(span: WalkSpan<'a>) -> Walk<'a> {
        let (chunk_position, chunk_bytes) = (span.position, span.chunk_bytes);
        Walk {
            span,
            chunk: Bytes::new(),
            chunk_position,
            chunk_bytes,
        }
    }

    /// Where the next batch begins.
    pub(crate) fn position(&self) -> u64 {
        self.span.position
    }

    /// Base offset that the next batch must have.
    pub(crate) fn offset(&self) -> Offset {
        self.span.offset
    }

    /// The next batch's header, its CRC not checked yet; `None` at the end.
    pub(crate) fn peek(&mut self) -> Result<Option<BatchHeader>, ReadError> {
        let bytes_left = self.span.end_position - self.span.position;
        if bytes_left == 0 {
            return Ok(None);
        }
        let needed = usize::try_from(bytes_left)
            .map_or(BATCH_HEADER_BYTES, |left| left.min(BATCH_HEADER_BYTES));
        let at = self.fill(needed)?;
        let bytes = &self.chunk[at..];
        check_header(bytes, self.span.offset, bytes_left, self.span.epochs)
            .map(Some)
            .map_err(|mismatch| self.damage(mismatch))
    }

    /// The next batch, verified; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<WalkedBatch>, ReadError> {
        let Some(header) = self.peek()? else {
            return Ok(None);
        };
        let length = header.total_bytes();
        let start = self.fill(length)?;
        let end = start + length;
        if !bugs::is_on(Bug::DamageServed) {
            check_crc(&self.chunk[start..end], &header)
                .map_err(|mismatch| self.damage(mismatch))?;
        }
        let position = self.span.position;
        self.span.position += length as u64;
        self.span.offset = Offset(header.last_offset().0.saturating_add(1));
        Ok(Some(WalkedBatch {
            position,
            header,
            chunk: self.chunk.clone(),
            start,
            end,
        }))
    }

    fn damage(&self, Mismatch { expected, found }: Mismatch) -> ReadError {
        let (file, position) = (self.span.path.to_owned(), self.span.position);
        Damage {
            file,
            position,
            expected,
            found,
        }
        .into()
    }

    /// Makes the chunk hold `needed` bytes from the next batch on; returns where they are in it.
    fn fill(&mut self, needed: usize) -> Result<usize, ReadError> {
        let skipped = usize::try_from(self.span.position - self.chunk_position);
        if let Ok(at) = skipped
            && self.chunk.len().saturating_sub(at) >= needed
        {
            return Ok(at);
        }
        let bytes_left = self.span.end_position - self.span.position;
        let wanted = needed.max(self.chunk_bytes);
        let wanted = usize::try_from(bytes_left).map_or(wanted, |left| left.min(wanted));
        if needed > self.chunk_bytes {
            // Batches of one log tend to be alike: take the next one's header along.
            self.chunk_bytes = needed + BATCH_HEADER_BYTES;
        }
        let mut chunk = vec![0; wanted];
        let mut filled = 0;
        while filled < wanted {
            let position = self.span.position + filled as u64;
            match self.span.file.read_at(&mut chunk[filled..], position) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ReadError::io(self.span.path, "read", error)),
            }
        }
        if filled < needed {
            let expected = format!("{bytes_left} more bytes");
            let found = format!("the file's end after {filled}");
            return Err(self.damage(Mismatch { expected, found }));
        }
        chunk.truncate(filled);
        self.chunk = Bytes::from(chunk);
        self.chunk_position = self.span.position;
        Ok(0)
    }
}
