use std::collections::BTreeMap;

use proptest::prelude::*;
use storage::batch::{BATCH_HEADER_BYTES, crc_matches, stamp};
use storage::{LeaderEpoch, Offset};

use super::*;
use crate::record::{BatchProducer, Compression, Record, decode_batch, encode_batch};

const NOW_MS: i64 = 1_000_000;
const RETENTION_MS: i64 = 5_000;

const RULES: Rules = Rules {
    upto: i64::MAX,
    now_ms: NOW_MS,
    delete_retention_ms: RETENTION_MS,
    keeps_tombstones: false,
};

fn record(key: &str, value: Option<&str>, timestamp_ms: i64) -> Record {
    Record {
        offset: 0,
        timestamp_ms,
        key: Some(Bytes::copy_from_slice(key.as_bytes())),
        value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
        headers: vec![("h".to_owned(), Some(Bytes::from_static(b"x")))],
    }
}

/// A batch as it stands in a log.
fn batch(base: i64, epoch: i32, records: &[Record], codec: Compression) -> Bytes {
    let producer = BatchProducer {
        producer_id: 7,
        producer_epoch: 1,
        base_sequence: 3,
    };
    let batch = encode_batch(records, codec, producer);
    let header = BatchHeader::parse(&batch).unwrap();
    let head = stamp(Offset(base), header.batch_length, LeaderEpoch(epoch));
    [&head[..], &batch[head.len()..]].concat().into()
}

fn split(mut bytes: Bytes) -> Vec<(Bytes, BatchHeader)> {
    let mut batches = Vec::new();
    while !bytes.is_empty() {
        let header = BatchHeader::parse(&bytes).unwrap();
        let batch = bytes.split_to(header.total_bytes());
        assert!(crc_matches(&batch));
        batches.push((batch, header));
    }
    batches
}

fn records(batches: &[(Bytes, BatchHeader)]) -> Vec<Record> {
    let of = |(batch, _): &(Bytes, BatchHeader)| decode_batch(batch, 1 << 20).unwrap();
    batches.iter().flat_map(of).collect()
}

/// Offsets of the newest record of each key.
fn newest_of(batches: &[(Bytes, BatchHeader)]) -> BTreeMap<Bytes, i64> {
    let keys = records(batches).into_iter();
    keys.filter_map(|one| Some((one.key?, one.offset)))
        .collect()
}

fn rewrite_with(
    batches: &[(Bytes, BatchHeader)],
    rules: Rules,
    newest: &BTreeMap<Bytes, i64>,
) -> (Vec<(Bytes, BatchHeader)>, Removed) {
    let mut rewriter = Rewriter::new(rules);
    for (batch, header) in batches {
        let newest = |key: &[u8]| newest.get(key).copied();
        rewriter.push(batch, header, &newest).unwrap();
    }
    rewriter.finish().unwrap();
    let out = split(rewriter.take());
    let end = |some: &[(Bytes, BatchHeader)]| some.last().map(|(_, last)| last.last_offset());
    assert_eq!(end(&out), end(batches), "the same offsets");
    let follows = |pair: &[(Bytes, BatchHeader)]| {
        pair[0].1.last_offset().0 + 1 == pair[1].1.base_offset
            && pair[0].1.partition_leader_epoch <= pair[1].1.partition_leader_epoch
    };
    assert!(out.windows(2).all(follows), "without a gap");
    assert_eq!(
        out.first().map(|(_, first)| first.base_offset),
        batches.first().map(|(_, first)| first.base_offset)
    );
    (out, rewriter.removed())
}

fn rewrite(batches: &[Bytes], rules: Rules) -> (Vec<(Bytes, BatchHeader)>, Removed) {
    let batches: Vec<_> = batches.iter().flat_map(|one| split(one.clone())).collect();
    rewrite_with(&batches, rules, &newest_of(&batches))
}

#[test]
fn a_record_that_a_newer_one_replaces_goes_and_the_others_stay_as_they_are() {
    for codec in [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let first = [
            record("a", Some("1"), 10),
            record("b", Some("1"), 30),
            record("c", Some("1"), 20),
        ];
        let second = [record("b", Some("2"), 40), record("a", Some("2"), 35)];
        let batches = [batch(0, 1, &first, codec), batch(3, 1, &second, codec)];
        let before = records(&[split(batches[0].clone()), split(batches[1].clone())].concat());
        let (out, removed) = rewrite(&batches, RULES);
        assert_eq!(removed.records, 2);
        let after = records(&out);
        assert_eq!(after, [2, 3, 4].map(|at: usize| before[at].clone()));
        assert_eq!(out.len(), 1, "small neighbours become one");
        assert_eq!(out[0].1.attributes & 0b111, codec as i16);
        assert_eq!(out[0].1.max_timestamp, 40);
    }
}

