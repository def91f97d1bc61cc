//! What it costs to look at a batch: its checksum alone, and all its records.

use broker::record::{BatchProducer, Compression, Record, decode_batch, encode_batch};
use bytes::Bytes;
use storage::batch::crc_matches;

use crate::{Line, rate};

/// A batch of 100 records of 1 KiB that compress about as JSON does.
pub(crate) fn batch(compression: Compression) -> Bytes {
    let record = |n: u32| {
        let text = (0..).map(|i: u32| format!("{{\"id\":{},\"n\":{n}}},", i.wrapping_mul(7919)));
        let value: String = text.take(48).collect();
        Record {
            value: Some(Bytes::from(value)),
            ..Record::default()
        }
    };
    let records: Vec<Record> = (0..100).map(record).collect();
    encode_batch(&records, compression, BatchProducer::default())
}

pub(crate) fn run(seconds: i64) -> Vec<Line> {
    let plain = batch(Compression::None);
    let mut lines = vec![Line {
        what: "CRC-32C of a batch".to_owned(),
        per_second: rate(seconds, || assert!(crc_matches(&plain))),
        bytes_each: plain.len(),
    }];
    for compression in [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let batch = batch(compression);
        let decode = || assert_eq!(decode_batch(&batch, 1 << 20).map_or(0, |r| r.len()), 100);
        lines.push(Line {
            what: format!("decode a batch of 100 records, {compression:?}"),
            per_second: rate(seconds, decode),
            bytes_each: batch.len(),
        });
    }
    lines
}
