use super::*;
use crate::record::{BatchProducer, Compression, Record, decode_batch, encode_batch};

const NOW: i64 = 1_000_000;

fn records(count: i64) -> Vec<Record> {
    let record = |n| Record {
        timestamp_ms: NOW - 10 + n,
        value: Some(Bytes::from(vec![b'v'; 50])),
        ..Record::default()
    };
    (0..count).map(record).collect()
}

fn batch(compression: Compression) -> Bytes {
    encode_batch(&records(3), compression, BatchProducer::default())
}

fn check(batch: Bytes) -> Result<Bytes, AppendError> {
    check_with(&batch, &TopicConfig::default())
}

fn check_with(batch: &Bytes, config: &TopicConfig) -> Result<Bytes, AppendError> {
    match check_batch(batch, config, NOW, unpacked_bytes_max(config)) {
        Ok(batch) => Ok(batch),
        Err(CheckFailure::Refused(error)) => Err(error),
        Err(larger) => panic!("{larger:?}"),
    }
}

#[test]
fn a_bomb_is_seen_before_it_goes_off() {
    let value = Some(Bytes::from(vec![0; 17 << 20]));
    let record = Record {
        timestamp_ms: NOW,
        value,
        ..Record::default()
    };
    let bomb = encode_batch(&[record], Compression::Zstd, BatchProducer::default());
    assert!(bomb.len() < 10_000);
    let small = TopicConfig {
        max_message_bytes: 10_000,
        ..TopicConfig::default()
    };
    let max = unpacked_bytes_max(&small);
    assert_eq!(
        check_batch(&bomb, &small, NOW, max),
        Err(CheckFailure::LargerUnpacked { max })
    );
    assert!(check_with(&bomb, &TopicConfig::default()).is_ok());
}

/// The batch with a changed header and a checksum that fits it.
fn with_header(batch: &Bytes, change: impl FnOnce(&mut BatchHeader)) -> Bytes {
    let mut header = BatchHeader::parse(batch).expect("a batch");
    change(&mut header);
    restamp(batch, header)
}

fn is_invalid(result: Result<Bytes, AppendError>) -> bool {
    matches!(result, Err(AppendError::InvalidRecord { .. }))
}

#[test]
fn good_batches_pass_untouched_with_every_codec() {
    for compression in [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let batch = batch(compression);
        assert_eq!(check(batch.clone()), Ok(batch), "{compression:?}");
    }
}

#[test]
fn every_flipped_bit_under_the_checksum_is_corrupt() {
    let batch = batch(Compression::None);
    for bit in BATCH_UNCHECKED_BYTES * 8..batch.len() * 8 {
        let mut bytes = batch.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(check(bytes.into()).is_err(), "bit {bit}");
    }
}

#[test]
fn a_batch_that_lies_about_its_count_is_refused_with_every_codec() {
    for compression in [Compression::None, Compression::Gzip, Compression::Lz4] {
        let batch = batch(compression);
        for count in [2, 4, i32::MAX] {
            let lying = with_header(&batch, |header| {
                header.record_count = count;
                header.last_offset_delta = count - 1;
            });
            assert!(is_invalid(check(lying)), "{compression:?} {count}");
        }
        let lying = with_header(&batch, |header| header.last_offset_delta = 5);
        assert!(is_invalid(check(lying)), "{compression:?}");
    }
}

#[test]
fn what_only_brokers_write_is_refused() {
    for bits in [0x20, 0x10, 0x08] {
        let batch = with_header(&batch(Compression::None), |header| {
            header.attributes |= bits
        });
        assert!(is_invalid(check(batch)), "{bits}");
    }
}

#[test]
fn codec_bits_without_codec_are_unsupported() {
    let batch = with_header(&batch(Compression::None), |header| header.attributes |= 7);
    assert_eq!(check(batch), Err(AppendError::UnsupportedCompression));
}

