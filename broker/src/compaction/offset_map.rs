//! [`OffsetMap`]: the newest offset of each key in a part of a log, in a fixed amount of memory.
//!
//! Holds a hash of 128 bits of each key, as Kafka's does (`SkimpyOffsetMap`). Unlike Kafka's the
//! hash has a secret of its own in each map, so that nobody can make two keys that look alike.

use std::hash::{BuildHasher, RandomState};

/// What one slot takes.
pub(crate) const SLOT_BYTES: usize = 24;
/// The least there is.
const SLOTS_MIN: usize = 16;

/// Newest offsets by key.
pub(crate) struct OffsetMap {
    secrets: [RandomState; 2],
    hashes: Vec<[u64; 2]>,
    /// One more than the offset; 0: the slot is free. Zeros cost no memory until they are touched.
    offsets: Vec<u64>,
    len: usize,
}

impl OffsetMap {
    /// A map that takes at most this many bytes, or what is the least.
    pub(crate) fn new(bytes_max: usize) -> OffsetMap {
        let slots = (bytes_max / SLOT_BYTES).max(SLOTS_MIN);
        OffsetMap {
            secrets: [RandomState::new(), RandomState::new()],
            hashes: vec![[0; 2]; slots],
            offsets: vec![0; slots],
            len: 0,
        }
    }

    /// Notes that a key is at an offset, which is above all those noted. False when there is no
    /// room for another key; nothing has changed then.
    #[must_use]
    pub(crate) fn note(&mut self, key: &[u8], offset: i64) -> bool {
        let hash = self.hash(key);
        let at = self.slot(hash);
        if self.offsets[at] == 0 {
            if self.len >= self.offsets.len() / 10 * 9 {
                return false;
            }
            self.len += 1;
            self.hashes[at] = hash;
        }
        self.offsets[at] = u64::try_from(offset).expect("offsets are never negative") + 1;
        true
    }

    /// The newest offset noted of a key.
    pub(crate) fn newest(&self, key: &[u8]) -> Option<i64> {
        let offset = self.offsets[self.slot(self.hash(key))].checked_sub(1)?;
        Some(i64::try_from(offset).expect("it was an offset"))
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        let [first, second] = &self.secrets;
        [first.hash_one(key), second.hash_one(key)]
    }

    /// Where a key is, or would be. There always is a free slot.
    fn slot(&self, hash: [u64; 2]) -> usize {
        let slots = self.offsets.len();
        let first = hash[0] % u64::try_from(slots).expect("a length fits");
        let mut at = usize::try_from(first).expect("below a length");
        while self.offsets[at] != 0 && self.hashes[at] != hash {
            at = (at + 1) % slots;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn the_newest_offset_of_each_key_is_known_until_it_is_full() {
        let mut map = OffsetMap::new(1_000 * SLOT_BYTES);
        let mut expected = HashMap::new();
        for offset in 0..5_000_i64 {
            let key = (offset * 7_919 % 900).to_string();
            assert!(map.note(key.as_bytes(), offset));
            expected.insert(key, offset);
        }
        assert_eq!(map.len, 900);
        for (key, offset) in &expected {
            assert_eq!(map.newest(key.as_bytes()), Some(*offset));
        }
        assert_eq!(map.newest(b"another"), None);
        assert!(!map.note(b"another", 5_000), "nine of ten are taken");
        assert_eq!(map.newest(b"another"), None);
        assert!(map.note(b"7", 5_001), "a key that it has is no other one");
        assert_eq!(map.newest(b"7"), Some(5_001));
    }

    #[test]
    fn a_map_without_memory_still_takes_some_keys() {
        let mut map = OffsetMap::new(0);
        assert!((0..9).all(|n: i64| map.note(&n.to_be_bytes(), n)));
        assert!(!map.note(b"one more", 9));
        assert!((0..9).all(|n: i64| map.newest(&n.to_be_bytes()) == Some(n)));
    }
}
