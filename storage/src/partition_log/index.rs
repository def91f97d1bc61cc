//! Sparse index of a segment: the file's format and the search, both pure.
//!
//! ```text
//!  0  magic          4 bytes  "BIDX"
//!  4  version        u16      1
//!  6  reserved       u16      0
//!  8  base offset    i64      of the segment
//! 16  crc            u32      CRC-32 of the 16 bytes before
//! 20  entries, 20 bytes each:
//!      0  relative offset   u32   base offset of a batch, less the segment's
//!      4  position          u32   where that batch begins
//!      8  max timestamp     i64   greatest of all batches before it in the segment, or -1
//!     16  crc               u32   CRC-32 of the segment's base offset (i64) and the 16 bytes before
//!                                                                                little-endian
//! ```
//!
//! Entries rise in offset and position. The first batch has none. The last entry of a sealed
//! segment points at the segment's end. A cache: whatever is wrong with it, it is rebuilt.

use crate::Offset;

/// Bytes of the file's header.
pub(crate) const INDEX_HEADER_BYTES: usize = 20;
/// Bytes of one entry.
pub(crate) const INDEX_ENTRY_BYTES: usize = 20;

const MAGIC: [u8; 4] = *b"BIDX";
const VERSION: u16 = 1;

/// One entry of a sparse index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub(crate) offset: Offset,
    pub(crate) position: u64,
    /// Greatest timestamp of the batches before `position`; -1 when none has one.
    pub(crate) max_timestamp_before: i64,
}

/// The index is not what it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DamagedIndex;

pub(crate) fn encode_header(base: Offset) -> [u8; INDEX_HEADER_BYTES] {
    let mut out = [0; INDEX_HEADER_BYTES];
    out[..4].copy_from_slice(&MAGIC);
    out[4..6].copy_from_slice(&VERSION.to_le_bytes());
    out[8..16].copy_from_slice(&base.0.to_le_bytes());
    let crc = crc32fast::hash(&out[..16]);
    out[16..].copy_from_slice(&crc.to_le_bytes());
    out
}

pub(crate) fn check_header(bytes: &[u8], base: Offset) -> Result<(), DamagedIndex> {
    if bytes.first_chunk() == Some(&encode_header(base)) {
        Ok(())
    } else {
        Err(DamagedIndex)
    }
}