#[test]
fn two_batches_are_one_too_many_and_half_a_batch_is_corrupt() {
    let batch = batch(Compression::None);
    assert!(is_invalid(check(
        [batch.as_ref(), batch.as_ref()].concat().into()
    )));
    assert!(matches!(
        check(batch.slice(..batch.len() - 1)),
        Err(AppendError::Corrupt(_))
    ));
    assert!(matches!(check(Bytes::new()), Err(AppendError::Corrupt(_))));
}

#[test]
fn old_formats_are_unsupported() {
    let mut bytes = batch(Compression::None).to_vec();
    bytes[16] = 1;
    assert_eq!(
        check(bytes.into()),
        Err(AppendError::UnsupportedFormat { magic: 1 })
    );
}

#[test]
fn size_counts_the_compressed_batch_with_its_header() {
    let batch = batch(Compression::Zstd);
    let len = i32::try_from(batch.len()).unwrap();
    let limit = |max_message_bytes| TopicConfig {
        max_message_bytes,
        ..TopicConfig::default()
    };
    assert!(check_with(&batch, &limit(len)).is_ok());
    assert_eq!(
        check_with(&batch, &limit(len - 1)),
        Err(AppendError::TooLarge {
            bytes: batch.len(),
            max: batch.len() - 1
        })
    );
}

#[test]
fn a_sequence_needs_an_epoch_and_a_number() {
    let batch = with_header(&batch(Compression::None), |header| header.producer_id = 7);
    assert!(is_invalid(check(batch)));
}

#[test]
fn timestamps_out_of_limits_are_named_record_by_record() {
    let config = TopicConfig {
        timestamp_after_max_ms: 0,
        ..TopicConfig::default()
    };
    let mut records = records(3);
    records[1].timestamp_ms = NOW + 1;
    let batch = encode_batch(&records, Compression::None, BatchProducer::default());
    match check_with(&batch, &config) {
        Err(AppendError::InvalidTimestamp { records, .. }) => {
            assert_eq!(
                records
                    .iter()
                    .map(|record| record.batch_index)
                    .collect::<Vec<_>>(),
                [1]
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_wrong_maximum_timestamp_is_corrected() {
    let good = batch(Compression::Snappy);
    let lying = with_header(&good, |header| header.max_timestamp = 5);
    assert_eq!(check(lying), Ok(good));
}

#[test]
fn log_append_time_is_the_brokers() {
    let config = TopicConfig {
        timestamp_type: TimestampType::LogAppendTime,
        ..TopicConfig::default()
    };
    let stamped = check_with(&batch(Compression::Gzip), &config).expect("passes");
    assert!(crc_matches(&stamped));
    let times: Vec<_> = decode_batch(&stamped, 1 << 20)
        .expect("decodes")
        .iter()
        .map(|record| record.timestamp_ms)
        .collect();
    assert_eq!(times, [NOW; 3]);
}

#[test]
fn a_compacted_topic_takes_no_record_without_a_key_with_any_codec() {
    let compacted = TopicConfig {
        cleanup: crate::topic_config::CleanupPolicy {
            deletes: true,
            compacts: true,
        },
        ..TopicConfig::default()
    };
    for compression in [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let mut records = records(4);
        records[1].key = Some(Bytes::new());
        records[3].key = Some(Bytes::from_static(b"k"));
        let batch = encode_batch(&records, compression, BatchProducer::default());
        assert!(check(batch.clone()).is_ok());
        let Err(AppendError::InvalidRecord { records: bad, .. }) = check_with(&batch, &compacted)
        else {
            panic!("{compression:?}");
        };
        let named: Vec<i32> = bad.iter().map(|one| one.batch_index).collect();
        assert_eq!(named, [0, 2], "an empty key is a key");
        for record in &mut records {
            record.key.get_or_insert_with(Bytes::new);
        }
        let batch = encode_batch(&records, compression, BatchProducer::default());
        assert!(check_with(&batch, &compacted).is_ok());
    }
}