#[test]
fn a_batch_from_which_nothing_goes_is_the_same_byte_for_byte() {
    let long = "x".repeat(SMALL_BYTES_MAX + 1);
    let untouched = batch(2, 1, &[record("b", Some(&long), 5)], Compression::None);
    let first = batch(
        0,
        1,
        &[record("a", Some("1"), 5), record("c", Some("1"), 5)],
        Compression::None,
    );
    let last = batch(3, 1, &[record("a", Some("2"), 5)], Compression::None);
    let (out, _) = rewrite(&[first, untouched.clone(), last.clone()], RULES);
    assert_eq!(out.len(), 3);
    assert_eq!(out[1].0, untouched);
    assert_eq!(
        out[2].0, last,
        "there is nothing in hand that it could join"
    );
    let (again, removed) = rewrite(std::slice::from_ref(&untouched), RULES);
    assert_eq!(
        (again[0].0.clone(), removed),
        (untouched, Removed::default())
    );
}

#[test]
fn where_nothing_is_left_an_empty_batch_fills_the_place_and_epochs_stay_apart() {
    let long = "x".repeat(SMALL_BYTES_MAX + 1);
    let replaced =
        |base, epoch| batch(base, epoch, &[record("a", Some("1"), 5)], Compression::Zstd);
    let last = batch(3, 4, &[record("a", Some(&long), 5)], Compression::None);
    let (out, removed) = rewrite(
        &[replaced(0, 2), replaced(1, 2), replaced(2, 3), last],
        RULES,
    );
    assert_eq!(removed.records, 3);
    let seen: Vec<_> = out
        .iter()
        .map(|(batch, header)| {
            (
                header.base_offset,
                header.partition_leader_epoch,
                batch.len(),
            )
        })
        .collect();
    assert_eq!(
        seen[..2],
        [(0, 2, BATCH_HEADER_BYTES), (2, 3, BATCH_HEADER_BYTES)]
    );
    assert!(out[..2].iter().all(|(_, header)| is_filler(header)));
    assert_eq!(seen.len(), 3);
    // Cleaned again, it is the same.
    let (again, removed) = rewrite_with(&out, RULES, &newest_of(&out));
    assert_eq!((again, removed), (out, Removed::default()));
}

#[test]
fn a_tombstone_stays_until_its_horizon_and_takes_its_time_along() {
    let tombstone = batch(0, 1, &[record("a", None, 77)], Compression::None);
    let (out, removed) = rewrite(&[tombstone], RULES);
    assert_eq!(removed.records, 0);
    let header = out[0].1;
    assert_eq!(header.attributes & DELETE_HORIZON, DELETE_HORIZON);
    assert_eq!(header.base_timestamp, NOW_MS + RETENTION_MS);
    let kept = records(&out);
    assert_eq!((kept[0].timestamp_ms, kept[0].value.clone()), (77, None));
    let at = |now_ms, keeps_tombstones| {
        let rules = Rules {
            now_ms,
            keeps_tombstones,
            ..RULES
        };
        let (out, removed) = rewrite_with(&out, rules, &newest_of(&out));
        (records(&out).len(), removed.records)
    };
    let horizon_ms = NOW_MS + RETENTION_MS;
    assert_eq!(at(horizon_ms - 1, false), (1, 0));
    assert_eq!(at(horizon_ms, true), (1, 0), "somebody copies from here");
    assert_eq!(at(horizon_ms, false), (0, 1));
}

#[test]
fn a_batch_whose_records_may_not_be_judged_stays_and_so_do_tombstones_behind_it() {
    let transactional = batch(0, 1, &[record("a", Some("1"), 5)], Compression::None);
    let mut bytes = transactional.to_vec();
    bytes[22] |= 0b1_0000;
    let crc = storage::batch::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    let transactional = Bytes::from(bytes);
    let tombstone = batch(1, 1, &[record("a", None, 5)], Compression::None);
    let newest = BTreeMap::from([(Bytes::from_static(b"a"), 1)]);
    let batches = [split(transactional.clone()), split(tombstone)].concat();
    let (out, _) = rewrite_with(&batches, RULES, &newest);
    assert_eq!(out[0].0, transactional);
    let late = Rules {
        now_ms: i64::MAX,
        ..RULES
    };
    let (out, removed) = rewrite_with(&out, late, &newest);
    assert_eq!((out.len(), removed.records), (2, 0));
}