impl IndexEntry {
    /// The entry as bytes, in the index of the segment that begins at `base`.
    pub(crate) fn encode(&self, base: Offset) -> [u8; INDEX_ENTRY_BYTES] {
        let relative = u32::try_from(self.offset.0 - base.0).expect("segments are rolled before");
        let position = u32::try_from(self.position).expect("segments are rolled before");
        let mut out = [0; INDEX_ENTRY_BYTES];
        out[..4].copy_from_slice(&relative.to_le_bytes());
        out[4..8].copy_from_slice(&position.to_le_bytes());
        out[8..16].copy_from_slice(&self.max_timestamp_before.to_le_bytes());
        let crc = entry_crc(base, &out[..16]);
        out[16..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the entry at the start of `bytes`.
    pub(crate) fn decode(bytes: &[u8], base: Offset) -> Result<IndexEntry, DamagedIndex> {
        let entry = bytes
            .first_chunk::<INDEX_ENTRY_BYTES>()
            .ok_or(DamagedIndex)?;
        let (relative, rest) = entry.split_first_chunk().ok_or(DamagedIndex)?;
        let (position, rest) = rest.split_first_chunk().ok_or(DamagedIndex)?;
        let (timestamp, rest) = rest.split_first_chunk().ok_or(DamagedIndex)?;
        let crc = u32::from_le_bytes(*rest.first_chunk().ok_or(DamagedIndex)?);
        if crc != entry_crc(base, &entry[..16]) {
            return Err(DamagedIndex);
        }
        let offset = base.0.checked_add(i64::from(u32::from_le_bytes(*relative)));
        Ok(IndexEntry {
            offset: Offset(offset.ok_or(DamagedIndex)?),
            position: u64::from(u32::from_le_bytes(*position)),
            max_timestamp_before: i64::from_le_bytes(*timestamp),
        })
    }
}

fn entry_crc(base: Offset, entry: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&base.0.to_le_bytes());
    hasher.update(entry);
    hasher.finalize()
}

/// The good entries at the front of an index file, in order and pointing below `bytes_max`.
pub(crate) fn good_entries(file: &[u8], base: Offset, bytes_max: u64) -> Vec<IndexEntry> {
    let mut good: Vec<IndexEntry> = Vec::new();
    if check_header(file, base).is_err() {
        return good;
    }
    for bytes in file[INDEX_HEADER_BYTES..].chunks_exact(INDEX_ENTRY_BYTES) {
        let Ok(entry) = IndexEntry::decode(bytes, base) else {
            break;
        };
        let (last_offset, last_position) = good
            .last()
            .map_or((base, 0), |last| (last.offset, last.position));
        let rises = entry.offset > last_offset && entry.position > last_position;
        if !rises || entry.position >= bytes_max {
            break;
        }
        good.push(entry);
    }
    good
}

/// The last of `count` entries that is `before` what is looked for; `before` must hold for a
/// leading part of them. Looks at about log2(`count`) of them.
pub(crate) fn last_before<E>(
    count: u32,
    mut entry: impl FnMut(u32) -> Result<IndexEntry, E>,
    before: impl Fn(&IndexEntry) -> bool,
) -> Result<Option<IndexEntry>, E> {
    let (mut low, mut high) = (0, count);
    let mut found = None;
    while low < high {
        let middle = low + (high - low) / 2;
        let candidate = entry(middle)?;
        if before(&candidate) {
            found = Some(candidate);
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(found)
}

/// Decides which batches get an entry while a segment is walked or written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IndexPacer {
    interval_bytes: u64,
    /// Bytes since the batch that last got an entry.
    bytes_since: u64,
}

impl IndexPacer {
    pub(crate) fn new(interval_bytes: usize) -> IndexPacer {
        IndexPacer {
            interval_bytes: interval_bytes as u64,
            bytes_since: 0,
        }
    }

    /// One that wants an entry at the next batch, unless that is the segment's first.
    pub(crate) fn overdue(interval_bytes: usize) -> IndexPacer {
        IndexPacer {
            interval_bytes: interval_bytes as u64,
            bytes_since: u64::MAX,
        }
    }

    /// Whether the batch of `bytes` at `position` gets an entry.
    pub(crate) fn wants_entry(&mut self, position: u64, bytes: u64) -> bool {
        let wants = position > 0 && self.bytes_since >= self.interval_bytes;
        self.bytes_since = if wants {
            bytes
        } else {
            self.bytes_since.saturating_add(bytes)
        };
        wants
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: i64) -> IndexEntry {
        IndexEntry {
            offset: Offset(1_000 + n * 10),
            position: u64::try_from(n).unwrap() * 500,
            max_timestamp_before: n * 7,
        }
    }

    fn file(count: i64) -> Vec<u8> {
        let base = Offset(1_000);
        let mut bytes = encode_header(base).to_vec();
        (1..=count).for_each(|n| bytes.extend_from_slice(&entry(n).encode(base)));
        bytes
    }

    #[test]
    fn entries_read_back_up_to_the_end_of_the_segment() {
        let entries: Vec<IndexEntry> = (1..=9).map(entry).collect();
        assert_eq!(good_entries(&file(9), Offset(1_000), u64::MAX), entries);
        assert_eq!(good_entries(&file(9), Offset(1_000), 2_000), entries[..3]);
        assert_eq!(good_entries(&file(9), Offset(999), u64::MAX), []);
    }

    #[test]
    fn every_flipped_bit_ends_the_good_entries() {
        let good = file(3);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let kept = (bit / 8).saturating_sub(INDEX_HEADER_BYTES) / INDEX_ENTRY_BYTES;
            let entries = good_entries(&bad, Offset(1_000), u64::MAX);
            assert_eq!(entries.len(), kept, "bit {bit}");
        }
    }

    #[test]
    fn the_search_finds_the_last_entry_before() {
        for count in 0..20_u32 {
            for wanted in 990..1_250 {
                let found = last_before(
                    count,
                    |n| Ok::<_, DamagedIndex>(entry(i64::from(n) + 1)),
                    |entry| entry.offset.0 <= wanted,
                );
                let naive = (1..=i64::from(count))
                    .map(entry)
                    .rfind(|entry| entry.offset.0 <= wanted);
                assert_eq!(found, Ok(naive));
            }
        }
    }

    #[test]
    fn entries_are_an_interval_apart() {
        let mut pacer = IndexPacer::new(1_000);
        let wants: Vec<bool> = (0..9).map(|n| pacer.wants_entry(n * 400, 400)).collect();
        assert_eq!(
            wants,
            [false, false, false, true, false, false, true, false, false]
        );
    }
}
