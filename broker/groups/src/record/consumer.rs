//! Records of consumer groups (KIP-848), byte for byte as Kafka writes them to
//! `__consumer_offsets`: keys 3 to 8 and 16, values of version 0.
//!
//! ```text
//!  3 ConsumerGroupMetadata            group                 epoch, metadata hash (tag 0)
//!  4 ConsumerGroupPartitionMetadata   group                 tombstones only, as since Kafka 4.1
//!  5 ConsumerGroupMemberMetadata      group, member         who it is, what it subscribes to
//!  6 ConsumerGroupTargetAssignmentMetadata   group          epoch of the target assignment
//!  7 ConsumerGroupTargetAssignmentMember     group, member  what the member shall have
//!  8 ConsumerGroupCurrentMemberAssignment    group, member  what it has, epoch and state
//! 16 ConsumerGroupRegularExpression   group, expression     the topics that it matches
//! ```
//!
//! Keys are sixteen bits of kind and then strings with sixteen bits of length; values are
//! sixteen bits of version and then the flexible encoding.
//! Tagged fields of later versions are passed over.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use coordinator::Encoded;

use super::RecordError;
use super::wire::{Reader, Writer};
use crate::assignor::Partitions;

#[cfg(test)]
#[path = "consumer_test.rs"]
mod tests;

const GROUP: i16 = 3;
const PARTITIONS: i16 = 4;
const MEMBER: i16 = 5;
const TARGET: i16 = 6;
const TARGET_MEMBER: i16 = 7;
const CURRENT: i16 = 8;
const EXPRESSION: i16 = 16;

/// The only version of the values.
const VALUE_VERSION: i16 = 0;

/// A record of a consumer group. A value that is `None` is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsumerRecord {
    /// The group exists.
    Group {
        /// The group.
        group: Arc<str>,
        /// Its epoch.
        value: Option<GroupValue>,
    },
    /// What Kafka 4.0 knew of the topics; this and later versions only ever delete it.
    PartitionMetadata {
        /// The group.
        group: Arc<str>,
    },
    /// A member exists.
    Member {
        /// The group.
        group: Arc<str>,
        /// The member.
        member: Arc<str>,
        /// What it said of itself.
        value: Option<MemberValue>,
    },
    /// The target assignment is that of this epoch.
    Target {
        /// The group.
        group: Arc<str>,
        /// The epoch.
        value: Option<i32>,
    },
    /// What a member shall have.
    TargetMember {
        /// The group.
        group: Arc<str>,
        /// The member.
        member: Arc<str>,
        /// What it shall have.
        value: Option<Partitions>,
    },
    /// What a member has.
    Current {
        /// The group.
        group: Arc<str>,
        /// The member.
        member: Arc<str>,
        /// What it has.
        value: Option<CurrentValue>,
    },
    /// What a regular expression stands for.
    Expression {
        /// The group.
        group: Arc<str>,
        /// The expression.
        expression: Arc<str>,
        /// The topics that it matches.
        value: Option<ExpressionValue>,
    },
}

/// ConsumerGroupMetadataValue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupValue {
    /// The group epoch: grows with each change of members, subscriptions or topics.
    pub epoch: i32,
    /// A hash of the subscribed topics at that epoch: a group with another hash needs a new epoch.
    pub metadata_hash: i64,
}

/// ConsumerGroupMemberMetadataValue.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct MemberValue {
    /// The instance id of a static member.
    pub instance_id: Option<String>,
    /// The rack of the client.
    pub rack_id: Option<String>,
    /// The client id of its requests.
    pub client_id: String,
    /// The address of its requests.
    pub client_host: String,
    /// The topics that it subscribes to by name.
    pub topic_names: BTreeSet<String>,
    /// The expression that it subscribes by. `Some("")` is "none any more".
    pub topic_regex: Option<String>,
    /// How long it may take to give partitions back.
    pub rebalance_timeout_ms: i32,
    /// The assignor that it wishes for.
    pub server_assignor: Option<String>,
    /// Only for a member that speaks the classic protocol.
    pub classic: Option<ClassicValue>,
}

