use super::*;
use crate::catalogue::{QuotaKey, QuotaName};
use proptest::prelude::*;
use storage::{LogIndex, LogPosition, Term};

fn node(id: u32) -> Node {
    Node {
        id: NodeId(id),
        incarnation: [u8::try_from(id).expect("small"); 16],
        rack: Some("r1".to_owned()),
        listeners: BTreeMap::from([("kafka".to_owned(), ("h".to_owned(), 9092))]),
        state: NodeState::Draining,
    }
}

fn commands() -> Vec<Command> {
    let overrides = BTreeMap::from([("retention.ms".to_owned(), "5".to_owned())]);
    let entry = |shard, epoch_base| PartitionEntry {
        epoch_base,
        ..PartitionEntry::new(ShardId(shard))
    };
    vec![
        Command::Found {
            cluster_id: "abc".to_owned(),
            shards: vec![
                Shard {
                    target: Some(vec![NodeId(3)]),
                    changed: true,
                    ..Shard::new(ShardId(1), vec![NodeId(1), NodeId(2)], Factor::Fixed(2))
                },
                Shard::new(ShardId(2), vec![NodeId(1)], Factor::Auto),
            ],
            nodes: vec![node(1)],
        },
        Command::PutNode(node(3)),
        Command::CreateTopic(TopicEntry {
            name: "t".to_owned(),
            id: TopicId([7; 16]),
            partitions: vec![entry(1, 0), entry(2, -7)],
            overrides: overrides.clone(),
            internal: false,
        }),
        Command::DeleteTopic(TopicId([8; 16])),
        Command::PinShards {
            shards: vec![ShardId(1), ShardId(4)],
            replicas: 3,
        },
        Command::AddPartitions {
            topic: TopicId([9; 16]),
            from: 1,
            partitions: vec![entry(2, 5)],
        },
        Command::SetTopicConfig {
            topic: TopicId([1; 16]),
            before: Some(BTreeMap::new()),
            overrides,
        },
        Command::TakeProducerIds { count: 1000 },
        Command::Join(Joiner {
            incarnation: [4; 16],
            wanted: Some(NodeId(9)),
            rack: None,
            listeners: node(1).listeners,
        }),
        Command::SetNodeState {
            node: NodeId(2),
            state: NodeState::Draining,
        },
        Command::RemoveNode {
            node: NodeId(2),
            force: true,
        },
        Command::CreateShards {
            next: ShardId(5),
            shards: vec![NewShard {
                replicas: vec![NodeId(1)],
                factor: Factor::ByHand,
            }],
        },
        Command::SetTarget {
            shard: ShardId(1),
            before: Some(vec![NodeId(2), NodeId(3)]),
            target: Some(vec![NodeId(1)]),
            factor: Some(Factor::ByHand),
        },
        Command::SetTarget {
            shard: ShardId(1),
            before: None,
            target: None,
            factor: None,
        },
        Command::ShardChanged {
            shard: ShardId(1),
            replicas: vec![NodeId(2)],
        },
        Command::BeginMove {
            partition: PartitionId {
                topic: TopicId([5; 16]),
                index: 3,
            },
            from: 1,
            to: ShardId(2),
            last: Some(4),
        },
        Command::FinishMove {
            partition: PartitionId {
                topic: TopicId([5; 16]),
                index: 3,
            },
            generation: 2,
            epoch_base: -9,
        },
        Command::CancelMove {
            partition: PartitionId {
                topic: TopicId([5; 16]),
                index: 3,
            },
            generation: 2,
        },
        Command::Return(Comeback {
            node: NodeId(3),
            before: [1; 16],
            incarnation: [2; 16],
            keeps_incarnation: false,
            lost_all: true,
        }),
        Command::Voided {
            shard: ShardId(1),
            node: NodeId(3),
            incarnation: [2; 16],
            floor: Floor {
                term: Term(7),
                leader: NodeId(1),
                last: LogPosition {
                    term: Term(6),
                    index: LogIndex(88),
                },
            },
        },
        Command::Accept {
            node: NodeId(3),
            incarnation: [2; 16],
        },
        Command::AlterQuotas {
            entity: QuotaEntity::Client {
                user: Some(QuotaName::Default),
                client_id: Some(QuotaName::Named("c".to_owned())),
            },
            changes: QuotaChanges::from([
                (QuotaKey::ProducerByteRate, Some(1 << 40)),
                (QuotaKey::ConsumerByteRate, None),
            ]),
        },
        Command::AlterQuotas {
            entity: QuotaEntity::Address(Some([10, 0, 0, 1].into())),
            changes: QuotaChanges::from([(QuotaKey::ConnectionCreationRate, Some(5))]),
        },
        Command::SetBrokerConfigs {
            before: BTreeMap::new(),
            configs: BTreeMap::from([("log.retention.ms".to_owned(), "5".to_owned())]),
        },
    ]
}

#[test]
fn every_command_is_read_back_and_no_prefix_of_it_is() {
    for command in commands() {
        let bytes = command.encode();
        assert_eq!(Command::decode(bytes.clone()), Ok(command));
        for len in 0..bytes.len() {
            assert!(Command::decode(bytes.slice(..len)).is_err());
        }
    }
}

#[test]
fn commands_of_version_1_are_still_read() {
    let mut writer = Writer::default();
    writer.u8(1).u8(1).text("abc").count(1);
    writer.u32(4).count(1).u32(7);
    let found = Command::Found {
        cluster_id: "abc".to_owned(),
        shards: vec![Shard::new(ShardId(4), vec![NodeId(7)], Factor::Fixed(1))],
        nodes: Vec::new(),
    };
    assert_eq!(Command::decode(writer.finish()), Ok(found));
    let mut writer = Writer::default();
    writer.u8(5).u8(1).raw(&[9; 16]).u32(2).count(1).u32(3);
    let added = Command::AddPartitions {
        topic: TopicId([9; 16]),
        from: 2,
        partitions: vec![PartitionEntry::new(ShardId(3))],
    };
    assert_eq!(Command::decode(writer.finish()), Ok(added));
    let mut writer = Writer::default();
    writer.u8(14).u8(2).raw(&[9; 16]).u32(2).u32(1).u32(3);
    let begun = Command::BeginMove {
        partition: PartitionId {
            topic: TopicId([9; 16]),
            index: 2,
        },
        from: 1,
        to: ShardId(3),
        last: None,
    };
    assert_eq!(Command::decode(writer.finish()), Ok(begun));
    let newer = Bytes::from_static(&[8, 1]);
    assert!(Command::decode(newer).is_err(), "version 1 knew no joining");
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        kind in 0_u8..34,
        version in 0_u8..4,
        rest in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let mut bytes = vec![kind, version];
        bytes.extend(rest);
        let _ = Command::decode(bytes.into());
    }
}
