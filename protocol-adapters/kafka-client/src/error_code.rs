//! Kafka's error codes: their names, and which of them settle what happened.

use std::fmt;

/// An error code as it stands in an answer. 0 is no error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ErrorCode(pub i16);

impl ErrorCode {
    /// Not one this server sends.
    pub const UNKNOWN_SERVER_ERROR: ErrorCode = ErrorCode(-1);
    /// No error.
    pub const NONE: ErrorCode = ErrorCode(0);
    /// The offset does not exist (any more, or yet).
    pub const OFFSET_OUT_OF_RANGE: ErrorCode = ErrorCode(1);
    /// A batch is damaged.
    pub const CORRUPT_MESSAGE: ErrorCode = ErrorCode(2);
    /// No such topic or partition.
    pub const UNKNOWN_TOPIC_OR_PARTITION: ErrorCode = ErrorCode(3);
    /// The partition has no leader yet.
    pub const LEADER_NOT_AVAILABLE: ErrorCode = ErrorCode(5);
    /// This node does not lead the partition.
    pub const NOT_LEADER_OR_FOLLOWER: ErrorCode = ErrorCode(6);
    /// Not known whether it happened.
    pub const REQUEST_TIMED_OUT: ErrorCode = ErrorCode(7);
    /// The replica does not have it.
    pub const REPLICA_NOT_AVAILABLE: ErrorCode = ErrorCode(9);
    /// The batch is over the topic's limit.
    pub const MESSAGE_TOO_LARGE: ErrorCode = ErrorCode(10);
    /// What was to be noted beside a committed offset is too long.
    pub const OFFSET_METADATA_TOO_LARGE: ErrorCode = ErrorCode(12);
    /// Not known whether it happened.
    pub const NETWORK_EXCEPTION: ErrorCode = ErrorCode(13);
    /// The coordinator is not ready.
    pub const COORDINATOR_LOAD_IN_PROGRESS: ErrorCode = ErrorCode(14);
    /// There is no coordinator (any more): what it was asked may have happened.
    pub const COORDINATOR_NOT_AVAILABLE: ErrorCode = ErrorCode(15);
    /// This node does not coordinate the group (any more): what it was asked may have happened.
    pub const NOT_COORDINATOR: ErrorCode = ErrorCode(16);
    /// No name for a topic.
    pub const INVALID_TOPIC_EXCEPTION: ErrorCode = ErrorCode(17);
    /// Refused before it was written.
    pub const NOT_ENOUGH_REPLICAS: ErrorCode = ErrorCode(19);
    /// Written, but by fewer replicas than asked.
    pub const NOT_ENOUGH_REPLICAS_AFTER_APPEND: ErrorCode = ErrorCode(20);
    /// The group is in another generation.
    pub const ILLEGAL_GENERATION: ErrorCode = ErrorCode(22);
    /// The members have no protocol in common.
    pub const INCONSISTENT_GROUP_PROTOCOL: ErrorCode = ErrorCode(23);
    /// No name for a group.
    pub const INVALID_GROUP_ID: ErrorCode = ErrorCode(24);
    /// The group has no such member (any more).
    pub const UNKNOWN_MEMBER_ID: ErrorCode = ErrorCode(25);
    /// The session timeout is outside the server's limits.
    pub const INVALID_SESSION_TIMEOUT: ErrorCode = ErrorCode(26);
    /// The members are joining anew.
    pub const REBALANCE_IN_PROGRESS: ErrorCode = ErrorCode(27);
    /// An offset to commit does not fit into a record.
    pub const INVALID_COMMIT_OFFSET_SIZE: ErrorCode = ErrorCode(28);
    /// Not allowed on this topic.
    pub const TOPIC_AUTHORIZATION_FAILED: ErrorCode = ErrorCode(29);
    /// Not allowed on this group.
    pub const GROUP_AUTHORIZATION_FAILED: ErrorCode = ErrorCode(30);
    /// Not allowed on this cluster.
    pub const CLUSTER_AUTHORIZATION_FAILED: ErrorCode = ErrorCode(31);
    /// A timestamp is outside the topic's limits.
    pub const INVALID_TIMESTAMP: ErrorCode = ErrorCode(32);
    /// The server does not speak this version of the API.
    pub const UNSUPPORTED_VERSION: ErrorCode = ErrorCode(35);
    /// There is a topic of this name.
    pub const TOPIC_ALREADY_EXISTS: ErrorCode = ErrorCode(36);
    /// The partition count cannot be.
    pub const INVALID_PARTITIONS: ErrorCode = ErrorCode(37);
    /// The replication factor cannot be.
    pub const INVALID_REPLICATION_FACTOR: ErrorCode = ErrorCode(38);
    /// The assignment cannot be.
    pub const INVALID_REPLICA_ASSIGNMENT: ErrorCode = ErrorCode(39);
    /// A config is unknown or has a bad value.
    pub const INVALID_CONFIG: ErrorCode = ErrorCode(40);
    /// This node is not the controller.
    pub const NOT_CONTROLLER: ErrorCode = ErrorCode(41);
    /// The request contradicts itself.
    pub const INVALID_REQUEST: ErrorCode = ErrorCode(42);
    /// Not this record format.
    pub const UNSUPPORTED_FOR_MESSAGE_FORMAT: ErrorCode = ErrorCode(43);
    /// A limit of the cluster forbids it.
    pub const POLICY_VIOLATION: ErrorCode = ErrorCode(44);
    /// A producer's batch is not the next one.
    pub const OUT_OF_ORDER_SEQUENCE_NUMBER: ErrorCode = ErrorCode(45);
    /// A producer's batch was written before.
    pub const DUPLICATE_SEQUENCE_NUMBER: ErrorCode = ErrorCode(46);
    /// A newer instance of the producer exists.
    pub const INVALID_PRODUCER_EPOCH: ErrorCode = ErrorCode(47);
    /// Not allowed on this transactional id.
    pub const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: ErrorCode = ErrorCode(53);
    /// The partition's disk is damaged or full.
    pub const KAFKA_STORAGE_ERROR: ErrorCode = ErrorCode(56);
    /// Wrong credentials.
    pub const SASL_AUTHENTICATION_FAILED: ErrorCode = ErrorCode(58);
    /// The producer is not known.
    pub const UNKNOWN_PRODUCER_ID: ErrorCode = ErrorCode(59);
    /// The group has members.
    pub const NON_EMPTY_GROUP: ErrorCode = ErrorCode(68);
    /// There is no such group.
    pub const GROUP_ID_NOT_FOUND: ErrorCode = ErrorCode(69);
    /// An older leader epoch than the server knows.
    pub const FENCED_LEADER_EPOCH: ErrorCode = ErrorCode(74);
    /// A newer leader epoch than the server knows.
    pub const UNKNOWN_LEADER_EPOCH: ErrorCode = ErrorCode(75);
    /// No such codec.
    pub const UNSUPPORTED_COMPRESSION_TYPE: ErrorCode = ErrorCode(76);
    /// Clients of this listener cannot reach the leader.
    pub const LISTENER_NOT_FOUND: ErrorCode = ErrorCode(72);
    /// The offset is not known here yet.
    pub const OFFSET_NOT_AVAILABLE: ErrorCode = ErrorCode(78);
    /// Join again with the member id in the answer.
    pub const MEMBER_ID_REQUIRED: ErrorCode = ErrorCode(79);
    /// The preferred leader is not in sync.
    pub const PREFERRED_LEADER_NOT_AVAILABLE: ErrorCode = ErrorCode(80);
    /// The group takes no more members.
    pub const GROUP_MAX_SIZE_REACHED: ErrorCode = ErrorCode(81);
    /// Another member has this instance id.
    pub const FENCED_INSTANCE_ID: ErrorCode = ErrorCode(82);
    /// No replica may become leader.
    pub const ELIGIBLE_LEADERS_NOT_AVAILABLE: ErrorCode = ErrorCode(83);
    /// The preferred replica leads already.
    pub const ELECTION_NOT_NEEDED: ErrorCode = ErrorCode(84);
    /// Nothing to cancel.
    pub const NO_REASSIGNMENT_IN_PROGRESS: ErrorCode = ErrorCode(85);
    /// The group's members read the topic.
    pub const GROUP_SUBSCRIBED_TO_TOPIC: ErrorCode = ErrorCode(86);
    /// A record is against the topic's rules.
    pub const INVALID_RECORD: ErrorCode = ErrorCode(87);
    /// An open transaction has offsets of the partition.
    pub const UNSTABLE_OFFSET_COMMIT: ErrorCode = ErrorCode(88);
    /// No topic has this id.
    pub const UNKNOWN_TOPIC_ID: ErrorCode = ErrorCode(100);
    /// No node has this id.
    pub const BROKER_ID_NOT_REGISTERED: ErrorCode = ErrorCode(102);
    /// The member's epoch is not the one the group knows; it must rejoin.
    pub const FENCED_MEMBER_EPOCH: ErrorCode = ErrorCode(110);
    /// A living member has this instance id.
    pub const UNRELEASED_INSTANCE_ID: ErrorCode = ErrorCode(111);
    /// The server has no such assignor.
    pub const UNSUPPORTED_ASSIGNOR: ErrorCode = ErrorCode(112);
    /// The member's epoch is older than the group's.
    pub const STALE_MEMBER_EPOCH: ErrorCode = ErrorCode(113);
    /// No regular expression.
    pub const INVALID_REGULAR_EXPRESSION: ErrorCode = ErrorCode(128);

