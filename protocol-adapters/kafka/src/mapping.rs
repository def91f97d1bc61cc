//! Kafka's terms and the broker's: errors, identifiers, the partitions that requests name. Pure.
//!
//! [`error_code`], [`append_error_code`], [`coordinator_error_code`] and [`group_error_code`] are the
//! only places where an error of the broker becomes one of Kafka's. They name every variant, so that a new one does not compile until it is mapped,
//! and never answer `UNKNOWN_SERVER_ERROR`.

use broker::catalogue::{Catalogue, Node, PartitionStatus, Topic};
use broker::groups::GroupError;
use broker::{AppendError, BrokerError, CoordinatorError};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{BrokerId, TopicName};
use kafka_protocol::protocol::StrBytes;
use storage::{LeaderEpoch, NodeId, PartitionId, TopicId};

/// Where an error is told. Clients understand different codes in different answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Surface {
    /// About a partition: produce, list offsets, delete records.
    Partition,
    /// About a partition of a fetch. Consumers know few codes there and fail on any other.
    Fetch,
    /// About topics and configs, which the controller answers for.
    Controller,
    /// About a producer id.
    ProducerId,
    /// About the election of a partition's leader.
    Election,
    /// About the replicas that a partition shall have.
    Reassignment,
}

/// The one map from the broker's errors to Kafka's.
pub(crate) fn error_code(error: &BrokerError, surface: Surface) -> ResponseError {
    use {BrokerError as E, ResponseError as Code};
    match error {
        E::UnknownTopicOrPartition => Code::UnknownTopicOrPartition,
        E::UnknownTopicId => Code::UnknownTopicId,
        E::NotLeader { .. } | E::ShuttingDown => match surface {
            Surface::Partition | Surface::Fetch => Code::NotLeaderOrFollower,
            Surface::Controller | Surface::Election | Surface::Reassignment => Code::NotController,
            Surface::ProducerId => Code::CoordinatorLoadInProgress,
        },
        E::LeaderNotAvailable => match surface {
            Surface::Partition => Code::LeaderNotAvailable,
            Surface::Fetch => Code::NotLeaderOrFollower,
            Surface::Controller | Surface::Reassignment => Code::NotController,
            Surface::Election => Code::EligibleLeadersNotAvailable,
            Surface::ProducerId => Code::CoordinatorLoadInProgress,
        },
        E::FencedLeaderEpoch { .. } => Code::FencedLeaderEpoch,
        E::UnknownLeaderEpoch { .. } => Code::UnknownLeaderEpoch,
        E::OffsetOutOfRange { .. } => Code::OffsetOutOfRange,
        E::OffsetNotAvailable { .. } => Code::OffsetNotAvailable,
        E::Storage { .. } | E::DiskFull => Code::KafkaStorageError,
        E::NotEnoughReplicas { .. } => Code::NotEnoughReplicas,
        E::NotEnoughReplicasAfterAppend { .. } => Code::NotEnoughReplicasAfterAppend,
        E::TimedOut { .. } => match surface {
            Surface::Partition
            | Surface::Controller
            | Surface::Election
            | Surface::Reassignment => Code::RequestTimedOut,
            Surface::Fetch => Code::OffsetNotAvailable,
            Surface::ProducerId => Code::CoordinatorLoadInProgress,
        },
        E::TopicExists => Code::TopicAlreadyExists,
        E::InvalidTopic { .. } => Code::InvalidTopicException,
        E::InvalidPartitions { .. } => Code::InvalidPartitions,
        E::InvalidReplicationFactor { .. } => Code::InvalidReplicationFactor,
        E::InvalidReplicaAssignment { .. } => Code::InvalidReplicaAssignment,
        E::InvalidConfig { .. } => Code::InvalidConfig,
        E::InvalidRequest { .. } => Code::InvalidRequest,
        E::PolicyViolation { .. } => match surface {
            // Too many fetches wait already: the consumer is to come again.
            Surface::Fetch => Code::OffsetNotAvailable,
            _ => Code::PolicyViolation,
        },
        E::UnknownNode { .. } => match surface {
            Surface::Reassignment => Code::InvalidReplicaAssignment,
            _ => Code::BrokerIdNotRegistered,
        },
        E::Conflict { .. } => match surface {
            Surface::Fetch => Code::OffsetNotAvailable,
            Surface::Election => Code::PreferredLeaderNotAvailable,
            Surface::Reassignment => Code::ReassignmentInProgress,
            Surface::Partition | Surface::Controller | Surface::ProducerId => Code::InvalidRequest,
        },
    }
}

