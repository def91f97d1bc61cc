use std::collections::BTreeMap;

use proptest::prelude::*;

use storage::{LeaderEpoch, LogId, Offset, PartitionId, TopicId};

use super::*;
use crate::moves::seal::Sealed;
use crate::partition::SealedLog;

fn requests() -> Vec<Request> {
    let nodes = |ids: &[u32]| ids.iter().copied().map(NodeId).collect::<BTreeSet<_>>();
    vec![
        Request::Discover(None),
        Request::Discover(Some(Named {
            cluster_id: "c".to_owned(),
            node: NodeId(3),
            incarnation: [7; 16],
        })),
        Request::Join(Joiner {
            incarnation: [1; 16],
            wanted: None,
            rack: Some("r".to_owned()),
            listeners: BTreeMap::from([("peers".to_owned(), ("h".to_owned(), 1))]),
        }),
        Request::Report(vec![ShardReport {
            shard: ShardId(4),
            term: 9,
            voters: nodes(&[1, 2, 3]),
            learners: nodes(&[4]),
            is_joint: true,
            in_sync: nodes(&[1]),
            catching_up: vec![CatchingUp {
                node: NodeId(4),
                bytes_left: 1 << 40,
                entries: 7,
            }],
        }]),
        Request::TransferLeader {
            shard: ShardId(1),
            to: NodeId(2),
        },
        Request::Barrier,
        Request::Return(Comeback {
            node: NodeId(3),
            before: [1; 16],
            incarnation: [2; 16],
            keeps_incarnation: false,
            lost_all: false,
        }),
        Request::Seal(SealRequest {
            shard: ShardId(3),
            log: LogId {
                partition: PartitionId {
                    topic: TopicId([2; 16]),
                    index: 9,
                },
                generation: 4,
            },
            by: 5,
            at: Offset(6),
        }),
    ]
}

fn answered<T: Answer + Clone + PartialEq + std::fmt::Debug>(answer: T) {
    let bytes = encode_answer(&Ok(answer.clone()));
    assert_eq!(decode_answer::<T>(bytes.clone()), Ok(Ok(answer)));
    for len in 0..bytes.len() {
        assert!(decode_answer::<T>(bytes.slice(..len)).is_err());
    }
}

#[test]
fn every_request_is_read_back_and_no_prefix_of_it_is() {
    for request in requests() {
        let bytes = request.encode();
        assert_eq!(Request::decode(bytes.clone()), Ok(request));
        for len in 0..bytes.len() {
            assert!(Request::decode(bytes.slice(..len)).is_err());
        }
    }
    for request in [
        Request::Propose(Bytes::from_static(b"command")),
        Request::ReadRange(Bytes::from_static(b"range")),
    ] {
        assert_eq!(Request::decode(request.encode()), Ok(request));
    }
}

#[test]
fn terms_beyond_any_leader_epoch_are_refused() {
    let report = |term| {
        Request::Report(vec![ShardReport {
            shard: ShardId(1),
            term,
            voters: BTreeSet::new(),
            learners: BTreeSet::new(),
            is_joint: false,
            in_sync: BTreeSet::new(),
            catching_up: Vec::new(),
        }])
    };
    assert!(Request::decode(report(TERM_MAX).encode()).is_ok());
    for term in [TERM_MAX + 1, u64::MAX] {
        assert!(Request::decode(report(term).encode()).is_err());
    }
}

#[test]
fn every_answer_is_read_back_and_no_prefix_of_it_is() {
    answered(());
    answered(Applied(u64::MAX));
    answered(Sealed {
        log: SealedLog {
            start: Offset(1),
            end: Offset(2),
            epoch: LeaderEpoch(3),
            producers: Bytes::from_static(b"producers"),
        },
        batches: Bytes::new(),
    });
    for standing in [
        Standing::Blank {
            wanted: Some(NodeId(4)),
            seeds: BTreeSet::from(["a:1".to_owned(), "b:2".to_owned()]),
        },
        Standing::Member {
            cluster_id: "c".to_owned(),
            node: NodeId(1),
            is_ready: true,
        },
    ] {
        answered(Discovered {
            incarnation: [5; 16],
            standing,
            refusal: Some("no".to_owned()),
        });
    }
    answered(Joined {
        cluster_id: "c".to_owned(),
        node: NodeId(4),
        members: vec![Address {
            node: NodeId(1),
            incarnation: [1; 16],
            host: "h".to_owned(),
            port: 9094,
        }],
    });
    let reason = || "why".to_owned();
    for outcome in [
        Outcome::Done,
        Outcome::ProducerIds(-1),
        Outcome::Node(NodeId(3)),
        Outcome::Shards(vec![ShardId(1), ShardId(2)]),
        Outcome::Refused(BrokerError::Conflict { reason: reason() }),
        Outcome::Refused(BrokerError::UnknownNode { node: NodeId(4) }),
        Outcome::Refused(BrokerError::NotLeader {
            leader: Some(NodeId(4)),
        }),
        Outcome::Refused(BrokerError::TimedOut { reason: reason() }),
    ] {
        answered(Proposed {
            outcome,
            applied: 12,
        });
    }
}

#[test]
fn errors_of_other_places_travel_as_text() {
    let error = BrokerError::NotEnoughReplicas {
        alive: 1,
        required: 2,
    };
    let text = error.to_string();
    let bytes = encode_answer::<()>(&Err(error));
    let storage = BrokerError::Storage { reason: text };
    assert_eq!(decode_answer::<()>(bytes), Ok(Err(storage)));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        let bytes = Bytes::from(bytes);
        let _ = Request::decode(bytes.clone());
        let _ = decode_answer::<Discovered>(bytes.clone());
        let _ = decode_answer::<Joined>(bytes.clone());
        let _ = decode_answer::<Proposed>(bytes);
    }

    #[test]
    fn arbitrary_requests_of_a_known_kind_never_panic(
        kind in 1_u8..9,
        rest in proptest::collection::vec(any::<u8>(), 0..120),
    ) {
        let mut bytes = vec![VERSION, kind];
        bytes.extend(rest);
        let _ = Request::decode(bytes.into());
    }
}
