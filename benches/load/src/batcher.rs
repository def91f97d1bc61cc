//! Records of one generator, gathered into batches by partition.

use std::collections::VecDeque;

use broker::record::{BatchProducer, Compression, Record, encode_batch};
use bytes::{Bytes, BytesMut};
use storage::batch::BATCH_HEADER_BYTES;

use crate::settings::ProduceLoad;
use crate::stamp::{Filler, STAMP_BYTES, Stamp, mixed};

/// Most bytes that a record takes besides its key and value: lengths, deltas, no headers.
const RECORD_OVERHEAD_BYTES: usize = 24;
const KEY_BYTES: usize = 8;

/// A batch that is ready to go.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Position in the list of partitions.
    pub(crate) partition: usize,
    pub(crate) first_sequence: u64,
    /// When each record was due, in microseconds.
    pub(crate) due_us: Vec<i64>,
    pub(crate) bytes: Bytes,
}

/// Batches being filled, and those that wait.
#[derive(Debug)]
pub(crate) struct Batcher {
    generator: u64,
    value_bytes: usize,
    keys: u64,
    records_max: usize,
    linger_us: i64,
    codec: Compression,
    filler: Filler,
    partitions: Vec<Partition>,
    // Records taken in all; and where the next one without a key goes.
    taken: u64,
    sticky: usize,
    buffered_bytes: usize,
}

#[derive(Debug)]
struct Partition {
    number: i32,
    next_sequence: u64,
    open: Filling,
    full: VecDeque<Filling>,
}

#[derive(Debug, Default)]
struct Filling {
    first_sequence: u64,
    began_us: i64,
    values: BytesMut,
    keys: Vec<u64>,
    due_us: Vec<i64>,
}

impl Batcher {
    /// For these partitions, which lie in the order of their numbers.
    pub(crate) fn new(
        load: &ProduceLoad,
        generator: u64,
        first: usize,
        partitions: &[i32],
    ) -> Batcher {
        let key_bytes = if load.keys > 0 { KEY_BYTES } else { 0 };
        let record_bytes = load.value_bytes + key_bytes + RECORD_OVERHEAD_BYTES;
        let records_max = load.batch_bytes.saturating_sub(BATCH_HEADER_BYTES) / record_bytes;
        Batcher {
            generator,
            value_bytes: load.value_bytes.max(STAMP_BYTES),
            keys: load.keys,
            records_max: records_max.max(1),
            linger_us: load.linger_us,
            codec: load.codec,
            filler: Filler::new(generator),
            partitions: partitions
                .iter()
                .map(|number| Partition {
                    number: *number,
                    next_sequence: 0,
                    open: Filling::default(),
                    full: VecDeque::new(),
                })
                .collect(),
            taken: 0,
            sticky: first % partitions.len().max(1),
            buffered_bytes: 0,
        }
    }

    /// Bytes of one record's key and value.
    pub(crate) fn payload_bytes(&self) -> usize {
        self.value_bytes + if self.keys > 0 { KEY_BYTES } else { 0 }
    }

    /// Bytes of keys and values that wait.
    pub(crate) fn buffered_bytes(&self) -> usize {
        self.buffered_bytes
    }

    /// Which partition the next record goes to.
    pub(crate) fn next_partition(&self) -> usize {
        match self.next_key() {
            Some(key) => {
                let hash = mixed(key) % self.partitions.len() as u64;
                usize::try_from(hash).expect("it was a usize")
            }
            None => self.sticky,
        }
    }

    fn next_key(&self) -> Option<u64> {
        (self.keys > 0).then(|| mixed(self.generator ^ self.taken) % self.keys)
    }

    /// Takes a record that is due; whether that has filled a batch.
    pub(crate) fn push(&mut self, due_us: i64, now_us: i64) -> bool {
        let at = self.next_partition();
        let key = self.next_key();
        let payload_bytes = self.payload_bytes();
        let partition = &mut self.partitions[at];
        let open = &mut partition.open;
        if open.due_us.is_empty() {
            open.first_sequence = partition.next_sequence;
            open.began_us = now_us;
            open.values
                .reserve(self.value_bytes * self.records_max.min(4_096));
        }
        let begin = open.values.len();
        open.values.resize(begin + STAMP_BYTES, 0);
        let filler_bytes = self.value_bytes - STAMP_BYTES;
        self.filler.put(self.taken, filler_bytes, &mut open.values);
        let stamp = Stamp {
            generator: self.generator,
            sequence: partition.next_sequence,
            due_us,
            partition: partition.number,
        };
        stamp.write(&mut open.values[begin..]);
        open.keys.extend(key);
        open.due_us.push(due_us);
        partition.next_sequence += 1;
        self.taken += 1;
        self.buffered_bytes += payload_bytes;
        let full = open.due_us.len() >= self.records_max;
        if full {
            partition
                .full
                .push_back(std::mem::take(&mut partition.open));
            self.move_on();
        }
        full
    }

    /// Records without keys go to the next partition.
    fn move_on(&mut self) {
        self.sticky = (self.sticky + 1) % self.partitions.len();
    }