/// The one map from refused batches to Kafka's errors.
pub(crate) fn append_error_code(error: &AppendError) -> ResponseError {
    use {AppendError as E, ResponseError as Code};
    match error {
        E::Broker(error) => error_code(error, Surface::Partition),
        E::Corrupt(_) => Code::CorruptMessage,
        // As Kafka: formats before v2 are records that this version of Produce does not allow.
        E::InvalidRecord { .. } | E::UnsupportedFormat { .. } => Code::InvalidRecord,
        E::InvalidTimestamp { .. } => Code::InvalidTimestamp,
        E::UnsupportedCompression => Code::UnsupportedCompressionType,
        E::TooLarge { .. } => Code::MessageTooLarge,
        E::OutOfOrderSequence { .. } => Code::OutOfOrderSequenceNumber,
        E::DuplicateSequence { .. } => Code::DuplicateSequenceNumber,
        E::InvalidProducerEpoch { .. } => Code::InvalidProducerEpoch,
    }
}

/// The one map from coordinators that do not answer to Kafka's errors. All of them are such that
/// clients try again, here or at the coordinator that they look for anew.
pub(crate) fn coordinator_error_code(error: &CoordinatorError) -> ResponseError {
    use {CoordinatorError as E, ResponseError as Code};
    match error {
        // Whether a command was carried out before its coordinator went is not known; clients
        // repeat what they asked for after this code as after any other.
        E::NotCoordinator | E::Resigned | E::ShuttingDown => Code::NotCoordinator,
        E::LoadInProgress => Code::CoordinatorLoadInProgress,
        E::NotAvailable => Code::CoordinatorNotAvailable,
    }
}

/// Kafka's number of what groups answer; 0 for no error. They name their errors as Kafka does.
pub(crate) fn group_error_code(error: Option<GroupError>) -> i16 {
    error.map_or(0, GroupError::code)
}

/// How a request names a topic: by name, or by id in newer versions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum TopicKey {
    /// By name.
    Name(TopicName),
    /// By id.
    Id(TopicId),
}

/// The topic that a request names.
pub(crate) fn find_topic<'a>(
    catalogue: &'a Catalogue,
    key: &TopicKey,
) -> Result<&'a Topic, ResponseError> {
    match key {
        TopicKey::Name(name) => catalogue
            .topics
            .get(name.as_str())
            .map(AsRef::as_ref)
            .ok_or(ResponseError::UnknownTopicOrPartition),
        TopicKey::Id(id) => catalogue
            .topic_by_id(*id)
            .map(AsRef::as_ref)
            .ok_or(ResponseError::UnknownTopicId),
    }
}

/// The partition that a request names.
pub(crate) fn find_partition(
    catalogue: &Catalogue,
    key: &TopicKey,
    index: i32,
) -> Result<PartitionId, ResponseError> {
    find_topic(catalogue, key)?
        .partition(index)
        .ok_or(ResponseError::UnknownTopicOrPartition)
}

/// Kafka's -1 (and anything below) says that the client knows no epoch.
pub(crate) fn known_epoch(epoch: i32) -> Option<LeaderEpoch> {
    (epoch >= 0).then_some(LeaderEpoch(epoch))
}

/// A partition's number as it stands on the wire.
pub(crate) fn partition_index(index: u32) -> i32 {
    i32::try_from(index).expect("partition numbers fit 31 bits")
}

/// A node's id as Kafka's broker id.
pub(crate) fn broker_id(node: NodeId) -> BrokerId {
    BrokerId(i32::try_from(node.0).expect("node ids fit 31 bits"))
}

/// A broker id from the wire; a negative one names no node.
pub(crate) fn node_id(broker: BrokerId) -> Option<NodeId> {
    u32::try_from(broker.0).ok().map(NodeId)
}

