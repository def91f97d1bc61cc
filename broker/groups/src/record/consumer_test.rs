//! Golden bytes made by hand from Kafka's message definitions, and round trips.

use std::collections::BTreeSet;

use coordinator::Record as _;
use proptest::prelude::*;

use super::*;
use crate::record::Record;
use crate::uuid::Uuid;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<char> = hex.chars().filter(|c| !c.is_whitespace()).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// The record is these bytes, and these bytes are the record.
fn check(record: ConsumerRecord, key: &str, value: &str) {
    let encoded = record.encode();
    assert_eq!(encoded.key, bytes(key), "key of {record:?}");
    assert_eq!(
        encoded.value.as_deref(),
        Some(&*bytes(value)),
        "value of {record:?}"
    );
    let read = Record::decode(&encoded.key, encoded.value.as_deref());
    assert_eq!(read, Ok(Record::Consumer(record)));
}

fn group() -> Arc<str> {
    "grp".into()
}

fn member() -> Arc<str> {
    "m1".into()
}

fn partitions() -> Partitions {
    Partitions::from([(
        Uuid(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
        BTreeSet::from([0, 3]),
    )])
}

const PARTITIONS_HEX: &str = "02 0102030405060708090a0b0c0d0e0f10 03 00000000 00000003 00";

#[test]
fn group_metadata_is_byte_for_byte_kafkas() {
    let value = |metadata_hash| {
        Some(GroupValue {
            epoch: 5,
            metadata_hash,
        })
    };
    let key = "0003 0003 677270";
    check(
        ConsumerRecord::Group {
            group: group(),
            value: value(0),
        },
        key,
        "0000 00000005 00",
    );
    check(
        ConsumerRecord::Group {
            group: group(),
            value: value(-2),
        },
        key,
        "0000 00000005 01 00 08 fffffffffffffffe",
    );
}

#[test]
fn member_metadata_is_byte_for_byte_kafkas() {
    let value = MemberValue {
        instance_id: None,
        rack_id: Some("r".to_owned()),
        client_id: "c".to_owned(),
        client_host: "/h".to_owned(),
        topic_names: BTreeSet::from(["b".to_owned(), "a".to_owned()]),
        topic_regex: Some(String::new()),
        rebalance_timeout_ms: 10,
        server_assignor: Some("range".to_owned()),
        classic: None,
    };
    let key = "0005 0003 677270 0002 6d31";
    let common = "0000 00 0272 0263 032f68 03 0261 0262 01 0000000a 06 72616e6765";
    check(
        ConsumerRecord::Member {
            group: group(),
            member: member(),
            value: Some(value.clone()),
        },
        key,
        &format!("{common} 00"),
    );
    let classic = Some(ClassicValue {
        session_timeout_ms: 7,
        protocols: vec![("range".to_owned(), Bytes::from_static(&[0xaa, 0xbb]))],
    });
    check(
        ConsumerRecord::Member {
            group: group(),
            member: member(),
            value: Some(MemberValue { classic, ..value }),
        },
        key,
        &format!("{common} 01 00 11 01 00000007 02 06 72616e6765 03 aabb 00 00"),
    );
}

#[test]
fn target_assignment_is_byte_for_byte_kafkas() {
    check(
        ConsumerRecord::Target {
            group: group(),
            value: Some(9),
        },
        "0006 0003 677270",
        "0000 00000009 00",
    );
    check(
        ConsumerRecord::TargetMember {
            group: group(),
            member: member(),
            value: Some(partitions()),
        },
        "0007 0003 677270 0002 6d31",
        &format!("0000 {PARTITIONS_HEX} 00"),
    );
}

#[test]
fn current_assignment_is_byte_for_byte_kafkas() {
    let value = CurrentValue {
        epoch: -2,
        previous_epoch: 4,
        state: MemberState::UnrevokedPartitions,
        assigned: partitions(),
        revoking: Partitions::new(),
    };
    check(
        ConsumerRecord::Current {
            group: group(),
            member: member(),
            value: Some(value),
        },
        "0008 0003 677270 0002 6d31",
        &format!("0000 fffffffe 00000004 01 {PARTITIONS_HEX} 01 00"),
    );
}

#[test]
fn regular_expression_is_byte_for_byte_kafkas() {
    let value = ExpressionValue {
        topics: BTreeSet::from(["foo".to_owned()]),
        version: 3,
        timestamp_ms: 256,
    };
    check(
        ConsumerRecord::Expression {
            group: group(),
            expression: "f.*".into(),
            value: Some(value),
        },
        "0010 0003 677270 0003 662e2a",
        "0000 02 04666f6f 0000000000000003 0000000000000100 00",
    );
}

#[test]
fn partition_metadata_is_only_ever_deleted() {
    let record = ConsumerRecord::PartitionMetadata { group: group() };
    let encoded = record.encode();
    assert_eq!(encoded.key, bytes("0004 0003 677270"));
    assert_eq!(encoded.value, None);
    for value in [None, Some(&bytes("0000 01 00")[..])] {
        assert_eq!(
            Record::decode(&encoded.key, value),
            Ok(Record::Consumer(record.clone()))
        );
    }
}

#[test]
fn fields_of_later_versions_are_passed_over() {
    // KIP-1263's timestamp of the target assignment, tag 0.
    let key = bytes("0006 0003 677270");
    let value = bytes("0000 00000009 01 00 08 0000000000000001");
    let record = ConsumerRecord::Target {
        group: group(),
        value: Some(9),
    };
    assert_eq!(
        Record::decode(&key, Some(&value)),
        Ok(Record::Consumer(record))
    );
    // KIP-1251's assignment epochs, tag 0 of each topic.
    let key = bytes("0007 0003 677270 0002 6d31");
    let topic = "0102030405060708090a0b0c0d0e0f10 03 00000000 00000003 01 00 05 02 00000001";
    let value = bytes(&format!("0000 02 {topic} 00"));
    let record = ConsumerRecord::TargetMember {
        group: group(),
        member: member(),
        value: Some(partitions()),
    };
    assert_eq!(
        Record::decode(&key, Some(&value)),
        Ok(Record::Consumer(record))
    );
}

#[test]
fn a_member_state_of_a_later_version_is_unknown() {
    let key = bytes("0008 0003 677270 0002 6d31");
    let value = bytes("0000 00000001 00000000 2a 01 01 00");
    let Ok(Record::Consumer(ConsumerRecord::Current {
        value: Some(value), ..
    })) = Record::decode(&key, Some(&value))
    else {
        panic!("not read");
    };
    assert_eq!(value.state, MemberState::Unknown);
}

#[test]
fn kinds_and_versions_that_are_not_known_say_so() {
    assert_eq!(
        Record::decode(&bytes("0009 0001 67"), None),
        Err(RecordError::UnknownKind(9))
    );
    assert_eq!(
        Record::decode(&bytes("0011 0001 67"), None),
        Err(RecordError::UnknownKind(17))
    );
    assert_eq!(
        Record::decode(&bytes("0003 0001 67"), Some(&bytes("0001 00000005 00"))),
        Err(RecordError::UnknownVersion(1))
    );
}

fn names() -> impl Strategy<Value = BTreeSet<String>> {
    prop::collection::btree_set("[a-z.é]{0,9}", 0..5)
}

fn some_partitions() -> impl Strategy<Value = Partitions> {
    let partitions = prop::collection::btree_set(any::<i32>(), 1..5);
    prop::collection::btree_map(any::<u128>().prop_map(Uuid), partitions, 0..4)
}

fn member_values() -> impl Strategy<Value = MemberValue> {
    let text = || prop::option::of("[a-z]{0,200}");
    let protocol = ("[a-z]{0,5}", prop::collection::vec(any::<u8>(), 0..300));
    let classic = (any::<i32>(), prop::collection::vec(protocol, 0..4));
    let strings = (text(), text(), "[a-z]{0,9}", "[a-z]{0,9}", text(), text());
    (strings, names(), any::<i32>(), prop::option::of(classic)).prop_map(
        |((instance_id, rack_id, client_id, client_host, regex, assignor), names, ms, classic)| {
            MemberValue {
                instance_id,
                rack_id,
                client_id,
                client_host,
                topic_names: names,
                topic_regex: regex,
                rebalance_timeout_ms: ms,
                server_assignor: assignor,
                classic: classic.map(|(session_timeout_ms, protocols)| ClassicValue {
                    session_timeout_ms,
                    protocols: protocols
                        .into_iter()
                        .map(|(name, metadata)| (name, Bytes::from(metadata)))
                        .collect(),
                }),
            }
        },
    )
}

fn current_values() -> impl Strategy<Value = CurrentValue> {
    use MemberState::{Stable, Unknown, UnreleasedPartitions, UnrevokedPartitions};
    let states = prop::sample::select(vec![
        Stable,
        UnrevokedPartitions,
        UnreleasedPartitions,
        Unknown,
    ]);
    (
        any::<i32>(),
        any::<i32>(),
        states,
        some_partitions(),
        some_partitions(),
    )
        .prop_map(
            |(epoch, previous_epoch, state, assigned, revoking)| CurrentValue {
                epoch,
                previous_epoch,
                state,
                assigned,
                revoking,
            },
        )
}

fn records() -> impl Strategy<Value = ConsumerRecord> {
    let id = || "[a-z-]{0,40}".prop_map(|id| Arc::<str>::from(id.as_str()));
    let group_value = (any::<i32>(), any::<i64>()).prop_map(|(epoch, metadata_hash)| GroupValue {
        epoch,
        metadata_hash,
    });
    let expression =
        (names(), any::<i64>(), any::<i64>()).prop_map(|(topics, version, timestamp_ms)| {
            ExpressionValue {
                topics,
                version,
                timestamp_ms,
            }
        });
    prop_oneof![
        (id(), prop::option::of(group_value))
            .prop_map(|(group, value)| ConsumerRecord::Group { group, value }),
        id().prop_map(|group| ConsumerRecord::PartitionMetadata { group }),
        (id(), id(), prop::option::of(member_values())).prop_map(|(group, member, value)| {
            ConsumerRecord::Member {
                group,
                member,
                value,
            }
        }),
        (id(), prop::option::of(any::<i32>()))
            .prop_map(|(group, value)| ConsumerRecord::Target { group, value }),
        (id(), id(), prop::option::of(some_partitions())).prop_map(|(group, member, value)| {
            ConsumerRecord::TargetMember {
                group,
                member,
                value,
            }
        }),
        (id(), id(), prop::option::of(current_values())).prop_map(|(group, member, value)| {
            ConsumerRecord::Current {
                group,
                member,
                value,
            }
        }),
        (id(), id(), prop::option::of(expression)).prop_map(|(group, expression, value)| {
            ConsumerRecord::Expression {
                group,
                expression,
                value,
            }
        }),
    ]
}

proptest! {
    #[test]
    fn a_record_comes_back_as_it_was_written(record in records()) {
        let encoded = record.encode();
        let read = Record::decode(&encoded.key, encoded.value.as_deref());
        prop_assert_eq!(read, Ok(Record::Consumer(record)));
    }

    #[test]
    fn a_record_that_is_cut_or_changed_never_panics(
        record in records(),
        cut in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        byte: u8,
    ) {
        let encoded = record.encode();
        if let Some(value) = encoded.value {
            let mut changed = value.to_vec();
            changed[at.index(value.len())] = byte;
            let _ = Record::decode(&encoded.key, Some(&changed));
            let cut = cut.index(value.len());
            prop_assert!(Record::decode(&encoded.key, Some(&value[..cut])).is_err());
        }
        let mut changed = encoded.key.to_vec();
        changed[at.index(encoded.key.len())] = byte;
        let _ = Record::decode(&changed, None);
        let cut = cut.index(encoded.key.len());
        prop_assert!(Record::decode(&encoded.key[..cut], None).is_err());
    }

    #[test]
    fn bytes_that_are_no_record_never_panic(
        kind in 3..=16_i16,
        key in prop::collection::vec(any::<u8>(), 0..40),
        value in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let key = [&kind.to_be_bytes()[..], &key].concat();
        let _ = Record::decode(&key, Some(&value));
        let named = [&kind.to_be_bytes()[..], &[0, 1, b'g', 0, 1, b'm']].concat();
        let _ = Record::decode(&named, Some(&[&[0, 0][..], &value].concat()));
    }
}