/// What is known of a member that speaks JoinGroup and SyncGroup.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ClassicValue {
    /// Its session timeout.
    pub session_timeout_ms: i32,
    /// Its protocols in the order of its wishes, each with the embedded subscription.
    pub protocols: Vec<(String, Bytes)>,
}

/// ConsumerGroupCurrentMemberAssignmentValue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentValue {
    /// The epoch that the member must come with; -2 for a static member that is away.
    pub epoch: i32,
    /// The epoch before: a member whose answer was lost still comes with it.
    pub previous_epoch: i32,
    /// How far the member is.
    pub state: MemberState,
    /// What it has.
    pub assigned: Partitions,
    /// What it must give back, and has until then.
    pub revoking: Partitions,
}

/// How far a member is on the way to its target assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemberState {
    /// It has what it shall have.
    Stable,
    /// It must give partitions back first.
    UnrevokedPartitions,
    /// It waits for partitions that others have not given back yet.
    UnreleasedPartitions,
    /// A state of a later version.
    Unknown,
}

impl MemberState {
    fn code(self) -> i8 {
        match self {
            Self::Stable => 0,
            Self::UnrevokedPartitions => 1,
            Self::UnreleasedPartitions => 2,
            Self::Unknown => 127,
        }
    }

    fn of_code(code: i8) -> Self {
        match code {
            0 => Self::Stable,
            1 => Self::UnrevokedPartitions,
            2 => Self::UnreleasedPartitions,
            _ => Self::Unknown,
        }
    }
}

/// ConsumerGroupRegularExpressionValue.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ExpressionValue {
    /// The topics that it matched.
    pub topics: BTreeSet<String>,
    /// The version of the image that it was matched against.
    pub version: i64,
    /// When it was matched.
    pub timestamp_ms: i64,
}

impl ConsumerRecord {
    /// The group that it belongs to.
    pub fn group(&self) -> &Arc<str> {
        match self {
            Self::Group { group, .. }
            | Self::PartitionMetadata { group }
            | Self::Member { group, .. }
            | Self::Target { group, .. }
            | Self::TargetMember { group, .. }
            | Self::Current { group, .. }
            | Self::Expression { group, .. } => group,
        }
    }

    /// Whether it deletes what its key names.
    pub fn is_tombstone(&self) -> bool {
        match self {
            Self::Group { value, .. } => value.is_none(),
            Self::PartitionMetadata { .. } => true,
            Self::Member { value, .. } => value.is_none(),
            Self::Target { value, .. } => value.is_none(),
            Self::TargetMember { value, .. } => value.is_none(),
            Self::Current { value, .. } => value.is_none(),
            Self::Expression { value, .. } => value.is_none(),
        }
    }

    /// Key and value as they lie in the log.
    pub fn encode(&self) -> Encoded {
        Encoded {
            key: self.encode_key(),
            value: self.encode_value(),
        }
    }

    fn encode_key(&self) -> Bytes {
        let (kind, second) = match self {
            Self::Group { .. } => (GROUP, None),
            Self::PartitionMetadata { .. } => (PARTITIONS, None),
            Self::Member { member, .. } => (MEMBER, Some(member)),
            Self::Target { .. } => (TARGET, None),
            Self::TargetMember { member, .. } => (TARGET_MEMBER, Some(member)),
            Self::Current { member, .. } => (CURRENT, Some(member)),
            Self::Expression { expression, .. } => (EXPRESSION, Some(expression)),
        };
        let mut writer = Writer::versioned(kind);
        writer.string(self.group());
        if let Some(second) = second {
            writer.string(second);
        }
        writer.finish()
    }

