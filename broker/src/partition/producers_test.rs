use super::*;

fn batch(id: i64, epoch: i16, first: i32, count: i32) -> BatchHeader {
    BatchHeader {
        base_offset: 0,
        batch_length: 100,
        partition_leader_epoch: -1,
        magic: 2,
        crc: 0,
        attributes: 0,
        last_offset_delta: count - 1,
        base_timestamp: 5,
        max_timestamp: 5,
        producer_id: id,
        producer_epoch: epoch,
        base_sequence: first,
        record_count: count,
    }
}

/// Judges and, when it is new, records; answers the offset it was recorded at.
fn write(producers: &mut Producers, header: &BatchHeader, at: i64) -> Verdict {
    let verdict = producers.judge(header);
    if verdict == Verdict::Append {
        producers.record(header, Offset(at), 1_000);
    }
    verdict
}

fn repeated_at(verdict: &Verdict) -> Option<i64> {
    match verdict {
        Verdict::Repeated(batch) => Some(batch.base_offset.0),
        _ => None,
    }
}

#[test]
fn each_of_the_last_five_batches_is_answered_with_its_first_offset() {
    let mut producers = Producers::default();
    for n in 0..6 {
        assert_eq!(
            write(&mut producers, &batch(1, 0, n * 10, 10), i64::from(n) * 100),
            Verdict::Append
        );
    }
    for n in 1..6 {
        let verdict = producers.judge(&batch(1, 0, n * 10, 10));
        assert_eq!(repeated_at(&verdict), Some(i64::from(n) * 100));
    }
    assert!(matches!(
        producers.judge(&batch(1, 0, 0, 10)),
        Verdict::Refused(AppendError::DuplicateSequence {
            producer_id: 1,
            got: 0
        })
    ));
}

#[test]
fn a_gap_is_out_of_order() {
    let mut producers = Producers::default();
    write(&mut producers, &batch(1, 0, 0, 3), 0);
    let verdict = producers.judge(&batch(1, 0, 4, 1));
    assert_eq!(
        verdict,
        Verdict::Refused(AppendError::OutOfOrderSequence {
            producer_id: 1,
            got: 4,
            expected: 3
        })
    );
}

#[test]
fn a_batch_that_overlaps_what_is_remembered_is_out_of_order() {
    let mut producers = Producers::default();
    write(&mut producers, &batch(1, 0, 0, 3), 0);
    let verdict = producers.judge(&batch(1, 0, 2, 3));
    assert!(matches!(
        verdict,
        Verdict::Refused(AppendError::OutOfOrderSequence { .. })
    ));
}

#[test]
fn an_older_epoch_is_fenced_and_a_newer_one_starts_at_zero() {
    let mut producers = Producers::default();
    write(&mut producers, &batch(1, 3, 0, 1), 0);
    assert!(matches!(
        producers.judge(&batch(1, 2, 1, 1)),
        Verdict::Refused(AppendError::InvalidProducerEpoch { got: 2, current: 3 })
    ));
    assert!(matches!(
        producers.judge(&batch(1, 4, 1, 1)),
        Verdict::Refused(AppendError::OutOfOrderSequence { expected: 0, .. })
    ));
    assert_eq!(
        write(&mut producers, &batch(1, 4, 0, 1), 1),
        Verdict::Append
    );
    assert_eq!(
        write(&mut producers, &batch(1, 4, 1, 1), 2),
        Verdict::Append
    );
}

#[test]
fn sequences_wrap_to_zero() {
    let mut producers = Producers::default();
    write(&mut producers, &batch(1, 0, i32::MAX - 1, 4), 0);
    assert_eq!(
        write(&mut producers, &batch(1, 0, 2, 1), 4),
        Verdict::Append
    );
    assert_eq!(
        repeated_at(&producers.judge(&batch(1, 0, i32::MAX - 1, 4))),
        Some(0)
    );
}

#[test]
fn silent_producers_are_forgotten_by_the_entries_time_except_the_last() {
    let kept = i64::try_from(PRODUCERS_KEPT).unwrap();
    let mut producers = Producers::default();
    for id in 0..kept + 3 {
        producers.record(&batch(id, 0, 0, 1), Offset(id), 1_000 + id);
    }
    // One of the old ones writes again.
    producers.record(&batch(1, 0, 1, 1), Offset(kept + 3), 2_000);
    producers.record(&batch(-1, 0, 0, 1), Offset(kept + 4), 2_000 + EXPIRATION_MS);
    let ids: Vec<i64> = producers.by_id.keys().copied().collect();
    let expected: Vec<i64> = (0..kept + 3).filter(|id| ![0, 2, 3].contains(id)).collect();
    assert_eq!(ids, expected);
}

#[test]
fn a_wall_clock_that_jumps_by_days_makes_nobody_write_twice() {
    let day_ms = 24 * 3600 * 1000;
    let mut producers = Producers::default();
    write(&mut producers, &batch(1, 0, 0, 3), 0);
    for (offset, now_ms) in [(3, 13 * day_ms), (4, -13 * day_ms), (5, 26 * day_ms)] {
        producers.record(
            &batch(2, 0, offset - 3, 1),
            Offset(i64::from(offset)),
            now_ms,
        );
        assert_eq!(repeated_at(&producers.judge(&batch(1, 0, 0, 3))), Some(0));
    }
}

#[test]
fn producers_are_bounded_and_the_longest_silent_goes() {
    let mut producers = Producers::default();
    for id in 0..=i64::try_from(PRODUCERS_MAX).unwrap() {
        producers.record(&batch(id, 0, 0, 1), Offset(id), 1_000 + id);
    }
    assert_eq!(producers.by_id.len(), PRODUCERS_MAX);
    assert!(!producers.by_id.contains_key(&0));
}

#[test]
fn encoded_is_decoded() {
    let mut producers = Producers::default();
    for n in 0..7 {
        write(
            &mut producers,
            &batch(1 + i64::from(n % 2), 1, (n / 2) * 2, 2),
            i64::from(n),
        );
    }
    let mut writer = Writer::default();
    producers.encode(&mut writer);
    let bytes = writer.finish();
    assert_eq!(
        Producers::decode(&mut Reader::new(bytes.clone())),
        Ok(producers)
    );
    for len in 0..bytes.len() {
        assert!(Producers::decode(&mut Reader::new(bytes.slice(..len))).is_err());
    }
}
