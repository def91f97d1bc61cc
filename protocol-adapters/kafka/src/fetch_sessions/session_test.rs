//! One session: what it remembers, what it tells, in which order it is read.

use storage::TopicId;

use super::*;
use crate::mapping::TopicKey;

fn name(topic: &str) -> TopicKey {
    TopicKey::Name(crate::mapping::topic_name(topic))
}

fn wanted(topic: &str, index: i32, offset: i64) -> Wanted {
    Wanted {
        key: key(topic, index),
        ask: Ask {
            offset,
            current_leader_epoch: 7,
            last_fetched_epoch: -1,
            bytes_max: 1 << 20,
        },
    }
}

fn key(topic: &str, index: i32) -> PartitionKey {
    PartitionKey {
        topic: name(topic),
        index,
    }
}

const ENDS: Ends = Ends {
    high_watermark: 10,
    last_stable_offset: 9,
    log_start: 3,
};

fn read(ends: Ends) -> News {
    News::Read {
        ends,
        has_records: false,
        has_advice: false,
    }
}

fn records() -> News {
    News::Read {
        ends: ENDS,
        has_records: true,
        has_advice: false,
    }
}

fn advice() -> News {
    News::Read {
        ends: ENDS,
        has_records: false,
        has_advice: true,
    }
}

/// A session of the partitions 0, 1, ... of a topic, all told the same ends.
fn session(count: i32) -> FetchSession {
    let all: Vec<Wanted> = (0..count).map(|index| wanted("t", index, 0)).collect();
    let news = vec![read(ENDS); all.len()];
    FetchSession::begin(&all, &news).unwrap()
}

fn order(session: &FetchSession) -> Vec<i32> {
    let wanted = session.wanted();
    wanted.iter().map(|wanted| wanted.key.index).collect()
}

#[test]
fn what_was_told_when_it_began_is_not_told_again() {
    let mut session = session(2);
    assert_eq!(session.tell(&[read(ENDS), read(ENDS)]), [false, false]);
}

#[test]
fn each_end_that_moves_is_told_once() {
    let moved = [
        Ends {
            high_watermark: 11,
            ..ENDS
        },
        Ends {
            last_stable_offset: 10,
            ..ENDS
        },
        Ends {
            log_start: 4,
            ..ENDS
        },
    ];
    for ends in moved {
        let mut session = session(1);
        assert_eq!(session.tell(&[read(ends)]), [true], "{ends:?}");
        assert_eq!(session.tell(&[read(ends)]), [false], "{ends:?}");
        // Back again, as after a change of the leader to one that lags.
        assert_eq!(session.tell(&[read(ENDS)]), [true], "{ends:?}");
    }
}

#[test]
fn records_and_advice_are_told_each_time() {
    for news in [records(), advice()] {
        let mut session = session(1);
        assert_eq!(session.tell(&[news]), [true]);
        assert_eq!(session.tell(&[news]), [true]);
        assert_eq!(session.tell(&[read(ENDS)]), [false]);
    }
}

#[test]
fn an_error_is_told_each_time_and_so_is_its_end() {
    let mut session = session(2);
    for _ in 0..2 {
        assert_eq!(session.tell(&[News::Error, read(ENDS)]), [true, false]);
    }
    assert_eq!(session.tell(&[read(ENDS), read(ENDS)]), [true, false]);
    assert_eq!(session.tell(&[read(ENDS), read(ENDS)]), [false, false]);
    // One that began in error, too.
    let began = [wanted("t", 0, 0)];
    let mut session = FetchSession::begin(&began, &[News::Error]).unwrap();
    assert_eq!(session.tell(&[read(ENDS)]), [true]);
}

#[test]
fn a_partition_that_is_new_is_told_whatever_it_has() {
    let mut session = session(1);
    session.update(&[wanted("t", 1, 0)], &[]);
    assert_eq!(session.tell(&[read(ENDS), read(ENDS)]), [false, true]);
    // Forgotten and wanted again, it is new.
    session.update(&[], &[key("t", 1)]);
    session.update(&[wanted("t", 1, 0)], &[]);
    assert_eq!(session.tell(&[read(ENDS), read(ENDS)]), [false, true]);
}

