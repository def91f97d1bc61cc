//! The "consumer" protocol that classic members carry inside JoinGroup and SyncGroup:
//! ConsumerProtocolSubscription and ConsumerProtocolAssignment, versions 0-3.
//!
//! ```text
//! subscription  i16 version | topics: [string] | user data: bytes? | owned (v1+): [string, [i32]]
//!               | i32 generation (v2+) | string? rack (v3+)
//! assignment    i16 version | assigned: [string, [i32]] | user data: bytes?
//! ```
//!
//! A version beyond these is read as version 3: later ones may only add fields at the end.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::RecordError;
use super::wire::{Reader, Writer};

/// The highest version that is known.
const VERSION_MAX: i16 = 3;

/// Partitions by the names of their topics.
pub(crate) type NamedPartitions = BTreeMap<String, BTreeSet<i32>>;

/// What a classic consumer subscribes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub(crate) version: i16,
    pub(crate) topics: BTreeSet<String>,
    pub(crate) owned: NamedPartitions,
    pub(crate) rack_id: Option<String>,
}

impl Subscription {
    /// Reads it. Never panics, whatever the bytes are.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new(bytes);
        let mut subscription = Self {
            version: version(&mut reader)?,
            ..Self::default()
        };
        for _ in 0..reader.count()? {
            subscription.topics.insert(reader.string()?);
        }
        user_data(&mut reader)?;
        if subscription.version >= 1 {
            subscription.owned = named_partitions(&mut reader)?;
        }
        if subscription.version >= 2 {
            reader.i32()?;
        }
        if subscription.version >= 3 {
            subscription.rack_id = reader.nullable_string()?;
        }
        Ok(subscription)
    }
}

/// The bytes of an assignment.
pub(crate) fn encode_assignment(version: i16, partitions: &NamedPartitions) -> Bytes {
    let mut writer = Writer::versioned(version.clamp(0, VERSION_MAX));
    writer.count(partitions.len());
    for (topic, partitions) in partitions {
        writer.string(topic);
        writer.count(partitions.len());
        partitions
            .iter()
            .for_each(|&partition| writer.i32(partition));
    }
    writer.i32(-1);
    writer.finish()
}

/// What the leader of a classic group gave to a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) partitions: NamedPartitions,
    /// Whether there is more to it, which only the members' own assignor understands.
    pub(crate) has_user_data: bool,
}

/// Reads an assignment. Empty bytes are an empty one: a member that the leader left out has that.
pub(crate) fn decode_assignment(bytes: &[u8]) -> Result<Assignment, RecordError> {
    if bytes.is_empty() {
        return Ok(Assignment::default());
    }
    let mut reader = Reader::new(bytes);
    version(&mut reader)?;
    let partitions = named_partitions(&mut reader)?;
    let has_user_data = user_data(&mut reader)? > 0;
    Ok(Assignment {
        partitions,
        has_user_data,
    })
}

fn version(reader: &mut Reader<'_>) -> Result<i16, RecordError> {
    match reader.i16()? {
        version @ 0.. => Ok(version.min(VERSION_MAX)),
        version => Err(RecordError::UnknownVersion(version)),
    }
}

/// Passes over bytes that mean something to the client only, and says how many there are; null is
/// as none.
fn user_data(reader: &mut Reader<'_>) -> Result<usize, RecordError> {
    match reader.i32()? {
        -1 => Ok(0),
        length => {
            let length = usize::try_from(length).map_err(|_| RecordError::Number)?;
            reader.skip(length)?;
            Ok(length)
        }
    }
}

fn named_partitions(reader: &mut Reader<'_>) -> Result<NamedPartitions, RecordError> {
    let mut all = NamedPartitions::new();
    for _ in 0..reader.count()? {
        let topic = reader.string()?;
        for _ in 0..reader.count()? {
            all.entry(topic.clone()).or_default().insert(reader.i32()?);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_of_each_version_is_read() {
        let mut writer = Writer::versioned(3);
        writer.count(2);
        writer.string("b");
        writer.string("a");
        writer.bytes(b"mine");
        writer.count(1);
        writer.string("a");
        writer.count(2);
        writer.i32(4);
        writer.i32(1);
        writer.i32(9);
        writer.nullable_string(Some("rack"));
        let bytes = writer.finish();
        let names = || BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        let owned = NamedPartitions::from([("a".to_owned(), BTreeSet::from([1, 4]))]);
        let read = Subscription::decode(&bytes).unwrap();
        let rack_id = Some("rack".to_owned());
        let whole = Subscription {
            version: 3,
            topics: names(),
            owned: owned.clone(),
            rack_id,
        };
        assert_eq!(read, whole);
        for version in [0_i16, 1, 2, 77] {
            let mut old = bytes.to_vec();
            old[..2].copy_from_slice(&version.to_be_bytes());
            let expected = Subscription {
                version: version.min(3),
                topics: names(),
                owned: if version >= 1 {
                    owned.clone()
                } else {
                    NamedPartitions::new()
                },
                rack_id: if version >= 3 {
                    whole.rack_id.clone()
                } else {
                    None
                },
            };
            assert_eq!(
                Subscription::decode(&old),
                Ok(expected),
                "version {version}"
            );
        }
        let mut old = bytes.to_vec();
        old[..2].copy_from_slice(&(-1_i16).to_be_bytes());
        assert_eq!(
            Subscription::decode(&old),
            Err(RecordError::UnknownVersion(-1))
        );
        for end in 0..bytes.len() {
            assert!(Subscription::decode(&bytes[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn an_assignment_comes_back_as_it_was_written() {
        let partitions = NamedPartitions::from([
            ("a".to_owned(), BTreeSet::from([0, 2])),
            ("topic".to_owned(), BTreeSet::from([7])),
        ]);
        let bytes = encode_assignment(1, &partitions);
        assert_eq!(bytes[..2], [0, 1]);
        let read = |has_user_data| Assignment {
            partitions: partitions.clone(),
            has_user_data,
        };
        assert_eq!(decode_assignment(&bytes), Ok(read(false)));
        assert_eq!(decode_assignment(&[]), Ok(Assignment::default()));
        let end = bytes.len() - 4;
        let with_data = [&bytes[..end], &[0, 0, 0, 1, 7]].concat();
        assert_eq!(decode_assignment(&with_data), Ok(read(true)));
        for end in 1..bytes.len() {
            assert!(decode_assignment(&bytes[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn counts_beyond_the_bytes_are_refused() {
        for count in [1_000_000_i32, i32::MAX, -5] {
            let mut writer = Writer::versioned(0);
            writer.i32(count);
            assert!(Subscription::decode(&writer.finish()).is_err());
        }
    }
}
