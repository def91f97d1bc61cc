//! What groups answer. The structs are named as in Kafka's API and hold what its responses hold.

use bytes::Bytes;

use crate::command::{FetchTopic, OwnedTopic};
use crate::error::GroupError;
use crate::uuid::Uuid;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// JoinGroup.
    JoinGroup(Joined),
    /// SyncGroup.
    SyncGroup(SyncGroupResponse),
    /// Heartbeat.
    Heartbeat(Result<(), GroupError>),
    /// LeaveGroup.
    LeaveGroup(LeaveGroupResponse),
    /// OffsetCommit: by topic, in the order of the request.
    OffsetCommit(Vec<TopicOutcome>),
    /// OffsetFetch.
    OffsetFetch(OffsetFetchResponse),
    /// OffsetDelete: by topic, or why not at all.
    OffsetDelete(Result<Vec<TopicOutcome>, GroupError>),
    /// ListGroups, by id.
    ListGroups(Vec<ListedGroup>),
    /// DescribeGroups, in the order of the request.
    DescribeGroups(Vec<DescribedGroup>),
    /// DeleteGroups, in the order of the request.
    DeleteGroups(Vec<DeletedGroup>),
    /// ConsumerGroupHeartbeat.
    ConsumerGroupHeartbeat(ConsumerGroupHeartbeatResponse),
    /// ConsumerGroupDescribe, in the order of the request.
    ConsumerGroupDescribe(Vec<ConsumerGroupDescription>),
    /// To what has no answer of its own.
    Done,
}

/// JoinGroup's answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Joined {
    /// Why not.
    pub error: Option<GroupError>,
    /// The generation that the member is in; -1 with an error.
    pub generation_id: i32,
    /// `None` with most errors.
    pub protocol_type: Option<String>,
    /// The protocol that all members support; `None` with an error (an empty string before v7).
    pub protocol_name: Option<String>,
    /// The leader's member id.
    pub leader: String,
    /// The leader need not assign anything: nothing changed (v9 and later).
    pub skip_assignment: bool,
    /// The member's id: what it came with, or what it must use from now on.
    pub member_id: String,
    /// For the leader: all members.
    pub members: Vec<JoinedMember>,
}

/// What the leader learns of a member.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JoinedMember {
    /// The member.
    pub member_id: String,
    /// The id of a static member.
    pub group_instance_id: Option<String>,
    /// Its metadata for the chosen protocol.
    pub metadata: Bytes,
}

/// SyncGroup's answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyncGroupResponse {
    /// Why not.
    pub error: Option<GroupError>,
    /// The group's; `None` with an error.
    pub protocol_type: Option<String>,
    /// The group's; `None` with an error.
    pub protocol_name: Option<String>,
    /// What the member gets.
    pub assignment: Bytes,
}

/// LeaveGroup's answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaveGroupResponse {
    /// Why nobody could leave.
    pub error: Option<GroupError>,
    /// By member, in the order of the request; before v3 the one member's error is the request's.
    pub members: Vec<LeftMember>,
}

/// A member that left or could not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftMember {
    /// As it was asked.
    pub member_id: String,
    /// As it was asked.
    pub group_instance_id: Option<String>,
    /// Why not.
    pub error: Option<GroupError>,
}

/// What became of partitions of a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicOutcome {
    /// The topic.
    pub name: String,
    /// Its id, as it was asked.
    pub id: Uuid,
    /// By partition, in the order of the request.
    pub partitions: Vec<PartitionOutcome>,
}

/// What became of a partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartitionOutcome {
    /// The partition.
    pub partition: i32,
    /// Why not.
    pub error: Option<GroupError>,
}

/// OffsetFetch's answer, of one group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OffsetFetchResponse {
    /// The group.
    pub group_id: String,
    /// Why not at all.
    pub error: Option<GroupError>,
    /// In the order of the request, or by name when all were asked for.
    pub topics: Vec<CommittedTopic>,
}

/// The offsets of a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommittedTopic {
    /// The topic.
    pub name: String,
    /// Its id, as it was asked.
    pub id: Uuid,
    /// By partition.
    pub partitions: Vec<CommittedOffset>,
}

/// A committed offset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The partition.
    pub partition: i32,
    /// -1: none.
    pub offset: i64,
    /// -1: not known.
    pub leader_epoch: i32,
    /// What was committed with it.
    pub metadata: String,
    /// Why not.
    pub error: Option<GroupError>,
}