    /// Kafka's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES
            .iter()
            .find(|(code, _)| *code == self.0)
            .map_or("an unknown error code", |(_, name)| name)
    }

    /// Whether it says for certain that the request did not take effect.
    #[must_use]
    pub fn is_definite(self) -> bool {
        !matches!(
            self,
            ErrorCode::UNKNOWN_SERVER_ERROR
                | ErrorCode::REQUEST_TIMED_OUT
                | ErrorCode::NETWORK_EXCEPTION
                | ErrorCode::COORDINATOR_NOT_AVAILABLE
                | ErrorCode::NOT_COORDINATOR
                | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
        ) && NAMES.iter().any(|(code, _)| *code == self.0)
    }

    /// Whether it says that the partition's leader is another one, or none.
    #[must_use]
    pub fn is_about_leader(self) -> bool {
        matches!(
            self,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                | ErrorCode::LEADER_NOT_AVAILABLE
                | ErrorCode::NOT_LEADER_OR_FOLLOWER
                | ErrorCode::REPLICA_NOT_AVAILABLE
                | ErrorCode::LISTENER_NOT_FOUND
                | ErrorCode::FENCED_LEADER_EPOCH
                | ErrorCode::UNKNOWN_LEADER_EPOCH
        )
    }

    /// Whether the same request may succeed later, perhaps at another node.
    #[must_use]
    pub fn is_retriable(self) -> bool {
        self.is_about_leader()
            || matches!(
                self,
                ErrorCode::REQUEST_TIMED_OUT
                    | ErrorCode::NETWORK_EXCEPTION
                    | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
                    | ErrorCode::COORDINATOR_NOT_AVAILABLE
                    | ErrorCode::NOT_COORDINATOR
                    | ErrorCode::NOT_ENOUGH_REPLICAS
                    | ErrorCode::NOT_CONTROLLER
                    | ErrorCode::KAFKA_STORAGE_ERROR
                    | ErrorCode::OFFSET_NOT_AVAILABLE
            )
    }

    /// `Ok` for code 0, else the error.
    pub fn check(self) -> Result<(), crate::ClientError> {
        self.check_with(None)
    }

    /// `Ok` for code 0, else the error with what the server says about it.
    pub fn check_with(self, message: Option<String>) -> Result<(), crate::ClientError> {
        if self == ErrorCode::NONE {
            Ok(())
        } else {
            Err(crate::ClientError::Refused {
                code: self,
                message,
            })
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

#[rustfmt::skip]
const NAMES: &[(i16, &str)] = &[
    (0, "NONE"),
    (-1, "UNKNOWN_SERVER_ERROR"),
    (1, "OFFSET_OUT_OF_RANGE"),
    (2, "CORRUPT_MESSAGE"),
    (3, "UNKNOWN_TOPIC_OR_PARTITION"),
    (4, "INVALID_FETCH_SIZE"),
    (5, "LEADER_NOT_AVAILABLE"),
    (6, "NOT_LEADER_OR_FOLLOWER"),
    (7, "REQUEST_TIMED_OUT"),
    (8, "BROKER_NOT_AVAILABLE"),
    (10, "MESSAGE_TOO_LARGE"),
    (11, "STALE_CONTROLLER_EPOCH"),
    (12, "OFFSET_METADATA_TOO_LARGE"),
    (13, "NETWORK_EXCEPTION"),
    (14, "COORDINATOR_LOAD_IN_PROGRESS"),
    (15, "COORDINATOR_NOT_AVAILABLE"),
    (16, "NOT_COORDINATOR"),
    (17, "INVALID_TOPIC_EXCEPTION"),
    (18, "RECORD_LIST_TOO_LARGE"),
    (19, "NOT_ENOUGH_REPLICAS"),
    (20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND"),
    (21, "INVALID_REQUIRED_ACKS"),
    (22, "ILLEGAL_GENERATION"),
    (23, "INCONSISTENT_GROUP_PROTOCOL"),
    (24, "INVALID_GROUP_ID"),
    (25, "UNKNOWN_MEMBER_ID"),
    (26, "INVALID_SESSION_TIMEOUT"),
    (27, "REBALANCE_IN_PROGRESS"),
    (28, "INVALID_COMMIT_OFFSET_SIZE"),
    (29, "TOPIC_AUTHORIZATION_FAILED"),
    (30, "GROUP_AUTHORIZATION_FAILED"),
    (31, "CLUSTER_AUTHORIZATION_FAILED"),
    (32, "INVALID_TIMESTAMP"),
    (33, "UNSUPPORTED_SASL_MECHANISM"),
    (34, "ILLEGAL_SASL_STATE"),
    (35, "UNSUPPORTED_VERSION"),
    (36, "TOPIC_ALREADY_EXISTS"),
    (37, "INVALID_PARTITIONS"),
    (38, "INVALID_REPLICATION_FACTOR"),
    (39, "INVALID_REPLICA_ASSIGNMENT"),
    (40, "INVALID_CONFIG"),
    (41, "NOT_CONTROLLER"),
    (42, "INVALID_REQUEST"),
    (43, "UNSUPPORTED_FOR_MESSAGE_FORMAT"),
    (44, "POLICY_VIOLATION"),
    (45, "OUT_OF_ORDER_SEQUENCE_NUMBER"),
    (46, "DUPLICATE_SEQUENCE_NUMBER"),
    (47, "INVALID_PRODUCER_EPOCH"),
    (48, "INVALID_TXN_STATE"),
    (49, "INVALID_PRODUCER_ID_MAPPING"),
    (50, "INVALID_TRANSACTION_TIMEOUT"),
    (51, "CONCURRENT_TRANSACTIONS"),
    (52, "TRANSACTION_COORDINATOR_FENCED"),
    (53, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED"),
    (54, "SECURITY_DISABLED"),
    (55, "OPERATION_NOT_ATTEMPTED"),
    (56, "KAFKA_STORAGE_ERROR"),
    (57, "LOG_DIR_NOT_FOUND"),
    (58, "SASL_AUTHENTICATION_FAILED"),
    (59, "UNKNOWN_PRODUCER_ID"),
    (60, "REASSIGNMENT_IN_PROGRESS"),
    (61, "DELEGATION_TOKEN_AUTH_DISABLED"),
    (62, "DELEGATION_TOKEN_NOT_FOUND"),
    (63, "DELEGATION_TOKEN_OWNER_MISMATCH"),
    (64, "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED"),
    (65, "DELEGATION_TOKEN_AUTHORIZATION_FAILED"),
    (66, "DELEGATION_TOKEN_EXPIRED"),
    (67, "INVALID_PRINCIPAL_TYPE"),
    (68, "NON_EMPTY_GROUP"),
    (69, "GROUP_ID_NOT_FOUND"),
    (70, "FETCH_SESSION_ID_NOT_FOUND"),
    (71, "INVALID_FETCH_SESSION_EPOCH"),
    (72, "LISTENER_NOT_FOUND"),
    (73, "TOPIC_DELETION_DISABLED"),
    (74, "FENCED_LEADER_EPOCH"),
    (75, "UNKNOWN_LEADER_EPOCH"),
    (76, "UNSUPPORTED_COMPRESSION_TYPE"),
    (77, "STALE_BROKER_EPOCH"),
    (78, "OFFSET_NOT_AVAILABLE"),
    (79, "MEMBER_ID_REQUIRED"),
    (80, "PREFERRED_LEADER_NOT_AVAILABLE"),
    (81, "GROUP_MAX_SIZE_REACHED"),
    (82, "FENCED_INSTANCE_ID"),
    (83, "ELIGIBLE_LEADERS_NOT_AVAILABLE"),
    (84, "ELECTION_NOT_NEEDED"),
    (85, "NO_REASSIGNMENT_IN_PROGRESS"),
    (86, "GROUP_SUBSCRIBED_TO_TOPIC"),
    (87, "INVALID_RECORD"),
    (88, "UNSTABLE_OFFSET_COMMIT"),
    (89, "THROTTLING_QUOTA_EXCEEDED"),
    (90, "PRODUCER_FENCED"),
    (91, "RESOURCE_NOT_FOUND"),
    (92, "DUPLICATE_RESOURCE"),
    (93, "UNACCEPTABLE_CREDENTIAL"),
    (94, "INCONSISTENT_VOTER_SET"),
    (95, "INVALID_UPDATE_VERSION"),
    (96, "FEATURE_UPDATE_FAILED"),
    (97, "PRINCIPAL_DESERIALIZATION_FAILURE"),
    (98, "SNAPSHOT_NOT_FOUND"),
    (99, "POSITION_OUT_OF_RANGE"),
    (100, "UNKNOWN_TOPIC_ID"),
    (101, "DUPLICATE_BROKER_REGISTRATION"),
    (102, "BROKER_ID_NOT_REGISTERED"),
    (103, "INCONSISTENT_TOPIC_ID"),
    (104, "INCONSISTENT_CLUSTER_ID"),
    (105, "TRANSACTIONAL_ID_NOT_FOUND"),
    (106, "FETCH_SESSION_TOPIC_ID_ERROR"),
    (107, "INELIGIBLE_REPLICA"),
    (108, "NEW_LEADER_ELECTED"),
    (109, "OFFSET_MOVED_TO_TIERED_STORAGE"),
    (110, "FENCED_MEMBER_EPOCH"),
    (111, "UNRELEASED_INSTANCE_ID"),
    (112, "UNSUPPORTED_ASSIGNOR"),
    (113, "STALE_MEMBER_EPOCH"),
    (114, "MISMATCHED_ENDPOINT_TYPE"),
    (115, "UNSUPPORTED_ENDPOINT_TYPE"),
    (116, "UNKNOWN_CONTROLLER_ID"),
    (117, "UNKNOWN_SUBSCRIPTION_ID"),
    (118, "TELEMETRY_TOO_LARGE"),
    (119, "INVALID_REGISTRATION"),
    (120, "TRANSACTION_ABORTABLE"),
    (121, "INVALID_RECORD_STATE"),
    (124, "FENCED_STATE_EPOCH"),
    (125, "INVALID_VOTER_KEY"),
    (126, "DUPLICATE_VOTER"),
    (127, "VOTER_NOT_FOUND"),
    (128, "INVALID_REGULAR_EXPRESSION"),
    (129, "REBOOTSTRAP_REQUIRED"),
    (130, "STREAMS_INVALID_TOPOLOGY"),
    (131, "STREAMS_INVALID_TOPOLOGY_EPOCH"),
    (132, "STREAMS_TOPOLOGY_FENCED"),
    (133, "SHARE_SESSION_LIMIT_REACHED"),
];