    fn encode_value(&self) -> Option<Bytes> {
        let mut writer = Writer::versioned(VALUE_VERSION);
        match self {
            Self::PartitionMetadata { .. } => return None,
            Self::Group { value, .. } => value.as_ref()?.write(&mut writer),
            Self::Member { value, .. } => value.as_ref()?.write(&mut writer),
            Self::Target { value, .. } => {
                writer.i32((*value)?);
                writer.tagged(&[]);
            }
            Self::TargetMember { value, .. } => {
                write_partitions(&mut writer, value.as_ref()?);
                writer.tagged(&[]);
            }
            Self::Current { value, .. } => value.as_ref()?.write(&mut writer),
            Self::Expression { value, .. } => value.as_ref()?.write(&mut writer),
        }
        Some(writer.finish())
    }

    /// The record of a key, whose kind has been read, and of a value.
    pub(super) fn decode(
        kind: i16,
        key: &mut Reader<'_>,
        value: Option<&[u8]>,
    ) -> Result<Self, RecordError> {
        if !matches!(kind, GROUP..=CURRENT | EXPRESSION) {
            return Err(RecordError::UnknownKind(kind));
        }
        let group: Arc<str> = key.string()?.into();
        let mut second = || Ok::<Arc<str>, RecordError>(key.string()?.into());
        let record = match kind {
            GROUP => Self::Group {
                group,
                value: read(value, GroupValue::read)?,
            },
            // Its fields mean nothing any more: what Kafka 4.0 wrote reads as what deletes it.
            PARTITIONS => Self::PartitionMetadata { group },
            MEMBER => Self::Member {
                group,
                member: second()?,
                value: read(value, MemberValue::read)?,
            },
            TARGET => Self::Target {
                group,
                value: read(value, read_target)?,
            },
            TARGET_MEMBER => Self::TargetMember {
                group,
                member: second()?,
                value: read(value, read_target_member)?,
            },
            CURRENT => Self::Current {
                group,
                member: second()?,
                value: read(value, CurrentValue::read)?,
            },
            _ => Self::Expression {
                group,
                expression: second()?,
                value: read(value, ExpressionValue::read)?,
            },
        };
        key.finish()?;
        Ok(record)
    }
}

