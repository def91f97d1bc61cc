//! What stands at the beginning of every value: who wrote it, where it stands, when it was due, and
//! a checksum over all of it.
//!
//! ```text
//! 0      4       8          16        24        32         36
//! "BLld" crc-32c generator  sequence  due       partition  filler …
//!        u32     u64        u64       us, i64   i32
//! ```
//! All big-endian. The checksum covers everything behind it, the filler too.

use bytes::BytesMut;
use storage::batch::crc32c;

const MAGIC: [u8; 4] = *b"BLld";
const CRC_END: usize = 8;
/// Length of a stamp.
pub(crate) const STAMP_BYTES: usize = 36;
/// Fillers are cut out of this many bytes.
const POOL_BYTES: usize = 64 << 10;

/// What a record says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The generator of one run.
    pub generator: u64,
    /// Its records in this partition are numbered 0, 1, 2, …
    pub sequence: u64,
    /// When it was due, in microseconds of the generator's clock.
    pub due_us: i64,
    /// The partition it was written to.
    pub partition: i32,
}

impl Stamp {
    /// Puts it before what stands in `value` from the stamp's length on, checksum included.
    pub(crate) fn write(&self, value: &mut [u8]) {
        value[..4].copy_from_slice(&MAGIC);
        value[8..16].copy_from_slice(&self.generator.to_be_bytes());
        value[16..24].copy_from_slice(&self.sequence.to_be_bytes());
        value[24..32].copy_from_slice(&self.due_us.to_be_bytes());
        value[32..36].copy_from_slice(&self.partition.to_be_bytes());
        let crc = crc32c(&value[CRC_END..]);
        value[4..8].copy_from_slice(&crc.to_be_bytes());
    }

    /// Reads the stamp of a value. `None`: it is damaged, or has never been one.
    #[must_use]
    pub fn read(value: &[u8]) -> Option<Stamp> {
        let stamp = value.first_chunk::<STAMP_BYTES>()?;
        let word = |at: usize| {
            let bytes = stamp[at..at + 8].try_into().expect("eight bytes");
            u64::from_be_bytes(bytes)
        };
        let short = |at: usize| stamp[at..at + 4].try_into().expect("four bytes");
        let sound =
            stamp[..4] == MAGIC && u32::from_be_bytes(short(4)) == crc32c(&value[CRC_END..]);
        sound.then(|| Stamp {
            generator: word(8),
            sequence: word(16),
            due_us: word(24).cast_signed(),
            partition: i32::from_be_bytes(short(32)),
        })
    }
}

/// Bytes that look like text of few words: they shrink to about half when they are compressed.
#[derive(Debug)]
pub(crate) struct Filler {
    pool: Vec<u8>,
}

impl Filler {
    pub(crate) fn new(seed: u64) -> Filler {
        let pool = (0..POOL_BYTES as u64).map(|at| {
            // Sixteen letters of a byte each: four bits of news in eight.
            let [low, ..] = mixed(seed ^ at).to_le_bytes();
            b'a' + low % 16
        });
        Filler {
            pool: pool.collect(),
        }
    }

    /// Appends so many bytes, other ones for another number.
    pub(crate) fn put(&self, number: u64, bytes: usize, out: &mut BytesMut) {
        let mut left = bytes;
        let mut at = usize::try_from(mixed(number) % POOL_BYTES as u64).unwrap_or(0);
        while left > 0 {
            let piece = &self.pool[at..];
            let piece = &piece[..piece.len().min(left)];
            out.extend_from_slice(piece);
            left -= piece.len();
            at = 0;
        }
    }
}

/// SplitMix64's finalizer: every bit of the input changes half of the output.
pub(crate) fn mixed(number: u64) -> u64 {
    let mut word = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_comes_back_and_any_flipped_bit_is_seen() {
        let stamp = Stamp {
            generator: 7,
            sequence: u64::MAX,
            due_us: -3,
            partition: 5,
        };
        let mut value = BytesMut::zeroed(STAMP_BYTES);
        Filler::new(1).put(9, 64, &mut value);
        stamp.write(&mut value);
        assert_eq!(Stamp::read(&value), Some(stamp));
        for bit in 0..value.len() * 8 {
            let mut damaged = value.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Stamp::read(&damaged), None, "bit {bit}");
        }
        assert_eq!(Stamp::read(&value[..value.len() - 1]), None);
        assert_eq!(Stamp::read(b"hello"), None);
    }

    #[test]
    fn fillers_have_their_length_and_differ() {
        let filler = Filler::new(3);
        let of = |number, bytes| {
            let mut out = BytesMut::new();
            filler.put(number, bytes, &mut out);
            out
        };
        assert_ne!(of(1, 100), of(2, 100));
        for bytes in [0, 1, POOL_BYTES, 3 * POOL_BYTES + 5] {
            assert_eq!(of(4, bytes).len(), bytes);
        }
    }
}
