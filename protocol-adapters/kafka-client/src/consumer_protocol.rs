//! What consumers of a classic group tell each other: subscriptions and assignments.
//!
//! Version 1 of both (KIP-429), which every client reads; newer ones append fields, which are
//! passed over here. The encoding is the old one, whole but for the group's members opaque.

use bytes::Bytes;

use crate::ClientError;
use crate::wire::{Reader, Writer};

/// A group's protocol type when its members are consumers.
pub const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

const VERSION: i16 = 1;

/// What one consumer wants, told to the leader by JoinGroup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subscription {
    /// The topics it wants.
    pub topics: Vec<String>,
    /// The partitions it owns; those of one topic stand together.
    pub owned: Vec<(String, i32)>,
}

impl Subscription {
    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut writer = Writer::new();
        writer.i16(VERSION);
        writer.legacy_array(&self.topics, |item, topic| {
            item.legacy_string(topic);
        });
        writer.legacy_bytes(None);
        write_partitions(&mut writer, &self.owned);
        writer.finish()
    }

    /// From bytes of any version.
    pub fn decode(bytes: &Bytes) -> Result<Subscription, ClientError> {
        let mut reader = Reader::new(bytes.clone());
        let version = reader.i16()?;
        let topics = reader.legacy_array(Reader::legacy_string)?;
        let _user_data = reader.legacy_nullable_bytes()?;
        let owned = match version {
            1.. => read_partitions(&mut reader)?,
            _ => Vec::new(),
        };
        Ok(Subscription { topics, owned })
    }
}

/// What one consumer got, told to it by SyncGroup: topics with partitions, those of one topic
/// together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assignment(pub Vec<(String, i32)>);

impl Assignment {
    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut writer = Writer::new();
        writer.i16(VERSION);
        write_partitions(&mut writer, &self.0);
        writer.legacy_bytes(None);
        writer.finish()
    }

    /// From bytes of any version; no bytes are an empty assignment.
    pub fn decode(bytes: &Bytes) -> Result<Assignment, ClientError> {
        if bytes.is_empty() {
            return Ok(Assignment::default());
        }
        let mut reader = Reader::new(bytes.clone());
        let _version = reader.i16()?;
        Ok(Assignment(read_partitions(&mut reader)?))
    }
}

fn write_partitions(writer: &mut Writer, partitions: &[(String, i32)]) {
    let topics: Vec<_> = partitions
        .chunk_by(|left, right| left.0 == right.0)
        .collect();
    writer.legacy_array(topics, |item, partitions| {
        item.legacy_string(&partitions[0].0);
        item.legacy_array(partitions, |item, (_, partition)| {
            item.i32(*partition);
        });
    });
}

fn read_partitions(reader: &mut Reader) -> Result<Vec<(String, i32)>, ClientError> {
    let topics = reader.legacy_array(|item| {
        let topic = item.legacy_string()?;
        item.legacy_array(|item| Ok((topic.clone(), item.i32()?)))
    })?;
    Ok(topics.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned() -> Vec<(String, i32)> {
        [("a", 0), ("a", 2), ("b", 1)]
            .map(|(topic, partition)| (topic.to_owned(), partition))
            .to_vec()
    }

    #[test]
    fn subscriptions_come_back() {
        let subscription = Subscription {
            topics: vec!["a".to_owned(), "b".to_owned()],
            owned: owned(),
        };
        assert_eq!(
            Subscription::decode(&subscription.encode()),
            Ok(subscription)
        );
    }

    #[test]
    fn assignments_come_back_and_nothing_is_an_empty_one() {
        let assignment = Assignment(owned());
        assert_eq!(Assignment::decode(&assignment.encode()), Ok(assignment));
        assert_eq!(Assignment::decode(&Bytes::new()), Ok(Assignment::default()));
    }

    #[test]
    fn a_subscription_of_version_0_owns_nothing() {
        let bytes = Bytes::from_static(b"\0\0\0\0\0\x01\0\x01a\xff\xff\xff\xff");
        let subscription = Subscription::decode(&bytes).expect("it is whole");
        assert_eq!(subscription.topics, ["a"]);
        assert!(subscription.owned.is_empty());
    }

    #[test]
    fn cut_bytes_are_refused() {
        let whole = Assignment(owned()).encode();
        // The user data at its end is not read.
        for len in 1..whole.len() - 4 {
            assert!(Assignment::decode(&whole.slice(..len)).is_err(), "{len}");
        }
    }
}