    /// Takes the oldest batch of a partition that may go: it is full, has waited long enough, or
    /// nothing more comes (`flush`).
    pub(crate) fn take(
        &mut self,
        at: usize,
        now_us: i64,
        wall_ms: i64,
        flush: bool,
    ) -> Option<Batch> {
        let partition = &mut self.partitions[at];
        let filling = match partition.full.pop_front() {
            Some(full) => full,
            None => {
                let open = &mut partition.open;
                let is_old = now_us >= open.began_us.saturating_add(self.linger_us);
                if open.due_us.is_empty() || !(flush || is_old) {
                    return None;
                }
                let open = std::mem::take(open);
                if at == self.sticky {
                    self.move_on();
                }
                open
            }
        };
        self.buffered_bytes -= filling.due_us.len() * self.payload_bytes();
        Some(self.encode(at, filling, wall_ms))
    }

    fn encode(&self, at: usize, filling: Filling, wall_ms: i64) -> Batch {
        let values = filling.values.freeze();
        let mut keys = filling.keys.into_iter();
        let records: Vec<Record> = (0..filling.due_us.len())
            .map(|number| Record {
                timestamp_ms: wall_ms,
                key: keys
                    .next()
                    .map(|key| Bytes::copy_from_slice(&key.to_be_bytes())),
                value: Some(
                    values.slice(number * self.value_bytes..(number + 1) * self.value_bytes),
                ),
                ..Record::default()
            })
            .collect();
        Batch {
            partition: at,
            first_sequence: filling.first_sequence,
            due_us: filling.due_us,
            bytes: encode_batch(&records, self.codec, BatchProducer::default()),
        }
    }

    /// When the next batch of these partitions that is not full will have waited long enough.
    pub(crate) fn next_ready_us(&self, partitions: &[usize]) -> Option<i64> {
        let open = partitions.iter().map(|at| &self.partitions[*at].open);
        open.filter(|open| !open.due_us.is_empty())
            .map(|open| open.began_us.saturating_add(self.linger_us))
            .min()
    }
}

#[cfg(test)]
mod tests {
    use broker::record::decode_batch;
    use kafka_client::api::Acks;

    use super::*;
    use crate::settings::Until;

    fn load(keys: u64) -> ProduceLoad {
        ProduceLoad {
            rate: None,
            until: Until::Records(1),
            warm_up_us: 0,
            value_bytes: 100,
            keys,
            linger_us: 1_000,
            batch_bytes: 1_000,
            in_flight: 1,
            acks: Acks::All,
            codec: Compression::None,
            clients: 1,
            broker_pid: None,
        }
    }

    #[test]
    fn a_full_batch_goes_at_once_and_another_when_it_has_waited() {
        let mut batcher = Batcher::new(&load(0), 1, 1, &[0, 1]);
        // Seven records of 124 bytes and a header fit into 1000.
        for number in 0..7 {
            assert_eq!(batcher.next_partition(), 1);
            assert_eq!(batcher.push(number, 50), number == 6);
        }
        assert_eq!(batcher.next_partition(), 0);
        batcher.push(7, 60);
        assert_eq!(batcher.buffered_bytes(), 800);
        let full = batcher.take(1, 60, 5, false).expect("it is full");
        assert!(full.bytes.len() <= 1_000);
        assert_eq!(full.due_us, [0, 1, 2, 3, 4, 5, 6]);
        assert!(batcher.take(0, 60, 5, false).is_none());
        assert_eq!(batcher.next_ready_us(&[0, 1]), Some(1_060));
        let waited = batcher.take(0, 1_060, 5, false).expect("it has waited");
        assert_eq!((waited.partition, waited.first_sequence), (0, 0));
        assert_eq!(batcher.buffered_bytes(), 0);
        // The rest of a run does not wait.
        batcher.push(8, 2_000);
        let flushed = batcher.take(1, 2_000, 5, true).expect("all goes");
        assert_eq!(flushed.first_sequence, 7);
    }

    #[test]
    fn a_key_stays_in_its_partition_and_values_are_stamped() {
        let mut batcher = Batcher::new(&load(5), 1, 0, &[4, 6, 9]);
        let mut partition_of = std::collections::HashMap::new();
        for number in 0..200 {
            batcher.push(number, 0);
        }
        let mut records = 0;
        for at in 0..3 {
            let mut sequence = 0;
            while let Some(batch) = batcher.take(at, 0, 77, true) {
                for record in decode_batch(&batch.bytes, 1 << 20).unwrap() {
                    let stamp = Stamp::read(&record.value.unwrap()).expect("a stamp");
                    assert_eq!(stamp.partition, [4, 6, 9][at]);
                    assert_eq!((stamp.sequence, record.timestamp_ms), (sequence, 77));
                    let key = record.key.expect("a key");
                    assert_eq!(*partition_of.entry(key).or_insert(at), at);
                    sequence += 1;
                    records += 1;
                }
            }
        }
        assert_eq!((records, partition_of.len()), (200, 5));
    }
}