#[test]
fn what_gave_records_is_read_last_in_its_order() {
    let mut session = session(5);
    assert_eq!(order(&session), [0, 1, 2, 3, 4]);
    let quiet = read(ENDS);
    session.tell(&[records(), quiet, records(), quiet, quiet]);
    assert_eq!(order(&session), [1, 3, 4, 0, 2]);
    // Errors and moved ends keep their place.
    session.tell(&[News::Error, advice(), quiet, quiet, quiet]);
    assert_eq!(order(&session), [1, 3, 4, 0, 2]);
    session.update(&[wanted("t", 9, 0), wanted("t", 4, 5)], &[]);
    assert_eq!(order(&session), [1, 3, 4, 0, 2, 9]);
}

#[test]
fn partitions_are_changed_added_and_forgotten() {
    let mut session = session(4);
    session.update(
        &[wanted("t", 1, 77), wanted("u", 1, 5), wanted("t", 8, 6)],
        &[key("t", 0), key("t", 2), key("u", 0), key("none", 3)],
    );
    let expected = [
        wanted("t", 1, 77),
        wanted("t", 3, 0),
        wanted("u", 1, 5),
        wanted("t", 8, 6),
    ];
    assert_eq!(session.wanted(), expected);
}

#[test]
fn the_last_word_about_a_partition_counts() {
    let mut session = session(1);
    session.update(
        &[
            wanted("t", 0, 1),
            wanted("t", 5, 1),
            wanted("t", 0, 2),
            wanted("t", 5, 3),
            wanted("t", 6, 1),
        ],
        &[key("t", 6)],
    );
    assert_eq!(session.wanted(), [wanted("t", 0, 2), wanted("t", 5, 3)]);
    // Forgotten, though the same request wants it.
    session.update(&[wanted("t", 0, 9)], &[key("t", 0), key("t", 0)]);
    assert_eq!(session.wanted(), [wanted("t", 5, 3)]);
}

#[test]
fn none_begins_with_a_partition_twice_or_without_any() {
    let twice = [wanted("t", 0, 1), wanted("u", 0, 1), wanted("t", 0, 2)];
    assert!(FetchSession::begin(&twice, &[read(ENDS); 3]).is_none());
    assert!(FetchSession::begin(&[], &[]).is_none());
}

#[test]
fn topics_by_id_differ_by_id() {
    let by_id = |id, index| Wanted {
        key: PartitionKey {
            topic: TopicKey::Id(TopicId([id; 16])),
            index,
        },
        ..wanted("", 0, 4)
    };
    let all = [by_id(1, 0), by_id(2, 0)];
    let mut session = FetchSession::begin(&all, &[read(ENDS); 2]).unwrap();
    session.update(&[by_id(3, 0)], &[by_id(1, 0).key]);
    assert_eq!(session.wanted(), [by_id(2, 0), by_id(3, 0)]);
}

#[test]
fn its_bytes_follow_its_partitions() {
    let one = session(1).bytes();
    assert!(one > 500, "{one}");
    let mut session = session(3);
    assert_eq!(session.bytes(), 3 * one);
    session.update(&[wanted("t", 0, 5), wanted("t", 7, 5)], &[key("t", 1)]);
    assert_eq!((session.len(), session.bytes()), (3, 3 * one));
    let long = "x".repeat(200);
    session.update(&[wanted(&long, 0, 0)], &[]);
    assert_eq!(session.bytes(), 3 * one + one - 1 + 200);
    let all: Vec<PartitionKey> = session.wanted().into_iter().map(|w| w.key).collect();
    session.update(&[], &all);
    assert_eq!((session.len(), session.bytes()), (0, 0));
}

#[test]
fn names_do_not_keep_the_request_in_memory() {
    let frame = bytes::Bytes::from(vec![b'n'; 1 << 16]);
    let slice = kafka_protocol::protocol::StrBytes::from_utf8(frame.slice(..4)).unwrap();
    let topic = TopicKey::Name(kafka_protocol::messages::TopicName(slice));
    let named = |index| Wanted {
        key: PartitionKey {
            topic: topic.clone(),
            index,
        },
        ..wanted("", 0, 0)
    };
    let session = FetchSession::begin(&[named(0), named(1)], &[read(ENDS); 2]).unwrap();
    let place = |wanted: &Wanted| match &wanted.key.topic {
        TopicKey::Name(name) => name.as_bytes().as_ptr(),
        TopicKey::Id(_) => panic!("by name"),
    };
    let kept = session.wanted();
    assert_ne!(place(&kept[0]), frame.as_ptr());
    assert_eq!(place(&kept[0]), place(&kept[1]), "kept once");
}