/// A topic id as the protocol crate has it (its `Uuid`, a type this crate has no name for).
pub(crate) fn wire_topic_id<U: TryFrom<Vec<u8>>>(id: TopicId) -> U {
    wire_uuid(id.0)
}

/// Sixteen bytes as the protocol crate has them.
pub(crate) fn wire_uuid<U: TryFrom<Vec<u8>>>(bytes: [u8; 16]) -> U {
    match U::try_from(bytes.to_vec()) {
        Ok(uuid) => uuid,
        Err(_) => unreachable!("16 bytes are a UUID"),
    }
}

/// A string for an answer.
pub(crate) fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

/// A topic's name for an answer.
pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// Every operation on a topic, as the bits of Kafka's `AclOperation`: READ, WRITE, CREATE, DELETE,
/// ALTER, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS. Nothing is forbidden to anybody yet.
pub(crate) const TOPIC_OPERATIONS: i32 =
    1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11;
/// Every operation on the cluster: CREATE, ALTER, DESCRIBE, CLUSTER_ACTION, DESCRIBE_CONFIGS,
/// ALTER_CONFIGS, IDEMPOTENT_WRITE.
pub(crate) const CLUSTER_OPERATIONS: i32 =
    1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;
/// Every operation on a group: READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS.
pub(crate) const GROUP_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;
/// Kafka's way to say that operations were not asked for.
pub(crate) const OPERATIONS_NOT_ASKED: i32 = i32::MIN;

/// A node as clients reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// The node.
    pub(crate) id: BrokerId,
    /// Host name or address.
    pub(crate) host: StrBytes,
    /// Port.
    pub(crate) port: i32,
    /// Its rack.
    pub(crate) rack: Option<StrBytes>,
}

/// Where clients reach this node, when it has that listener.
pub(crate) fn endpoint(node: &Node, listener: &str) -> Option<Endpoint> {
    let (host, port) = node.listeners.get(listener)?;
    Some(Endpoint {
        id: broker_id(node.id),
        host: text(host.as_str()),
        port: i32::from(*port),
        rack: node.rack.as_deref().map(text),
    })
}

/// A partition as Metadata and DescribeTopicPartitions tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartitionPicture {
    /// 0 when there is a leader that clients can reach.
    pub(crate) error_code: i16,
    /// -1 while there is none.
    pub(crate) leader_id: BrokerId,
    /// -1 while it is not known.
    pub(crate) leader_epoch: i32,
    /// All replicas.
    pub(crate) replicas: Vec<BrokerId>,
    /// Those in sync.
    pub(crate) in_sync: Vec<BrokerId>,
    /// Those whose node is down.
    pub(crate) offline: Vec<BrokerId>,
}