/// A group in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedGroup {
    /// The group.
    pub group_id: String,
    /// Empty for a group of offsets only.
    pub protocol_type: String,
    /// As Kafka names it.
    pub state: &'static str,
    /// `Classic` or `Consumer`.
    pub kind: &'static str,
}

/// DescribeGroups' answer for a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DescribedGroup {
    /// The group.
    pub group_id: String,
    /// Why not (GROUP_ID_NOT_FOUND from v6 on; before, state `Dead` without an error).
    pub error: Option<GroupError>,
    /// As Kafka names it.
    pub state: &'static str,
    /// `consumer`, `connect` and so on.
    pub protocol_type: String,
    /// The protocol, in state `Stable`.
    pub protocol: String,
    /// By id.
    pub members: Vec<DescribedMember>,
}

/// A member of a classic group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DescribedMember {
    /// Its id.
    pub member_id: String,
    /// The id of a static member.
    pub group_instance_id: Option<String>,
    /// Its client id.
    pub client_id: String,
    /// Its address.
    pub client_host: String,
    /// Its metadata for the chosen protocol, in state `Stable`.
    pub metadata: Bytes,
    /// What it got, in state `Stable`.
    pub assignment: Bytes,
}

/// DeleteGroups' answer for a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeletedGroup {
    /// The group.
    pub group_id: String,
    /// Why not.
    pub error: Option<GroupError>,
}

/// ConsumerGroupHeartbeat's answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConsumerGroupHeartbeatResponse {
    /// Why not.
    pub error: Option<GroupError>,
    /// The same, for people.
    pub error_message: Option<String>,
    /// The member.
    pub member_id: Option<String>,
    /// Its epoch from now on.
    pub member_epoch: i32,
    /// How long to the next heartbeat.
    pub heartbeat_interval_ms: i32,
    /// What it shall own; `None`: unchanged.
    pub assignment: Option<Vec<OwnedTopic>>,
}

/// ConsumerGroupDescribe's answer for a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConsumerGroupDescription {
    /// The group.
    pub group_id: String,
    /// Why not.
    pub error: Option<GroupError>,
    /// The same, for people.
    pub error_message: Option<String>,
    /// As Kafka names it.
    pub state: &'static str,
    /// The group's epoch.
    pub group_epoch: i32,
    /// The epoch of the target assignment.
    pub assignment_epoch: i32,
    /// The assignor.
    pub assignor_name: String,
    /// By id.
    pub members: Vec<ConsumerMember>,
}

/// A member of a consumer group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConsumerMember {
    /// Its id.
    pub member_id: String,
    /// The id of a static member.
    pub instance_id: Option<String>,
    /// Its rack.
    pub rack_id: Option<String>,
    /// Its epoch.
    pub member_epoch: i32,
    /// Its client id.
    pub client_id: String,
    /// Its address.
    pub client_host: String,
    /// The topics it reads.
    pub subscribed_topic_names: Vec<String>,
    /// The pattern of topics it reads.
    pub subscribed_topic_regex: Option<String>,
    /// What it owns.
    pub assignment: ConsumerAssignment,
    /// What it shall own.
    pub target_assignment: ConsumerAssignment,
    /// Whether it speaks the classic protocol: 0 classic, 1 consumer (v1 and later).
    pub member_type: i8,
}

/// Partitions of topics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConsumerAssignment {
    /// By topic.
    pub topics: Vec<TopicPartitions>,
}

/// Partitions of a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicPartitions {
    /// The topic's id.
    pub topic_id: Uuid,
    /// The topic's name.
    pub name: String,
    /// The partitions.
    pub partitions: Vec<i32>,
}

impl Joined {
    /// The answer that a member gets which cannot join.
    #[must_use]
    pub fn refused(member_id: &str, error: GroupError) -> Self {
        Self {
            error: Some(error),
            generation_id: -1,
            member_id: member_id.to_owned(),
            ..Self::default()
        }
    }
}

impl SyncGroupResponse {
    /// The answer without an assignment.
    #[must_use]
    pub fn refused(error: GroupError) -> Self {
        Self {
            error: Some(error),
            ..Self::default()
        }
    }
}

impl TopicOutcome {
    /// The same error for all partitions of a topic.
    #[must_use]
    pub fn refused(topic: &FetchTopic, error: GroupError) -> Self {
        let outcome = |&partition| PartitionOutcome {
            partition,
            error: Some(error),
        };
        Self {
            name: topic.name.clone(),
            id: topic.id,
            partitions: topic.partitions.iter().map(outcome).collect(),
        }
    }
}
