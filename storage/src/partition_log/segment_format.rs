//! Names of a partition's files, and what a segment file's bytes must be.
//!
//! ```text
//! <topic id>-<index>/                    one directory per partition
//!     00000000000000000000.start         empty; its name is the offset below which segments may
//!                                        be missing because they were deleted
//!     00000000000000000000.log           record batches, back to back, nothing else
//!     00000000000000000000.index         sparse index of the segment, see `index`
//! ```
//!
//! The digest of a segment is a CRC-32 (IEEE) over the first 21 bytes of each of its batches, in
//! order. Those hold the batch's CRC-32C, which covers all the rest: so the digest covers every
//! byte, yet costs an append next to nothing.

use crate::Offset;
use crate::batch::{BATCH_HEADER_BYTES, BATCH_UNCHECKED_BYTES, BatchHeader, crc_matches};

use super::epochs::Epochs;

/// The largest batch there can be; a length beyond it is damage. Above the largest frame.
pub(crate) const BATCH_BYTES_MAX: usize = 128 << 20;

/// What a file in a partition's directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileName {
    Log(Offset),
    Index(Offset),
    Start(Offset),
}

pub(crate) fn log_name(base: Offset) -> String {
    format!("{:020}.log", base.0)
}

pub(crate) fn index_name(base: Offset) -> String {
    format!("{:020}.index", base.0)
}

pub(crate) fn start_name(start: Offset) -> String {
    format!("{:020}.start", start.0)
}

/// What `name` says, `None` when it is not one of ours.
pub(crate) fn parse_name(name: &str) -> Option<FileName> {
    let (digits, extension) = name.split_once('.')?;
    if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let offset = Offset(digits.parse().ok()?);
    match extension {
        "log" => Some(FileName::Log(offset)),
        "index" => Some(FileName::Index(offset)),
        "start" => Some(FileName::Start(offset)),
        _ => None,
    }
}

/// Digest of a segment after one more batch, which begins with `head`.
pub(crate) fn digest_after(digest: u32, head: &[u8; BATCH_UNCHECKED_BYTES]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(digest);
    hasher.update(head);
    hasher.finalize()
}

/// What a batch is not, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mismatch {
    pub(crate) expected: String,
    pub(crate) found: String,
}

impl Mismatch {
    pub(crate) fn new(expected: impl Into<String>, found: impl Into<String>) -> Mismatch {
        Mismatch {
            expected: expected.into(),
            found: found.into(),
        }
    }
}

/// Checks what the CRC does not cover of a batch that must begin at `offset` and fit into
/// `bytes_left`: format, length, base offset, epoch.
pub(crate) fn check_header(
    bytes: &[u8],
    offset: Offset,
    bytes_left: u64,
    epochs: Option<&Epochs>,
) -> Result<BatchHeader, Mismatch> {
    if bytes_left < BATCH_HEADER_BYTES as u64 {
        return Err(Mismatch::new(
            "a record batch",
            format!("{bytes_left} bytes"),
        ));
    }
    let header = BatchHeader::parse(bytes)
        .map_err(|error| Mismatch::new("a record batch", error.to_string()))?;
    if header.base_offset != offset.0 {
        let found = format!("base offset {}", header.base_offset);
        return Err(Mismatch::new(format!("base offset {offset}"), found));
    }
    let length = header.total_bytes();
    if length > BATCH_BYTES_MAX || length as u64 > bytes_left {
        let expected = format!("a batch of at most {bytes_left} bytes");
        return Err(Mismatch::new(expected, format!("one of {length}")));
    }
    if let Some(epochs) = epochs {
        let found = header.partition_leader_epoch;
        let expected = epochs.at(offset).map_or(-1, |epoch| epoch.0);
        if found != expected {
            let found = format!("leader epoch {found}");
            return Err(Mismatch::new(format!("leader epoch {expected}"), found));
        }
    }
    Ok(header)
}

/// Checks the CRC of a whole batch.
pub(crate) fn check_crc(batch: &[u8], header: &BatchHeader) -> Result<(), Mismatch> {
    if crc_matches(batch) {
        return Ok(());
    }
    let actual = crate::batch::crc32c(&batch[BATCH_UNCHECKED_BYTES..]);
    Err(Mismatch::new(
        format!("crc {:08x}", header.crc),
        format!("bytes with crc {actual:08x}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        assert_eq!(log_name(Offset(42)), "00000000000000000042.log");
        assert_eq!(
            parse_name(&log_name(Offset(42))),
            Some(FileName::Log(Offset(42)))
        );
        assert_eq!(
            parse_name(&index_name(Offset(i64::MAX))),
            Some(FileName::Index(Offset(i64::MAX)))
        );
        assert_eq!(
            parse_name(&start_name(Offset(0))),
            Some(FileName::Start(Offset(0)))
        );
    }

    #[test]
    fn other_names_are_not_ours() {
        for name in [
            "42.log",
            "0000000000000000004x.log",
            "00000000000000000042.log.tmp",
            "00000000000000000042",
            "99999999999999999999.log",
            "+0000000000000000042.log",
        ] {
            assert_eq!(parse_name(name), None, "{name}");
        }
    }
}