/// How a partition is told to clients of this listener.
pub(crate) fn picture(
    catalogue: &Catalogue,
    listener: &str,
    status: Option<&PartitionStatus>,
) -> PartitionPicture {
    let Some(status) = status else {
        return PartitionPicture {
            error_code: ResponseError::LeaderNotAvailable.code(),
            leader_id: BrokerId(-1),
            leader_epoch: -1,
            replicas: Vec::new(),
            in_sync: Vec::new(),
            offline: Vec::new(),
        };
    };
    let ids = |nodes: &[NodeId]| nodes.iter().copied().map(broker_id).collect();
    let (error_code, leader_id) = match status.leader {
        None => (ResponseError::LeaderNotAvailable.code(), BrokerId(-1)),
        Some(leader) => match catalogue.nodes.get(&leader) {
            None => (ResponseError::LeaderNotAvailable.code(), BrokerId(-1)),
            Some(node) if !node.listeners.contains_key(listener) => {
                (ResponseError::ListenerNotFound.code(), BrokerId(-1))
            }
            Some(_) => (0, broker_id(leader)),
        },
    };
    PartitionPicture {
        error_code,
        leader_id,
        leader_epoch: status.leader_epoch.0,
        replicas: ids(&status.replicas),
        in_sync: ids(&status.in_sync),
        offline: ids(&status.offline),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use broker::catalogue::{NodeState, PartitionEntry};
    use storage::{Offset, ShardId};

    use super::*;

    const ALL: [Surface; 6] = [
        Surface::Partition,
        Surface::Fetch,
        Surface::Controller,
        Surface::ProducerId,
        Surface::Election,
        Surface::Reassignment,
    ];

    fn every_error() -> Vec<BrokerError> {
        let reason = || "because".to_owned();
        let (requested, current) = (LeaderEpoch(1), LeaderEpoch(2));
        vec![
            BrokerError::UnknownTopicOrPartition,
            BrokerError::UnknownTopicId,
            BrokerError::NotLeader { leader: None },
            BrokerError::LeaderNotAvailable,
            BrokerError::FencedLeaderEpoch { requested, current },
            BrokerError::UnknownLeaderEpoch { requested, current },
            BrokerError::OffsetOutOfRange {
                requested: Offset(9),
                start: Offset(0),
                end: Offset(1),
            },
            BrokerError::OffsetNotAvailable {
                requested: Offset(9),
                end: Offset(1),
            },
            BrokerError::Storage { reason: reason() },
            BrokerError::DiskFull,
            BrokerError::NotEnoughReplicas {
                alive: 1,
                required: 2,
            },
            BrokerError::NotEnoughReplicasAfterAppend {
                in_sync: 1,
                required: 2,
            },
            BrokerError::TimedOut { reason: reason() },
            BrokerError::ShuttingDown,
            BrokerError::TopicExists,
            BrokerError::InvalidTopic { reason: reason() },
            BrokerError::InvalidPartitions { reason: reason() },
            BrokerError::InvalidReplicationFactor { reason: reason() },
            BrokerError::InvalidReplicaAssignment { reason: reason() },
            BrokerError::InvalidConfig { reason: reason() },
            BrokerError::InvalidRequest { reason: reason() },
            BrokerError::PolicyViolation { reason: reason() },
            BrokerError::UnknownNode { node: NodeId(9) },
            BrokerError::Conflict { reason: reason() },
        ]
    }

    #[test]
    fn no_error_is_told_as_success_or_unknown() {
        for error in every_error() {
            for surface in ALL {
                let code = error_code(&error, surface).code();
                assert!(code > 0, "{error:?} {surface:?} {code}");
            }
        }
    }

    #[test]
    fn clients_come_again_when_a_coordinator_does_not_answer() {
        use CoordinatorError as E;
        for (error, code) in [
            (E::LoadInProgress, 14),
            (E::NotAvailable, 15),
            (E::NotCoordinator, 16),
            (E::Resigned, 16),
            (E::ShuttingDown, 16),
        ] {
            let told = coordinator_error_code(&error);
            assert_eq!(told.code(), code, "{error:?}");
            assert!(told.is_retriable(), "{error:?}");
        }
        assert_eq!(group_error_code(None), 0);
        assert_eq!(group_error_code(Some(GroupError::FencedMemberEpoch)), 110);
    }

    #[test]
    fn a_lost_leader_is_told_so_that_the_client_looks_for_the_new_one() {
        let error = BrokerError::NotLeader {
            leader: Some(NodeId(2)),
        };
        let codes = ALL.map(|surface| error_code(&error, surface).code());
        assert_eq!(codes, [6, 6, 41, 14, 41, 41]);
    }

    #[test]
    fn consumers_are_told_only_codes_that_they_know() {
        // What the Java consumer handles in a fetch; it fails on any other.
        let known = [1, 2, 3, 6, 9, 56, 74, 75, 78, 100, 103];
        for error in [
            BrokerError::UnknownTopicOrPartition,
            BrokerError::UnknownTopicId,
            BrokerError::NotLeader { leader: None },
            BrokerError::LeaderNotAvailable,
            BrokerError::ShuttingDown,
            BrokerError::DiskFull,
            BrokerError::TimedOut {
                reason: String::new(),
            },
            BrokerError::PolicyViolation {
                reason: String::new(),
            },
        ] {
            let code = error_code(&error, Surface::Fetch).code();
            assert!(known.contains(&code), "{error:?} {code}");
        }
    }

    #[test]
    fn refused_batches_have_the_codes_that_producers_act_on() {
        let codes = |error| append_error_code(&error).code();
        assert_eq!(
            codes(AppendError::TooLarge { bytes: 2, max: 1 }),
            10,
            "Java splits the batch"
        );
        assert_eq!(codes(AppendError::Corrupt(String::new())), 2);
        assert_eq!(codes(AppendError::UnsupportedFormat { magic: 1 }), 87);
        assert_eq!(codes(AppendError::UnsupportedCompression), 76);
        let out_of_order = AppendError::OutOfOrderSequence {
            producer_id: 1,
            got: 5,
            expected: 3,
        };
        assert_eq!(codes(out_of_order), 45);
        assert_eq!(
            codes(AppendError::DuplicateSequence {
                producer_id: 1,
                got: 5
            }),
            46
        );
        assert_eq!(
            codes(AppendError::InvalidProducerEpoch { got: 0, current: 1 }),
            47
        );
    }

    fn catalogue() -> Catalogue {
        let topic = Topic {
            name: "t".to_owned(),
            id: TopicId([1; 16]),
            partitions: vec![PartitionEntry::new(ShardId(1)); 2],
            config: Arc::default(),
            internal: false,
        };
        let node = |id, listener: &str| Node {
            id: NodeId(id),
            incarnation: [0; 16],
            state: NodeState::Active,
            rack: None,
            listeners: BTreeMap::from([(listener.to_owned(), ("host".to_owned(), 9092))]),
        };
        Catalogue {
            nodes: BTreeMap::from([(NodeId(1), node(1, "kafka")), (NodeId(2), node(2, "other"))]),
            names: BTreeMap::from([(topic.id, topic.name.clone())]),
            topics: BTreeMap::from([(topic.name.clone(), Arc::new(topic))]),
            ..Catalogue::default()
        }
    }

    #[test]
    fn a_stale_topic_id_and_an_unknown_name_are_told_apart() {
        let catalogue = catalogue();
        let find = |key, index| find_partition(&catalogue, &key, index).map_err(|e| e.code());
        let known = PartitionId {
            topic: TopicId([1; 16]),
            index: 1,
        };
        assert_eq!(find(TopicKey::Name(topic_name("t")), 1), Ok(known));
        assert_eq!(find(TopicKey::Id(TopicId([1; 16])), 1), Ok(known));
        assert_eq!(find(TopicKey::Name(topic_name("u")), 0), Err(3));
        assert_eq!(find(TopicKey::Id(TopicId([2; 16])), 0), Err(100));
        assert_eq!(find(TopicKey::Id(TopicId::NONE), 0), Err(100));
        assert_eq!(find(TopicKey::Id(TopicId([1; 16])), 2), Err(3));
        assert_eq!(find(TopicKey::Name(topic_name("t")), -1), Err(3));
    }

    #[test]
    fn a_leader_that_clients_cannot_reach_is_none() {
        let catalogue = catalogue();
        let status = |leader: Option<u32>| PartitionStatus {
            partition: PartitionId {
                topic: TopicId([1; 16]),
                index: 0,
            },
            leader: leader.map(NodeId),
            leader_epoch: LeaderEpoch(3),
            replicas: vec![NodeId(1), NodeId(2)],
            in_sync: vec![NodeId(1)],
            offline: vec![NodeId(2)],
        };
        let told = |leader| {
            let told = picture(&catalogue, "kafka", Some(&status(leader)));
            (told.error_code, told.leader_id.0)
        };
        assert_eq!(told(Some(1)), (0, 1));
        assert_eq!(told(Some(2)), (72, -1), "it has no such listener");
        assert_eq!(told(Some(9)), (5, -1), "it is not in the catalogue");
        assert_eq!(told(None), (5, -1));
        assert_eq!(picture(&catalogue, "kafka", None).error_code, 5);
    }

    #[test]
    fn topic_ids_keep_their_bytes() {
        let id = TopicId(std::array::from_fn(|i| u8::try_from(i).unwrap()));
        let response = kafka_protocol::messages::produce_response::TopicProduceResponse::default()
            .with_topic_id(wire_topic_id(id));
        assert_eq!(*response.topic_id.as_bytes(), id.0);
    }

    #[test]
    fn operations_are_the_bits_that_kafka_tells() {
        assert_eq!((TOPIC_OPERATIONS, CLUSTER_OPERATIONS), (3576, 8096));
    }
}
