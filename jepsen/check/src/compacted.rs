//! Replicas of a compacted partition: each cleans by itself, when it likes, and they agree all the
//! same.
//!
//! What both have at an offset is equal. The last record of a key, of those that either has, is on
//! both; but a tombstone past its time may be gone where nothing else of its key is left either.
//! Everything before a key's last record may be missing. Records without a key stay.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::{Deserialize, Serialize};

/// A record of a compacted partition: its key and value as digests, which are the same everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its offset.
    pub offset: i64,
    /// Its time, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Of its key; `None` where it has none.
    pub key: Option<u64>,
    /// Of its value; `None` for a tombstone.
    pub value: Option<u64>,
}

impl Record {
    /// Of these bytes.
    #[must_use]
    pub fn new(offset: i64, timestamp_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> Record {
        let digest = |bytes: &[u8]| {
            let mut hasher = DefaultHasher::new();
            bytes.hash(&mut hasher);
            hasher.finish()
        };
        Record {
            offset,
            timestamp_ms,
            key: key.map(digest),
            value: value.map(digest),
        }
    }
}

/// Where two replicas do not agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// Both have the offset, with different records.
    #[error("offset {0} shows different records")]
    Other(i64),
    /// One has it, and the other lacks it without a later one of its key.
    #[error("offset {0} is missing on one of them, and is the last of its key")]
    Missing(i64),
    /// A tombstone is gone, and what it deleted is not.
    #[error("the tombstone at offset {0} is missing on one of them, which has records of its key")]
    Resurrected(i64),
}

impl Difference {
    /// The offset it is about.
    #[must_use]
    pub fn offset(self) -> i64 {
        match self {
            Difference::Other(offset)
            | Difference::Missing(offset)
            | Difference::Resurrected(offset) => offset,
        }
    }
}

/// The first difference between two replicas that were read to the same end. Tombstones up to
/// `expired_ms` (their own time and `delete.retention.ms` together are past) may be gone.
#[must_use]
pub fn compare(one: &[Record], other: &[Record], expired_ms: i64) -> Option<Difference> {
    let by_offset = |records: &[Record]| -> BTreeMap<i64, Record> {
        records
            .iter()
            .map(|record| (record.offset, *record))
            .collect()
    };
    let sides = [by_offset(one), by_offset(other)];
    let mut all = sides[0].clone();
    for (offset, record) in &sides[1] {
        if all
            .insert(*offset, *record)
            .is_some_and(|had| had != *record)
        {
            return Some(Difference::Other(*offset));
        }
    }
    let mut last: BTreeMap<u64, Record> = BTreeMap::new();
    for record in all.values() {
        match record.key {
            Some(key) => _ = last.insert(key, *record),
            None if sides.iter().all(|side| side.contains_key(&record.offset)) => {}
            None => return Some(Difference::Missing(record.offset)),
        }
    }
    for (key, last) in last {
        for side in sides.iter().filter(|side| !side.contains_key(&last.offset)) {
            if last.value.is_some() || last.timestamp_ms > expired_ms {
                return Some(Difference::Missing(last.offset));
            }
            if side.values().any(|record| record.key == Some(key)) {
                return Some(Difference::Resurrected(last.offset));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a0` is the key a with the value 0, `a-` a tombstone, `-0` without a key; each at its offset.
    fn records(story: &str) -> Vec<Record> {
        let words = story.split_whitespace();
        let record = |word: &str| {
            let (offset, what) = word.split_once('=').expect("offset=what");
            let (key, value) = what.split_at(1);
            let some = |text: &str| (text != "-").then(|| text.as_bytes().to_vec());
            let offset: i64 = offset.parse().expect("an offset");
            let (key, value) = (some(key), some(value));
            Record::new(offset, offset * 10, key.as_deref(), value.as_deref())
        };
        words.map(record).collect()
    }

    fn differ(one: &str, other: &str, expired_ms: i64) -> Option<Difference> {
        let (one, other) = (records(one), records(other));
        let found = compare(&one, &other, expired_ms);
        assert_eq!(found, compare(&other, &one, expired_ms));
        found
    }

    #[test]
    fn what_a_later_record_of_its_key_replaces_may_be_missing() {
        assert_eq!(differ("0=a0 1=b0 2=a1", "1=b0 2=a1", 0), None);
        assert_eq!(differ("0=a0 1=a1 2=a2", "2=a2", 0), None);
        // Each has cleaned something else.
        assert_eq!(differ("0=a0 2=a1 3=b1", "1=b0 2=a1 3=b1", 0), None);
    }

    #[test]
    fn the_last_of_a_key_is_on_both() {
        let missing = |offset| Some(Difference::Missing(offset));
        assert_eq!(differ("0=a0 1=b0 2=a1", "1=b0", 0), missing(2));
        assert_eq!(differ("0=a0 1=b0 2=a1", "0=a0 1=b0", 0), missing(2));
        assert_eq!(differ("0=a0", "", 0), missing(0));
        assert_eq!(differ("0=-0 1=a0", "1=a0", 0), missing(0));
    }

    #[test]
    fn what_both_have_is_equal() {
        assert_eq!(differ("0=a0 1=b0", "0=a0 1=b0", 0), None);
        let other = |offset| Some(Difference::Other(offset));
        assert_eq!(differ("0=a0 1=b0", "0=a0 1=b1", 0), other(1));
        assert_eq!(differ("0=a0 1=b0", "0=b0 1=b0", 0), other(0));
        assert_eq!(differ("0=a0 1=b0", "0=a0 1=b-", 0), other(1));
    }

    #[test]
    fn a_tombstone_goes_after_its_time_and_after_all_that_it_deleted() {
        assert_eq!(differ("0=a0 1=a- 2=b0", "2=b0", 10), None);
        assert_eq!(differ("1=a- 2=b0", "2=b0", 10), None);
        let missing = Some(Difference::Missing(1));
        assert_eq!(differ("0=a0 1=a- 2=b0", "2=b0", 9), missing);
        let resurrected = Some(Difference::Resurrected(1));
        assert_eq!(differ("0=a0 1=a- 2=b0", "0=a0 2=b0", 10), resurrected);
    }
}
