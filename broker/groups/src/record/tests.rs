//! Golden bytes, written by hand from Kafka's message definitions, and what hostile bytes do.

use bytes::Bytes;
use coordinator::{Encoded, Record as _};
use proptest::prelude::*;

use super::{ClassicMemberValue, ClassicValue, OffsetKey, OffsetValue, Record, RecordError};

/// Bytes from text: two hexadecimal digits a byte, or characters in quotes; spaces mean nothing.
fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (index, part) in text.split('\'').enumerate() {
        if index % 2 == 1 {
            bytes.extend(part.as_bytes());
        } else {
            let digits: Vec<u8> = part.bytes().filter(|byte| *byte != b' ').collect();
            for pair in digits.chunks(2) {
                let pair = std::str::from_utf8(pair).unwrap();
                bytes.push(u8::from_str_radix(pair, 16).unwrap());
            }
        }
    }
    bytes
}

fn check_golden(record: &Record, key: &str, value: Option<&str>) {
    let expected = Encoded {
        key: bytes(key).into(),
        value: value.map(|value| bytes(value).into()),
    };
    assert_eq!(record.encode(), expected);
    check_decodes(record, key, value);
}

fn check_decodes(record: &Record, key: &str, value: Option<&str>) {
    let value = value.map(bytes);
    let decoded = Record::decode(&bytes(key), value.as_deref());
    assert_eq!(decoded.as_ref(), Ok(record));
}

const OFFSET_KEY: &str = "0001 0002 'g1' 0005 'topic' 00000003";

fn offset(value: Option<OffsetValue>) -> Record {
    let key = OffsetKey {
        group_id: "g1".to_owned(),
        topic: "topic".to_owned(),
        partition: 3,
    };
    Record::Offset(key, value)
}

fn offset_value() -> OffsetValue {
    OffsetValue {
        offset: 258,
        leader_epoch: 7,
        metadata: "meta".to_owned(),
        commit_timestamp_ms: 4_096,
        expire_timestamp_ms: None,
    }
}

#[test]
fn a_committed_offset_is_written_in_version_3() {
    let value = "0003 0000000000000102 00000007 0004 'meta' 0000000000001000";
    check_golden(&offset(Some(offset_value())), OFFSET_KEY, Some(value));
    check_golden(&offset(None), OFFSET_KEY, None);
}

#[test]
fn an_offset_with_its_own_time_of_expiry_is_written_in_version_1() {
    let record = offset(Some(OffsetValue {
        leader_epoch: -1,
        expire_timestamp_ms: Some(8_192),
        ..offset_value()
    }));
    let value = "0001 0000000000000102 0004 'meta' 0000000000001000 0000000000002000";
    check_golden(&record, OFFSET_KEY, Some(value));
}

#[test]
fn offsets_of_all_versions_are_read() {
    let old = offset(Some(OffsetValue {
        leader_epoch: -1,
        ..offset_value()
    }));
    let fields = "0000000000000102 0004 'meta' 0000000000001000";
    for value in [
        format!("0000 {fields}"),
        format!("0001 {fields} ffffffffffffffff"),
        format!("0002 {fields}"),
    ] {
        check_decodes(&old, OFFSET_KEY, Some(&value));
    }
    let oldest_key = OFFSET_KEY.replacen("0001", "0000", 1);
    check_decodes(&old, &oldest_key, Some(&format!("0002 {fields}")));
    let new = offset(Some(offset_value()));
    let flexible = "0004 0000000000000102 00000007 05 'meta' 0000000000001000";
    check_decodes(&new, OFFSET_KEY, Some(&format!("{flexible} 00")));
    // A tagged field of a later version: a topic id.
    let id = "'0123456789abcdef'";
    let tagged = format!("{flexible} 01 00 10 {id}");
    check_decodes(&new, OFFSET_KEY, Some(&tagged));
}

fn group(value: Option<ClassicValue>) -> Record {
    Record::Classic("g1".to_owned(), value)
}

fn group_value() -> ClassicValue {
    ClassicValue {
        protocol_type: "consumer".to_owned(),
        generation: 2,
        protocol: Some("range".to_owned()),
        leader: Some("m1".to_owned()),
        current_state_timestamp_ms: 4_096,
        members: vec![ClassicMemberValue {
            member_id: "m1".to_owned(),
            group_instance_id: None,
            client_id: "c".to_owned(),
            client_host: "/h".to_owned(),
            rebalance_timeout_ms: 512,
            session_timeout_ms: 256,
            subscription: Bytes::from_static(b"sub"),
            assignment: Bytes::from_static(b"as"),
        }],
    }
}

#[test]
fn a_classic_group_is_written_in_version_3() {
    let value = "0003 0008 'consumer' 00000002 0005 'range' 0002 'm1' 0000000000001000 00000001
        0002 'm1' ffff 0001 'c' 0002 '/h' 00000200 00000100 00000003 'sub' 00000002 'as'"
        .replace('\n', " ");
    check_golden(&group(Some(group_value())), "0002 0002 'g1'", Some(&value));
    check_golden(&group(None), "0002 0002 'g1'", None);
    let empty = ClassicValue {
        generation: 3,
        current_state_timestamp_ms: -1,
        ..ClassicValue::default()
    };
    let value = "0003 0000 00000003 ffff ffff ffffffffffffffff 00000000";
    check_golden(&group(Some(empty)), "0002 0002 'g1'", Some(value));
}

