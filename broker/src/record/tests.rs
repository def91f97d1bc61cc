use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use storage::batch::{BATCH_HEADER_BYTES, BatchHeader, crc_matches, crc32c};

use super::varint::{put_varlong, read_varint, read_varlong, varlong_len};
use super::*;

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];
const MIB: usize = 1 << 20;

fn record(value: impl Into<Bytes>) -> Record {
    Record {
        value: Some(value.into()),
        timestamp_ms: 1_700_000_000_000,
        ..Record::default()
    }
}

/// A batch around `body` as given, its CRC and length right.
fn batch_around(codec: i16, count: i32, body: &[u8]) -> Bytes {
    let mut batch = BytesMut::from(
        &encode_batch(&[record("x")], Compression::None, BatchProducer::default())
            [..BATCH_HEADER_BYTES],
    );
    batch.extend_from_slice(body);
    let length = i32::try_from(batch.len() - 12).unwrap();
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[21..23].copy_from_slice(&codec.to_be_bytes());
    batch[57..61].copy_from_slice(&count.to_be_bytes());
    let crc = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.freeze()
}

fn any_field(bytes_max: usize) -> impl Strategy<Value = Option<Bytes>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..bytes_max).prop_map(Bytes::from))
}

fn any_records() -> impl Strategy<Value = Vec<Record>> {
    let headers = proptest::collection::vec(("[a-z.]{0,8}", any_field(20)), 0..4)
        .prop_map(|headers| headers.into_iter().collect::<Vec<_>>());
    let record = (0i64..1 << 42, any_field(40), any_field(300), headers).prop_map(
        |(timestamp_ms, key, value, headers)| Record {
            offset: 0,
            timestamp_ms,
            key,
            value,
            headers,
        },
    );
    proptest::collection::vec(record, 1..40)
}

fn any_codec() -> impl Strategy<Value = Compression> {
    proptest::sample::select(&CODECS[..])
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(records in any_records(), codec in any_codec()) {
        let producer = BatchProducer { producer_id: 7, producer_epoch: 2, base_sequence: 9 };
        let batch = encode_batch(&records, codec, producer);
        let header = BatchHeader::parse(&batch).unwrap();
        prop_assert!(crc_matches(&batch));
        prop_assert_eq!(header.total_bytes(), batch.len());
        prop_assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (7, 2, 9));
        prop_assert_eq!(usize::try_from(header.record_count).unwrap(), records.len());
        prop_assert_eq!(header.last_offset_delta, header.record_count - 1);
        let latest = records.iter().map(|record| record.timestamp_ms).max().unwrap();
        prop_assert_eq!(header.max_timestamp, latest);

        let decoded = decode_batch(&batch, 4 * MIB).unwrap();
        let mut expected = records;
        for (record, offset) in expected.iter_mut().zip(0..) {
            record.offset = offset;
        }
        prop_assert_eq!(decoded, expected);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let bytes = Bytes::from(bytes);
        let _ = decode_batch(&bytes, MIB);
        let _ = split_batches(&bytes);
    }

    #[test]
    fn arbitrary_bodies_never_panic_nor_pass_the_limit(
        codec in 0i16..8,
        count in prop_oneof![any::<i32>(), 0..100i32],
        bytes_max in 0usize..2000,
        body in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        if let Ok(records) = decode_batch(&batch_around(codec, count, &body), bytes_max) {
            let bytes: usize = records.iter().flat_map(|record| [&record.key, &record.value])
                .flatten().map(Bytes::len).sum();
            prop_assert!(bytes <= bytes_max);
        }
    }

    #[test]
    fn damaged_batches_never_panic(
        records in any_records(),
        codec in any_codec(),
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut batch = BytesMut::from(&encode_batch(&records, codec, BatchProducer::default())[..]);
        let at = at.index(batch.len());
        batch[at] = byte;
        let _ = decode_batch(&batch.freeze(), MIB);
    }

    #[test]
    fn cut_batches_are_refused(records in any_records(), codec in any_codec(), at in any::<proptest::sample::Index>()) {
        let batch = encode_batch(&records, codec, BatchProducer::default());
        let cut = batch.slice(..at.index(batch.len()));
        prop_assert!(decode_batch(&cut, MIB).is_err());
        prop_assert_eq!(split_batches(&cut).unwrap(), Vec::<Bytes>::new());
    }

    #[test]
    fn the_limit_is_on_decompressed_bytes(records in any_records(), codec in any_codec()) {
        let plain = encode_batch(&records, Compression::None, BatchProducer::default());
        let body_bytes = plain.len() - BATCH_HEADER_BYTES;
        let batch = encode_batch(&records, codec, BatchProducer::default());
        prop_assert!(decode_batch(&batch, body_bytes).is_ok());
        prop_assert_eq!(
            decode_batch(&batch, body_bytes - 1),
            Err(RecordError::TooLarge { max: body_bytes - 1 })
        );
    }

    #[test]
    fn varlongs_come_back(value in prop_oneof![any::<i64>(), -300..300i64]) {
        let mut out = BytesMut::new();
        put_varlong(&mut out, value);
        prop_assert_eq!(out.len(), varlong_len(value));
        prop_assert_eq!(read_varlong(&out), Some((value, out.len())));
        prop_assert_eq!(read_varlong(&out[..out.len() - 1]), None);
        prop_assert_eq!(read_varint(&out).map(|(value, _)| i64::from(value)),
            i32::try_from(value).ok().map(i64::from));
    }

    #[test]
    fn split_finds_every_whole_batch(
        batches in proptest::collection::vec((any_records(), any_codec()), 1..4),
        cut in any::<proptest::sample::Index>(),
    ) {
        let batches: Vec<Bytes> = batches.iter()
            .map(|(records, codec)| encode_batch(records, *codec, BatchProducer::default()))
            .collect();
        let all = Bytes::from(batches.concat());
        prop_assert_eq!(&split_batches(&all).unwrap(), &batches);
        let cut = cut.index(all.len());
        let whole = split_batches(&all.slice(..cut)).unwrap();
        prop_assert_eq!(&batches[..whole.len()], &whole[..]);
        prop_assert!(whole.len() < batches.len());
    }
}

