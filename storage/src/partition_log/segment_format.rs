//! Names of a partition's files, and what a segment file's bytes must be.
//!
//! ```text
//! <topic id>-<index>/                    one directory per partition
//!     00000000000000000000.start         empty; its name is the offset below which segments may
//!                                        be missing because they were deleted
//!     00000000000000000000.log           record batches, back to back, nothing else
//!     00000000000000000000.index         sparse index of the segment, see `index`
//!     00000000000000000000-<version, 16 hex digits>.log   and .index: a segment that compaction
//!                                        has written anew
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
    Log(SegmentId),
    Index(SegmentId),
    Start(Offset),
}

/// Which file of a segment: one that appends wrote has version 0; what replaces sealed segments
/// gets a version of its own, drawn anew each time, so that no file is ever taken for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SegmentId {
    pub(crate) base: Offset,
    pub(crate) version: u64,
}

impl From<Offset> for SegmentId {
    fn from(base: Offset) -> SegmentId {
        SegmentId { base, version: 0 }
    }
}

/// A segment's name without its extension.
fn stem(id: SegmentId) -> String {
    match id.version {
        0 => format!("{:020}", id.base.0),
        version => format!("{:020}-{version:016x}", id.base.0),
    }
}

pub(crate) fn log_name(id: impl Into<SegmentId>) -> String {
    format!("{}.log", stem(id.into()))
}

pub(crate) fn index_name(id: impl Into<SegmentId>) -> String {
    format!("{}.index", stem(id.into()))
}

pub(crate) fn start_name(start: Offset) -> String {
    format!("{:020}.start", start.0)
}

/// What `name` says, `None` when it is not one of ours.
pub(crate) fn parse_name(name: &str) -> Option<FileName> {
    let (stem, extension) = name.split_once('.')?;
    let (digits, version) = match stem.split_once('-') {
        Some((digits, version)) => (digits, parse_version(version)?),
        None => (stem, 0),
    };
    if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let base = Offset(digits.parse().ok()?);
    let id = SegmentId { base, version };
    match extension {
        "log" => Some(FileName::Log(id)),
        "index" => Some(FileName::Index(id)),
        "start" if version == 0 => Some(FileName::Start(base)),
        _ => None,
    }
}

fn parse_version(hex: &str) -> Option<u64> {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if hex.len() != 16 || !hex.bytes().all(is_hex) {
        return None;
    }
    u64::from_str_radix(hex, 16)
        .ok()
        .filter(|version| *version != 0)
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
            Some(FileName::Log(Offset(42).into()))
        );
        let rewritten = SegmentId {
            base: Offset(42),
            version: 0xab,
        };
        assert_eq!(
            log_name(rewritten),
            "00000000000000000042-00000000000000ab.log"
        );
        assert_eq!(
            parse_name(&log_name(rewritten)),
            Some(FileName::Log(rewritten))
        );
        assert_eq!(
            parse_name(&index_name(Offset(i64::MAX))),
            Some(FileName::Index(Offset(i64::MAX).into()))
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
            "00000000000000000042-0000000000000000.log",
            "00000000000000000042-ab.log",
            "00000000000000000042-00000000000000AB.log",
            "00000000000000000042-00000000000000ab.start",
        ] {
            assert_eq!(parse_name(name), None, "{name}");
        }
    }
}