#[test]
fn classic_groups_of_all_versions_are_read() {
    let head = "0008 'consumer' 00000002 0005 'range' 0002 'm1'";
    let tail = "00000100 00000003 'sub' 00000002 'as'";
    let member = "0002 'm1' 0001 'c' 0002 '/h'";
    let mut expected = group_value();
    expected.members[0].rebalance_timeout_ms = -1;
    expected.current_state_timestamp_ms = -1;
    let key = "0002 0002 'g1'";
    let value = format!("0000 {head} 00000001 {member} {tail}");
    check_decodes(&group(Some(expected.clone())), key, Some(&value));
    expected.members[0].rebalance_timeout_ms = 512;
    let value = format!("0001 {head} 00000001 {member} 00000200 {tail}");
    check_decodes(&group(Some(expected)), key, Some(&value));
    let value = format!("0002 {head} 0000000000001000 00000001 {member} 00000200 {tail}");
    check_decodes(&group(Some(group_value())), key, Some(&value));
    let flexible = "0004 09 'consumer' 00000002 06 'range' 03 'm1' 0000000000001000 02
        03 'm1' 00 02 'c' 03 '/h' 00000200 00000100 04 'sub' 03 'as' 00 00"
        .replace('\n', " ");
    check_decodes(&group(Some(group_value())), key, Some(&flexible));
}

#[test]
fn damaged_records_are_told_apart() {
    let decode = |key: &str, value: Option<&str>| {
        let value = value.map(bytes);
        Record::decode(&bytes(key), value.as_deref()).unwrap_err()
    };
    assert_eq!(decode("", None), RecordError::Short);
    assert_eq!(decode("0001 00", None), RecordError::Short);
    assert_eq!(decode("7fff 0001", None), RecordError::UnknownKind(0x7fff));
    assert_eq!(decode("0002 0001 ff", None), RecordError::Text);
    assert_eq!(decode("0002 ffff", None), RecordError::Null);
    assert_eq!(decode("0002 fffe", None), RecordError::Number);
    assert_eq!(decode("0002 0001 'g' 00", None), RecordError::Long(1));
    let unknown = decode("0002 0001 'g'", Some("0005"));
    assert_eq!(unknown, RecordError::UnknownVersion(5));
    let unknown = decode(OFFSET_KEY, Some("ffff"));
    assert_eq!(unknown, RecordError::UnknownVersion(-1));
    // Two billion members in no bytes.
    let value = "0003 0000 00000003 ffff ffff ffffffffffffffff 7fffffff";
    assert_eq!(decode("0002 0001 'g'", Some(value)), RecordError::Short);
}

prop_compose! {
    fn any_bytes()(bytes in proptest::collection::vec(any::<u8>(), 0..20)) -> Bytes {
        bytes.into()
    }
}

prop_compose! {
    fn any_member()(
        member_id in ".{0,10}",
        group_instance_id in proptest::option::of(".{0,10}"),
        client_id in ".{0,10}",
        client_host in ".{0,10}",
        rebalance_timeout_ms in any::<i32>(),
        session_timeout_ms in any::<i32>(),
        subscription in any_bytes(),
        assignment in any_bytes(),
    ) -> ClassicMemberValue {
        ClassicMemberValue {
            member_id, group_instance_id, client_id, client_host, rebalance_timeout_ms,
            session_timeout_ms, subscription, assignment,
        }
    }
}

prop_compose! {
    fn any_group()(
        protocol_type in ".{0,10}",
        generation in any::<i32>(),
        protocol in proptest::option::of(".{0,10}"),
        leader in proptest::option::of(".{0,10}"),
        current_state_timestamp_ms in any::<i64>(),
        members in proptest::collection::vec(any_member(), 0..5),
    ) -> ClassicValue {
        ClassicValue {
            protocol_type, generation, protocol, leader, current_state_timestamp_ms, members,
        }
    }
}

fn check_round_trip(record: &Record) {
    let encoded = record.encode();
    let decoded = Record::decode(&encoded.key, encoded.value.as_deref());
    assert_eq!(decoded.as_ref(), Ok(record));
}

proptest! {
    #[test]
    fn classic_groups_come_back_as_they_were_written(
        group_id in ".{0,20}",
        value in proptest::option::of(any_group()),
    ) {
        check_round_trip(&Record::Classic(group_id, value));
    }

    #[test]
    fn offsets_come_back_as_they_were_written(
        (group_id, topic, partition) in (".{0,20}", ".{0,20}", any::<i32>()),
        (offset, leader_epoch) in (any::<i64>(), any::<i32>()),
        metadata in ".{0,50}",
        commit_timestamp_ms in any::<i64>(),
        expire_timestamp_ms in proptest::option::of(0..i64::MAX),
    ) {
        let key = OffsetKey { group_id, topic, partition };
        // Version 1 has no place for the epoch.
        let leader_epoch = if expire_timestamp_ms.is_some() { -1 } else { leader_epoch };
        let value = OffsetValue {
            offset, leader_epoch, metadata, commit_timestamp_ms, expire_timestamp_ms,
        };
        check_round_trip(&Record::Offset(key, Some(value)));
    }

    #[test]
    fn hostile_bytes_are_an_error_or_a_record(
        kind in 0_i16..20,
        key in proptest::collection::vec(any::<u8>(), 0..40),
        value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..80)),
    ) {
        let _ = Record::decode(&key, value.as_deref());
        let key = [&kind.to_be_bytes()[..], &key].concat();
        let _ = Record::decode(&key, value.as_deref());
    }

    #[test]
    fn a_cut_or_changed_record_does_not_panic(
        value in any_group(),
        cut in 0_usize..200,
        at in 0_usize..200,
        flip in any::<u8>(),
    ) {
        let encoded = Record::Classic("group".to_owned(), Some(value)).encode();
        let mut bytes = encoded.value.unwrap_or_default().to_vec();
        let at = at % bytes.len();
        bytes[at] ^= flip;
        bytes.truncate(cut.max(2));
        let _ = Record::decode(&encoded.key, Some(&bytes));
    }
}
