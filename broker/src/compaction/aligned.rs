//! Reading exactly the offsets that another replica asks for.
//!
//! Where a log was compacted, batches need not begin and end where those of other replicas do. What
//! reaches beyond the range is cut off then; a batch that compaction has not touched is left whole.

use bytes::Bytes;
use storage::Offset;
use storage::batch::BatchHeader;
use storage::partition_log::{PartitionLog, ReadBatches, ReadError};

use super::rewrite::{cut, has_gaps};

/// As [`PartitionLog::read`], cut at both ends.
///
/// # Errors
/// As [`PartitionLog::read`]. What cannot be cut is left as it is: whoever asked refuses it.
pub(crate) fn read_aligned(
    log: &PartitionLog,
    from: Offset,
    limit: Offset,
    bytes_max: usize,
) -> Result<ReadBatches, ReadError> {
    let mut read = log.read(from, limit, bytes_max)?;
    if let Some(first) = read.batches.first_mut() {
        *first = cut_first(first, from, limit);
    }
    if read.next > limit
        && let Some(last) = read.batches.last_mut()
        && let Some(shorter) = cut_last(last, limit)
    {
        *last = shorter;
        read.next = limit;
    }
    read.bytes = read.batches.iter().map(Bytes::len).sum();
    Ok(read)
}

/// The piece, its first batch cut where it begins too early.
fn cut_first(piece: &Bytes, from: Offset, limit: Offset) -> Bytes {
    let Ok(header) = BatchHeader::parse(piece) else {
        return piece.clone();
    };
    let first = piece.slice(..header.total_bytes().min(piece.len()));
    if header.base_offset >= from.0 || !has_gaps(&header) {
        return piece.clone();
    }
    match cut(&first, &header, from.0, limit.0) {
        Ok(first_cut) => joined(&first_cut, &piece.slice(first.len()..)),
        Err(error) => {
            tracing::warn!(offset = header.base_offset, %error, "cannot cut a batch");
            piece.clone()
        }
    }
}

/// The piece, its last batch cut at `limit`; `None` when it must not be.
fn cut_last(piece: &Bytes, limit: Offset) -> Option<Bytes> {
    let mut at = 0;
    loop {
        let header = BatchHeader::parse(piece.get(at..)?).ok()?;
        let end = at + header.total_bytes();
        if end < piece.len() {
            at = end;
            continue;
        }
        if header.last_offset() < limit {
            // It was the first one as well.
            return Some(piece.clone());
        }
        if !has_gaps(&header) {
            return None;
        }
        let last = piece.slice(at..);
        return match cut(&last, &header, header.base_offset, limit.0) {
            Ok(last_cut) => Some(joined(&piece.slice(..at), &last_cut)),
            Err(error) => {
                tracing::warn!(offset = header.base_offset, %error, "cannot cut a batch");
                None
            }
        };
    }
}

fn joined(first: &Bytes, second: &Bytes) -> Bytes {
    match second.is_empty() {
        true => first.clone(),
        false => [first.as_ref(), second.as_ref()].concat().into(),
    }
}
