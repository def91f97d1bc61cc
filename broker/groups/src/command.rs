//! What is asked of groups. The structs are named as in Kafka's API and hold what its requests hold;
//! what differs between versions of a request is a flag. Authorization and the look-up of the
//! coordinator come before.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::uuid::Uuid;

/// A command. Each is answered with the [`crate::Response`] of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// JoinGroup.
    JoinGroup(JoinGroup),
    /// SyncGroup.
    SyncGroup(SyncGroup),
    /// Heartbeat.
    Heartbeat(Heartbeat),
    /// LeaveGroup.
    LeaveGroup(LeaveGroup),
    /// OffsetCommit.
    OffsetCommit(OffsetCommit),
    /// OffsetFetch, of one group.
    OffsetFetch(OffsetFetch),
    /// OffsetDelete.
    OffsetDelete(OffsetDelete),
    /// ListGroups.
    ListGroups(ListGroups),
    /// DescribeGroups: of these groups.
    DescribeGroups(Vec<String>),
    /// DeleteGroups: these groups.
    DeleteGroups(Vec<String>),
    /// ConsumerGroupHeartbeat.
    ConsumerGroupHeartbeat(ConsumerGroupHeartbeat),
    /// ConsumerGroupDescribe: of these groups.
    ConsumerGroupDescribe(Vec<String>),
    /// There are other topics, or other partitions, than before. Sent to every leader after each
    /// change of the context; answered with [`crate::Response::Done`].
    TopicsChanged,
    /// These topics were deleted: their offsets go. Answered with [`crate::Response::Done`].
    TopicsDeleted(Vec<String>),
}

/// Who sends a command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Client {
    /// The client id of the request's header; empty when null.
    pub id: String,
    /// The address, as Kafka writes it: `/10.0.0.1`.
    pub host: String,
}

/// A protocol that a member supports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupProtocol {
    /// Its name.
    pub name: String,
    /// The member's subscription, opaque.
    pub metadata: Bytes,
}

/// JoinGroup, key 11, versions 0-9.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JoinGroup {
    /// The group.
    pub group_id: String,
    /// Empty when the member has no id yet.
    pub member_id: String,
    /// The id of a static member (v5 and later).
    pub group_instance_id: Option<String>,
    /// Who asks.
    pub client: Client,
    /// `consumer`, `connect` and so on.
    pub protocol_type: String,
    /// The protocols that the member supports, the best first.
    pub protocols: Vec<GroupProtocol>,
    /// How long the member may be silent.
    pub session_timeout_ms: i32,
    /// How long the group waits for the member when it rebalances; -1 (v0): the session timeout.
    pub rebalance_timeout_ms: i32,
    /// The client understands MEMBER_ID_REQUIRED (v4 and later).
    pub requires_known_member_id: bool,
    /// The client understands `skip_assignment` (v9 and later).
    pub supports_skip_assignment: bool,
    /// Why the member joins, for people (v8 and later).
    pub reason: Option<String>,
    /// A value that was never used before, for a new member's id.
    pub fresh_id: Uuid,
}

/// SyncGroup, key 14, versions 0-5.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyncGroup {
    /// The group.
    pub group_id: String,
    /// The generation that the member joined.
    pub generation_id: i32,
    /// The member.
    pub member_id: String,
    /// The id of a static member (v3 and later).
    pub group_instance_id: Option<String>,
    /// The protocol type, to be compared when given (v5 and later).
    pub protocol_type: Option<String>,
    /// The protocol, to be compared when given (v5 and later).
    pub protocol_name: Option<String>,
    /// From the leader: who gets what.
    pub assignments: Vec<SyncAssignment>,
}

/// What a member gets, in the words of the members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncAssignment {
    /// The member.
    pub member_id: String,
    /// Opaque.
    pub assignment: Bytes,
}

/// Heartbeat, key 12, versions 0-4.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// The group.
    pub group_id: String,
    /// The member's generation.
    pub generation_id: i32,
    /// The member.
    pub member_id: String,
    /// The id of a static member (v3 and later).
    pub group_instance_id: Option<String>,
}

/// LeaveGroup, key 13, versions 0-5; before v3 the list has one member.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaveGroup {
    /// The group.
    pub group_id: String,
    /// Who leaves.
    pub members: Vec<LeavingMember>,
}

/// A member that leaves, or that an admin takes out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeavingMember {
    /// Its id; empty when only the instance id is known.
    pub member_id: String,
    /// The id of a static member.
    pub group_instance_id: Option<String>,
    /// Why, for people (v5 and later).
    pub reason: Option<String>,
}

