//! Classic groups.
//!
//! ```text
//! key     i16 kind = 2 | string group
//! value   i16 version | string protocol type | i32 generation | string? protocol | string? leader
//!         | i64 time of the state (v2+) | i32 count, members
//! member  string id | string? instance id (v3+) | string client id | string client host
//!         | i32 rebalance timeout (v1+) | i32 session timeout | bytes subscription | bytes assignment
//! ```
//!
//! Version 4 is the same with compact lengths and tagged fields. Written is v3, as Kafka does.

use bytes::Bytes;

use super::RecordError;
use super::wire::{Reader, Writer};

/// A classic group, as the log knows it: at the end of its last rebalance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClassicValue {
    /// `consumer`, `connect` and so on; empty when the group never had members.
    pub protocol_type: String,
    /// Rises with each rebalance.
    pub generation: i32,
    /// The chosen protocol.
    pub protocol: Option<String>,
    /// The leader's member id.
    pub leader: Option<String>,
    /// When the group got into its state; -1: not known.
    pub current_state_timestamp_ms: i64,
    /// Its members.
    pub members: Vec<ClassicMemberValue>,
}

/// A member of a classic group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClassicMemberValue {
    /// Its id.
    pub member_id: String,
    /// The id of a static member.
    pub group_instance_id: Option<String>,
    /// Its client id.
    pub client_id: String,
    /// Its address.
    pub client_host: String,
    /// How long the group waits for it when it rebalances; -1: its session timeout.
    pub rebalance_timeout_ms: i32,
    /// How long it may be silent.
    pub session_timeout_ms: i32,
    /// Its metadata for the chosen protocol.
    pub subscription: Bytes,
    /// What it got.
    pub assignment: Bytes,
}

/// The key of a group's record.
pub(super) fn encode_key(group_id: &str) -> Bytes {
    let mut writer = Writer::versioned(2);
    writer.string(group_id);
    writer.finish()
}

impl ClassicValue {
    pub(super) fn encode(&self) -> Bytes {
        let mut writer = Writer::versioned(3);
        writer.string(&self.protocol_type);
        writer.i32(self.generation);
        writer.nullable_string(self.protocol.as_deref());
        writer.nullable_string(self.leader.as_deref());
        writer.i64(self.current_state_timestamp_ms);
        writer.count(self.members.len());
        for member in &self.members {
            writer.string(&member.member_id);
            writer.nullable_string(member.group_instance_id.as_deref());
            writer.string(&member.client_id);
            writer.string(&member.client_host);
            writer.i32(member.rebalance_timeout_ms);
            writer.i32(member.session_timeout_ms);
            writer.bytes(&member.subscription);
            writer.bytes(&member.assignment);
        }
        writer.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new(bytes);
        let version = reader.i16()?;
        let value = match version {
            0..=3 => Self::decode_rigid(&mut reader, version)?,
            4 => Self::decode_flexible(&mut reader)?,
            _ => return Err(RecordError::UnknownVersion(version)),
        };
        reader.finish()?;
        Ok(value)
    }

    fn decode_rigid(reader: &mut Reader<'_>, version: i16) -> Result<Self, RecordError> {
        let mut value = Self {
            protocol_type: reader.string()?,
            generation: reader.i32()?,
            protocol: reader.nullable_string()?,
            leader: reader.nullable_string()?,
            current_state_timestamp_ms: if version >= 2 { reader.i64()? } else { -1 },
            members: Vec::new(),
        };
        for _ in 0..reader.count()? {
            value.members.push(ClassicMemberValue {
                member_id: reader.string()?,
                group_instance_id: if version >= 3 {
                    reader.nullable_string()?
                } else {
                    None
                },
                client_id: reader.string()?,
                client_host: reader.string()?,
                rebalance_timeout_ms: if version >= 1 { reader.i32()? } else { -1 },
                session_timeout_ms: reader.i32()?,
                subscription: reader.bytes()?,
                assignment: reader.bytes()?,
            });
        }
        Ok(value)
    }

    fn decode_flexible(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        let mut value = Self {
            protocol_type: reader.compact_string()?,
            generation: reader.i32()?,
            protocol: reader.compact_nullable_string()?,
            leader: reader.compact_nullable_string()?,
            current_state_timestamp_ms: reader.i64()?,
            members: Vec::new(),
        };
        for _ in 0..reader.compact_count()? {
            value.members.push(ClassicMemberValue {
                member_id: reader.compact_string()?,
                group_instance_id: reader.compact_nullable_string()?,
                client_id: reader.compact_string()?,
                client_host: reader.compact_string()?,
                rebalance_timeout_ms: reader.i32()?,
                session_timeout_ms: reader.i32()?,
                subscription: reader.compact_bytes()?,
                assignment: reader.compact_bytes()?,
            });
            reader.skip_tagged()?;
        }
        reader.skip_tagged()?;
        Ok(value)
    }
}