/// Reads a value, if there is one: version, fields, and nothing after them.
fn read<T>(
    value: Option<&[u8]>,
    fields: impl FnOnce(&mut Reader<'_>) -> Result<T, RecordError>,
) -> Result<Option<T>, RecordError> {
    let Some(value) = value else { return Ok(None) };
    let mut reader = Reader::new(value);
    match reader.i16()? {
        VALUE_VERSION => {}
        other => return Err(RecordError::UnknownVersion(other)),
    }
    let value = fields(&mut reader)?;
    reader.finish()?;
    Ok(Some(value))
}

fn read_target(reader: &mut Reader<'_>) -> Result<i32, RecordError> {
    let epoch = reader.i32()?;
    reader.skip_tagged()?;
    Ok(epoch)
}

fn read_target_member(reader: &mut Reader<'_>) -> Result<Partitions, RecordError> {
    let partitions = read_partitions(reader)?;
    reader.skip_tagged()?;
    Ok(partitions)
}

impl GroupValue {
    fn write(&self, writer: &mut Writer) {
        writer.i32(self.epoch);
        match self.metadata_hash {
            0 => writer.tagged(&[]),
            hash => writer.tagged(&[(0, Bytes::copy_from_slice(&hash.to_be_bytes()))]),
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        let epoch = reader.i32()?;
        let mut metadata_hash = 0;
        reader.tagged(|tag, content| {
            if tag == 0 {
                metadata_hash = content.i64()?;
            }
            Ok(())
        })?;
        Ok(Self {
            epoch,
            metadata_hash,
        })
    }
}

impl MemberValue {
    fn write(&self, writer: &mut Writer) {
        writer.compact_nullable_string(self.instance_id.as_deref());
        writer.compact_nullable_string(self.rack_id.as_deref());
        writer.compact_string(&self.client_id);
        writer.compact_string(&self.client_host);
        write_names(writer, &self.topic_names);
        writer.compact_nullable_string(self.topic_regex.as_deref());
        writer.i32(self.rebalance_timeout_ms);
        writer.compact_nullable_string(self.server_assignor.as_deref());
        let classic = self.classic.as_ref().map(|classic| {
            // A nullable struct in a tagged field has a 1 before it.
            let mut content = Writer::default();
            content.unsigned_varint(1);
            classic.write(&mut content);
            (0, content.finish())
        });
        writer.tagged(classic.as_slice());
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        let mut value = Self {
            instance_id: reader.compact_nullable_string()?,
            rack_id: reader.compact_nullable_string()?,
            client_id: reader.compact_string()?,
            client_host: reader.compact_string()?,
            topic_names: read_names(reader)?,
            topic_regex: reader.compact_nullable_string()?,
            rebalance_timeout_ms: reader.i32()?,
            server_assignor: reader.compact_nullable_string()?,
            classic: None,
        };
        reader.tagged(|tag, content| {
            if tag == 0 && content.unsigned_varint()? != 0 {
                value.classic = Some(ClassicValue::read(content)?);
            }
            Ok(())
        })?;
        Ok(value)
    }
}

impl ClassicValue {
    fn write(&self, writer: &mut Writer) {
        writer.i32(self.session_timeout_ms);
        writer.compact_count(self.protocols.len());
        for (name, metadata) in &self.protocols {
            writer.compact_string(name);
            writer.compact_bytes(metadata);
            writer.tagged(&[]);
        }
        writer.tagged(&[]);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        let session_timeout_ms = reader.i32()?;
        let mut protocols = Vec::new();
        for _ in 0..reader.compact_count()? {
            let name = reader.compact_string()?;
            protocols.push((name, reader.compact_bytes()?));
            reader.skip_tagged()?;
        }
        reader.skip_tagged()?;
        Ok(Self {
            session_timeout_ms,
            protocols,
        })
    }
}

impl CurrentValue {
    fn write(&self, writer: &mut Writer) {
        writer.i32(self.epoch);
        writer.i32(self.previous_epoch);
        writer.i8(self.state.code());
        write_partitions(writer, &self.assigned);
        write_partitions(writer, &self.revoking);
        writer.tagged(&[]);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        let value = Self {
            epoch: reader.i32()?,
            previous_epoch: reader.i32()?,
            state: MemberState::of_code(reader.i8()?),
            assigned: read_partitions(reader)?,
            revoking: read_partitions(reader)?,
        };
        reader.skip_tagged()?;
        Ok(value)
    }
}

impl ExpressionValue {
    fn write(&self, writer: &mut Writer) {
        write_names(writer, &self.topics);
        writer.i64(self.version);
        writer.i64(self.timestamp_ms);
        writer.tagged(&[]);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        let value = Self {
            topics: read_names(reader)?,
            version: reader.i64()?,
            timestamp_ms: reader.i64()?,
        };
        reader.skip_tagged()?;
        Ok(value)
    }
}

fn write_names(writer: &mut Writer, names: &BTreeSet<String>) {
    writer.compact_count(names.len());
    names.iter().for_each(|name| writer.compact_string(name));
}

fn read_names(reader: &mut Reader<'_>) -> Result<BTreeSet<String>, RecordError> {
    let length = reader.compact_count()?;
    (0..length).map(|_| reader.compact_string()).collect()
}

fn write_partitions(writer: &mut Writer, partitions: &Partitions) {
    writer.compact_count(partitions.len());
    for (topic, partitions) in partitions {
        writer.uuid(*topic);
        writer.compact_count(partitions.len());
        partitions
            .iter()
            .for_each(|&partition| writer.i32(partition));
        writer.tagged(&[]);
    }
}

fn read_partitions(reader: &mut Reader<'_>) -> Result<Partitions, RecordError> {
    let mut all = Partitions::new();
    for _ in 0..reader.compact_count()? {
        let topic = reader.uuid()?;
        let length = reader.compact_count()?;
        for _ in 0..length {
            all.entry(topic).or_default().insert(reader.i32()?);
        }
        reader.skip_tagged()?;
    }
    Ok(all)
}