#[test]
fn large_batches_come_back_in_every_codec() {
    let records: Vec<Record> = (0..2000u32)
        .map(|number| record(format!("{number} ").repeat(200)))
        .collect();
    for codec in CODECS {
        let batch = encode_batch(&records, codec, BatchProducer::default());
        let decoded = decode_batch(&batch, 8 * MIB).unwrap();
        assert_eq!(decoded.len(), records.len(), "{codec:?}");
        assert!(
            decoded
                .iter()
                .zip(&records)
                .all(|(left, right)| left.value == right.value)
        );
    }
}

#[test]
fn a_bomb_is_stopped_at_the_limit_in_every_codec() {
    let records = [record(vec![0u8; 32 * MIB])];
    for codec in CODECS.into_iter().skip(1) {
        let batch = encode_batch(&records, codec, BatchProducer::default());
        assert!(
            batch.len() < 4 * MIB,
            "{codec:?} made {} bytes",
            batch.len()
        );
        assert_eq!(
            decode_batch(&batch, MIB),
            Err(RecordError::TooLarge { max: MIB }),
            "{codec:?}"
        );
    }
}

#[test]
fn raw_snappy_is_read_too() {
    let plain = encode_batch(
        &[record("a value"), record("another")],
        Compression::None,
        BatchProducer::default(),
    );
    let body = snap::raw::Encoder::new()
        .compress_vec(&plain[BATCH_HEADER_BYTES..])
        .unwrap();
    let decoded = decode_batch(&batch_around(2, 2, &body), MIB).unwrap();
    assert_eq!(decoded[1].value, Some(Bytes::from("another")));
}

#[test]
fn a_snappy_block_that_claims_too_much_takes_no_memory() {
    // Claims 64 MiB in 8 bytes.
    let body = [0x80, 0x80, 0x80, 0x20, 0, 0, 0, 0];
    assert_eq!(
        decode_batch(&batch_around(2, 1, &body), 128 * MIB),
        Err(RecordError::Malformed(
            "a snappy block claims more than it can hold"
        ))
    );
}

#[test]
fn concatenated_gzip_members_are_read_like_java_does() {
    let plain = encode_batch(
        &[record("a value")],
        Compression::None,
        BatchProducer::default(),
    );
    let (left, right) = plain[BATCH_HEADER_BYTES..].split_at(3);
    let body = [left, right]
        .map(|part| compression::compress(Compression::Gzip, part))
        .concat();
    let decoded = decode_batch(&batch_around(1, 1, &body), MIB).unwrap();
    assert_eq!(decoded[0].value, Some(Bytes::from("a value")));
}

#[test]
fn a_zstd_frame_with_a_window_over_the_limit_is_refused() {
    // Magic, then a frame header descriptor with no single segment and a window of 2^30 bytes.
    let body = [
        0x28,
        0xb5,
        0x2f,
        0xfd,
        0x00,
        (30 - 10) << 3,
        0x01,
        0x00,
        0x00,
    ];
    assert!(matches!(
        decode_batch(&batch_around(4, 0, &body), MIB),
        Err(RecordError::Decompress(_))
    ));
}

#[test]
fn log_append_time_stands_for_every_record() {
    let mut batch = BytesMut::from(
        &encode_batch(
            &[record("a"), record("b")],
            Compression::None,
            BatchProducer::default(),
        )[..],
    );
    batch[22] |= 0b1000;
    batch[35..43].copy_from_slice(&42i64.to_be_bytes());
    let decoded = decode_batch(&batch.freeze(), MIB).unwrap();
    assert!(decoded.iter().all(|record| record.timestamp_ms == 42));
}

#[test]
fn offsets_count_from_the_base_offset() {
    let mut batch = BytesMut::from(
        &encode_batch(
            &[record("a"), record("b")],
            Compression::None,
            BatchProducer::default(),
        )[..],
    );
    batch[..8].copy_from_slice(&1000i64.to_be_bytes());
    let decoded = decode_batch(&batch.freeze(), MIB).unwrap();
    assert_eq!(
        decoded
            .iter()
            .map(|record| record.offset)
            .collect::<Vec<_>>(),
        [1000, 1001]
    );
}

#[test]
fn a_batch_emptied_by_compaction_has_no_records() {
    assert_eq!(decode_batch(&batch_around(0, 0, &[]), MIB), Ok(Vec::new()));
}

#[test]
fn a_flipped_bit_is_found_by_split() {
    let mut batch = BytesMut::from(
        &encode_batch(&[record("a")], Compression::None, BatchProducer::default())[..],
    );
    let last = batch.len() - 1;
    batch[last] ^= 1;
    assert_eq!(
        split_batches(&batch.freeze()),
        Err(RecordError::Malformed("CRC mismatch"))
    );
}

#[test]
fn a_record_is_laid_out_as_kafka_defines() {
    let plain = Record {
        key: Some(Bytes::from("k")),
        value: Some(Bytes::from("v")),
        headers: vec![("h".to_owned(), Some(Bytes::from("1")))],
        ..record("")
    };
    let batch = encode_batch(&[plain], Compression::None, BatchProducer::default());
    let body = [24, 0, 0, 0, 2, b'k', 2, b'v', 2, 2, b'h', 2, b'1'];
    assert_eq!(&batch[BATCH_HEADER_BYTES..], &body);
}