/// OffsetCommit, key 8, versions 2-10.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OffsetCommit {
    /// The group.
    pub group_id: String,
    /// The generation, or the member epoch; -1: not a member.
    pub generation_id_or_member_epoch: i32,
    /// The member; empty: not a member.
    pub member_id: String,
    /// The id of a static member (v7 and later).
    pub group_instance_id: Option<String>,
    /// How long to keep the offsets (v2 to v4).
    pub retention_time_ms: Option<i64>,
    /// The client understands STALE_MEMBER_EPOCH (v9 and later).
    pub understands_member_epochs: bool,
    /// The offsets.
    pub topics: Vec<CommitTopic>,
}

/// Offsets of a topic to commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommitTopic {
    /// The topic; the adapter has looked it up when the request had only the id.
    pub name: String,
    /// Its id, when the request has it (v10 and later); zero otherwise.
    pub id: Uuid,
    /// By partition.
    pub partitions: Vec<CommitPartition>,
}

/// An offset to commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommitPartition {
    /// The partition.
    pub partition: i32,
    /// The offset of the next record to read.
    pub offset: i64,
    /// The epoch of the last record read; -1: not known.
    pub leader_epoch: i32,
    /// For the client; null is as empty.
    pub metadata: Option<String>,
}

/// OffsetFetch, key 9, versions 1-10: one group of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OffsetFetch {
    /// The group.
    pub group_id: String,
    /// Who asks (v9 and later); `None` or empty: not a member.
    pub member_id: Option<String>,
    /// Its epoch (v9 and later); -1: not a member.
    pub member_epoch: i32,
    /// The partitions; `None`: all that there are offsets of.
    pub topics: Option<Vec<FetchTopic>>,
    /// Answer UNSTABLE_OFFSET_COMMIT where an open transaction has offsets (v7 and later).
    pub require_stable: bool,
}

/// Partitions of a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FetchTopic {
    /// The topic.
    pub name: String,
    /// Its id, when the request has it (v10 and later); zero otherwise. Comes back in the answer.
    pub id: Uuid,
    /// The partitions.
    pub partitions: Vec<i32>,
}

/// OffsetDelete, key 47, version 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OffsetDelete {
    /// The group.
    pub group_id: String,
    /// What to forget.
    pub topics: Vec<FetchTopic>,
}

/// ListGroups, key 16, versions 0-5.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListGroups {
    /// The states to list, in any case (v4 and later); empty: all.
    pub states: Vec<String>,
    /// The types to list, in any case (v5 and later); empty: all.
    pub types: Vec<String>,
}

impl ListGroups {
    /// A filter of these names, however many: of those that are no name of anything one is kept, which
    /// matches nothing.
    #[must_use]
    pub fn new<'a>(
        states: impl IntoIterator<Item = &'a str>,
        types: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        const KNOWN: [&str; 9] = [
            "empty",
            "preparingrebalance",
            "completingrebalance",
            "stable",
            "assigning",
            "reconciling",
            "dead",
            "classic",
            "consumer",
        ];
        fn few<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
            let name = |name: &str| {
                let name = name.trim();
                let known = KNOWN.iter().find(|known| name.eq_ignore_ascii_case(known));
                known.copied().unwrap_or_default().to_owned()
            };
            let names: BTreeSet<String> = names.map(name).collect();
            names.into_iter().collect()
        }
        Self {
            states: few(states.into_iter()),
            types: few(types.into_iter()),
        }
    }
}

/// ConsumerGroupHeartbeat, key 68, versions 0-1.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConsumerGroupHeartbeat {
    /// The group.
    pub group_id: String,
    /// The member; empty when it joins and the coordinator shall name it (v0).
    pub member_id: String,
    /// 0: joins; -1: leaves; -2: a static member goes and will be back; else its epoch.
    pub member_epoch: i32,
    /// The id of a static member.
    pub instance_id: Option<String>,
    /// The member's rack; `None`: unchanged.
    pub rack_id: Option<String>,
    /// How long the member may take to give partitions up; -1: unchanged.
    pub rebalance_timeout_ms: i32,
    /// The topics it reads; `None`: unchanged.
    pub subscribed_topic_names: Option<Vec<String>>,
    /// The pattern of topics it reads (v1 and later); `None`: unchanged; empty: none any more.
    pub subscribed_topic_regex: Option<String>,
    /// The assignor it wants; `None`: unchanged.
    pub server_assignor: Option<String>,
    /// The partitions that it owns; `None`: unchanged.
    pub topic_partitions: Option<Vec<OwnedTopic>>,
    /// Who asks.
    pub client: Client,
    /// A value that was never used before, for a new member's id.
    pub fresh_id: Uuid,
}

/// Partitions of a topic, by its id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnedTopic {
    /// The topic.
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<i32>,
}
