//! The errors that groups answer with, and Kafka's codes for them.

use thiserror::Error;

/// Why a command on a group was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Error)]
#[repr(i16)]
pub enum GroupError {
    /// There is no such topic or partition, or the group has no offset of it.
    #[error("unknown topic or partition")]
    UnknownTopicOrPartition = 3,
    /// What the leader assigns does not fit into the record of the group.
    #[error("the assignment is larger than the log can hold")]
    MessageTooLarge = 10,
    /// The metadata of a committed offset is over the limit.
    #[error("the metadata of the offset is too large")]
    OffsetMetadataTooLarge = 12,
    /// The coordinator cannot answer now.
    #[error("the coordinator is not available")]
    CoordinatorNotAvailable = 15,
    /// This node does not lead the group's coordinator.
    #[error("not the coordinator of the group")]
    NotCoordinator = 16,
    /// The generation is not the group's.
    #[error("the generation is not the group's")]
    IllegalGeneration = 22,
    /// The member's protocols are not those of the group.
    #[error("no protocol that all members support")]
    InconsistentGroupProtocol = 23,
    /// The id of the group is empty where it must not be, or too long.
    #[error("the group's id is not valid")]
    InvalidGroupId = 24,
    /// There is no such member.
    #[error("unknown member")]
    UnknownMemberId = 25,
    /// The session timeout is not within the limits.
    #[error("the session timeout is out of range")]
    InvalidSessionTimeout = 26,
    /// The group rebalances; join again.
    #[error("the group rebalances")]
    RebalanceInProgress = 27,
    /// The group has as many offsets as it may have, or the commit is larger than one may be.
    #[error("too many committed offsets")]
    InvalidCommitOffsetSize = 28,
    /// The request's version is not enough for what the group is.
    #[error("the version of the request is not enough")]
    UnsupportedVersion = 35,
    /// The request contradicts itself or is over a limit.
    #[error("the request is not valid")]
    InvalidRequest = 42,
    /// The group has members.
    #[error("the group is not empty")]
    NonEmptyGroup = 68,
    /// There is no such group.
    #[error("there is no such group")]
    GroupIdNotFound = 69,
    /// Join again with the id that came with this answer.
    #[error("join again with the given member id")]
    MemberIdRequired = 79,
    /// The group has as many members as it may have.
    #[error("the group is full")]
    GroupMaxSizeReached = 81,
    /// Another member has this instance id now.
    #[error("another member has the instance id")]
    FencedInstanceId = 82,
    /// The group reads the topic now.
    #[error("the group is subscribed to the topic")]
    GroupSubscribedToTopic = 86,
    /// An open transaction has an offset of this partition.
    #[error("an open transaction has an offset of the partition")]
    UnstableOffsetCommit = 88,
    /// There is no topic of this id.
    #[error("unknown topic id")]
    UnknownTopicId = 100,
    /// The member's epoch is not what the coordinator gave it; it must give up everything.
    #[error("the member epoch is fenced")]
    FencedMemberEpoch = 110,
    /// The instance id is still that of a member that did not leave.
    #[error("the instance id is not released")]
    UnreleasedInstanceId = 111,
    /// There is no such assignor here.
    #[error("the assignor is not supported")]
    UnsupportedAssignor = 112,
    /// The member's epoch is an old one.
    #[error("the member epoch is stale")]
    StaleMemberEpoch = 113,
    /// The regular expression cannot be compiled.
    #[error("the regular expression is not valid")]
    InvalidRegularExpression = 128,
}

impl GroupError {
    /// Kafka's number of the error.
    #[must_use]
    pub const fn code(self) -> i16 {
        self as i16
    }
}