#[test]
fn records_without_a_key_go_and_those_beyond_the_end_are_left_alone() {
    let keyless = Record {
        key: None,
        ..record("", Some("1"), 5)
    };
    let one = batch(
        0,
        1,
        &[keyless.clone(), record("a", Some("1"), 5)],
        Compression::None,
    );
    let two = batch(2, 1, &[keyless, record("a", None, 5)], Compression::None);
    let rules = Rules { upto: 2, ..RULES };
    let (out, removed) = rewrite(&[one, two.clone()], rules);
    assert_eq!(removed.records, 2);
    assert_eq!(out[1].0, two);
}

#[test]
fn a_tombstone_that_is_not_judged_yet_does_not_come_under_the_horizon_of_another() {
    let over = Rules {
        now_ms: NOW_MS - RETENTION_MS,
        ..RULES
    };
    let old = batch(0, 1, &[record("a", None, 5)], Compression::None);
    let (old, _) = rewrite(&[old], over);
    let half = [record("b", Some("1"), 6), record("c", None, 7)];
    let half = batch(1, 1, &half, Compression::None);
    let all = [old, split(half)].concat();
    // Up to the middle of the second batch, at a moment when the first one's time is not over.
    let rules = Rules {
        upto: 2,
        now_ms: NOW_MS - 1,
        ..RULES
    };
    let newest = BTreeMap::from([(Bytes::from_static(b"a"), 0), (Bytes::from_static(b"b"), 1)]);
    let (out, _) = rewrite_with(&all, rules, &newest);
    let (out, removed) = rewrite_with(&out, RULES, &newest_of(&out));
    assert_eq!(removed.records, 1);
    let left: Vec<i64> = records(&out).iter().map(|one| one.offset).collect();
    assert_eq!(left, [1, 2], "the second tombstone has its own time");
}

#[test]
fn a_batch_is_cut_to_exactly_the_offsets_that_are_wanted() {
    let some: Vec<Record> = (0..6)
        .map(|n| record(&n.to_string(), Some("1"), 10 + n))
        .collect();
    let whole = batch(100, 3, &some, Compression::Lz4);
    let (_, header) = split(whole.clone())[0].clone();
    let offsets = |from, limit| {
        let (batch, header) = split(cut(&whole, &header, from, limit).unwrap())[0].clone();
        let of = records(&[(batch, header)]);
        let offsets: Vec<i64> = of.iter().map(|one| one.offset).collect();
        (header.base_offset, header.last_offset().0, offsets)
    };
    assert_eq!(offsets(102, 104), (102, 103, vec![102, 103]));
    assert_eq!(offsets(0, 101), (100, 100, vec![100]));
    assert_eq!(offsets(105, 999), (105, 105, vec![105]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_last_value_of_each_key_stays_where_it_is(
        shape in proptest::collection::vec((0_usize..5, 0_i32..2, 1_usize..40, 0_usize..9_000), 1..20),
        keys in 1_u64..60,
        passes in proptest::collection::vec(0_usize..20, 1..4),
        seed: u64,
    ) {
        let codecs = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
        let (mut base, mut epoch, mut state) = (0_i64, 0, seed | 1);
        let mut log = Vec::new();
        for (codec, rise, count, payload) in shape {
            epoch += rise;
            let some: Vec<Record> = (0..count).map(|n| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let value = (!state.is_multiple_of(5)).then(|| "v".repeat(payload / count) + &state.to_string());
                record(&(state / 7 % keys).to_string(), value.as_deref(), base + i64::try_from(n).unwrap())
            }).collect();
            log.push(split(batch(base, epoch, &some, codecs[codec]))[0].clone());
            base += i64::try_from(count).unwrap();
        }
        let all = records(&log);
        let newest = newest_of(&log);
        // Cleaned part by part, as the log grows, and at last as a whole.
        let mut now_ms = NOW_MS;
        let mut done = 0;
        let mut cleaned: Vec<(Bytes, BatchHeader)> = Vec::new();
        for end in passes.into_iter().chain([usize::MAX]) {
            let end = end.clamp(done, log.len());
            cleaned.extend(log[done..end].iter().cloned());
            done = end;
            let rules = Rules { now_ms, ..RULES };
            cleaned = rewrite_with(&cleaned, rules, &newest_of(&cleaned)).0;
            now_ms += RETENTION_MS / 2;
        }
        let left = records(&cleaned);
        for one in &left {
            prop_assert_eq!(one, &all[usize::try_from(one.offset).unwrap()], "as it was");
        }
        for (key, offset) in &newest {
            let is_there = left.iter().any(|one| one.offset == *offset);
            let was_tombstone = all[usize::try_from(*offset).unwrap()].value.is_none();
            prop_assert!(is_there || was_tombstone, "the last of {:?} at {}", key, offset);
            let others = left.iter().filter(|one| one.key.as_ref() == Some(key)).count();
            prop_assert_eq!(others, usize::from(is_there), "and only that");
        }
    }
}
