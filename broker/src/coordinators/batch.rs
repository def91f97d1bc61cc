//! The records of one call as a batch of the log, and back.

use bytes::Bytes;
use coordinator::Record;
use storage::Offset;
use storage::batch::BatchHeader;

use crate::record::{
    BatchProducer, Compression, Record as LogRecord, encode_batch, read_batch, split_batches,
};

/// Most bytes of a batch's records when unpacked: what an entry of a shard can hold.
const UNPACKED_BYTES_MAX: usize = 128 << 20;
/// Set in the attributes of batches that hold marks of transactions instead of records.
const CONTROL: i16 = 0b10_0000;

/// A batch that cannot be read: its bytes are not what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a damaged batch: {0}")]
pub(super) struct Damaged(String);

/// The batch of these records; there is at least one.
pub(super) fn batch_of<R: Record>(records: &[R], now_ms: i64) -> Bytes {
    let encode = |record: &R| {
        let encoded = record.encode();
        LogRecord {
            timestamp_ms: now_ms,
            key: Some(encoded.key),
            value: encoded.value,
            ..LogRecord::default()
        }
    };
    let records: Vec<LogRecord> = records.iter().map(encode).collect();
    encode_batch(&records, Compression::None, BatchProducer::default())
}

/// Records read from the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found<R> {
    pub(super) records: Vec<R>,
    /// Offset after the last batch.
    pub(super) next: Offset,
    /// Records that say nothing here: of kinds that are not known, or that nobody here wrote.
    pub(super) passed_over: usize,
}

/// The records of whole batches, from an offset on.
///
/// # Errors
/// When bytes are damaged. They are to be read again, not to be passed over.
pub(super) fn records_of<R: Record>(pieces: &[Bytes], from: Offset) -> Result<Found<R>, Damaged> {
    let mut found = Found {
        records: Vec::new(),
        next: from,
        passed_over: 0,
    };
    for piece in pieces {
        let batches = split_batches(piece).map_err(|error| Damaged(error.to_string()))?;
        if batches.iter().map(Bytes::len).sum::<usize>() != piece.len() {
            return Err(Damaged("it ends within a batch".to_owned()));
        }
        for batch in &batches {
            let header = BatchHeader::parse(batch).map_err(|error| Damaged(error.to_string()))?;
            add_records(batch, &header, from, &mut found);
            found.next = Offset(header.base_offset).plus(header.offset_count());
        }
    }
    Ok(found)
}

/// Adds what a batch says whose checksum is right. What cannot be read in it was written so, and
/// reads the same on every replica.
fn add_records<R: Record>(batch: &Bytes, header: &BatchHeader, from: Offset, found: &mut Found<R>) {
    if header.attributes & CONTROL != 0 {
        return;
    }
    let records = match read_batch(batch, UNPACKED_BYTES_MAX) {
        Ok(records) => records,
        Err(error) => {
            tracing::warn!(offset = %header.base_offset, %error, "passed over a batch");
            found.passed_over += 1;
            return;
        }
    };
    for record in records {
        let Ok(record) = record else {
            tracing::warn!(offset = %header.base_offset, "passed over the rest of a batch");
            found.passed_over += 1;
            return;
        };
        if record.offset < from.0 {
            continue;
        }
        let key = record.key.unwrap_or_default();
        match R::decode(&key, record.value.as_deref()) {
            Ok(record) => found.records.push(record),
            Err(error) => {
                tracing::debug!(offset = record.offset, %error, "passed over a record");
                found.passed_over += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use coordinator::Encoded;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Number(u8);

    impl Record for Number {
        type Error = std::num::TryFromIntError;

        fn encode(&self) -> Encoded {
            Encoded {
                key: vec![self.0].into(),
                value: None,
            }
        }

        fn decode(key: &[u8], _value: Option<&[u8]>) -> Result<Number, Self::Error> {
            // More than one byte is of a kind that is not known.
            u8::try_from(key.len() - 1 + usize::from(key[0])).map(Number)
        }
    }

    #[test]
    fn what_was_written_is_read_from_any_record_on() {
        let batch = batch_of(&[Number(1), Number(2), Number(3)], 7);
        let found = records_of(std::slice::from_ref(&batch), Offset(1)).expect("it is whole");
        let rest = vec![Number(2), Number(3)];
        assert_eq!((found.records, found.next), (rest, Offset(3)));
    }

    #[test]
    fn unknown_kinds_and_marks_of_transactions_are_passed_over() {
        let records = [&[255_u8, 0][..], &[4]].map(|key| LogRecord {
            key: Some(Bytes::copy_from_slice(key)),
            ..LogRecord::default()
        });
        for compression in [Compression::None, Compression::Lz4] {
            let batch = encode_batch(&records, compression, BatchProducer::default());
            let found: Found<Number> = records_of(&[batch], Offset(0)).expect("it is whole");
            assert_eq!((found.records, found.passed_over), (vec![Number(4)], 1));
            assert_eq!(found.next, Offset(2));
        }
        let header = BatchHeader {
            attributes: CONTROL,
            ..BatchHeader::parse(&batch_of(&[Number(1)], 0)).expect("a batch")
        };
        let mut found = Found {
            records: Vec::<Number>::new(),
            next: Offset(0),
            passed_over: 0,
        };
        add_records(&batch_of(&[Number(1)], 0), &header, Offset(0), &mut found);
        assert_eq!(found.records, []);
    }

    #[test]
    fn damage_is_told_and_not_passed_over() {
        let batch = batch_of(&[Number(1), Number(2)], 7);
        let mut flipped = batch.to_vec();
        *flipped.last_mut().expect("bytes") ^= 1;
        assert!(records_of::<Number>(&[flipped.into()], Offset(0)).is_err());
        let cut = batch.slice(..batch.len() - 1);
        assert!(records_of::<Number>(&[cut], Offset(0)).is_err());
    }
}
